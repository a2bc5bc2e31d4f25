//! Creates or recovers what a member has on disk of its log.

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::{etcdserverpb, raftpb, walpb};
use retcd_storage::failpoint::failpoint;
use retcd_storage::wal::{self, Replay, Wal};
use slog::{info, warn};

use crate::Error;
use crate::core::{CoreConfig, InitialState, StepError};
use crate::driver::Config;
use crate::membership::{Member, bootstrap_entries};

/// How a member starts.
#[derive(Debug, Clone)]
pub enum Start {
    /// A member of a new cluster, without a log. Also completes a first start that was interrupted
    /// before its log had its first entries.
    New {
        /// See [`cluster_id`](crate::ids::cluster_id).
        cluster_id: u64,
        /// This member, one of `members`.
        member_id: u64,
        /// All initial members.
        members: Vec<Member>,
    },
    /// A member that joins a cluster which runs already, without a log. Its log stays empty until a
    /// leader fills it. Also completes a first start that was interrupted before that.
    Join {
        /// The cluster's id, as its members say.
        cluster_id: u64,
        /// The id that this member was given when it was added.
        member_id: u64,
        /// The voters that the cluster has now, without this member; somebody must be there to join.
        voters: Vec<u64>,
    },
    /// A member that has a log.
    Restart {
        /// Index of the last entry that the database has, 0 for none.
        consistent_index: u64,
        /// The configuration as of that entry, when the database has one. Otherwise it is derived
        /// from the log.
        conf_state: Option<raftpb::ConfState>,
    },
}

/// What a member has on disk, ready to [`run`](Opened::run).
#[derive(Debug)]
pub struct Opened {
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Index and term of the snapshot that the log starts from, (0, 0) for the beginning.
    pub snapshot: (u64, u64),
    /// The configuration as of the last applied entry.
    pub conf_state: raftpb::ConfState,
    /// Term, vote and commit index. The commit index is at least the applied one (D6).
    pub hard_state: raftpb::HardState,
    /// Index of the last entry.
    pub last_index: u64,
    /// The copy of the segment whose torn end was cut off.
    pub repaired: Option<std::path::PathBuf>,
    entries: Vec<raftpb::Entry>,
    wal: Wal,
}

/// Opens a member's log.
///
/// # Errors
/// A log that exists where none should, or the other way round; one that is damaged or does not go
/// with the database. Nothing is deleted.
pub fn open(config: &Config, start: Start) -> Result<Opened, Error> {
    match start {
        Start::New {
            cluster_id,
            member_id,
            members,
        } => create(config, cluster_id, member_id, &members),
        Start::Join {
            cluster_id,
            member_id,
            voters,
        } => join(config, cluster_id, member_id, &voters),
        Start::Restart {
            consistent_index,
            conf_state,
        } => Log::read(config)?.with_database(config, consistent_index, conf_state),
    }
}

fn create(
    config: &Config,
    cluster_id: u64,
    member_id: u64,
    members: &[Member],
) -> Result<Opened, Error> {
    check_members(member_id, members)?;
    let mut wal = create_wal(config, cluster_id, member_id)?;
    let entries = bootstrap_entries(members);
    let last_index = entries.len() as u64;
    let hard_state = raftpb::HardState {
        term: Some(1),
        vote: Some(0),
        commit: Some(last_index),
    };
    // The hard state comes last: a log that has it has all first entries.
    wal.append(Some(&hard_state), &entries)?;
    wal.flush()?;
    info!(config.logger, "created a log";
        "member" => format!("{member_id:x}"), "cluster" => format!("{cluster_id:x}"));
    let mut voters: Vec<u64> = members.iter().map(|m| m.id).collect();
    voters.sort_unstable();
    Ok(Opened {
        member_id,
        cluster_id,
        snapshot: (0, 0),
        conf_state: raftpb::ConfState {
            voters,
            auto_leave: Some(false),
            ..raftpb::ConfState::default()
        },
        hard_state,
        last_index,
        repaired: None,
        entries,
        wal,
    })
}

/// A log without entries, and a configuration without members: whatever comes, the log from its
/// beginning or a snapshot, brings the one that goes with it. The present voters may be others than
/// those that the log begins with.
fn join(config: &Config, cluster_id: u64, member_id: u64, voters: &[u64]) -> Result<Opened, Error> {
    if member_id == 0 || voters.is_empty() || voters.contains(&member_id) {
        return Err(Error::Members(format!(
            "member {member_id:x} cannot join a cluster whose voters are {voters:x?}"
        )));
    }
    let wal = create_wal(config, cluster_id, member_id)?;
    failpoint("join:log-created");
    info!(config.logger, "created an empty log";
        "member" => format!("{member_id:x}"), "cluster" => format!("{cluster_id:x}"));
    Ok(Opened {
        member_id,
        cluster_id,
        snapshot: (0, 0),
        conf_state: raftpb::ConfState::default(),
        hard_state: raftpb::HardState {
            term: Some(0),
            vote: Some(0),
            commit: Some(0),
        },
        last_index: 0,
        repaired: None,
        entries: Vec::new(),
        wal,
    })
}

/// A new log with these ids, or the one that an interrupted first start with them left.
fn create_wal(config: &Config, cluster_id: u64, member_id: u64) -> Result<Wal, Error> {
    let metadata = etcdserverpb::Metadata {
        node_id: Some(member_id),
        cluster_id: Some(cluster_id),
    };
    if exists(config)? {
        return resume(config, metadata);
    }
    Ok(Wal::create(
        config.fs.clone(),
        &config.wal_dir,
        &metadata.encode_to_vec(),
        config.wal_options(),
    )?)
}

fn check_members(member_id: u64, members: &[Member]) -> Result<(), Error> {
    let bad = |text: String| Err(Error::Members(text));
    if member_id == 0 || !members.iter().any(|m| m.id == member_id) {
        return bad(format!("member {member_id:x} is not among its members"));
    }
    let mut ids: Vec<u64> = members.iter().map(|m| m.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|w| w[0] == w[1]) {
        return bad(format!("two members have the id {:x}", pair[0]));
    }
    if members.iter().any(|m| m.is_learner) {
        return bad("a new cluster has no learners".to_owned());
    }
    Ok(())
}

/// A log that was created but never got its first entries.
fn resume(config: &Config, metadata: etcdserverpb::Metadata) -> Result<Wal, Error> {
    let (wal, replay) = open_wal(config, &walpb::Snapshot::default())?;
    let (member_id, cluster_id) = ids(config, &replay.metadata)?;
    let same = metadata.node_id() == member_id && metadata.cluster_id() == cluster_id;
    if !same || !is_unfinished(&replay) {
        return Err(Error::Exists {
            dir: config.wal_dir.clone(),
            member_id,
            cluster_id,
        });
    }
    info!(
        config.logger,
        "completing a first start that was interrupted"
    );
    Ok(wal)
}

/// Without a hard state nobody has ever voted, been elected or committed.
fn is_unfinished(replay: &Replay) -> bool {
    let hs = &replay.hard_state;
    hs.term() == 0 && hs.commit() == 0
}

/// The log of a member that has one, found sound by itself. A member reads it before it opens its
/// database, so that a start refused because of the log leaves the database as it is.
#[derive(Debug)]
pub struct Log {
    snapshot: walpb::Snapshot,
    wal: Wal,
    replay: Replay,
    member_id: u64,
    cluster_id: u64,
}

impl Log {
    /// Reads everything and makes the log ready to be continued; a torn end is cut off.
    ///
    /// # Errors
    /// A log that is damaged, whose message names the file, and then nothing is changed;
    /// `Unfinished` for one without its first entries: [`open`] it as new again.
    pub fn read(config: &Config) -> Result<Log, Error> {
        for name in wal::strays(&*config.fs, &config.wal_dir)? {
            warn!(config.logger, "ignored file in WAL directory"; "path" => name);
        }
        // The newest record that the commit index covers decides where the log starts. The file that
        // goes with it is for peers and older members; the state itself is in the database.
        let snapshot = wal::valid_snapshots(&*config.fs, &config.wal_dir)?
            .into_iter()
            .max_by_key(|s| (s.index(), s.term()))
            .unwrap_or_default();
        let (wal, replay) = open_wal(config, &snapshot)?;
        let (member_id, cluster_id) = ids(config, &replay.metadata)?;
        if snapshot.index() == 0 && is_unfinished(&replay) {
            return Err(Error::Unfinished {
                dir: config.wal_dir.clone(),
            });
        }
        if let Some(copy) = &replay.repaired {
            warn!(config.logger, "repaired WAL"; "copy of the torn segment" => %copy.display());
        }
        Ok(Log {
            snapshot,
            wal,
            replay,
            member_id,
            cluster_id,
        })
    }

    /// The member and its cluster.
    pub fn ids(&self) -> (u64, u64) {
        (self.member_id, self.cluster_id)
    }

    /// The record of the snapshot that the log starts from; index 0 for the beginning.
    pub fn snapshot(&self) -> &walpb::Snapshot {
        &self.snapshot
    }

    /// The entries behind that snapshot, committed or not.
    pub fn entries(&self) -> &[raftpb::Entry] {
        &self.replay.entries
    }

    /// Index up to which entries are known to be committed, given what the database has applied.
    pub fn committed(&self, consistent_index: u64) -> u64 {
        let known = self.replay.hard_state.commit().max(consistent_index);
        known.max(self.snapshot.index())
    }

    /// `--force-new-cluster`: forgets what is not known to be committed, and appends `changes` as
    /// committed, durably. So the member goes on with a membership that nobody else agreed to.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn force(
        &mut self,
        config: &Config,
        consistent_index: u64,
        changes: Vec<raftpb::ConfChange>,
    ) -> Result<(), Error> {
        let committed = self.committed(consistent_index);
        let entries = &mut self.replay.entries;
        let before = entries.len();
        entries.retain(|entry| entry.index() <= committed);
        if entries.len() < before {
            info!(config.logger, "discarding uncommitted WAL entries";
                "commit-index-from-wal" => committed,
                "number-of-discarded-entries" => before - entries.len());
        }
        let last_term = entries
            .last()
            .map_or(self.snapshot.term(), raftpb::Entry::term);
        let term = self.replay.hard_state.term().max(last_term).max(1);
        let appended: Vec<raftpb::Entry> = changes
            .into_iter()
            .zip(committed + 1..)
            .map(|(change, index)| raftpb::Entry {
                r#type: Some(raftpb::EntryType::EntryConfChange as i32),
                term: Some(term),
                index: Some(index),
                data: Some(Bytes::from(change.encode_to_vec())),
            })
            .collect();
        let hard_state = &mut self.replay.hard_state;
        if term > hard_state.term() {
            hard_state.vote = Some(0);
        }
        hard_state.term = Some(term);
        hard_state.commit = Some(committed + appended.len() as u64);
        self.wal.append(Some(hard_state), &appended)?;
        self.wal.flush()?;
        info!(config.logger, "forcing restart member";
            "cluster-id" => format!("{:x}", self.cluster_id),
            "local-member-id" => format!("{:x}", self.member_id),
            "wal-commit-index" => committed,
            "commit-index" => hard_state.commit());
        self.replay.entries.extend(appended);
        Ok(())
    }

    /// Joins it with what the database says of itself: the index of the last entry that it has, 0
    /// for none, and the configuration as of that entry, otherwise derived from the log.
    ///
    /// # Errors
    /// A database that lacks what the log no longer has, or has what the log never had.
    pub fn with_database(
        self,
        config: &Config,
        consistent_index: u64,
        conf_state: Option<raftpb::ConfState>,
    ) -> Result<Opened, Error> {
        let Log {
            snapshot,
            wal,
            replay,
            member_id,
            cluster_id,
        } = self;
        let start = (snapshot.index(), snapshot.term());
        if start.0 > consistent_index {
            return Err(Error::DatabaseBehindSnapshot {
                path: config.snap_dir.join("db"),
                consistent_index,
                snapshot_index: start.0,
            });
        }
        let last = replay
            .entries
            .last()
            .map_or(start, |e| (e.index(), e.term()));
        if last.0 < consistent_index {
            return Err(Error::LogBehindDatabase {
                dir: config.wal_dir.clone(),
                last_index: last.0,
                consistent_index,
            });
        }
        let hard_state = repaired(
            config,
            replay.hard_state,
            consistent_index.max(start.0),
            last,
        )?;
        let conf_state = match conf_state {
            Some(conf_state) => conf_state,
            None => derive_conf_state(&snapshot, &replay.entries, consistent_index)
                .map_err(|source| log_error(&config.wal_dir, source))?,
        };
        info!(config.logger, "opened the log";
        "member" => format!("{member_id:x}"), "cluster" => format!("{cluster_id:x}"),
        "snapshot" => start.0, "applied" => consistent_index,
        "commit" => hard_state.commit(), "last" => last.0);
        Ok(Opened {
            member_id,
            cluster_id,
            snapshot: start,
            conf_state,
            hard_state,
            last_index: last.0,
            repaired: replay.repaired,
            entries: replay.entries,
            wal,
        })
    }
}

/// The newest hard state need not have reached the disk with the entries it belongs to.
///
/// A commit index below what was applied (D6) is raised: what is applied was committed. So is a
/// term below the last entry's: this member never answered anybody in that term.
fn repaired(
    config: &Config,
    found: raftpb::HardState,
    applied: u64,
    last: (u64, u64),
) -> Result<raftpb::HardState, Error> {
    let mut hs = raftpb::HardState {
        term: Some(found.term()),
        vote: Some(found.vote()),
        commit: Some(found.commit().max(applied)),
    };
    if last.1 > hs.term() {
        hs.term = Some(last.1);
        hs.vote = Some(0);
    }
    if hs.commit() > last.0 {
        return Err(log_error(
            &config.wal_dir,
            StepError::Impossible("the commit index is behind the last entry"),
        ));
    }
    if hs != found {
        info!(config.logger, "repaired the hard state";
            "found" => ?found, "applied" => applied, "last" => ?last);
    }
    Ok(hs)
}

/// The configuration as of `applied` for a database that does not tell: the snapshot's, then every
/// conf change up to there. Changes that were rejected when they were applied cannot be told from
/// others here, which is why the database's word comes first.
///
/// The first entries of a cluster count in any case: they name all initial members, and a member
/// that knew only some of them could elect itself alone.
fn derive_conf_state(
    snapshot: &walpb::Snapshot,
    entries: &[raftpb::Entry],
    applied: u64,
) -> Result<raftpb::ConfState, StepError> {
    let mut cs = snapshot.conf_state.clone().unwrap_or_default();
    let founding = if snapshot.index() == 0 {
        entries
            .iter()
            .take_while(|e| e.r#type() == raftpb::EntryType::EntryConfChange && e.term() == 1)
            .count() as u64
    } else {
        0
    };
    for entry in entries {
        if entry.index() > applied.max(founding) {
            break;
        }
        if entry.r#type() != raftpb::EntryType::EntryConfChange {
            continue;
        }
        let cc = raftpb::ConfChange::decode(entry.data.clone().unwrap_or_default())
            .map_err(|_| StepError::Impossible("a conf change in the log cannot be read"))?;
        let id = cc.node_id();
        let number = cc.r#type.unwrap_or(0);
        let kind = raftpb::ConfChangeType::try_from(number)
            .map_err(|_| StepError::ConfChangeType(number))?;
        use raftpb::ConfChangeType as T;
        if kind == T::ConfChangeUpdateNode {
            continue;
        }
        cs.voters.retain(|v| *v != id);
        cs.learners.retain(|l| *l != id);
        match kind {
            T::ConfChangeAddNode => cs.voters.push(id),
            T::ConfChangeAddLearnerNode => cs.learners.push(id),
            T::ConfChangeRemoveNode | T::ConfChangeUpdateNode => {}
        }
    }
    cs.voters.sort_unstable();
    cs.learners.sort_unstable();
    Ok(cs)
}

fn open_wal(config: &Config, start: &walpb::Snapshot) -> Result<(Wal, Replay), Error> {
    Ok(Wal::open(
        config.fs.clone(),
        &config.wal_dir,
        start,
        config.wal_options(),
    )?)
}

fn exists(config: &Config) -> Result<bool, Error> {
    wal::exists(&*config.fs, &config.wal_dir).map_err(|source| Error::Io {
        path: config.wal_dir.clone(),
        source,
    })
}

fn ids(config: &Config, metadata: &Bytes) -> Result<(u64, u64), Error> {
    match etcdserverpb::Metadata::decode(metadata.clone()) {
        Ok(m) if m.node_id() != 0 && m.cluster_id() != 0 => Ok((m.node_id(), m.cluster_id())),
        _ => Err(Error::Metadata {
            dir: config.wal_dir.clone(),
        }),
    }
}

fn log_error(dir: &Path, source: StepError) -> Error {
    Error::Log {
        dir: dir.to_owned(),
        source,
    }
}

impl Opened {
    /// The core's start, and the log that is to be continued.
    pub(crate) fn into_core(
        self,
        config: &Config,
        applied: u64,
    ) -> (CoreConfig, InitialState, Wal) {
        let unix = config.clock.unix();
        let core = CoreConfig {
            id: self.member_id,
            election_ticks: config.election_ticks,
            pre_vote: config.pre_vote,
            catch_up_entries: config.snapshot_catchup_entries,
            // Members must not draw the same timeouts, nor the same ones in every run.
            seed: self.member_id ^ unix.as_nanos() as u64,
            start_millis: unix.as_millis() as u64,
        };
        let initial = InitialState {
            snapshot: self.snapshot,
            conf_state: self.conf_state,
            hard_state: self.hard_state,
            entries: self.entries,
            applied,
        };
        (core, initial, self.wal)
    }
}

#[cfg(test)]
mod tests;
