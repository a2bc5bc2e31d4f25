//! Three running nodes whose messages are handed over in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use retcd_proto::raftpb;
use retcd_storage::fs::SimFs;

use super::rig::{config, wait_for};
use crate::membership::Member;
use crate::{Apply, Handle, Node, Role, Start, Transport, open};

type Handles = Arc<Mutex<BTreeMap<u64, Handle>>>;

/// Who is in the map can be reached.
struct Mesh {
    from: u64,
    handles: Handles,
}

impl Transport for Mesh {
    fn send(&self, messages: Vec<raftpb::Message>) {
        for message in messages {
            assert_eq!(message.from(), self.from);
            let handle = self.handles.lock().get(&message.to()).cloned();
            let connected = self.handles.lock().contains_key(&self.from);
            if let Some(handle) = handle.filter(|_| connected) {
                // Full or stopped: lost, as on a network.
                let _ = handle.step(message);
            }
        }
    }
}

struct Running {
    node: Node,
    fs: SimFs,
    applied: Arc<Mutex<Vec<Bytes>>>,
    apply: std::thread::JoinHandle<()>,
}

fn members() -> Vec<Member> {
    (1..=3)
        .map(|id| Member {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            ..Member::default()
        })
        .collect()
}

fn run(id: u64, fs: SimFs, start: Start, handles: &Handles) -> Running {
    let (mut config, ears) = config(Arc::new(fs.clone()), "/m".as_ref());
    config.tick = Duration::from_millis(10);
    let opened = open(&config, start).unwrap();
    let (sender, receiver) = crate::queue::bounded(4);
    let mesh = Mesh {
        from: id,
        handles: handles.clone(),
    };
    let node = opened.run(config, Arc::new(mesh), sender, 0).unwrap();
    let handle = node.handle().clone();
    handles.lock().insert(id, handle.clone());
    let applied = Arc::new(Mutex::new(Vec::new()));
    let apply = std::thread::spawn({
        let applied = applied.clone();
        move || {
            // Keeps the ends of the observer's channels alive.
            let _ears = ears;
            while let Ok(Apply::Entries(entries)) = receiver.recv() {
                for entry in entries {
                    if entry.r#type() == raftpb::EntryType::EntryConfChange {
                        let cc = raftpb::ConfChange::decode(entry.data.clone().unwrap()).unwrap();
                        if handle.apply_conf_change(Some(cc)).is_err() {
                            return;
                        }
                    } else if let Some(data) = &entry.data {
                        applied.lock().push(data.clone());
                    }
                    handle.set_applied(entry.index());
                }
            }
        }
    });
    Running {
        node,
        fs,
        applied,
        apply,
    }
}

fn found(id: u64) -> Start {
    Start::New {
        cluster_id: 7,
        member_id: id,
        members: members(),
    }
}

fn restart() -> Start {
    Start::Restart {
        consistent_index: 0,
        conf_state: None,
    }
}

fn leader(cluster: &BTreeMap<u64, Running>) -> u64 {
    let mut leader = 0;
    wait_for("an election", || {
        let leads = |r: &&Running| r.node.handle().status().role == Role::Leader;
        leader = cluster
            .values()
            .find(leads)
            .map_or(0, |r| r.node.handle().status().id);
        leader != 0
    });
    leader
}

/// Proposes again until somebody has applied it: leaders change.
fn put(cluster: &BTreeMap<u64, Running>, text: &str) {
    let data = Bytes::from(text.to_owned());
    let mut tries = 0;
    wait_for("a write", || {
        if tries % 5_000 == 0 {
            let leader = leader(cluster);
            let _ = cluster[&leader].node.handle().propose(data.clone());
        }
        tries += 1;
        std::thread::yield_now();
        cluster.values().any(|r| r.applied.lock().contains(&data))
    });
}

/// All members apply the same, also one that lost its power and what it had not synced.
#[test]
fn three_nodes_agree_and_a_lost_one_catches_up() {
    let handles = Handles::default();
    let mut cluster: BTreeMap<u64, Running> = (1..=3)
        .map(|id| (id, run(id, SimFs::new(), found(id), &handles)))
        .collect();
    for n in 0..20 {
        put(&cluster, &format!("a{n}"));
    }
    for round in 0..3 {
        let victim = leader(&cluster);
        handles.lock().remove(&victim);
        let Running {
            node, fs, apply, ..
        } = cluster.remove(&victim).unwrap();
        // The disk as it is while the node still runs.
        let disk = fs.crash();
        node.stop();
        apply.join().unwrap();
        for n in 0..10 {
            put(&cluster, &format!("b{round}.{n}"));
        }
        cluster.insert(victim, run(victim, disk, restart(), &handles));
        put(&cluster, &format!("c{round}"));
    }
    let last = Bytes::from_static(b"c2");
    wait_for("everybody", || {
        cluster.values().all(|r| r.applied.lock().contains(&last))
    });
    let sequences: Vec<Vec<Bytes>> = cluster
        .values()
        .map(|r| {
            let mut applied = r.applied.lock().clone();
            applied.truncate(applied.iter().position(|data| *data == last).unwrap());
            applied
        })
        .collect();
    assert_eq!(sequences[0], sequences[1]);
    assert_eq!(sequences[1], sequences[2]);
    assert!(sequences[0].len() >= 52);
    for running in cluster.into_values() {
        running.node.stop();
        running.apply.join().unwrap();
    }
}

/// What only a leader may decide never comes from a member that does not lead, nor from a term that is over.
#[test]
fn a_decision_of_a_term_is_not_passed_on() {
    let handles = Handles::default();
    let cluster: BTreeMap<u64, Running> = (1..=3)
        .map(|id| (id, run(id, SimFs::new(), found(id), &handles)))
        .collect();
    put(&cluster, "before");
    let leads = leader(&cluster);
    let follows = cluster.keys().find(|id| **id != leads).unwrap();
    let term = cluster[&leads].node.handle().status().term;
    let decide = |id: u64, term: u64, text: &'static str| {
        let data = vec![Bytes::from_static(text.as_bytes())];
        cluster[&id].node.handle().propose_in_term(term, data)
    };
    decide(*follows, term, "of a follower").unwrap();
    decide(leads, term - 1, "of the past").unwrap();
    decide(leads, term + 1000, "of the future").unwrap();
    let mut tries = 0;
    wait_for("a decision", || {
        if tries % 5_000 == 0 {
            let leads = leader(&cluster);
            let term = cluster[&leads].node.handle().status().term;
            decide(leads, term, "of the leader").unwrap();
        }
        tries += 1;
        std::thread::yield_now();
        let is_applied = |r: &Running| r.applied.lock().iter().any(|data| data == "of the leader");
        cluster.values().any(is_applied)
    });
    put(&cluster, "after");
    let all = [b"of the leader".as_slice(), b"after"];
    wait_for("everybody", || {
        let has_all = |r: &Running| {
            all.iter()
                .all(|text| r.applied.lock().iter().any(|d| d == *text))
        };
        cluster.values().all(has_all)
    });
    for running in cluster.into_values() {
        running.node.stop();
        running.apply.join().unwrap();
        let applied = running.applied.lock();
        let foreign = ["of a follower", "of the past", "of the future"];
        assert!(
            !applied
                .iter()
                .any(|data| foreign.iter().any(|text| data == text)),
            "{applied:?}"
        );
    }
}
