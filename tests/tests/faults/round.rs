//! Rounds of faults.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::linear::{Call, Event, Value};
use retcd_tests::member::PATIENCE;
use retcd_tests::net::{Files, Host, Network};
use retcd_tests::nodes::{Cluster, Failure, Kind, Place};
use retcd_tests::random::Random;
use rustls::ClientConfig;

use crate::Wire;
use crate::clients::{CLIENTS, Clock, KEYS, Load, Target, decode, key};
use crate::history::{self, Seen};

/// What members wait for before they look for another leader.
const ELECTION: Duration = Duration::from_secs(1);

/// How long one try to write may take after a fault.
const TRY: Duration = Duration::from_millis(250);

/// A fault, and which members it is about.
#[derive(Clone, Debug)]
enum Fault {
    /// `kill -9`, of one, two or all at once.
    Kill(Vec<usize>),
    /// It stands still, and goes on as if nothing had happened.
    Pause(usize),
    /// Nothing passes between it and the others.
    Cut(usize),
    /// It hears nothing of the others, who hear it.
    Deaf(usize),
    /// The others hear nothing of it.
    Mute(usize),
}

impl Fault {
    fn random(random: &mut Random, leader: usize, size: usize) -> Self {
        let any = |random: &mut Random| usize::try_from(random.within(0, size as u64)).expect("small");
        // Faults of the leader are those that matter most.
        let one = if random.one_in(2) { leader } else { any(random) };
        match random.within(0, 10) {
            0 | 1 => Self::Kill(vec![one]),
            // One too many to go on, and as many as there may be.
            2 if size == 3 || random.one_in(2) => Self::Kill(others(one, size).take(size / 2 + 1).collect()),
            2 => Self::Kill([one].into_iter().chain(others(one, size)).take(size / 2).collect()),
            3 => Self::Kill((0..size).collect()),
            4 | 5 => Self::Pause(one),
            6 | 7 => Self::Cut(one),
            8 => Self::Deaf(one),
            _ => Self::Mute(one),
        }
    }

    /// Its kind, for the summary.
    fn kind(&self, leader: usize) -> String {
        let whom = |n: &usize| if *n == leader { "the leader" } else { "a follower" };
        match self {
            Self::Kill(hit) if hit.len() == 1 => format!("kill {}", whom(&hit[0])),
            Self::Kill(hit) => format!("kill {}", hit.len()),
            Self::Pause(n) => format!("pause {}", whom(n)),
            Self::Cut(n) => format!("cut off {}", whom(n)),
            Self::Deaf(n) => format!("deafen {}", whom(n)),
            Self::Mute(n) => format!("mute {}", whom(n)),
        }
    }

    /// Members that can still agree.
    fn available(&self, size: usize) -> Vec<usize> {
        let hit = match self {
            Self::Kill(hit) => hit.clone(),
            Self::Pause(n) | Self::Cut(n) | Self::Deaf(n) | Self::Mute(n) => vec![*n],
        };
        (0..size).filter(|n| !hit.contains(n)).collect()
    }

    fn begin(&self, cluster: &mut Cluster) {
        match self {
            Self::Kill(hit) => hit.iter().for_each(|&n| cluster.nodes[n].kill()),
            Self::Pause(n) => cluster.nodes[*n].pause(),
            Self::Cut(n) => {
                Self::Deaf(*n).begin(cluster);
                Self::Mute(*n).begin(cluster);
            }
            Self::Deaf(n) => others(*n, cluster.nodes.len()).for_each(|o| deafen(cluster, *n, o)),
            Self::Mute(n) => others(*n, cluster.nodes.len()).for_each(|o| deafen(cluster, o, *n)),
        }
    }

    fn end(&self, cluster: &mut Cluster) {
        for node in &cluster.nodes {
            node.host().heal();
        }
        cluster.wake();
    }
}

fn others(n: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..size).filter(move |&o| o != n)
}

fn deafen(cluster: &Cluster, n: usize, from: usize) {
    let address = cluster.nodes[from].host().address();
    cluster.nodes[n].host().deafen(address);
}

pub(crate) fn play(network: &Network, kinds: &[Kind], wire: Wire, seed: u64, rounds: u64) {
    let host = |name: &str, last| network.host(name, Ipv4Addr::new(10, 77, 0, last), Files::Common);
    let clients = host("clients", 100);
    let places: Vec<_> = (1..).take(kinds.len()).map(|n| Place::Host(Arc::new(host(&format!("m{n}"), n)))).collect();
    let flags = ["--snapshot-count=500".to_owned(), "--snapshot-catchup-entries=100".to_owned()];
    let Some(mut cluster) = Cluster::prepare(kinds, &places, &flags) else { return };
    let tls = match wire {
        Wire::Plain => None,
        Wire::MutualTls => Some(cluster.secure().client()),
    };
    // From here on this thread is on the clients' machine.
    clients.link().enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rounds_played = Rounds {
        cluster,
        clients: &clients,
        tls,
        random: Random::new(seed),
        clock: Clock::start(),
        last: BTreeMap::new(),
        back: Vec::new(),
        kinds: BTreeMap::new(),
        calls: 0,
        open: 0,
    };
    runtime.block_on(rounds_played.play(seed, rounds));
}

struct Rounds<'a> {
    cluster: Cluster,
    clients: &'a Host,
    /// What clients show, if members speak TLS.
    tls: Option<Arc<ClientConfig>>,
    random: Random,
    clock: Clock,
    /// What each key of earlier rounds may hold.
    last: BTreeMap<String, Vec<Value>>,
    /// How long it took until writes went on.
    back: Vec<(Duration, String)>,
    /// The same by kind of fault.
    kinds: BTreeMap<String, Vec<Duration>>,
    calls: usize,
    open: usize,
}

impl Rounds<'_> {
    async fn play(mut self, seed: u64, rounds: u64) {
        self.cluster.bootstrap().await;
        for round in 1..=rounds {
            let leader = self.cluster.leader().await;
            let fault = Fault::random(&mut self.random, leader, self.cluster.nodes.len());
            let what = format!("seed {seed}, round {round}: {fault:?}, {leader} led");
            let seen = self.round(round, &fault, &what).await;
            let took = self.back.last().expect("a round notes it").0;
            self.kinds.entry(fault.kind(leader)).or_default().push(took);
            self.calls += seen.len();
            self.open += seen.iter().filter(|s| s.event.end.is_none()).count();
            let last = history::check(&seen).unwrap_or_else(|e| panic!("{what}: {e}"));
            self.last.extend(last);
            if round % 10 == 0 || round == rounds {
                self.nothing_is_lost(&what).await;
            }
        }
        self.summary();
    }

    async fn round(&mut self, round: u64, fault: &Fault, what: &str) -> Vec<Seen> {
        let members: Vec<_> = self.cluster.nodes.iter().map(retcd_tests::nodes::Node::client).collect();
        let size = members.len();
        let target = Target { host: self.clients, members: &members, tls: self.tls.as_ref() };
        let load = Load::start(&target, self.clock, round, self.random.next());
        self.rest(200, 500).await;
        let mut begin = Instant::now();
        fault.begin(&mut self.cluster);
        let available = fault.available(size);
        if available.len() > size / 2 {
            self.writes_go_on(&available, begin, what).await;
            self.rest(200, 2_500).await;
            fault.end(&mut self.cluster);
        } else {
            self.rest(100, 500).await;
            begin = Instant::now();
            fault.end(&mut self.cluster);
            let all: Vec<_> = (0..size).collect();
            self.writes_go_on(&all, begin, what).await;
        }
        self.cluster.settled().await;
        self.rest(100, 300).await;
        let mut seen = load.stop();
        // After all of it: what there is now is there for good.
        for n in 0..KEYS {
            let key = key(round, n);
            let begin = self.clock.now();
            let value = self.get(usize::try_from(n).expect("small") % size, &key).await;
            let event = Event { begin, end: Some(self.clock.now()), call: Call::Read(value), client: CLIENTS };
            seen.push(Seen { key, event, revision: None });
        }
        seen
    }

    async fn rest(&mut self, from: u64, to: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.within(from, to))).await;
    }

    /// Waits for a write to be acknowledged by one of these members.
    async fn writes_go_on(&mut self, members: &[usize], begin: Instant, what: &str) {
        loop {
            for &n in members {
                let at = self.cluster.nodes[n].client();
                let request = pb::PutRequest { key: "probe".into(), ..Default::default() };
                let said = self.cluster.caller.call::<pb::PutResponse>(at, "KV/Put", &request, TRY).await;
                if said.is_ok() {
                    self.back.push((begin.elapsed(), what.to_owned()));
                    return;
                }
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: no write since {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn get(&mut self, n: usize, key: &str) -> Value {
        let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.cluster
            .until(n, "a read", async |caller, at| {
                let patience = Duration::from_secs(8);
                let reply: Result<pb::RangeResponse, Failure> = caller.call(at, "KV/Range", &request, patience).await;
                reply.map(|r| decode(&r.kvs))
            })
            .await
    }

    /// The keys of all rounds are as they were.
    async fn nothing_is_lost(&mut self, what: &str) {
        for (key, values) in std::mem::take(&mut self.last) {
            let found = self.get(0, &key).await;
            assert!(values.contains(&found), "{what}: {key} is {found:?}, was one of {values:?}");
            self.last.insert(key, values);
        }
        self.cluster.same_hash().await;
    }

    fn summary(&mut self) {
        self.back.sort();
        let at = |share: usize| self.back[(self.back.len() - 1) * share / 100].0;
        let (worst, when) = self.back.last().expect("a round at least");
        println!(
            "{} rounds, {} calls of which {} without an answer; writes went on after {:?} (median), {:?} (9 of 10), \
             {worst:?} at worst ({when})",
            self.back.len(),
            self.calls,
            self.open,
            at(50),
            at(90),
        );
        for (kind, times) in &mut self.kinds {
            times.sort();
            println!("  {kind}: {} times, {:?} at the median", times.len(), times[times.len() / 2]);
        }
        // A timeout is random, up to twice the least one, and a vote that is split takes another.
        if self.back.len() >= 6 {
            assert!(at(50) < 2 * ELECTION, "half of all elections took longer than two timeouts");
        }
        assert!(at(90) < 3 * ELECTION, "one in ten elections took longer than three timeouts");
    }
}
