//! Asks the servers one after the other.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{self, Answer, Srv};
use super::resolv_conf::ResolvConf;

const NO_SUCH_NAME: u8 = 3;
/// What fits into one without extensions.
const MAX_DATAGRAM: usize = 512;

/// Why there are no records. The texts are those of Go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// Nothing is called so, or has records of this kind.
    #[error("lookup {name} on {server}: no such host")]
    NoSuchHost { name: String, server: SocketAddr },
    /// Nothing can be called so.
    #[error("lookup {0}: no such host")]
    NoName(String),
    /// The server cannot or will not say.
    #[error("lookup {name} on {server}: server misbehaving")]
    Misbehaving { name: String, server: SocketAddr },
    /// The server does not answer.
    #[error("lookup {name} on {server}: {reason}")]
    Unreachable {
        name: String,
        server: SocketAddr,
        reason: String,
    },
    /// A record leads to what is no host.
    #[error("lookup {0}: DNS response contained records which contain invalid names")]
    InvalidTarget(String),
}

/// A resolver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dns {
    conf: ResolvConf,
}

impl Dns {
    /// As the machine is set up at this moment.
    pub(crate) fn system() -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self {
            conf: ResolvConf::parse(&text),
        }
    }

    /// The records of `_<service>._tcp.<domain>`, at least one, the most wanted first.
    ///
    /// Blocks until the servers have answered, or had their time to.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub(crate) fn srv(&self, service: &str, domain: &str) -> Result<Vec<Srv>, LookupError> {
        let name = format!("_{service}._tcp.{domain}");
        let mut failure = None;
        for absolute in self.conf.names(&name) {
            match self.ask(&name, &absolute) {
                Ok(mut records) => {
                    if records.iter().any(|record| record.target.is_none()) {
                        return Err(LookupError::InvalidTarget(name));
                    }
                    // Equal ones would be taken by chance; who founds a cluster wants all of them.
                    records.sort_by(|a, b| {
                        let rank = |r: &Srv| (r.priority, u16::MAX - r.weight);
                        rank(a)
                            .cmp(&rank(b))
                            .then_with(|| (&a.target, a.port).cmp(&(&b.target, b.port)))
                    });
                    return Ok(records);
                }
                // That a server is down says more than that another name does not exist.
                Err(error) => match &failure {
                    Some(LookupError::NoSuchHost { .. }) | None => failure = Some(error),
                    Some(_) => {}
                },
            }
        }
        Err(failure.unwrap_or(LookupError::NoName(name)))
    }

    /// The records of one absolute name; errors are about the name as it was given.
    fn ask(&self, given: &str, name: &str) -> Result<Vec<Srv>, LookupError> {
        let given = || given.to_owned();
        let mut failure = LookupError::NoName(given());
        for _ in 0..self.conf.attempts {
            for &server in &self.conf.servers {
                let id = RandomState::new().build_hasher().finish() as u16;
                let Some(question) = message::question(id, name) else {
                    return Err(LookupError::NoName(given()));
                };
                let answer = match self.exchange(server, &question, id, name) {
                    Ok(answer) => answer,
                    Err(reason) => {
                        failure = LookupError::Unreachable {
                            name: given(),
                            server,
                            reason,
                        };
                        continue;
                    }
                };
                match answer.code {
                    0 if !answer.records.is_empty() => return Ok(answer.records),
                    0 if !answer.lame => {
                        return Err(LookupError::NoSuchHost {
                            name: given(),
                            server,
                        });
                    }
                    NO_SUCH_NAME => {
                        return Err(LookupError::NoSuchHost {
                            name: given(),
                            server,
                        });
                    }
                    _ => {
                        failure = LookupError::Misbehaving {
                            name: given(),
                            server,
                        }
                    }
                }
            }
        }
        Err(failure)
    }

    fn exchange(
        &self,
        server: SocketAddr,
        question: &[u8],
        id: u16,
        name: &str,
    ) -> Result<Answer, String> {
        if !self.conf.tcp {
            let answer = self.over_udp(server, question, id, name)?;
            if !answer.truncated {
                return Ok(answer);
            }
        }
        let bytes = over_tcp(server, question, self.conf.timeout)
            .map_err(|error| format!("read tcp {server}: {}", reason(&error)))?;
        message::answer(&bytes, id, name).ok_or_else(|| "cannot unmarshal DNS message".to_owned())
    }

    fn over_udp(
        &self,
        server: SocketAddr,
        question: &[u8],
        id: u16,
        name: &str,
    ) -> Result<Answer, String> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
        };
        let socket = UdpSocket::bind(any)
            .and_then(|socket| socket.connect(server).map(|()| socket))
            .map_err(|error| format!("dial udp {server}: {}", reason(&error)))?;
        let failed = |error: &io::Error| {
            let own = socket
                .local_addr()
                .map_or_else(|_| String::new(), |own| own.to_string());
            format!("read udp {own}->{server}: {}", reason(error))
        };
        socket.send(question).map_err(|error| failed(&error))?;
        let deadline = Instant::now() + self.conf.timeout;
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed(&io::ErrorKind::TimedOut.into()));
            }
            let received = socket
                .set_read_timeout(Some(left))
                .and_then(|()| socket.recv(&mut buffer));
            let length = received.map_err(|error| failed(&error))?;
            // Others may send something here, too.
            if let Some(answer) = message::answer(&buffer[..length], id, name) {
                return Ok(answer);
            }
        }
    }
}

fn over_tcp(server: SocketAddr, question: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    let deadline = Instant::now() + timeout;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    fill(&mut stream, &mut length, deadline)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    fill(&mut stream, &mut bytes, deadline)?;
    Ok(bytes)
}

/// Reads to the end of `bytes`, however slowly they come, until `deadline`.
fn fill(stream: &mut TcpStream, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes = &mut bytes[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        // What a socket says whose time is over depends on the system.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => crate::log::reason(error),
    }
}

#[cfg(test)]
mod tests;
