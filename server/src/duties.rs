//! What a member does by itself as long as it runs: become ready, hurry the first election, look after the cluster's
//! version, compact. One thread, which waits most of the time.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future;
use slog::info;
use tokio::time::sleep;

use crate::config::{AutoCompaction, Resolved};
use crate::member::Member;
use crate::{compactor, publish, slow, version_monitor};

/// How long a member that starts waits for its peers before it gives up hurrying the first election; etcd's value.
const HURRY: Duration = Duration::from_secs(5);
/// How often it looks; etcd's value.
const HURRY_LOOK: Duration = Duration::from_millis(50);

/// What it needs of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Duties {
    name: String,
    client_urls: Vec<String>,
    hurry: bool,
    election_ticks: usize,
    tick: Duration,
    alone: bool,
    compaction: Option<AutoCompaction>,
}

impl Duties {
    /// `alone`: no other member is known.
    pub(crate) fn new(resolved: &Resolved, alone: bool) -> Self {
        let urls = resolved.advertise_client_urls.iter();
        Self {
            name: resolved.name.clone(),
            client_urls: urls.map(ToString::to_string).collect(),
            hurry: resolved.initial_election_tick_advance,
            election_ticks: resolved.election_ticks,
            tick: resolved.heartbeat,
            alone,
            compaction: resolved.auto_compaction,
        }
    }

    /// Starts the thread, which calls `ready` once the cluster knows of this member, does what `besides` says, and ends
    /// with the member.
    pub(crate) fn start(
        self,
        member: Arc<Member>,
        ready: impl FnOnce() + Send + 'static,
        besides: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new().name("duties".into()).spawn(move || {
            runtime.block_on(async {
                let ended = member.ended();
                tokio::select! {
                    biased;
                    () = ended => {}
                    _ = future::join(self.run(&member, ready), besides) => {}
                    _ = future::join(self.compact(&member), slow::watch_descriptors(&member.logger)) => {}
                }
            });
            // Names may still be being resolved.
            runtime.shutdown_background();
        })
    }

    async fn compact(&self, member: &Arc<Member>) {
        if let Some(what) = self.compaction {
            compactor::run(what, &**member, &*member.clock, &member.logger).await;
        }
    }

    async fn run(&self, member: &Arc<Member>, ready: impl FnOnce()) {
        let become_ready = async {
            if publish::attributes(member, &self.name, &self.client_urls)
                .await
                .is_err()
            {
                return;
            }
            if self.alone {
                version_monitor::decide(member).await;
            }
            ready();
        };
        if self.alone {
            become_ready.await;
            version_monitor::run(member).await;
            return;
        }
        tokio::join!(
            become_ready,
            self.hurry(member),
            version_monitor::run(member)
        );
    }

    /// Most members start with a leader there, or together: no need to wait for a whole election timeout.
    async fn hurry(&self, member: &Member) {
        if !self.hurry {
            info!(member.logger, "skipping initial election tick advance";
                "election-ticks" => self.election_ticks);
            return;
        }
        info!(member.logger, "starting initial election tick advance";
            "election-ticks" => self.election_ticks);
        for _ in 0..HURRY.as_millis() / HURRY_LOOK.as_millis() {
            sleep(HURRY_LOOK).await;
            let active = member.active_peers();
            if active > 1 {
                let ticks = self.election_ticks.saturating_sub(2);
                info!(member.logger, "initialized peer connections; fast-forwarding election ticks";
                    "local-member-id" => format!("{:x}", member.id),
                    "forward-ticks" => ticks,
                    "forward-duration" => ?(self.tick * u32::try_from(ticks).unwrap_or(u32::MAX)),
                    "election-ticks" => self.election_ticks,
                    "election-timeout" => ?(self.tick * u32::try_from(self.election_ticks).unwrap_or(u32::MAX)),
                    "active-remote-members" => active);
                // A node that has stopped needs no hurry.
                let _ = member.node().advance_ticks(ticks);
                return;
            }
        }
    }
}
