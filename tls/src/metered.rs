//! A socket from which only so much may be read until the handshake is over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;

/// The first message of a client; those of today have less than 2 KiB.
pub(crate) const HELLO_BYTES: usize = 16 << 10;

/// The rest of a handshake; most of it is the chain of certificates.
pub(crate) const HANDSHAKE_BYTES: usize = 128 << 10;

/// See [`HELLO_BYTES`] and [`HANDSHAKE_BYTES`].
#[derive(Debug)]
pub(crate) struct Metered {
    stream: Socket,
    left: Option<usize>,
}

/// The text of the error that ends a connection which sends too much.
pub(crate) const TOO_MUCH: &str = "more bytes than a TLS handshake may have";

impl Metered {
    pub(crate) fn new(stream: Socket, bytes: usize) -> Self {
        Self {
            stream,
            left: Some(bytes),
        }
    }

    /// Sets how much may still be read; `None`: as much as comes.
    pub(crate) fn allow(&mut self, bytes: Option<usize>) {
        self.left = bytes;
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buf))?;
        let read = buf.filled().len() - before;
        if let Some(left) = &mut self.left {
            match left.checked_sub(read) {
                Some(rest) => *left = rest,
                None => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, TOO_MUCH)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
