//! What happens to leases as time passes and leaders change, step by step.

use retcd_storage::mvcc::Store;

use super::*;
use crate::lease::deadlines::{CHECKPOINT_INTERVAL, RETRY};
use crate::lease::shared::{MAX_REVOKING, NotPrimary, Renewal, TimeToLive, Work};

struct Rig {
    clock: Arc<ManualClock>,
    leases: Arc<Leases>,
    lessor: Lessor,
    store: Store,
}

impl Rig {
    /// A member that leads in term 2.
    fn leading() -> Self {
        let rig = Self::following();
        rig.lead(2);
        rig
    }

    fn following() -> Self {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
        let leases = with_clock(clock.clone());
        let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
        let (writer, reader) = Writer::start(engine, WriterOptions::default());
        let lessor = Lessor::load(&reader, MIN_TTL, leases.clone()).unwrap();
        let store = Store::open(writer, reader, StoreOptions::default()).unwrap();
        Self {
            clock,
            leases,
            lessor,
            store,
        }
    }

    fn lead(&self, term: u64) {
        self.leases.elected(Some(term));
        self.leases.term_begun(term);
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        self.lessor.grant(self.store.backend(), id, ttl).unwrap();
    }

    fn revoke(&mut self, id: i64) {
        self.lessor.revoke(&mut self.store, id).unwrap();
    }

    fn checkpoint(&mut self, id: i64, left: i64) {
        self.lessor.checkpoint(self.store.backend(), id, left, true);
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn expired(&self) -> Vec<i64> {
        self.leases.work().expired
    }

    fn left(&self, id: i64) -> i64 {
        let found = self.leases.time_to_live(id, false).unwrap();
        found.unwrap().left
    }
}

#[test]
fn a_lease_ends_with_its_time_and_not_before() {
    let mut rig = Rig::leading();
    rig.grant(1, 10);
    rig.clock.advance(Duration::from_millis(9_999));
    assert_eq!(rig.expired(), [0; 0]);
    assert_eq!(rig.left(1), 0);
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(rig.expired(), [1]);
    rig.clock.advance(Duration::from_millis(2_500));
    assert_eq!(rig.left(1), -2, "over, and not revoked yet");
    rig.revoke(1);
    assert_eq!(rig.leases.metrics().expired.get(), 1);
    assert_eq!(rig.leases.time_to_live(1, false), Ok(None));
    rig.leases.check();
}

#[test]
fn the_wall_clock_does_not_matter() {
    // L1
    let mut rig = Rig::leading();
    rig.grant(1, 10);
    rig.clock.set_unix(Duration::from_secs(4_000_000_000));
    assert_eq!(rig.expired(), [0; 0], "a step forward ends nothing");
    rig.clock.set_unix(Duration::ZERO);
    rig.pass(10);
    assert_eq!(rig.expired(), [1], "a step back prolongs nothing");
}

#[test]
fn a_renewal_gives_the_full_time() {
    let mut rig = Rig::leading();
    rig.grant(1, 10);
    rig.grant(2, 10);
    rig.pass(9);
    assert!(matches!(rig.leases.renew(1), Ok(Renewal::Renewed(10))));
    assert!(matches!(rig.leases.renew(3), Ok(Renewal::Unknown)));
    rig.pass(1);
    assert_eq!(rig.expired(), [2]);
    rig.revoke(2);
    assert_eq!(rig.left(1), 9);
    rig.pass(8);
    assert_eq!(rig.expired(), [0; 0]);
    rig.pass(1);
    assert_eq!(rig.expired(), [1]);
    rig.leases.check();
}

#[test]
fn a_revoke_is_proposed_once_and_again_if_it_got_lost() {
    // L6
    let mut rig = Rig::leading();
    rig.grant(1, 2);
    rig.pass(2);
    assert_eq!(rig.expired(), [1]);
    assert_eq!(rig.expired(), [0; 0], "it is on its way");
    rig.clock.advance(RETRY);
    assert_eq!(rig.expired(), [1]);
    rig.leases.put_back(&[1]);
    rig.clock.advance(Duration::from_millis(100));
    assert_eq!(rig.expired(), [1], "raft had no room");
    rig.revoke(1);
    rig.clock.advance(RETRY);
    assert_eq!(rig.expired(), [0; 0]);
    rig.leases.check();
}

#[test]
fn only_so_many_revokes_are_on_their_way() {
    let mut rig = Rig::leading();
    let many = MAX_REVOKING as i64 * 2;
    for id in 1..=many {
        rig.grant(id, 2);
    }
    rig.pass(2);
    assert_eq!(rig.expired().len(), MAX_REVOKING);
    assert_eq!(rig.expired(), [0; 0]);
    // A lost one is proposed again all the same.
    rig.clock.advance(RETRY);
    assert_eq!(rig.expired().len(), MAX_REVOKING);
    rig.revoke(3);
    assert_eq!(rig.expired().len(), 1);
}

#[test]
fn who_renews_too_late_waits_for_the_end() {
    let mut rig = Rig::leading();
    rig.grant(1, 2);
    rig.grant(2, 2);
    rig.pass(2);
    let Ok(Renewal::Expired(mut one)) = rig.leases.renew(1) else {
        panic!("it is over");
    };
    let Ok(Renewal::Expired(mut two)) = rig.leases.renew(2) else {
        panic!("it is over");
    };
    assert!(one.try_recv().is_err());
    rig.revoke(1);
    assert_eq!(one.try_recv(), Ok(()));
    rig.leases.elected(None);
    let error = two.try_recv().unwrap_err();
    assert_eq!(error, tokio::sync::oneshot::error::TryRecvError::Closed);
}

#[test]
fn who_is_deposed_neither_revokes_nor_renews() {
    // L2
    let mut rig = Rig::leading();
    rig.grant(1, 5);
    rig.leases.elected(None);
    rig.pass(100);
    assert_eq!(rig.leases.work(), Work::default());
    assert!(matches!(rig.leases.renew(1), Err(NotPrimary)));
    assert_eq!(rig.leases.time_to_live(1, false), Err(NotPrimary));
    assert!(rig.leases.contains(1));
    assert_eq!(rig.leases.ids(), [1]);
}

#[test]
fn who_leads_waits_until_it_has_applied_what_was_before() {
    let mut rig = Rig::following();
    rig.grant(1, 5);
    rig.leases.term_begun(3);
    rig.leases.elected(Some(4));
    rig.pass(100);
    assert!(matches!(rig.leases.renew(1), Err(NotPrimary)));
    rig.grant(2, 5);
    rig.leases.term_begun(4);
    assert_eq!(*rig.leases.part().borrow(), Part::Primary);
    assert_eq!((rig.left(1), rig.left(2)), (6, 6), "all, and a grace");
    rig.pass(6);
    let work = rig.leases.work();
    assert_eq!((work.term, work.expired), (4, vec![1, 2]));
}

#[test]
fn the_entry_of_a_term_may_be_seen_before_the_election() {
    let mut rig = Rig::following();
    rig.grant(1, 5);
    rig.leases.term_begun(4);
    rig.leases.elected(Some(4));
    assert_eq!(rig.left(1), 6);
}

#[test]
fn a_new_term_begins_anew() {
    let mut rig = Rig::leading();
    rig.grant(1, 5);
    rig.pass(4);
    rig.leases.elected(Some(3));
    assert!(matches!(rig.leases.renew(1), Err(NotPrimary)));
    rig.pass(4);
    rig.leases.term_begun(3);
    assert_eq!(rig.left(1), 6);
    rig.pass(6);
    assert_eq!(rig.leases.work().term, 3);
}

#[test]
fn what_is_left_is_written_down() {
    // L3
    let mut rig = Rig::leading();
    rig.grant(1, 1000);
    rig.grant(2, 200);
    rig.clock.advance(CHECKPOINT_INTERVAL);
    rig.clock.advance(Duration::from_millis(1));
    let work = rig.leases.work();
    assert_eq!(work.expired, [2]);
    assert_eq!(work.checkpoints, [(1, 700)]);
    rig.checkpoint(1, 700);
    rig.revoke(2);
    rig.clock.advance(CHECKPOINT_INTERVAL);
    assert_eq!(rig.leases.work().checkpoints, [(1, 400)]);
    rig.checkpoint(1, 400);

    rig.lead(3);
    assert_eq!(rig.left(1), 401, "not all its time again");
    rig.clock.advance(CHECKPOINT_INTERVAL);
    assert_eq!(
        rig.leases.work().checkpoints,
        [(1, 101)],
        "goes on after the change"
    );
    rig.leases.check();
}

#[test]
fn a_renewal_takes_a_checkpoint_back() {
    let mut rig = Rig::leading();
    rig.grant(1, 1000);
    rig.clock.advance(CHECKPOINT_INTERVAL);
    assert_eq!(rig.leases.work().checkpoints, [(1, 700)]);
    // It may be committed already, whether this member has seen it or not.
    assert!(matches!(
        rig.leases.renew(1),
        Ok(Renewal::Checkpointed(1000))
    ));
    rig.checkpoint(1, 700);
    assert!(matches!(
        rig.leases.renew(1),
        Ok(Renewal::Checkpointed(1000))
    ));
    rig.checkpoint(1, 0);
    assert!(matches!(rig.leases.renew(1), Ok(Renewal::Renewed(1000))));
    rig.lead(3);
    assert_eq!(rig.left(1), 1001);
}

#[test]
fn a_lease_that_is_renewed_needs_no_checkpoint() {
    let mut rig = Rig::leading();
    rig.grant(1, 1000);
    for _ in 0..20 {
        rig.pass(100);
        assert_eq!(
            rig.leases.work(),
            Work {
                term: 2,
                ..Work::default()
            }
        );
        assert!(matches!(rig.leases.renew(1), Ok(Renewal::Renewed(1000))));
    }
    rig.leases.check();
}

#[test]
fn huge_leases_do_not_overflow() {
    let mut rig = Rig::leading();
    rig.grant(1, MAX_TTL);
    rig.pass(1);
    assert_eq!(rig.left(1), MAX_TTL - 1);
    rig.lead(3);
    assert!(matches!(rig.leases.renew(1), Ok(Renewal::Renewed(MAX_TTL))));
    // As a damaged checkpoint would have it.
    rig.checkpoint(1, i64::MAX);
    rig.lead(4);
    assert_eq!(rig.left(1), i64::MAX);
    rig.checkpoint(1, i64::MIN);
    rig.lead(5);
    assert_eq!(rig.left(1), MAX_TTL + 1);
}

#[test]
fn keys_are_told_in_order() {
    let mut rig = Rig::leading();
    rig.grant(1, 10);
    for key in ["b", "a", "c"] {
        rig.lessor.attach(&Bytes::from(key), 1);
    }
    let found = rig.leases.time_to_live(1, true).unwrap().unwrap();
    let keys = ["a", "b", "c"].map(Bytes::from).to_vec();
    assert_eq!(
        found,
        TimeToLive {
            left: 10,
            granted: 10,
            keys
        }
    );
}

#[test]
fn those_that_end_first_are_listed_first() {
    let mut rig = Rig::leading();
    for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
        rig.grant(id, ttl);
    }
    assert_eq!(rig.leases.ids(), [2, 3, 1]);
    rig.leases.elected(None);
    assert_eq!(rig.leases.ids(), [1, 2, 3]);
}

/// The thread sleeps until there is something to do, and no longer.
#[test]
fn the_keeper_is_woken() {
    let clock = Arc::new(retcd_storage::clock::SystemClock);
    let metrics = Metrics::new().unwrap();
    let leases = Arc::new(Leases::new(clock, Duration::ZERO, metrics.lease.clone()));
    let (work, seen) = std::sync::mpsc::channel();
    let keeper = std::thread::spawn({
        let leases = leases.clone();
        move || {
            while let Some(done) = leases.wait_for_work() {
                work.send(done.expired).unwrap();
            }
        }
    });
    let engine: Arc<dyn Backend> = Arc::new(MemBackend::new());
    let (mut writer, reader) = Writer::start(engine, WriterOptions::default());
    let mut lessor = Lessor::load(&reader, 1, leases.clone()).unwrap();
    leases.elected(Some(1));
    leases.term_begun(1);
    lessor.grant(&mut writer, 1, 3600).unwrap();
    lessor.grant(&mut writer, 2, 1).unwrap();
    let patience = Duration::from_secs(20);
    assert_eq!(seen.recv_timeout(patience), Ok(vec![2]));
    leases.close();
    keeper.join().unwrap();
    assert_eq!(*leases.part().borrow(), Part::Stopped);
    leases.elected(Some(2));
    leases.term_begun(2);
    assert_eq!(*leases.part().borrow(), Part::Stopped);
}
