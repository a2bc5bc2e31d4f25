//! A member with a plain client port, a TLS one and a TLS peer port.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use retcd_tests::binary;
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::ports::Port;
use serde_json::Value;

/// A port that certificates are shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Client,
    Peer,
}

/// The member and where it speaks TLS.
pub(crate) struct Rig {
    pub(crate) member: Member,
    client: Port,
    peer: Port,
}

impl Rig {
    /// Starts a member with TLS flags; those of clients and of peers are given separately, the latter
    /// without them for a plain peer port.
    pub(crate) fn start(program: PathBuf, client: &[String], peer: &[String]) -> Self {
        for _ in 0..5 {
            let mut member = Member::prepare(Setup::new(&program));
            let (client_port, peer_port) = (Port::take(), Port::take());
            let (secure, peer_secure) = (client_port.number(), peer_port.number());
            let scheme = if peer.is_empty() { "http" } else { "https" };
            let peer_url = format!("{scheme}://127.0.0.1:{peer_secure}");
            let mut flags = vec![
                format!("--listen-client-urls={},https://127.0.0.1:{secure}", member.url()),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=m={peer_url}"),
            ];
            if program == binary::ours() {
                // Below it what repeats itself is told once with a count, and here each connection is looked for.
                flags.push("--log-level=debug".into());
            }
            flags.extend(client.iter().chain(peer).cloned());
            member.set_flags(flags);
            member.spawn();
            match member.wait_or_serve() {
                None => {
                    let rig = Self { member, client: client_port, peer: peer_port };
                    rig.wait_for_listeners();
                    return rig;
                }
                Some(_) if member.log().whole().contains("address already in use") => {}
                Some(status) => panic!("it ended with {status}:\n{}", member.log().whole()),
            }
        }
        panic!("no free ports");
    }

    /// Go begins to accept on one port after the other.
    fn wait_for_listeners(&self) {
        let deadline = Instant::now() + PATIENCE;
        for port in [self.client.number(), self.peer.number()] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < deadline, "nobody listens:\n{}", self.member.describe());
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub(crate) const fn port(&self, endpoint: Endpoint) -> u16 {
        match endpoint {
            Endpoint::Client => self.client.number(),
            Endpoint::Peer => self.peer.number(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.client.number())
    }

    /// The line about a connection that was refused, by the address it came from; waits for it.
    pub(crate) fn refusal(&self, endpoint: Endpoint, remote: std::net::SocketAddr) -> Value {
        let message = match endpoint {
            Endpoint::Client => "rejected connection on client endpoint",
            Endpoint::Peer => "rejected connection on peer endpoint",
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.member.log().text();
            let found = text
                .lines()
                .filter(|line| line.contains(message))
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line["remote-addr"] == remote.to_string());
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < deadline, "no line about {remote}:\n{text}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Flags, those of peers with their prefix.
pub(crate) fn flags(endpoint: Endpoint, pairs: &[(&str, &str)]) -> Vec<String> {
    let prefix = match endpoint {
        Endpoint::Client => "",
        Endpoint::Peer => "peer-",
    };
    let mut flags = Vec::new();
    for (name, value) in pairs {
        let mut flag = String::from("--");
        let name = match (endpoint, *name) {
            (Endpoint::Client, "crl-file") => "client-crl-file",
            (Endpoint::Client, "cert-allowed-hostname") => "client-cert-allowed-hostname",
            (_, name) => name,
        };
        let _ = write!(flag, "{prefix}{name}={value}");
        flags.push(flag);
    }
    flags
}
