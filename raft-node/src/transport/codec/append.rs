//! The msgappv2 stream: appends that continue each other say nothing but their entries.
//!
//! Both ends remember the term and the index that they have come to.

use prost::Message as _;
use retcd_proto::raftpb;

use super::bounds::MAX_ENTRIES;
use super::gather::{Gather, Number};
use super::message::checked;
use super::out::Out;
use super::{DecodeError, Frame, MAX_MESSAGE, decode_message, is_heartbeat};

const HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// What an entry takes in memory beside its data. Entries of no bytes are not free.
const ENTRY_COST: usize = 128;
/// Places made at once for the entries of a frame; a sound one rarely has more.
const FIRST_ENTRIES: usize = 64;

pub(super) fn heartbeat(out: &mut Out) {
    out.put_slice(&[HEARTBEAT]);
}

/// Where the stream has come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Place {
    term: u64,
    index: u64,
}

impl Place {
    fn after(m: &raftpb::Message) -> Place {
        Place {
            term: m.term(),
            index: m.entries.last().map_or(m.index(), raftpb::Entry::index),
        }
    }
}

#[derive(Debug, Default)]
pub(in super::super) struct AppendEncoder {
    place: Place,
}

impl AppendEncoder {
    /// `m` is an append; the receiver makes one of whatever comes this way.
    pub(super) fn encode(&mut self, m: &raftpb::Message, out: &mut Out) {
        let here = Place {
            term: m.log_term(),
            index: m.index(),
        };
        if here != self.place || m.log_term() != m.term() {
            out.put_slice(&[MESSAGE]);
            out.put_u64(m.encoded_len() as u64);
            out.put_message(m);
            self.place = Place::after(m);
            return;
        }
        out.put_slice(&[ENTRIES]);
        out.put_u64(m.entries.len() as u64);
        for entry in &m.entries {
            out.put_entry(entry);
        }
        out.put_u64(m.commit());
        // Indexes of a log; the core keeps them far from the end.
        self.place.index = self.place.index.wrapping_add(m.entries.len() as u64);
    }
}

/// What comes next.
#[derive(Debug)]
enum Next {
    Type,
    Count,
    EntryLen,
    Entry(usize),
    Commit,
    MessageLen,
    Message(usize),
}

#[derive(Debug)]
pub(in super::super) struct AppendDecoder {
    local: u64,
    remote: u64,
    place: Place,
    next: Next,
    number: Number,
    body: Gather,
    /// Entries of the frame that are still to come.
    missing: u64,
    entries: Vec<raftpb::Entry>,
    /// What the entries so far take.
    cost: usize,
}

impl AppendDecoder {
    /// `remote` sends to `local`.
    pub(in super::super) fn new(local: u64, remote: u64) -> AppendDecoder {
        AppendDecoder {
            local,
            remote,
            place: Place::default(),
            next: Next::Type,
            number: Number::default(),
            body: Gather::default(),
            missing: 0,
            entries: Vec::new(),
            cost: 0,
        }
    }

    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, DecodeError> {
        loop {
            match self.next {
                Next::Type => {
                    let Some((kind, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    self.next = match *kind {
                        HEARTBEAT => return Ok(Some(Frame::Heartbeat)),
                        ENTRIES => Next::Count,
                        MESSAGE => Next::MessageLen,
                        other => return Err(DecodeError::FrameType(other)),
                    };
                }
                Next::Count => {
                    let Some(count) = self.number.take(input) else {
                        return Ok(None);
                    };
                    if self.place.index.checked_add(count).is_none() {
                        return Err(DecodeError::Index);
                    }
                    if count > MAX_ENTRIES as u64 {
                        return Err(DecodeError::Entries(MAX_ENTRIES));
                    }
                    self.missing = count;
                    self.cost = 0;
                    let places =
                        usize::try_from(count).map_or(FIRST_ENTRIES, |n| n.min(FIRST_ENTRIES));
                    self.entries = Vec::with_capacity(places);
                    self.next = Next::after_entry(count);
                }
                Next::EntryLen => {
                    let Some(len) = self.number.take(input) else {
                        return Ok(None);
                    };
                    let len = checked("an entry", len, MAX_MESSAGE)?;
                    self.cost += len + ENTRY_COST;
                    if self.cost > MAX_MESSAGE + ENTRY_COST {
                        return Err(DecodeError::TooLong {
                            what: "entries",
                            len: self.cost as u64,
                        });
                    }
                    self.next = Next::Entry(len);
                }
                Next::Entry(len) => {
                    let Some(body) = self.body.take(input, len) else {
                        return Ok(None);
                    };
                    self.entries.push(raftpb::Entry::decode(body)?);
                    self.missing -= 1;
                    self.next = Next::after_entry(self.missing);
                }
                Next::Commit => {
                    let Some(commit) = self.number.take(input) else {
                        return Ok(None);
                    };
                    self.next = Next::Type;
                    return Ok(Some(Frame::Message(self.entries_message(commit))));
                }
                Next::MessageLen => {
                    let Some(len) = self.number.take(input) else {
                        return Ok(None);
                    };
                    self.next = Next::Message(checked("a raft message", len, MAX_MESSAGE)?);
                }
                Next::Message(len) => {
                    let Some(body) = self.body.take(input, len) else {
                        return Ok(None);
                    };
                    self.next = Next::Type;
                    let message = decode_message(body)?;
                    self.place = Place::after(&message);
                    return Ok(Some(if is_heartbeat(&message) {
                        Frame::Heartbeat
                    } else {
                        Frame::Message(message)
                    }));
                }
            }
        }
    }

    fn entries_message(&mut self, commit: u64) -> raftpb::Message {
        let entries = std::mem::take(&mut self.entries);
        let index = self.place.index;
        // Checked when the number of entries was read.
        self.place.index = index.saturating_add(entries.len() as u64);
        raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgApp as i32),
            to: Some(self.local),
            from: Some(self.remote),
            term: Some(self.place.term),
            log_term: Some(self.place.term),
            index: Some(index),
            commit: Some(commit),
            entries,
            ..raftpb::Message::default()
        }
    }
}

impl Next {
    fn after_entry(missing: u64) -> Next {
        if missing == 0 {
            Next::Commit
        } else {
            Next::EntryLen
        }
    }
}
