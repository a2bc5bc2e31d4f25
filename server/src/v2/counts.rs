//! How many requests this member answered, by kind: `/v2/stats/store`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::request::Write;

/// Requests of one kind.
#[derive(Debug, Default)]
pub(super) struct Count {
    done: AtomicU64,
    refused: AtomicU64,
}

impl Count {
    pub(super) fn add(&self, done: bool) {
        let count = if done { &self.done } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.done), read(&self.refused))
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) get: Count,
    set: Count,
    delete: Count,
    update: Count,
    create: Count,
    swap: Count,
    delete_expected: Count,
    /// Only what this member ended.
    expired: AtomicU64,
    watchers: Arc<AtomicU64>,
}

/// A watcher that is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Watcher(Arc<AtomicU64>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    pub(super) fn of(&self, write: &Write) -> &Count {
        match write {
            Write::Set { .. } => &self.set,
            Write::Create(_) | Write::Append(_) => &self.create,
            Write::Update { .. } => &self.update,
            Write::Swap { .. } => &self.swap,
            Write::Delete { .. } => &self.delete,
            Write::DeleteExpected(_) => &self.delete_expected,
        }
    }

    pub(super) fn add_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn watcher(&self) -> Watcher {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher(self.watchers.clone())
    }

    pub(super) fn shown(&self) -> impl Serialize {
        let (gets_success, gets_fail) = self.get.read();
        let (sets_success, sets_fail) = self.set.read();
        let (delete_success, delete_fail) = self.delete.read();
        let (update_success, update_fail) = self.update.read();
        let (create_success, create_fail) = self.create.read();
        let (compare_and_swap_success, compare_and_swap_fail) = self.swap.read();
        let (compare_and_delete_success, compare_and_delete_fail) = self.delete_expected.read();
        Shown {
            gets_success,
            gets_fail,
            sets_success,
            sets_fail,
            delete_success,
            delete_fail,
            update_success,
            update_fail,
            create_success,
            create_fail,
            compare_and_swap_success,
            compare_and_swap_fail,
            compare_and_delete_success,
            compare_and_delete_fail,
            expire_count: self.expired.load(Ordering::Relaxed),
            watchers: self.watchers.load(Ordering::Relaxed),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    gets_success: u64,
    gets_fail: u64,
    sets_success: u64,
    sets_fail: u64,
    delete_success: u64,
    delete_fail: u64,
    update_success: u64,
    update_fail: u64,
    create_success: u64,
    create_fail: u64,
    compare_and_swap_success: u64,
    compare_and_swap_fail: u64,
    compare_and_delete_success: u64,
    compare_and_delete_fail: u64,
    expire_count: u64,
    watchers: u64,
}
