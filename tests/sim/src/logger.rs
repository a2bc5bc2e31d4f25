//! What the members' raft says, for whoever replays a seed: `RETCD_SIM_LOG=1`.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use retcd_storage::clock::{Clock as _, ManualClock};
use slog::{Discard, Drain, KV, Key, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// The logger of one member.
pub(crate) fn logger(id: u64, clock: Arc<ManualClock>) -> Logger {
    match std::env::var_os("RETCD_SIM_LOG") {
        Some(_) => Logger::root(Printer { id, clock: AssertUnwindSafe(clock) }, o!()),
        None => Logger::root(Discard, o!()),
    }
}

struct Printer {
    id: u64,
    clock: AssertUnwindSafe<Arc<ManualClock>>,
}

impl Drain for Printer {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        if record.level().is_at_least(Level::Debug) {
            let mut fields = Fields::default();
            // Fields without a text are left out.
            let _ = record.kv().serialize(record, &mut fields);
            // By the member's own clock, which goes on only when it starts.
            println!("{:?} member {:x}: {}{}", self.clock.now(), self.id, record.msg(), fields.0);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fields(String);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0 += &format!(" {key}={value}");
        Ok(())
    }
}
