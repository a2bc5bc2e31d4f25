//! Leases over changes of leader, by `kill -9` and by `MoveLeader`, in a cluster of three.
//!
//! Clients are granted leases through any member, attach keys, and renew some of them through any member. What a
//! client was told holds whoever leads; who is not renewed is gone when its time is over after the last change of
//! leader, which gives it all of its time again and one election timeout on top, as etcd does.
//!
//! `RETCD_LEASE_LEADERS` sets the number of leaders, `RETCD_LEASE_SEED` the chance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::member::PATIENCE;
use retcd_tests::nodes::{Caller, Cluster, Failure, Kind};
use retcd_tests::random::Random;

use crate::{GRACE, number, runtime, slack};

const CALL: Duration = Duration::from_secs(8);

/// Leases that outlive the test, in seconds.
const LONG: i64 = 3600;

struct Held {
    ttl: Duration,
    /// Its client asked then for what it was answered last.
    asked: Instant,
    /// And was answered then at the latest.
    answered: Instant,
    keys: BTreeSet<String>,
}

impl Held {
    /// Not before.
    fn end(&self) -> Instant {
        self.asked + self.ttl
    }

    /// Not later, but for what a member needs to revoke it; `led`: the leader keeps the time since then.
    fn latest(&self, led: Instant) -> Instant {
        self.answered.max(led + GRACE) + self.ttl
    }
}

struct Rig {
    cluster: Cluster,
    random: Random,
    held: BTreeMap<i64, Held>,
    next: i64,
    /// By how much leases outlived the latest time that was promised.
    late: Vec<Duration>,
    /// The longest put while leases ended: how busy the machine is.
    slowest: Duration,
}

#[test]
fn leases_outlive_leaders() {
    let seed = Random::seed("RETCD_LEASE_SEED", 1);
    let leaders = number("RETCD_LEASE_LEADERS", 4);
    println!("RETCD_LEASE_SEED={seed} RETCD_LEASE_LEADERS={leaders}");
    let cluster = Cluster::prepare(&[Kind::Ours; 3], &[], &[]).expect("nothing is looked for");
    let rig = Rig {
        cluster,
        random: Random::new(seed),
        held: BTreeMap::new(),
        next: 1,
        late: Vec::new(),
        slowest: Duration::ZERO,
    };
    runtime().block_on(rig.play(leaders));
}

impl Rig {
    async fn play(mut self, leaders: u64) {
        self.cluster.bootstrap().await;
        for n in 0..leaders {
            for _ in 0..10 {
                self.grant().await;
            }
            self.renew_some().await;
            let leader = self.cluster.leader().await;
            if n % 2 == 0 {
                self.cluster.nodes[leader].kill();
                // Renewals are answered while it is away.
                self.renew_some().await;
                self.cluster.restart(leader);
            } else {
                self.cluster.lead((leader + 1) % 3).await;
                self.renew_some().await;
            }
            self.cluster.settled().await;
            self.none_ended_early().await;
        }
        self.all_end_in_time().await;
        self.all_agree().await;
        self.late.sort();
        let median = self.late[self.late.len() / 2];
        println!(
            "{} ended, {median:?} after their latest time at the median and {:?} at worst; slowest put {:?}",
            self.late.len(),
            self.late.last(),
            self.slowest
        );
        assert!(median < slack(self.slowest) / 2, "half of them ended {median:?} late and later");
    }

    /// A member to call, by chance.
    fn any(&mut self) -> usize {
        let up: Vec<_> = (0..3).filter(|n| self.cluster.nodes[*n].serving()).collect();
        up[usize::try_from(self.random.within(0, up.len() as u64)).expect("small")]
    }

    async fn grant(&mut self) {
        let ttl = if self.random.one_in(4) { LONG } else { i64::try_from(self.random.within(2, 7)).expect("small") };
        let (id, n) = (self.next, self.any());
        self.next += 1;
        let request = pb::LeaseGrantRequest { ttl, id };
        let asked = Instant::now();
        let granted = self.cluster.until(n, "a grant", async |caller, at| {
            match caller.call::<pb::LeaseGrantResponse>(at, "Lease/LeaseGrant", &request, CALL).await {
                // The answer to an earlier try was lost.
                Err(Failure::Refused { code: 9, text }) if text.contains("already exists") => Ok(ttl),
                reply => reply.map(|reply| reply.ttl),
            }
        });
        let ttl = granted.await;
        let answered = Instant::now();
        let ttl = Duration::from_secs(u64::try_from(ttl).expect("above zero"));
        let mut held = Held { ttl, asked, answered, keys: BTreeSet::new() };
        for k in 0..self.random.within(0, 3) {
            let key = format!("k{id:05}/{k}");
            let request = pb::PutRequest { key: key.clone().into(), lease: id, ..Default::default() };
            let put = self.cluster.until(n, "a put", async |caller, at| {
                match caller.call::<pb::PutResponse>(at, "KV/Put", &request, CALL).await {
                    Err(Failure::Refused { code: 5, .. }) => Ok(false),
                    reply => reply.map(|_| true),
                }
            });
            if !put.await {
                assert!(Instant::now() >= held.end(), "lease {id} ended early");
                break;
            }
            held.keys.insert(key);
        }
        self.held.insert(id, held);
    }

    /// Renews about half of all leases, each through some member.
    async fn renew_some(&mut self) {
        let ids: Vec<i64> = self.held.keys().copied().collect();
        for id in ids {
            if self.random.one_in(2) {
                continue;
            }
            let at = self.any();
            let at = self.cluster.nodes[at].client();
            let request = pb::LeaseKeepAliveRequest { id };
            let asked = Instant::now();
            let renewed =
                self.cluster.caller.call::<pb::LeaseKeepAliveResponse>(at, "Lease/LeaseKeepAlive", &request, CALL);
            // There may be no leader at the moment: then nothing was promised, and perhaps it is renewed all the same.
            let renewed = renewed.await;
            let now = Instant::now();
            let held = self.held.get_mut(&id).expect("known");
            match renewed {
                Ok(reply) if reply.ttl > 0 => (held.asked, held.answered) = (asked, now),
                Ok(_) => assert!(now >= held.end(), "lease {id} of {:?} was lost or ended early", held.ttl),
                Err(_) => held.answered = now,
            }
        }
    }

    async fn none_ended_early(&mut self) {
        for n in 0..3 {
            self.cluster.serves(n).await;
            let at = self.cluster.nodes[n].client();
            let (leases, keys) = state(&mut self.cluster.caller, at).await.expect("its leases and keys");
            let now = Instant::now();
            for (id, held) in self.held.iter().filter(|(_, held)| now < held.end()) {
                assert!(leases.contains(id), "member {n}: lease {id} of {:?} ended early", held.ttl);
                assert_eq!(keys.get(id).unwrap_or(&BTreeSet::new()), &held.keys, "member {n}: lease {id}");
            }
        }
    }

    /// What nobody renews any more goes in time.
    async fn all_end_in_time(&mut self) {
        let (mut led, mut term) = (Instant::now(), 0);
        let begin = Instant::now();
        while self.held.values().any(|held| held.ttl.as_secs() < 60) {
            assert!(begin.elapsed() < 3 * PATIENCE, "leases do not end");
            let n = self.cluster.leader().await;
            let at = self.cluster.nodes[n].client();
            let put = pb::PutRequest { key: "busy".into(), ..Default::default() };
            let started = Instant::now();
            // After it, the leader has applied what came before its term, and keeps the time.
            let Ok(reply) = self.cluster.caller.call::<pb::PutResponse>(at, "KV/Put", &put, CALL).await else {
                continue;
            };
            self.slowest = self.slowest.max(started.elapsed());
            let now_term = reply.header.expect("a header").raft_term;
            let before = Instant::now();
            if now_term != term {
                // A busy machine may have changed the leader.
                (led, term) = (before, now_term);
            }
            let Ok((leases, _)) = state(&mut self.cluster.caller, at).await else { continue };
            let now = Instant::now();
            let slack = slack(self.slowest.max(now - before));
            self.held.retain(|id, held| {
                if !leases.contains(id) {
                    assert!(now >= held.end(), "lease {id} of {:?} ended early", held.ttl);
                    self.late.push(now.saturating_duration_since(held.latest(led)));
                    return false;
                }
                let latest = held.latest(led) + slack;
                assert!(before <= latest, "lease {id} of {:?} lives {:?} too long", held.ttl, before - latest);
                true
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The rest is the same on all members.
    async fn all_agree(&mut self) {
        self.cluster.same_hash().await;
        assert!(!self.held.is_empty() && !self.late.is_empty(), "no leases, no test");
        let held: BTreeSet<i64> = self.held.keys().copied().collect();
        for n in 0..3 {
            self.cluster.serves(n).await;
            let at = self.cluster.nodes[n].client();
            let (leases, keys) = state(&mut self.cluster.caller, at).await.expect("its leases and keys");
            assert_eq!(leases, held, "member {n}");
            for (id, held) in &self.held {
                assert_eq!(keys.get(id).unwrap_or(&BTreeSet::new()), &held.keys, "member {n}: lease {id}");
                let request = pb::LeaseTimeToLiveRequest { id: *id, keys: true };
                let told = self.cluster.until(n, "a time to live", async |caller, at| {
                    caller.call::<pb::LeaseTimeToLiveResponse>(at, "Lease/LeaseTimeToLive", &request, CALL).await
                });
                let told = told.await.keys.into_iter().map(|key| String::from_utf8_lossy(&key).into_owned());
                assert_eq!(told.collect::<BTreeSet<_>>(), held.keys, "member {n}: lease {id}");
            }
            let of_none = keys.keys().find(|id| !held.contains(id));
            assert_eq!(of_none, None, "member {n}: keys outlive their lease");
        }
    }
}

/// The leases of a member, and the keys of leases, as it has them itself.
async fn state(
    caller: &mut Caller,
    at: SocketAddr,
) -> Result<(BTreeSet<i64>, BTreeMap<i64, BTreeSet<String>>), Failure> {
    let all =
        pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), serializable: true, ..Default::default() };
    let range: pb::RangeResponse = caller.call(at, "KV/Range", &all, CALL).await?;
    let request = pb::LeaseLeasesRequest {};
    let listed: pb::LeaseLeasesResponse = caller.call(at, "Lease/LeaseLeases", &request, CALL).await?;
    let mut keys: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for kv in range.kvs.iter().filter(|kv| kv.lease != 0) {
        keys.entry(kv.lease).or_default().insert(String::from_utf8_lossy(&kv.key).into_owned());
    }
    Ok((listed.leases.iter().map(|lease| lease.id).collect(), keys))
}
