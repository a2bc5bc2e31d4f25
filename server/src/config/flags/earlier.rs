//! Flags of earlier releases, and feature gates, which took the place of some.

use super::super::gates;
use super::super::notice::Notice;
use super::super::old::{self, Fate, Old};
use super::super::table;
use super::super::value::{self, ValueError};
use super::Reader;

impl Reader {
    /// What an old flag says, which its replacement is not named by.
    pub(super) fn assign_old(&mut self, old: &'static Old, text: &str) -> Result<(), ValueError> {
        let flag = &old.flag;
        let default = flag.is_default(text)?;
        match old.fate {
            Fate::Renamed(new) => match table::find(new) {
                Some(new) => return self.assign_value(new, text),
                None => return Err(ValueError::Other(format!("no flag --{new}"))),
            },
            Fate::Gate(gate) => {
                self.old_gates.insert(gate, value::parse_bool(text)?);
            }
            Fate::Refused(_) if default => {
                self.harmful.remove(flag.name);
            }
            Fate::Refused(advice) => {
                let harm = (text.to_owned(), advice);
                self.harmful.insert(flag.name, harm);
            }
            Fate::Gone(_) => {}
            // Only --debug is so.
            Fate::Kept(_) => self.debug = value::parse_bool(text)?,
        }
        Ok(())
    }

    /// Old flags and feature gates: whether they may stand, and what to say about each.
    pub(super) fn finish_old(&mut self, notices: &mut Vec<Notice>) -> Result<(), String> {
        let named: Vec<_> = self.set.iter().filter_map(|name| old::find(name)).collect();
        for old in &named {
            if let Some((new, text)) = old.conflict()
                && self.set.contains(new)
            {
                return Err(text);
            }
            if let Fate::Gate(gate) = old.fate {
                let value = self.old_gates.get(gate).copied().unwrap_or_default();
                if self.gates.names(gate) {
                    let (old, open) = (old.flag.name, self.gates.is_open(gate));
                    return Err(format!(
                        "cannot specify both flags: --{old}={value} and --feature-gates={gate}={open} at the same time, \
                         please just use --feature-gates={gate}={open}"
                    ));
                }
            }
        }
        if let Some((name, (value, advice))) = self.harmful.pop_first() {
            return Err(format!("--{name}={value:?}: {advice}"));
        }
        for (gate, value) in &self.old_gates {
            self.gates.set(gate, *value);
        }
        self.gates.check(notices).map_err(|error| {
            let asks = |old: &&Old| matches!(old.fate, Fate::Gate(gate) if error.contains(gate));
            match named.iter().copied().find(asks) {
                // Whoever gave the flag of old may not know the gate. The other text is etcd's.
                Some(old) if error != gates::PERSIST_ALONE => {
                    format!("--{}: {error}", old.flag.name)
                }
                _ => error,
            }
        })?;
        self.config.set_member_local_addr = self.gates.is_open("SetMemberLocalAddr");
        self.config.gates = self.gates.clone();
        if self.debug && !self.set.contains("log-level") {
            self.config.log.level = "debug".into();
        }
        notices.extend(named.into_iter().map(|old| {
            let gate = match old.fate {
                Fate::Gate(gate) => self.old_gates.get(gate).copied(),
                _ => None,
            };
            old.notice(gate.unwrap_or_default())
        }));
        Ok(())
    }
}
