//! A member: what survives its crashes, and what runs.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use retcd::simulation::StateMachine;
use retcd_proto::raftpb;
use retcd_raft_node::membership::Member as Record;
use retcd_raft_node::parts::{Group, LogWriter, Machine, Write, save_file};
use retcd_raft_node::{Apply, Config, Error, Log, Observer, Start, open};
use retcd_storage::clock::{Clock as _, ManualClock};
use retcd_storage::fs::{Fs, SimFs};
use retcd_storage::wal;

use crate::mutant::Mutant;
use crate::plan::Plan;
use crate::random::Random;

/// The cluster that all of them are in.
pub(crate) const CLUSTER: u64 = 0xc1;

struct Deaf;

impl Observer for Deaf {
    fn fatal(&self, _error: Error) {}
}

/// How a member starts when it has no log.
#[derive(Debug, Clone)]
pub(crate) enum Beginning {
    Found(Vec<Record>),
    Join(Vec<u64>),
}

/// A member's disk, clock and state of health.
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) fs: SimFs,
    clock: Arc<ManualClock>,
    /// Number of starts so far. What was under way for an earlier one is lost.
    pub(crate) incarnation: u64,
    pub(crate) beginning: Beginning,
    pub(crate) running: Option<Running>,
    /// Microseconds of one tick, by its own clock.
    pub(crate) tick: u64,
    /// It stands still until then.
    pub(crate) paused_until: u64,
    /// Its disk is slow until then.
    pub(crate) slow_until: u64,
    /// Out of the cluster, for ever.
    pub(crate) removed: bool,
}

/// What runs of a member.
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(crate) writer: LogWriter,
    pub(crate) state: StateMachine,
    /// Not begun.
    pub(crate) queue: Vec<Write>,
    /// Under one sync now.
    pub(crate) flushing: Option<Vec<Write>>,
    pub(crate) jobs: VecDeque<raftpb::Snapshot>,
    pub(crate) saving: bool,
    pub(crate) work: VecDeque<Apply>,
    /// Batches that there is room for.
    pub(crate) batches: usize,
    pub(crate) applying: bool,
    pub(crate) last_snapshot: u64,
    /// Calls that wait, by request.
    pub(crate) writers: BTreeMap<u64, usize>,
    pub(crate) readers: BTreeMap<u64, usize>,
    /// Reads with an index that is not applied yet.
    pub(crate) confirmed: Vec<(u64, u64)>,
    pub(crate) campaign: bool,
    pub(crate) compacting: bool,
    /// Newest read index, for a planted fault.
    pub(crate) read_index: Option<u64>,
    /// Last index that was given to the log, for planted faults.
    pub(crate) last_written: u64,
}

impl Running {
    pub(crate) fn room(&self) -> usize {
        self.batches.saturating_sub(self.work.len())
    }
}

fn dirs() -> (PathBuf, PathBuf) {
    ("/m/wal".into(), "/m/snap".into())
}

pub(crate) fn snap_dir() -> PathBuf {
    dirs().1
}

impl Member {
    pub(crate) fn new(id: u64, beginning: Beginning, plan: &Plan, random: &mut Random) -> Member {
        let fs = SimFs::new();
        for dir in ["/m/wal", "/m/snap"] {
            let dir = Path::new(dir);
            if dir == snap_dir() {
                // In memory: cannot fail.
                let _ = fs.create_dir_all(dir);
            }
        }
        let skew = random.between(0, 2 * plan.drift);
        Member {
            id,
            fs,
            clock: Arc::new(ManualClock::new(Duration::from_secs(1_700_000_000))),
            incarnation: 0,
            beginning,
            running: None,
            tick: 100_000 * (100 + skew - plan.drift) / 100,
            paused_until: 0,
            slow_until: 0,
            removed: false,
        }
    }

    fn config(&self, plan: &Plan, mutant: Option<Mutant>) -> Config {
        let (wal_dir, snap_dir) = dirs();
        Config {
            fs: Arc::new(self.fs.clone()),
            clock: self.clock.clone(),
            wal_dir,
            snap_dir,
            tick: Duration::from_millis(100),
            election_ticks: plan.election_ticks,
            pre_vote: true,
            initial_election_tick_advance: false,
            snapshot_catchup_entries: plan.catch_up,
            max_wals: 2,
            max_snapshots: 2,
            no_fsync: mutant == Some(Mutant::NoSync),
            wal_segment_size: plan.segment,
            wal_prepare: wal::Prepare::Inline,
            logger: crate::logger::logger(self.id, self.clock.clone()),
            observer: Arc::new(Deaf),
        }
    }

    /// Starts from what is on its disk.
    ///
    /// # Errors
    /// A member must always start: an error is a finding.
    pub(crate) fn start(&mut self, now: u64, plan: &Plan, mutant: Option<Mutant>) -> Result<(), String> {
        self.incarnation += 1;
        let since = Duration::from_micros(now).saturating_sub(self.clock.now());
        // Two starts are never at the same time.
        self.clock.advance(since + Duration::from_millis(1));
        if mutant == Some(Mutant::DiskLost) && self.incarnation > 1 {
            self.fs = SimFs::new();
            let _ = self.fs.create_dir_all(&snap_dir());
        }
        let config = self.config(plan, mutant);
        let fs: Arc<dyn Fs> = config.fs.clone();
        let text = |e: Error| format!("member {:x} does not start: {e}", self.id);
        let log = match wal::exists(&*fs, &config.wal_dir).map_err(|e| e.to_string())? {
            true => match Log::read(&config) {
                Err(Error::Unfinished { .. }) => None,
                log => Some(log.map_err(text)?),
            },
            false => None,
        };
        let begin = log.as_ref().map_or(0, |log| log.snapshot().index());
        let state = StateMachine::open(fs, &config.snap_dir, begin, CLUSTER)
            .map_err(|e| format!("member {:x} does not start: {e}", self.id))?;
        let applied = state.applied().0;
        let opened = match log {
            Some(log) => {
                let mut known = state.conf_state().cloned();
                if mutant == Some(Mutant::ConfigurationForgotten)
                    && let Beginning::Found(members) = &self.beginning
                {
                    known = Some(voters(members.iter().map(|m| m.id)));
                }
                log.with_database(&config, applied, known).map_err(text)?
            }
            None => {
                let start = match &self.beginning {
                    Beginning::Found(members) => {
                        Start::New { cluster_id: CLUSTER, member_id: self.id, members: members.clone() }
                    }
                    Beginning::Join(voters) => {
                        Start::Join { cluster_id: CLUSTER, member_id: self.id, voters: voters.clone() }
                    }
                };
                open(&config, start).map_err(text)?
            }
        };
        let last_snapshot = opened.snapshot.0;
        let last_written = opened.last_index;
        let (mut machine, writer) = opened.into_machine(&config, applied).map_err(text)?;
        machine.set_backlog_bound(plan.backlog);
        self.running = Some(Running {
            machine,
            writer,
            state,
            queue: Vec::new(),
            flushing: None,
            jobs: VecDeque::new(),
            saving: false,
            work: VecDeque::new(),
            batches: plan.room,
            applying: false,
            last_snapshot,
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            confirmed: Vec::new(),
            campaign: true,
            compacting: true,
            read_index: None,
            last_written,
        });
        Ok(())
    }

    /// Ends as if the power had failed; what was under way on the disk is torn somewhere.
    pub(crate) fn crash(&mut self, random: &mut Random, mutant: Option<Mutant>) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        self.incarnation += 1;
        self.paused_until = 0;
        let fail = |random: &mut Random, calls| {
            let at = 1 + random.below(calls);
            self.fs.fail_at(at, std::io::ErrorKind::Other, true);
        };
        if let Some(writes) = running.flushing.take()
            && random.chance(700)
        {
            // The file of a received snapshot comes before the log.
            let snapshot = writes.iter().any(|w| matches!(w, Write::Append { snapshot: Some(_), .. }));
            if snapshot && random.chance(400) {
                fail(random, 5);
            }
            let mut group = Group::default();
            let mut writes = writes.into_iter().flat_map(|w| match mutant {
                Some(mutant) => mutant.write(w, running.last_written),
                None => vec![w],
            });
            if writes.all(|w| running.writer.append(w, &mut group).is_ok()) {
                // The power fails before the sync returns: any of the sectors may be there.
                self.fs.fail_syncs(true);
                let _ = running.writer.flush(group);
            }
        } else if running.saving
            && random.chance(500)
            && let Some(snapshot) = running.jobs.front()
        {
            fail(random, 4);
            let _ = save_file(&self.fs, &snap_dir(), snapshot);
        } else if random.chance(300) {
            fail(random, 12);
            let _ = running.state.commit();
        }
        running.state.abandon();
        drop(running.writer);
        self.fs = if random.chance(500) { self.fs.crash() } else { self.fs.crash_random(random.next()) };
    }
}

pub(crate) fn voters(ids: impl Iterator<Item = u64>) -> raftpb::ConfState {
    let mut voters: Vec<u64> = ids.collect();
    voters.sort_unstable();
    raftpb::ConfState { voters, auto_leave: Some(false), ..raftpb::ConfState::default() }
}
