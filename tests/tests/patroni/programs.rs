//! What Debian has of Patroni and PostgreSQL, and whom they run as.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use retcd_tests::{peers, run};
use rustix::process::{getegid, geteuid};

/// Patroni and what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Patroni.
    pub(crate) patroni: PathBuf,
    /// Its command for operators.
    pub(crate) patronictl: PathBuf,
    /// PostgreSQL's programs.
    pub(crate) postgresql: PathBuf,
    /// User and group to run as: PostgreSQL refuses root.
    pub(crate) user: (u32, u32),
}

impl Programs {
    /// Finds all; says `SKIPPED` and how to get it when something is not there.
    pub(crate) fn find() -> Option<Self> {
        let patroni = Path::new("/usr/bin/patroni").to_owned();
        // The package only suggests the library of which both modes need parts.
        let loads = run_quietly(Command::new("/usr/bin/python3").args(["-c", "import patroni.dcs.etcd3, psycopg2"]));
        if !patroni.is_file() || !loads {
            peers::skipped("Patroni (Debian)", "apt-get install --no-install-recommends patroni python3-etcd");
            return None;
        }
        let Some(postgresql) = postgresql() else {
            peers::skipped("PostgreSQL (Debian)", "apt-get install --no-install-recommends postgresql");
            return None;
        };
        let Some(user) = user() else {
            peers::skipped("a user for PostgreSQL, which refuses root,", "adduser --system postgres");
            return None;
        };
        Some(Self { patroni, patronictl: "/usr/bin/patronictl".into(), postgresql, user })
    }
}

fn run_quietly(command: &mut Command) -> bool {
    command.output().is_ok_and(|out| out.status.success())
}

/// The folder of the newest PostgreSQL that is whole.
fn postgresql() -> Option<PathBuf> {
    const NEEDED: [&str; 6] = ["initdb", "pg_basebackup", "pg_controldata", "pg_rewind", "postgres", "psql"];
    let releases = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let mut releases: Vec<_> = releases
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| NEEDED.iter().all(|name| bin.join(name).is_file()))
        .collect();
    releases.sort();
    releases.pop().map(|(_, bin)| bin)
}

/// Whoever runs the tests; instead of root somebody who owns nothing.
fn user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return Some((geteuid().as_raw(), getegid().as_raw()));
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let find = |wanted: &str| {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == wanted)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

/// What a command wrote, without an environment that tells it of other servers.
pub(crate) fn stdout(command: &mut Command) -> Result<String, String> {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["PATRONI", "PG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    run::stdout(command)
}
