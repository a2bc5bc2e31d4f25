//! Why a connection does not come about.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::certificate::Leaf;

/// The check that a connection did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// It spoke something other than TLS.
    NotTls,
    /// It was over before the handshake was: the other side closed it or it broke.
    Closed,
    /// The handshake took too long.
    Deadline,
    /// The other side sent more than a handshake may need.
    Size,
    /// No common version of TLS.
    Version,
    /// No common algorithms or protocols.
    Parameters,
    /// What was sent is no proper handshake.
    Malformed,
    /// The other side refused, with an alert.
    RefusedByPeer,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate cannot be read, or has something in it that cannot be judged.
    Certificate,
    /// No trusted authority stands behind the certificate.
    Authority,
    /// The certificate, or an authority's, is not valid any more.
    Expired,
    /// The certificate, or an authority's, is not valid yet.
    NotYetValid,
    /// The certificate is for another use.
    Usage,
    /// A signature is wrong.
    Signature,
    /// The common name is not among the allowed ones.
    CommonName,
    /// The certificate is not valid for any allowed host name.
    Hostname,
    /// The certificate is not for the address it came from.
    Address,
    /// The certificate was revoked.
    Revoked,
    /// The revocation list cannot be read.
    RevocationList,
    /// This side's own set-up does not allow it.
    Local,
}

impl Check {
    /// A short name, for log lines and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotTls => "not-tls",
            Self::Closed => "closed",
            Self::Deadline => "deadline",
            Self::Size => "size",
            Self::Version => "tls-version",
            Self::Parameters => "tls-parameters",
            Self::Malformed => "malformed",
            Self::RefusedByPeer => "refused-by-peer",
            Self::NoCertificate => "no-certificate",
            Self::Certificate => "certificate",
            Self::Authority => "authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Usage => "key-usage",
            Self::Signature => "signature",
            Self::CommonName => "common-name",
            Self::Hostname => "hostname",
            Self::Address => "address",
            Self::Revoked => "revoked",
            Self::RevocationList => "revocation-list",
            Self::Local => "local",
        }
    }
}

/// A check that was not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub check: Check,
    /// What is wrong, in the words of etcd (and Go).
    pub error: String,
    /// What to do about it.
    pub advice: String,
}

impl Failure {
    pub(crate) fn new(check: Check, error: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check,
            error: error.into(),
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for Failure {}

/// A connection that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who it came from.
    pub remote: SocketAddr,
    /// The name it asked for; empty if none, or if it did not get that far.
    pub server_name: String,
    /// Whose certificate it showed, if that is known.
    pub leaf: Option<Leaf>,
    /// Why.
    pub failure: Failure,
}

impl Refused {
    /// Whether nothing but a closed connection is behind it, as from a port scan or a load balancer's
    /// probe: not worth a warning.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.failure.check == Check::Closed && self.failure.error == "EOF"
    }

    /// The addresses in its certificate.
    #[must_use]
    pub fn ip_addresses(&self) -> Vec<IpAddr> {
        let leaf = self.leaf.as_ref();
        leaf.map_or_else(Vec::new, |leaf| leaf.ip_addresses.clone())
    }

    /// The host names in its certificate.
    #[must_use]
    pub fn dns_names(&self) -> Vec<String> {
        let leaf = self.leaf.as_ref();
        leaf.map_or_else(Vec::new, |leaf| leaf.dns_names.clone())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for Refused {}
