//! The flags about discovery: as given, and as a member that starts for the first time uses them.
//!
//! Source: config-and-ops 2, 5, 14; etcd `server/embed/config.go`, `client/v3/internal/endpoint`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use retcd_tls::TlsInfo;

use super::notice::Notice;
use super::resolved::duration;
use super::url::split_host_port;
use super::value::{self, ValueError};
use super::{ConfigError, Url};

/// The shortest time between two signs of life that gRPC clients allow themselves; servers of etcd hang up on whoever
/// sends them more often than every five seconds.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(10);
/// What gRPC waits for an answer to a sign of life when nothing else is said.
const KEEPALIVE_TIMEOUT_MS: u64 = 20_000;

/// How to find the other members of a new cluster, as a user asks for it. Durations are nanoseconds; files are empty
/// when not named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// `--discovery-srv`: a DNS domain.
    pub srv: String,
    /// `--discovery-srv-name`: what the names of its services end with.
    pub srv_name: String,
    /// `--discovery-token`.
    pub token: String,
    /// `--discovery-endpoints`: of the etcd that keeps the registry.
    pub endpoints: Vec<String>,
    /// `--discovery-dial-timeout`; 0 is 2 s.
    pub dial_timeout: i64,
    /// `--discovery-request-timeout`; 0 is 5 s.
    pub request_timeout: i64,
    /// `--discovery-keepalive-time`; 0 is never, less than 10 s is 10 s.
    pub keepalive_time: i64,
    /// `--discovery-keepalive-timeout`; 0 is 20 s.
    pub keepalive_timeout: i64,
    /// `--discovery-insecure-transport`: no TLS to endpoints without a scheme, unless other flags ask for it.
    pub insecure_transport: bool,
    /// `--discovery-insecure-skip-tls-verify`.
    pub insecure_skip_tls_verify: bool,
    /// `--discovery-cert`.
    pub cert: PathBuf,
    /// `--discovery-key`.
    pub key: PathBuf,
    /// `--discovery-cacert`.
    pub cacert: PathBuf,
    /// `--discovery-user`: a name, or `name:password`.
    pub user: String,
    /// `--discovery-password`.
    pub password: Secret,
}

/// A text that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            srv: String::new(),
            srv_name: String::new(),
            token: String::new(),
            endpoints: Vec::new(),
            dial_timeout: 2_000_000_000,
            request_timeout: 5_000_000_000,
            keepalive_time: 2_000_000_000,
            keepalive_timeout: 6_000_000_000,
            insecure_transport: true,
            insecure_skip_tls_verify: false,
            cert: PathBuf::new(),
            key: PathBuf::new(),
            cacert: PathBuf::new(),
            user: String::new(),
            password: Secret::default(),
        }
    }
}

/// Where a member that starts for the first time learns who its cluster is, when the flags do not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// From SRV records of the DNS.
    Srv(SrvDiscovery),
    /// From a registry in another etcd, in which all members write themselves down.
    Service(Box<ServiceDiscovery>),
}

/// `--discovery-srv` and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvDiscovery {
    /// The domain.
    pub domain: String,
    /// The end of the services' names, with its dash; or empty.
    pub suffix: String,
}

/// `--discovery-endpoints` and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDiscovery {
    /// Under which the cluster is registered.
    pub token: String,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// For a connection to come about.
    pub dial_timeout: Duration,
    /// For a request.
    pub request_timeout: Duration,
    /// Signs of life while an answer is waited for: how often, and how long for an answer to them.
    pub keepalive: Option<(Duration, Duration)>,
    /// For endpoints with TLS.
    pub tls: TlsInfo,
    /// Name and password.
    pub credentials: Option<(String, Secret)>,
}

/// Where the registry is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As given.
    pub text: String,
    /// Whom to connect to.
    pub address: EndpointAddress,
    /// Whether over TLS.
    pub tls: bool,
}

/// See [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// Host, a name or an address without brackets, and port.
    Tcp(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl DiscoveryConfig {
    /// Takes the value of a flag. `Ok(false)`: the flag is none of these.
    pub(super) fn assign(&mut self, flag: &str, text: &str) -> Result<bool, ValueError> {
        let Some(name) = flag.strip_prefix("discovery-") else {
            return Ok(false);
        };
        match name {
            "srv" => self.srv = text.to_owned(),
            "srv-name" => self.srv_name = text.to_owned(),
            "token" => self.token = text.to_owned(),
            "endpoints" => {
                self.endpoints = text.split(',').map(str::to_owned).collect();
                self.endpoints.sort();
                self.endpoints.dedup();
            }
            "dial-timeout" => self.dial_timeout = value::parse_duration(text)?,
            "request-timeout" => self.request_timeout = value::parse_duration(text)?,
            "keepalive-time" => self.keepalive_time = value::parse_duration(text)?,
            "keepalive-timeout" => self.keepalive_timeout = value::parse_duration(text)?,
            "insecure-transport" => self.insecure_transport = value::parse_bool(text)?,
            "insecure-skip-tls-verify" => self.insecure_skip_tls_verify = value::parse_bool(text)?,
            "cert" => self.cert = text.into(),
            "key" => self.key = text.into(),
            "cacert" => self.cacert = text.into(),
            "user" => self.user = text.to_owned(),
            "password" => self.password = Secret(text.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the default of `--initial-cluster` does not count: not even for a service name without a domain.
    pub(super) fn replaces_default_cluster(&self) -> bool {
        !self.srv.is_empty() || !self.srv_name.is_empty() || !self.endpoints.is_empty()
    }

    /// # Errors
    /// Flags that contradict each other, or `--initial-cluster`.
    pub(super) fn check(&self, initial_cluster: Option<&str>) -> Result<(), ConfigError> {
        let sources = [
            initial_cluster.is_some_and(|cluster| !cluster.is_empty()),
            !self.srv.is_empty(),
            !self.endpoints.is_empty(),
        ];
        if sources.into_iter().filter(|is_set| *is_set).count() > 1 {
            return Err(ConfigError::ManySources);
        }
        if self.token.is_empty() != self.endpoints.is_empty() {
            return Err(ConfigError::HalfDiscovery);
        }
        if self.endpoints.iter().any(|text| text.trim().is_empty()) {
            return Err(ConfigError::EmptyEndpoint);
        }
        Ok(())
    }

    /// # Errors
    /// Values that mean nothing.
    pub(super) fn resolve(
        &self,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Discovery>, ConfigError> {
        if !self.srv.is_empty() {
            return Ok(Some(Discovery::Srv(SrvDiscovery {
                domain: self.srv.clone(),
                suffix: match self.srv_name.as_str() {
                    "" => String::new(),
                    name => format!("-{name}"),
                },
            })));
        }
        if self.endpoints.is_empty() {
            return Ok(None);
        }
        let tls = self.tls();
        // What a client of etcd does with an endpoint that does not say.
        let silent =
            !self.insecure_transport || self.insecure_skip_tls_verify || tls != TlsInfo::default();
        let endpoints = self
            .endpoints
            .iter()
            .map(|text| Endpoint::parse(text, silent));
        let keepalive_time = match self.keepalive_time {
            0 => None,
            nanos => Some(duration("discovery-keepalive-time", nanos, 0)?.max(SHORTEST_KEEPALIVE)),
        };
        let keepalive_timeout = duration(
            "discovery-keepalive-timeout",
            self.keepalive_timeout,
            KEEPALIVE_TIMEOUT_MS,
        )?;
        Ok(Some(Discovery::Service(Box::new(ServiceDiscovery {
            token: self.token.clone(),
            endpoints: endpoints.collect::<Result<_, _>>()?,
            dial_timeout: duration("discovery-dial-timeout", self.dial_timeout, 2_000)?,
            request_timeout: duration("discovery-request-timeout", self.request_timeout, 5_000)?,
            keepalive: keepalive_time.map(|time| (time, keepalive_timeout)),
            tls: TlsInfo {
                insecure_skip_verify: self.insecure_skip_tls_verify,
                ..tls
            },
            credentials: self.credentials(notices),
        }))))
    }

    fn tls(&self) -> TlsInfo {
        let file = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        TlsInfo {
            cert_file: file(&self.cert),
            key_file: file(&self.key),
            trusted_ca_file: file(&self.cacert),
            ..TlsInfo::default()
        }
    }

    /// The password may be part of the name, as the flag's help has it.
    fn credentials(&self, notices: &mut Vec<Notice>) -> Option<(String, Secret)> {
        if self.user.is_empty() {
            return None;
        }
        if !self.password.0.is_empty() {
            return Some((self.user.clone(), self.password.clone()));
        }
        match self.user.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                Some((name.to_owned(), Secret(password.to_owned())))
            }
            _ => {
                notices.push(Notice::warn(
                    "--discovery-user is not used without a password, as in etcd: add --discovery-password, or give \
                     the flag as name:password",
                ));
                None
            }
        }
    }
}

impl SrvDiscovery {
    /// The service whose members are reached over TLS, or over plain TCP, as it is called in the DNS.
    #[must_use]
    pub fn service(&self, tls: bool) -> String {
        let service = if tls {
            "etcd-server-ssl"
        } else {
            "etcd-server"
        };
        format!("{service}{}", self.suffix)
    }
}

impl ServiceDiscovery {
    /// The endpoints as given.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.text.clone())
            .collect()
    }
}

impl Endpoint {
    /// `host:port`, with `http://` or `https://` before it, or `unix:path`. `silent`: whether one without a scheme
    /// is reached over TLS.
    fn parse(text: &str, silent: bool) -> Result<Self, ConfigError> {
        let bad = || ConfigError::Endpoint(text.to_owned());
        let trimmed = text.trim();
        if trimmed.starts_with("unixs:") {
            return Err(ConfigError::SecureSocketEndpoint(text.to_owned()));
        }
        if let Some(path) = trimmed.strip_prefix("unix:") {
            // Two slashes and no third: a path that begins where the server runs.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(bad());
            }
            return Ok(Self {
                text: text.to_owned(),
                address: EndpointAddress::Socket(path.into()),
                tls: false,
            });
        }
        let (tls, authority) = match trimmed.split_once("://") {
            None => (silent, trimmed),
            Some((scheme, rest)) => {
                let tls = match scheme.to_ascii_lowercase().as_str() {
                    "http" => false,
                    "https" => true,
                    _ => return Err(bad()),
                };
                // Whatever follows the port says nothing to a client of gRPC.
                (tls, rest.split(['/', '?', '#']).next().unwrap_or(rest))
            }
        };
        // As a URL, so that its host and port are looked at as those of other flags are.
        let url: Url = format!("http://{authority}").parse().map_err(|_| bad())?;
        let (host, port) = split_host_port(url.authority()).ok_or_else(bad)?;
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self {
            text: text.to_owned(),
            address: EndpointAddress::Tcp(host.to_owned(), port.parse().map_err(|_| bad())?),
            tls,
        })
    }
}

#[cfg(test)]
mod tests;
