//! Three members that can be made to die at a point.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use prost::Message;
use retcd_proto::etcdserverpb as pb;
use retcd_tests::binary;
use retcd_tests::nodes::{Cluster, Kind, Place};
use tempfile::TempDir;

/// How long a point may take to be reached.
const REACH: Duration = Duration::from_secs(30);

/// Some of it is sent again if its answer is lost.
const CALL: Duration = Duration::from_secs(3);

pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    points: TempDir,
    /// Keys that were put, each acknowledged.
    put: u64,
    /// A member that serves no puts.
    pub(crate) learner: Option<usize>,
}

impl Rig {
    /// Three members.
    pub(crate) async fn start(program: PathBuf) -> Self {
        Self::with_flags(program, &[]).await
    }

    /// The same with further flags.
    pub(crate) async fn with_flags(program: PathBuf, more: &[&str]) -> Self {
        let flags = ["--snapshot-count=40", "--snapshot-catchup-entries=10"];
        let flags: Vec<_> = flags.iter().chain(more).map(|&flag| flag.to_owned()).collect();
        let cluster = Cluster::prepare(&[], &[], &flags).expect("nothing is looked for");
        let points = tempfile::Builder::new().prefix("retcd-points-").tempdir().expect("a temporary directory");
        let mut rig = Self { cluster, points, put: 0, learner: None };
        for _ in 0..3 {
            rig.node(&program);
        }
        rig.cluster.bootstrap().await;
        rig.put(5).await;
        rig
    }

    pub(crate) async fn with_failpoints() -> Self {
        Self::start(binary::ours_with_failpoints()).await
    }

    /// A further member that nobody knows yet.
    pub(crate) fn node(&mut self, program: &std::path::Path) -> usize {
        let n = self.cluster.node(Kind::Ours, Place::Loopback);
        let file = self.points.path().join(&self.cluster.nodes[n].name);
        let node = &mut self.cluster.nodes[n];
        node.program = Some(program.to_owned());
        node.env.push(("RETCD_FAILPOINTS".into(), file.display().to_string()));
        n
    }

    pub(crate) fn failing_node(&mut self) -> usize {
        self.node(&binary::ours_with_failpoints())
    }

    /// From now on the member dies when it comes to the point.
    pub(crate) fn arm(&self, n: usize, point: &str) {
        let file = self.points.path().join(&self.cluster.nodes[n].name);
        std::fs::write(file, point).expect("a temporary file");
    }

    /// Waits for the member's death, and forgets the point.
    pub(crate) async fn dies(&mut self, n: usize, point: &str) {
        let status = self.ends(n, point).await;
        let node = &self.cluster.nodes[n];
        assert_eq!(status.signal(), Some(9), "{} at {point}: {status}", node.name);
    }

    /// Waits for the member's end, at the point or otherwise, and forgets the point.
    async fn ends(&mut self, n: usize, point: &str) -> ExitStatus {
        let deadline = Instant::now() + REACH;
        let node = &mut self.cluster.nodes[n];
        let name = node.name.clone();
        let status = loop {
            if let Some(status) = node.process().exited() {
                break status;
            }
            assert!(Instant::now() < deadline, "{name} does not come to {point}:\n{}", node.process().tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if status.signal() != Some(9) {
            println!("{name} at {point}: {status}:\n{}", node.process().tail());
        }
        node.ended();
        self.arm(n, "");
        status
    }

    /// Whether a member ends as one that was removed does, and not at a point.
    pub(crate) async fn left(&mut self, n: usize) -> bool {
        let deadline = Instant::now() + REACH;
        let node = &mut self.cluster.nodes[n];
        let status = loop {
            if let Some(status) = node.process().exited() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", node.process().tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if !status.success() {
            return false;
        }
        node.ended();
        true
    }

    /// Sends something to a member, which may die of it.
    pub(crate) async fn send<R: Message + Default>(&mut self, n: usize, method: &str, request: &impl Message) {
        let at = self.cluster.nodes[n].client();
        let _ = self.cluster.caller.call::<R>(at, method, request, CALL).await;
    }

    /// Puts some keys, through members that run.
    pub(crate) async fn put(&mut self, count: u64) {
        for _ in 0..count {
            self.put += 1;
            let serves = |&n: &usize| self.cluster.nodes[n].serving() && self.learner != Some(n);
            let running: Vec<_> = (0..self.cluster.nodes.len()).filter(serves).collect();
            let n = running[usize::try_from(self.put).expect("small") % running.len()];
            let key = format!("key/{:06}", self.put);
            let request = pb::PutRequest { key: key.clone().into(), value: key.into(), ..Default::default() };
            let sent = self
                .cluster
                .until(n, "put", async |caller, at| caller.call::<pb::PutResponse>(at, "KV/Put", &request, CALL).await);
            sent.await;
        }
    }

    /// Everything put is on every member, all know the same members and have the same history.
    pub(crate) async fn check(&mut self, what: &str) {
        self.cluster.settled().await;
        self.put(3).await;
        let mut lists = Vec::new();
        for n in (0..self.cluster.nodes.len()).filter(|&n| self.cluster.nodes[n].serving()).collect::<Vec<_>>() {
            let request = pb::RangeRequest {
                key: "key/".into(),
                range_end: "key0".into(),
                count_only: true,
                ..Default::default()
            };
            let read = self.cluster.until(n, "all keys", async |caller, at| {
                caller.call::<pb::RangeResponse>(at, "KV/Range", &request, CALL).await
            });
            let found = read.await.count;
            assert_eq!(u64::try_from(found), Ok(self.put), "{what}: keys of {}", self.cluster.nodes[n].name);
            lists.push(self.cluster.members(n).await);
        }
        assert!(lists.windows(2).all(|w| w[0] == w[1]), "{what}: the members differ: {lists:#?}");
        self.cluster.same_hash().await;
    }
}

/// Runs a test's future.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}
