//! Checking and applying changes.

use retcd_proto::raftpb::{ConfChange, ConfChangeType};

use super::{Cluster, ConfChangeContext, DowngradeInfo, Member};

/// Why a change of the membership is rejected. Every member comes to the same verdict. The texts of
/// the first six are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The id belonged to a member that was removed.
    #[error("membership: ID removed")]
    IdRemoved,
    /// The id is a member's already.
    #[error("membership: ID exists")]
    IdExists,
    /// No member has the id.
    #[error("membership: ID not found")]
    IdNotFound,
    /// Another member has one of the peer URLs.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// Only learners can be promoted.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// As many learners as allowed are there already.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// The kind of change is unknown.
    #[error("membership: unknown conf change type {0}")]
    UnknownType(i32),
    /// The change's context is not a member in JSON.
    #[error("membership: conf change of member {id:x} with an unreadable context: {reason}")]
    Context {
        /// The member it is about.
        id: u64,
        /// Why it cannot be read.
        reason: String,
    },
    /// Change and context are about different members.
    #[error("membership: got different member ID {context:x}, the conf change is about {id:x}")]
    DifferentId {
        /// In the change.
        id: u64,
        /// In its context.
        context: u64,
    },
}

/// What a conf change does to the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new member, voter or learner.
    Added(Member),
    /// A learner became a voter.
    Promoted(Member),
    /// A member is gone for ever.
    Removed(u64),
    /// A member has new peer URLs.
    Updated(Member),
}

/// A conf change that was read and has passed all checks.
enum Checked {
    Add(Member),
    Promote(u64),
    Remove(u64),
    Update { id: u64, peer_urls: Vec<String> },
}

impl Cluster {
    /// Whether [`Cluster::apply`] would take the change.
    ///
    /// # Errors
    /// The first rule it breaks, in etcd's order.
    pub fn validate(&self, cc: &ConfChange) -> Result<(), MembershipError> {
        self.check(cc).map(|_| ())
    }

    /// Applies a change in memory; [`Cluster::store`] makes it part of the database.
    ///
    /// # Errors
    /// As [`Cluster::validate`]; nothing changes then.
    pub fn apply(&mut self, cc: &ConfChange) -> Result<Change, MembershipError> {
        Ok(match self.check(cc)? {
            Checked::Add(member) => {
                self.members.insert(member.id, member.clone());
                Change::Added(member)
            }
            Checked::Promote(id) => {
                let member = self.member_mut(id)?;
                member.is_learner = false;
                Change::Promoted(member.clone())
            }
            Checked::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
                Change::Removed(id)
            }
            // Field by field: the rest of the member stays (M6).
            Checked::Update { id, peer_urls } => {
                let member = self.member_mut(id)?;
                member.peer_urls = peer_urls;
                Change::Updated(member.clone())
            }
        })
    }

    fn check(&self, cc: &ConfChange) -> Result<Checked, MembershipError> {
        let id = cc.node_id();
        if self.removed.contains(&id) {
            return Err(MembershipError::IdRemoved);
        }
        let number = cc.r#type.unwrap_or(0);
        let kind =
            ConfChangeType::try_from(number).map_err(|_| MembershipError::UnknownType(number))?;
        match kind {
            ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode => {
                let context = context(cc)?;
                if context.is_promote {
                    self.check_promote(id)
                } else {
                    let learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
                    self.check_add(context.member, learner)
                }
            }
            ConfChangeType::ConfChangeRemoveNode => {
                self.existing(id)?;
                Ok(Checked::Remove(id))
            }
            ConfChangeType::ConfChangeUpdateNode => {
                self.existing(id)?;
                let peer_urls = context(cc)?.member.peer_urls;
                self.check_urls(id, &peer_urls)?;
                Ok(Checked::Update { id, peer_urls })
            }
        }
    }

    fn check_promote(&self, id: u64) -> Result<Checked, MembershipError> {
        if !self.existing(id)?.is_learner {
            return Err(MembershipError::NotLearner);
        }
        Ok(Checked::Promote(id))
    }

    fn check_add(&self, mut member: Member, learner: bool) -> Result<Checked, MembershipError> {
        if self.members.contains_key(&member.id) {
            return Err(MembershipError::IdExists);
        }
        self.check_urls(member.id, &member.peer_urls)?;
        let learners = self.members.values().filter(|m| m.is_learner).count();
        if learner && learners + 1 > self.max_learners {
            return Err(MembershipError::TooManyLearners);
        }
        // Raft goes by the kind of the change; the record must agree with raft.
        member.is_learner = learner;
        Ok(Checked::Add(member))
    }

    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), MembershipError> {
        let taken = self
            .members
            .values()
            .filter(|m| m.id != id)
            .any(|m| m.peer_urls.iter().any(|url| urls.contains(url)));
        if taken {
            return Err(MembershipError::PeerUrlExists);
        }
        Ok(())
    }

    fn existing(&self, id: u64) -> Result<&Member, MembershipError> {
        self.members.get(&id).ok_or(MembershipError::IdNotFound)
    }

    fn member_mut(&mut self, id: u64) -> Result<&mut Member, MembershipError> {
        self.members.get_mut(&id).ok_or(MembershipError::IdNotFound)
    }

    /// A member published its name and client URLs. False when there is no such member, which is
    /// right for a removed one and, on a replay, for one that was removed later (M5).
    pub fn set_attributes(&mut self, id: u64, name: &str, client_urls: &[String]) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        name.clone_into(&mut member.name);
        client_urls.clone_into(&mut member.client_urls);
        true
    }

    /// The cluster's version was decided. True when it is lower than before: a downgrade.
    pub fn set_version(&mut self, version: &str) -> bool {
        let lower = self
            .version
            .as_deref()
            .is_some_and(|before| numbers(version) < numbers(before));
        self.version = Some(version.to_owned());
        lower
    }

    /// A downgrade was enabled or ended.
    pub fn set_downgrade(&mut self, info: DowngradeInfo) {
        self.downgrade = Some(info);
    }
}

fn context(cc: &ConfChange) -> Result<ConfChangeContext, MembershipError> {
    let id = cc.node_id();
    let context =
        ConfChangeContext::from_json(cc.context()).map_err(|e| MembershipError::Context {
            id,
            reason: e.to_string(),
        })?;
    if context.member.id != id {
        return Err(MembershipError::DifferentId {
            id,
            context: context.member.id,
        });
    }
    Ok(context)
}

/// The numbers of a version, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok())
        .collect()
}
