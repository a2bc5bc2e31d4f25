//! The frames of RFC 6455, from a client and to it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Kinds of frames.
const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// Why a connection ends.
pub(super) mod code {
    pub(in super::super) const NORMAL: u16 = 1000;
    pub(in super::super) const GOING_AWAY: u16 = 1001;
    pub(in super::super) const PROTOCOL: u16 = 1002;
    pub(in super::super) const TOO_LARGE: u16 = 1009;
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A whole message, text or not.
    Data(Vec<u8>),
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    /// The client is done, and says why, or not.
    Close(Option<u16>),
}

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is gone.
    Gone,
    /// What came is against the rules; the code says which.
    Wrong(u16),
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Reads messages.
pub(super) struct Reader<R> {
    stream: R,
    max: usize,
    /// Parts of a message that has begun.
    begun: Option<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// `max`: bytes that a message may have.
    pub(super) fn new(stream: R, max: usize) -> Self {
        Self {
            stream,
            max,
            begun: None,
        }
    }

    /// The next message. Not to be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Message, Fault> {
        loop {
            let [first, second] = self.bytes().await?;
            let (last, kind) = (first & 0x80 != 0, first & 0x0f);
            let known = matches!(kind, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
            let control = kind >= CLOSE;
            // Nothing that was not agreed on; clients mask what they send; control frames are small and whole.
            let length = second & 0x7f;
            let wrong = first & 0x70 != 0 || second & 0x80 == 0 || !known;
            if wrong || (control && (!last || length > 125)) {
                return Err(Fault::Wrong(code::PROTOCOL));
            }
            let length = match length {
                126 => u16::from_be_bytes(self.bytes().await?).into(),
                127 => u64::from_be_bytes(self.bytes().await?),
                short => u64::from(short),
            };
            let before = self.begun.as_ref().map_or(0, Vec::len);
            let fits = usize::try_from(length).is_ok_and(|length| length <= self.max - before);
            if !control && !fits {
                return Err(Fault::Wrong(code::TOO_LARGE));
            }
            let payload = self.payload(length).await?;
            match kind {
                PING => return Ok(Message::Ping(payload)),
                PONG => {}
                CLOSE => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Ok(Message::Close(code));
                }
                _ => {
                    let mut message = match (kind, self.begun.take()) {
                        (CONTINUATION, Some(begun)) => begun,
                        (TEXT | BINARY, None) => Vec::new(),
                        _ => return Err(Fault::Wrong(code::PROTOCOL)),
                    };
                    message.extend_from_slice(&payload);
                    if last {
                        return Ok(Message::Data(message));
                    }
                    self.begun = Some(message);
                }
            }
        }
    }

    async fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Grows with what comes: a length that is said allocates nothing.
    async fn payload(&mut self, length: u64) -> Result<Vec<u8>, Fault> {
        let mask: [u8; 4] = self.bytes().await?;
        let mut payload = Vec::new();
        let read = (&mut self.stream)
            .take(length)
            .read_to_end(&mut payload)
            .await?;
        if read as u64 != length {
            return Err(Fault::Gone);
        }
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(payload)
    }
}

/// Adds a whole frame of a server's.
pub(super) fn push(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | kind);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        push(first & 0x0f, payload, &mut frame);
        frame[0] = first;
        frame[1] |= 0x80;
        let head = frame.len() - payload.len();
        let mask = [7, 200, 0, 99];
        let hidden = payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask);
        let hidden: Vec<u8> = hidden.collect();
        [&frame[..head], &mask, &hidden].concat()
    }

    async fn read(bytes: &[u8], max: usize) -> (Vec<Message>, Option<u16>) {
        let mut reader = Reader::new(bytes, max);
        let mut messages = Vec::new();
        loop {
            match reader.next().await {
                Ok(message) => messages.push(message),
                Err(Fault::Gone) => return (messages, None),
                Err(Fault::Wrong(code)) => return (messages, Some(code)),
            }
        }
    }

    #[tokio::test]
    async fn messages_in_one_frame_and_in_many() {
        let long = vec![b'x'; 70_000];
        let frames = [
            masked(0x81, b"one"),
            masked(0x01, b"tw"),
            masked(0x89, b"ping"),
            masked(0x8a, b"pong"),
            masked(0x00, &[]),
            masked(0x80, b"o"),
            masked(0x82, &long[..300]),
            masked(0x81, &long),
            masked(0x88, &[3, 0xe8, b'b']),
            masked(0x88, &[]),
        ];
        let expected = vec![
            Message::Data(b"one".to_vec()),
            Message::Ping(b"ping".to_vec()),
            Message::Data(b"two".to_vec()),
            Message::Data(long[..300].to_vec()),
            Message::Data(long.clone()),
            Message::Close(Some(1000)),
            Message::Close(None),
        ];
        assert_eq!(read(&frames.concat(), 70_000).await, (expected, None));
    }

    #[tokio::test]
    async fn what_is_against_the_rules_is_refused() {
        let mut bare = Vec::new();
        push(TEXT, b"not masked", &mut bare);
        for (frames, code) in [
            (bare, Some(code::PROTOCOL)),
            (masked(0xc1, b"compressed"), Some(code::PROTOCOL)),
            (masked(0x83, b"unknown"), Some(code::PROTOCOL)),
            (masked(0x80, b"of nothing"), Some(code::PROTOCOL)),
            (
                [masked(0x01, b"a"), masked(0x81, b"b")].concat(),
                Some(code::PROTOCOL),
            ),
            (masked(0x09, b"cut"), Some(code::PROTOCOL)),
            (masked(0x89, &[0; 126]), Some(code::PROTOCOL)),
            (masked(0x81, &[b'x'; 101]), Some(code::TOO_LARGE)),
            (
                [masked(0x01, &[b'x'; 60]), masked(0x80, &[b'x'; 41])].concat(),
                Some(code::TOO_LARGE),
            ),
            (
                vec![0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                Some(code::TOO_LARGE),
            ),
            (vec![0x81, 0xe4, 1, 2, 3, 4, 5], None),
        ] {
            assert_eq!(read(&frames, 100).await, (vec![], code), "{frames:x?}");
        }
    }
}
