//! The members of a new cluster, as the SRV records of a domain have them.
//!
//! Source: etcd `client/pkg/srv/srv.go`, `server/embed/config.go` (`GetDNSClusterNames`).

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use slog::{Logger, info, o, warn};

use super::dns::{Dns, LookupError, Srv};
use crate::config::{BootstrapError, Resolved, SrvDiscovery, Url, parse_cluster};

/// What is asked of the DNS.
pub(crate) trait Names {
    /// The records of `_<service>._tcp.<domain>`.
    fn records(&self, service: &str, domain: &str) -> Result<Vec<Srv>, LookupError>;

    /// The addresses of a host, at least one.
    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

impl Names for Dns {
    fn records(&self, service: &str, domain: &str) -> Result<Vec<Srv>, LookupError> {
        self.srv(service, domain)
    }

    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = (host, port).to_socket_addrs()?.collect();
        match found.is_empty() {
            true => Err(io::Error::other("no such host")),
            false => Ok(found),
        }
    }
}

/// The members by name, each with its sorted peer URLs, with this one among them.
///
/// Whoever has an address and port that this member advertises is this member, and is called as it is; the others are
/// numbers, until they tell the cluster how they are called. Blocks.
///
/// # Errors
/// There are no records, or none of this member.
pub(crate) fn cluster(
    srv: &SrvDiscovery,
    resolved: &Resolved,
    names: &impl Names,
    logger: &Logger,
) -> Result<BTreeMap<String, Vec<Url>>, BootstrapError> {
    let seeker = Seeker {
        domain: &srv.domain,
        name: &resolved.name,
        advertised: &resolved.initial_advertise_peer_urls,
        names,
    };
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for (tls, scheme) in [(true, "https"), (false, "http")] {
        let service = srv.service(tls);
        let result = seeker.find(&service, scheme);
        let failure = match result {
            Ok(entries) => {
                found.extend(entries);
                None
            }
            Err(reason) => Some(format!(
                "error querying DNS SRV records for _{service} {reason}"
            )),
        };
        let advertised = resolved.initial_advertise_peer_urls.iter();
        let logger = logger.new(o!(
            "service-scheme" => scheme,
            "service-name" => service,
            "server-name" => resolved.name.clone(),
            "discovery-srv" => srv.domain.clone(),
            "advertise-peer-urls" => slog::Serde(advertised.map(ToString::to_string).collect::<Vec<_>>()),
            "found-cluster" => slog::Serde(found.clone()),
        ));
        let which = if tls {
            "etcd-server-ssl"
        } else {
            "etcd-server"
        };
        match &failure {
            None => info!(logger, "get cluster for {} SRV", which),
            Some(error) => info!(logger, "get cluster for {} SRV", which; "error" => error),
        }
        failures.extend(failure);
    }
    let reason = failures.join("\n");
    if !reason.is_empty() {
        warn!(logger, "failed to resolve during SRV discovery"; "error" => &reason);
    }
    if found.is_empty() {
        let records = [true, false].map(|tls| format!("_{}._tcp.{}", srv.service(tls), srv.domain));
        return Err(BootstrapError::NoSrv {
            records: records.join(" and "),
            reason,
        });
    }
    for entry in &found {
        info!(logger, "got bootstrap from DNS for etcd-server"; "node" => entry);
    }
    let found = found.join(",");
    let cluster = parse_cluster(&found)?;
    if !cluster.contains_key(&resolved.name) {
        let advertised: Vec<_> = resolved
            .initial_advertise_peer_urls
            .iter()
            .map(Url::as_str)
            .collect();
        return Err(BootstrapError::NotInSrv {
            name: resolved.name.clone(),
            advertised: advertised.join(","),
            found,
        });
    }
    Ok(cluster)
}

struct Seeker<'a, N> {
    domain: &'a str,
    name: &'a str,
    advertised: &'a [Url],
    names: &'a N,
}

impl<N: Names> Seeker<'_, N> {
    /// The members of one service, as `--initial-cluster` would name them.
    fn find(&self, service: &str, scheme: &str) -> Result<Vec<String>, String> {
        let mut own = Vec::new();
        for url in self.advertised {
            own.push((url, self.resolve(url)?));
        }
        let records = self.names.records(service, self.domain);
        let records = records.map_err(|error| error.to_string())?;
        let mut entries = Vec::new();
        let mut nameless = 0;
        let mut failure = None;
        for record in records {
            let host = record.target.unwrap_or_default();
            let authority = format!("{host}:{}", record.port);
            let addresses = match self.addresses(&host, record.port) {
                Ok(addresses) => addresses,
                Err(reason) => {
                    failure = Some(reason);
                    continue;
                }
            };
            let own = own
                .iter()
                .find(|(_, own)| own.iter().any(|one| addresses.contains(one)));
            match own {
                Some((url, _)) if url.scheme().name() != scheme => {
                    failure = Some(format!(
                        "bootstrap at {scheme}://{authority} from DNS for {service} has scheme mismatch with expected \
                         peer {url}"
                    ));
                }
                Some(_) if !self.name.is_empty() => {
                    entries.push(format!("{}={scheme}://{authority}", self.name));
                }
                _ => {
                    entries.push(format!("{nameless}={scheme}://{authority}"));
                    nameless += 1;
                }
            }
        }
        match failure {
            Some(failure) if entries.is_empty() => Err(failure),
            _ => Ok(entries),
        }
    }

    fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        let parts = url.host_port();
        let parts = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) =
            parts.ok_or_else(|| format!("address {url}: it has no host and port"))?;
        self.addresses(host, port)
    }

    fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = self.names.addresses(host, port);
        found.map_err(|error| format!("lookup {host}: {}", crate::log::reason(&error)))
    }
}

#[cfg(test)]
mod tests;
