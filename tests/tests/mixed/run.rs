//! One cluster's random day.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::nodes::{Cluster, Failure, Kind, Node, Place};
use retcd_tests::random::Random;

use crate::complaints;
use crate::model::{self, Burst, Model};

/// How long a call of an operator may take.
const CALL: Duration = Duration::from_secs(8);

/// So few entries are kept that a member that was down for a burst needs a snapshot.
const FLAGS: [&str; 2] = ["--snapshot-count=60", "--snapshot-catchup-entries=10"];

pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    pub(crate) model: Model,
    random: Random,
    /// Members that were removed, for their logs.
    gone: Vec<Node>,
    /// What happened, for whoever reads a failure.
    pub(crate) story: String,
}

impl Run {
    pub(crate) async fn start(kinds: &[Kind], mut random: Random) -> Option<Self> {
        let flags: Vec<_> = FLAGS.iter().map(|&f| f.to_owned()).collect();
        let mut cluster = Cluster::prepare(kinds, &[], &flags)?;
        cluster.bootstrap().await;
        let model = Model::new(&mut random);
        Some(Self { cluster, model, random, gone: Vec::new(), story: String::new() })
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = write!(self.story, "{what}; ");
        if std::env::var_os("RETCD_MIXED_TALK").is_some() {
            eprintln!("{what}");
        }
    }

    fn one(&mut self) -> usize {
        self.below(self.cluster.nodes.len())
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.random.next() % count as u64).expect("a small number")
    }

    fn other_than(&mut self, n: usize) -> usize {
        let count = self.cluster.nodes.len();
        (n + 1 + self.below(count - 1)) % count
    }

    fn a_kind(&mut self) -> Kind {
        // A cluster of one kind stays so: runs of Go's alone are the measure for the others.
        let ours = self.cluster.nodes.iter().any(|n| n.kind() == Kind::Ours);
        if ours && self.random.one_in(2) { Kind::Ours } else { Kind::Go }
    }

    pub(crate) fn members(&self) -> Vec<SocketAddr> {
        self.cluster.nodes.iter().map(Node::client).collect()
    }

    pub(crate) fn burst(&mut self, each: u64) -> Burst {
        self.model.burst(&self.members(), each)
    }

    /// Some load, to its end.
    pub(crate) async fn load(&mut self, each: u64) {
        let burst = self.burst(each);
        self.model.take(burst).await;
    }

    pub(crate) async fn steps(&mut self, count: u64) {
        self.load(10).await;
        for _ in 0..count {
            self.step().await;
        }
        if self.random.one_in(3) {
            self.all_replaced().await;
        }
    }

    async fn step(&mut self) {
        let n = self.one();
        match self.random.within(0, 11) {
            0 | 1 => {
                self.tell(format_args!("kill {n}"));
                let burst = self.burst(15);
                self.cluster.nodes[n].kill();
                self.cluster.restart(n);
                self.model.take(burst).await;
            }
            2 => {
                self.tell(format_args!("stop {n}"));
                let burst = self.burst(15);
                self.cluster.nodes[n].terminate();
                self.cluster.restart(n);
                self.model.take(burst).await;
            }
            3 => {
                let pause = Duration::from_millis(self.random.within(200, 2_500));
                self.tell(format_args!("pause {n} for {pause:?}"));
                let burst = self.burst(10);
                self.cluster.nodes[n].pause();
                tokio::time::sleep(pause).await;
                self.cluster.nodes[n].resume();
                self.model.take(burst).await;
            }
            4 => {
                self.tell(format_args!("{n} leads"));
                let burst = self.burst(10);
                self.cluster.lead(n).await;
                self.model.take(burst).await;
            }
            5 => self.compact(n).await,
            6 => {
                let kind = self.a_kind();
                self.tell(format_args!("{kind:?} takes over {n}"));
                self.replaced_in_place(n, kind).await;
            }
            7 => {
                self.tell(format_args!("{n} falls behind"));
                self.falls_behind(n).await;
            }
            8 => {
                let kind = self.a_kind();
                self.tell(format_args!("a learner of kind {kind:?} for {n}"));
                self.learner_for(n, kind).await;
            }
            9 => {
                let kind = self.a_kind();
                self.tell(format_args!("a voter of kind {kind:?} for {n}"));
                self.voter_for(n, kind).await;
            }
            _ => {
                self.tell(format_args!("defragment {n}"));
                let burst = self.burst(10);
                let request = pb::DefragmentRequest::default();
                let sent = self.cluster.until(n, "defragmentation", async |caller, at| {
                    caller.call::<pb::DefragmentResponse>(at, "Maintenance/Defragment", &request, CALL).await
                });
                sent.await;
                self.model.take(burst).await;
            }
        }
        self.cluster.settled().await;
    }

    /// Compacts to somewhere in the past, through a member.
    pub(crate) async fn compact(&mut self, n: usize) {
        let back = i64::try_from(self.random.within(0, 100)).expect("small");
        let revision = (self.model.revision - back).max(1);
        let physical = self.random.one_in(2);
        self.tell(format_args!("compact to {revision}"));
        let burst = self.burst(10);
        let request = pb::CompactionRequest { revision, physical };
        let sent = self.cluster.until(n, "compaction", async |caller, at| {
            match caller.call::<pb::CompactionResponse>(at, "KV/Compact", &request, CALL).await {
                // Compacted as far, or further, before.
                Ok(_) | Err(Failure::Refused { code: 11, .. }) => Ok(()),
                Err(why) => Err(why),
            }
        });
        sent.await;
        self.model.take(burst).await;
    }

    /// Another server takes over the directory of a member.
    pub(crate) async fn replaced_in_place(&mut self, n: usize, kind: Kind) {
        let burst = self.burst(10);
        self.cluster.nodes[n].terminate();
        self.cluster.nodes[n].take_over(kind);
        self.cluster.restart(n);
        self.model.take(burst).await;
        self.cluster.serves(n).await;
    }

    /// A member is down for longer than the log remembers: the leader sends it a snapshot.
    pub(crate) async fn falls_behind(&mut self, n: usize) {
        self.cluster.nodes[n].kill();
        let others: Vec<_> = self.cluster.nodes.iter().filter(|o| o.started()).map(Node::client).collect();
        let burst = self.model.burst(&others, 30);
        self.model.take(burst).await;
        self.cluster.restart(n);
        self.cluster.serves(n).await;
    }

    /// A learner joins, is promoted, and a member goes.
    pub(crate) async fn learner_for(&mut self, old: usize, kind: Kind) {
        let through = self.other_than(old);
        let new = self.cluster.node(kind, Place::Loopback);
        let (id, cluster) = self.cluster.announce(through, new, true).await;
        let burst = self.model.burst(&self.members()[..new], 10);
        self.cluster.nodes[new].spawn(&cluster, "existing");
        self.cluster.promote(through, id).await;
        self.model.take(burst).await;
        self.cluster.serves(new).await;
        self.remove(old, through).await;
    }

    /// A member that votes at once joins, and another one goes.
    pub(crate) async fn voter_for(&mut self, old: usize, kind: Kind) {
        let through = self.other_than(old);
        let new = self.cluster.node(kind, Place::Loopback);
        let (_, cluster) = self.cluster.announce(through, new, false).await;
        let burst = self.model.burst(&self.members()[..new], 10);
        self.cluster.nodes[new].spawn(&cluster, "existing");
        self.cluster.serves(new).await;
        self.model.take(burst).await;
        self.remove(old, through).await;
    }

    async fn remove(&mut self, old: usize, through: usize) {
        let id = self.cluster.id(old).await;
        self.cluster.remove(through, id).await;
        // It learns of it, says so, and ends.
        let mut node = self.cluster.nodes.remove(old);
        node.ended();
        self.gone.push(node);
        // If it led: what is sent before the next election is lost with it.
        self.cluster.leader().await;
    }

    /// One after the other, every member's directory gets the other kind of server.
    pub(crate) async fn all_replaced(&mut self) {
        if !self.cluster.nodes.iter().any(|n| n.kind() == Kind::Ours) {
            return;
        }
        for kind in [Kind::Ours, Kind::Go] {
            self.tell(format_args!("all become {kind:?}"));
            for n in 0..self.cluster.nodes.len() {
                if self.cluster.nodes[n].kind() != kind {
                    self.replaced_in_place(n, kind).await;
                }
            }
        }
    }

    /// Checks everything, and says what there was.
    pub(crate) async fn finish(mut self) -> String {
        self.cluster.settled().await;
        self.load(5).await;
        for n in 0..self.cluster.nodes.len() {
            let found = self.cluster.until(n, "all keys", model::read).await;
            if let Err(why) = self.model.check(&found) {
                panic!("{}: {why}\n{}", self.cluster.nodes[n].name, self.story);
            }
        }
        let hash = self.cluster.same_hash().await;
        let mut all: Vec<_> = self.gone.drain(..).collect();
        for mut node in self.cluster.nodes.drain(..) {
            node.terminate();
            all.push(node);
        }
        let (snapshots, complaints) = complaints::read(&all);
        assert!(complaints.is_empty(), "no cluster of genuine members says so:\n{}", complaints.join("\n"));
        format!(
            "{} acknowledged, {} unknown, revision {}, compacted {}, {snapshots}: {}",
            self.model.acknowledged, self.model.unknown, hash.hash_revision, hash.compact_revision, self.story
        )
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("up to now: {}", self.story);
        }
    }
}
