//! Who waits for which proposal.

use std::collections::HashMap;

use parking_lot::Mutex;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::reply::{DeleteRangeReply, PutReply, TxnReply};
use tokio::sync::oneshot;

use crate::error::Error;

/// What a request through the log answers.
#[derive(Debug)]
pub(crate) enum Reply {
    Put(PutReply),
    DeleteRange(DeleteRangeReply),
    Txn(TxnReply),
    /// Marked; what it removes goes away later. The revision is that of the compaction.
    Compacted(i64),
    Alarm(pb::AlarmResponse),
    /// All members, after a change of the membership.
    Members(Vec<retcd_raft_node::membership::Member>),
    /// A lease of so many seconds, and the revision then.
    LeaseGranted {
        ttl: i64,
        revision: i64,
    },
    /// A lease is gone; the revision then.
    LeaseRevoked {
        revision: i64,
    },
    /// Applied, with nothing to say.
    Done,
}

/// How a proposal ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Applied(Result<Reply, Error>),
    /// It never entered the log, because there was no leader; it may be proposed again.
    Dropped,
}

/// Spreads the lock over this many maps: every write registers and is looked up once.
const SHARDS: usize = 16;

/// The proposals that this member waits for, by request id.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    shards: [Mutex<HashMap<u64, oneshot::Sender<Outcome>>>; SHARDS],
}

impl Waiters {
    /// Waits for `id`, until the guard is dropped.
    pub(crate) fn register(&self, id: u64) -> Waiter<'_> {
        let (sender, receiver) = oneshot::channel();
        self.shard(id).lock().insert(id, sender);
        Waiter {
            waiters: self,
            id,
            receiver,
        }
    }

    /// Tells the one who waits for `id`, if there is one.
    pub(crate) fn fire(&self, id: u64, outcome: Outcome) {
        let waiter = self.shard(id).lock().remove(&id);
        if let Some(sender) = waiter {
            // The one who waited may have given up in this very moment.
            drop(sender.send(outcome));
        }
    }

    /// How many proposals are waited for.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Lets go of everybody; they see that the member stopped.
    pub(crate) fn abandon(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, oneshot::Sender<Outcome>>> {
        &self.shards[id as usize % SHARDS]
    }
}

/// The right to one outcome.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: u64,
    receiver: oneshot::Receiver<Outcome>,
}

impl Waiter<'_> {
    /// # Errors
    /// `Stopped` when the member stops before the proposal is applied.
    pub(crate) async fn outcome(&mut self) -> Result<Outcome, Error> {
        (&mut self.receiver).await.map_err(|_| Error::Stopped)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.shard(self.id).lock().remove(&self.id);
    }
}
