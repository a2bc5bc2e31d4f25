//! What is said when time or room run out: etcd's lines, at etcd's thresholds.

use std::time::Duration;

use prost::Message as _;
use retcd_proto::reply::RangeReply;
use slog::{Logger, warn};

use crate::config::GoDuration;
use crate::error::Error;
use crate::member::Member;
use crate::metrics::process;

/// A sync of the log that takes longer is warned of; etcd's value.
const SYNC: Duration = Duration::from_secs(1);

/// How often open file descriptors are counted; etcd's value.
const DESCRIPTORS: Duration = Duration::from_secs(600);

/// A request that took longer than `--warning-apply-duration`.
pub(crate) struct Slow {
    pub(crate) took: Duration,
    /// Empty, `read-only range ` or `read-only txn `.
    pub(crate) prefix: &'static str,
    pub(crate) request: String,
    pub(crate) response: String,
    /// Empty when it succeeded.
    pub(crate) error: String,
}

impl Member {
    /// Warns of a slow request, and counts it.
    pub(crate) fn warn_of_slow(&self, slow: &Slow) {
        self.metrics.server.slow_apply.inc();
        let Slow {
            took,
            prefix,
            request,
            response,
            error,
        } = slow;
        let took = GoDuration(*took).to_string();
        let expected = GoDuration(self.limits.warning_apply).to_string();
        if error.is_empty() {
            warn!(self.logger, "apply request took too long"; "took" => took, "expected-duration" => expected,
                "prefix" => prefix, "request" => request, "response" => response);
        } else {
            warn!(self.logger, "apply request took too long"; "took" => took, "expected-duration" => expected,
                "prefix" => prefix, "request" => request, "response" => response, "error" => error);
        }
    }

    /// Warns of a read that took longer.
    pub(crate) fn read_took(
        &self,
        took: Duration,
        prefix: &'static str,
        request: String,
        outcome: Result<String, &Error>,
    ) {
        let (response, error) = match outcome {
            Ok(response) => (response, String::new()),
            Err(error) => (String::new(), error.to_string()),
        };
        self.warn_of_slow(&Slow {
            took,
            prefix,
            request,
            response,
            error,
        });
    }
}

/// What a range found, for the line.
pub(crate) fn ranged(reply: &RangeReply) -> String {
    format!(
        "range_response_count:{} size:{}",
        reply.kvs.len(),
        reply.encoded_len()
    )
}

/// Warns of a slow sync of the log.
pub(crate) fn synced(logger: &Logger, took: Duration) {
    if took > SYNC {
        warn!(logger, "slow fdatasync"; "took" => %GoDuration(took), "expected-duration" => %GoDuration(SYNC));
    }
}

/// Warns of a leader whose heartbeat went out late. Two intervals may lie between two of them.
pub(crate) fn heartbeat(logger: &Logger, to: u64, interval: Duration, exceeded: Duration) {
    warn!(logger, "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk";
        "to" => format!("{to:x}"), "heartbeat-interval" => %GoDuration(interval),
        "expected-duration" => %GoDuration(2 * interval), "exceeded-duration" => %GoDuration(exceeded));
}

/// Warns of a disk that has no room for the next segment of the log.
pub(crate) fn no_room(logger: &Logger, error: &str) {
    warn!(logger, "the disk has no room for the next segment of the log; the current one grows on"; "error" => error);
}

/// Warns of file descriptors that run out, at start and every ten minutes.
pub(crate) async fn watch_descriptors(logger: &Logger) {
    loop {
        if let Some((used, limit)) = process::descriptors()
            && used >= limit / 5 * 4
        {
            warn!(logger, "80% of file descriptors are used"; "used" => used, "limit" => limit);
        }
        tokio::time::sleep(DESCRIPTORS).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use slog::Level;

    use super::*;
    use crate::log::Log;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("lines")
                .push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn syncs_and_heartbeats_are_warned_of_in_etcds_words() {
        let lines = Lines::default();
        let log = Log::to_writer(Level::Info, lines.clone());
        synced(log.logger(), SYNC);
        assert_eq!(*lines.0.lock().expect("lines"), "");
        synced(log.logger(), Duration::from_millis(1002));
        let interval = Duration::from_millis(100);
        heartbeat(log.logger(), 0xab, interval, Duration::from_millis(53));
        let text = lines.0.lock().expect("lines").clone();
        for part in [
            r#""msg":"slow fdatasync","took":"1.002s","expected-duration":"1s","explain":"the disk took"#,
            r#"slow disk","to":"ab","heartbeat-interval":"100ms","expected-duration":"200ms","exceeded-duration":"53ms","explain":"#,
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
