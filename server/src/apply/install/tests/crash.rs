//! Power failures from the first byte of a database that comes until entries behind it are applied.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use retcd_storage::fs::sim::Plan;
use retcd_storage::fs::{Fs as _, SimFs};

use super::rig::{Rig, SNAP, State, disk, nothing};
use super::script::{FOUNDED, Script};
use super::{ahead, index_of, snapshot_of};

/// A member that has heard the beginning, all of it in its database.
fn begun(fs: &SimFs, script: &Script) -> Rig {
    let mut rig = Rig::start(fs, 2).unwrap();
    let (before, entries) = script.behind(FOUNDED);
    rig.tell(before, entries);
    rig.apply(script.last());
    rig.member.backend().commit().unwrap();
    rig
}

/// What a member is after its start, once it has applied all that its log knows to be committed.
fn start(fs: &SimFs, about: &str) -> Rig {
    let mut rig = Rig::start(fs, 2).unwrap_or_else(|error| panic!("{about}: {error}"));
    let committed = rig.member.node().status().committed;
    rig.apply(committed);
    rig
}

/// D9, D16: a start finds the old state or the new one, and never a mixture. From the old one, the snapshot can come
/// again; what was acknowledged behind the new one is there.
#[test]
fn a_start_finds_the_old_state_or_the_new_one() {
    let mut script = Script::beginning();
    let (fs, common) = (disk(), script.last());
    let mut b = begun(&fs, &script);
    let old = b.state();
    script.go_on(old.rev);
    let mut a = ahead(&script);
    let (message, database) = snapshot_of(&a);
    let (index, new) = (index_of(&message), a.state());
    script.end();
    let (before, entries) = script.behind(index);
    a.tell(before, entries);
    a.apply(script.last());
    let end = a.state();

    fs.record();
    b.member
        .database_received(index, &mut &database[..])
        .unwrap();
    fs.mark(1);
    b.tell_snapshot(&message);
    let work = b.next_work();
    // The snapshot's file, its record and the hard state are durable, in this order.
    fs.mark(2);
    let applier = b.applier.as_mut().unwrap();
    applier.apply_batch(work, &nothing()).unwrap();
    fs.mark(3);
    assert_eq!(b.state(), new);
    b.tell(before, entries);
    b.apply(script.last());
    b.member.backend().commit().unwrap();
    fs.mark(4);
    assert_eq!(b.state(), end);
    let trace = fs.take_trace();
    b.stop();

    let found: [AtomicUsize; 3] = Default::default();
    let plan = Plan {
        seed: 0x5eed,
        bytes: false,
        subsets: 4,
        sectors: 16,
        random: 24,
    };
    let mut again = 0;
    let images = trace.images(&plan, |image| {
        let about = format!("mark {}: {}", image.mark, image.describe());
        let rig = start(&image.fs, &about);
        let state = rig.state();
        let n = [&old, &new, &end].iter().position(|known| {
            // Entries behind the snapshot that were committed come from the log one by one.
            state == **known
        });
        let between = state.applied > index && state.applied < script.last();
        assert!(n.is_some() || between, "{about}: a mixture: {state:?}");
        match image.mark {
            0 | 1 => assert!(state == old || state == new, "{about}"),
            2 | 3 => assert!(state.applied >= index, "{about}: {state:?}"),
            _ => assert_eq!(state, end, "{about}"),
        }
        if let Some(n) = n {
            found[n].fetch_add(1, Ordering::Relaxed);
        }
        let left = image.fs.read_dir(Path::new(SNAP)).unwrap();
        let left: Vec<_> = left
            .iter()
            .filter(|name| !name.ends_with(".snap"))
            .collect();
        assert_eq!(left, ["db"], "{about}");
        // The leader tells it again.
        if state == old && again < 40 {
            again += 1;
            tell_again(rig, &message, &database, &new, common);
        } else {
            rig.stop();
        }
    });
    let found: Vec<_> = found.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    println!("{images} images: {found:?} old, new, end");
    assert!(images > 300, "{images}");
    assert!(found.iter().all(|n| *n > 10), "{found:?}");
    assert!(again > 10, "{again}");
}

fn tell_again(
    mut rig: Rig,
    message: &retcd_proto::raftpb::Message,
    database: &[u8],
    new: &State,
    common: u64,
) {
    assert_eq!(rig.member.applied(), common);
    let index = index_of(message);
    rig.member
        .database_received(index, &mut &*database)
        .unwrap();
    rig.tell_snapshot(message);
    rig.apply(index);
    assert_eq!(rig.state(), *new);
    let fs = rig.fs.clone();
    rig.stop();
    // And it is there after the next start.
    let rig = start(&fs, "again");
    assert_eq!(rig.state(), *new);
    rig.stop();
}

/// Whichever call fails, the member stops and says why, and a start finds the old state or the new one.
#[test]
fn every_failing_call_stops_the_member_and_loses_nothing() {
    let mut script = Script::beginning();
    let template = disk();
    let b = begun(&template, &script);
    let old = b.state();
    b.stop();
    script.go_on(old.rev);
    let a = ahead(&script);
    let (message, database) = snapshot_of(&a);
    let (index, new) = (index_of(&message), a.state());
    let (mut refused, mut stopped) = (0, 0);
    for n in 1.. {
        let fs = template.fork();
        let mut b = start(&fs, "before");
        fs.fail_at(n, std::io::ErrorKind::Other, true);
        let received = b.member.database_received(index, &mut &database[..]);
        let mut installed = false;
        if received.is_ok() {
            b.tell_snapshot(&message);
            // Raft hands it over, or the member fails because its log cannot be written.
            let member = b.member.clone();
            let work = super::rig::wait_for("an outcome", || match b.try_work() {
                Some(work) => Some(Some(work)),
                None => member.has_failed().then_some(None),
            });
            if let Some(work) = work {
                let applier = b.applier.as_mut().unwrap();
                let done = applier.apply_batch(work, &nothing());
                installed = done.is_ok();
                if let Err(error) = done {
                    assert!(error.to_string().contains("simulated fault"), "{error}");
                }
            }
            stopped += usize::from(!installed);
        } else {
            refused += 1;
            assert!(!b.member.has_failed());
        }
        b.stop();
        fs.heal();
        for fs in [fs.crash(), fs.fork(), fs.crash_random(n)] {
            let rig = start(&fs, &format!("call {n}"));
            let state = rig.state();
            assert!(
                state == new || (state == old && !installed),
                "call {n}: {state:?}"
            );
            rig.stop();
        }
        if installed {
            break;
        }
    }
    assert!(refused > 4 && stopped > 8, "{refused} {stopped}");
}
