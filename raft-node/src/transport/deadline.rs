//! A connection that its other end may not block for long.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Fails writes that make no progress for a while, as etcd's peer listener does; for the
/// connections of the listener that calls [`Peers::serve`](super::Peers::serve). Reads pass.
#[derive(Debug)]
pub struct WriteDeadline<S> {
    stream: S,
    within: Duration,
    /// Set while a write waits, or a flush.
    deadline: Option<(Call, Pin<Box<Sleep>>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    /// Of a socket it always succeeds, which says nothing.
    Flush,
}

impl<S> WriteDeadline<S> {
    /// `within` for each write.
    pub fn new(stream: S, within: Duration) -> WriteDeadline<S> {
        WriteDeadline {
            stream,
            within,
            deadline: None,
        }
    }

    fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        call: Call,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.deadline
                .take_if(|(waiting, _)| call == Call::Write || *waiting == call);
            return result;
        }
        let within = self.within;
        let (_, deadline) = self
            .deadline
            .get_or_insert_with(|| (call, Box::pin(sleep_until(Instant::now() + within))));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "i/o timeout: the peer does not read",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guard(context, Call::Write, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.guard(context, Call::Write, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.guard(context, Call::Flush, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.guard(context, Call::Flush, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[test]
    fn who_does_not_read_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let within = Duration::from_millis(100);
            let (ours, mut theirs) = duplex(16);
            let mut ours = WriteDeadline::new(ours, within);
            // Slow, but it reads: the deadline is for each write.
            for _ in 0..4 {
                ours.write_all(&[1; 16]).await.unwrap();
                tokio::time::sleep(within / 2).await;
                theirs.read_exact(&mut [0; 16]).await.unwrap();
            }
            ours.write_all(&[1; 16]).await.unwrap();
            let begin = Instant::now();
            let error = ours.write_all(&[1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(begin.elapsed() >= within);
        });
    }
}
