//! Copies of the database for followers.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Histogram;
use retcd_proto::raftpb;
use retcd_raft_node::membership::{Cluster, LoadError};
use retcd_storage::backend::{self, Bucket, CONSISTENT_INDEX, DatabaseCopy, View};
use retcd_storage::clock::Clock;
use slog::{Logger, info, warn};

use crate::config::{GoBytes, GoDuration};
use crate::disk::TERM;
use crate::member::Member;

/// Copies at a time. Each keeps the pages of its moment from being used again, so the database grows while it is read.
/// One more is refused; raft asks again.
const MAX_COPIES: usize = 4;

/// Why no database is sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the member stops")]
    Stopped,
    #[error(
        "{MAX_COPIES} databases are being sent already; this one follows when raft asks for it again"
    )]
    Busy,
    #[error("{0}")]
    Backend(#[from] backend::Error),
    #[error("{0}")]
    Membership(#[from] LoadError),
    #[error("the database does not say up to which entry it goes")]
    NoIndex,
    #[error(
        "the database stands at index {found}, below the snapshot's {wanted}: raft asks again later"
    )]
    Behind { found: u64, wanted: u64 },
}

/// The copies that are being sent.
#[derive(Clone)]
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    logger: Logger,
    /// Seconds of each copy.
    duration: Histogram,
    /// Held for a look at a few numbers.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    /// By number. `None` until there is a copy.
    copies: BTreeMap<u64, Option<Source>>,
}

/// The rest of a copy; nothing when it was ended. Locked while a piece of it is read.
type Source = Arc<Mutex<Option<Box<dyn Read + Send>>>>;

impl Outgoing {
    pub(crate) fn new(clock: Arc<dyn Clock>, logger: Logger, duration: Histogram) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                logger,
                duration,
                state: Mutex::default(),
            }),
        }
    }

    /// Ends all copies, whoever holds them, and begins no others. What they kept of the database is free then.
    pub(crate) fn close(&self) {
        let copies = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            std::mem::take(&mut state.copies)
        };
        for source in copies.into_values().flatten() {
            drop(source.lock().take());
        }
    }

    /// A place among the copies.
    fn begin(&self) -> Result<Ticket, SendError> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(SendError::Stopped);
        }
        if state.copies.len() >= MAX_COPIES {
            return Err(SendError::Busy);
        }
        let number = state.next;
        state.next += 1;
        state.copies.insert(number, None);
        Ok(Ticket {
            shared: self.shared.clone(),
            number,
        })
    }
}

/// The right to one copy.
struct Ticket {
    shared: Arc<Shared>,
    number: u64,
}

impl Ticket {
    /// The copy as it is given away.
    fn copy(self, copy: DatabaseCopy, from: u64, to: u64) -> Result<DatabaseCopy, SendError> {
        let DatabaseCopy { len, bytes } = copy;
        let source = Arc::new(Mutex::new(Some(bytes)));
        match self.shared.state.lock().copies.get_mut(&self.number) {
            Some(place) => *place = Some(source.clone()),
            None => return Err(SendError::Stopped),
        }
        info!(self.shared.logger, "sending merged snapshot";
            "from" => format!("{from:x}"), "to" => format!("{to:x}"),
            "bytes" => len, "size" => %GoBytes(len));
        let bytes = Box::new(Sending {
            began: self.shared.clock.now(),
            ticket: self,
            source,
            members: (from, to),
            len,
            left: len,
        });
        Ok(DatabaseCopy { len, bytes })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.state.lock().copies.remove(&self.number);
    }
}

/// A copy that is being sent. It ends when it is dropped, or with the member.
struct Sending {
    ticket: Ticket,
    source: Source,
    members: (u64, u64),
    len: u64,
    left: u64,
    began: Duration,
}

impl Read for Sending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut source = self.source.lock();
        let Some(bytes) = &mut *source else {
            return Err(io::Error::other("the member stops"));
        };
        let read = bytes.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // Its pages are free before its place is.
        drop(self.source.lock().take());
        let shared = &self.ticket.shared;
        let took = shared.clock.now().saturating_sub(self.began);
        shared.duration.observe(took.as_secs_f64());
        let (from, to) = self.members;
        let fields = slog::o!(
            "from" => format!("{from:x}"), "to" => format!("{to:x}"),
            "bytes" => self.len, "size" => GoBytes(self.len).to_string(),
            "took" => GoDuration(took).to_string());
        if self.left == 0 {
            info!(shared.logger, "sent merged snapshot"; fields);
        } else if shared.state.lock().closed {
            warn!(shared.logger, "canceled sending merged snapshot; server stopping"; fields);
        } else {
            warn!(shared.logger, "did not send all of a merged snapshot"; fields, "bytes-left" => self.left);
        }
    }
}

impl Member {
    /// A follower lacks entries that the log does not have any more: what is to be sent instead of raft's `message`, a
    /// `MsgSnap` of this moment, and the database that goes with it. Waits for the disk; writes go on meanwhile.
    ///
    /// Everything comes from one commit of the database, whose units end with an entry each: what the message says
    /// of index, term and members is just what the copy holds.
    ///
    /// # Errors
    /// When there are too many, or the database cannot be read; raft asks again later.
    pub(crate) fn database_to_send(
        &self,
        mut message: raftpb::Message,
    ) -> Result<(raftpb::Message, DatabaseCopy), SendError> {
        let ticket = self.outgoing.begin()?;
        let backend = self.backend();
        // So that the follower is as near as it can be. The member itself does not wait for it.
        backend.commit()?;
        let (view, copy) = backend.engine().view_and_copy()?;
        let index = number(&*view, CONSISTENT_INDEX)?.ok_or(SendError::NoIndex)?;
        let term = number(&*view, TERM)?.ok_or(SendError::NoIndex)?;
        let asked = message.snapshot.take().unwrap_or_default();
        let wanted = asked.metadata.unwrap_or_default().index();
        if index < wanted {
            return Err(SendError::Behind {
                found: index,
                wanted,
            });
        }
        let learners = self.cluster.load().max_learners();
        let cluster = Cluster::load_view(&*view, self.cluster_id, learners)?;
        message.snapshot = Some(raftpb::Snapshot {
            data: Some(cluster.v2_document().into()),
            metadata: Some(raftpb::SnapshotMetadata {
                // After a restore the stored configuration is still that of the old cluster.
                conf_state: Some(cluster.conf_state()),
                index: Some(index),
                term: Some(term),
            }),
        });
        let copy = ticket.copy(copy, self.id, message.to())?;
        Ok((message, copy))
    }
}

fn number(view: &dyn View, key: &[u8]) -> Result<Option<u64>, backend::Error> {
    let value = view.get(Bucket::Meta, key)?;
    Ok(value.and_then(|value| <[u8; 8]>::try_from(&value[..]).ok().map(u64::from_be_bytes)))
}
