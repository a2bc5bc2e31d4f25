//! Leases over restarts, and many that end at once.
//!
//! In each round clients are granted leases, renew some of them and attach keys; then the server dies, by `kill -9`
//! or a stop, and comes back. What a client was told holds: no lease is lost, none ends before the time that its
//! client counts from its last answer. None lives for much longer than its time after the last start, and at every
//! start leases and keys agree. Guards L1, L3 and L8 of the reliability notes.
//!
//! `RETCD_LEASE_ROUNDS`, `RETCD_LEASE_SEED` and `RETCD_LEASE_MANY`: see README.

mod leaders;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};

use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::binary;
use retcd_tests::grpc::{Connection, frame};
use retcd_tests::http1;
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::random::Random;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// A key without a lease.
const BUSY: &str = "busy";

/// The election timeout.
const GRACE: Duration = Duration::from_secs(1);

/// How much later than one election timeout after its time a lease may end. Of its own a member needs one proposal; how
/// long that takes on a machine that is busy with other tests, the slowest call of the test tells.
pub(crate) fn slack(slowest: Duration) -> Duration {
    Duration::from_secs(1) + (2 * slowest).min(Duration::from_secs(9))
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// What a client knows of a lease.
struct Held {
    ttl: Duration,
    /// Its time counts from when the client last asked and was answered.
    since: Instant,
    keys: BTreeSet<String>,
}

#[derive(Default)]
struct Clients {
    held: BTreeMap<i64, Held>,
    next: u32,
    revoked: BTreeSet<i64>,
    /// How long those that ended outlived the latest time that was promised.
    late: Vec<Duration>,
    /// The longest call since the last start.
    slowest: Duration,
}

impl Clients {
    async fn grant(&mut self, connection: &Connection, random: &mut Random) {
        let ttl = if random.within(0, 5) == 0 { 3600 } else { random.within(2, 7) };
        let since = Instant::now();
        let request = pb::LeaseGrantRequest { ttl: ttl as i64, id: 0 };
        let reply: pb::LeaseGrantResponse = connection.call(GRANT, &request).await.reply().expect("a grant");
        assert!(reply.ttl >= ttl as i64 && reply.error.is_empty(), "{reply:?}");
        let mut held = Held { ttl: Duration::from_secs(reply.ttl as u64), since, keys: BTreeSet::new() };
        for _ in 0..random.within(0, 3) {
            self.next += 1;
            let key = format!("k{:07}", self.next);
            let request = pb::PutRequest { key: key.clone().into(), lease: reply.id, ..Default::default() };
            let put = connection.call(PUT, &request).await;
            // NotFound: it has ended by itself.
            let ended = put.code == Some(5) && held.since + held.ttl <= Instant::now();
            assert!(put.ok() || ended, "{put:?}");
            if ended {
                break;
            }
            held.keys.insert(key);
        }
        assert!(self.held.insert(reply.id, held).is_none(), "an id was given twice");
    }

    async fn renew(&mut self, connection: &Connection, id: i64) {
        let since = Instant::now();
        let body = frame(&pb::LeaseKeepAliveRequest { id }.encode_to_vec());
        let outcome = connection.send(KEEP_ALIVE, &[], body).await;
        let reply: pb::LeaseKeepAliveResponse = outcome.reply().expect("a renewal");
        let held = self.held.get_mut(&id).expect("known");
        if reply.ttl > 0 {
            held.since = since;
        } else {
            assert!(held.since + held.ttl <= Instant::now(), "lease {id:x} was lost or ended early");
        }
    }

    async fn revoke(&mut self, connection: &Connection, id: i64) {
        let outcome = connection.call(REVOKE, &pb::LeaseRevokeRequest { id }).await;
        let held = self.held.remove(&id).expect("known");
        // NotFound: it has ended by itself.
        assert!(outcome.ok() || outcome.code == Some(5) && held.since + held.ttl <= Instant::now(), "{outcome:?}");
        self.revoked.insert(id);
    }

    /// Compares with what the server has, which was started before `ready`.
    async fn check(&mut self, connection: &Connection, ready: Instant) -> Result<(), String> {
        // It goes through the log, as revokes do.
        let started = Instant::now();
        let put = connection.call(PUT, &pb::PutRequest { key: BUSY.into(), ..Default::default() }).await;
        assert!(put.ok(), "{put:?}");
        let before = Instant::now();
        let listed: pb::LeaseLeasesResponse =
            connection.call(LEASES, &pb::LeaseLeasesRequest {}).await.reply().expect("a list");
        let after = Instant::now();
        self.slowest = self.slowest.max(after - started);
        let listed: BTreeSet<i64> = listed.leases.iter().map(|lease| lease.id).collect();
        let known = |id: &&i64| !self.held.contains_key(id);
        if let Some(id) = listed.iter().find(known) {
            let revoked = self.revoked.contains(id);
            return Err(format!("lease {id:x} should not be there (revoked before: {revoked})"));
        }
        let mut gone = Vec::new();
        for (id, held) in &self.held {
            // A start gives it all of its time again, and one election timeout.
            let latest = ready + GRACE + held.ttl;
            if listed.contains(id) {
                let end = latest + slack(self.slowest);
                if before > end {
                    return Err(format!("lease {id:x} of {:?} lives {:?} too long", held.ttl, before - end));
                }
            } else if after < held.since + held.ttl {
                let early = held.since + held.ttl - after;
                return Err(format!("lease {id:x} of {:?} ended {early:?} early", held.ttl));
            } else {
                self.late.push(after.saturating_duration_since(latest));
                gone.push(*id);
            }
        }
        for id in gone {
            self.held.remove(&id);
        }
        self.check_keys(connection).await
    }

    async fn check_keys(&mut self, connection: &Connection) -> Result<(), String> {
        let all = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        let all: pb::RangeResponse = connection.call(RANGE, &all).await.reply().expect("a range");
        let mut attached: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for kv in all.kvs.into_iter().filter(|kv| kv.key != BUSY) {
            let key = String::from_utf8(kv.key.to_vec()).expect("text");
            attached.entry(kv.lease).or_default().insert(key);
        }
        if let Some(id) = attached.keys().find(|id| !self.held.contains_key(id)) {
            // It may have ended since the leases were listed, but not its keys after it.
            return Err(format!("keys {:?} outlive lease {id:x}", attached[id]));
        }
        for (id, held) in &self.held {
            let request = pb::LeaseTimeToLiveRequest { id: *id, keys: true };
            let reply: pb::LeaseTimeToLiveResponse =
                connection.call(TIME_TO_LIVE, &request).await.reply().expect("a reply");
            if reply.ttl < 0 {
                continue; // it has ended meanwhile
            }
            let told: BTreeSet<_> = reply.keys.iter().map(|k| String::from_utf8(k.to_vec()).expect("text")).collect();
            let found = attached.remove(id).unwrap_or_default();
            if told != found || found != held.keys {
                return Err(format!("lease {id:x}: keys {told:?}, attached are {found:?}, put were {:?}", held.keys));
            }
        }
        Ok(())
    }
}

#[test]
fn leases_outlive_restarts() {
    let seed = Random::seed("RETCD_LEASE_SEED", 1);
    let rounds = number("RETCD_LEASE_ROUNDS", 4);
    println!("RETCD_LEASE_SEED={seed} RETCD_LEASE_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let mut clients = Clients::default();
    let mut member = Member::start(Setup::new(binary::ours()));
    let runtime = runtime();
    let mut ready = Instant::now();
    for round in 1..=rounds {
        runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            for _ in 0..random.within(5, 30) {
                clients.grant(&connection, &mut random).await;
            }
            let ids: Vec<i64> = clients.held.keys().copied().collect();
            for id in ids {
                match random.within(0, 6) {
                    0 => clients.revoke(&connection, id).await,
                    1..=3 => clients.renew(&connection, id).await,
                    _ => {}
                }
            }
        });
        match random.within(0, 3) {
            0 => drop(member.terminate()),
            _ => member.kill(),
        }
        member.restart();
        ready = Instant::now();
        clients.slowest = Duration::ZERO;
        let checked = runtime.block_on(async {
            let connection = Connection::open(member.port()).await;
            clients.check(&connection, ready).await
        });
        if let Err(why) = checked {
            panic!("seed {seed}, round {round} of {rounds}: {why}\n{}", member.describe());
        }
    }
    // With a server that stays, the short ones end.
    runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        loop {
            if let Err(why) = clients.check(&connection, ready).await {
                panic!("seed {seed}, after {rounds} rounds: {why}\n{}", member.describe());
            }
            if clients.held.values().all(|held| held.ttl > Duration::from_secs(60)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    clients.late.sort();
    println!(
        "{} ended, half of them by {:?} after their latest time; {} revoked, {} live on; slowest call {:?}",
        clients.late.len(),
        clients.late.get(clients.late.len() / 2),
        clients.revoked.len(),
        clients.held.len(),
        clients.slowest
    );
    assert!(!clients.late.is_empty() && !clients.revoked.is_empty());
}

/// Grants so many leases, numbered from 1, and attaches a key to every tenth. False if that took so long that some
/// may have ended meanwhile.
async fn grant_all(member: &Member, many: u64, ttl: i64) -> bool {
    const WINDOW: usize = 200;
    let begin = Instant::now();
    let connection = Connection::open(member.port()).await;
    let ids: Vec<i64> = (1..=many as i64).collect();
    for ids in ids.chunks(WINDOW) {
        let grants = ids.iter().map(|id| {
            let (connection, id) = (connection.clone(), *id);
            tokio::spawn(async move {
                let granted = connection.call(GRANT, &pb::LeaseGrantRequest { ttl, id }).await;
                assert!(granted.ok(), "{granted:?}");
                if id % 10 == 0 {
                    let key = format!("leased{id}").into();
                    let request = pb::PutRequest { key, lease: id, ..Default::default() };
                    let put = connection.call(PUT, &request).await;
                    // NotFound: it has ended by itself.
                    assert!(put.ok() || put.code == Some(5), "{put:?}");
                }
            })
        });
        for granted in grants.collect::<Vec<_>>() {
            granted.await.expect("granted");
        }
    }
    begin.elapsed() < Duration::from_secs(ttl as u64) * 3 / 4
}

/// After a start all leases have their whole time again, and so end together. They are gone within two seconds of
/// it, and puts go on.
#[test]
fn many_end_at_once() {
    let many = number("RETCD_LEASE_MANY", 3000);
    let runtime = runtime();
    // They must not end before all are there, which takes longer on a busy machine.
    let mut ttl = 5 + many as i64 / 1000;
    let mut member = loop {
        let member = Member::start(Setup::new(binary::ours()));
        if runtime.block_on(grant_all(&member, many, ttl)) {
            break member;
        }
        ttl *= 2;
        assert!(ttl < 3600, "granting {many} leases takes more than half an hour");
    };
    let put = async |connection: &Connection, n: u64| {
        let request = pb::PutRequest { key: format!("put{}", n % 10).into(), ..Default::default() };
        let started = Instant::now();
        let outcome = connection.call(PUT, &request).await;
        assert!(outcome.ok(), "{outcome:?}");
        started.elapsed()
    };
    member.kill();
    member.restart();
    let ready = Instant::now();
    let ends = ready + Duration::from_secs(ttl as u64) + GRACE;
    let (slowest, gone) = runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        let listed: pb::LeaseLeasesResponse =
            connection.call(LEASES, &pb::LeaseLeasesRequest {}).await.reply().expect("a list");
        assert_eq!(listed.leases.len() as u64, many, "some were lost");
        let (mut slowest, mut n) = (Duration::ZERO, 0);
        loop {
            let left = many - ended(&member);
            if left == 0 {
                return (slowest, Instant::now());
            }
            assert!(Instant::now() < ends + PATIENCE, "{left} leases do not end");
            for _ in 0..20 {
                n += 1;
                slowest = slowest.max(put(&connection, n).await);
            }
        }
    });
    let late = gone.saturating_duration_since(ends);
    println!("{many} leases were gone {late:?} after their time; slowest put {slowest:?}");
    // Others use this machine, and this is no release build.
    assert!(late < Duration::from_secs(2) + slack(slowest), "{late:?}");
    let all = pb::RangeRequest { key: "leased".into(), range_end: "leasee".into(), ..Default::default() };
    let count = runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        let all = pb::RangeRequest { count_only: true, ..all };
        connection.call(RANGE, &all).await.reply::<pb::RangeResponse>().expect("a range").count
    });
    assert_eq!(count, 0, "keys are left");
}

/// How many leases have ended by themselves since the start.
fn ended(member: &Member) -> u64 {
    let metrics = http1::get(member.port(), "/metrics").expect("metrics").text();
    let line = metrics.lines().find_map(|l| l.strip_prefix("etcd_debugging_server_lease_expired_total "));
    line.and_then(|n| n.parse::<u64>().ok()).unwrap_or_default()
}
