//! What one side of a server is to be configured with.

use std::fmt;
use std::path::PathBuf;

use crate::suites::Suites;

/// The files and rules of one kind of connection: for a listener ([`crate::Acceptor`]), and for
/// dialing others of the same kind ([`crate::Connector`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Certificate chain of the listener, PEM. Used for dialing too when `client_cert_file` is not set.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key_file: Option<PathBuf>,
    /// Certificate chain shown when dialing.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Authorities of those who connect and of those dialed, PEM. Without it, those of the system.
    pub trusted_ca_file: Option<PathBuf>,
    /// Demand a certificate of whoever connects; `trusted_ca_file` alone demands it too.
    pub client_cert_auth: bool,
    /// Serials of revoked certificates, a CRL in DER or PEM. Read for every connection; without a readable
    /// one, nobody who shows a certificate gets in.
    pub crl_file: Option<PathBuf>,
    /// The other side's certificate must bear one of these common names. Not with `allowed_hostnames`.
    pub allowed_cns: Vec<String>,
    /// The other side's certificate must be valid for one of these names or addresses.
    pub allowed_hostnames: Vec<String>,
    /// Compare the names in the certificate of whoever connects with its address.
    pub verify_client_san: bool,
    /// Cipher suites of TLS 1.2; empty for all.
    pub cipher_suites: Suites,
    /// The lowest version spoken; `None`: 1.2.
    pub min_version: Option<Version>,
    /// The highest version spoken; `None`: 1.3.
    pub max_version: Option<Version>,
    /// When dialing, do not verify who answers. Set for self-signed certificates.
    pub insecure_skip_verify: bool,
    /// When dialing, the name to verify instead of the host dialed.
    pub server_name: Option<String>,
}

impl TlsInfo {
    /// Whether there is no certificate, so that no listener can use it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }

    /// Whether a listener demands a certificate of whoever connects.
    #[must_use]
    pub fn demands_client_certificate(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }
}

/// The files, as log lines name them.
impl fmt::Display for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |path: &Option<PathBuf>| {
            let path = path.as_ref().map(|path| path.display().to_string());
            path.unwrap_or_default()
        };
        write!(
            f,
            "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
            show(&self.cert_file),
            show(&self.key_file),
            show(&self.client_cert_file),
            show(&self.client_key_file),
            show(&self.trusted_ca_file),
            self.client_cert_auth,
            show(&self.crl_file),
        )
    }
}

/// A version of TLS that can be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    pub(crate) fn supported(self) -> &'static rustls::SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }
}
