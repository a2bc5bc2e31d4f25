//! Patroni (Debian's) keeps PostgreSQL alive on three machines, with what it has to agree on in three members of ours.
//! In both modes of its configuration: `etcd` speaks the API of etcd 2, `etcd3` the JSON gateway.
//!
//! A cluster of three begins; our leader dies, and the primary stays; a switchover without it; the primary's machine
//! dies, and another one takes over; all come back.

mod machine;
mod programs;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use retcd_tests::cluster::Cluster;
use retcd_tests::member::Member;
use retcd_tests::{binary, http1};
use serde_json::{Value, json};

use machine::Machine;
use programs::Programs;

/// How long a step may take, failovers included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(200);

/// Patroni goes on trying for fourteen seconds before it gives up its primary. An election that took no longer than this
/// leaves it enough of them.
const BRIEF: Duration = Duration::from_secs(3);

#[test]
fn over_the_api_of_etcd_2() {
    play("etcd", &["--enable-v2"]);
}

#[test]
fn over_the_gateway() {
    play("etcd3", &[]);
}

fn until<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {why}"),
        }
        // Every look is a handful of requests and a process.
        thread::sleep(LOOK);
    }
}

fn play(mode: &str, flags: &[&str]) {
    let Some(programs) = Programs::find() else { return };
    let ours = binary::ours();
    // Nobody needs etcdctl here.
    let mut cluster = Cluster::start(Path::new("etcdctl"), &[&ours, &ours, &ours], flags);
    let dir = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory");
    open_to(dir.path(), &programs);
    let hosts: Vec<_> = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
    let machines = ["pg1", "pg2", "pg3"].map(|name| Machine::prepare(&programs, dir.path(), name, mode, &hosts));
    let mut park = Park { machines };

    for machine in &mut park.machines {
        machine.start();
    }
    let first = park.primary();
    park.wait_for_replicas(2);
    park.sql_at_primary("CREATE TABLE IF NOT EXISTS words (number int PRIMARY KEY, word text)");
    park.write(1, "begin");
    park.read_everywhere("begin");
    for machine in &park.machines {
        let complaints = machine.complaints();
        assert!(!complaints.iter().any(|one| is_about_etcd(one)), "{}: {complaints:?}", machine.name);
    }
    let timeline = park.timeline(first);

    let leader = leader(&cluster.members.iter().collect::<Vec<_>>());
    cluster.members[leader].kill();
    let outage = wait_for_writes(&cluster, leader);
    park.write(2, "leaderless");
    park.read_everywhere("begin leaderless");
    let (second, tries) = park.switch_over();
    park.wait_for_replicas(2);
    if outage < BRIEF && tries == 1 {
        assert_eq!(park.timeline(second), timeline + 1, "an election that took {outage:?} cost a primary");
    }
    park.write(3, "switched");
    park.read_everywhere("begin leaderless switched");

    park.machines[second].die();
    let third = park.primary();
    assert_ne!(second, third);
    park.wait_for_replicas(1);
    park.write(4, "failed-over");

    cluster.restart(leader);
    park.machines[second].start();
    park.wait_for_replicas(2);
    park.write(5, "whole");
    park.read_everywhere("begin leaderless switched failed-over whole");
    park.listed();
}

/// Whether Patroni complains of what etcd answered, and not as of any etcd: several want to begin, and a busy machine takes
/// its time.
fn is_about_etcd(complaint: &str) -> bool {
    let names = |texts: &[&str]| texts.iter().any(|text| complaint.contains(text));
    names(&PROTOCOL) && !names(&NATURAL)
}

const PROTOCOL: [&str; 9] = [
    "EtcdException",
    "Etcd3ClientError",
    "Etcd3Error",
    // Their kinds, and those of the library for etcd 2.
    "dcs.etcd3.",
    "etcd.Etcd",
    "JSON",
    "Bad response",
    "BadStatusLine",
    "IncompleteRead",
];

const NATURAL: [&str; 10] = [
    "Key already exists",
    "timed out",
    "ReadTimeoutError",
    // Patroni's time was up, or that of a lease.
    "No more machines in the cluster",
    "request failed",
    "leader timeout",
    "Failed to keepalive/grant lease",
    "<LeaseNotFound error",
    "<DeadlineExceeded error",
    "<Unavailable error",
];

/// Lets PostgreSQL's user into a directory.
fn open_to(dir: &Path, programs: &Programs) {
    std::os::unix::fs::chown(dir, Some(programs.user.0), Some(programs.user.1)).expect("a directory of ours");
}

/// The number of the member that all take for their leader.
fn leader(members: &[&Member]) -> usize {
    until("a leader that all members name", || {
        let said = members.iter().map(|member| {
            let answer = http1::request(member.port(), "POST", "/v3/maintenance/status", &[], b"{}");
            let answer: Value = serde_json::from_slice(&answer.map_err(|error| error.to_string())?.body)
                .map_err(|error| error.to_string())?;
            Ok((answer["header"]["member_id"].clone(), answer["leader"].clone()))
        });
        let said = said.collect::<Result<Vec<_>, String>>()?;
        let found = said.iter().position(|(id, leader)| id == leader);
        found.filter(|_| said.iter().all(|(_, leader)| *leader == said[0].1)).ok_or_else(|| format!("{said:?}"))
    })
}

/// Waits until the members that are left write again; how long that took.
fn wait_for_writes(cluster: &Cluster, gone: usize) -> Duration {
    let begin = Instant::now();
    // A write that was handed to the dead leader would be lost, and told so after seconds.
    let left: Vec<_> = (0..3).filter(|number| *number != gone).map(|number| &cluster.members[number]).collect();
    leader(&left);
    until("a write after an election", || {
        let body = br#"{"key": "YQ==", "value": "YQ=="}"#;
        let answer = http1::request(left[0].port(), "POST", "/v3/kv/put", &[], body).map_err(|e| e.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    });
    begin.elapsed()
}

/// All machines with a database.
struct Park {
    machines: [Machine; 3],
}

impl Park {
    /// Waits until one is the primary.
    fn primary(&self) -> usize {
        until("one primary", || {
            let primaries: Vec<_> = (0..3).filter(|number| self.machines[*number].is("primary")).collect();
            if let [one] = primaries[..] { Ok(one) } else { Err(format!("primaries are {primaries:?}{}", self.logs())) }
        })
    }

    /// Waits until so many others follow the primary.
    fn wait_for_replicas(&self, wanted: usize) {
        until("replicas that follow", || {
            let count = self.machines.iter().filter(|machine| machine.is("replica")).count();
            let primary = self.machines.iter().find(|machine| machine.is("primary")).ok_or("no primary")?;
            let following = primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")?;
            let right = count == wanted && following == wanted.to_string();
            if right { Ok(()) } else { Err(format!("{count} replicas, {following} follow{}", self.logs())) }
        });
    }

    fn sql_at_primary(&self, statement: &str) {
        until(statement, || {
            let primary = self.machines.iter().find(|machine| machine.is("primary")).ok_or("no primary")?;
            primary.sql(statement)
        });
    }

    fn write(&self, number: u32, word: &str) {
        // A lost answer may have been done all the same.
        self.sql_at_primary(&format!("INSERT INTO words VALUES ({number}, '{word}') ON CONFLICT DO NOTHING"));
    }

    /// Waits until every database has the same words.
    fn read_everywhere(&self, words: &str) {
        for machine in &self.machines {
            until(&format!("{words:?} on {}", machine.name), || {
                let read = machine.sql("SELECT string_agg(word, ' ' ORDER BY number) FROM words")?;
                if read == words { Ok(()) } else { Err(format!("{read:?}{}", self.logs())) }
            });
        }
    }

    /// How often the history of the database forked.
    fn timeline(&self, number: usize) -> i64 {
        until("a timeline", || {
            let (_, state) = self.machines[number].ask("GET", "/patroni", &Value::Null)?;
            state["timeline"].as_i64().ok_or_else(|| state.to_string())
        })
    }

    /// Asks for another primary, as an operator does before maintenance. Returns it, and how often it had to ask.
    fn switch_over(&self) -> (usize, u32) {
        let before = self.primary();
        let wanted = (before + 1) % 3;
        let candidate = &self.machines[wanted];
        let mut tries = 0;
        until("a switchover", || {
            if candidate.is("primary") {
                return Ok(());
            }
            tries += 1;
            let body = json!({"leader": self.machines[before].name, "candidate": candidate.name});
            let answer = self.machines[before].ask("POST", "/switchover", &body)?;
            if candidate.is("primary") { Ok(()) } else { Err(format!("{answer:?}{}", self.logs())) }
        });
        (wanted, tries)
    }

    /// What `patronictl list` shows an operator: one leader, two replicas, all running.
    fn listed(&self) {
        until("a list of all", || {
            let list = self.machines[0].list()?;
            let all = list.as_array().ok_or("no list")?;
            let count = |role: &str, states: &[&str]| {
                let right = |one: &&Value| one["Role"] == role && states.iter().any(|state| one["State"] == *state);
                all.iter().filter(right).count()
            };
            let right = count("Leader", &["running"]) == 1 && count("Replica", &["running", "streaming"]) == 2;
            if right { Ok(()) } else { Err(list.to_string()) }
        });
    }

    fn logs(&self) -> String {
        self.machines.iter().map(|machine| format!("\n{}", machine.describe())).collect()
    }
}
