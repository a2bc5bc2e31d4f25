//! A connection that can be held up by its reader, and that notes the frames of HTTP/2 in the order in which they came.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const HEAD: usize = 9;
const DATA: u8 = 0;

/// Looks at, and holds up, what a connection reads.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    shut: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Shuts after the first data of this stream.
    until: Option<u32>,
    shut: bool,
    waiting: Option<Waker>,
    /// Bytes of the head of a frame.
    head: Vec<u8>,
    /// Bytes left of the frame.
    left: usize,
    frames: Vec<(u32, usize)>,
}

impl State {
    fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if let [a, b, c, kind, _, d, e, f, g] = self.head[..] {
                self.head.clear();
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
                if kind == DATA && self.left > 0 {
                    self.frames.push((stream, self.left));
                    self.shut |= self.until.take_if(|until| *until == stream).is_some();
                }
            }
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts as soon as the first data of a stream has come: from then on the other side can send no more than
    /// what the buffers of sockets hold.
    pub fn shut_at(&self, stream: u32) {
        self.lock().until = Some(stream);
    }

    /// Waits until it is shut.
    pub async fn is_shut(&self) {
        loop {
            let changed = self.0.shut.notified();
            if self.lock().shut {
                return;
            }
            changed.await;
        }
    }

    /// Lets everything pass.
    pub fn open(&self) {
        let mut state = self.lock();
        state.shut = false;
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    /// Frames with data so far: their streams and sizes, in order.
    #[must_use]
    pub fn frames(&self) -> Vec<(u32, usize)> {
        self.lock().frames.clone()
    }
}

/// A connection behind a gate.
#[derive(Debug)]
pub struct Gated {
    gate: Gate,
    stream: TcpStream,
}

impl Gated {
    /// Puts a new connection behind a gate.
    #[must_use]
    pub const fn new(gate: Gate, stream: TcpStream) -> Self {
        Self { gate, stream }
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.gate.clone();
        let mut state = gate.lock();
        if state.shut {
            state.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        state.saw(&buffer.filled()[before..]);
        if state.shut {
            gate.0.shut.notify_waiters();
        }
        read
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_noted_however_they_are_cut() {
        let frame =
            |kind, stream: u8, n: u8| [&[0, 0, n, kind, 0, 0x80, 0, 0, stream][..], &vec![7; n.into()]].concat();
        let bytes = [frame(4, 0, 12), frame(DATA, 1, 5), frame(DATA, 3, 0), frame(DATA, 3, 200)].concat();
        for size in [1, 2, 9, 10, bytes.len()] {
            let mut state = State { until: Some(3), ..State::default() };
            bytes.chunks(size).for_each(|chunk| state.saw(chunk));
            assert_eq!(state.frames, [(1, 5), (3, 200)]);
            assert!(state.shut && state.left == 0);
        }
    }
}
