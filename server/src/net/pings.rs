//! Clients that ping too often are told so, and sent away.
//!
//! A ping that comes sooner after the last one than `--grpc-keepalive-min-time`, or than two hours while no call is under
//! way, counts against its client, unless headers or data went out in between. The third such ping ends the connection,
//! with the words by which gRPC's libraries know that they have to ping less often.
//!
//! Source: grpc-go 1.82 `internal/transport/http2_server.go`, `handlePing`; observed of etcd 3.7.1.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Pings that may come too early.
const MAX_STRIKES: u32 = 2;

/// How far apart pings have to be while no call is under way.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// Length 3, type 1, flags 1, stream 4.
pub(super) const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACK: u8 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;
const REASON: &[u8] = b"too_many_pings";

/// What is remembered of one connection, whose task alone uses it.
pub(super) struct Pings {
    /// `--grpc-keepalive-min-time`.
    least: Duration,
    calls: AtomicUsize,
    /// Headers or data went out since the last ping.
    answered: AtomicBool,
    too_many: AtomicBool,
    last_stream: AtomicU32,
    early: Mutex<Early>,
}

#[derive(Default)]
struct Early {
    last: Option<Instant>,
    strikes: u32,
}

impl Pings {
    pub(super) fn new(least: Duration) -> Arc<Self> {
        Arc::new(Self {
            least,
            calls: AtomicUsize::new(0),
            answered: AtomicBool::new(false),
            too_many: AtomicBool::new(false),
            last_stream: AtomicU32::new(0),
            early: Mutex::default(),
        })
    }

    /// Whether the client has to go.
    pub(super) fn too_many(&self) -> bool {
        self.too_many.load(Relaxed)
    }

    /// A frame of the client begins.
    pub(super) fn received(&self, header: &[u8; FRAME_HEADER]) {
        let [.., kind, flags, a, b, c, d] = *header;
        match kind {
            PING if flags & ACK == 0 => self.ping(Instant::now()),
            HEADERS => {
                let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
                self.last_stream.fetch_max(stream, Relaxed);
            }
            _ => {}
        }
    }

    fn ping(&self, now: Instant) {
        let mut early = self.early.lock();
        let last = early.last.replace(now);
        if self.answered.swap(false, Relaxed) {
            early.strikes = 0;
            return;
        }
        let least = match self.calls.load(Relaxed) {
            0 => IDLE,
            _ => self.least,
        };
        if last.is_some_and(|last| now.duration_since(last) < least) {
            early.strikes += 1;
        }
        if early.strikes > MAX_STRIKES {
            self.too_many.store(true, Relaxed);
        }
    }

    /// The last frame that the client gets.
    pub(super) fn go_away(&self) -> Vec<u8> {
        let length = (8 + REASON.len()) as u8;
        let mut frame = vec![0, 0, length, GO_AWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.last_stream.load(Relaxed).to_be_bytes());
        frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend_from_slice(REASON);
        frame
    }

    /// A call begins; it lasts until the guard is dropped.
    pub(super) fn call(self: &Arc<Self>) -> UnderWay {
        self.calls.fetch_add(1, Relaxed);
        UnderWay(Arc::clone(self))
    }
}

/// A call under way.
pub(super) struct UnderWay(Arc<Pings>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer, with which its call ends.
pub(super) struct Counted<B> {
    body: B,
    _call: Option<UnderWay>,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, call: Option<UnderWay>) -> Self {
        Self { body, _call: call }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Follows the frames that go out to the client.
pub(super) struct Frames {
    pings: Arc<Pings>,
    header: [u8; FRAME_HEADER],
    have: usize,
    /// Of the payload.
    left: usize,
}

impl Frames {
    pub(super) fn new(pings: Arc<Pings>) -> Self {
        Self {
            pings,
            header: [0; FRAME_HEADER],
            have: 0,
            left: 0,
        }
    }

    /// Takes note of bytes that go out.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left);
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = bytes.len().min(FRAME_HEADER - self.have);
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == FRAME_HEADER {
                let [a, b, c, kind, ..] = self.header;
                self.have = 0;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                if matches!(kind, DATA | HEADERS) {
                    self.pings.answered.store(true, Relaxed);
                }
            }
        }
    }

    /// Whether the last frame is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pings(least: Duration, apart: Duration, count: usize) -> Arc<Pings> {
        let pings = Pings::new(least);
        let begin = Instant::now();
        let _call = (least < IDLE).then(|| pings.call());
        for n in 0..count {
            pings.ping(begin + apart * n as u32);
        }
        pings
    }

    #[test]
    fn the_third_early_ping_is_too_many() {
        assert!(!pings(MINUTE, MINUTE / 2, 3).too_many());
        assert!(pings(MINUTE, MINUTE / 2, 4).too_many());
        assert!(!pings(MINUTE, MINUTE, 100).too_many());
        // Without a call, two hours count.
        assert!(pings(IDLE, MINUTE, 4).too_many());
        assert!(!pings(IDLE, IDLE, 100).too_many());
    }

    #[test]
    fn what_goes_out_makes_good_for_early_pings() {
        let pings = Pings::new(MINUTE);
        let mut frames = Frames::new(pings.clone());
        let now = Instant::now();
        for _ in 0..10 {
            for _ in 0..3 {
                pings.ping(now);
            }
            // Five bytes of data, in pieces.
            for byte in [0, 0, 5, DATA, 0, 0, 0, 0, 1, 1, 2, 3, 4] {
                frames.pass(&[byte]);
                assert!(!frames.is_complete());
            }
            frames.pass(&[5]);
            assert!(frames.is_complete());
        }
        assert!(!pings.too_many());
        // Settings and an answer to a ping do not.
        frames.pass(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        frames.pass(&[0, 0, 8, PING, ACK, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for _ in 0..4 {
            pings.ping(now);
        }
        assert!(pings.too_many());
    }

    #[test]
    fn the_last_word_names_the_last_stream() {
        let pings = Pings::new(MINUTE);
        pings.received(&[0, 0, 1, HEADERS, 4, 0, 0, 0, 7]);
        pings.received(&[0, 0, 1, HEADERS, 4, 0, 0, 0, 5]);
        pings.received(&[0, 0, 8, PING, ACK, 0, 0, 0, 0]);
        assert_eq!(
            pings.go_away(),
            b"\0\0\x16\x07\0\0\0\0\0\0\0\0\x07\0\0\0\x0btoo_many_pings"
        );
    }
}
