//! What the two streams look like.
//!
//! Decoders take bytes as they come, in pieces of any size, and allocate for what has come, not for
//! what a length says. Encoders share the data of large entries instead of copying it.
//!
//! Source: peer-protocol 3.4, 3.5; etcd `server/etcdserver/api/rafthttp/msg_codec.go`,
//! `msgappv2_codec.go`.

mod append;
mod bounds;
mod check;
mod fuzz;
mod gather;
mod message;
mod out;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::raftpb;

pub use self::fuzz::fuzz_streams;

pub(super) use self::append::{AppendDecoder, AppendEncoder};
pub(super) use self::check::{Way, check};
pub(super) use self::message::{MessageDecoder, encode};
pub(super) use self::out::Out;

/// A longer message, or frame of entries, ends the stream.
pub(super) const MAX_MESSAGE: usize = 512 * 1024 * 1024;

/// Bytes that are no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("{what} of {len} bytes; at most {MAX_MESSAGE} are taken")]
    TooLong { what: &'static str, len: u64 },
    #[error("failed to parse type {0} in msgappv2 stream")]
    FrameType(u8),
    #[error("the entries go beyond the last possible index")]
    Index,
    #[error("more than {0} entries; a member sends a megabyte of them at most")]
    Entries(usize),
    #[error("{what} of more than {limit} bytes in a raft message")]
    Part { what: &'static str, limit: usize },
    #[error("a raft message within a raft message; no member sends that")]
    Nested,
    #[error("no protobuf of a raft message or entry: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

/// What a stream brings.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are messages, and each is moved on at once"
)]
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Frame {
    /// The sender is there.
    Heartbeat,
    Message(raftpb::Message),
}

/// A stream's decoder. After an error it is of no use any more.
#[derive(Debug)]
pub(super) enum Decoder {
    Message(MessageDecoder),
    Append(AppendDecoder),
}

impl Decoder {
    /// Takes bytes off the front of `input` up to the end of a frame. Without one the input is
    /// used up.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, DecodeError> {
        match self {
            Decoder::Message(decoder) => decoder.next(input),
            Decoder::Append(decoder) => decoder.next(input),
        }
    }
}

/// A stream's encoder.
#[derive(Debug)]
pub(super) enum Encoder {
    Message,
    Append(AppendEncoder),
}

impl Encoder {
    pub(super) fn encode(&mut self, message: &raftpb::Message, out: &mut Out) {
        match self {
            Encoder::Message => message::encode(message, out),
            Encoder::Append(encoder) => encoder.encode(message, out),
        }
    }

    pub(super) fn heartbeat(&self, out: &mut Out) {
        match self {
            Encoder::Message => message::heartbeat(out),
            Encoder::Append(_) => append::heartbeat(out),
        }
    }
}

/// A message from its bytes. The data of each of several entries becomes bytes of its own: what is
/// kept of one entry, for as long as its key lives perhaps, does not keep all of them.
///
/// # Errors
/// No protobuf, or more than [`bounds`] allow.
pub(super) fn decode_message(bytes: Bytes) -> Result<raftpb::Message, DecodeError> {
    bounds::check(&bytes)?;
    let mut message = raftpb::Message::decode(bytes)?;
    if message.entries.len() > 1 {
        for data in message.entries.iter_mut().filter_map(|e| e.data.as_mut()) {
            *data = Bytes::copy_from_slice(data);
        }
    }
    Ok(message)
}

fn is_heartbeat(m: &raftpb::Message) -> bool {
    m.r#type() == raftpb::MessageType::MsgHeartbeat && m.from() == 0 && m.to() == 0
}
