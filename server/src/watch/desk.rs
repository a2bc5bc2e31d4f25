//! Waking the streams of one thread together.
//!
//! To wake a task of another thread takes a system call, to wake one of the own some instructions. A put that a
//! hundred streams are to hear of must not cost a hundred calls: the hub rings once for each thread, and there the
//! streams are woken.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

use super::inbox::Inbox;

/// Where inboxes that were filled wait until their streams are woken. There is one for each runtime, which is one
/// thread mostly.
#[derive(Debug)]
pub(super) struct Desk {
    filled: Mutex<Vec<Arc<Inbox>>>,
    bell: Arc<Notify>,
}

/// The desks that are in use.
#[derive(Debug, Default)]
pub(super) struct Desks(Mutex<HashMap<Id, Weak<Desk>>>);

impl Desks {
    /// The one of the runtime that this is called in.
    pub(super) fn here(&self) -> Arc<Desk> {
        let runtime = Handle::current();
        let mut desks = self.0.lock();
        if let Some(desk) = desks.get(&runtime.id()).and_then(Weak::upgrade) {
            return desk;
        }
        let bell = Arc::new(Notify::new());
        let desk = Arc::new(Desk {
            filled: Mutex::default(),
            bell: bell.clone(),
        });
        desks.retain(|_, desk| desk.strong_count() > 0);
        desks.insert(runtime.id(), Arc::downgrade(&desk));
        runtime.spawn(serve(Arc::downgrade(&desk), bell));
        desk
    }
}

impl Desk {
    /// Leaves an inbox that was filled. Its stream is woken after [`Self::ring`].
    pub(super) fn leave(&self, inbox: &Arc<Inbox>) {
        self.filled.lock().push(inbox.clone());
    }

    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.bell.notify_one();
    }
}

/// Wakes whoever's inbox was filled, until nobody uses the desk any more.
async fn serve(desk: Weak<Desk>, bell: Arc<Notify>) {
    while let Some(desk) = desk.upgrade() {
        for inbox in std::mem::take(&mut *desk.filled.lock()) {
            inbox.wake();
        }
        drop(desk);
        bell.notified().await;
    }
}
