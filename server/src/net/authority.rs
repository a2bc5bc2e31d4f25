//! Makes the `:authority` of old Go clients readable for the h2 crate.
//!
//! etcdctl 3.4 sends the whole URL of its endpoint, `http://127.0.0.1:2379`. No Go server minds;
//! h2 resets the stream before anybody sees it. Nothing here reads the authority of a gRPC call,
//! so the characters h2 dislikes are replaced on their way in.
//!
//! A replaced value keeps its length, encoded and decoded: frames stay as they are, and so does
//! the account that both sides keep of the compression table, which from then on holds the
//! replaced value. RFC 9113 section 4.1 (frames), RFC 7541 sections 5 and 6 (fields).

mod block;
mod huffman;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use tokio::io::{AsyncRead, ReadBuf};

use super::pings::{FRAME_HEADER, Pings};

const HEADERS: u8 = 1;

/// The largest frame we let clients send; h2 refuses longer ones.
const MAX_FRAME: usize = 16 << 10;

/// What an HTTP/2 client sends, from the preface on, with authorities that h2 takes.
///
/// Bytes pass in the buffer they were read into. Only a HEADERS frame whose end has not arrived
/// is kept back until it has.
pub(super) struct Authorities<R> {
    reader: R,
    at: At,
    /// Bytes kept back: first `passed` ones that may go, then the start of a HEADERS payload.
    held: Vec<u8>,
    passed: usize,
    /// Told of each frame. Once a client pinged too often, nothing of what it sends passes any more.
    pings: Option<Arc<Pings>>,
}

/// Where in the stream the next byte belongs.
#[derive(Clone, Copy)]
enum At {
    /// A frame header, of which so much is here.
    Header([u8; FRAME_HEADER], usize),
    /// The payload of a HEADERS frame.
    Headers { flags: u8, length: usize },
    /// Bytes that do not concern us.
    Other(usize),
}

impl<R> Authorities<R> {
    /// `preface`: how many bytes come before the first frame.
    pub(super) fn new(reader: R, preface: usize, pings: Option<Arc<Pings>>) -> Self {
        Self {
            reader,
            at: At::Other(preface),
            held: Vec::new(),
            passed: 0,
            pings,
        }
    }

    /// Takes note of bytes that arrived; returns how many of them may pass now.
    fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &mut bytes[done..];
            match &mut self.at {
                At::Other(left) => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    done += taken;
                    if *left == 0 {
                        self.at = At::Header([0; FRAME_HEADER], 0);
                    }
                }
                At::Header(header, have) => {
                    let taken = rest.len().min(FRAME_HEADER - *have);
                    header[*have..*have + taken].copy_from_slice(&rest[..taken]);
                    *have += taken;
                    done += taken;
                    if *have == FRAME_HEADER {
                        if let Some(pings) = &self.pings {
                            pings.received(header);
                        }
                        self.at = payload(*header);
                    }
                }
                At::Headers { flags, length } => {
                    let Some(frame) = rest.get_mut(..*length) else {
                        break;
                    };
                    block::repair(*flags, frame);
                    done += *length;
                    self.at = At::Header([0; FRAME_HEADER], 0);
                }
            }
        }
        done
    }

    /// Sorts what was read into `buf` behind `before`.
    fn take_in(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if self.held.is_empty() {
            let passed = before + self.scan(&mut buf.filled_mut()[before..]);
            self.held.extend_from_slice(&buf.filled()[passed..]);
            buf.set_filled(passed);
        } else {
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
            let mut held = mem::take(&mut self.held);
            self.passed = self.scan(&mut held);
            self.held = held;
        }
    }

    /// Hands out what no longer has to be kept back.
    fn release(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.passed.min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.passed -= count;
    }
}

/// What follows a frame header.
fn payload(header: [u8; FRAME_HEADER]) -> At {
    let [a, b, c, kind, flags, ..] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    match (kind, length) {
        (_, 0) => At::Header([0; FRAME_HEADER], 0),
        (HEADERS, 1..=MAX_FRAME) => At::Headers { flags, length },
        _ => At::Other(length),
    }
}

impl<R: AsyncRead + Unpin> Authorities<R> {
    /// Reads what the client still sends, so that closing the connection does not take back what it was told.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.reader).poll_read(context, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Authorities<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pings.as_ref().is_some_and(|pings| pings.too_many()) {
            return this.poll_end(context);
        }
        let before = buf.filled().len();
        while buf.remaining() > 0 && buf.filled().len() == before {
            if this.passed > 0 {
                this.release(buf);
                break;
            }
            ready!(Pin::new(&mut this.reader).poll_read(context, buf))?;
            if buf.filled().len() > before {
                this.take_in(buf, before);
            } else if this.held.is_empty() {
                break;
            } else {
                // The client left in the middle of a frame.
                this.passed = this.held.len();
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
