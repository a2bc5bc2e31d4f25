//! Members of one cluster, on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;
use retcd_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberPromoteRequest, MoveLeaderRequest, PutRequest,
    StatusRequest, StatusResponse,
};

use crate::Error;
use crate::busy::call;
use crate::server::{Place, Program, Server};

/// How long a cluster may take to agree on something.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// Running members; killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    program: Program,
    dir: PathBuf,
    initial: String,
    /// In the order they were started.
    pub members: Vec<Server>,
}

impl Cluster {
    /// Starts so many members below `dir`, and waits until all of them serve.
    ///
    /// # Errors
    /// If one does not start.
    pub fn start(program: &Program, dir: &Path, members: usize) -> Result<Self, Error> {
        let mut places = Vec::new();
        for number in 1..=members {
            places.push(Place::alone(&format!("m{number}"))?);
        }
        let alone: Vec<&str> = places.iter().map(|place| place.cluster.as_str()).collect();
        let initial = alone.join(",");
        let mut cluster = Self {
            program: program.clone(),
            dir: dir.to_owned(),
            initial,
            members: Vec::new(),
        };
        for place in places {
            cluster.spawn(Place {
                cluster: cluster.initial.clone(),
                ..place
            })?;
        }
        cluster
            .members
            .iter_mut()
            .try_for_each(Server::wait_ready)?;
        Ok(cluster)
    }

    fn spawn(&mut self, place: Place) -> Result<(), Error> {
        let dir = self.dir.join(&place.name);
        self.members
            .push(Server::spawn(&self.program, &dir, place)?);
        Ok(())
    }

    /// Addresses for clients.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.endpoint).collect()
    }

    /// Processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Server::pid).collect()
    }

    /// Waits until somebody leads; which of the members does.
    ///
    /// # Errors
    /// If nobody does for too long.
    pub fn leader(&self) -> Result<usize, Error> {
        let begin = Instant::now();
        loop {
            // A member that is down or starting cannot be asked.
            let leads =
                |member: &Server| status(member.endpoint).is_ok_and(|status| leads(&status));
            if let Some(at) = self.members.iter().position(leads) {
                return Ok(at);
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::Server(format!(
                    "no leader for {} s: {}",
                    begin.elapsed().as_secs(),
                    self.views().join("; ")
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What the members say about themselves, for who looks into it.
    fn views(&self) -> Vec<String> {
        let view = |member: &Server| match status(member.endpoint) {
            Ok(status) => format!(
                "{:x}: leader {:x}, term {}, index {}, applied {}",
                member_id(&status),
                status.leader,
                status.raft_term,
                status.raft_index,
                status.raft_applied_index
            ),
            Err(error) => error.to_string(),
        };
        self.members.iter().map(view).collect()
    }

    /// Kills all members, starts them again, and waits until one of them acknowledges a put. Returns how long
    /// that took from the start on; all of them serve then.
    ///
    /// # Errors
    /// If a member does not start, or a put fails.
    pub fn restart_all(&mut self) -> Result<Duration, Error> {
        self.members.iter_mut().try_for_each(Server::kill)?;
        let begin = Instant::now();
        self.members.iter_mut().try_for_each(Server::start_again)?;
        let put = PutRequest {
            key: "restarted".into(),
            ..PutRequest::default()
        };
        let put = put.encode_to_vec();
        // Nobody listens before a leader has heard of it.
        while !self
            .members
            .iter()
            .any(|member| call(member.endpoint, "/etcdserverpb.KV/Put", &put).is_ok())
        {
            if begin.elapsed() > PATIENCE {
                return Err(Error::Server("no put after a restart".into()));
            }
            std::thread::sleep(LOOK);
        }
        let took = begin.elapsed();
        self.members.iter_mut().try_for_each(Server::wait_ready)?;
        Ok(took)
    }

    /// Hands leadership to another member.
    ///
    /// # Errors
    /// If the leader refuses.
    pub fn move_leader(&self, from: usize, to: usize) -> Result<(), Error> {
        let target_id = member_id(&status(self.members[to].endpoint)?);
        let request = MoveLeaderRequest { target_id }.encode_to_vec();
        call(
            self.members[from].endpoint,
            "/etcdserverpb.Maintenance/MoveLeader",
            &request,
        )
        .map(drop)
    }

    /// Adds a learner and starts it on an empty directory. Returns its id.
    ///
    /// # Errors
    /// If the cluster refuses, or it cannot be run.
    pub fn join(&mut self) -> Result<u64, Error> {
        let place = Place::alone(&format!("m{}", self.members.len() + 1))?;
        let request = MemberAddRequest {
            peer_ur_ls: vec![format!("http://{}", place.peer)],
            is_learner: true,
        };
        let reply = call(
            self.members[0].endpoint,
            "/etcdserverpb.Cluster/MemberAdd",
            &request.encode_to_vec(),
        )?;
        let reply = MemberAddResponse::decode(&reply[..]).map_err(undecodable)?;
        self.initial = format!("{},{}", self.initial, place.cluster);
        let place = Place {
            cluster: self.initial.clone(),
            joins: true,
            ..place
        };
        self.spawn(place)?;
        Ok(reply.member.map_or(0, |member| member.id))
    }

    /// Waits until the newest member has applied all but the last `lag` entries of what a leader has.
    ///
    /// # Errors
    /// If that takes longer than `patience`, or the leader cannot be asked.
    pub fn wait_in_sync(&self, leader: usize, lag: u64, patience: Duration) -> Result<(), Error> {
        let newest = &self.members[self.members.len() - 1];
        let begin = Instant::now();
        loop {
            let goal = status(self.members[leader].endpoint)?.raft_applied_index;
            // It does not serve before it has begun to catch up.
            let applied = status(newest.endpoint).map_or(0, |status| status.raft_applied_index);
            if applied + lag >= goal {
                return Ok(());
            }
            if begin.elapsed() > patience {
                return Err(Error::Server(format!(
                    "the new member has applied {applied} of {goal} entries after {} s",
                    patience.as_secs()
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Makes a voter of a learner.
    ///
    /// # Errors
    /// If the leader refuses.
    pub fn promote(&self, leader: usize, id: u64) -> Result<(), Error> {
        call(
            self.members[leader].endpoint,
            "/etcdserverpb.Cluster/MemberPromote",
            &MemberPromoteRequest { id }.encode_to_vec(),
        )
        .map(drop)
    }
}

fn status(endpoint: SocketAddr) -> Result<StatusResponse, Error> {
    let reply = call(
        endpoint,
        "/etcdserverpb.Maintenance/Status",
        &StatusRequest {}.encode_to_vec(),
    )?;
    StatusResponse::decode(&reply[..]).map_err(undecodable)
}

fn member_id(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}

fn leads(status: &StatusResponse) -> bool {
    status.leader != 0 && status.leader == member_id(status)
}

fn undecodable(error: prost::DecodeError) -> Error {
    Error::Server(error.to_string())
}
