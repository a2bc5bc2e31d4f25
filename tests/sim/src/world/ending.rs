//! The end of a run: all is healed, a last write is made, and what must hold is looked at.

use super::{Event, World};
use crate::client::outcome_of;
use crate::history::{self, Outcome};
use crate::member::Member;
use crate::plan::{MS, SECOND};

impl World {
    /// Ends all faults: what is broken runs again.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.cuts.clear();
        self.plan.delay = (200, 5 * MS);
        self.plan.loss = 0;
        self.plan.duplicates = 0;
        self.plan.disk = (300, 2 * MS);
        for id in self.ids() {
            if self.gone.contains(&id) {
                self.after(2 * SECOND, Event::Leave(id));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.paused_until = 0;
                member.slow_until = 0;
            }
            let wait = self.random.below(300 * MS);
            self.after(wait, Event::Start(id));
        }
        self.after(4 * SECOND, Event::Marker);
    }

    /// Proposes the last write, as soon as there is a leader.
    pub(super) fn mark(&mut self) {
        let request = self.next_request();
        let data = crate::client::marker(request);
        let done = self.leader().and_then(|id| self.with_core(id, |core| core.propose(&[data]).is_ok()));
        if done == Some(true) {
            self.marker = Some(request);
        } else {
            self.after(200 * MS, Event::Marker);
        }
    }

    /// Each member in a line, for whoever looks for a fault.
    fn picture(&self) -> String {
        let line = |(id, member): (&u64, &Member)| {
            let fate = match (self.gone.contains(id), member.removed) {
                (_, true) => ", out of the cluster",
                (true, _) => ", removed by the cluster",
                _ => "",
            };
            let Some(running) = &member.running else {
                return format!("member {id:x} does not run{fate}");
            };
            let core = running.machine.core();
            format!(
                "member {id:x}{fate}: {:?}, log to {}, committed {}, applied {}, {:?}",
                core.soft_state(),
                core.last_index(),
                core.committed(),
                running.state.applied().0,
                core.conf_state(),
            )
        };
        self.members.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What must hold in the end.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let Some(marker) = self.marker_index else {
            return Err(format!("nothing could be committed within 10 s after all was healed\n{}", self.picture()));
        };
        let newest = self.members.values().filter_map(|m| m.running.as_ref()).max_by_key(|r| r.state.applied());
        let Some(newest) = newest else {
            return Err("no member runs".into());
        };
        let ids: Vec<u64> = newest.state.cluster().members().map(|m| m.id).collect();
        let mut seen = None;
        for id in ids {
            let Some(running) = self.members.get(&id).and_then(|m| m.running.as_ref()) else {
                return Err(format!("member {id:x} does not run though all was healed"));
            };
            let state = &running.state;
            if state.applied().0 < marker {
                return Err(format!(
                    "member {id:x} has not caught up within 10 s after all was healed: {} of {}",
                    state.applied().0,
                    marker
                ));
            }
            let this = (state.applied(), state.hash_kv()?, state.chain());
            let first = *seen.get_or_insert(this);
            if first != this {
                return Err(format!("the members end differently: {first:?}, {this:?}"));
            }
        }
        self.final_reads()?;
        self.summary.answered = self.calls.iter().filter(|c| c.end.is_some()).count() as u64;
        self.summary.unknown = self.calls.len() as u64 - self.summary.answered;
        // Of what nobody was told, the log tells.
        for (call, answer) in std::mem::take(&mut self.effects) {
            if self.calls[call].outcome == Outcome::Unknown {
                self.calls[call].outcome = outcome_of(&self.calls[call].request, &answer);
            }
        }
        history::check(&self.calls).map_err(|e| format!("not linearizable: {e}"))
    }
}
