//! One Patroni with its PostgreSQL: what runs on one machine of an operator.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use retcd_tests::http1;
use retcd_tests::ports::Port;
use retcd_tests::process::Process;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use crate::programs::{self, Programs};

/// How long the primary's claim lasts without it: `ttl` in seconds.
const TTL: u32 = 30;

/// A machine. What runs there is ended when dropped.
pub(crate) struct Machine {
    pub(crate) name: String,
    programs: Programs,
    dir: PathBuf,
    api: Port,
    database: Port,
    patroni: Option<Process>,
}

impl Machine {
    /// A machine with a configuration, on which nothing runs yet. `mode` names the section about etcd, `hosts` is where
    /// its members are.
    pub(crate) fn prepare(programs: &Programs, parent: &Path, name: &str, mode: &str, hosts: &[String]) -> Self {
        let dir = parent.join(name);
        fs::create_dir(&dir).expect("a new directory");
        chown(&dir, Some(programs.user.0), Some(programs.user.1)).expect("a directory of ours");
        let (api, database) = (Port::take(), Port::take());
        let machine = Self { name: name.into(), programs: programs.clone(), dir, api, database, patroni: None };
        let config = machine.config(mode, hosts);
        // Any JSON is YAML.
        fs::write(machine.config_file(), config.to_string()).expect("written");
        machine
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("patroni.yml")
    }

    fn config(&self, mode: &str, hosts: &[String]) -> Value {
        let api = format!("127.0.0.1:{}", self.api.number());
        let database = format!("127.0.0.1:{}", self.database.number());
        json!({
            "scope": "demo",
            "name": self.name,
            "restapi": {"listen": api, "connect_address": api},
            mode: {"hosts": hosts},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 2,
                    "retry_timeout": 14,
                    "maximum_lag_on_failover": 1 << 20,
                    "postgresql": {"use_pg_rewind": true, "use_slots": true},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}, "data-checksums", "no-sync"],
            },
            "postgresql": {
                "listen": database,
                "connect_address": database,
                "data_dir": self.data_dir(),
                "bin_dir": self.programs.postgresql,
                "pgpass": self.dir.join("pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": "secret"},
                    "replication": {"username": "replicator", "password": "secret"},
                },
                // No machine loses its power here, so nothing has to reach a disk.
                "parameters": {
                    "unix_socket_directories": "",
                    "fsync": "off",
                    "shared_buffers": "16MB",
                    // What is killed leaves no memory behind, only files of its own.
                    "dynamic_shared_memory_type": "mmap",
                },
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            },
        })
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A command at home in this machine's directory.
    fn at_home(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env("HOME", &self.dir).env("LC_ALL", "C.UTF-8");
        command
    }

    /// A brief command as the user of PostgreSQL.
    fn command(&self, program: &Path) -> Command {
        let mut command = self.at_home("timeout");
        command.args(["-k", "5", "60"]).arg(program);
        if geteuid().is_root() {
            command.uid(self.programs.user.0).gid(self.programs.user.1);
        }
        command
    }

    /// Patroni as the user of PostgreSQL. Shared memory that has no file ends with the last process, if root may see to it.
    fn patroni(&self) -> Command {
        if !geteuid().is_root() {
            return self.at_home(&self.programs.patroni);
        }
        let (user, group) = self.programs.user;
        let mut command = self.at_home("unshare");
        command.args(["--ipc", "--setgid", &group.to_string(), "--setuid", &user.to_string(), "--"]);
        command.arg(&self.programs.patroni);
        command
    }

    /// Starts Patroni, which starts the rest.
    pub(crate) fn start(&mut self) {
        assert!(self.patroni.is_none(), "it runs");
        let mut command = self.patroni();
        for (name, _) in std::env::vars_os() {
            if ["PATRONI", "PG"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.arg(self.config_file());
        self.patroni = Some(Process::start(command));
    }

    /// `kill -9` of everything at once: the machine is gone.
    pub(crate) fn die(&mut self) {
        // Whoever is born meanwhile is found in the next round.
        loop {
            let all = self.processes();
            if all.is_empty() {
                break;
            }
            for pid in all {
                let _ = kill_process(pid, Signal::KILL);
            }
            if let Some(patroni) = &mut self.patroni {
                patroni.kill();
            }
        }
        self.patroni = None;
    }

    /// All that are at home in this machine's directory.
    fn processes(&self) -> Vec<Pid> {
        let entries = fs::read_dir("/proc").expect("a process file system");
        let here = |dir: &Path| fs::read_link(dir.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.dir));
        entries
            .filter_map(Result::ok)
            .filter(|entry| here(&entry.path()))
            .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    /// What Patroni's API answers: status and JSON.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = http1::request(self.api.number(), method, path, &[], body.as_bytes());
        let answer = answer.map_err(|error| format!("{}: {error}", self.name))?;
        let text = answer.text();
        Ok((answer.status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Whether it answers well at a path that asks for a role.
    pub(crate) fn is(&self, role: &str) -> bool {
        self.ask("GET", &format!("/{role}"), &Value::Null).is_ok_and(|(status, _)| status == 200)
    }

    /// Runs statements in its database.
    pub(crate) fn sql(&self, statement: &str) -> Result<String, String> {
        let mut command = self.command(&self.programs.postgresql.join("psql"));
        command
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"])
            .args(["--host=127.0.0.1", "--username=postgres", "--dbname=postgres"])
            .arg(format!("--port={}", self.database.number()))
            .args(["--command", statement]);
        let said = programs::stdout(&mut command)?;
        Ok(said.trim_end().to_owned())
    }

    /// What `patronictl` says of all machines.
    pub(crate) fn list(&self) -> Result<Value, String> {
        let mut command = self.command(&self.programs.patronictl);
        command.arg("-c").arg(self.config_file()).args(["list", "--format=json"]);
        serde_json::from_str(&programs::stdout(&mut command)?).map_err(|error| error.to_string())
    }

    /// What Patroni complains of, each with the lines that belong to it.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let text = self.patroni.as_ref().map(|patroni| patroni.log().text()).unwrap_or_default();
        let mut all: Vec<String> = Vec::new();
        let mut bad = false;
        for line in text.lines() {
            // A date, a time, and how bad it is. PostgreSQL writes to the same place in another way.
            let mut words = line.split(' ');
            let dated = words.next().is_some_and(|date| date.len() == 10 && date.starts_with("20"));
            if dated {
                bad = words.nth(1).is_some_and(|level| ["ERROR:", "CRITICAL:"].contains(&level));
                if bad {
                    all.push(String::new());
                }
            }
            if let Some(last) = all.last_mut().filter(|_| bad) {
                last.push_str(line);
                last.push('\n');
            }
        }
        all
    }

    /// The end of its log.
    pub(crate) fn describe(&self) -> String {
        self.patroni.as_ref().map_or_else(|| format!("{} is down", self.name), Process::tail)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.describe());
        }
        self.die();
    }
}
