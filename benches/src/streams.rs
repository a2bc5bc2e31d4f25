//! Calls that stay open, many of them on one connection: streams of requests and replies, as watches are.
//!
//! Like [`crate::h2`], as little of HTTP/2 as a load generator needs. Messages of replies are handed out, not decoded.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::frames::{
    self, FIRST_WINDOW, Frame, GRPC_PREFIX, Inbox, MAX_WINDOW, push_frame, push_window,
};
use crate::h2::Headers;
use crate::status::Statuses;

/// One HTTP/2 connection, blocking. Calls are numbered from 0 in the order in which they are opened.
#[derive(Debug)]
pub struct Streams {
    stream: TcpStream,
    headers: Headers,
    /// What may be under way to us, for each call and for all together.
    window: u32,
    /// To be written.
    out: Vec<u8>,
    inbox: Inbox,
    statuses: Statuses,
    calls: Vec<Call>,
    received: u32,
    send_window: i64,
    /// Window that the peer gives to a new call.
    call_window: i64,
}

#[derive(Debug)]
struct Call {
    /// The beginning of a message that is not complete.
    pending: Vec<u8>,
    received: u32,
    send_window: i64,
}

impl Streams {
    /// Connects and says hello. `path`: the method of all calls; `window`: bytes that the peer may send ahead, for one
    /// call as for all.
    ///
    /// # Errors
    /// The peer cannot be reached.
    pub fn open(address: SocketAddr, path: &str, window: u32) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let window = window.clamp(FIRST_WINDOW, MAX_WINDOW);
        let mut out = Vec::new();
        frames::push_greeting(&mut out, window);
        Ok(Self {
            stream,
            headers: Headers::new(&address.to_string(), path),
            window,
            out,
            inbox: Inbox::new(),
            statuses: Statuses::default(),
            calls: Vec::new(),
            received: 0,
            send_window: FIRST_WINDOW.into(),
            call_window: FIRST_WINDOW.into(),
        })
    }

    /// How long [`Streams::receive`] waits for something to come.
    ///
    /// # Errors
    /// The system refuses.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Opens a call; returns its number.
    pub fn call(&mut self) -> usize {
        let call = self.calls.len();
        let block = match call {
            0 => &self.headers.first,
            _ => &self.headers.again,
        };
        push_frame(
            &mut self.out,
            frames::HEADERS,
            frames::END_HEADERS,
            id(call),
            block,
        );
        self.calls.push(Call {
            pending: Vec::new(),
            received: 0,
            send_window: self.call_window,
        });
        call
    }

    /// Whether the peer takes a message of `size` bytes now.
    pub fn ready(&self, call: usize, size: usize) -> bool {
        let length = (size + GRPC_PREFIX) as i64;
        self.send_window.min(self.calls[call].send_window) >= length
    }

    /// Queues a message, which has to fit one frame. Written by the next [`Streams::receive`].
    pub fn send(&mut self, call: usize, message: &[u8]) {
        let mut data = vec![0; GRPC_PREFIX];
        data[1..].copy_from_slice(&(message.len() as u32).to_be_bytes());
        data.extend_from_slice(message);
        push_frame(&mut self.out, frames::DATA, 0, id(call), &data);
        self.send_window -= data.len() as i64;
        self.calls[call].send_window -= data.len() as i64;
    }

    /// Writes what is queued, waits for anything from the peer, and hands out the messages that are complete.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` after the time set; anything else means that the connection, or one of its calls, has
    /// ended.
    pub fn receive(&mut self, mut message: impl FnMut(usize, &[u8])) -> io::Result<()> {
        frames::flush(&mut self.out, &mut self.stream)?;
        self.inbox.fill(&mut self.stream)?;
        // Lent out while its frames are handled.
        let mut inbox = std::mem::take(&mut self.inbox);
        let result = inbox.frames(|frame| self.handle(frame, &mut message));
        self.inbox = inbox;
        result
    }

    fn handle(
        &mut self,
        frame: Frame<'_>,
        message: &mut impl FnMut(usize, &[u8]),
    ) -> io::Result<()> {
        let number = (frame.id as usize).wrapping_sub(1) / 2;
        match frame.kind {
            frames::DATA => {
                self.refill(number, frame.id, frame.payload.len() as u32);
                if let Some(call) = self.calls.get_mut(number) {
                    call.take(frame.content(), |bytes| message(number, bytes));
                }
            }
            frames::HEADERS => {
                let failure = self.statuses.read(frame.content()).failure();
                if frame.has(frames::END_STREAM) {
                    let failure = failure.unwrap_or_else(|| "without an error".into());
                    return Err(io::Error::other(format!(
                        "the server ended a call: {failure}"
                    )));
                }
            }
            frames::RST_STREAM => {
                let reason = frame.number().unwrap_or_default();
                return Err(io::Error::other(format!(
                    "the server reset a call, for reason {reason}"
                )));
            }
            frames::SETTINGS if !frame.has(frames::ACK) => {
                for (id, value) in frame.settings() {
                    if id == frames::INITIAL_WINDOW_SIZE {
                        let window = i64::from(value);
                        let more = window - std::mem::replace(&mut self.call_window, window);
                        for call in &mut self.calls {
                            call.send_window += more;
                        }
                    }
                }
                push_frame(&mut self.out, frames::SETTINGS, frames::ACK, 0, &[]);
            }
            frames::PING if !frame.has(frames::ACK) => {
                push_frame(&mut self.out, frames::PING, frames::ACK, 0, frame.payload);
            }
            frames::GOAWAY => return Err(frame.farewell()),
            frames::WINDOW_UPDATE => {
                let more = i64::from(frame.number().unwrap_or_default() & MAX_WINDOW);
                match (frame.id, self.calls.get_mut(number)) {
                    (0, _) => self.send_window += more,
                    (_, Some(call)) => call.send_window += more,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives the peer room again once it has used half of it.
    fn refill(&mut self, number: usize, id: u32, bytes: u32) {
        self.received += bytes;
        if self.received > self.window / 2 {
            push_window(&mut self.out, 0, std::mem::take(&mut self.received));
        }
        let Some(call) = self.calls.get_mut(number) else {
            return;
        };
        call.received += bytes;
        if call.received > self.window / 2 {
            push_window(&mut self.out, id, std::mem::take(&mut call.received));
        }
    }
}

impl Call {
    /// Hands out the messages that `data` completes.
    fn take(&mut self, mut data: &[u8], mut message: impl FnMut(&[u8])) {
        while !self.pending.is_empty() {
            let whole = message_len(&self.pending).unwrap_or(GRPC_PREFIX);
            let missing = whole.saturating_sub(self.pending.len());
            let (head, tail) = data.split_at(missing.min(data.len()));
            self.pending.extend_from_slice(head);
            data = tail;
            match message_len(&self.pending) {
                Some(length) if length == self.pending.len() => {
                    message(&self.pending[GRPC_PREFIX..]);
                    self.pending.clear();
                }
                _ if data.is_empty() => return,
                _ => {}
            }
        }
        while let Some(length) = message_len(data)
            && let Some((head, tail)) = data.split_at_checked(length)
        {
            message(&head[GRPC_PREFIX..]);
            data = tail;
        }
        self.pending.extend_from_slice(data);
    }
}

/// Bytes of the first message with its prefix, once that is there.
fn message_len(bytes: &[u8]) -> Option<usize> {
    let [_, a, b, c, d] = *bytes.first_chunk::<GRPC_PREFIX>()?;
    Some(GRPC_PREFIX + u32::from_be_bytes([a, b, c, d]) as usize)
}

fn id(call: usize) -> u32 {
    call as u32 * 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{FRAME_HEADER, PREFACE};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Messages that are cut anywhere come out whole.
    #[test]
    fn messages_are_put_together() {
        let mut bytes = Vec::new();
        for message in [&b"one"[..], b"", b"three", &[7; 300]] {
            bytes.push(0);
            bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        for step in 1..bytes.len() {
            let mut call = Call {
                pending: Vec::new(),
                received: 0,
                send_window: 0,
            };
            let mut found = Vec::new();
            for piece in bytes.chunks(step) {
                call.take(piece, |message| found.push(message.to_vec()));
            }
            let expected = [b"one".to_vec(), Vec::new(), b"three".to_vec(), vec![7; 300]];
            assert_eq!(found, expected, "in pieces of {step}");
        }
    }

    /// Two calls of one connection, windows in both directions, and the end of a call.
    #[test]
    fn calls_share_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut greeting = [0; PREFACE.len()];
            stream.read_exact(&mut greeting).expect("preface");
            let mut read = || {
                let mut header = [0; FRAME_HEADER];
                stream.read_exact(&mut header).expect("a header");
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                let mut payload = vec![0; length as usize];
                stream.read_exact(&mut payload).expect("a payload");
                (header[3], header[8], payload)
            };
            assert_eq!(read().0, frames::SETTINGS);
            for expected in [1, 3] {
                let (kind, id, _) = read();
                assert_eq!((kind, id), (frames::HEADERS, expected));
            }
            let data = (frames::DATA, 3, b"\0\0\0\0\x02hi".to_vec());
            assert_eq!(read(), data);
            let mut out = Vec::new();
            push_frame(&mut out, frames::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
            push_window(&mut out, 1, 1);
            let reply = [0; 40_000];
            push_frame(&mut out, frames::DATA, 0, 3, b"\0\0\0\x9c\x40");
            push_frame(&mut out, frames::DATA, 0, 3, &reply);
            stream.write_all(&out).expect("write");
            let mut read = || {
                let mut bytes = [0; FRAME_HEADER + 4];
                stream.read_exact(&mut bytes).expect("a frame");
                (bytes[3], bytes[8])
            };
            let mut ack = [0; FRAME_HEADER];
            assert_eq!(read(), (frames::SETTINGS, 0));
            // Four bytes of what follows have been read along.
            stream.read_exact(&mut ack).expect("windows");
            let mut end = Vec::new();
            let block = b"\x88\x00\x0bgrpc-status\x0214\x00\x0cgrpc-message\x04busy";
            push_frame(&mut end, frames::HEADERS, 5, 1, block);
            stream.write_all(&end).expect("write");
            stream
        });
        let mut streams = Streams::open(address, "/p.S/M", 0).expect("open");
        let timeout = Duration::from_secs(10);
        streams.set_timeout(timeout).expect("timeout");
        assert_eq!((streams.call(), streams.call()), (0, 1));
        assert!(streams.ready(0, 65_530) && !streams.ready(0, 65_531));
        streams.send(1, b"hi");
        let mut replies = Vec::new();
        while replies.is_empty() {
            let receive = |call, message: &[u8]| replies.push((call, message.len()));
            streams.receive(receive).expect("receive");
        }
        assert_eq!(replies, [(1, 40_000)]);
        assert_eq!(streams.calls[0].send_window, 65_537);
        assert_eq!(streams.calls[1].send_window, 65_536 - 7);
        let ended = std::iter::repeat_with(|| streams.receive(|_, _| ())).find_map(Result::err);
        let text = "the server ended a call: Unavailable (grpc-status 14): busy";
        assert_eq!(ended.expect("an end").to_string(), text);
        drop(peer.join().expect("peer"));
    }
}
