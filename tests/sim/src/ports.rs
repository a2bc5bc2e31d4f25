//! What a machine wants done, gathered.

use retcd_proto::raftpb;
use retcd_raft_node::Apply;
use retcd_raft_node::core::SoftState;
use retcd_raft_node::parts::{Ports, Write};

/// Takes everything; the world does it in its time.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<raftpb::Message>,
    pub(crate) writes: Vec<Write>,
    pub(crate) saves: Vec<raftpb::Snapshot>,
    pub(crate) work: Vec<Apply>,
    pub(crate) reads: Vec<(u64, u64)>,
    pub(crate) soft_states: Vec<SoftState>,
    pub(crate) recorded: Vec<u64>,
    /// Batches of work that there is room for.
    pub(crate) room: usize,
}

impl Ports for Outbox {
    fn send(&mut self, messages: Vec<raftpb::Message>) {
        self.messages.extend(messages);
    }

    fn write(&mut self, write: Write, _direct: bool) {
        self.writes.push(write);
    }

    fn save(&mut self, snapshot: raftpb::Snapshot) -> bool {
        self.saves.push(snapshot);
        true
    }

    fn apply(&mut self, work: Apply) -> Option<Apply> {
        if self.room == 0 {
            return Some(work);
        }
        self.room -= 1;
        self.work.push(work);
        None
    }

    fn read_state(&mut self, request: u64, index: u64) {
        self.reads.push((request, index));
    }

    fn soft_state(&mut self, state: SoftState) {
        self.soft_states.push(state);
    }

    fn snapshot_recorded(&mut self, index: u64) {
        self.recorded.push(index);
    }
}
