//! Few writes for many frames.
//!
//! The h2 crate writes and flushes after every frame of some size: a hundred streams that have something to say at the
//! same moment cost a hundred writes. Here they are held back until the task of their connection has had its turn, and
//! then go out together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::pings::Frames;

/// What is held back at most; more is written at once.
const ROOM: usize = 64 << 10;
/// What an idle connection keeps of it.
const IDLE: usize = 4 << 10;

/// A writer that holds back what is written to it.
pub(super) struct Corked<W>(Arc<Mutex<Bottle<W>>>);

/// Lets out what the [`Corked`] writer holds back.
pub(super) struct Cork<W>(Arc<Mutex<Bottle<W>>>);

/// Both ends belong to one task, so that the lock around it is always free.
struct Bottle<W> {
    writer: W,
    held: BytesMut,
    /// Something was written since the last flush.
    written: bool,
    /// Told of all that is written.
    frames: Option<Frames>,
    /// The last word was said: what comes after it goes nowhere.
    closed: bool,
}

/// A writer, and how to let go of what was written to it: whoever polls the user of the former has to poll the latter
/// afterwards.
pub(super) fn cork<W>(writer: W, frames: Option<Frames>) -> (Corked<W>, Cork<W>) {
    let bottle = Arc::new(Mutex::new(Bottle {
        writer,
        held: BytesMut::new(),
        written: false,
        frames,
        closed: false,
    }));
    (Corked(bottle.clone()), Cork(bottle))
}

impl<W: AsyncWrite + Unpin> Cork<W> {
    /// Writes what was held back. While that is not possible, the task is woken as soon as it is.
    pub(super) fn poll_pull(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bottle = &mut *self.0.lock();
        if !bottle.written {
            return Poll::Ready(Ok(()));
        }
        ready!(bottle.poll_empty(context))?;
        if bottle.held.capacity() > IDLE {
            bottle.held = BytesMut::new();
        }
        ready!(Pin::new(&mut bottle.writer).poll_flush(context))?;
        bottle.written = false;
        Poll::Ready(Ok(()))
    }

    /// Whether no frame is half written.
    pub(super) fn is_between_frames(&self) -> bool {
        self.0
            .lock()
            .frames
            .as_ref()
            .is_none_or(Frames::is_complete)
    }

    /// Adds the last bytes there will be.
    pub(super) fn say_last(&self, bytes: &[u8]) {
        let bottle = &mut *self.0.lock();
        bottle.held.extend_from_slice(bytes);
        bottle.written = true;
        bottle.closed = true;
    }

    /// Writes what was held back, and that there will be no more.
    pub(super) fn poll_close(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pull(context))?;
        Pin::new(&mut self.0.lock().writer).poll_shutdown(context)
    }
}

impl<W: AsyncWrite + Unpin> Bottle<W> {
    /// Takes note of bytes that were written.
    fn pass(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.pass(bytes);
        }
    }

    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(context, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        self.held.clear();
        Poll::Ready(Ok(()))
    }

    /// Whether there is room for `length` bytes; if not, nothing is held any more.
    fn poll_room(&mut self, length: usize, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.written = true;
        if self.held.len() + length <= ROOM {
            return Poll::Ready(Ok(true));
        }
        ready!(self.poll_empty(context))?;
        Poll::Ready(Ok(length <= ROOM))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Corked<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bottle = &mut *self.0.lock();
        if bottle.closed {
            return Poll::Ready(Ok(bytes.len()));
        }
        if ready!(bottle.poll_room(bytes.len(), context))? {
            bottle.held.extend_from_slice(bytes);
            bottle.pass(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut bottle.writer).poll_write(context, bytes))?;
        bottle.pass(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bottle = &mut *self.0.lock();
        let length = parts.iter().map(|part| part.len()).sum();
        if bottle.closed {
            return Poll::Ready(Ok(length));
        }
        if ready!(bottle.poll_room(length, context))? {
            for part in parts {
                bottle.held.extend_from_slice(part);
                bottle.pass(part);
            }
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut bottle.writer).poll_write_vectored(context, parts))?;
        let mut left = written;
        for part in parts {
            let taken = left.min(part.len());
            bottle.pass(&part[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }

    /// Small pieces are joined anyway, large ones should come without being copied.
    fn is_write_vectored(&self) -> bool {
        self.0.lock().writer.is_write_vectored()
    }

    /// It is the cork that lets go.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bottle = &mut *self.0.lock();
        ready!(bottle.poll_empty(context))?;
        Pin::new(&mut bottle.writer).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Takes everything, and counts the calls.
    #[derive(Default)]
    struct Counted {
        taken: Vec<u8>,
        writes: usize,
        closed: bool,
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes += 1;
            self.taken.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.closed = true;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn many_writes_become_one() {
        let (mut corked, cork) = cork(Counted::default(), None);
        let mut expected = Vec::new();
        for n in 0..100u8 {
            let bytes = [n; 309];
            let parts = [IoSlice::new(&bytes[..9]), IoSlice::new(&bytes[9..])];
            let write = |context: &mut Context<'_>| {
                Pin::new(&mut corked).poll_write_vectored(context, &parts)
            };
            let written = poll_fn(write);
            assert_eq!(written.await.expect("written"), 309);
            corked.flush().await.expect("flush");
            expected.extend_from_slice(&[n; 309]);
        }
        assert_eq!(cork.0.lock().writer.writes, 0);
        poll_fn(|context| cork.poll_pull(context))
            .await
            .expect("pulled");
        assert_eq!(cork.0.lock().writer.writes, 1);
        assert!(cork.0.lock().writer.taken == expected);
        corked.write_all(b"end").await.expect("written");
        corked.shutdown().await.expect("shut down");
        let bottle = cork.0.lock();
        assert!(bottle.writer.closed && bottle.writer.taken.ends_with(b"\x63end"));
    }

    /// What does not fit keeps its place behind what is held, and a slow reader holds the writer up.
    #[tokio::test]
    async fn order_and_bounds_are_kept() {
        let (mut reader, writer) = tokio::io::duplex(1000);
        let (mut corked, cork) = cork(writer, None);
        let sent: Vec<u8> = (0..500_000u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        let expected = sent.clone();
        let write = async move {
            let mut rest = &sent[..];
            for step in (1..).map(|n| n * 7919 % 100_000) {
                let (head, tail) = rest.split_at(step.min(rest.len()));
                corked.write_all(head).await.expect("written");
                assert!(corked.0.lock().held.len() <= ROOM);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            poll_fn(|context| cork.poll_pull(context))
                .await
                .expect("pulled");
            assert!(cork.0.lock().held.capacity() <= IDLE);
        };
        let read = async move {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).await.expect("read");
            got
        };
        let ((), got) = tokio::join!(write, read);
        assert!(got == expected);
    }
}
