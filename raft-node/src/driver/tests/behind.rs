//! A follower whose application takes nothing for long, as while it installs a snapshot.

use bytes::Bytes;
use retcd_proto::raftpb;

use crate::core::{Core, CoreConfig, InitialState, SoftState};
use crate::driver::Apply;
use crate::parts::{Machine, Ports, Report, Write};

const SIZE: usize = 8 << 20;
/// Far more of them than a member should hold.
const ENTRIES: u64 = 200;

/// A disk that is at once done, and an application.
#[derive(Default)]
struct Outside {
    written: Vec<u64>,
    busy: bool,
    applied: u64,
}

impl Ports for Outside {
    fn send(&mut self, _messages: Vec<raftpb::Message>) {}

    fn write(&mut self, write: Write, _direct: bool) {
        if let Write::Append { number, .. } = write {
            self.written.extend(number);
        }
    }

    fn save(&mut self, _snapshot: raftpb::Snapshot) -> bool {
        false
    }

    fn apply(&mut self, work: Apply) -> Option<Apply> {
        if self.busy {
            return Some(work);
        }
        if let Apply::Entries(entries) = work {
            self.applied = entries.last().map_or(self.applied, raftpb::Entry::index);
        }
        None
    }

    fn read_state(&mut self, _request: u64, _index: u64) {}

    fn soft_state(&mut self, _state: SoftState) {}

    fn snapshot_recorded(&mut self, _index: u64) {}
}

#[test]
fn entries_are_refused_while_too_many_wait_to_be_applied() {
    let config = CoreConfig {
        id: 1,
        election_ticks: 10,
        pre_vote: true,
        catch_up_entries: 10,
        seed: 1,
        start_millis: 1,
    };
    let hard_state = raftpb::HardState {
        term: Some(1),
        vote: Some(0),
        commit: Some(0),
    };
    let initial = InitialState {
        conf_state: raftpb::ConfState {
            voters: vec![1, 2, 3],
            auto_leave: Some(false),
            ..raftpb::ConfState::default()
        },
        hard_state,
        ..InitialState::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let core = Core::new(&config, initial, &logger).unwrap();
    let mut machine = Machine::new(core, hard_state, logger);
    let mut outside = Outside {
        busy: true,
        ..Outside::default()
    };
    // One payload, shared by all.
    let data = Bytes::from(vec![0; SIZE]);
    let send_all = |machine: &mut Machine, outside: &mut Outside| {
        for index in machine.core().last_index()..ENTRIES {
            let append = raftpb::Message {
                r#type: Some(raftpb::MessageType::MsgApp as i32),
                to: Some(1),
                from: Some(2),
                term: Some(1),
                log_term: Some(u64::from(index > 0)),
                index: Some(index),
                commit: Some(index + 1),
                entries: vec![raftpb::Entry {
                    r#type: None,
                    term: Some(1),
                    index: Some(index + 1),
                    data: Some(data.clone()),
                }],
                ..raftpb::Message::default()
            };
            machine.step(append).unwrap();
            machine.work(outside);
            for number in std::mem::take(&mut outside.written) {
                machine.report(Report::Persisted(number), outside);
            }
            machine.work(outside);
        }
    };
    send_all(&mut machine, &mut outside);
    let held = machine.core().last_index();
    assert!((64..=66).contains(&held), "512 MiB and little more: {held}");
    // It hears of its leader all the same.
    let heartbeat = raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
        to: Some(1),
        from: Some(2),
        term: Some(1),
        ..raftpb::Message::default()
    };
    machine.step(heartbeat).unwrap();
    assert_eq!(machine.core().soft_state().leader, 2);

    outside.busy = false;
    machine.work(&mut outside);
    send_all(&mut machine, &mut outside);
    assert_eq!(machine.core().last_index(), ENTRIES);
    assert_eq!(outside.applied, ENTRIES);
}
