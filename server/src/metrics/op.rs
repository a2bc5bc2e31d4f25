//! Durations by the kind of request that went through the log.

use prometheus::{Histogram, HistogramVec};
use retcd_proto::etcdserverpb::InternalRaftRequest;

/// Kinds of requests, by etcd's names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A range that was proposed.
    Range,
    /// A put.
    Put,
    /// A deletion.
    DeleteRange,
    /// A transaction.
    Txn,
    /// A compaction.
    Compaction,
    /// A new lease.
    LeaseGrant,
    /// The end of a lease.
    LeaseRevoke,
    /// What is left of leases.
    LeaseCheckpoint,
    /// Something about alarms.
    Alarm,
    /// The cluster's version.
    ClusterVersionSet,
    /// A member's name and client URLs.
    ClusterMemberAttrSet,
}

impl Op {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Range, "Range"),
        (Self::Put, "Put"),
        (Self::DeleteRange, "DeleteRange"),
        (Self::Txn, "Txn"),
        (Self::Compaction, "Compaction"),
        (Self::LeaseGrant, "LeaseGrant"),
        (Self::LeaseRevoke, "LeaseRevoke"),
        (Self::LeaseCheckpoint, "LeaseCheckpoint"),
        (Self::Alarm, "Alarm"),
        (Self::ClusterVersionSet, "ClusterVersionSet"),
        (Self::ClusterMemberAttrSet, "ClusterMemberAttrSet"),
    ];

    /// The kind of a request; `None` for one that this release does not serve.
    pub(crate) fn of(r: &InternalRaftRequest) -> Option<Self> {
        let kinds = [
            (r.put.is_some(), Self::Put),
            (r.txn.is_some(), Self::Txn),
            (r.delete_range.is_some(), Self::DeleteRange),
            (r.range.is_some(), Self::Range),
            (r.compaction.is_some(), Self::Compaction),
            (r.lease_grant.is_some(), Self::LeaseGrant),
            (r.lease_revoke.is_some(), Self::LeaseRevoke),
            (r.lease_checkpoint.is_some(), Self::LeaseCheckpoint),
            (r.alarm.is_some(), Self::Alarm),
            (r.cluster_version_set.is_some(), Self::ClusterVersionSet),
            (
                r.cluster_member_attr_set.is_some(),
                Self::ClusterMemberAttrSet,
            ),
        ];
        kinds.into_iter().find_map(|(is, op)| is.then_some(op))
    }
}

/// One histogram for each kind and outcome, found without hashing.
#[derive(Debug)]
pub(crate) struct ByOp([[Histogram; 2]; Op::ALL.len()]);

impl ByOp {
    /// `labels` puts a kind's name and an outcome into the order of the family's labels.
    pub(super) fn new(
        family: &HistogramVec,
        labels: fn(&'static str, &'static str) -> Vec<&'static str>,
    ) -> Self {
        Self(Op::ALL.map(|(_, name)| {
            ["false", "true"].map(|success| family.with_label_values(&labels(name, success)))
        }))
    }

    /// Adds one duration in seconds.
    pub(crate) fn observe(&self, op: Option<Op>, success: bool, seconds: f64) {
        if let Some(op) = op {
            self.0[op as usize][usize::from(success)].observe(seconds);
        }
    }
}
