//! Members that belong together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;
use tempfile::TempDir;

use super::{Caller, Failure, Kind, Node, Place, Secrets};
use crate::http1;
use crate::member::PATIENCE;

/// How long one call may take that should be quick: longer than any server's own patience.
pub(super) const CALL: Duration = Duration::from_secs(8);

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(20);

/// Members that belong together, and a client of theirs.
#[derive(Debug)]
pub struct Cluster {
    /// Those that are members, or were and are kept to see what becomes of them.
    pub nodes: Vec<Node>,
    /// The client that all helpers of this type use.
    pub caller: Caller,
    temp: TempDir,
    flags: Vec<String>,
    names: usize,
    secrets: Option<Arc<Secrets>>,
}

impl Cluster {
    /// A cluster of these members, none of which runs yet. None, and says `SKIPPED`, if a program is not there.
    ///
    /// # Panics
    /// If there is no place for their data.
    #[must_use]
    pub fn prepare(kinds: &[Kind], places: &[Place], flags: &[String]) -> Option<Self> {
        for kind in kinds {
            kind.program()?;
        }
        let temp = tempfile::Builder::new().prefix("retcd-cluster-").tempdir().expect("a temporary directory");
        let (nodes, caller) = (Vec::new(), Caller::default());
        let mut cluster = Self { nodes, caller, temp, flags: flags.to_vec(), names: 0, secrets: None };
        for (n, &kind) in kinds.iter().enumerate() {
            cluster.node(kind, places.get(n).cloned().unwrap_or(Place::Loopback));
        }
        Some(cluster)
    }

    /// From now on all speak mutual TLS, with clients and with each other. None of them has run yet.
    pub fn secure(&mut self) -> Arc<Secrets> {
        let secrets = Arc::new(Secrets::make(self.temp.path()));
        self.caller = Caller::over(Some(secrets.client()));
        self.nodes.iter_mut().for_each(|node| node.secure(&secrets));
        self.secrets = Some(Arc::clone(&secrets));
        secrets
    }

    /// From now on they meet over Unix sockets. None of them has run yet.
    pub fn over_sockets(&mut self) {
        let dir = self.temp.path();
        self.nodes.iter_mut().for_each(|node| node.over_socket(dir));
    }

    /// Makes a further member that nobody knows yet, and returns its number.
    pub fn node(&mut self, kind: Kind, place: Place) -> usize {
        self.names += 1;
        let name = format!("m{}", self.names);
        let dir = self.temp.path().join(&name);
        let mut node = Node::new(name, kind, dir, place, self.flags.clone());
        if let Some(secrets) = &self.secrets {
            node.secure(secrets);
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// `--initial-cluster` of all nodes.
    #[must_use]
    pub fn initial(&self) -> String {
        self.nodes.iter().map(|n| format!("{}={}", n.name, n.peer_url())).collect::<Vec<_>>().join(",")
    }

    /// Starts all for the first time and waits until all serve.
    ///
    /// # Panics
    /// If they do not.
    pub async fn bootstrap(&mut self) {
        let cluster = self.initial();
        for node in &mut self.nodes {
            node.spawn(&cluster, "new");
        }
        self.settled().await;
    }

    /// Starts a member again on its data.
    pub fn restart(&mut self, n: usize) {
        // Counts only for one that has no log yet, because it was killed during its first start.
        let cluster = self.initial();
        let state = if self.nodes[n].logs().is_empty() { "new" } else { "existing" };
        self.nodes[n].spawn(&cluster, state);
    }

    /// Waits until every node whose process is there has answered a linearizable read.
    ///
    /// # Panics
    /// If one does not in time, or has ended.
    pub async fn settled(&mut self) {
        let all: Vec<_> = (0..self.nodes.len()).filter(|&n| self.nodes[n].serving()).collect();
        for n in all {
            self.serves(n).await;
        }
    }

    /// Waits until a node has answered a linearizable read.
    ///
    /// # Panics
    /// If it does not in time, or has ended.
    pub async fn serves(&mut self, n: usize) {
        let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
        self.until(n, "it serves", async |caller, address| {
            caller.call::<pb::RangeResponse>(address, "KV/Range", &request, CALL).await.map(drop)
        })
        .await;
    }

    /// Calls a node until it succeeds.
    ///
    /// # Panics
    /// If it does not in time, or the process ends.
    pub async fn until<T>(
        &mut self,
        n: usize,
        what: &str,
        mut call: impl AsyncFnMut(&mut Caller, SocketAddr) -> Result<T, Failure>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let node = &mut self.nodes[n];
            let address = node.client();
            if let Some(status) = node.process().exited() {
                let tail = node.process().tail();
                panic!("{}: {what}: it has ended with {status}:\n{tail}", node.name);
            }
            match call(&mut self.caller, address).await {
                Ok(value) => return value,
                Err(why) => assert!(Instant::now() < deadline, "{}: {what}: {why}", self.nodes[n].name),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The state of a node as it tells it itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status(&mut self, n: usize) -> Result<pb::StatusResponse, Failure> {
        let address = self.nodes[n].client();
        self.caller.call(address, "Maintenance/Status", &pb::StatusRequest::default(), CALL).await
    }

    /// Its id.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub async fn id(&mut self, n: usize) -> u64 {
        self.until(n, "its id", async |caller, address| {
            let status = pb::StatusRequest::default();
            let reply: pb::StatusResponse = caller.call(address, "Maintenance/Status", &status, CALL).await?;
            Ok(reply.header.unwrap_or_default().member_id)
        })
        .await
    }

    /// The node that leads, once all nodes that serve agree on it.
    ///
    /// # Panics
    /// If they do not in time.
    pub async fn leader(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut seen = Vec::new();
            for n in 0..self.nodes.len() {
                if self.nodes[n].serving()
                    && let Ok(status) = self.status(n).await
                {
                    seen.push((n, status));
                }
            }
            let agreed = |(_, s): &&(usize, pb::StatusResponse)| {
                s.leader != 0 && s.leader == seen[0].1.leader && s.raft_term == seen[0].1.raft_term
            };
            let leads = |s: &pb::StatusResponse| s.header.as_ref().is_some_and(|h| h.member_id == s.leader);
            if !seen.is_empty()
                && seen.iter().filter(agreed).count() == seen.len()
                && let Some((n, _)) = seen.iter().find(|(_, s)| leads(s))
            {
                return *n;
            }
            assert!(Instant::now() < deadline, "no leader: {seen:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Moves leadership to a voter, unless it leads already.
    ///
    /// # Panics
    /// If it does not get it.
    pub async fn lead(&mut self, n: usize) {
        let id = self.id(n).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            if leader == n {
                return;
            }
            let address = self.nodes[leader].client();
            let request = pb::MoveLeaderRequest { target_id: id };
            let said =
                self.caller.call::<pb::MoveLeaderResponse>(address, "Maintenance/MoveLeader", &request, CALL).await;
            assert!(said.is_ok() || Instant::now() < deadline, "{} does not lead: {said:?}", self.nodes[n].name);
        }
    }

    /// The members as a node knows them.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub async fn members(&mut self, n: usize) -> Vec<pb::Member> {
        self.until(n, "its members", async |caller, address| {
            let request = pb::MemberListRequest { linearizable: true };
            let reply: pb::MemberListResponse = caller.call(address, "Cluster/MemberList", &request, CALL).await?;
            Ok(reply.members)
        })
        .await
    }

    /// Announces a node through another one, and returns its id and `--initial-cluster` for it.
    ///
    /// # Panics
    /// If that is refused for long.
    pub async fn announce(&mut self, through: usize, n: usize, learner: bool) -> (u64, String) {
        let urls = vec![self.nodes[n].peer_url()];
        let request = pb::MemberAddRequest { peer_ur_ls: urls.clone(), is_learner: learner };
        let sent = self.until(through, "member add", async |caller, address| {
            match caller.call::<pb::MemberAddResponse>(address, "Cluster/MemberAdd", &request, CALL).await {
                // The answer to an earlier try was lost.
                Err(Failure::Refused { text, .. }) if text.contains("already exist") => Ok(()),
                other => other.map(drop),
            }
        });
        sent.await;
        let members = self.members(through).await;
        let added = members.iter().find(|m| m.peer_ur_ls == urls);
        let id = added.unwrap_or_else(|| panic!("{urls:?} was added to {members:?}")).id;
        if self.nodes[n].kind() != Kind::Ours {
            self.known_to_all(&urls[0]).await;
        }
        (id, self.cluster_with(&members, n))
    }

    /// Waits until all members have applied that somebody was added: a genuine member gives up when the first one that it
    /// asks does not know it yet. One of ours asks the next one.
    async fn known_to_all(&self, url: &str) {
        let deadline = Instant::now() + PATIENCE;
        for node in self.nodes.iter().filter(|node| node.serving()) {
            let members = || http1::get(node.peer_port()?, "/members").ok().map(|answer| answer.text());
            while members().is_some_and(|text| !text.contains(url)) {
                assert!(Instant::now() < deadline, "{} does not hear of {url}", node.name);
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    fn cluster_with(&self, members: &[pb::Member], n: usize) -> String {
        let node = &self.nodes[n];
        let one = |m: &pb::Member| {
            let name = if m.name.is_empty() { &node.name } else { &m.name };
            m.peer_ur_ls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
        };
        members.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// Removes a member by its id.
    ///
    /// # Panics
    /// If that is refused for long.
    pub async fn remove(&mut self, through: usize, id: u64) {
        let request = pb::MemberRemoveRequest { id };
        self.until(through, "member remove", async |caller, address| {
            match caller.call::<pb::MemberRemoveResponse>(address, "Cluster/MemberRemove", &request, CALL).await {
                Ok(_) => Ok(()),
                // The answer to an earlier try was lost.
                Err(Failure::Refused { code: 5, .. }) => Ok(()),
                Err(other) => Err(other),
            }
        })
        .await;
    }

    /// Makes a learner a voter, as soon as it is in sync.
    ///
    /// # Panics
    /// If that is refused for long.
    pub async fn promote(&mut self, through: usize, id: u64) {
        let request = pb::MemberPromoteRequest { id };
        self.until(through, "member promote", async |caller, address| {
            match caller.call::<pb::MemberPromoteResponse>(address, "Cluster/MemberPromote", &request, CALL).await {
                Ok(_) => Ok(()),
                Err(Failure::Refused { text, .. }) if text == "etcdserver: can only promote a learner member" => Ok(()),
                Err(other) => Err(other),
            }
        })
        .await;
    }

    /// Waits until all nodes that serve have the same revision, compacted revision and hash of their whole history.
    ///
    /// # Panics
    /// If they do not; with all hashes.
    pub async fn same_hash(&mut self) -> pb::HashKvResponse {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut hashes = Vec::new();
            for n in (0..self.nodes.len()).filter(|&n| self.nodes[n].serving()).collect::<Vec<_>>() {
                let address = self.nodes[n].client();
                let request = pb::HashKvRequest { revision: 0 };
                let said = self.caller.call::<pb::HashKvResponse>(address, "Maintenance/HashKV", &request, CALL).await;
                hashes.push((self.nodes[n].name.clone(), self.nodes[n].kind(), said));
            }
            let state = |said: &Result<pb::HashKvResponse, Failure>| {
                said.as_ref().ok().map(|h| (h.hash, h.compact_revision, h.hash_revision))
            };
            let first = hashes.first().and_then(|(_, _, said)| state(said));
            if first.is_some() && hashes.iter().all(|(_, _, said)| state(said) == first) {
                return hashes.swap_remove(0).2.expect("looked at");
            }
            assert!(Instant::now() < deadline, "the members differ: {hashes:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets everything go on that is paused, and starts everything that is down.
    pub fn wake(&mut self) {
        for n in 0..self.nodes.len() {
            self.nodes[n].resume();
            if !self.nodes[n].started() {
                self.restart(n);
            }
        }
    }
}
