//! `etcd_server_feature_enabled`: the feature gates by their names.
//!
//! Source: etcd `server/features/etcd_features.go`.

use prometheus::GaugeVec;

/// Name, stage, and whether it is on by default.
const GATES: [(&str, &str, bool); 11] = [
    ("AllAlpha", "ALPHA", false),
    ("AllBeta", "BETA", false),
    ("CompactHashCheck", "ALPHA", false),
    ("FastLeaseKeepAlive", "BETA", true),
    ("InitialCorruptCheck", "ALPHA", false),
    ("LeaseCheckpoint", "ALPHA", false),
    ("LeaseCheckpointPersist", "ALPHA", false),
    ("PriorityRequest", "ALPHA", false),
    ("SetMemberLocalAddr", "ALPHA", false),
    ("StopGRPCServiceOnDefrag", "ALPHA", false),
    ("TxnModeWriteWithSharedBuffer", "BETA", true),
];

/// Shows the gates as they are by default.
pub(super) fn show_defaults(family: &GaugeVec) {
    for (name, stage, on) in GATES {
        family
            .with_label_values(&[name, stage])
            .set(f64::from(u8::from(on)));
    }
}
