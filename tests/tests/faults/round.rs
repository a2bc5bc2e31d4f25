//! Rounds of faults.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::linear::{Call, Event, Value};
use retcd_tests::member::{Log, PATIENCE};
use retcd_tests::net::{Files, Host, Network};
use retcd_tests::nodes::{Cluster, Failure, Kind, Place};
use retcd_tests::random::Random;
use rustls::ClientConfig;

use crate::Wire;
use crate::clients::{CLIENTS, Clock, KEYS, Load, Target, decode, key};
use crate::history::{self, Seen};

/// What members wait for before they look for another leader.
const ELECTION: Duration = Duration::from_secs(1);

/// How long the first try to write may take after a fault, and the last. A busy machine may need longer than the first
/// for any write.
const TRIES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(8)];

/// How much of the machine must have had nothing to do, and how long a write may have taken without a fault, for
/// times to mean something.
const IDLE: f64 = 0.25;
const CALM: Duration = Duration::from_millis(50);

/// What all processors have done up to now: their time in all, and without work.
#[derive(Clone, Copy)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").expect("Linux");
        let ticks: Vec<u64> = text.split_whitespace().skip(1).map_while(|n| n.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; the rest is contained in the first two.
        let sum = |places: &[usize]| places.iter().filter_map(|&n| ticks.get(n)).sum();
        Self { all: sum(&[0, 1, 2, 3, 4, 5, 6, 7]), idle: sum(&[3, 4]) }
    }

    /// The share of the time since then without work.
    fn idle_since(self, begin: Self) -> f64 {
        (self.idle - begin.idle) as f64 / (self.all - begin.all).max(1) as f64
    }
}

/// Lines of a log that tell why nobody led.
const WORTH: [&str; 4] =
    [r#""logger":"raft""#, r#""caller":"transport/"#, r#""caller":"rafthttp/"#, "ready to serve client requests"];

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
        calm: Vec::new(),
        begin: Ticks::now(),
        calls: 0,
        open: 0,
        said: Vec::new(),
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
    /// How long a write took before each fault.
    calm: Vec<Duration>,
    begin: Ticks,
    calls: usize,
    open: usize,
    /// What the members said in the round that took longest.
    said: Vec<String>,
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
        let calm = self.calm_write().await;
        self.calm.push(calm);
        let said = self.said_so_far();
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
        let (took, before) = (self.back.last().expect("noted above").0, self.back.len() - 1);
        if self.back[..before].iter().all(|(other, _)| *other < took) {
            self.said = self.said_since(&said);
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

    /// How many logs each member has, and how many lines the last one.
    fn said_so_far(&self) -> Vec<(usize, usize)> {
        let of = |logs: &[(Kind, Log)]| (logs.len(), logs.last().map_or(0, |(_, log)| log.text().lines().count()));
        self.cluster.nodes.iter().map(|node| of(node.logs())).collect()
    }

    /// What raft and its transport said since, and which members began to serve.
    fn said_since(&self, before: &[(usize, usize)]) -> Vec<String> {
        let mut lines = Vec::new();
        for (node, &(logs, skip)) in self.cluster.nodes.iter().zip(before) {
            for (n, (_, log)) in node.logs().iter().enumerate().skip(logs.saturating_sub(1)) {
                let skip = if n + 1 == logs { skip } else { 0 };
                let worth = |line: &&str| WORTH.iter().any(|part| line.contains(part));
                let named = |line: &str| format!("{}: {}", node.name, line.chars().take(400).collect::<String>());
                lines.extend(log.text().lines().skip(skip).filter(worth).map(named));
            }
        }
        lines
    }

    async fn rest(&mut self, from: u64, to: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.within(from, to))).await;
    }

    /// Waits for a write to be acknowledged by one of these members.
    async fn writes_go_on(&mut self, members: &[usize], begin: Instant, what: &str) {
        let mut patience = TRIES[0];
        loop {
            for &n in members {
                let at = self.cluster.nodes[n].client();
                let request = pb::PutRequest { key: "probe".into(), ..Default::default() };
                let said = self.cluster.caller.call::<pb::PutResponse>(at, "KV/Put", &request, patience).await;
                if said.is_ok() {
                    self.back.push((begin.elapsed(), what.to_owned()));
                    return;
                }
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: no write since {PATIENCE:?}");
            if begin.elapsed() > PATIENCE / 10 {
                patience = TRIES[1].min(2 * patience);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How long a write takes while nothing is wrong.
    async fn calm_write(&mut self) -> Duration {
        let request = pb::PutRequest { key: "probe".into(), ..Default::default() };
        let begin = Instant::now();
        let put = self.cluster.until(0, "a write", async |caller, at| {
            caller.call::<pb::PutResponse>(at, "KV/Put", &request, TRIES[1]).await
        });
        put.await;
        begin.elapsed()
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
        println!("  in the longest one:\n    {}", self.said.join("\n    "));
        for (kind, times) in &mut self.kinds {
            times.sort();
            let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
            println!("  {kind}: {} times, {median:?} at the median, {worst:?} at worst", times.len());
        }
        self.calm.sort();
        let (calm, idle) = (self.calm[self.calm.len() / 2], Ticks::now().idle_since(self.begin));
        println!("  {:.0} % of the machine idle; without a fault a write took {calm:?}", 100.0 * idle);
        if idle < IDLE || calm > CALM {
            println!("  too busy for its times to mean something");
            return;
        }
        // A timeout is random, up to twice the least one, and a vote that is split takes another.
        if self.back.len() >= 6 {
            assert!(at(50) < 2 * ELECTION, "half of all elections took longer than two timeouts");
        }
        assert!(at(90) < 3 * ELECTION, "one in ten elections took longer than three timeouts");
    }
}
