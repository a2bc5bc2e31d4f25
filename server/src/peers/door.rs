//! The member as the transport sees it, and the transport as the member does.

use std::io::Read;
use std::sync::{Arc, Weak};
use std::time::Duration;

use retcd_proto::raftpb;
use retcd_raft_node::ProposeError;
use retcd_raft_node::membership::{Change, Cluster};
use retcd_raft_node::transport::{self, Peers, ProcessError};
use retcd_storage::backend::DatabaseCopy;
use slog::warn;

use crate::apply::proposal;
use crate::member::Member;

/// What the transport holds of the member: not the member itself, which must end before it.
#[derive(Debug)]
pub(crate) struct Door {
    member: Weak<Member>,
}

impl Door {
    pub(crate) fn new(member: &Arc<Member>) -> Self {
        Self {
            member: Arc::downgrade(member),
        }
    }
}

impl transport::Member for Door {
    fn process(&self, message: raftpb::Message) -> Result<(), ProcessError> {
        let member = self.member.upgrade().ok_or(ProcessError::Stopped)?;
        let from = message.from();
        if member.cluster.load().is_removed(from) {
            warn!(member.logger, "rejected Raft message from removed member";
                "local-member-id" => format!("{:x}", member.id),
                "removed-member-id" => format!("{from:x}"));
            return Err(ProcessError::Removed);
        }
        if message.to() != member.id {
            warn!(member.logger, "rejected Raft message to mismatch member";
                "local-member-id" => format!("{:x}", member.id),
                "mismatch-member-id" => format!("{:x}", message.to()));
            return Err(ProcessError::Mismatch);
        }
        let Some(node) = member.node.get() else {
            return Err(ProcessError::Refused("the member is starting".to_owned()));
        };
        // Not as for a removed member, whose answer ends an etcd. A member proposes once it knows who leads, and who
        // leads has applied then that it is one.
        let proposal = message.r#type() == raftpb::MessageType::MsgProp;
        if proposal && member.cluster.load().member(from).is_none() {
            let error = "cannot process proposal of a sender that is no member";
            return Err(ProcessError::Refused(error.to_owned()));
        }
        if let Err(error) = proposal::check(&message) {
            warn!(member.logger, "refused a proposal of another member";
                "local-member-id" => format!("{:x}", member.id),
                "remote-member-id" => format!("{from:x}"), "error" => %error);
            return Err(ProcessError::Refused(error.to_string()));
        }
        if message.r#type() == raftpb::MessageType::MsgApp {
            member.metrics.traffic.appends_received.add_one();
        }
        node.step(message).map_err(|error| match error {
            ProposeError::Stopped => ProcessError::Stopped,
            other => ProcessError::Refused(other.to_string()),
        })
    }

    fn is_removed(&self, id: u64) -> bool {
        let member = self.member.upgrade();
        member.is_some_and(|member| member.cluster.load().is_removed(id))
    }

    fn report_unreachable(&self, id: u64) {
        if let Some(node) = self.member.upgrade().as_ref().and_then(|m| m.node.get()) {
            // Raft learns it from silence as well.
            let _ = node.report_unreachable(id);
        }
    }

    fn report_gone(&self, id: u64) {
        if let Some(node) = self.member.upgrade().as_ref().and_then(|m| m.node.get()) {
            // It is said again.
            let _ = node.report_gone(id);
        }
    }

    fn report_snapshot(&self, id: u64, sent: bool) {
        if let Some(node) = self.member.upgrade().as_ref().and_then(|m| m.node.get()) {
            // A node that has stopped needs no reports.
            let _ = node.report_snapshot(id, sent);
        }
    }

    fn removed(&self, by: u64) {
        if let Some(member) = self.member.upgrade() {
            member.removed(by);
        }
    }

    fn database_to_send(
        &self,
        message: raftpb::Message,
    ) -> Result<(raftpb::Message, DatabaseCopy), String> {
        let member = self.member.upgrade().ok_or("the member has stopped")?;
        let sent = member.database_to_send(message);
        sent.map_err(|error| error.to_string())
    }

    fn database_received(&self, index: u64, body: &mut dyn Read) -> Result<u64, String> {
        let member = self.member.upgrade().ok_or("the member has stopped")?;
        let received = member.database_received(index, body);
        received.map_err(|error| error.to_string())
    }
}

impl Member {
    fn peers(&self) -> Option<&Arc<Peers>> {
        self.peers.get()
    }

    /// Connects to who came, lets go of who went.
    pub(crate) fn follow(&self, change: &Change) {
        let Some(peers) = self.peers() else {
            return;
        };
        match change {
            Change::Added(member) if member.id != self.id => {
                peers.add_peer(member.id, &member.peer_urls);
            }
            Change::Updated(member) if member.id != self.id => {
                peers.update_peer(member.id, &member.peer_urls);
            }
            Change::Removed(id) if *id != self.id => peers.remove_peer(*id),
            _ => {}
        }
    }

    /// Follows a change of the whole membership at once, from `old` to what it is now.
    pub(crate) fn reconnect(&self, old: &Cluster) {
        let cluster = self.cluster.load();
        // Not only those of `old`: who joined asked others for the members, and knows some whom the log removed
        // before it got there.
        let known = self.peers().map_or_else(Vec::new, |peers| peers.ids());
        for gone in known.iter().filter(|id| cluster.member(**id).is_none()) {
            self.follow(&Change::Removed(*gone));
        }
        for member in cluster.members() {
            self.follow(&Change::Added(member.clone()));
            let before = old.member(member.id).map(|before| &before.peer_urls);
            if before != Some(&member.peer_urls) {
                self.follow(&Change::Updated(member.clone()));
            }
        }
    }

    /// For how long a peer has been reachable without interruption; `None` if it is not.
    pub(crate) fn active_for(&self, id: u64) -> Option<Duration> {
        let since = self.peers()?.active_since(id)?;
        Some(self.clock.now().saturating_sub(since))
    }

    /// Peers that are reachable.
    pub(crate) fn active_peers(&self) -> usize {
        self.peers().map_or(0, |peers| peers.active_peers())
    }

    /// Whether this member, or one that was reachable all the time `since` ago.
    pub(crate) fn connected_for(&self, id: u64, time: Duration) -> bool {
        id == self.id || self.active_for(id).is_some_and(|active| active > time)
    }
}
