//! Durations by the kind of a request.

use std::sync::OnceLock;

use prometheus::{Histogram, HistogramVec};
use retcd_proto::etcdserverpb::InternalRaftRequest;

/// Defines [`Op`] with etcd's names, and how a request of the log is told apart by its fields. The first fit counts.
macro_rules! ops {
    ($($field:ident $op:ident,)+) => {
        /// Kinds of requests, by etcd's names for them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Op {
            $(
                #[doc = stringify!($op)]
                $op,
            )+
            /// A transaction that only reads, and is not in the log.
            ReadonlyTxn,
        }

        impl Op {
            const NAMES: [&str; [$(stringify!($op)),+].len() + 1] = [$(stringify!($op),)+ "ReadonlyTxn"];

            /// The kind of a request of the log; `None` for one that etcd 3.7 does not know.
            pub(crate) fn of(r: &InternalRaftRequest) -> Option<Self> {
                $(
                    if r.$field.is_some() {
                        return Some(Self::$op);
                    }
                )+
                None
            }
        }
    };
}

ops! {
    range Range,
    put Put,
    delete_range DeleteRange,
    txn Txn,
    compaction Compaction,
    lease_grant LeaseGrant,
    lease_revoke LeaseRevoke,
    lease_checkpoint LeaseCheckpoint,
    alarm Alarm,
    authenticate Authenticate,
    auth_enable AuthEnable,
    auth_disable AuthDisable,
    auth_status AuthStatus,
    auth_user_add AuthUserAdd,
    auth_user_delete AuthUserDelete,
    auth_user_change_password AuthUserChangePassword,
    auth_user_grant_role AuthUserGrantRole,
    auth_user_get AuthUserGet,
    auth_user_revoke_role AuthUserRevokeRole,
    auth_role_add AuthRoleAdd,
    auth_role_grant_permission AuthRoleGrantPermission,
    auth_role_get AuthRoleGet,
    auth_role_revoke_permission AuthRoleRevokePermission,
    auth_role_delete AuthRoleDelete,
    auth_user_list AuthUserList,
    auth_role_list AuthRoleList,
    cluster_version_set ClusterVersionSet,
    cluster_member_attr_set ClusterMemberAttrSet,
    downgrade_info_set DowngradeInfoSet,
    downgrade_version_test DowngradeVersionTest,
}

/// One histogram for each kind and outcome that there was, found without hashing. As in etcd, what never happened is not
/// shown.
#[derive(Debug)]
pub(crate) struct ByOp {
    family: HistogramVec,
    /// Puts a kind's name and an outcome into the order of the family's labels.
    labels: fn(&'static str, &'static str) -> Vec<&'static str>,
    /// By kind, then failures and successes.
    seen: [[OnceLock<Histogram>; 2]; Op::NAMES.len()],
}

impl ByOp {
    /// `labels` puts a kind's name and an outcome into the order of the family's labels.
    pub(super) fn new(
        family: HistogramVec,
        labels: fn(&'static str, &'static str) -> Vec<&'static str>,
    ) -> Self {
        Self {
            family,
            labels,
            seen: std::array::from_fn(|_| Default::default()),
        }
    }

    /// Adds one duration in seconds.
    pub(crate) fn observe(&self, op: Option<Op>, success: bool, seconds: f64) {
        let Some(op) = op else { return };
        let (number, outcome) = (op as usize, usize::from(success));
        let histogram = self.seen[number][outcome].get_or_init(|| {
            let labels = (self.labels)(Op::NAMES[number], ["false", "true"][outcome]);
            self.family.with_label_values(&labels)
        });
        histogram.observe(seconds);
    }
}

/// A histogram for failures and one for successes, shown once there was one.
#[derive(Debug)]
pub(crate) struct ByOutcome {
    family: HistogramVec,
    seen: [OnceLock<Histogram>; 2],
}

impl ByOutcome {
    /// Of a family with the one label `success`.
    pub(super) fn new(family: HistogramVec) -> Self {
        Self {
            family,
            seen: Default::default(),
        }
    }

    /// Adds one duration in seconds.
    pub(crate) fn observe(&self, success: bool, seconds: f64) {
        let outcome = usize::from(success);
        let new = || self.family.with_label_values(&[["false", "true"][outcome]]);
        self.seen[outcome].get_or_init(new).observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_etcds_names() {
        assert_eq!(Op::NAMES[Op::Range as usize], "Range");
        assert_eq!(Op::NAMES[Op::ReadonlyTxn as usize], "ReadonlyTxn");
        let request = InternalRaftRequest {
            downgrade_info_set: Some(Default::default()),
            ..Default::default()
        };
        let op = Op::of(&request).expect("known");
        assert_eq!(Op::NAMES[op as usize], "DowngradeInfoSet");
        assert_eq!(Op::of(&InternalRaftRequest::default()), None);
    }
}
