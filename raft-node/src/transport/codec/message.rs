//! The message stream: a length of eight bytes, a message, and again. Also how a snapshot begins.

use prost::Message as _;
use retcd_proto::raftpb;

use super::gather::{Gather, Number};
use super::out::Out;
use super::{DecodeError, Frame, MAX_MESSAGE, decode_message, is_heartbeat};

/// A `MsgHeartbeat` from nobody to nobody, as etcd 3.7 writes it.
const HEARTBEAT: [u8; 2] = [0x08, 0x08];

pub(in super::super) fn encode(message: &raftpb::Message, out: &mut Out) {
    out.put_u64(message.encoded_len() as u64);
    out.put_message(message);
}

pub(super) fn heartbeat(out: &mut Out) {
    out.put_u64(HEARTBEAT.len() as u64);
    out.put_slice(&HEARTBEAT);
}

#[derive(Debug)]
pub(in super::super) struct MessageDecoder {
    limit: usize,
    number: Number,
    body: Gather,
    /// The length, once it is known.
    len: Option<usize>,
}

impl MessageDecoder {
    pub(in super::super) fn new() -> MessageDecoder {
        MessageDecoder::with_limit(MAX_MESSAGE)
    }

    pub(in super::super) fn with_limit(limit: usize) -> MessageDecoder {
        MessageDecoder {
            limit,
            number: Number::default(),
            body: Gather::default(),
            len: None,
        }
    }

    pub(in super::super) fn next(
        &mut self,
        input: &mut &[u8],
    ) -> Result<Option<Frame>, DecodeError> {
        let len = match self.len {
            Some(len) => len,
            None => {
                let Some(len) = self.number.take(input) else {
                    return Ok(None);
                };
                *self.len.insert(checked("a raft message", len, self.limit)?)
            }
        };
        let Some(body) = self.body.take(input, len) else {
            return Ok(None);
        };
        self.len = None;
        let message = decode_message(body)?;
        Ok(Some(if is_heartbeat(&message) {
            Frame::Heartbeat
        } else {
            Frame::Message(message)
        }))
    }
}

/// A length that may be believed.
pub(super) fn checked(what: &'static str, len: u64, limit: usize) -> Result<usize, DecodeError> {
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= limit)
        .ok_or(DecodeError::TooLong { what, len })
}
