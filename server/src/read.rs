//! Linearizable reads: one read index round serves everybody who waits at that moment.
//!
//! Source: raft-log 10.1.

use std::time::Duration;

use parking_lot::Mutex;
use slog::warn;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::GoDuration;
use crate::error::Error;
use crate::member::Member;

/// A read index later than this counts as slow.
const SLOW: Duration = Duration::from_millis(500);

type Reader = oneshot::Sender<Result<(), Error>>;

/// The reads that wait for a read index, and those that wait until it is applied.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Asked for after the round under way began; the next round serves them.
    waiting: Vec<Reader>,
    /// The round under way: its context and whom it serves.
    round: Option<(u64, Vec<Reader>)>,
    /// When it began, or was last said to be late.
    quiet_since: Option<Instant>,
    /// Confirmed at an index that is not applied yet.
    unapplied: Vec<(u64, Vec<Reader>)>,
    /// With so many in either list it is looked who has given up.
    waiting_bound: usize,
    unapplied_bound: usize,
}

impl Reads {
    /// Waits for an index that is known already; `false` if it is applied.
    fn wait_for(&self, index: u64, reader: Reader, applied: impl FnOnce() -> u64) -> bool {
        let mut state = self.state.lock();
        // Read under the lock: the apply thread looks at `unapplied` after it moved the index.
        if applied() >= index {
            return false;
        }
        state.unapplied.push((index, vec![reader]));
        state.forget_unapplied();
        true
    }

    /// Joins the next round. `Some(context)`: the caller must ask raft to begin it.
    fn join(&self, reader: Reader, next_context: impl FnOnce() -> u64) -> Option<u64> {
        let mut state = self.state.lock();
        state.waiting.push(reader);
        state.forget_waiting();
        state.begin(next_context)
    }

    /// Raft confirmed a round. `Some(context)`: the next one must begin.
    pub(crate) fn confirmed(
        &self,
        context: u64,
        index: u64,
        applied: impl FnOnce() -> u64,
        next_context: impl FnOnce() -> u64,
    ) -> Option<u64> {
        let mut state = self.state.lock();
        let readers = match state.round.take() {
            Some((current, readers)) if current == context => readers,
            other => {
                // An answer to a round that was given up.
                state.round = other;
                return None;
            }
        };
        // Read under the lock: the apply thread looks at `unapplied` after it moved the index.
        let ready = applied() >= index;
        if !ready {
            state.unapplied.push((index, readers));
            state.forget_unapplied();
            return state.begin(next_context);
        }
        let next = state.begin(next_context);
        drop(state);
        answer(readers, &Ok(()));
        next
    }

    /// Everything up to `index` is applied and can be read.
    pub(crate) fn applied(&self, index: u64) {
        let mut state = self.state.lock();
        if state.unapplied.is_empty() {
            return;
        }
        let (ready, unapplied) = std::mem::take(&mut state.unapplied)
            .into_iter()
            .partition(|(wanted, _)| *wanted <= index);
        state.unapplied = unapplied;
        drop(state);
        let ready: Vec<(u64, Vec<Reader>)> = ready;
        for (_, readers) in ready {
            answer(readers, &Ok(()));
        }
    }

    /// The round under way will have no answer.
    pub(crate) fn give_up(&self, error: &Error) {
        let round = self.state.lock().round.take();
        if let Some((_, readers)) = round {
            answer(readers, &Err(error.clone()));
        }
    }

    /// Begins a round if readers wait and none is under way.
    pub(crate) fn restart(&self, next_context: impl FnOnce() -> u64) -> Option<u64> {
        self.state.lock().begin(next_context)
    }

    /// The context of the round under way, if it is time to say that it takes long: once for all who wait.
    fn late(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let (context, _) = state.round.as_ref()?;
        let context = *context;
        let now = Instant::now();
        if state.quiet_since.is_none_or(|since| now < since + SLOW) {
            return None;
        }
        state.quiet_since = Some(now);
        Some(context)
    }

    /// Lets go of everybody; they see that the member stopped.
    pub(crate) fn abandon(&self) {
        *self.state.lock() = State::default();
    }
}

/// Below it nothing is looked through.
const FEW: usize = 64;

/// Keeps a list from growing for ever when nobody leads, or nothing is applied: whenever it has doubled, those who
/// have given up are dropped, so that the cost is spread over all that came.
fn forget<T>(list: &mut Vec<T>, bound: &mut usize, keep: impl FnMut(&mut T) -> bool) {
    if list.len() >= FEW.max(*bound) {
        list.retain_mut(keep);
        *bound = 2 * list.len();
    }
}

impl State {
    fn forget_waiting(&mut self) {
        forget(&mut self.waiting, &mut self.waiting_bound, |reader| {
            !reader.is_closed()
        });
    }

    fn forget_unapplied(&mut self) {
        let bound = &mut self.unapplied_bound;
        forget(&mut self.unapplied, bound, |(_, readers)| {
            readers.retain(|reader| !reader.is_closed());
            !readers.is_empty()
        });
    }

    fn begin(&mut self, next_context: impl FnOnce() -> u64) -> Option<u64> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        let context = next_context();
        self.round = Some((context, std::mem::take(&mut self.waiting)));
        self.quiet_since = Some(Instant::now());
        Some(context)
    }
}

fn answer(readers: Vec<Reader>, result: &Result<(), Error>) {
    for reader in readers {
        // A reader may have given up in this very moment.
        drop(reader.send(result.clone()));
    }
}

impl Member {
    /// Waits until everything up to `index` is applied here.
    pub(crate) async fn applied_up_to(&self, index: u64) -> Result<(), Error> {
        if self.applied() >= index {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        if !self.reads.wait_for(index, sender, || self.applied()) {
            return Ok(());
        }
        receiver.await.map_err(|_| Error::Stopped)?
    }

    /// Waits until this member has applied everything that was committed when the call came.
    pub(crate) async fn linearizable(&self) -> Result<(), Error> {
        let known = self.node().lone_read_index();
        if known.is_some_and(|index| self.applied() >= index) {
            return Ok(());
        }
        let started = Instant::now();
        let (sender, receiver) = oneshot::channel();
        match known {
            Some(index) => {
                if !self.reads.wait_for(index, sender, || self.applied()) {
                    return Ok(());
                }
            }
            None => self.begin_read_round(self.reads.join(sender, || self.request_ids.next())),
        }
        let confirmed = self.confirmed(started, receiver).await;
        let server = &self.metrics.server;
        if started.elapsed() > SLOW {
            server.slow_read_indexes.inc();
        }
        let Some(confirmed) = confirmed else {
            server.read_indexes_failed.inc();
            return Err(Error::Timeout);
        };
        confirmed.map_err(|_| Error::Stopped)?
    }

    /// Waits for a reader's turn, and says that it takes long; `None` when it took too long.
    async fn confirmed(
        &self,
        started: Instant,
        mut receiver: oneshot::Receiver<Result<(), Error>>,
    ) -> Option<Result<Result<(), Error>, oneshot::error::RecvError>> {
        let timeout = self.limits.request_timeout;
        let end = started + timeout;
        let mut look = started + SLOW;
        loop {
            if let Ok(answer) = tokio::time::timeout_at(look.min(end), &mut receiver).await {
                return Some(answer);
            }
            if look >= end {
                // etcd's guess at the cause included: tools look for the line.
                warn!(self.logger, "timed out waiting for read index response (local node might have slow network)";
                    "timeout" => %GoDuration(timeout));
                return None;
            }
            look += SLOW;
            if let Some(context) = self.reads.late() {
                warn!(self.logger, "waiting for ReadIndex response took too long, retrying";
                    "sent-request-id" => context, "retry-timeout" => %GoDuration(SLOW));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_round_is_told_of_once_in_half_a_second() {
        let reads = Reads::default();
        assert_eq!(reads.late(), None);
        let (sender, _round) = reader();
        assert_eq!(reads.join(sender, || 1), Some(1));
        assert_eq!(reads.late(), None);
        tokio::time::advance(SLOW).await;
        assert_eq!((reads.late(), reads.late()), (Some(1), None));
        tokio::time::advance(SLOW).await;
        assert_eq!(reads.late(), Some(1));
        // One that was answered is not late, nor one that has just begun.
        let (sender, _waiting) = reader();
        assert_eq!(reads.join(sender, || 9), None);
        assert_eq!(reads.confirmed(1, 5, || 9, || 2), Some(2));
        assert_eq!(reads.late(), None);
        reads.give_up(&Error::LeaderChanged);
        tokio::time::advance(2 * SLOW).await;
        assert_eq!(reads.late(), None);
    }

    fn reader() -> (Reader, oneshot::Receiver<Result<(), Error>>) {
        oneshot::channel()
    }

    #[test]
    fn those_who_gave_up_are_forgotten() {
        let reads = Reads::default();
        // A round that nobody answers, and an index that is never applied.
        let (sender, _round) = reader();
        assert_eq!(reads.join(sender, || 1), Some(1));
        let mut patient = Vec::new();
        for n in 0..100 * FEW {
            for index in [0, 1] {
                let (sender, receiver) = reader();
                match index {
                    0 => assert_eq!(reads.join(sender, || 2), None),
                    _ => assert!(reads.wait_for(9, sender, || 8)),
                }
                if n % FEW == 0 {
                    patient.push(receiver);
                }
            }
            let state = reads.state.lock();
            let most = FEW.max(2 * patient.len());
            assert!(state.waiting.len() <= most && state.unapplied.len() <= most);
        }
        // Nobody who waits is forgotten.
        reads.applied(9);
        assert_eq!(reads.confirmed(1, 5, || 9, || 2), Some(2));
        assert_eq!(reads.confirmed(2, 5, || 9, || 3), None);
        for mut receiver in patient {
            assert!(matches!(receiver.try_recv(), Ok(Ok(()))));
        }
    }
}
