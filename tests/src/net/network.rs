//! The switch between machines.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::geteuid;

use super::{Files, Host};
use crate::peers::skipped;

/// Machines that reach each other.
#[derive(Debug)]
pub struct Network {
    switch: Host,
}

impl Network {
    /// A switch without machines. None, and says `SKIPPED`, where the system has or allows no namespaces, or lacks one of
    /// the programs of these packages.
    #[must_use]
    pub fn make(tools: &[&str]) -> Option<Self> {
        for tool in ["unshare", "nsenter", "ip"].iter().chain(tools) {
            if Command::new("which").arg(tool).output().is_ok_and(|o| !o.status.success()) {
                skipped(&format!("the program {tool}"), &format!("apt-get install {}", package(tool)));
                return None;
            }
        }
        match possible() {
            Ok(()) => Some(Self::new()),
            Err(why) => {
                skipped("what machines made of namespaces need", &format!("run as root, outside of a sandbox: {why}"));
                None
            }
        }
    }

    fn new() -> Self {
        let switch = Host::start("switch", Ipv4Addr::UNSPECIFIED, Files::Common).expect("it was possible before");
        switch.must(&["ip", "link", "add", "name", "switch", "type", "bridge"]);
        switch.must(&["ip", "link", "set", "switch", "up"]);
        Self { switch }
    }

    /// Adds a machine.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn host(&self, name: &str, address: Ipv4Addr, files: Files) -> Host {
        let host = Host::start(name, address, files).unwrap_or_else(|e| panic!("{name}: {e}"));
        let pid = host.pid().to_string();
        let port = format!("p{pid}");
        self.switch.must(&["ip", "link", "add", "name", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        self.switch.must(&["ip", "link", "set", &port, "master", "switch", "up"]);
        host.must(&["ip", "address", "add", &format!("{address}/24"), "dev", "eth0"]);
        host.must(&["ip", "link", "set", "eth0", "up"]);
        host.must(&["ip", "link", "set", "lo", "up"]);
        host
    }
}

/// Tries once per process whether machines can be made, with files and firewall.
fn possible() -> Result<(), String> {
    static POSSIBLE: OnceLock<Result<(), String>> = OnceLock::new();
    POSSIBLE
        .get_or_init(|| {
            if !geteuid().is_root() {
                return Err("not root".into());
            }
            let one = Host::start("try", Ipv4Addr::LOCALHOST, Files::Own)?;
            one.run("ip link add name one type veth peer name two && ip link add name sw type bridge").map(drop)?;
            Ok(())
        })
        .clone()
}

fn package(tool: &str) -> &str {
    match tool {
        "ip" => "iproute2",
        "unshare" | "nsenter" | "setpriv" => "util-linux",
        "cfssl" | "cfssljson" => "golang-cfssl",
        "scp" => "openssh-client",
        _ => tool,
    }
}
