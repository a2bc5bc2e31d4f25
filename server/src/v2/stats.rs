//! `/v2/stats`.
//!
//! Source: etcd 3.5 `server/etcdserver/api/v2stats`.

use std::collections::BTreeMap;

use http::{Method, Response, StatusCode};
use retcd_raft_node::Role;
use retcd_raft_node::membership::etcd_json;
use retcd_raft_node::transport::rfc3339;
use serde::Serialize;

use super::{V2, answer};
use crate::config::GoDuration;
use crate::net::Body;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Own {
    name: String,
    id: String,
    state: &'static str,
    start_time: String,
    leader_info: LeaderInfo,
    recv_append_request_cnt: u64,
    send_append_request_cnt: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaderInfo {
    leader: String,
    uptime: String,
    start_time: String,
}

#[derive(Serialize)]
struct Followers {
    leader: String,
    followers: BTreeMap<String, Follower>,
}

#[derive(Serialize)]
struct Follower {
    latency: Latency,
    counts: Outcomes,
}

/// Milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Latency {
    current: f64,
    average: f64,
    standard_deviation: f64,
    minimum: f64,
    maximum: f64,
}

#[derive(Serialize)]
struct Outcomes {
    fail: u64,
    success: u64,
}

impl V2 {
    /// Answers a request for statistics; `None` if there are none of that name.
    pub(super) fn stats(&self, method: &Method, name: &str) -> Option<Response<Body>> {
        if !["store", "self", "leader"].contains(&name) {
            return None;
        }
        if let Some(refusal) = answer::only(method, "GET") {
            return Some(refusal);
        }
        let body = match name {
            "store" => Some(etcd_json(&self.counts.shown())),
            "self" => Some(self.own()),
            _ => self.followers(),
        };
        Some(match body {
            Some(body) => answer::json(StatusCode::OK, body),
            None => answer::message(StatusCode::FORBIDDEN, "not current leader"),
        })
    }

    /// This member.
    fn own(&self) -> Vec<u8> {
        let member = self.member();
        let raft = member.node().status();
        let cluster = member.cluster.load();
        let leader = *member.leader.borrow();
        let now = member.clock.unix();
        let uptime = match leader.elected {
            Some(elected) => elected.elapsed(),
            None => now.saturating_sub(self.started),
        };
        etcd_json(&Own {
            name: cluster
                .member(member.id)
                .map_or_else(String::new, |own| own.name.clone()),
            id: format!("{:x}", member.id),
            state: match raft.role {
                Role::Follower => "StateFollower",
                Role::PreCandidate => "StatePreCandidate",
                Role::Candidate => "StateCandidate",
                Role::Leader => "StateLeader",
            },
            start_time: rfc3339(self.started),
            leader_info: LeaderInfo {
                leader: match leader.id {
                    0 => String::new(),
                    id => format!("{id:x}"),
                },
                uptime: GoDuration(uptime).to_string(),
                start_time: rfc3339(now.saturating_sub(uptime)),
            },
            recv_append_request_cnt: member.metrics.traffic.appends_received.get(),
            send_append_request_cnt: member.metrics.traffic.appends_sent.get(),
        })
    }

    /// The others, as their leader sees them; `None` if this member is not the leader.
    fn followers(&self) -> Option<Vec<u8>> {
        let member = self.member();
        if member.node().status().leader != member.id {
            return None;
        }
        let cluster = member.cluster.load();
        let others = cluster.members().filter(|other| other.id != member.id);
        let followers = others.map(|other| {
            let peer = member.metrics.traffic.peer(other.id);
            let follower = Follower {
                latency: Latency {
                    current: peer.current,
                    average: peer.average(),
                    standard_deviation: peer.standard_deviation(),
                    minimum: peer.minimum,
                    maximum: peer.maximum,
                },
                counts: Outcomes {
                    fail: peer.failures,
                    success: peer.probes,
                },
            };
            (format!("{:x}", other.id), follower)
        });
        Some(etcd_json(&Followers {
            leader: format!("{:x}", member.id),
            followers: followers.collect(),
        }))
    }
}
