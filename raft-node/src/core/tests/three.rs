//! A cluster of three.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// Three members and a network that delivers, or loses, what a test says.
pub(super) struct Cluster {
    pub(super) cores: BTreeMap<u64, Core>,
    pub(super) network: VecDeque<raftpb::Message>,
    pub(super) cut_off: Vec<u64>,
    pub(super) applied: BTreeMap<u64, Vec<String>>,
    reads: Vec<(u64, u64, u64)>,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        let ids = [1, 2, 3];
        Cluster::of(ids.map(|id| (id, core_with(id, &ids, 3))).into())
    }

    pub(super) fn of(cores: BTreeMap<u64, Core>) -> Cluster {
        Cluster {
            applied: cores.keys().map(|id| (*id, Vec::new())).collect(),
            cores,
            network: VecDeque::new(),
            cut_off: Vec::new(),
            reads: Vec::new(),
        }
    }

    pub(super) fn core(&mut self, id: u64) -> &mut Core {
        self.cores.get_mut(&id).unwrap()
    }

    fn execute(&mut self, id: u64) {
        let core = self.cores.get_mut(&id).unwrap();
        while let Some(output) = core.ready() {
            self.network.extend(output.messages);
            core.persisted(output.number);
            self.network.extend(output.persisted_messages);
            if let Some(snapshot) = output.snapshot {
                core.applied(snapshot.metadata.unwrap().index());
            }
            for entry in &output.committed {
                if entry.r#type() == raftpb::EntryType::EntryConfChange {
                    let cc = raftpb::ConfChange::decode(entry.data.clone().unwrap()).unwrap();
                    core.apply_conf_change(Some(&cc)).unwrap();
                }
                core.applied(entry.index());
            }
            let applied = self.applied.get_mut(&id).unwrap();
            applied.extend(
                texts(&output.committed)
                    .into_iter()
                    .filter(|t| !t.is_empty()),
            );
            self.reads
                .extend(output.read_states.iter().map(|(r, i)| (id, *r, *i)));
        }
    }

    /// Delivers until nobody has anything to say.
    pub(super) fn settle(&mut self) {
        let ids: Vec<u64> = self.cores.keys().copied().collect();
        loop {
            ids.iter().for_each(|id| self.execute(*id));
            let Some(m) = self.network.pop_front() else {
                return;
            };
            let lost = self.cut_off.contains(&m.to()) || self.cut_off.contains(&m.from());
            if !lost && let Some(core) = self.cores.get_mut(&m.to()) {
                // As it would arrive from the wire.
                let m = raftpb::Message::decode(&m.encode_to_vec()[..]).unwrap();
                let _ = core.step(m);
            }
        }
    }

    pub(super) fn tick(&mut self, ids: &[u64], ticks: usize) {
        for _ in 0..ticks {
            for id in ids {
                if let Some(core) = self.cores.get_mut(id) {
                    core.tick();
                }
            }
            self.settle();
        }
    }

    pub(super) fn leader(&mut self) -> u64 {
        for _ in 0..100 {
            self.tick(&[1, 2, 3], 1);
            let cut_off = self.cut_off.clone();
            let leader = self
                .cores
                .iter()
                .find(|(id, core)| core.soft_state().role == Role::Leader && !cut_off.contains(id));
            if let Some((id, _)) = leader {
                return *id;
            }
        }
        panic!("no leader in 100 ticks: {:?}", self.cores);
    }
}

#[test]
fn three_members_elect_replicate_and_survive_a_leader() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    cluster
        .core(leader)
        .propose(&[Bytes::from_static(b"a")])
        .unwrap();
    cluster.settle();
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    // A follower passes proposals on, and may ask for a read index.
    cluster
        .core(follower)
        .propose(&[Bytes::from_static(b"b")])
        .unwrap();
    cluster.core(follower).read_index(11);
    cluster.core(leader).read_index(12);
    cluster.settle();
    cluster.tick(&[1, 2, 3], 2);
    for applied in cluster.applied.values() {
        assert_eq!(applied[..], ["a", "b"]);
    }
    let mut reads = cluster.reads.clone();
    reads.sort_unstable_by_key(|r| r.1);
    assert_eq!(
        reads.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(),
        [(follower, 11), (leader, 12)]
    );
    assert!(reads.iter().all(|r| r.2 >= 5));

    cluster.cut_off = vec![leader];
    // M1: the old leader cannot answer reads any more; it asks again and again, and learns.
    cluster.core(leader).read_index(13);
    cluster.tick(&[1, 2, 3], 40);
    let next = cluster.leader();
    assert_ne!(next, leader);
    cluster
        .core(next)
        .propose(&[Bytes::from_static(b"c")])
        .unwrap();
    cluster.settle();
    assert!(cluster.reads.iter().all(|r| r.1 != 13));
    cluster.cut_off.clear();
    cluster.tick(&[1, 2, 3], 20);
    for applied in cluster.applied.values() {
        assert_eq!(applied[..], ["a", "b", "c"]);
    }
    let committed = cluster.core(next).committed();
    let read = cluster
        .reads
        .iter()
        .find(|r| r.1 == 13)
        .expect("answered in the end");
    assert!(read.2 >= committed, "and with an index that covers `c`");
}

#[test]
fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let behind = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.cut_off = vec![behind];
    for _ in 0..20 {
        cluster
            .core(leader)
            .propose(&[Bytes::from_static(b"x")])
            .unwrap();
        cluster.settle();
    }
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != behind).collect();
    assert_eq!(cluster.core(leader).first_index(), 1, "kept for a while");
    cluster.tick(&others, 30);
    let index = cluster.core(leader).committed();
    cluster.core(leader).snapshot_saved(index);
    assert_eq!(cluster.core(leader).first_index(), index - 2);
    cluster
        .core(leader)
        .propose(&[Bytes::from_static(b"y")])
        .unwrap();
    cluster.settle();
    cluster.cut_off.clear();
    for _ in 0..30 {
        cluster.tick(&[leader], 1);
    }
    assert_eq!(
        cluster.core(behind).first_index(),
        index + 2,
        "the log starts after a snapshot of all that was applied"
    );
    cluster
        .core(leader)
        .propose(&[Bytes::from_static(b"z")])
        .unwrap();
    cluster.settle();
    cluster.tick(&[leader], 2);
    assert_eq!(cluster.applied[&behind], ["z"]);
}

#[test]
fn leadership_is_handed_over() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let next = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.core(leader).transfer_leader(next);
    cluster.settle();
    cluster.tick(&[1, 2, 3], 1);
    assert_eq!(cluster.core(next).soft_state().role, Role::Leader);
}
