//! Installing while the member runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use retcd_proto::etcdserverpb as pb;
use retcd_raft_node::Apply;
use retcd_storage::fs::{Fs as _, OpenMode};
use retcd_storage::mvcc::{RangeQuery, ReadView};

use super::rig::{PATIENCE, Rig, SNAP, disk, nothing};
use super::script::{FOUNDED, Script};
use super::{ahead, index_of, snapshot_of};
use crate::client::{Client, WatchStream};
use crate::publish;

const ALL: RangeQuery<'static> = RangeQuery {
    key: b"\0",
    end: b"\0",
    rev: 0,
    limit: 0,
    count_only: false,
    keys_only: false,
};

type Pairs = Vec<(String, String)>;

fn read(view: &ReadView) -> (i64, Pairs) {
    let found = view.range(&ALL).unwrap();
    let pairs = found.kvs.iter().map(|kv| {
        use prost::Message as _;
        let kv = retcd_proto::mvccpb::KeyValue::decode(kv.encoded.clone()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            text(&kv.key),
            format!("{} at {} of {}", text(&kv.value), kv.mod_revision, kv.lease),
        )
    });
    (found.rev, pairs.collect())
}

/// A member that has heard only the beginning.
fn behind(script: &Script) -> Rig {
    let mut rig = Rig::start(&disk(), 2).unwrap();
    let (before, entries) = script.behind(FOUNDED);
    rig.tell(before, entries);
    rig.apply(script.last());
    rig
}

async fn reply(watch: &mut WatchStream) -> pb::WatchResponse {
    let reply = tokio::time::timeout(PATIENCE, watch.next()).await;
    reply.expect("a reply in time").unwrap().unwrap()
}

async fn watch(rig: &Rig, start_revision: i64) -> WatchStream {
    let client = Client::new(Arc::downgrade(&rig.member));
    let mut watch = client
        .watch(pb::WatchCreateRequest {
            key: b"\0".to_vec().into(),
            range_end: b"\0".to_vec().into(),
            start_revision,
            ..Default::default()
        })
        .unwrap();
    assert!(reply(&mut watch).await.created);
    watch
}

/// Events up to and with `last`: (revision, key, whether it is a deletion).
async fn events(watch: &mut WatchStream, last: i64) -> Vec<(i64, Vec<u8>, bool)> {
    let mut seen: Vec<(i64, Vec<u8>, bool)> = Vec::new();
    while seen.last().is_none_or(|(rev, ..)| *rev < last) {
        let reply = reply(watch).await;
        assert!(!reply.canceled, "{reply:?}");
        for event in reply.events {
            let deletes = event.r#type == 1;
            let kv = event.kv.unwrap();
            seen.push((kv.mod_revision, kv.key.to_vec(), deletes));
        }
    }
    seen
}

#[tokio::test]
async fn readers_and_watchers_go_over_while_a_snapshot_is_installed() {
    let mut script = Script::beginning();
    let mut b = behind(&script);
    let before = b.state();
    script.go_on(before.rev); // nothing that a watcher of `b` still needs
    let a = ahead(&script);
    let (message, database) = snapshot_of(&a);
    let index = index_of(&message);
    assert_eq!(index, script.last());
    let after = a.state();
    assert!(after.rev > before.rev + 10 && after.cluster != before.cluster);

    b.set_free();
    let mut live = watch(&b, 0).await;
    let mut early = watch(&b, before.rev - 2).await;
    let mut future = watch(&b, after.rev + 1).await;
    assert_eq!(events(&mut early, before.rev).await.len(), 3);

    // Readers: of one old version for ever, and of the newest again and again.
    let pinned = b.member.store.view();
    let old_file = b.member.backend();
    let expected_before = read(&pinned);
    let expected_after = read(&a.member.store.view());
    let stop = Arc::new(AtomicBool::new(false));
    let reader = thread::spawn({
        let (store, stop) = (b.member.store.clone(), stop.clone());
        move || {
            let mut seen = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let found = read(&store.view());
                let hash = store.hash_kv(0).unwrap();
                assert!(seen.entry(found.0).or_insert_with(|| found.1.clone()) == &found.1);
                assert!(hash.rev >= found.0);
            }
            seen
        }
    });
    // A linearizable read that was confirmed at the snapshot's index waits for it.
    let waits = thread::spawn({
        let member = b.member.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(member.linearizable())?;
            Ok::<_, crate::error::Error>(member.store.rev())
        }
    });
    b.answer_read(index);

    let received = b
        .member
        .database_received(index, &mut &database[..])
        .unwrap();
    assert_eq!(received, database.len() as u64);
    let used = free(&b);
    b.tell_snapshot(&message);
    b.wait_applied(index);
    assert_eq!(waits.join().unwrap().unwrap(), after.rev);
    assert_eq!(b.state(), after);
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap();
    for (rev, pairs) in &seen {
        let known = [&expected_before, &expected_after];
        assert!(
            known.contains(&&(*rev, pairs.clone())),
            "at {rev}: {pairs:?}"
        );
    }

    // The old file is there for whoever reads it, and gone with the last of them.
    assert_eq!(read(&pinned), expected_before);
    assert!(old_file.commit().is_ok());
    let names = b.fs.read_dir(SNAP.as_ref()).unwrap();
    let left = names.iter().filter(|name| name.contains("db"));
    assert_eq!(left.collect::<Vec<_>>(), ["db"]);
    let freed = free(&b);
    assert!(freed <= used, "{freed} {used}");
    drop((pinned, old_file));
    assert!(free(&b) > freed, "the old file takes space still");
    // The file in its place is locked.
    let path = format!("{SNAP}/db");
    let file = b.fs.open(path.as_ref(), OpenMode::Read).unwrap();
    assert!(!file.try_lock().unwrap());

    // The gap comes from history: each event once, in order; and what follows comes live.
    script.end();
    let (before_end, entries) = script.behind(index);
    for rig in [&a, &b] {
        rig.tell(before_end, entries);
    }
    let mut a = a;
    a.apply(script.last());
    b.wait_applied(script.last());
    let end = a.state();
    assert_eq!(
        b.state(),
        end,
        "leases, alarms and members were those of the leader"
    );
    let all = events(&mut live, end.rev).await;
    assert_eq!(all, events(&mut early, end.rev).await);
    assert_eq!(all[0].0, before.rev + 1);
    assert!(all.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    let revisions: std::collections::BTreeSet<i64> = all.iter().map(|event| event.0).collect();
    assert!(
        revisions.into_iter().eq(before.rev + 1..=end.rev),
        "no revision is missing"
    );
    let later = events(&mut future, end.rev).await;
    assert_eq!(later, all[all.len() - later.len()..]);
    assert_eq!(later[0].0, after.rev + 1);
    let snap = &b.member.metrics.snap;
    assert_eq!(snap.db_save.get_sample_count(), 1);
    assert_eq!(snap.db_fsync.get_sample_count(), 1);
    assert_eq!(snap.save.get_sample_count(), 1);
    assert_eq!(snap.applying.get(), 0);
    b.stop();
    a.stop();
}

/// The leader took what a joining member says about itself into the snapshot that it sends it.
#[tokio::test]
async fn what_a_member_publishes_may_come_back_in_a_snapshot() {
    let mut script = Script::beginning();
    let mut b = behind(&script);
    script.go_on(b.state().rev);
    let a = ahead(&script);
    let (message, database) = snapshot_of(&a);
    let index = index_of(&message);
    b.set_free();
    let urls = ["http://10.0.0.2:2379".to_owned()];
    // The leader says nothing of the proposal, however often it comes.
    let published = publish::attributes(&b.member, "m2", &urls);
    let install = async {
        b.member
            .database_received(index, &mut &database[..])
            .unwrap();
        b.tell_snapshot(&message);
    };
    let (published, ()) = tokio::join!(tokio::time::timeout(PATIENCE, published), install);
    published.expect("it learns of it in time").unwrap();
    b.stop();
    a.stop();
}

fn free(rig: &Rig) -> u64 {
    // The simulated disk looks for what nobody needs when a directory is synced.
    rig.fs.sync_dir(SNAP.as_ref()).unwrap();
    rig.fs.available(SNAP.as_ref()).unwrap()
}

#[tokio::test]
async fn a_watcher_whose_gap_is_compacted_is_cancelled() {
    let mut script = Script::beginning();
    let mut b = behind(&script);
    let before = b.state();
    script.go_on(before.rev + 4);
    let a = ahead(&script);
    let (message, database) = snapshot_of(&a);
    b.set_free();
    let mut live = watch(&b, 0).await;
    let mut future = watch(&b, before.rev + 4).await;
    b.member
        .database_received(index_of(&message), &mut &database[..])
        .unwrap();
    b.tell_snapshot(&message);
    b.wait_applied(index_of(&message));
    let end = loop {
        let reply = reply(&mut live).await;
        if reply.canceled {
            break reply;
        }
        assert!(reply.events.is_empty(), "half of what it missed: {reply:?}");
    };
    assert_eq!(end.compact_revision, before.rev + 4);
    let rev = a.member.store.rev();
    let seen = events(&mut future, rev).await;
    assert_eq!(
        seen[0].0,
        before.rev + 4,
        "it needs nothing that is compacted"
    );
    assert_eq!(b.state(), a.state());
}

#[test]
fn snapshots_follow_each_other_and_an_older_one_changes_nothing() {
    let mut script = Script::beginning();
    let mut b = behind(&script);
    let rev = b.state().rev;
    script.go_on(rev);
    let mut a = ahead(&script);
    let first = snapshot_of(&a);
    script.end();
    let (before, entries) = script.behind(index_of(&first.0));
    a.tell(before, entries);
    a.apply(script.last());
    let second = snapshot_of(&a);
    let mut installed = Vec::new();
    for (message, database) in [&first, &second] {
        let index = index_of(message);
        b.member
            .database_received(index, &mut &database[..])
            .unwrap();
        b.tell_snapshot(message);
        b.apply(index);
        installed.push(b.state());
    }
    assert_ne!(installed[0], installed[1]);
    assert_eq!(installed[1], a.state());
    // Raft hands out no such thing. If it did:
    let applier = b.applier.as_mut().unwrap();
    for (message, _) in [&first, &second] {
        let work = Apply::Snapshot(message.snapshot.clone().unwrap());
        let none = nothing();
        assert!(!applier.apply_batch(work, &none).unwrap());
    }
    assert_eq!(b.state(), installed[1]);
    // One that is not needed is read to its end and not kept.
    let (message, database) = &first;
    let len = b
        .member
        .database_received(index_of(message), &mut &database[..])
        .unwrap();
    assert_eq!(len, database.len() as u64);
    let names = b.fs.read_dir(SNAP.as_ref()).unwrap();
    assert!(
        !names.iter().any(|name| name.ends_with(".snap.db")),
        "{names:?}"
    );
}

#[test]
fn without_its_database_a_snapshot_stops_the_member_with_a_sentence() {
    let mut script = Script::beginning();
    let mut b = behind(&script);
    let state = b.state();
    script.go_on(state.rev);
    let (message, _) = snapshot_of(&ahead(&script));
    let snapshot = message.snapshot.unwrap();
    let applier = b.applier.as_mut().unwrap();
    let error = applier.install(&snapshot).unwrap_err().to_string();
    assert!(
        error.starts_with("failed to open snapshot backend"),
        "{error}"
    );
    assert!(error.contains(".snap.db is not there"), "{error}");
    assert_eq!(b.state(), state, "nothing is changed");
    assert_eq!(b.member.metrics.snap.applying.get(), 0);
}

/// What the member does while it installs is not in anybody's way: raft answers.
#[test]
fn raft_goes_on_while_a_snapshot_waits_for_the_apply_thread() {
    let mut script = Script::beginning();
    let b = behind(&script);
    script.go_on(b.state().rev);
    let (message, database) = snapshot_of(&ahead(&script));
    let index = index_of(&message);
    b.member
        .database_received(index, &mut &database[..])
        .unwrap();
    b.tell_snapshot(&message);
    // Not applied: nobody takes it yet. The log goes on behind it.
    script.end();
    let (before, entries) = script.behind(index);
    b.tell(before, entries);
    super::rig::wait_for("the log", || {
        (b.member.node().status().committed == script.last()).then_some(())
    });
    assert!(b.member.applied() < index);
    assert!(matches!(b.next_work(), Apply::Snapshot(_)));
}

/// How long the parts of it take with a million keys, on a disk that is memory.
#[test]
#[ignore = "a measurement"]
fn a_million_keys() {
    let mut script = Script::default();
    let b = behind(&Script::beginning());
    for n in 0..1_000_000 {
        script.put(&format!("key/{n:08}"), &"v".repeat(200), 0);
    }
    let mut a = Rig::start(&disk(), 1).unwrap();
    let mut at = FOUNDED;
    for entries in script.behind(FOUNDED).1.chunks(5000) {
        let term = if at > FOUNDED { super::rig::TERM } else { 1 };
        a.tell((at, term), entries);
        at += entries.len() as u64;
        a.apply(at);
        a.member.backend().commit().unwrap();
    }
    let clock = std::time::Instant::now;
    let begin = clock();
    let (message, database) = snapshot_of(&a);
    println!(
        "copied {} MiB in {:?}",
        database.len() >> 20,
        begin.elapsed()
    );
    let begin = clock();
    let index = index_of(&message);
    b.member
        .database_received(index, &mut &database[..])
        .unwrap();
    println!("received in {:?}", begin.elapsed());
    let mut b = b;
    b.set_free();
    let begin = clock();
    b.tell_snapshot(&message);
    b.wait_applied(index);
    println!("installed in {:?}", begin.elapsed());
    assert_eq!(b.state(), a.state());
}
