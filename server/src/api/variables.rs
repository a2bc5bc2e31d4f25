//! What `/debug/vars` shows: the variables that etcd publishes, in the form in which tools read them.

use retcd_raft_node::{Replication, Role};
use serde_json::{Map, Value, json};

use super::Api;

impl Api {
    /// Names and values, by name.
    pub(crate) fn variables(&self) -> Vec<(&'static str, Value)> {
        let args: Vec<_> = std::env::args_os()
            .map(|arg| Value::from(arg.to_string_lossy().into_owned()))
            .collect();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        vec![
            ("cmdline", args.into()),
            ("file_descriptor_limit", limit.unwrap_or(u64::MAX).into()),
            ("memstats", memory()),
            ("raft.status", self.raft_status()),
        ]
    }

    fn raft_status(&self) -> Value {
        let node = self.member.node();
        let (status, progress) = (node.status(), node.progress());
        let id = |id: u64| format!("{id:x}");
        let members = progress.members.iter().map(|member| {
            let state = match member.replication {
                Replication::Probe => "StateProbe",
                Replication::Replicate => "StateReplicate",
                Replication::Snapshot => "StateSnapshot",
            };
            let value = json!({"match": member.matched, "next": member.next, "state": state});
            (id(member.id), value)
        });
        let members: Map<_, _> = members.collect();
        let role = match status.role {
            Role::Follower => "StateFollower",
            Role::PreCandidate => "StatePreCandidate",
            Role::Candidate => "StateCandidate",
            Role::Leader => "StateLeader",
        };
        json!({
            "id": id(status.id),
            "term": status.term,
            "vote": id(status.vote),
            "commit": status.committed,
            "lead": id(status.leader),
            "raftState": role,
            "applied": status.applied,
            "progress": members,
            "leadtransferee": id(progress.transferee),
        })
    }
}

/// Of what Go says of its memory, what has a meaning without its runtime: all that was taken from the system.
fn memory() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| {
        let kib = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
        kib.trim().parse::<u64>().ok()
    });
    match resident {
        Some(kib) => json!({"Sys": kib.saturating_mul(1024)}),
        None => json!({}),
    }
}
