//! Channels between the node's threads, whose receivers sleep as soon as there is nothing to do.
//!
//! Those of crossbeam spin and yield first, which pays where the next item is due within
//! microseconds. Here it is due when a disk or a peer has answered, and every thread that yields
//! meanwhile takes turns from the ones it waits for: it cost a member ten changes of threads a put.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use parking_lot::Mutex;

/// Wakes one thread, which may wait for several channels.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// Somebody sleeps, or is about to.
    waits: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

impl Bell {
    /// To be called after there is something new to see.
    pub(crate) fn ring(&self) {
        // Either this sees that somebody waits, or that one sees what there is.
        fence(Ordering::SeqCst);
        if self.waits.load(Ordering::Relaxed)
            && self.waits.swap(false, Ordering::AcqRel)
            && let Some(sleeper) = &*self.sleeper.lock()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until somebody rings, for `patience` at most (`None`: for ever), unless `ready`. May
    /// return without a reason.
    pub(crate) fn wait(&self, patience: Option<Duration>, ready: impl FnOnce() -> bool) {
        let me = thread::current();
        {
            let mut sleeper = self.sleeper.lock();
            if sleeper.as_ref().is_none_or(|known| known.id() != me.id()) {
                *sleeper = Some(me);
            }
        }
        self.waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !ready() {
            match patience {
                Some(patience) => thread::park_timeout(patience),
                None => thread::park(),
            }
        }
        self.waits.store(false, Ordering::Relaxed);
    }
}

/// Rings when it is dropped.
#[derive(Debug, Clone)]
struct RingAtEnd(Arc<Bell>);

impl Drop for RingAtEnd {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// The sending end of a channel.
#[derive(Debug)]
pub struct Sender<T> {
    inner: crossbeam_channel::Sender<T>,
    taken: Arc<OnceLock<Arc<Bell>>>,
    /// Behind `inner`: fields are dropped in order, and the receiver has to see that it is gone.
    bell: RingAtEnd,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            taken: self.taken.clone(),
            bell: self.bell.clone(),
        }
    }
}

/// The receiving end of a channel; for one thread at a time.
#[derive(Debug)]
pub struct Receiver<T> {
    inner: crossbeam_channel::Receiver<T>,
    bell: Arc<Bell>,
    /// Behind `inner`, as in [`Sender`].
    taken: Taken,
}

/// Whom to tell that there is room.
#[derive(Debug)]
struct Taken(Arc<OnceLock<Arc<Bell>>>);

impl Taken {
    fn ring(&self) {
        if let Some(bell) = self.0.get() {
            bell.ring();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ring();
    }
}

/// A channel with room for so many items.
pub fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    with_bell(crossbeam_channel::bounded(room), Arc::default())
}

/// A channel that rings `bell` for its receiver.
pub(crate) fn with_bell<T>(
    (sender, receiver): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
    bell: Arc<Bell>,
) -> (Sender<T>, Receiver<T>) {
    let taken = Arc::new(OnceLock::new());
    let sender = Sender {
        inner: sender,
        taken: taken.clone(),
        bell: RingAtEnd(bell.clone()),
    };
    let receiver = Receiver {
        inner: receiver,
        bell,
        taken: Taken(taken),
    };
    (sender, receiver)
}

impl<T> Sender<T> {
    /// Waits for room.
    ///
    /// # Errors
    /// Nobody receives any more.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.inner.send(item)?;
        self.bell.0.ring();
        Ok(())
    }

    /// Never blocks.
    ///
    /// # Errors
    /// There is no room; nobody receives any more.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.inner.try_send(item)?;
        self.bell.0.ring();
        Ok(())
    }

    /// Rings `bell` whenever there is room again, or nobody receives any more. Only the first call
    /// counts.
    pub(crate) fn ring_when_taken(&self, bell: Arc<Bell>) {
        self.taken.get_or_init(|| bell);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.inner.is_full()
    }
}

impl<T> Receiver<T> {
    /// Never blocks.
    ///
    /// # Errors
    /// There is nothing; nothing will come any more.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let item = self.inner.try_recv()?;
        self.taken.ring();
        Ok(item)
    }

    /// Waits for the next item.
    ///
    /// # Errors
    /// Nothing will come any more.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.wait(None).map_err(|_| RecvError)
    }

    /// Waits for the next item, until then at most.
    ///
    /// # Errors
    /// It did not come in time; nothing will come any more.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.wait(Some(deadline))
    }

    /// Waits for the next item, for so long at most.
    ///
    /// # Errors
    /// It did not come in time; nothing will come any more.
    pub fn recv_timeout(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        self.wait(now().checked_add(patience))
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let patience = deadline.map(|end| end.saturating_duration_since(now()));
            if patience.is_some_and(|patience| patience.is_zero()) {
                return Err(RecvTimeoutError::Timeout);
            }
            let mut found = Err(TryRecvError::Empty);
            self.bell.wait(patience, || {
                found = self.try_recv();
                !matches!(found, Err(TryRecvError::Empty))
            });
            match found {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it only bounds a sleep; what a run does must not depend on it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_receiver_wakes_for_an_item_and_for_the_end() {
        let (sender, receiver) = bounded(4);
        let other = sender.clone();
        let thread = thread::spawn(move || {
            let mut items = Vec::new();
            while let Ok(item) = receiver.recv() {
                items.push(item);
            }
            items
        });
        for item in 0..1000 {
            match item % 2 {
                0 => sender.send(item).unwrap(),
                _ => other.send(item).unwrap(),
            }
        }
        drop(sender);
        drop(other);
        assert_eq!(thread.join().unwrap(), Vec::from_iter(0..1000));
    }

    #[test]
    fn a_receiver_waits_no_longer_than_it_was_told() {
        let (sender, receiver) = bounded::<()>(1);
        let patience = Duration::from_millis(20);
        let begin = now();
        assert_eq!(
            receiver.recv_timeout(patience),
            Err(RecvTimeoutError::Timeout)
        );
        assert!(begin.elapsed() >= patience);
        sender.try_send(()).unwrap();
        assert!(matches!(sender.try_send(()), Err(TrySendError::Full(()))));
        assert_eq!(receiver.recv_deadline(begin), Ok(()));
        drop(sender);
        assert_eq!(
            receiver.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    /// Every turn needs both threads to wake, many of them while the other is about to sleep.
    #[test]
    fn no_ring_is_lost() {
        let bell = Arc::new(Bell::default());
        let (ping, pings) = bounded(1);
        let (pong, pongs) = with_bell(crossbeam_channel::unbounded(), bell.clone());
        let thread = thread::spawn(move || {
            while let Ok(turn) = pings.recv() {
                pong.send(turn).unwrap();
            }
        });
        for turn in 0..20_000 {
            ping.send(turn).unwrap();
            let begin = now();
            while pongs.is_empty() {
                assert!(begin.elapsed() < LONG, "turn {turn}");
                bell.wait(Some(LONG), || !pongs.is_empty());
            }
            assert_eq!(pongs.try_recv(), Ok(turn));
        }
        drop(ping);
        thread.join().unwrap();
    }

    #[test]
    fn a_sender_hears_of_room_and_of_the_end() {
        let bell = Arc::new(Bell::default());
        let (sender, receiver) = bounded(1);
        sender.ring_when_taken(bell.clone());
        let thread = thread::spawn(move || {
            for turn in 0..1000 {
                assert_eq!(receiver.recv(), Ok(turn));
            }
        });
        for turn in 0..1000 {
            let begin = now();
            while sender.is_full() {
                assert!(begin.elapsed() < LONG, "turn {turn}");
                bell.wait(Some(LONG), || !sender.is_full());
            }
            sender.try_send(turn).unwrap();
        }
        thread.join().unwrap();
        assert!(matches!(
            sender.try_send(0),
            Err(TrySendError::Disconnected(0))
        ));
    }
}
