//! The bytes of a record: frame, `walpb.Record`, running checksum, and the messages inside.
//!
//! Source: etcd `server/storage/wal/{encoder,decoder}.go`.

use prost::Message as _;
use retcd_proto::{raftpb, walpb};

/// Longest record, in bytes of its `walpb.Record`, that is written and read: one limit for both
/// sides, so that nothing is written that cannot be read back (etcd #14127).
pub const MAX_RECORD_BYTES: u64 = 512 << 20;

/// Every frame starts at a multiple of this.
pub(super) const ALIGN: u64 = 8;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl Kind {
    pub(super) fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Metadata,
            2 => Self::Entry,
            3 => Self::State,
            4 => Self::Crc,
            5 => Self::Snapshot,
            _ => return None,
        })
    }
}

/// Encodes records, one behind the other, carrying the checksum along.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Checksum over the data of all records of the chain so far.
    pub(super) crc: u32,
    /// Frames that are not written yet.
    pub(super) buf: Vec<u8>,
}

impl Encoder {
    pub(super) fn metadata(&mut self, metadata: &[u8]) {
        self.push(Kind::Metadata, metadata, &[]);
    }

    /// First record of a file: the checksum so far.
    pub(super) fn crc(&mut self) {
        let mut head = Small::default();
        head.record(Kind::Crc, self.crc);
        frame(&mut self.buf, &head, &[], &[]);
    }

    /// As etcd 3.7: the type only when it is not normal, data only when there is some.
    pub(super) fn entry(&mut self, entry: &raftpb::Entry) {
        let head = entry_head(entry);
        let data = entry.data.as_deref().unwrap_or_default();
        self.push(Kind::Entry, head.as_slice(), data);
    }

    pub(super) fn state(&mut self, state: &raftpb::HardState) {
        let mut data = Small::default();
        data.field(1, state.term());
        data.field(2, state.vote());
        data.field(3, state.commit());
        self.push(Kind::State, data.as_slice(), &[]);
    }

    pub(super) fn snapshot(&mut self, snapshot: &walpb::Snapshot) {
        let mut head = Small::default();
        head.field(1, snapshot.index());
        head.field(2, snapshot.term());
        let conf_state = snapshot.conf_state.as_ref().map(|conf_state| {
            let bytes = conf_state.encode_to_vec();
            head.byte(3 << 3 | 2);
            head.varint(bytes.len() as u64);
            bytes
        });
        self.push(
            Kind::Snapshot,
            head.as_slice(),
            conf_state.as_deref().unwrap_or_default(),
        );
    }

    /// Appends a record with the data `first` ++ `second`; two parts, so that an entry's payload is
    /// copied once, straight into the buffer.
    fn push(&mut self, kind: Kind, first: &[u8], second: &[u8]) {
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, first), second);
        let mut head = Small::default();
        head.record(kind, self.crc);
        head.byte(3 << 3 | 2);
        head.varint((first.len() + second.len()) as u64);
        frame(&mut self.buf, &head, first, second);
    }
}

/// Bytes that [`Encoder::entry`] adds to an entry's data, at most.
pub(super) const ENTRY_OVERHEAD: u64 = 64;

fn entry_head(entry: &raftpb::Entry) -> Small {
    let mut head = Small::default();
    if entry.r#type.unwrap_or_default() != 0 {
        // The cast keeps protobuf's meaning of a negative enum number; raft has none.
        head.field(1, entry.r#type.unwrap_or_default() as u64);
    }
    head.field(2, entry.term());
    head.field(3, entry.index());
    let data = entry.data.as_deref().unwrap_or_default();
    if !data.is_empty() {
        head.byte(4 << 3 | 2);
        head.varint(data.len() as u64);
    }
    head
}

fn frame(buf: &mut Vec<u8>, head: &Small, first: &[u8], second: &[u8]) {
    let len = head.len + first.len() + second.len();
    let word = length_word(len as u64);
    let pad = padding(len as u64) as usize;
    buf.reserve(8 + len + pad);
    buf.extend_from_slice(&word.to_le_bytes());
    buf.extend_from_slice(head.as_slice());
    buf.extend_from_slice(first);
    buf.extend_from_slice(second);
    buf.extend_from_slice(&[0; 8][..pad]);
}

/// Zero bytes behind a record of `len` bytes.
pub(super) fn padding(len: u64) -> u64 {
    (ALIGN - len % ALIGN) % ALIGN
}

/// The word before a record of `len` bytes: the padding is in the top byte, with its high bit set.
pub(super) fn length_word(len: u64) -> u64 {
    match padding(len) {
        0 => len,
        pad => len | (0x80 | pad) << 56,
    }
}

/// A few bytes on the stack.
#[derive(Debug)]
struct Small {
    bytes: [u8; 48],
    len: usize,
}

impl Default for Small {
    fn default() -> Self {
        Self {
            bytes: [0; 48],
            len: 0,
        }
    }
}

impl Small {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn field(&mut self, number: u8, value: u64) {
        self.byte(number << 3);
        self.varint(value);
    }

    fn record(&mut self, kind: Kind, crc: u32) {
        self.field(1, kind as u64);
        self.field(2, u64::from(crc));
    }
}

/// The fields of a `walpb.Record` before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Not checked; see [`Kind::of`].
    pub(super) kind: u8,
    pub(super) crc: u32,
    /// Where the data begins in the record; `None` without data.
    pub(super) data: Option<usize>,
    /// Length of the whole record as these fields tell it.
    pub(super) len: u64,
}

/// Byte of a record at which it stops being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadHeader {
    pub(super) at: usize,
}

/// Reads the fields before the data of a record that should be `len` bytes long; `bytes` are its
/// first ones, all of them or as many as there are.
///
/// Strict: exactly the form that etcd writes. Every etcd marshals the three fields in order.
pub(super) fn parse_header(bytes: &[u8], len: u64) -> Result<Header, BadHeader> {
    let bad = |at| Err(BadHeader { at });
    let expect = |at: usize, tag: u8| match bytes.get(at) {
        Some(byte) if *byte == tag => Ok(()),
        _ => Err(BadHeader { at }),
    };
    expect(0, 1 << 3)?;
    let Some(kind @ 0..0x80) = bytes.get(1).copied() else {
        return bad(1);
    };
    expect(2, 2 << 3)?;
    let (crc, at) = parse_varint(bytes, 3)?;
    let Ok(crc) = u32::try_from(crc) else {
        return bad(at - 1);
    };
    if at as u64 == len {
        return Ok(Header {
            kind,
            crc,
            data: None,
            len,
        });
    }
    expect(at, 3 << 3 | 2)?;
    let (data_len, data) = parse_varint(bytes, at + 1)?;
    Ok(Header {
        kind,
        crc,
        data: Some(data),
        len: data_len.saturating_add(data as u64),
    })
}

fn parse_varint(bytes: &[u8], start: usize) -> Result<(u64, usize), BadHeader> {
    let mut value = 0_u64;
    for shift in 0..9 {
        let at = start + shift;
        let byte = *bytes.get(at).ok_or(BadHeader { at })?;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return Ok((value, at + 1));
        }
    }
    Err(BadHeader { at: start + 8 })
}

/// Decodes an entry. Its data is copied, so that the log in memory does not pin whole segments.
///
/// The record's type is outside its checksum, so the decoders are strict enough to refuse each
/// other's messages.
/// An entry, and apart from it its data, which only some readers want to have copied.
pub(super) fn decode_entry(data: &[u8]) -> Result<(raftpb::Entry, Option<&[u8]>), &'static str> {
    let mut entry = raftpb::Entry::default();
    let mut payload = None;
    for field in Fields(data) {
        match field? {
            (1, Value::Number(kind)) => {
                entry.r#type = Some(match kind {
                    0..=2 => kind as i32,
                    _ => return Err("entry of an unknown type"),
                });
            }
            (2, Value::Number(term)) => entry.term = Some(term),
            (3, Value::Number(index)) => entry.index = Some(index),
            (4, Value::Bytes(bytes)) => payload = Some(bytes),
            _ => return Err("entry with an unknown field"),
        }
    }
    if entry.term.is_none() || entry.index().checked_sub(1).is_none() {
        return Err("entry without term or index");
    }
    if entry.r#type == Some(raftpb::EntryType::EntryConfChange as i32) && payload.is_none() {
        return Err("membership change without data");
    }
    Ok((entry, payload))
}

pub(super) fn decode_state(data: &[u8]) -> Result<raftpb::HardState, &'static str> {
    let mut state = raftpb::HardState::default();
    for field in Fields(data) {
        match field? {
            (1, Value::Number(term)) => state.term = Some(term),
            (2, Value::Number(vote)) => state.vote = Some(vote),
            (3, Value::Number(commit)) => state.commit = Some(commit),
            _ => return Err("hard state with an unknown field"),
        }
    }
    if state.term() == 0 {
        return Err("hard state without term");
    }
    Ok(state)
}

/// Lenient: the record of no snapshot may be empty.
pub(super) fn decode_snapshot(data: &[u8]) -> Result<walpb::Snapshot, &'static str> {
    let mut snapshot = walpb::Snapshot::default();
    for field in Fields(data) {
        match field? {
            (1, Value::Number(index)) => snapshot.index = Some(index),
            (2, Value::Number(term)) => snapshot.term = Some(term),
            (3, Value::Bytes(bytes)) => {
                snapshot.conf_state = Some(
                    raftpb::ConfState::decode(bytes)
                        .map_err(|_| "snapshot with a bad ConfState")?,
                );
            }
            _ => return Err("snapshot with an unknown field"),
        }
    }
    Ok(snapshot)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message that has only numbers and bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or("message that is no protobuf"))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }
}
