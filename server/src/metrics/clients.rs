//! Calls by the API version that their clients say they speak.

use std::collections::HashMap;

use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec};

/// Versions counted by name. A client may send anything; what comes on top counts as `unknown`.
const MAX_VERSIONS: usize = 64;

/// Counters found without building their labels.
#[derive(Debug)]
pub(crate) struct ClientRequests {
    family: IntCounterVec,
    /// `unary` or `stream`.
    kind: &'static str,
    versions: RwLock<HashMap<String, IntCounter>>,
}

impl ClientRequests {
    pub(super) fn new(family: IntCounterVec, kind: &'static str) -> Self {
        Self {
            family,
            kind,
            versions: RwLock::default(),
        }
    }

    pub(super) fn count(&self, version: &str) {
        if let Some(counter) = self.versions.read().get(version) {
            counter.inc();
            return;
        }
        let mut versions = self.versions.write();
        let version = if versions.len() < MAX_VERSIONS - 1 {
            version
        } else {
            "unknown"
        };
        versions
            .entry(version.to_owned())
            .or_insert_with(|| self.family.with_label_values(&[self.kind, version]))
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    #[test]
    fn versions_that_nobody_speaks_do_not_pile_up() {
        let labels = &["type", "client_api_version"];
        let family = IntCounterVec::new(Opts::new("calls", "Calls."), labels).expect("sound");
        let requests = ClientRequests::new(family.clone(), "unary");
        for i in 0..10_000 {
            requests.count(&format!("made-up-{i}"));
        }
        requests.count("made-up-0");
        assert_eq!(requests.versions.read().len(), MAX_VERSIONS);
        assert_eq!(family.with_label_values(&["unary", "made-up-0"]).get(), 2);
        let unknown = family.with_label_values(&["unary", "unknown"]).get();
        assert_eq!(unknown, 10_000 - (MAX_VERSIONS as u64 - 1));
    }
}
