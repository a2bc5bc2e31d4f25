//! Events, encoded once for everybody who gets them.

use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::reply::EventReply;
use retcd_storage::mvcc::{self, Change, StoreReader};

/// All changes of one main revision.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) rev: i64,
    pub(super) events: Vec<Event>,
}

/// A change and its `mvccpb.Event`, in the two forms that watches may want.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) change: Change,
    plain: OnceLock<Bytes>,
    with_prev: OnceLock<Bytes>,
}

impl Unit {
    /// Cuts changes, which are in order, where the main revision changes.
    pub(super) fn split(changes: Vec<Change>) -> Vec<Self> {
        let mut units: Vec<Self> = Vec::new();
        for change in changes {
            let rev = change.revision.main;
            if units.last().is_none_or(|unit| unit.rev != rev) {
                let events = Vec::with_capacity(1);
                units.push(Self { rev, events });
            }
            if let Some(unit) = units.last_mut() {
                unit.events.push(Event::new(change));
            }
        }
        units
    }

    /// About how many bytes it keeps in memory.
    pub(super) fn weight(&self) -> usize {
        let events = self.events.iter().map(|event| event.change.weight());
        events.sum::<usize>() + size_of::<Self>()
    }
}

impl Event {
    pub(super) fn new(change: Change) -> Self {
        Self {
            change,
            plain: OnceLock::new(),
            with_prev: OnceLock::new(),
        }
    }

    /// The encoded event; `prev`: with what the key had before, which the store is asked for at the first time.
    ///
    /// # Errors
    /// What the store says when it is damaged.
    pub(super) fn encoded(&self, prev: bool, store: &StoreReader) -> Result<&Bytes, mvcc::Error> {
        if !prev {
            return Ok(self.plain.get_or_init(|| self.encode(None)));
        }
        if let Some(encoded) = self.with_prev.get() {
            return Ok(encoded);
        }
        let before = store.before(&self.change)?;
        let encoded = match before {
            Some(_) if planted!(PrevKvIsNew) => self.encode(Some(self.change.event_kv())),
            Some(kv) => self.encode(Some(kv.encoded)),
            None => self.encoded(false, store)?.clone(),
        };
        Ok(self.with_prev.get_or_init(|| encoded))
    }

    fn encode(&self, prev_kv: Option<Bytes>) -> Bytes {
        let event = EventReply {
            r#type: i32::from(self.change.is_delete()),
            kv: Some(self.change.event_kv()),
            prev_kv,
        };
        event.encode_to_vec().into()
    }
}
