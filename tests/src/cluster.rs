//! Members that form a cluster, ours and genuine ones, with the genuine etcdctl as their client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::member::{Member, PATIENCE, Setup};
use crate::run;

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(20);

/// What a request is answered that an election came in the way of; it may have been done all the same.
const ELECTION: [&str; 3] = ["etcdserver: request timed out", "etcdserver: leader changed", "etcdserver: no leader"];

/// Some members. Killed and cleared away when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// By number, in the order in which they were named; those that do not run among them.
    pub members: Vec<Member>,
    ctl: PathBuf,
}

/// Waits until `look` returns something.
///
/// # Panics
/// If it does not in time; `what` says what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} after {PATIENCE:?}");
        thread::sleep(LOOK);
    }
}

impl Cluster {
    /// Starts members that found a cluster: `m1`, `m2`, and so on, one for each program. Waits until all serve.
    ///
    /// # Panics
    /// If one does not come up; with its log.
    #[must_use]
    pub fn start(ctl: &Path, programs: &[&Path], flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(ctl, programs, flags);
        for member in &mut cluster.members {
            member.spawn();
        }
        for number in 0..cluster.members.len() {
            cluster.wait_until_serving(number);
        }
        cluster
    }

    /// The same members, none of which runs yet.
    #[must_use]
    pub fn prepare(ctl: &Path, programs: &[&Path], flags: &[&str]) -> Self {
        let members = programs.iter().zip(1..).map(|(program, number)| {
            let setup = Setup::new(*program).name(format!("m{number}"));
            Member::prepare(setup.flags(flags.iter().copied()))
        });
        let mut cluster = Self { members: members.collect(), ctl: ctl.to_owned() };
        let list = cluster.list();
        for member in &mut cluster.members {
            member.set_cluster(&list);
        }
        cluster
    }

    /// All members as `--initial-cluster` names them.
    #[must_use]
    pub fn list(&self) -> String {
        let entries: Vec<_> = self.members.iter().map(Member::entry).collect();
        entries.join(",")
    }

    /// Waits until a member that was spawned serves.
    ///
    /// # Panics
    /// If it ends, or does not in time; with its log.
    pub fn wait_until_serving(&mut self, number: usize) {
        let member = &mut self.members[number];
        if let Some(status) = member.wait_or_serve() {
            panic!("{} ended with {status}:\n{}", member.name(), member.log().whole());
        }
    }

    /// Starts a member again that was stopped, and waits until it serves.
    ///
    /// # Panics
    /// If it does not come up; with its log.
    pub fn restart(&mut self, number: usize) {
        self.members[number].restart();
    }

    /// A member that is to join, not started. Its list names all members there are, and itself.
    ///
    /// # Panics
    /// Never.
    pub fn newcomer(&mut self, program: &Path, name: &str, flags: &[&str]) -> usize {
        let flags = flags.iter().copied().chain(["--initial-cluster-state=existing"]);
        let setup = Setup::new(program).name(name).flags(flags);
        self.members.push(Member::prepare(setup));
        let list = self.list();
        let number = self.members.len() - 1;
        self.members[number].set_cluster(list);
        number
    }

    /// Runs etcdctl with all members that run as endpoints.
    ///
    /// # Errors
    /// If it fails: what it wrote.
    pub fn ctl(&mut self, args: &[&str]) -> Result<String, String> {
        let urls: Vec<_> = self.members.iter_mut().filter_map(|m| m.running().then(|| m.url())).collect();
        run::stdout(self.command().arg("--endpoints").arg(urls.join(",")).args(args))
    }

    /// Runs etcdctl on one member.
    ///
    /// # Errors
    /// If it fails: what it wrote.
    pub fn ctl_at(&self, number: usize, args: &[&str]) -> Result<String, String> {
        run::stdout(self.command().arg("--endpoints").arg(self.members[number].url()).args(args))
    }

    /// etcdctl itself gives up after five seconds; a member takes up to seven to say why it cannot do something.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.ctl);
        command.args(["--dial-timeout=30s", "--command-timeout=30s"]);
        command
    }

    /// As [`Cluster::ctl_at`].
    ///
    /// # Panics
    /// If it fails; with the member's log.
    #[must_use]
    pub fn at(&self, number: usize, args: &[&str]) -> String {
        self.ctl_at(number, args).unwrap_or_else(|e| panic!("{e}\n{}", self.members[number].describe()))
    }

    /// Writes a pair at one member; once more, if it was lost in an election, which a busy machine may bring about.
    ///
    /// # Panics
    /// If it fails.
    pub fn put(&self, number: usize, key: &str, value: &str) {
        wait_for("write", || match self.ctl_at(number, &["put", key, value]) {
            Ok(said) => {
                assert_eq!(said, "OK\n");
                Some(())
            }
            Err(lost) if ELECTION.iter().any(|text| lost.contains(text)) => None,
            Err(other) => panic!("{other}\n{}", self.members[number].describe()),
        });
    }

    /// Makes a learner a voter as soon as its leader finds it in sync, and waits until it knows that itself. Returns what
    /// etcdctl said, unless the answer was lost in an election.
    ///
    /// # Panics
    /// If it is refused for another reason.
    pub fn promote(&mut self, through: usize, learner: usize) -> Option<String> {
        let id = self.id(learner);
        let mut lost = false;
        // What the leader knows of the learner's log is as of its last tick.
        let said = wait_for("learner in sync", || match self.ctl_at(through, &["member", "promote", &id]) {
            Ok(said) => Some(Some(said)),
            Err(refused) if refused.contains("etcdserver: can only promote a learner member which is in sync") => None,
            Err(done) if lost && done.contains("etcdserver: can only promote a learner member") => Some(None),
            Err(why) if ELECTION.iter().any(|text| why.contains(text)) => {
                lost = true;
                None
            }
            Err(other) => panic!("{other}"),
        });
        // A learner refuses this.
        wait_for("voter that knows it", || self.ctl_at(learner, &["member", "list"]).ok());
        said
    }

    /// Writes pairs at one member until a member that went away just now is so far behind that it needs a snapshot:
    /// ours keep the log for one that they heard of in the last two election timeouts. Returns the last pair.
    ///
    /// # Panics
    /// If a write fails.
    #[must_use]
    pub fn leave_behind(&self, number: usize) -> (String, String) {
        let begin = Instant::now();
        let mut n = 0;
        loop {
            let (key, value) = (format!("key{}", n % 9), n.to_string());
            self.put(number, &key, &value);
            n += 1;
            if n >= 150 && begin.elapsed() > Duration::from_secs(6) {
                return (key, value);
            }
        }
    }

    /// Reads a value at one member.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn get(&self, number: usize, key: &str) -> String {
        self.at(number, &["get", key, "--print-value-only"]).trim_end().to_owned()
    }

    /// What a member says of itself.
    #[must_use]
    pub fn status(&self, number: usize) -> Option<Value> {
        let text = self.ctl_at(number, &["endpoint", "status", "-w", "json"]).ok()?;
        let all: Value = serde_json::from_str(&text).ok()?;
        Some(all[0]["Status"].clone())
    }

    /// The number of the member that leads and that all running ones follow; waits for it.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn leader(&mut self) -> usize {
        wait_for("leader that all follow", || {
            let running: Vec<_> = (0..self.members.len()).filter(|number| self.members[*number].running()).collect();
            let views: Option<Vec<_>> = running
                .iter()
                .map(|number| {
                    let status = self.status(*number)?;
                    Some((status["header"]["member_id"].as_u64()?, status["leader"].as_u64()?))
                })
                .collect();
            let views = views?;
            let leader = views.first()?.1;
            if views.iter().any(|view| view.1 != leader) {
                return None;
            }
            let at = views.iter().position(|view| view.0 == leader)?;
            Some(running[at])
        })
    }

    /// Makes a member lead.
    ///
    /// # Panics
    /// If it does not.
    pub fn lead(&mut self, number: usize) {
        let id = self.id(number);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader();
            if leader == number {
                return;
            }
            // Somebody else may come to lead meanwhile.
            match self.ctl_at(leader, &["move-leader", &id]) {
                Ok(said) => assert!(said.contains("Leadership transferred"), "{said}"),
                Err(why) => assert!(Instant::now() < deadline, "{number} does not lead: {why}"),
            }
        }
    }

    /// The id of a member in the cluster, by its peer URL.
    ///
    /// # Panics
    /// If the cluster does not know it.
    pub fn id(&mut self, number: usize) -> String {
        let url = self.members[number].peer_url();
        let list = self.ctl(&["member", "list"]).expect("a list of members");
        let line = list.lines().find(|line| line.contains(&url)).unwrap_or_else(|| panic!("no {url} in\n{list}"));
        line.split(',').next().expect("a first column").to_owned()
    }

    /// Waits until all running members have applied the same, and checks that their data is equal.
    ///
    /// # Panics
    /// If it is not.
    pub fn check_equal(&mut self) {
        let running = self.members.iter_mut().filter_map(|member| member.running().then_some(())).count();
        wait_for("equal revision on all members", || {
            let text = self.ctl(&["endpoint", "hashkv", "-w", "json"]).ok()?;
            let all: Vec<Value> = serde_json::from_str(&text).ok()?;
            assert_eq!(all.len(), running);
            // A compaction is an entry of the log, too, and does not change the revision.
            let at = |one: &Value| {
                let hash = &one["HashKV"];
                (hash["header"]["revision"].clone(), hash["compact_revision"].clone())
            };
            if all.iter().any(|one| at(one) != at(&all[0])) {
                return None;
            }
            let hash = |one: &Value| one["HashKV"]["hash"].as_u64().expect("a hash");
            assert!(all.iter().all(|one| hash(one) == hash(&all[0])), "members differ: {text}");
            Some(())
        });
    }

    /// Waits until a member's log has a text.
    ///
    /// # Panics
    /// If it has not in time; with its log.
    pub fn wait_for_log(&self, number: usize, text: &str) {
        self.members[number].wait_for_log(text);
    }
}
