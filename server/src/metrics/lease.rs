//! Metrics of leases.

use prometheus::{Histogram, IntCounter, Registry};

use super::build::Builder;

/// Leases and what became of them.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// Granted.
    pub(crate) granted: IntCounter,
    /// Revoked, by whomever.
    pub(crate) revoked: IntCounter,
    /// Renewals by this member as the leader.
    pub(crate) renewed: IntCounter,
    /// Revoked because their time was over.
    pub(crate) expired: IntCounter,
    /// Seconds granted.
    pub(crate) ttl: Histogram,
}

impl Lease {
    /// Some that nobody is shown.
    pub(crate) fn unseen() -> Result<Self, prometheus::Error> {
        let registry = &Registry::new();
        Builder { registry }.lease()
    }
}

impl Builder<'_> {
    pub(super) fn lease(&self) -> Result<Lease, prometheus::Error> {
        Ok(Lease {
            granted: self.counter("etcd_debugging_lease_granted_total", "Leases granted.")?,
            revoked: self.counter("etcd_debugging_lease_revoked_total", "Leases revoked.")?,
            renewed: self.counter(
                "etcd_debugging_lease_renewed_total",
                "Leases renewed by the leader.",
            )?,
            expired: self.counter(
                "etcd_debugging_server_lease_expired_total",
                "Leases that ended by themselves.",
            )?,
            ttl: self.histogram(
                "etcd_debugging_lease_ttl_total",
                "Seconds that leases were granted for.",
                (1.0, 2.0, 24),
            )?,
        })
    }
}
