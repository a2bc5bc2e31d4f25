//! Three members: what is written at one is read at all.

use std::thread;

use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::http1::{self, Answer};
use retcd_tests::member::Member;
use retcd_tests::{binary, peers};
use serde_json::Value;

const FORM: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];

fn ask(member: &Member, method: &str, path: &str, body: &str) -> Answer {
    http1::request(member.port(), method, path, FORM, body.as_bytes()).expect("an answer")
}

/// Asks until an election is over.
fn done(member: &Member, method: &str, path: &str, body: &str) -> Value {
    wait_for("answer without an election", || {
        let answer = ask(member, method, path, body);
        let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
        if value["errorCode"] == 300 {
            return None;
        }
        assert!(answer.status < 300, "{path}: {}", answer.text());
        Some(value)
    })
}

fn value(member: &Member, path: &str) -> Value {
    done(member, "GET", &format!("{path}?quorum=true"), "")["node"]["value"].clone()
}

/// What members say of each other, once they agree on who leads.
fn statistics(members: &[Member]) -> Option<()> {
    let json = |member: &Member, path: &str| {
        let answer = ask(member, "GET", path, "");
        (answer.status, serde_json::from_slice::<Value>(&answer.body).expect("JSON"))
    };
    let own: Vec<Value> = members.iter().map(|member| json(member, "/v2/stats/self").1).collect();
    let leader = own.iter().position(|own| own["state"] == "StateLeader")?;
    let id = own[leader]["id"].clone();
    for (at, member) in members.iter().enumerate() {
        let (status, followers) = json(member, "/v2/stats/leader");
        let (_, named) = json(member, "/v2/members/leader");
        let own = &own[at];
        if own["leaderInfo"]["leader"] != id || named["name"] != members[leader].name() {
            return None;
        }
        if at == leader {
            let all = followers["followers"].as_object()?;
            assert_eq!(all.len(), members.len() - 1, "{followers}");
            assert!(own["sendAppendRequestCnt"].as_u64() > Some(0), "{own}");
        } else {
            if (status, own["state"].as_str()) != (403, Some("StateFollower")) {
                return None;
            }
            assert_eq!(followers["message"], "not current leader");
            assert!(own["recvAppendRequestCnt"].as_u64() > Some(0), "{own}");
        }
    }
    Some(())
}

#[test]
fn what_is_written_at_one_is_read_at_all() {
    let Some(ctl) = peers::debian_etcdctl() else { return };
    let ours = binary::ours();
    let mut cluster = Cluster::start(&ctl, &[ours.as_path(), &ours, &ours], &["--enable-v2"]);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let members = &cluster.members;

    let put = done(&members[follower], "PUT", "/v2/keys/a/b", "value=1");
    let index = put["node"]["modifiedIndex"].as_u64().expect("an index");
    for member in members {
        assert_eq!(value(member, "/v2/keys/a/b"), "1");
        // An index of one member is one of all.
        let waited = done(member, "GET", &format!("/v2/keys/a?wait=true&recursive=true&waitIndex={index}"), "");
        assert_eq!(waited["node"], put["node"]);
    }

    // Names in order, made at all members at once.
    let made: Vec<(u64, String)> = thread::scope(|scope| {
        let writers: Vec<_> = members
            .iter()
            .map(|member| {
                scope.spawn(move || {
                    let made = (0..10).map(|n| {
                        let node = done(member, "POST", "/v2/keys/queue", &format!("value={n}"))["node"].clone();
                        let index = node["createdIndex"].as_u64().expect("an index");
                        (index, node["key"].as_str().expect("a key").to_owned())
                    });
                    made.collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("it writes")).collect()
    });
    let mut made = made;
    made.sort();
    assert_eq!(made.len(), 30);
    assert!(made.is_sorted_by(|a, b| a.1 < b.1), "{made:?}");

    // At most one of three that compare with the same value; an answer may be lost in an election.
    done(&members[leader], "PUT", "/v2/keys/lock", "value=free");
    let won: Vec<bool> = thread::scope(|scope| {
        let all: Vec<_> = members
            .iter()
            .map(|member| {
                scope.spawn(move || {
                    let body = format!("value={}&prevValue=free", member.name());
                    wait_for("answer without an election", || {
                        let answer = ask(member, "PUT", "/v2/keys/lock", &body);
                        [200, 412].contains(&answer.status).then_some(answer.status == 200)
                    })
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("it asks")).collect()
    });
    assert!(won.iter().filter(|won| **won).count() <= 1, "{won:?}");
    let holder = value(&members[leader], "/v2/keys/lock");
    assert!(members.iter().any(|member| holder == member.name()), "{holder}");

    // It ends at all members, by the leader, and who waits at another one hears of it.
    let index = done(&members[follower], "PUT", "/v2/keys/short", "value=x&ttl=1")["node"]["modifiedIndex"].clone();
    let since = index.as_u64().expect("an index") + 1;
    for member in members {
        let waited = done(member, "GET", &format!("/v2/keys/short?wait=true&waitIndex={since}"), "");
        assert_eq!(waited["action"], "expire");
        assert_eq!(ask(member, "GET", "/v2/keys/short", "").status, 404);
    }

    wait_for("statistics of one leader", || statistics(members));

    // Without its leader the others go on.
    let gone = leader;
    cluster.members[gone].kill();
    let leader = cluster.leader();
    let other = (0..3).find(|number| *number != gone && *number != leader).expect("three members");
    done(&cluster.members[other], "PUT", "/v2/keys/a/b", "value=2");
    assert_eq!(value(&cluster.members[leader], "/v2/keys/a/b"), "2");
    cluster.restart(gone);
    assert_eq!(value(&cluster.members[gone], "/v2/keys/a/b"), "2");
    cluster.check_equal();
}
