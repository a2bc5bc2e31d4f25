//! Metrics of watchers.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::build::Builder;

/// Watchers, their streams and their events.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// Streams.
    pub(crate) streams: IntGauge,
    /// Watchers.
    pub(crate) watchers: IntGauge,
    /// Those of them that read history.
    pub(crate) slow: IntGauge,
    /// Events that wait for their stream.
    pub(crate) pending: IntGauge,
    /// Watchers that could not keep up; not exported, etcd has no name for it.
    pub(crate) fell: IntCounter,
    /// Watchers that came up from history; not exported either.
    pub(crate) joined: IntCounter,
    /// Events sent.
    pub(crate) events: IntCounter,
    /// Seconds to make a reply to a request.
    pub(crate) control: Histogram,
    /// Seconds to make a reply with events.
    pub(crate) reply: Histogram,
    /// The same by event.
    pub(crate) reply_by_event: Histogram,
    /// Seconds to ask for periodic progress.
    pub(crate) progress: Histogram,
}

impl Builder<'_> {
    pub(super) fn watch(&self) -> Result<Watch, prometheus::Error> {
        const MILLIS: (f64, f64, usize) = (0.001, 2.0, 14);
        Ok(Watch {
            streams: self.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.")?,
            watchers: self.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.")?,
            slow: self.gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that read history.",
            )?,
            pending: self.gauge(
                "etcd_debugging_mvcc_pending_events_total",
                "Events that wait for their stream.",
            )?,
            fell: IntCounter::new("fell", "Watchers that could not keep up.")?,
            joined: IntCounter::new("joined", "Watchers that came up.")?,
            events: self.counter(
                "etcd_debugging_mvcc_events_total",
                "Events sent to watchers.",
            )?,
            control: self.histogram(
                "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
                "Replies to requests of watch streams.",
                MILLIS,
            )?,
            reply: self.histogram(
                "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
                "Replies with events.",
                MILLIS,
            )?,
            reply_by_event: self.histogram(
                "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
                "Replies with events, by event.",
                MILLIS,
            )?,
            progress: self.histogram(
                "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
                "Periodic progress of a watch stream.",
                MILLIS,
            )?,
        })
    }
}
