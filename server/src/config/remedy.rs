//! What to do about flags that do not add up.

use super::ConfigError;

impl ConfigError {
    /// The next step, in one sentence.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::BindAddress { flag, url } => format!(
                "give --{flag} an IP address of this machine, 0.0.0.0 or localhost instead of {url}; a name may be \
                 advertised, with --advertise-client-urls or --initial-advertise-peer-urls"
            ),
            Self::Port(port) => format!("give a port from 0 to 65535 in place of {port:?}"),
            Self::AdvertisePeer { .. } | Self::AdvertiseClient { .. } => {
                "put the IP address or the name before the port under which others reach this member".into()
            }
            Self::Heartbeat(_) => {
                "give --heartbeat-interval in milliseconds, for example 100, the default".into()
            }
            Self::Election(_) => {
                "give --election-timeout in milliseconds, for example 1000, the default".into()
            }
            Self::Ratio {
                election,
                heartbeat,
            } => format!(
                "raise --election-timeout to {} at least, or lower --heartbeat-interval to {} at most",
                heartbeat.saturating_mul(5),
                election / 5
            ),
            Self::ElectionTooLong(_) => {
                "give --election-timeout in milliseconds, 50000 at most".into()
            }
            Self::AdvertiseClientMissing => {
                "add --advertise-client-urls with the URLs under which clients reach this member".into()
            }
            Self::Negative { flag, .. } => format!("leave --{flag} out for its default"),
            Self::TooLarge { flag, .. } => format!("give a smaller number with --{flag}"),
            Self::SocketFile { flag, .. } => format!(
                "give --{flag} that of a file, as in unix:///run/etcd/peer.sock, or unix://localhost:2380 for a file \
                 of that name in the current directory"
            ),
            Self::ManySources => {
                "leave two of --initial-cluster, --discovery-endpoints and --discovery-srv out".into()
            }
            Self::HalfDiscovery => {
                "give the missing one of --discovery-token and --discovery-endpoints, or leave both out".into()
            }
            Self::EmptyEndpoint => {
                "take the comma too many out of --discovery-endpoints, or give an endpoint such as 10.0.0.1:2379".into()
            }
            Self::Endpoint(_) => "give endpoints such as http://10.0.0.1:2379".into(),
            Self::SecureSocketEndpoint(_) => {
                "name the registry's file with unix:, or its address with https:".into()
            }
            Self::CompactionMode(_) => {
                "give periodic or revision with --auto-compaction-mode".into()
            }
            Self::SharedWithHttp(_) => {
                "give --listen-client-http-urls another port, or leave it out to serve both on one".into()
            }
            Self::TlsVersion(_) => {
                "give TLS1.2 or TLS1.3 with --tls-min-version and --tls-max-version, or leave them out".into()
            }
            Self::TlsVersions { .. } => {
                "lower --tls-min-version, or leave --tls-max-version out".into()
            }
            Self::SuitesOfTls13 => {
                "leave --cipher-suites out, or set --tls-min-version to TLS1.2".into()
            }
            Self::NoListener(flag) => format!("give --{flag} a URL such as http://127.0.0.1:2379"),
            Self::EngineNotBuilt(_) => {
                "leave --experimental-backend-engine out to use the engine bolt".into()
            }
            Self::Log(error) => error.remedy().into(),
        }
    }
}
