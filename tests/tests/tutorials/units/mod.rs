//! What stands in for systemd on a machine: starts services, waits until they say that they are ready, starts them again
//! when they fail, keeps what they write.

mod file;
mod service;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use retcd_tests::net::Host;
use retcd_tests::process::Process;

use file::UnitFile;
use service::{Service, State};

/// How often a service is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long one may take to start or stop. Longer than systemd's: the machine may be slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where unit files are, first the administrator's.
const FOLDERS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const SOCKET: &str = "/run/tutorial/notify";

/// The services of a machine. They end with it.
pub(crate) struct Units {
    host: Arc<Host>,
    services: Mutex<BTreeMap<String, Service>>,
    ended: AtomicBool,
    /// They hold the machine until they are waited for.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a command prints, and its exit code.
type Answer = (i32, String);

impl Units {
    /// Serves `systemctl` and `journalctl` of a machine.
    pub(crate) fn serve(host: &Arc<Host>) -> Arc<Self> {
        let units = Arc::new(Self {
            host: Arc::clone(host),
            services: Mutex::default(),
            ended: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        host.does("mkdir -p -m 755 /run/tutorial && mkfifo /run/tutorial/ask");
        let asked = open(host.path("/run/tutorial/ask"));
        let asking = Arc::clone(&units);
        let asking = thread::spawn(move || asking.answer_all(asked));
        let watching = Arc::clone(&units);
        let watching = thread::spawn(move || {
            while !watching.ended.load(Ordering::Relaxed) {
                watching.start_failed_ones_again();
                thread::sleep(LOOK);
            }
        });
        units.threads().extend([asking, watching]);
        units
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer_all(self: Arc<Self>, asked: File) {
        for line in BufReader::new(asked).lines().map_while(Result::ok) {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let units = Arc::downgrade(&self);
            thread::spawn(move || {
                let Some(units) = units.upgrade() else { return };
                let mut words = line.split_whitespace();
                let place = units.host.path(&format!("/run/tutorial/answer.{}", words.next().unwrap_or_default()));
                let (code, text) = units.answer(&words.collect::<Vec<_>>());
                // Nobody may ever read it, and the machine does not wait for that.
                drop(units);
                // Whoever asked may have ended.
                if let Ok(mut to) = OpenOptions::new().write(true).open(place) {
                    let _ = write!(to, "{code}\n{text}");
                }
            });
        }
    }

    fn answer(&self, words: &[&str]) -> Answer {
        let options: Vec<_> = words.iter().filter(|word| word.starts_with('-')).collect();
        let plain: Vec<_> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
        match *plain {
            ["journalctl"] => (0, self.lock().values().map(Service::journal).collect()),
            ["journalctl", unit] if options.iter().any(|o| o.starts_with("-u") || o.starts_with("--unit")) => {
                (0, self.lock().get(&full(unit)).map(Service::journal).unwrap_or_default())
            }
            ["systemctl", "daemon-reload"] => self.reload(),
            ["systemctl", verb, unit] => {
                let unit = full(unit);
                if let Err(why) = self.load(&unit, verb) {
                    return why;
                }
                match verb {
                    "start" => self.start(&unit),
                    "stop" => self.stop(&unit),
                    "restart" => {
                        self.stop(&unit);
                        self.start(&unit)
                    }
                    "enable" => (0, format!("Created symlink /etc/systemd/system/multi-user.target.wants/{unit}.\n")),
                    "disable" => (0, String::new()),
                    "status" => self.status(&unit),
                    "is-active" => self.is_active(&unit),
                    _ => (1, format!("Unknown command verb {verb}.\n")),
                }
            }
            _ => (1, format!("Too few or too many arguments: {words:?}\n")),
        }
    }

    fn read(&self, unit: &str) -> Option<Result<UnitFile, String>> {
        let text =
            FOLDERS.iter().find_map(|dir| std::fs::read_to_string(self.host.path(&format!("{dir}/{unit}"))).ok());
        text.map(|text| UnitFile::parse(&text))
    }

    /// Reads the unit file, unless that was done before: a file that changes counts only after `daemon-reload`.
    fn load(&self, unit: &str, verb: &str) -> Result<(), Answer> {
        let mut services = self.lock();
        if services.contains_key(unit) {
            return Ok(());
        }
        match self.read(unit) {
            None if verb == "is-active" => Err((3, "inactive\n".into())),
            None => Err((5, format!("Failed to {verb} {unit}: Unit {unit} not found.\n"))),
            Some(Err(why)) => {
                Err((1, format!("Failed to {verb} {unit}: Unit {unit} has a bad unit file setting: {why}\n")))
            }
            Some(Ok(file)) => {
                services.insert(unit.to_owned(), Service::new(file));
                Ok(())
            }
        }
    }

    fn reload(&self) -> Answer {
        let mut services = self.lock();
        for (unit, service) in services.iter_mut() {
            match self.read(unit) {
                Some(Ok(file)) => service.file = file,
                Some(Err(why)) => return (1, format!("{unit}: {why}\n")),
                None => {}
            }
        }
        (0, String::new())
    }

    fn start(&self, unit: &str) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        let (mut first, mut begun) = (true, false);
        loop {
            let mut services = self.lock();
            let service = services.get_mut(unit).expect("it was loaded");
            // One that is starting, perhaps again after it failed, is waited for. It may know less than whoever asks now:
            // if it fails, one more begins.
            let idle = !service.running();
            if idle && (first || !begun && service.state == State::Failed) {
                begun = true;
                service.begin();
                if let Err(why) = self.spawn(service) {
                    service.state = State::Failed;
                    service.note(&why);
                    return failed(unit, "the control process exited with error code");
                }
            }
            first = false;
            match service.look() {
                State::Active => return (0, String::new()),
                State::Starting if Instant::now() > deadline => {
                    service.stop();
                    service.state = State::Failed;
                    service.note("start operation timed out. Terminating.");
                    return failed(unit, "a timeout was exceeded");
                }
                State::Starting => {}
                State::Stopped => return (1, format!("Job for {unit} canceled.\n")),
                // It ended well before it was ready: systemd calls that started and dead.
                State::Dead => return (0, String::new()),
                State::Failed if begun => return failed(unit, "the control process exited with error code"),
                State::Failed => {}
            }
            drop(services);
            thread::sleep(LOOK);
        }
    }

    fn stop(&self, unit: &str) -> Answer {
        if let Some(service) = self.lock().get_mut(unit) {
            service.terminate();
        }
        let deadline = Instant::now() + PATIENCE;
        while self.lock().get_mut(unit).is_some_and(Service::running) {
            if Instant::now() > deadline {
                self.lock().get_mut(unit).expect("it was loaded").stop();
            }
            thread::sleep(LOOK);
        }
        (0, String::new())
    }

    fn status(&self, unit: &str) -> Answer {
        let mut services = self.lock();
        let service = services.get_mut(unit).expect("it was loaded");
        let state = service.look();
        let (code, words) = match state {
            State::Active => (0, "active (running)"),
            State::Starting => (3, "activating (start)"),
            State::Failed => (3, "failed (Result: exit-code)"),
            State::Stopped | State::Dead => (3, "inactive (dead)"),
        };
        let journal = service.journal();
        let lines: Vec<_> = journal.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        (code, format!("● {unit} - {}\n   Active: {words}\n\n{last}\n", service.file.description))
    }

    fn is_active(&self, unit: &str) -> Answer {
        match self.lock().get_mut(unit).expect("it was loaded").look() {
            State::Active => (0, "active\n".into()),
            State::Starting => (3, "activating\n".into()),
            State::Failed => (3, "failed\n".into()),
            State::Stopped | State::Dead => (3, "inactive\n".into()),
        }
    }

    fn start_failed_ones_again(&self) {
        for service in self.lock().values_mut() {
            service.look();
            if service.may_start_again()
                && let Err(why) = self.spawn(service)
            {
                service.note(&why);
            }
        }
    }

    fn spawn(&self, service: &mut Service) -> Result<(), String> {
        let file = &service.file;
        let mut environment = vec![("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin".to_owned())];
        environment.extend(file.environment.clone());
        for (path, optional) in &file.environment_files {
            match std::fs::read_to_string(self.host.path(path)) {
                Ok(text) => environment.extend(file::variables(&text)),
                Err(_) if *optional => {}
                Err(e) => return Err(format!("Failed to load environment files: {path}: {e}")),
            }
        }
        let socket = file.notifies.then(|| self.socket()).transpose()?;
        if socket.is_some() {
            environment.push(("NOTIFY_SOCKET".into(), SOCKET.into()));
        }
        let mut command = self.host.command("env");
        // All of it is one process in the end: each takes the other's place.
        command.arg("-C").arg(file.folder.as_deref().unwrap_or("/"));
        if let Some(user) = &file.user {
            command.args(["setpriv", "--reuid", user, "--regid", user, "--init-groups"]);
        }
        command.args(["env", "-i"]).args(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(file.command(&environment)?);
        service.started(Process::start(command), socket);
        Ok(())
    }

    fn socket(&self) -> Result<UnixDatagram, String> {
        let path = self.host.path(SOCKET);
        let make = || {
            let _ = std::fs::remove_file(&path);
            let socket = UnixDatagram::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            socket.set_nonblocking(true)?;
            std::io::Result::Ok(socket)
        };
        make().map_err(|e| format!("{}: {e}", path.display()))
    }

    /// What all services wrote since they were last told to start.
    pub(crate) fn log(&self) -> String {
        self.lock().values().map(Service::log).collect()
    }

    /// Ends all services.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.lock().clear();
        // Wakes the thread that waits for questions.
        let ask = OpenOptions::new().read(true).write(true).open(self.host.path("/run/tutorial/ask"));
        if ask.and_then(|mut ask| writeln!(ask, "0")).is_ok() {
            for thread in std::mem::take(&mut *self.threads()) {
                let _ = thread.join();
            }
        }
    }
}

/// For reading and writing, so that it has no end when those who write close it.
fn open(fifo: PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(&fifo).unwrap_or_else(|e| panic!("{}: {e}", fifo.display()))
}

fn full(unit: &str) -> String {
    if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") }
}

fn failed(unit: &str, why: &str) -> Answer {
    let hint = format!("See \"systemctl status {unit}\" and \"journalctl -xe\" for details.");
    (1, format!("Job for {unit} failed because {why}. {hint}\n"))
}
