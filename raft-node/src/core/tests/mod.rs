//! Scripts for the core: one to three members, every step made by hand.

mod elections;
mod held;
mod hostile;
mod lone;
mod many;
mod peers;
mod three;

use super::*;

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

fn config(id: u64) -> CoreConfig {
    CoreConfig {
        id,
        election_ticks: 10,
        pre_vote: true,
        catch_up_entries: 3,
        seed: id,
        start_millis: 1,
    }
}

fn voters(ids: &[u64]) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: ids.to_vec(),
        auto_leave: Some(false),
        ..raftpb::ConfState::default()
    }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(term),
        vote: Some(vote),
        commit: Some(commit),
    }
}

fn normal(index: u64, term: u64, data: &'static [u8]) -> raftpb::Entry {
    raftpb::Entry {
        r#type: None,
        term: Some(term),
        index: Some(index),
        data: (!data.is_empty()).then(|| Bytes::from_static(data)),
    }
}

fn conf_change(kind: raftpb::ConfChangeType, id: u64) -> raftpb::ConfChange {
    raftpb::ConfChange {
        id: Some(9),
        r#type: Some(kind as i32),
        node_id: Some(id),
        context: Some(Bytes::from_static(b"{}")),
    }
}

/// A core after `n` applied entries of term 1.
fn core_with(id: u64, members: &[u64], n: u64) -> Core {
    seeded(config(id), members, n)
}

fn seeded(config: CoreConfig, members: &[u64], n: u64) -> Core {
    let initial = InitialState {
        snapshot: (0, 0),
        conf_state: voters(members),
        hard_state: hard_state(1, 0, n),
        entries: (1..=n).map(|i| normal(i, 1, b"old")).collect(),
        applied: n,
    };
    Core::new(&config, initial, &logger()).unwrap()
}

fn texts(entries: &[raftpb::Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|e| String::from_utf8_lossy(e.data.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

/// All outputs there are now, merged in order.
fn drain(core: &mut Core) -> Vec<Output> {
    std::iter::from_fn(|| core.ready()).collect()
}

fn committed(outputs: &[Output]) -> Vec<String> {
    outputs.iter().flat_map(|o| texts(&o.committed)).collect()
}

/// A lone leader with everything persisted.
fn lone_leader() -> Core {
    let mut core = core_with(1, &[1], 1);
    assert!(core.campaign_if_alone());
    for output in drain(&mut core) {
        core.persisted(output.number);
    }
    drain(&mut core);
    assert_eq!(core.soft_state().role, Role::Leader);
    core
}
