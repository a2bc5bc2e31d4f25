//! Which members there are, on which ports.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use retcd::config::{Config, Url};
use serde::{Deserialize, Serialize};

use crate::cli::{Failure, exit};

use super::place::Place;

/// The file that makes a directory one of `retcd dev`.
pub(super) const RECORD: &str = "retcd-dev.json";

/// Where etcd's clients look if nobody tells them.
const USUAL: u16 = 2379;

/// The ports of one member, all on the loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) peer: u16,
}

/// All members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    members: Vec<Ports>,
}

/// What a member is called.
pub(super) fn name(number: usize) -> String {
    format!("m{}", number + 1)
}

impl Layout {
    /// As the directory has it, or a new one, which it has from then on.
    pub(super) fn of(
        place: &Place,
        members: Option<usize>,
        client_port: Option<u16>,
    ) -> Result<Self, Failure> {
        let path = place.dir().join(RECORD);
        let fail = |error: &dyn std::fmt::Display| {
            Failure::new(exit::ERROR, format_args!("{}: {error}", path.display()))
        };
        let mut layout = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Self>(&bytes).map_err(|error| fail(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::new(members.unwrap_or(1), client_port).map_err(|error| fail(&error))?
            }
            Err(error) => return Err(fail(&error)),
        };
        if let Some(wanted) = members
            && wanted != layout.members.len()
        {
            return Err(Failure::new(
                exit::BAD_ARGS,
                format_args!(
                    "--members={wanted}, but {} has {}: leave the flag out, or name another directory",
                    place.dir().display(),
                    layout.members.len()
                ),
            ));
        }
        if let (Some(port), Some(first)) = (client_port, layout.members.first_mut()) {
            first.client = match port {
                0 => free_ports(1).map_err(|error| fail(&error))?[0],
                port => port,
            };
        }
        let json = serde_json::to_vec(&layout).map_err(|error| fail(&error))?;
        fs::write(&path, json).map_err(|error| fail(&error))?;
        Ok(layout)
    }

    fn new(members: usize, client_port: Option<u16>) -> io::Result<Self> {
        let free = free_ports(2 * members)?;
        let mut members: Vec<Ports> = free
            .chunks_exact(2)
            .map(|pair| Ports {
                client: pair[0],
                peer: pair[1],
            })
            .collect();
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if let Some(first) = members.first_mut()
            && client_port.is_none()
            && is_free(USUAL)
        {
            first.client = USUAL;
        }
        Ok(Self { members })
    }

    pub(super) fn members(&self) -> &[Ports] {
        &self.members
    }

    /// Where clients reach them.
    pub(super) fn endpoints(&self) -> Vec<String> {
        let urls = self
            .members
            .iter()
            .map(|ports| url(ports.client).to_string());
        urls.collect()
    }

    /// What each is started with. Data that is thrown away need not survive a crash.
    pub(super) fn configs(&self, dir: &Path, durable: bool) -> Vec<Config> {
        let list = self.members.iter().enumerate();
        let list: Vec<String> = list
            .map(|(number, ports)| format!("{}={}", name(number), url(ports.peer)))
            .collect();
        let configs = self.members.iter().enumerate().map(|(number, ports)| {
            let mut config = Config::new(dir.join(name(number)));
            config.name = name(number);
            config.listen_client_urls = vec![url(ports.client)];
            config.listen_peer_urls = vec![url(ports.peer)];
            config.initial_advertise_peer_urls = Some(vec![url(ports.peer)]);
            config.initial_cluster = Some(list.join(","));
            config.initial_cluster_token = "retcd-dev".to_owned();
            config.unsafe_no_fsync = !durable;
            config
        });
        configs.collect()
    }
}

fn url(port: u16) -> Url {
    Url::http((Ipv4Addr::LOCALHOST, port).into())
}

/// Ports that nobody had a moment ago, all of them different.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    let ports = held
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}
