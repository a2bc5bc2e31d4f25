//! `etcdutl version`.

use std::io::Write;

use retcd::config::ETCD_VERSION;

use crate::cli::{Action, Command, Failure, Invocation};

pub(super) const COMMAND: Command = Command {
    usage: "version",
    short: "Prints the version of etcd that this tool goes with",
    persistent_flags: &[],
    flags: &[],
    commands: &[],
    action: Action::Run(run),
};

fn run(_: &Invocation, out: &mut dyn Write) -> Result<(), Failure> {
    let api = ETCD_VERSION
        .rsplit_once('.')
        .map_or(ETCD_VERSION, |(api, _)| api);
    writeln!(out, "etcdutl version: {ETCD_VERSION}")?;
    writeln!(out, "API version: {api}")?;
    Ok(())
}
