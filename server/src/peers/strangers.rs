//! Who calls this member by mistake, and how that is put right. The transport refuses them in etcd's words; here is the
//! sentence with the next command.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use slog::warn;

use super::CLUSTER_ID;
use crate::member::Member;

/// A stranger calls ten times a second; one line a minute is enough.
const QUIET: Duration = Duration::from_secs(60);
/// Strangers that are remembered. With as many, others are told of again from the beginning.
const MAX_STRANGERS: usize = 64;

/// Those who call, and what is done about them.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// When each of them was told of last, by the member's clock.
    told: Mutex<HashMap<(u64, u64), Duration>>,
    /// Held while it is judged who introduced itself.
    judging: Arc<tokio::sync::Mutex<()>>,
}

impl Strangers {
    fn is_new(&self, who: (u64, u64), now: Duration) -> bool {
        let mut told = self.told.lock();
        if told.get(&who).is_some_and(|last| now < *last + QUIET) {
            return false;
        }
        if told.len() >= MAX_STRANGERS {
            told.clear();
        }
        told.insert(who, now);
        true
    }

    /// The turn to judge one that introduced itself; `None` while it is another's. The names that it tells have to be
    /// resolved, which may take long, and anybody can tell many.
    pub(super) fn turn(&self) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        self.judging.clone().try_lock_owned().ok()
    }
}

/// Looks at the headers of a request to the transport.
pub(super) fn look(member: &Member, headers: &HeaderMap) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = |name| text(name).and_then(|id| u64::from_str_radix(id, 16).ok());
    let (Some(from), Some(cluster)) = (id("x-server-from"), id(CLUSTER_ID)) else {
        return;
    };
    let urls = text("x-peerurls").unwrap_or("of unknown address");
    let now = member.clock.now();
    if cluster != member.cluster_id {
        if member.strangers.is_new((from, cluster), now) {
            warn!(
                member.logger,
                "member {:x} ({}) is of cluster {:x}, and calls this member of cluster {:x}: one of \
                    them has the data of another cluster, or they were started with different --initial-cluster or \
                    --initial-cluster-token; on the one that is wrong, move the data directory away, run `etcdctl \
                    member add` on a member of the right cluster, and start it with --initial-cluster-state=existing",
                from,
                urls,
                cluster,
                member.cluster_id
            );
        }
        return;
    }
    if let Some(to) = id("x-raft-to")
        && to != member.id
        && member.strangers.is_new((from, to), now)
    {
        let own = member.cluster.load().member(member.id).cloned();
        let own = own.map(|own| own.peer_urls.join(",")).unwrap_or_default();
        warn!(
            member.logger,
            "member {:x} ({}) takes this address for member {:x}, but here is member {:x} ({}): give \
                the one whose address is wrong its own with `etcdctl member update <id> --peer-urls=<its URL>`",
            from,
            urls,
            to,
            member.id,
            own
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_judged_at_a_time() {
        let strangers = Strangers::default();
        let turn = strangers.turn();
        assert!(turn.is_some() && strangers.turn().is_none());
        drop(turn);
        assert!(strangers.turn().is_some());
    }

    #[test]
    fn each_is_told_of_once_a_minute() {
        let strangers = Strangers::default();
        let at = Duration::from_secs;
        assert!(strangers.is_new((1, 2), at(10)));
        assert!(!strangers.is_new((1, 2), at(69)));
        assert!(strangers.is_new((1, 3), at(69)));
        assert!(strangers.is_new((1, 2), at(70)));
        for n in 0..1000 {
            strangers.is_new((n, 9), at(71));
        }
        assert!(strangers.told.lock().len() <= MAX_STRANGERS);
    }
}
