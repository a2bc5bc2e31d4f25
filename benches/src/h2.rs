//! The client's side of HTTP/2 and gRPC, as little of it as a load generator needs.
//!
//! A connection calls one method. Its header block is sent once in full and by index from then on, as other clients
//! do. Of replies' header blocks only the status is read. Windows towards us are as large as HTTP/2 allows.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::frames::{
    self, FIRST_MAX_FRAME, FIRST_WINDOW, Frame, GRPC_PREFIX, Inbox, MAX_WINDOW, push_frame,
    push_header, push_window,
};
use crate::status::Statuses;

/// Received bytes after which the connection's window is filled up again.
const REFILL: u32 = 1 << 29;

/// What a call ended with.
#[derive(Debug)]
pub struct Done<T> {
    /// As handed to [`Connection::send`].
    pub tag: T,
    /// When it was handed over.
    pub sent: Instant,
    /// The reply's message (empty unless kept); `Err`: why the call failed.
    pub reply: Result<Vec<u8>, String>,
}

/// One HTTP/2 connection, blocking.
#[derive(Debug)]
pub struct Connection<T> {
    stream: TcpStream,
    headers: Headers,
    keep_replies: bool,
    /// To be written.
    out: Vec<u8>,
    inbox: Inbox,
    statuses: Statuses,
    next_id: u32,
    calls: HashMap<u32, Call<T>>,
    send_window: i64,
    received: u32,
    max_streams: usize,
    max_frame: usize,
    stream_window: usize,
}

#[derive(Debug)]
struct Call<T> {
    tag: T,
    sent: Instant,
    bytes: usize,
    reply: Vec<u8>,
}

/// The request's header block: literals that the peer is to remember, then indices of what it remembered.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) first: Vec<u8>,
    pub(crate) again: Vec<u8>,
}

impl Headers {
    pub(crate) fn new(authority: &str, path: &str) -> Self {
        // RFC 7541: static entries 3 (:method POST) and 6 (:scheme http); then literals with indexing whose names are
        // static entries 4 (:path), 1 (:authority), 31 (content-type) or new.
        let mut first = vec![0x83, 0x86];
        for (name, value) in [
            (&[0x44][..], path),
            (&[0x41], authority),
            (&[0x5f], "application/grpc"),
            (b"\x40\x02te", "trailers"),
        ] {
            first.extend_from_slice(name);
            // Lengths below 127 take one byte; authority and path are shorter.
            first.push(value.len().min(126) as u8);
            first.extend_from_slice(&value.as_bytes()[..value.len().min(126)]);
        }
        // The newest entry is 62, so the path, remembered first of four, is 65.
        Self {
            first,
            again: vec![0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62],
        }
    }
}

impl<T> Connection<T> {
    /// Connects and says hello. `path` is the method, e.g. `/etcdserverpb.KV/Put`; `keep_replies`: hand out messages.
    pub fn open(address: SocketAddr, path: &str, keep_replies: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            headers: Headers::new(&address.to_string(), path),
            keep_replies,
            out: Vec::with_capacity(256 << 10),
            inbox: Inbox::new(),
            statuses: Statuses::default(),
            next_id: 1,
            calls: HashMap::new(),
            send_window: FIRST_WINDOW.into(),
            received: 0,
            max_streams: usize::MAX,
            max_frame: FIRST_MAX_FRAME,
            stream_window: FIRST_WINDOW as usize,
        };
        frames::push_greeting(&mut connection.out, MAX_WINDOW);
        Ok(connection)
    }

    /// How long [`Connection::receive`] waits for something to come.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Calls without a reply so far.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Whether the peer takes another call with a message of about `size` bytes now.
    pub fn ready(&self, size: usize) -> bool {
        self.calls.len() < self.max_streams && self.send_window >= (size + GRPC_PREFIX) as i64
    }

    /// Queues a call. Written by the next [`Connection::receive`] or [`Connection::flush`].
    ///
    /// # Errors
    /// If the message is larger than the window of a stream: this client does not wait in the middle of a message.
    pub fn send(&mut self, tag: T, message: &[u8]) -> io::Result<()> {
        let length = message.len() + GRPC_PREFIX;
        if length > self.stream_window {
            let text = format!(
                "a request of {} bytes exceeds the server's stream window",
                message.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let id = self.next_id;
        self.next_id += 2;
        let block = if id == 1 {
            &self.headers.first
        } else {
            &self.headers.again
        };
        push_frame(
            &mut self.out,
            frames::HEADERS,
            frames::END_HEADERS,
            id,
            block,
        );
        let mut prefix = [0; GRPC_PREFIX];
        prefix[1..].copy_from_slice(&(message.len() as u32).to_be_bytes());
        let first = message.len().min(self.max_frame - GRPC_PREFIX);
        let (head, mut rest) = message.split_at(first);
        push_header(
            &mut self.out,
            GRPC_PREFIX + first,
            frames::DATA,
            end_if(rest.is_empty()),
            id,
        );
        self.out.extend_from_slice(&prefix);
        self.out.extend_from_slice(head);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(self.max_frame));
            push_frame(
                &mut self.out,
                frames::DATA,
                end_if(tail.is_empty()),
                id,
                head,
            );
            rest = tail;
        }
        self.send_window -= length as i64;
        self.calls.insert(
            id,
            Call {
                tag,
                sent: Instant::now(),
                bytes: 0,
                reply: Vec::new(),
            },
        );
        Ok(())
    }

    /// Writes what is queued.
    pub fn flush(&mut self) -> io::Result<()> {
        frames::flush(&mut self.out, &mut self.stream)
    }

    /// As [`Connection::receive`], without waiting. The kernel's timeouts are as coarse as its ticks, 4 ms and more.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there.
    pub fn poll(&mut self, done: impl FnMut(Done<T>)) -> io::Result<()> {
        self.flush()?;
        self.stream.set_nonblocking(true)?;
        let received = self.receive(done);
        self.stream.set_nonblocking(false)?;
        received
    }

    /// Writes what is queued, waits for anything from the peer, and hands every call that ended to `done`.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` after the time set; anything else means that the connection is gone.
    pub fn receive(&mut self, mut done: impl FnMut(Done<T>)) -> io::Result<()> {
        self.flush()?;
        self.inbox.fill(&mut self.stream)?;
        // Lent out while its frames are handled.
        let mut inbox = std::mem::take(&mut self.inbox);
        let result = inbox.frames(|frame| self.handle(frame, &mut done));
        self.inbox = inbox;
        result
    }

    fn handle(&mut self, frame: Frame<'_>, done: &mut impl FnMut(Done<T>)) -> io::Result<()> {
        match frame.kind {
            frames::DATA => {
                self.received += frame.payload.len() as u32;
                if self.received > REFILL {
                    push_window(&mut self.out, 0, std::mem::take(&mut self.received));
                }
                if let Some(call) = self.calls.get_mut(&frame.id) {
                    let data = frame.content();
                    call.bytes += data.len();
                    if self.keep_replies {
                        call.reply.extend_from_slice(data);
                    }
                    if frame.has(frames::END_STREAM) {
                        self.finish(frame.id, Some("the reply has no status".into()), done);
                    }
                }
            }
            frames::HEADERS => {
                let status = self.statuses.read(frame.content());
                if frame.has(frames::END_STREAM) {
                    self.finish(frame.id, status.failure(), done);
                }
            }
            frames::RST_STREAM => {
                let reason = frame.number().unwrap_or_default();
                let failure = format!("the server reset the stream, for reason {reason}");
                self.finish(frame.id, Some(failure), done);
            }
            frames::SETTINGS if !frame.has(frames::ACK) => {
                for (id, value) in frame.settings() {
                    match id {
                        frames::MAX_CONCURRENT_STREAMS => self.max_streams = value as usize,
                        frames::INITIAL_WINDOW_SIZE => self.stream_window = value as usize,
                        frames::MAX_FRAME_SIZE => self.max_frame = value as usize,
                        _ => {}
                    }
                }
                push_frame(&mut self.out, frames::SETTINGS, frames::ACK, 0, &[]);
            }
            frames::PING if !frame.has(frames::ACK) => {
                push_frame(&mut self.out, frames::PING, frames::ACK, 0, frame.payload);
            }
            frames::GOAWAY => return Err(frame.farewell()),
            frames::WINDOW_UPDATE if frame.id == 0 => {
                let more = frame.number().unwrap_or_default() & MAX_WINDOW;
                self.send_window += i64::from(more);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, id: u32, failure: Option<String>, done: &mut impl FnMut(Done<T>)) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let Call {
            tag,
            sent,
            bytes,
            mut reply,
        } = call;
        let reply = match failure {
            Some(failure) => Err(failure),
            // A server that fails says so, or sends no message.
            None if bytes < GRPC_PREFIX => Err("the server answered without a message".into()),
            None => {
                reply.drain(..GRPC_PREFIX.min(reply.len()));
                Ok(reply)
            }
        };
        done(Done { tag, sent, reply });
    }
}

fn end_if(last: bool) -> u8 {
    if last { frames::END_STREAM } else { 0 }
}

/// One call on a connection of its own; the reply's message.
///
/// # Errors
/// If the server cannot be reached, refuses, or does not answer within `timeout`.
pub fn call(
    address: SocketAddr,
    path: &str,
    message: &[u8],
    timeout: Duration,
) -> io::Result<Vec<u8>> {
    let mut connection = Connection::open(address, path, true)?;
    connection.set_timeout(timeout)?;
    connection.send((), message)?;
    let mut reply = None;
    while reply.is_none() {
        connection.receive(|done| reply = Some(done.reply))?;
    }
    match reply {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(failure)) => Err(io::Error::other(format!("{path}: {failure}"))),
        None => Err(io::Error::other(format!("{path}: no reply"))),
    }
}

/// A server for tests: answers every call with an empty message.
#[cfg(test)]
pub(crate) mod stub {
    use super::*;
    use crate::frames::{FRAME_HEADER, PREFACE};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Serves until `calls` were answered on each connection, then closes it.
    pub(crate) fn serve(calls: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accept");
                // The client may go first; that ends the connection, not the test.
                std::thread::spawn(move || drop(answer(stream, calls)));
            }
        });
        address
    }

    fn answer(mut stream: TcpStream, calls: usize) -> io::Result<()> {
        stream.read_exact(&mut [0; PREFACE.len()])?;
        let mut out = Vec::new();
        push_frame(&mut out, frames::SETTINGS, 0, 0, &[]);
        let mut answered = 0;
        while answered < calls {
            stream.write_all(&out)?;
            out.clear();
            let mut header = [0; FRAME_HEADER];
            stream.read_exact(&mut header)?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            stream.read_exact(&mut vec![0; length as usize])?;
            if header[3] == frames::DATA {
                push_frame(&mut out, frames::WINDOW_UPDATE, 0, 0, &length.to_be_bytes());
            }
            if (header[3], header[4]) == (frames::DATA, frames::END_STREAM) {
                push_frame(&mut out, frames::HEADERS, frames::END_HEADERS, id, &[0x88]);
                push_frame(&mut out, frames::DATA, 0, id, &[0; GRPC_PREFIX]);
                let end = frames::END_HEADERS | frames::END_STREAM;
                push_frame(&mut out, frames::HEADERS, end, id, &[0x88]);
                answered += 1;
            }
        }
        stream.write_all(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{FRAME_HEADER, PREFACE};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn read_exact(stream: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).expect("read");
        bytes
    }

    fn read_frame(stream: &mut TcpStream) -> (u8, u8, u32, Vec<u8>) {
        let header = read_exact(stream, FRAME_HEADER);
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        (header[3], header[4], id, read_exact(stream, length))
    }

    /// A peer that answers stream 1 with a message in two frames and stream 3 with an error only.
    #[test]
    fn replies_and_failures_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            assert_eq!(read_exact(&mut stream, PREFACE.len()), PREFACE);
            let kinds: Vec<_> = (0..2).map(|_| read_frame(&mut stream).0).collect();
            assert_eq!(kinds, [frames::SETTINGS, frames::WINDOW_UPDATE]);
            let mut blocks = Vec::new();
            for id in [1, 3] {
                let (kind, flags, stream_id, block) = read_frame(&mut stream);
                assert_eq!(
                    (kind, flags, stream_id),
                    (frames::HEADERS, frames::END_HEADERS, id)
                );
                blocks.push(block.len());
                let (kind, flags, stream_id, data) = read_frame(&mut stream);
                assert_eq!(
                    (kind, flags, stream_id),
                    (frames::DATA, frames::END_STREAM, id)
                );
                assert_eq!(data, b"\0\0\0\0\x05hello");
            }
            assert!(blocks[0] > 40 && blocks[1] == 6, "{blocks:?}");
            let mut out = Vec::new();
            push_frame(&mut out, frames::SETTINGS, 0, 0, &[]);
            push_frame(&mut out, frames::PING, 0, 0, b"12345678");
            push_frame(&mut out, frames::HEADERS, frames::END_HEADERS, 1, &[0x88]);
            push_frame(&mut out, frames::DATA, 0, 1, b"\0\0\0\0\x02o");
            push_frame(&mut out, frames::DATA, frames::PADDED, 1, b"\x02k\0\0");
            push_frame(
                &mut out,
                frames::HEADERS,
                frames::END_HEADERS | frames::END_STREAM,
                1,
                &[0x88],
            );
            // :status 200, grpc-status 5, grpc-message "no".
            let failed = b"\x88\x00\x0bgrpc-status\x015\x00\x0cgrpc-message\x02no";
            push_frame(
                &mut out,
                frames::HEADERS,
                frames::END_HEADERS | frames::END_STREAM,
                3,
                failed,
            );
            // In two writes that cut a frame.
            stream.write_all(&out[..40]).expect("write");
            stream.flush().expect("flush");
            assert_eq!(read_frame(&mut stream).0, frames::SETTINGS);
            stream.write_all(&out[40..]).expect("write");
            stream
        });
        let mut connection = Connection::open(address, "/p.S/M", true).expect("open");
        connection
            .set_timeout(Duration::from_secs(10))
            .expect("timeout");
        connection.send('a', b"hello").expect("send");
        connection.send('b', b"hello").expect("send");
        let mut replies = Vec::new();
        while connection.in_flight() > 0 {
            connection
                .receive(|done| replies.push((done.tag, done.reply)))
                .expect("receive");
        }
        let failure = "NotFound (grpc-status 5): no".to_owned();
        assert_eq!(replies, [('a', Ok(b"ok".to_vec())), ('b', Err(failure))]);
        drop(peer.join().expect("peer"));
        let gone = std::iter::repeat_with(|| connection.receive(|_| ())).find_map(Result::err);
        assert!(gone.is_some());
    }

    #[test]
    fn large_messages_are_cut_into_frames() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let mut connection = Connection::open(address, "/p.S/M", false).expect("open");
        connection.out.clear();
        connection.send((), &[7; 40_000]).expect("send");
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(frame) = frames::next(&connection.out[at..]) {
            at += FRAME_HEADER + frame.payload.len();
            found.push((frame.kind, frame.flags, frame.payload.len()));
        }
        assert_eq!(
            found[1..],
            [(0, 0, 16_384), (0, 0, 16_384), (0, 1, 40_005 - 2 * 16_384)]
        );
        assert_eq!(connection.send_window, 65_535 - 40_005);
        assert!(!connection.ready(30_000) && connection.ready(20_000));
        assert!(connection.send((), &[0; 70_000]).is_err());
    }
}
