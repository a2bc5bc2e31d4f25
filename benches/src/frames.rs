//! Frames of HTTP/2: how they are written, and how they are found in what is received.

use std::io::{self, Read, Write};
use std::net::TcpStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const MAX_WINDOW: u32 = i32::MAX as u32;
/// Window a peer starts with, for the connection and for each stream (RFC 9113, 6.9.2).
pub(crate) const FIRST_WINDOW: u32 = 65_535;
/// Largest frame a peer takes unless it says otherwise (RFC 9113, 6.5.2).
pub(crate) const FIRST_MAX_FRAME: usize = 16_384;
pub(crate) const FRAME_HEADER: usize = 9;
/// A gRPC message is preceded by a flag and its length.
pub(crate) const GRPC_PREFIX: usize = 5;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// Identifiers of settings (RFC 9113, 6.5.2).
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;

/// A frame that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What DATA or HEADERS hold besides padding and a priority.
    pub(crate) fn content(&self) -> &'a [u8] {
        let content = match self.payload.split_first() {
            Some((padding, rest)) if self.has(PADDED) => {
                &rest[..rest.len().saturating_sub(usize::from(*padding))]
            }
            _ => self.payload,
        };
        match self.kind == HEADERS && self.has(PRIORITY) {
            true => content.get(5..).unwrap_or_default(),
            false => content,
        }
    }

    /// The identifiers and values of SETTINGS.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (u16, u32)> + use<'a> {
        self.payload.chunks_exact(6).map(|setting| {
            let value = [setting[2], setting[3], setting[4], setting[5]];
            (
                u16::from_be_bytes([setting[0], setting[1]]),
                u32::from_be_bytes(value),
            )
        })
    }

    /// Of WINDOW_UPDATE or RST_STREAM.
    pub(crate) fn number(&self) -> Option<u32> {
        self.payload.try_into().ok().map(u32::from_be_bytes)
    }

    /// What GOAWAY ends with.
    pub(crate) fn farewell(&self) -> io::Error {
        let reason = String::from_utf8_lossy(self.payload.get(8..).unwrap_or_default());
        io::Error::other(format!("the server says go away: {reason}"))
    }
}

/// What was received and is not handled yet. The default has no room, and stands in for one that is lent out.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    /// `parsed..filled` is not handled yet.
    parsed: usize,
    filled: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; 256 << 10],
            ..Self::default()
        }
    }

    /// Waits for something to come.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when nothing comes any more.
    pub(crate) fn fill(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            if self.parsed == 0 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            self.buffer.copy_within(self.parsed..self.filled, 0);
            self.filled -= self.parsed;
            self.parsed = 0;
        }
        let read = stream.read(&mut self.buffer[self.filled..])?;
        if read == 0 {
            let text = "the server closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.filled += read;
        Ok(())
    }

    /// Hands out the frames that are complete, until one is not taken.
    pub(crate) fn frames(
        &mut self,
        mut handle: impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        while result.is_ok()
            && let Some(frame) = next(&self.buffer[self.parsed..self.filled])
        {
            self.parsed += FRAME_HEADER + frame.payload.len();
            result = handle(frame);
        }
        if self.parsed == self.filled {
            (self.parsed, self.filled) = (0, 0);
        }
        result
    }
}

/// The first frame, if it is complete.
pub(crate) fn next(bytes: &[u8]) -> Option<Frame<'_>> {
    let header = bytes.get(..FRAME_HEADER)?;
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    Some(Frame {
        kind: header[3],
        flags: header[4],
        id: u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & MAX_WINDOW,
        payload: bytes.get(FRAME_HEADER..FRAME_HEADER + length)?,
    })
}

/// Writes what is queued.
pub(crate) fn flush(out: &mut Vec<u8>, stream: &mut TcpStream) -> io::Result<()> {
    if !out.is_empty() {
        stream.write_all(out)?;
        out.clear();
    }
    Ok(())
}

pub(crate) fn push_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, id: u32) {
    // Frames never exceed the peer's limit, which fits 24 bits.
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
}

pub(crate) fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    push_header(out, payload.len(), kind, flags, id);
    out.extend_from_slice(payload);
}

/// Lets the peer send so many bytes more; stream 0: on all together.
pub(crate) fn push_window(out: &mut Vec<u8>, id: u32, bytes: u32) {
    push_frame(out, WINDOW_UPDATE, 0, id, &bytes.to_be_bytes());
}

/// What a client begins with. The peer may send `window` bytes ahead, on one stream as on all.
pub(crate) fn push_greeting(out: &mut Vec<u8>, window: u32) {
    out.extend_from_slice(PREFACE);
    let mut settings = Vec::new();
    for (id, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, window)] {
        settings.extend_from_slice(&id.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    push_frame(out, SETTINGS, 0, 0, &settings);
    if window > FIRST_WINDOW {
        push_window(out, 0, window - FIRST_WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Whatever the pieces in which they come, and also when one is larger than the buffer.
    #[test]
    fn frames_come_out_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let mut near = TcpStream::connect(listener.local_addr().expect("address")).expect("dial");
        let (mut far, _) = listener.accept().expect("accept");
        let mut inbox = Inbox {
            buffer: vec![0; 16],
            ..Inbox::default()
        };
        let lengths = [0, 1, 7, 8, 300, 2];
        let mut bytes = Vec::new();
        for length in lengths {
            push_frame(&mut bytes, DATA, 0, 9, &vec![7; length]);
        }
        let mut pieces = bytes.chunks(5);
        let mut found = Vec::new();
        while found.len() < lengths.len() {
            far.write_all(pieces.next().unwrap_or_default())
                .expect("write");
            inbox.fill(&mut near).expect("bytes");
            let kept = inbox.frames(|frame| {
                assert_eq!((frame.kind, frame.id), (DATA, 9));
                assert!(frame.payload.iter().all(|byte| *byte == 7));
                found.push(frame.payload.len());
                Ok(())
            });
            kept.expect("frames");
        }
        assert_eq!(found, lengths);
        drop(far);
        let gone = inbox.fill(&mut near).expect_err("the end");
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn padding_and_priority_are_no_content() {
        let content = |kind, flags, payload| {
            let frame = Frame {
                kind,
                flags,
                id: 1,
                payload,
            };
            frame.content().to_vec()
        };
        assert_eq!(content(DATA, PADDED, b"\x02k\0\0"), b"k");
        assert_eq!(content(DATA, PRIORITY, b"\x02k\0\0"), b"\x02k\0\0");
        assert_eq!(
            content(HEADERS, PADDED | PRIORITY, b"\x01\0\0\0\0\0\x88\0"),
            b"\x88"
        );
        assert_eq!(content(DATA, PADDED, b"\x09k"), b"");
        assert_eq!(content(HEADERS, PRIORITY, b"\0"), b"");
    }
}
