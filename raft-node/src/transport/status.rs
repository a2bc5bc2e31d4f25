//! Whether a peer can be reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use slog::{debug, info, warn};

use super::context::Context;
use super::hex;

/// Active once something went through, inactive once something failed.
pub(super) struct Status {
    context: Arc<Context>,
    id: u64,
    /// Since when it is active.
    since: Mutex<Option<Duration>>,
}

impl Status {
    pub(super) fn new(context: Arc<Context>, id: u64) -> Status {
        Status {
            context,
            id,
            since: Mutex::new(None),
        }
    }

    pub(super) fn activate(&self) {
        let mut since = self.since.lock();
        if since.is_some() {
            return;
        }
        *since = Some(self.context.options.clock.now());
        info!(self.context.options.logger, "peer became active"; "peer-id" => hex(self.id));
        self.context.options.observer.active(self.id, true);
    }

    /// `action` on `source` failed.
    pub(super) fn deactivate(&self, source: &str, action: &str, reason: &dyn fmt::Display) {
        let mut since = self.since.lock();
        let logger = &self.context.options.logger;
        let id = hex(self.id);
        let error = || format!("failed to {action} {id} on {source} ({reason})");
        if since.take().is_some() {
            warn!(logger, "peer became inactive (message send to peer failed)";
                "peer-id" => &id, "error" => error());
            self.context.options.observer.active(self.id, false);
        } else {
            debug!(logger, "peer deactivated again"; "peer-id" => &id, "error" => error());
        }
    }

    /// The peer is no more.
    pub(super) fn forget(&self) {
        if self.since.lock().take().is_some() {
            self.context.options.observer.active(self.id, false);
        }
    }

    pub(super) fn since(&self) -> Option<Duration> {
        *self.since.lock()
    }
}
