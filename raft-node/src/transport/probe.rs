//! Asks a peer every few seconds whether it is there, how long that takes, and what time it is.
//! Only for the log and for metrics.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use slog::warn;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::client::{self, ClientError, Connection};
use super::context::Context;
use super::url::PeerUrl;
use super::{hex, rfc3339};

const PATH: &str = "/raft/probing";
/// Shorter than the deadline of a read.
const INTERVAL: Duration = Duration::from_secs(4);
/// Between two looks at what was found, while all is well and while not.
const WELL: Duration = Duration::from_secs(30);
const UNWELL: Duration = Duration::from_secs(5);
/// Clocks may differ by this much.
const MAX_DRIFT: i128 = 1_000_000_000;
const MAX_ANSWER: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Health<'a> {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: std::borrow::Cow<'a, str>,
}

/// The answer to a probe.
pub(super) fn answer(now: Duration) -> String {
    let health = Health {
        ok: true,
        now: rfc3339::format(now).into(),
    };
    // Strings and a boolean always make JSON.
    let mut text = serde_json::to_string(&health).unwrap_or_default();
    text.push('\n');
    text
}

/// The wall clock of whoever answered a probe, since 1970; `None` for what is no answer.
pub fn probe_time(body: &[u8]) -> Option<Duration> {
    let health: Health<'_> = serde_json::from_slice(body).ok()?;
    health.ok.then(|| rfc3339::parse(&health.now))?
}

/// etcd probes each peer in the two ways that it dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One connection for all probes.
    Pipeline,
    /// A new one for each.
    Stream,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Pipeline => "ROUND_TRIPPER_SNAPSHOT",
            Way::Stream => "ROUND_TRIPPER_RAFT_MESSAGE",
        }
    }
}

/// What the probes found.
#[derive(Debug, Default)]
struct Found {
    healthy: bool,
    error: String,
    round_trip: Duration,
    /// Nanoseconds by which our clock is ahead.
    drift: i128,
}

impl Found {
    fn record(&mut self, took: Duration, ours: Duration, theirs: Duration) {
        self.healthy = true;
        self.error.clear();
        self.round_trip = if self.round_trip.is_zero() {
            took
        } else {
            self.round_trip * 7 / 8 + took / 8
        };
        let nanos = |d: Duration| d.as_nanos().cast_signed();
        self.drift = nanos(ours) - nanos(theirs) - nanos(self.round_trip) / 2;
    }
}

/// Probes until it is dropped.
pub(super) async fn run(context: Arc<Context>, peer: u64, urls: Vec<PeerUrl>, way: Way) {
    let mut found = Found::default();
    let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut url = 0;
    let mut connection = None;
    let look = sleep(UNWELL);
    tokio::pin!(look);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let begin = Instant::now();
                let result = timeout(
                    context.options.read_timeout,
                    probe(&context, &urls[url], way, &mut connection),
                )
                .await;
                match result {
                    Ok(Ok(theirs)) => {
                        let ours = context.options.clock.unix();
                        found.record(begin.elapsed(), ours, theirs);
                        continue;
                    }
                    Ok(Err(error)) => found.error = error,
                    Err(_) => found.error = "i/o timeout".to_owned(),
                }
                connection = None;
                found.healthy = false;
                url = (url + 1) % urls.len();
            }
            () = &mut look => {
                report(&context, peer, way, &found);
                let pause = if found.healthy { WELL } else { UNWELL };
                look.as_mut().reset(Instant::now() + pause);
            }
        }
    }
}

async fn probe(
    context: &Context,
    url: &PeerUrl,
    way: Way,
    connection: &mut Option<Connection>,
) -> Result<Duration, String> {
    let kept = match connection.take() {
        Some(mut open) => open.usable().await.then_some(open),
        None => None,
    };
    let mut open = match kept {
        Some(open) => open,
        None => context.connect(url).await.map_err(|e| e.to_string())?,
    };
    let body = client::empty();
    let request = client::build(Method::GET, url, PATH, http::HeaderMap::new(), body);
    let exchange = async {
        let response = open.send(request?).await?;
        client::read_answer(response, MAX_ANSWER).await
    };
    let response = exchange.await.map_err(|e: ClientError| e.to_string())?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        return Err(format!(
            "got unexpected HTTP status code {status} from {url}{PATH}"
        ));
    }
    let theirs = probe_time(response.body()).ok_or_else(|| format!("{url}{PATH} gave no time"))?;
    if way == Way::Pipeline {
        *connection = Some(open);
    }
    Ok(theirs)
}

fn report(context: &Context, peer: u64, way: Way, found: &Found) {
    let options = &context.options;
    let remote = hex(peer);
    if !found.healthy {
        warn!(options.logger, "prober detected unhealthy status";
            "round-tripper-name" => way.name(), "remote-peer-id" => &remote,
            "rtt" => ?found.round_trip, "error" => &found.error);
    }
    if found.drift.abs() > MAX_DRIFT {
        let drift = Duration::from_nanos(u64::try_from(found.drift.abs()).unwrap_or(u64::MAX));
        let sign = if found.drift < 0 { "-" } else { "" };
        warn!(options.logger, "prober found high clock drift";
            "round-tripper-name" => way.name(), "remote-peer-id" => &remote,
            "clock-drift" => format!("{sign}{drift:?}"), "rtt" => ?found.round_trip,
            "error" => &found.error);
    }
    options.observer.round_trip(peer, found.round_trip);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_etcd() {
        let at = Duration::new(951_782_400, 197_516_397);
        let text = answer(at);
        assert_eq!(
            text,
            "{\"OK\":true,\"Now\":\"2000-02-29T00:00:00.197516397Z\"}\n"
        );
        assert_eq!(probe_time(text.as_bytes()), Some(at));
        assert_eq!(
            probe_time(b"{\"OK\":false,\"Now\":\"2000-02-29T00:00:00Z\"}"),
            None
        );
        assert_eq!(probe_time(b"[]"), None);
    }

    #[test]
    fn round_trips_are_smoothed_and_clocks_compared() {
        let mut found = Found::default();
        let at = Duration::from_secs(1000);
        found.record(Duration::from_millis(8), at, at);
        assert_eq!(found.round_trip, Duration::from_millis(8));
        found.record(Duration::from_millis(16), at, at + Duration::from_secs(3));
        assert_eq!(found.round_trip, Duration::from_millis(9));
        assert!(found.drift < -MAX_DRIFT && found.healthy);
    }
}
