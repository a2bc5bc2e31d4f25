//! Bytes on their way out.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use retcd_proto::raftpb;

/// Data that is at least this long is shared, not copied: a write of its own costs less then.
const SHARED: usize = 16 * 1024;
/// Space made at once.
const BUFFER: usize = 16 * 1024;
/// `Entry.Data`, the last field of an entry.
const DATA: u32 = 4;

/// Pieces, in their order.
#[derive(Debug, Default)]
pub(in super::super) struct Out {
    pieces: VecDeque<Bytes>,
    buffer: BytesMut,
    /// In the pieces.
    len: usize,
}

impl Out {
    pub(in super::super) fn len(&self) -> usize {
        self.len + self.buffer.len()
    }

    /// The next piece.
    pub(in super::super) fn pop(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.cut();
        }
        let piece = self.pieces.pop_front()?;
        self.len -= piece.len();
        Some(piece)
    }

    pub(super) fn put_slice(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.buffer.put_slice(bytes);
    }

    pub(super) fn put_u64(&mut self, n: u64) {
        self.room(8);
        self.buffer.put_u64(n);
    }

    pub(super) fn put_message(&mut self, message: &raftpb::Message) {
        self.room(message.encoded_len());
        message.encode_raw(&mut self.buffer);
    }

    /// The entry's length, and the entry.
    pub(super) fn put_entry(&mut self, entry: &raftpb::Entry) {
        let Some(data) = entry.data.as_ref() else {
            self.put_u64(entry.encoded_len() as u64);
            self.room(entry.encoded_len());
            entry.encode_raw(&mut self.buffer);
            return;
        };
        let rest = raftpb::Entry {
            r#type: entry.r#type,
            term: entry.term,
            index: entry.index,
            data: None,
        };
        let len = data.len() as u64;
        let head = rest.encoded_len() + key_len(DATA) + encoded_len_varint(len);
        self.put_u64(head as u64 + len);
        self.room(head);
        rest.encode_raw(&mut self.buffer);
        encode_key(DATA, WireType::LengthDelimited, &mut self.buffer);
        encode_varint(len, &mut self.buffer);
        if data.len() >= SHARED {
            self.cut();
            self.len += data.len();
            self.pieces.push_back(data.clone());
        } else {
            self.put_slice(data);
        }
    }

    fn room(&mut self, bytes: usize) {
        if self.buffer.capacity() - self.buffer.len() < bytes {
            self.buffer.reserve(bytes.max(BUFFER));
        }
    }

    fn cut(&mut self) {
        if !self.buffer.is_empty() {
            self.len += self.buffer.len();
            let piece = self.buffer.split().freeze();
            self.pieces.push_back(piece);
        }
    }
}
