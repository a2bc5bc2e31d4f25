//! Looks for mistakes in how a member is set up, before it starts or while it runs, and says how to put each right.
//!
//! Flags, environment, configuration file, certificates, data directory, machine and the other members are looked at; nothing
//! is changed. What is checked, and by which names, [`CHECKS`] tells; `docs/doctor.md` is for operators.

mod access;
mod certificates;
mod checks;
mod data;
mod discovery;
mod endpoints;
mod env_file;
mod finding;
mod given;
mod machine;
mod members;
mod names;
mod peers;
mod registered;
mod sockets;
#[cfg(test)]
mod tests;
mod unit;
mod urls;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use slog::Logger;

use crate::config::{Config, Resolved, Url, parse_cluster};
use crate::server::run_async;

pub use access::User;
pub use checks::CHECKS;
pub use env_file::read as read_env_file;
pub use finding::{Finding, Report, Severity};
pub use unit::Unit;

use data::Data;
use finding::Findings;

/// What is to be looked at.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The flags that `etcd` is started with, or is to be.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Client URLs to ask, beside those of the member if it runs.
    pub endpoints: Vec<String>,
    /// Who runs it, if not the one who asks.
    pub user: Option<User>,
    /// Who is to run it, and does not exist on this machine.
    pub missing_user: Option<String>,
    /// How many files it may have open; `None`: as many as whoever asks.
    pub open_files: Option<u64>,
    /// Where the member is started, if not where this is called: its data may lie below.
    pub working_dir: Option<PathBuf>,
    /// Directories that the service manager makes before it starts the member.
    pub made: Vec<PathBuf>,
    /// Ask nobody over the network.
    pub offline: bool,
}

/// Looks at everything that can be looked at. Nothing is changed; a file is written into the data directory, or beside it, to
/// measure the disk, and removed.
///
/// Takes some seconds where others have to be asked that do not answer.
#[must_use]
pub fn examine(request: &Request) -> Report {
    let mut findings = Findings::default();
    if let Some(config) = given::read(request, &mut findings) {
        look(request, config, &mut findings);
    }
    findings.into_report()
}

fn look(request: &Request, config: Config, findings: &mut Findings) {
    let Some(mut resolved) = given::resolve(&config, findings) else {
        return;
    };
    if let Some(start) = &request.working_dir {
        let dirs = [
            &mut resolved.data_dir,
            &mut resolved.member_dir,
            &mut resolved.snap_dir,
            &mut resolved.wal_dir,
        ];
        for dir in dirs {
            *dir = start.join(&*dir);
        }
    }
    let user = request.user.as_ref();
    if let Some(name) = &request.missing_user {
        findings.warning(
            "user",
            format!("the unit runs the member as user {name}, who is not in /etc/passwd"),
            format!(
                "unless another directory of users has it: useradd --system --home-dir {} --shell /usr/sbin/nologin {name}",
                resolved.data_dir.display()
            ),
        );
    }
    let data = Data::find(&resolved, &request.made, user, findings);
    let cluster = match (&resolved.discovery, data.has_log) {
        (None, _) => parse_cluster(&resolved.initial_cluster).ok(),
        (Some(_), false) => discovery::list(&resolved, request.offline, findings),
        (Some(_), true) => None,
    };
    let plan = Plan {
        cluster,
        resolved,
        data,
    };
    members::check(&plan, findings);
    urls::check(&plan, &machine::has_address, findings);
    certificates::check(&plan, user, findings);
    data::check(&plan, findings);
    machine::check(&plan, request, findings);
    if request.offline {
        findings.skipped("the other members and endpoints: not asked, as wished");
        return;
    }
    let asked = run_async(async {
        let peers = peers::ask(&plan).await;
        let endpoints = endpoints::ask(&plan, &request.endpoints).await;
        let names = names::look_up(&plan).await;
        let registry = discovery::ask(&plan).await;
        (peers, endpoints, names, registry)
    });
    match asked {
        Ok((peers, endpoints, names, registry)) => {
            names::judge(&plan, &names, &machine::has_address, findings);
            discovery::judge(&registry, findings);
            peers::judge(&plan, &peers, findings);
            endpoints::judge(&endpoints, findings);
        }
        Err(error) => findings.skipped(format!("the other members and endpoints: {error}")),
    }
}

/// A member as it is set up.
#[derive(Debug)]
struct Plan {
    resolved: Resolved,
    /// `--initial-cluster`, or what the DNS has in its place; `None` if neither can be read, or a registry has it.
    cluster: Option<BTreeMap<String, Vec<Url>>>,
    data: Data,
}

impl Plan {
    /// The others of `--initial-cluster`.
    fn others(&self) -> impl Iterator<Item = (&String, &Vec<Url>)> {
        let cluster = self.cluster.iter().flatten();
        cluster.filter(|(name, _)| **name != self.resolved.name)
    }

    /// Whether the flags of a first start count.
    fn is_first_start(&self) -> bool {
        !self.data.has_log
    }
}

fn silent() -> Logger {
    Logger::root(slog::Discard, slog::o!())
}
