//! Encoded replies that are sent together.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Before each message: a byte that says that it is not compressed, and its length in four.
const PREFIX: usize = 5;

/// Fields of a `WatchResponse`: number and kind, as they are written before the field.
const HEADER: u8 = 1 << 3 | 2;
const WATCH_ID: u8 = 2 << 3;
const EVENT: u8 = 11 << 3 | 2;

/// Encoded messages one after the other, each with its prefix: the form in which gRPC sends them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: BytesMut,
    messages: usize,
}

impl Batch {
    /// Bytes with all prefixes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Takes all of it out.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The messages with their prefixes, and how many there are.
    pub(crate) fn into_parts(self) -> (BytesMut, usize) {
        (self.bytes, self.messages)
    }

    pub(super) fn push(&mut self, message: &impl Message) {
        self.begin(message.encoded_len());
        message
            .encode(&mut self.bytes)
            .expect("the buffer grows as needed");
    }

    /// Adds a reply with events: header and events come encoded, the latter make up fields of `length` bytes.
    pub(super) fn push_events<'a>(
        &mut self,
        header: &[u8],
        watch_id: i64,
        length: usize,
        events: impl Iterator<Item = &'a Bytes>,
    ) {
        let id = watch_id as u64;
        let mut size = 1 + encoded_len_varint(header.len() as u64) + header.len() + length;
        if id != 0 {
            size += 1 + encoded_len_varint(id);
        }
        self.begin(size);
        let end = self.bytes.len() + size;
        self.bytes.put_u8(HEADER);
        encode_varint(header.len() as u64, &mut self.bytes);
        self.bytes.put_slice(header);
        if id != 0 {
            self.bytes.put_u8(WATCH_ID);
            encode_varint(id, &mut self.bytes);
        }
        for event in events {
            self.bytes.put_u8(EVENT);
            encode_varint(event.len() as u64, &mut self.bytes);
            self.bytes.put_slice(event);
        }
        debug_assert_eq!(self.bytes.len(), end);
    }

    fn begin(&mut self, length: usize) {
        self.messages += 1;
        self.bytes.reserve(PREFIX + length);
        self.bytes.put_u8(0);
        // What a request may hold is far below the limit.
        self.bytes.put_u32(length as u32);
    }

    /// Takes the messages apart.
    pub(crate) fn messages(self) -> impl Iterator<Item = Bytes> {
        let mut bytes = self.bytes.freeze();
        std::iter::from_fn(move || {
            let [_, length @ ..] = *bytes.first_chunk::<PREFIX>()?;
            let mut message = bytes.split_to(PREFIX + u32::from_be_bytes(length) as usize);
            Some(message.split_off(PREFIX))
        })
    }
}

/// Bytes that an event takes within a reply.
pub(super) fn event_len(event: &Bytes) -> usize {
    1 + encoded_len_varint(event.len() as u64) + event.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use retcd_proto::etcdserverpb::ResponseHeader;
    use retcd_proto::reply::WatchReply;

    #[test]
    fn replies_are_what_the_encoder_would_make_of_them() {
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        for (watch_id, sizes) in [
            (0, &[1usize][..]),
            (7, &[0, 300, 70_000]),
            (-1, &[5]),
            (1 << 40, &[]),
        ] {
            let header = ResponseHeader {
                cluster_id: u64::MAX,
                member_id: 3,
                revision: 1 << 35,
                raft_term: 2,
            };
            let events: Vec<Bytes> = sizes.iter().map(|n| vec![9; *n].into()).collect();
            let length = events.iter().map(event_len).sum();
            batch.push_events(&header.encode_to_vec(), watch_id, length, events.iter());
            let reply = WatchReply {
                header: Some(header),
                watch_id,
                events,
                ..WatchReply::default()
            };
            batch.push(&reply);
            expected.extend([reply.clone(), reply]);
        }
        let (bytes, messages) = (batch.len(), batch.messages);
        assert_eq!(messages, expected.len());
        let found: Vec<Bytes> = batch.take().messages().collect();
        assert!(batch.is_empty());
        let lengths = found.iter().map(|message| PREFIX + message.len());
        assert_eq!(lengths.sum::<usize>(), bytes);
        for (message, reply) in found.iter().zip(expected) {
            assert!(*message == reply.encode_to_vec());
        }
    }
}
