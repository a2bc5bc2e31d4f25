//! A server under test: started on a directory of its own, killed, started again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::Error;

/// Room for every workload here; the default of 2 GiB is not.
const QUOTA: &str = "8589934592";
/// A server that is not ready by then never will be.
const READY: Duration = Duration::from_secs(120);

/// An `etcd` program.
#[derive(Debug, Clone)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Given to it in addition.
    pub flags: Vec<String>,
}

impl Program {
    /// What it says of itself, e.g. `3.7.1 (go1.26.8)`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn version(&self) -> Result<String, Error> {
        let output = Command::new(&self.path)
            .arg("--version")
            .output()
            .map_err(Error::io(self.path.display().to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        match (field("etcd Version:"), field("Go Version:")) {
            (Some(version), Some(runtime)) => Ok(format!("{version} ({runtime})")),
            _ => Err(Error::Server(format!(
                "{} --version: unknown answer {text:?}",
                self.path.display()
            ))),
        }
    }
}

/// A running server; killed when dropped. Its directory is the caller's to remove.
#[derive(Debug)]
pub struct Server {
    program: Program,
    dir: PathBuf,
    place: Place,
    /// For clients.
    pub endpoint: SocketAddr,
    child: Child,
}

/// Where a server listens, and what it is told of its cluster.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// For clients.
    pub client: SocketAddr,
    /// For peers.
    pub peer: SocketAddr,
    /// Value of `--initial-cluster`.
    pub cluster: String,
    /// The cluster is there already.
    pub joins: bool,
}

impl Place {
    /// Free ports, and nobody else in the cluster.
    ///
    /// # Errors
    /// If there is no port.
    pub fn alone(name: &str) -> Result<Self, Error> {
        let port = || free_port().map_err(Error::io("find a free port"));
        let (client, peer) = (port()?, port()?);
        Ok(Self {
            name: name.to_owned(),
            client,
            peer,
            cluster: format!("{name}=http://{peer}"),
            joins: false,
        })
    }
}

impl Server {
    /// Starts on `dir`, which is created, and waits until it serves. Returns how long that took.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(program: &Program, dir: &Path) -> Result<(Self, Duration), Error> {
        let begin = Instant::now();
        let mut server = Self::spawn(program, dir, Place::alone("bench")?)?;
        server.wait_ready()?;
        Ok((server, begin.elapsed()))
    }

    /// Starts on `dir`, which is created.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn spawn(program: &Program, dir: &Path, place: Place) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io(dir.display().to_string()))?;
        let child = spawn(program, dir, &place)?;
        Ok(Self {
            program: program.clone(),
            dir: dir.to_owned(),
            endpoint: place.client,
            place,
            child,
        })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Length of the database file in bytes.
    ///
    /// # Errors
    /// If it is not there.
    pub fn database_len(&self) -> Result<u64, Error> {
        let path = self.dir.join("data/member/snap/db");
        let file = fs::metadata(&path).map_err(Error::io(path.display().to_string()))?;
        Ok(file.len())
    }

    /// SIGKILL: whatever it had not written is lost.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map_err(Error::io("kill the server"))?;
        Ok(())
    }

    /// Starts again on the same directory and ports. Returns the time until it served.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> Result<Duration, Error> {
        let begin = Instant::now();
        self.start_again()?;
        self.wait_ready()?;
        Ok(begin.elapsed())
    }

    /// Starts again on the same directory and ports, and does not wait.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.child = spawn(&self.program, &self.dir, &self.place)?;
        Ok(())
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// If it ends, or takes too long.
    pub fn wait_ready(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        while !healthy(self.endpoint).unwrap_or(false) {
            let exited = self
                .child
                .try_wait()
                .map_err(Error::io("wait for the server"))?;
            if exited.is_some() || begin.elapsed() > READY {
                let log = fs::read_to_string(log_file(&self.dir)).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                let path = self.program.path.display();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(Error::Server(format!(
                    "{path} is not ready ({exited:?}); its last lines:\n{tail}"
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

fn spawn(program: &Program, dir: &Path, place: &Place) -> Result<Child, Error> {
    let (client, peer) = (place.client, place.peer);
    let path = log_file(dir);
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io(path.display().to_string()))?;
    let errors = log
        .try_clone()
        .map_err(Error::io(path.display().to_string()))?;
    let mut command = Command::new(&program.path);
    for (key, _) in
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("ETCD_"))
    {
        command.env_remove(key);
    }
    command
        .args(["--name", &place.name, "--quota-backend-bytes", QUOTA])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg(format!("--listen-client-urls=http://{client}"))
        .arg(format!("--advertise-client-urls=http://{client}"))
        .arg(format!("--listen-peer-urls=http://{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
        .args(["--initial-cluster", &place.cluster])
        .args(place.joins.then_some("--initial-cluster-state=existing"))
        .args(&program.flags)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(Error::io(program.path.display().to_string()))
}

/// Below the range from which systems take ports for outgoing connections: while a server is down, no connection gets
/// its port.
const FIRST_PORT: u32 = 12_000;
const PORTS: u32 = 20_000;

/// A port that nobody uses at this moment, and that no other call returns in this process.
fn free_port() -> io::Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another process begins elsewhere.
    let offset = std::process::id().wrapping_mul(131);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset) % PORTS;
        let port = u16::try_from(FIRST_PORT + step).map_err(io::Error::other)?;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks `/health`, which reads through the log.
fn healthy(endpoint: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&endpoint, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET /health HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200") && answer.contains("\"health\":\"true\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_passed_by() {
        let free = free_port().expect("a port");
        let next = SocketAddr::new(free.ip(), free.port() + 1);
        // Taken by this test, or by somebody else.
        let taken = TcpListener::bind(next);
        for _ in 0..50 {
            let port = free_port().expect("a port").port();
            assert!(u32::from(port) >= FIRST_PORT && u32::from(port) < FIRST_PORT + PORTS);
            assert!(port != free.port() && port != next.port());
        }
        drop(taken);
    }
}
