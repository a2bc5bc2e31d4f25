//! What the threads of one member share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use retcd_proto::etcdserverpb::{AlarmMember, ResponseHeader};
use retcd_raft_node::ids::RequestIds;
use retcd_raft_node::membership::Cluster;
use retcd_raft_node::transport::Peers;
use retcd_raft_node::{Handle, ProposeError};
use retcd_storage::backend::{self, Bucket};
use retcd_storage::clock::Clock;
use retcd_storage::mvcc::StoreReader;
use slog::{Logger, error, warn};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::disk;
use crate::error::Error;
use crate::lease::{LeaderLeases, Leases};
use crate::metrics::{Metrics, saturating};
use crate::peers::{Remote, Strangers};
use crate::read::Reads;
use crate::schema;
use crate::transfer::{Incoming, Outgoing};
use crate::wait::Waiters;
use crate::watch::Hub;

/// How long a removed member goes on; etcd's value.
pub(crate) const LEAVING: Duration = Duration::from_secs(1);

/// Bounds on requests.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of an encoded log entry.
    pub(crate) max_request_bytes: usize,
    /// Operations in each list of a transaction.
    pub(crate) max_txn_ops: usize,
    /// Bytes the backend may take.
    pub(crate) quota_bytes: Option<u64>,
    /// The quota as `Status` reports it: negative when it was switched off.
    pub(crate) quota_reported: i64,
    /// `--election-timeout`.
    pub(crate) election_timeout: Duration,
    /// A raft thread that has not ticked for longer may not know who leads: three heartbeats.
    pub(crate) active_within: Duration,
    /// `--watch-progress-notify-interval`.
    pub(crate) watch_progress_interval: Duration,
    /// `--strict-reconfig-check`.
    pub(crate) strict_reconfig_check: bool,
    /// How long a request waits for the log: 5 s and two election timeouts.
    pub(crate) request_timeout: Duration,
    /// `--warning-apply-duration`.
    pub(crate) warning_apply: Duration,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leader {
    /// 0: nobody.
    pub(crate) id: u64,
    /// When the newest leader was heard of first.
    pub(crate) elected: Option<Instant>,
}

/// Why a member stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It cannot go on safely, for this reason.
    Unsafe(String),
    /// It is no member of the cluster any more.
    Removed,
}

/// etcd's words.
const REMOVED: &str = "the member has been permanently removed from the cluster";

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsafe(reason) => f.write_str(reason),
            Self::Removed => f.write_str(REMOVED),
        }
    }
}

/// One running member.
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) limits: Limits,
    pub(crate) store: StoreReader,
    /// Databases on their way to followers.
    pub(crate) outgoing: Outgoing,
    /// Databases on their way from the leader.
    pub(crate) incoming: Incoming,
    pub(crate) waiters: Waiters,
    pub(crate) reads: Reads,
    pub(crate) request_ids: RequestIds,
    pub(crate) leader: watch::Sender<Leader>,
    /// Raised alarms.
    pub(crate) alarms: ArcSwap<Vec<AlarmMember>>,
    /// The members and the cluster version.
    pub(crate) cluster: ArcSwap<Cluster>,
    /// The newest compaction that is finished.
    pub(crate) compacted: watch::Sender<i64>,
    pub(crate) watch: Arc<Hub>,
    pub(crate) leases: Arc<Leases>,
    /// How to ask the leader about leases, once there is a way to other members.
    pub(crate) leader_leases: Mutex<Arc<dyn LeaderLeases>>,
    /// The raft node's clock.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) logger: Logger,
    /// Why the member stopped by itself, if it did.
    pub(crate) ending: watch::Sender<Option<Ending>>,
    /// Set when the member is told to stop, and calls had their time to end.
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) node: OnceLock<Handle>,
    /// The connections to other members.
    pub(crate) peers: OnceLock<Arc<Peers>>,
    /// Asks other members.
    pub(crate) remote: Remote,
    /// Members that call this one by mistake.
    pub(crate) strangers: Strangers,
    /// Once this member knows of its own removal, and ends in its time: which peers say that they know it.
    pub(crate) removal: Mutex<Option<BTreeSet<u64>>>,
    /// The first entry of a term was applied: whoever leads now has all of the log.
    pub(crate) term_began: Notify,
    /// A leader's snapshot took the place of what this member had.
    pub(crate) installed: Notify,
    /// Index of the last entry whose effects readers see.
    pub(crate) applied: AtomicU64,
    /// Its other end sees when the last user of the member, and so of the backend, is gone.
    /// Stays the last field: fields are dropped in order.
    pub(crate) _in_use: crossbeam_channel::Sender<()>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &format_args!("{:x}", self.id))
            .finish_non_exhaustive()
    }
}

impl Member {
    /// The raft node. It is attached before anything can ask for it.
    pub(crate) fn node(&self) -> &Handle {
        self.node.get().expect("attached before the member serves")
    }

    /// The database. Installing a leader's snapshot puts another one in its place, so a request asks once.
    pub(crate) fn backend(&self) -> backend::Reader {
        self.store.backend()
    }

    /// The leases of the leader, when that is another member.
    pub(crate) fn leader_leases(&self) -> Arc<dyn LeaderLeases> {
        self.leader_leases.lock().clone()
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Everything up to `index` is visible to readers.
    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
        self.reads.applied(index);
    }

    /// A response header with the current revision.
    pub(crate) fn header(&self) -> ResponseHeader {
        self.header_at(self.store.rev())
    }

    /// A response header with a given revision.
    pub(crate) fn header_at(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.id,
            revision,
            raft_term: self.node().status().term,
        }
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.leader.borrow().id != 0
    }

    /// Whether this member only listens to the log.
    pub(crate) fn is_learner(&self) -> bool {
        let cluster = self.cluster.load();
        cluster.member(self.id).is_some_and(|own| own.is_learner)
    }

    /// Whether the backend may grow by `cost` bytes. What costs nothing always fits.
    pub(crate) fn has_room(&self, cost: u64) -> bool {
        match self.limits.quota_bytes {
            Some(quota) if cost > 0 => self.backend().engine().size() + cost < quota,
            _ => true,
        }
    }

    /// The layout of the database, for example `3.7.0`; empty while it is unknown.
    pub(crate) fn storage_version(&self) -> String {
        let backend = self.backend();
        let get = |key| backend.get(Bucket::Meta, key).ok().flatten();
        let label = get(schema::STORAGE_VERSION);
        schema::detect(label.as_deref(), get(disk::TERM).is_some())
            .map(|version| version.to_string())
            .unwrap_or_default()
    }

    /// Asks raft to begin a read index round, if one is due.
    pub(crate) fn begin_read_round(&self, context: Option<u64>) {
        if let (Some(context), Some(node)) = (context, self.node.get())
            && let Err(error) = node.read_index(context)
        {
            self.reads.give_up(&match error {
                ProposeError::Stopped => Error::Stopped,
                ProposeError::Full | ProposeError::TooLarge(_) => Error::TooManyRequests,
            });
        }
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn render_metrics(&self) -> String {
        let metrics = &self.metrics;
        let raft = self.node().status();
        metrics
            .server
            .proposals_committed
            .set(saturating(raft.committed));
        metrics
            .server
            .proposals_applied
            .set(saturating(self.applied()));
        metrics
            .server
            .proposals_pending
            .set(saturating(self.waiters.len() as u64));
        metrics.server.has_leader.set(i64::from(raft.leader != 0));
        metrics
            .server
            .is_leader
            .set(i64::from(raft.leader == self.id));
        metrics.server.is_learner.set(i64::from(self.is_learner()));
        let backend = self.backend();
        let engine = backend.engine();
        metrics.mvcc.db_size.set(saturating(engine.size()));
        let old_name = &metrics.mvcc.db_size_old_name;
        old_name.set(saturating(engine.size()));
        metrics
            .mvcc
            .db_size_in_use
            .set(saturating(engine.size_in_use()));
        metrics.mvcc.current_revision.set(self.store.rev());
        metrics.mvcc.compact_revision.set(self.store.compact_rev());
        metrics
            .mvcc
            .keys
            .set(saturating(self.store.view().live_keys() as u64));
        self.show_members();
        metrics.render()
    }

    /// Brings the metrics of members and alarms up to date.
    fn show_members(&self) {
        let server = &self.metrics.server;
        let cluster = self.cluster.load();
        let link = |id: u64| [format!("{:x}", self.id), format!("{id:x}")];
        let known = cluster.members().map(|member| link(member.id));
        server.known_peers.show_gone(cluster.removed().map(link));
        server.known_peers.show(known);
        let alarms = self.alarms.load();
        server.alarms.show(alarms.iter().map(|alarm| {
            let kind = alarm.alarm().as_str_name().to_owned();
            [format!("{:x}", alarm.member_id), kind]
        }));
    }

    /// Whether the member has stopped by itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Whether the member stops, by itself or because it is told to.
    pub(crate) fn is_ending(&self) -> bool {
        self.has_failed() || *self.stopping.borrow()
    }

    /// Tells calls that go on by themselves to end.
    pub(crate) fn end_calls(&self) {
        self.stopping.send_replace(true);
        self.outgoing.close();
    }

    /// Waits until the member stops, by itself or because it is told to.
    pub(crate) async fn ended(&self) {
        let mut ending = self.ending.subscribe();
        let mut stopping = self.stopping.subscribe();
        // Neither channel closes before its sender in `self` is gone.
        tokio::select! {
            _ = ending.wait_for(Option::is_some) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Stops the member because it cannot go on safely.
    pub(crate) fn fail(&self, reason: String) {
        self.end(Ending::Unsafe(reason));
    }

    /// Stops the member. Only the first reason counts.
    pub(crate) fn end(&self, ending: Ending) {
        let first = self.ending.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(ending.clone());
            }
            first
        });
        match &ending {
            Ending::Unsafe(reason) => {
                error!(self.logger, "the member stops because it cannot go on safely"; "error" => reason);
            }
            Ending::Removed if first => {
                warn!(self.logger, "server error"; "error" => REMOVED);
                warn!(self.logger, "data-dir used by this member must be removed");
                error!(
                    self.logger,
                    "member {:x} was removed from cluster {:x} for ever: to let it join again, move its \
                        data directory away, run `etcdctl member add` on a member of the cluster, and start it with \
                        --initial-cluster-state=existing",
                    self.id,
                    self.cluster_id
                );
            }
            Ending::Removed => {}
        }
        self.abandon();
    }

    /// A peer says that this member was removed from the cluster.
    ///
    /// The member goes on for a moment: the peer may be faster than this member's own log, in which a client waits for
    /// the removal.
    pub(crate) fn removed(self: Arc<Self>, by: u64) {
        let ends_anyway = match &mut *self.removal.lock() {
            Some(known_by) => {
                if !known_by.insert(by) {
                    return;
                }
                true
            }
            removal => {
                *removal = Some(BTreeSet::from([by]));
                false
            }
        };
        warn!(self.logger, "a peer says that this member was removed from the cluster";
            "local-member-id" => format!("{:x}", self.id), "remote-peer-id" => format!("{by:x}"));
        if ends_anyway {
            return;
        }
        let member = Arc::downgrade(&self);
        let leaving = thread::Builder::new().name("leave".into()).spawn(move || {
            thread::sleep(LEAVING);
            if let Some(member) = member.upgrade() {
                member.end(Ending::Removed);
            }
        });
        if leaving.is_err() {
            self.end(Ending::Removed);
        }
    }

    /// Whether that peer has said that this member, which knows it, was removed.
    pub(crate) fn knows_of_removal(&self, id: u64) -> bool {
        let removal = self.removal.lock();
        removal.as_ref().is_some_and(|by| by.contains(&id))
    }

    /// Lets go of everybody who waits for the log or for events.
    pub(crate) fn abandon(&self) {
        self.leases.close();
        self.waiters.abandon();
        self.reads.abandon();
        self.outgoing.close();
        self.watch.close();
    }
}
