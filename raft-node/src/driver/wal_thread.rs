//! The owner of the log file: many writes, one sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::log_writer::{Group, LogWriter, Report, Write};
use crate::Error;
use crate::queue::{self, Receiver, Sender};

/// Payload that one sync carries at most, beyond its first write: others wait for that sync.
const MAX_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// The log file, and whom to tell what is durable.
struct Log {
    writer: LogWriter,
    reports: Sender<Result<Report, Error>>,
}

/// The way to the log file: through a queue to its thread, or directly while that has nothing to do.
#[derive(Clone)]
pub(super) struct Writes {
    log: Arc<Mutex<Log>>,
    queue: Sender<Write>,
    /// Queued and not reported yet.
    queued: Arc<AtomicUsize>,
}

/// Keeps the segments locked that the log still needs: no purge removes them while this exists.
pub(super) struct Locked {
    _log: Arc<Mutex<Log>>,
}

impl Writes {
    /// For whoever purges, and may end after whoever writes.
    pub(super) fn locked(&self) -> Locked {
        Locked {
            _log: self.log.clone(),
        }
    }

    /// Leaves a write to the thread.
    pub(super) fn queue(&self, write: Write) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        // Fails only when the WAL thread ended, and its reason is among the reports.
        let _ = self.queue.send(write);
    }

    /// Makes a write durable before it returns, on the caller's thread, which saves two changes of
    /// threads; but not if it had to overtake others: then it is queued behind them.
    pub(super) fn now(&self, write: Write) {
        if self.queued.load(Ordering::Acquire) == 0 {
            let mut log = self.log.lock();
            if let Err(error) = log.group(write, || None) {
                log.failed(error);
            }
        } else {
            self.queue(write);
        }
    }
}

pub(super) struct WalThread {
    log: Arc<Mutex<Log>>,
    queue: Receiver<Write>,
    queued: Arc<AtomicUsize>,
}

impl WalThread {
    /// The thread's part, and the way to it with room for so many writes.
    pub(super) fn new(
        writer: LogWriter,
        room: usize,
        reports: Sender<Result<Report, Error>>,
    ) -> (WalThread, Writes) {
        let (sender, queue) = queue::bounded(room);
        let log = Arc::new(Mutex::new(Log { writer, reports }));
        let queued = Arc::new(AtomicUsize::new(0));
        let writes = Writes {
            log: log.clone(),
            queue: sender,
            queued: queued.clone(),
        };
        (WalThread { log, queue, queued }, writes)
    }

    /// Ends when the raft thread closes its end, or with the first error.
    pub(super) fn run(self) {
        while let Ok(first) = self.queue.recv() {
            let mut taken = 1;
            let mut log = self.log.lock();
            let done = log.group(first, || {
                let next = self.queue.try_recv().ok();
                taken += usize::from(next.is_some());
                next
            });
            if let Err(error) = done {
                log.failed(error);
                return;
            }
            self.queued.fetch_sub(taken, Ordering::AcqRel);
        }
    }
}

impl Log {
    /// The raft thread may be gone; then it does not need to know.
    fn failed(&self, error: Error) {
        let _ = self.reports.send(Err(error));
    }

    /// Appends `first` and all that `more` has, syncs once, and reports.
    fn group(
        &mut self,
        first: Write,
        mut more: impl FnMut() -> Option<Write>,
    ) -> Result<(), Error> {
        let mut group = Group::default();
        self.writer.append(first, &mut group)?;
        while group.bytes() < MAX_GROUP_BYTES
            && let Some(write) = more()
        {
            self.writer.append(write, &mut group)?;
        }
        for report in self.writer.flush(group)? {
            let _ = self.reports.send(Ok(report));
        }
        Ok(())
    }
}
