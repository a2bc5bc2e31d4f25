//! A member's life: open, recover, join raft, serve, stop.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use retcd_proto::etcdserverpb::AlarmType;
use retcd_raft_node as raft_node;
use retcd_raft_node::ids::RequestIds;
use retcd_raft_node::membership::{self, Cluster};
use retcd_raft_node::transport::{self, Peers};
use retcd_storage::backend;
use retcd_storage::clock::{Clock, SystemClock};
use retcd_storage::fs::{Fs, RealFs};
use retcd_storage::mvcc;
use retcd_storage::snapshot;
use slog::{Logger, info, o, warn};
use tokio::sync::{Notify, watch};

use crate::alarm::Alarms;
use crate::api::{Api, major_minor};
use crate::apply::{Applier, CompactionPace, Snapshots};
use crate::auth::{Auth, Enabled as AuthEnabled};
use crate::beginning::{self, Beginning};
use crate::client::Client;
use crate::config::{
    AutoCompaction, BootstrapError, Config, ConfigError, Discovery, ETCD_VERSION, Engine,
    GoDuration, Place, Resolved, SERVER_NAME, Url,
};
use crate::data_dir::{DataDir, DataDirError, DataDirLock};
use crate::disk::{self, Databases, Disk};
use crate::duties::Duties;
use crate::error::Error;
use crate::lease::peer::OverHttp;
use crate::lease::{self, Alone, Keeper, Leases, Lessor};
use crate::listeners::{self, Acceptors, Sockets};
use crate::log::Log;
use crate::member::{Ending, Leader, Limits, Member};
use crate::memory;
use crate::metrics::{Identity, Metrics};
use crate::net;
use crate::observer::Events;
use crate::peers::{Door, JoinError, LeaderPath, Remote, Secure, Strangers};
use crate::read::Reads;
use crate::recovery;
use crate::schema::{DatabaseError, VersionError};
use crate::transfer::{Incoming, Outgoing};
use crate::v2::V2;
use crate::wait::Waiters;
use crate::watch::Hub;

/// Batches of committed entries that may wait for the apply thread. When it is full, the raft
/// thread keeps what it has and goes on ticking.
const APPLY_QUEUE: usize = 64;

/// How long a connection to a peer may take to come about, beside an election timeout; etcd's value.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long calls in flight may take to end when the member stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration does not make sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This member cannot found a cluster with this configuration.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// This member cannot start beside the members that run.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It is to go on alone by force, and is no member of its cluster.
    #[error(
        "--force-new-cluster: member {0:x} is no member of the cluster that its data directory is of, so it cannot go \
         on as the only one; use the data directory of a member, or restore a snapshot with etcdutl"
    )]
    ForcedStranger(u64),
    /// The membership in the database is damaged.
    #[error(transparent)]
    Membership(#[from] membership::LoadError),
    /// A record about the database itself is damaged.
    #[error(
        "database: bucket meta, key {key} holds {value}, which no member writes; restore this member from a snapshot"
    )]
    DamagedMeta {
        /// Its key.
        key: String,
        /// Its value, escaped.
        value: String,
    },
    /// The database or the cluster is of a release that this one cannot stand in for.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Authentication is enabled.
    #[error(transparent)]
    Auth(#[from] AuthEnabled),
    /// The document of a snapshot that etcd 3.5 wrote cannot be used.
    #[error(transparent)]
    Snapshot(#[from] membership::DocumentError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// There is a database, and no log that goes with it.
    #[error(
        "{database} holds what a member had applied up to entry {applied} of its log, and there is no log in {wal}, so \
         it cannot go on; bring the log of the same member there (with a --wal-dir of its own it is not in the data \
         directory), or make a member of the database: `etcdutl snapshot restore {database} --skip-hash-check \
         --data-dir DIR`",
        database = database.display(), wal = wal.display()
    )]
    LogMissing {
        /// The database.
        database: PathBuf,
        /// Index of the last entry applied to it.
        applied: u64,
        /// Where the log should be.
        wal: PathBuf,
    },
    /// The database that goes with the log is not there.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database cannot be opened.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// What is in the database is damaged.
    #[error(transparent)]
    Store(#[from] mvcc::Error),
    /// What an interrupted transfer left cannot be removed.
    #[error(transparent)]
    Leftovers(#[from] snapshot::Error),
    /// The log or the snapshots cannot be opened or recovered.
    #[error(transparent)]
    Raft(#[from] raft_node::Error),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// Its memory cannot be locked.
    #[error(transparent)]
    Memory(#[from] memory::LockError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// It stopped before it could serve.
    #[error("the member stopped before it was ready: {0}")]
    NotReady(String),
}

impl StartError {
    /// What to do about it, in one sentence, where the message leaves that open.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Bootstrap(error) => error.advice(),
            Self::Join(error) => error.advice(),
            _ => None,
        }
    }
}

/// A running member. Dropping it stops it.
pub struct Server {
    name: String,
    logger: Logger,
    member: Weak<Member>,
    client_addresses: Vec<SocketAddr>,
    client_http_addresses: Vec<SocketAddr>,
    peer_addresses: Vec<SocketAddr>,
    metrics_addresses: Vec<SocketAddr>,
    ending: watch::Receiver<Option<Ending>>,
    ready: watch::Receiver<bool>,
    running: Option<Running>,
}

/// What has to be stopped, in this order.
struct Running {
    /// Clients.
    net: Arc<net::Net>,
    duties: JoinHandle<()>,
    node: raft_node::Node,
    peers: Arc<Peers>,
    /// What peers ask for. Apart from clients, so that these cannot hold it up.
    peer_net: net::Net,
    apply: JoinHandle<()>,
    watching: JoinHandle<()>,
    keeping: JoinHandle<()>,
    member: Arc<Member>,
    /// Closed when nobody uses the member any more.
    unused: Receiver<()>,
    /// Released last: only then may another process have the directory.
    lock: DataDirLock,
}

impl Server {
    /// Starts a member and returns when it is ready to serve.
    ///
    /// That is when its cluster has heard of it, so it waits for a quorum; [`Server::launch`] does not.
    /// Blocks for as long as that takes; call it from `spawn_blocking` where that matters.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing that was on disk before is changed by a start that is refused.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let log = config.log.open().map_err(ConfigError::from)?;
        Self::start_with_log(config, &log)
    }

    /// [`Server::start`] with a log that is open already.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with_log(config: Config, log: &Log) -> Result<Self, StartError> {
        let server = Self::launch_with_log(config, log)?;
        run_async(server.ready())??;
        Ok(server)
    }

    /// Starts a member and returns when it takes part in its cluster. Clients are served from when it is
    /// [ready](Server::ready).
    ///
    /// Blocks for as long as recovery takes; call it from `spawn_blocking` where that matters.
    ///
    /// # Errors
    /// As [`Server::start`], but for those of a member that never becomes ready.
    pub fn launch(config: Config) -> Result<Self, StartError> {
        let log = config.log.open().map_err(ConfigError::from)?;
        Self::launch_with_log(config, &log)
    }

    /// Waits until the member serves clients.
    ///
    /// # Errors
    /// `NotReady` when it stops before.
    pub async fn ready(&self) -> Result<(), StartError> {
        let (mut ready, mut ending) = (self.ready.clone(), self.ending.clone());
        let reason = tokio::select! {
            biased;
            ended = ending.wait_for(Option::is_some) => match ended {
                Ok(ended) => ended.as_ref().map(ToString::to_string),
                Err(_) => None,
            },
            ready = ready.wait_for(|ready| *ready) => match ready {
                Ok(_) => return Ok(()),
                Err(_) => None,
            },
        };
        let reason = reason.unwrap_or_else(|| Error::Stopped.to_string());
        Err(StartError::NotReady(reason))
    }

    /// [`Server::launch`] with a log that is open already.
    ///
    /// # Errors
    /// As [`Server::launch`].
    pub fn launch_with_log(config: Config, log: &Log) -> Result<Self, StartError> {
        let logger = log.logger().clone();
        let mut resolved = config.resolve()?;
        for notice in &resolved.notices {
            notice.log(&logger);
        }
        resolved.check_tls()?;
        resolved.check_retention()?;
        let mut acceptors = Acceptors::default();
        acceptors.add(&resolved, false, &logger)?;

        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let dir = DataDir::new(&resolved);
        let initialized = dir.has_log(&*fs)?;
        dir.check_engine(&*fs)?;
        // Everything that can refuse a start comes before the first file is written.
        let local = resolved.local_address;
        let early = Secure::new(&resolved.tls.peer, local, true, &logger);
        let remote = Remote::new(Some(early), logger.clone());
        let beginning = if initialized {
            info!(logger, "server has already been initialized"; "data-dir" => dir.root().display(), "dir-type" => "member");
            None
        } else {
            info!(logger, "Initialize and start etcd server"; "data-dir" => dir.root().display(), "dir-type" => "empty");
            // Before anybody is asked or told about it: a copied configuration makes a member claim to be another one, whose
            // address it cannot listen on.
            listeners::check(&resolved, &resolved.listen_peers)?;
            listeners::check(&resolved, &resolved.listen_clients)?;
            listeners::check(&resolved, &resolved.listen_clients_http)?;
            listeners::check(&resolved, &resolved.listen_metrics)?;
            Some(Beginning::find(&resolved, &remote, &logger)?)
        };
        if resolved.memory_mlock {
            memory::lock(&logger)?;
        }
        let bind =
            |urls: &[Url], places: &[Place]| listeners::bind(urls, places, &resolved, &logger);
        info!(logger, "configuring peer listeners"; "listen-peer-urls" => list(&resolved.listen_peer_urls));
        let peer_sockets = bind(&resolved.listen_peer_urls, &resolved.listen_peers)?;
        info!(logger, "configuring client listeners"; "listen-client-urls" => list(&resolved.listen_client_urls));
        let clients = bind(&resolved.listen_client_urls, &resolved.listen_clients)?;
        let http_urls = &resolved.listen_client_http_urls;
        let clients_http = bind(http_urls, &resolved.listen_clients_http)?;
        let metrics_urls = &resolved.listen_metrics_urls;
        let metrics_sockets = bind(metrics_urls, &resolved.listen_metrics)?;
        listeners::leave_rest(&resolved, &logger);
        let mut net_settings = net::Settings::new(logger.clone())
            .map_err(|error| StartError::Listen(error.to_string()))?;
        net_settings.log = Some(log.clone());
        resolved.bound(&listeners::places(&clients));

        let lock = dir.open(&*fs)?;
        acceptors.add(&resolved, true, &logger)?;
        announce(&config, &resolved, initialized, &logger);

        let metrics = Metrics::with(resolved.extensive_metrics, &resolved.features);
        let metrics = Arc::new(metrics.map_err(|e| StartError::NotReady(e.to_string()))?);
        let events = Arc::new(Events::default());
        let node_config = raft_node::Config {
            fs: fs.clone(),
            clock: clock.clone(),
            wal_dir: resolved.wal_dir.clone(),
            snap_dir: resolved.snap_dir.clone(),
            tick: resolved.heartbeat,
            election_ticks: resolved.election_ticks,
            pre_vote: resolved.pre_vote,
            initial_election_tick_advance: resolved.initial_election_tick_advance,
            snapshot_catchup_entries: resolved.snapshot_catchup_entries,
            max_wals: resolved.max_wals.unwrap_or(0),
            max_snapshots: resolved.max_snapshots.unwrap_or(0),
            no_fsync: resolved.unsafe_no_fsync,
            wal_segment_size: raft_node::DEFAULT_WAL_SEGMENT_SIZE,
            wal_prepare: Default::default(),
            logger: logger.new(o!("logger" => "raft")),
            observer: events.clone(),
        };
        let databases = Databases::new(&resolved, fs.clone(), &metrics, &logger);
        let open_disk = || databases.open();
        let (log, mut disk) = open_files(&node_config, &resolved, initialized, open_disk)?;
        recovery::check(&disk, &logger)?;
        let mut old_entries = 0;
        // What came from a leader and was not installed now is not needed any more: the log, which did not hear of it,
        // asks for a newer one.
        snapshot::release(&*fs, &resolved.snap_dir, u64::MAX)?;
        let (opened, cluster, others, peer_name) = match log {
            Some(mut log) => {
                let (id, cluster_id) = log.ids();
                let learners = resolved.max_learners;
                beginning::check_data(&resolved, &remote, &logger, (id, cluster_id))?;
                let recovered =
                    recovery::recover(&log, &mut disk, &node_config, learners, &logger)?;
                old_entries = recovered.old_entries;
                let index = disk.applied.0;
                if resolved.force_new_cluster {
                    let changes = recovery::forced(&log, &recovered.cluster, index)?;
                    log.force(&node_config, index, changes)?;
                }
                let opened = log.with_database(&node_config, index, recovered.conf_state)?;
                let members = recovered.cluster.members();
                let others = members.filter(|m| m.id != id && !resolved.force_new_cluster);
                let others = others.cloned().collect();
                if matches!(resolved.discovery, Some(Discovery::Service(_))) {
                    warn!(logger, "discovery token is ignored since cluster already initialized; valid logs are found";
                        "wal-dir" => %resolved.wal_dir.display());
                }
                (opened, recovered.cluster, others, None)
            }
            // Without a log, or when the first start was cut off before the log had its first entries.
            None => {
                let beginning = match beginning {
                    Some(beginning) => beginning,
                    None => Beginning::find(&resolved, &remote, &logger)?,
                };
                // Its entries would be counted anew, and passed over as applied.
                if disk.applied.0 > 0 {
                    return Err(StartError::LogMissing {
                        database: disk::database(&resolved),
                        applied: disk.applied.0,
                        wal: resolved.wal_dir.clone(),
                    });
                }
                let opened = raft_node::open(&node_config, beginning.start)?;
                let cluster =
                    Cluster::load(&disk.backend, opened.cluster_id, resolved.max_learners)?;
                (opened, cluster, beginning.others, beginning.peer_name)
            }
        };
        let peer_tls = match peer_name {
            Some(name) => resolved.tls.peer.naming(&name),
            None => resolved.tls.peer.clone(),
        };
        let secure = Secure::new(&peer_tls, local, false, &logger);
        let ids = (opened.member_id, opened.cluster_id);
        let alarms = Alarms::load(&disk.backend)?;
        let auth = Auth::load(&disk.backend)?;
        let min_ttl = lease::min_ttl(resolved.election_ticks, resolved.heartbeat);
        let leases = Leases::new(clock.clone(), resolved.election, metrics.lease.clone());
        let leases = Arc::new(leases);
        let mut lessor = Lessor::load(&disk.backend, min_ttl, leases.clone())?;
        let orphans = lessor.attach_restored(disk.store.take_restored_leases());
        if orphans > 0 {
            warn!(logger, "failed to attach a lease: keys name leases that are not there"; "keys" => orphans);
        }
        if leases.len() > 0 {
            info!(logger, "restored leases"; "leases" => leases.len());
        }
        metrics.identify(Identity {
            member_id: ids.0,
            quota_backend_bytes: resolved.quota_backend_bytes,
        });
        if let Some(version) = cluster.version() {
            metrics
                .server
                .set_cluster_version(None, &major_minor(version));
        }

        if let Some(threshold) = resolved.bootstrap_defrag_threshold {
            disk::defragment_at_start(&disk.backend, threshold, &logger)?;
        }
        let (hub, watching) = Hub::start(disk.store.reader(), metrics.watch.clone())?;
        let (ending, ended) = watch::channel(None);
        let (set_ready, ready) = watch::channel(false);
        let (in_use, unused) = crossbeam_channel::bounded(0);
        let member = Arc::new(Member {
            id: ids.0,
            cluster_id: ids.1,
            limits: limits(&config, &resolved),
            clock: clock.clone(),
            store: disk.store.reader(),
            outgoing: Outgoing::new(
                clock.clone(),
                logger.clone(),
                metrics.disk.backend_snapshot.clone(),
            ),
            incoming: Incoming {
                fs: fs.clone(),
                clock: clock.clone(),
                snap_dir: resolved.snap_dir.clone(),
                engine: resolved.backend_engine,
                busy: Mutex::default(),
            },
            waiters: Waiters::default(),
            reads: Reads::default(),
            request_ids: RequestIds::new(ids.0, clock.unix().as_millis() as u64),
            leader: watch::Sender::new(Leader::default()),
            alarms: ArcSwap::from_pointee(alarms.list(AlarmType::None)),
            cluster: ArcSwap::from_pointee(cluster.clone()),
            compacted: watch::Sender::new(disk.store.compact_rev()),
            watch: hub,
            leases,
            leader_leases: Mutex::new(Arc::new(Alone)),
            metrics: metrics.clone(),
            logger: logger.clone(),
            ending,
            stopping: watch::Sender::new(false),
            node: OnceLock::new(),
            peers: OnceLock::new(),
            remote: Remote::new(Some(secure.clone()), logger.clone()),
            term_began: Notify::new(),
            installed: Notify::new(),
            strangers: Strangers::default(),
            removal: Mutex::default(),
            applied: AtomicU64::new(disk.applied.0),
            _in_use: in_use,
        });

        let (apply, entries) = raft_node::queue::bounded(APPLY_QUEUE);
        let mut snapshots = Snapshots::new(
            resolved.snapshot_count,
            databases.durable().clone(),
            opened.snapshot.0,
            opened.conf_state.clone(),
        );
        snapshots.force(old_entries);
        events.attach(member.clone());
        let network = metrics
            .network(ids.0)
            .map_err(|e| StartError::NotReady(e.to_string()))?;
        let urls = resolved.initial_advertise_peer_urls.iter();
        let peers = Peers::start(
            transport::Options {
                local_id: ids.0,
                cluster_id: ids.1,
                peer_urls: urls.map(ToString::to_string).collect(),
                server_version: ETCD_VERSION.to_owned(),
                dial_timeout: DIAL_TIMEOUT + resolved.election,
                read_timeout: resolved.raft_read_timeout,
                write_timeout: resolved.raft_write_timeout,
                connector: Some(secure),
                clock,
                logger: logger.clone(),
                observer: Arc::new(network),
            },
            Arc::new(Door::new(&member)),
        )?;
        let node = opened.run(node_config, peers.clone(), apply, disk.applied.0)?;
        let attached = member.node.set(node.handle().clone()).is_ok()
            && member.peers.set(peers.clone()).is_ok();
        assert!(attached, "attached once, here");
        *member.leader_leases.lock() = Arc::new(OverHttp(LeaderPath::new(&member)));
        let alone = others.is_empty();
        for other in &others {
            peers.add_peer(other.id, &other.peer_urls);
        }
        let applier = Applier {
            member: member.clone(),
            store: disk.store,
            cluster,
            alarms,
            lessor,
            auth,
            pace: CompactionPace {
                batch: resolved.compaction_batch_limit,
                pause: resolved.compaction_sleep_interval,
            },
            snapshots,
            databases,
            applied: disk.applied,
            compaction_started: None,
            lowering: None,
        };
        let apply = applier.spawn(entries)?;
        let keeping = Keeper::start(member.clone())?;

        let peer_settings = net::Settings {
            threads: 1,
            // What says nothing holds no connection: no silence, no half head, no one that waits for another request.
            header_timeout: resolved.raft_read_timeout,
            keepalive_interval: resolved.raft_read_timeout,
            keepalive_timeout: resolved.raft_read_timeout,
            peer_write_timeout: resolved.raft_write_timeout,
            ..net::Settings::new(logger.clone())
                .map_err(|error| StartError::Listen(error.to_string()))?
        };
        net_settings.max_concurrent_streams = resolved.max_concurrent_streams;
        net_settings.keepalive_min_time = resolved.grpc_keepalive.min_time;
        net_settings.keepalive_interval = resolved.grpc_keepalive.interval;
        net_settings.keepalive_timeout = resolved.grpc_keepalive.timeout;
        net_settings.warning_unary_duration = resolved.warning_unary_request_duration;
        net_settings.gateway = resolved.enable_grpc_gateway;
        net_settings.cors = resolved.cors.clone();
        net_settings.host_whitelist = resolved.host_whitelist.clone();
        net_settings.profiles = resolved.enable_pprof;
        net_settings.observer = metrics;
        let v2 = resolved
            .enable_v2
            .then(|| Arc::new(V2::new(member.clone())));
        net_settings.v2 = v2.clone().map(|v2| v2 as Arc<dyn net::Legacy>);
        let peer_net = net::Net::start(peer_settings)?;
        let net = Arc::new(net::Net::start(net_settings)?);
        let client_addresses = listeners::addresses(&clients);
        let client_http_addresses = listeners::addresses(&clients_http);
        let peer_addresses = listeners::addresses(&peer_sockets);
        let metrics_addresses = listeners::addresses(&metrics_sockets);
        let services: Arc<dyn net::Services> = Arc::new(Api::new(member.clone()));
        for socket in peer_sockets {
            let transport = socket.transport(acceptors.peer());
            let listener = socket.listener;
            info!(logger, "serving peer traffic"; "address" => %listener.place());
            let surface = net::Surface::Peer;
            peer_net.serve_over(listener, transport, surface, services.clone())?;
        }
        let opening = Opening {
            net: Arc::downgrade(&net),
            services,
            sockets: Sockets {
                clients,
                http: clients_http,
                metrics: metrics_sockets,
            },
            acceptors,
            ready: set_ready,
        };
        let open = {
            let member = Arc::downgrade(&member);
            move || {
                if let Some(member) = member.upgrade() {
                    opening.serve(&member);
                }
            }
        };
        let besides = async move {
            if let Some(v2) = v2 {
                v2.expire().await;
            }
        };
        let duties = Duties::new(&resolved, alone).start(member.clone(), open, besides)?;
        Ok(Self {
            name: resolved.name.clone(),
            client_addresses,
            client_http_addresses,
            peer_addresses,
            metrics_addresses,
            logger,
            member: Arc::downgrade(&member),
            ending: ended,
            ready,
            running: Some(Running {
                net,
                duties,
                node,
                peers,
                peer_net,
                apply,
                watching,
                keeping,
                member,
                unused,
                lock,
            }),
        })
    }

    /// The addresses on which clients are served, in the order of `listen_client_urls`; sockets in files have none.
    #[must_use]
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// The addresses on which clients are served that speak HTTP, in the order of `listen_client_http_urls`.
    #[must_use]
    pub fn client_http_addresses(&self) -> &[SocketAddr] {
        &self.client_http_addresses
    }

    /// The addresses for other members, in the order of `listen_peer_urls`.
    #[must_use]
    pub fn peer_addresses(&self) -> &[SocketAddr] {
        &self.peer_addresses
    }

    /// The addresses on which metrics are served, in the order of `listen_metrics_urls`.
    #[must_use]
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// A client in this process.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.member.clone())
    }

    #[cfg(test)]
    pub(crate) fn member(&self) -> Arc<Member> {
        self.member.upgrade().expect("it runs")
    }

    /// Waits until the member stops by itself; says why.
    pub async fn failed(&self) -> String {
        let mut ending = self.ending.clone();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.as_ref().map(ToString::to_string).unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether the member stopped because it was removed from its cluster, for ever: its data is of no use any more.
    #[must_use]
    pub fn was_removed(&self) -> bool {
        *self.ending.borrow() == Some(Ending::Removed)
    }

    /// Stops serving, lets what is under way end, stores everything, and frees the data directory.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        if self.ending.borrow().is_none() {
            // Whatever comes of it, the member stops.
            let _ = run_async(running.member.hand_over());
        }
        // Streams of watches and renewals would last as long as their clients.
        running.member.watch.close();
        running.member.leases.close();
        running.net.stop(STOP_GRACE);
        drop(running.net);
        // Calls that came without a socket and go on by themselves.
        running.member.end_calls();
        drop(running.duties.join());
        running.node.stop();
        running.peers.stop();
        running.peer_net.stop(Duration::ZERO);
        drop(running.peer_net);
        // It ends when the node has dropped its end of the channel. A panic was reported there.
        drop(running.apply.join());
        drop(running.watching.join());
        drop(running.keeping.join());
        drop(running.member);
        // Calls in flight were told to end; the files are free when the last of them has.
        let unused = running.unused.recv_timeout(STOP_GRACE);
        if unused == Err(RecvTimeoutError::Timeout) {
            warn!(
                self.logger,
                "a call is still running; the database stays open until it ends"
            );
        }
        drop(running.lock);
        info!(self.logger, "closed etcd server"; "name" => &self.name);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("client_addresses", &self.client_addresses)
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// For a log line: a JSON array.
fn list(urls: &[Url]) -> slog::Serde<Vec<String>> {
    slog::Serde(urls.iter().map(ToString::to_string).collect())
}

fn announce(config: &Config, resolved: &Resolved, initialized: bool, logger: &Logger) {
    let retention = resolved.auto_compaction.map(AutoCompaction::as_duration);
    let retention = GoDuration(retention.unwrap_or_default());
    info!(logger, "starting an etcd server";
        "etcd-version" => ETCD_VERSION,
        "server" => SERVER_NAME,
        "max-cpu-available" => std::thread::available_parallelism().map_or(1, usize::from),
        "member-initialized" => initialized,
        "name" => &resolved.name,
        "data-dir" => %resolved.data_dir.display(),
        "wal-dir" => %resolved.wal_dir.display(),
        "force-new-cluster" => resolved.force_new_cluster,
        "heartbeat-interval" => %GoDuration(resolved.heartbeat),
        "election-timeout" => %GoDuration(resolved.election),
        "initial-election-tick-advance" => resolved.initial_election_tick_advance,
        "snapshot-count" => resolved.snapshot_count,
        "max-wals" => config.max_wals,
        "max-snapshots" => config.max_snapshots,
        "snapshot-catchup-entries" => resolved.snapshot_catchup_entries,
        "initial-advertise-peer-urls" => list(&resolved.initial_advertise_peer_urls),
        "listen-peer-urls" => list(&resolved.listen_peer_urls),
        "advertise-client-urls" => list(&resolved.advertise_client_urls),
        "listen-client-urls" => list(&resolved.listen_client_urls),
        "listen-metrics-urls" => list(&resolved.listen_metrics_urls),
        "cors" => slog::Serde(resolved.cors.clone()),
        "host-whitelist" => slog::Serde(resolved.host_whitelist.clone()),
        "initial-cluster" => &resolved.initial_cluster,
        "initial-cluster-state" => resolved.initial_cluster_state.as_str(),
        "initial-cluster-token" => &resolved.initial_cluster_token,
        // 0: there is none.
        "quota-backend-bytes" => resolved.quota_backend_bytes.unwrap_or(0),
        "max-request-bytes" => resolved.max_request_bytes,
        "max-concurrent-streams" => resolved.max_concurrent_streams,
        "max-learners" => resolved.max_learners,
        "auto-compaction-mode" => &config.auto_compaction_mode,
        "auto-compaction-retention" => retention.to_string(),
        "auto-compaction-interval" => retention.to_string(),
        "discovery-srv" => &config.discovery.srv,
        "discovery-token" => &config.discovery.token,
        "discovery-endpoints" => config.discovery.endpoints.join(","),
        "pre-vote" => resolved.pre_vote);
}

/// Reads the log and opens the database. There is no log in a new member, and none that counts if its first start
/// was cut off.
pub(crate) fn open_files(
    config: &raft_node::Config,
    resolved: &Resolved,
    initialized: bool,
    open_disk: impl Fn() -> Result<Disk, StartError> + Sync,
) -> Result<(Option<raft_node::Log>, Disk), StartError> {
    let read_log = || {
        if !initialized {
            return Ok(None);
        }
        match raft_node::Log::read(config) {
            Err(raft_node::Error::Unfinished { .. }) => Ok(None),
            log => log.map(Some),
        }
    };
    let database = disk::database(resolved);
    let bolt = resolved.backend_engine == Engine::Bolt;
    let place = |log: Option<&raft_node::Log>| match bolt {
        true => recovery::place_database(config, log),
        false => Ok(()), // no other member's database is of its format
    };
    let only_read = bolt && config.fs.exists(&database)?;
    if !initialized || !only_read {
        // The log before the database: if it is damaged, none is created or changed.
        let log = read_log()?;
        place(log.as_ref())?;
        return Ok((log, open_disk()?));
    }
    disk::wait_for_lock(&*config.fs, &database, &config.logger)?;
    // Beside each other: a large database takes as long as the log, and is only read.
    let (log, disk) = thread::scope(|scope| {
        let disk = thread::Builder::new()
            .name("database".into())
            .spawn_scoped(scope, &open_disk)?;
        let log = read_log();
        let disk = disk
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, StartError>((log?, disk?))
    })?;
    let begin = log.as_ref().map_or(0, |log| log.snapshot().index());
    if begin <= disk.applied.0 {
        return Ok((log, disk));
    }
    disk.close();
    place(log.as_ref())?;
    Ok((log, open_disk()?))
}

fn limits(config: &Config, resolved: &Resolved) -> Limits {
    Limits {
        max_request_bytes: resolved.max_request_bytes,
        max_txn_ops: resolved.max_txn_ops,
        quota_bytes: resolved.quota_backend_bytes,
        quota_reported: match resolved.quota_backend_bytes {
            Some(quota) => i64::try_from(quota).unwrap_or(i64::MAX),
            None => config.quota_backend_bytes,
        },
        election_timeout: resolved.election,
        active_within: 3 * resolved.heartbeat,
        watch_progress_interval: resolved.watch_progress_interval,
        strict_reconfig_check: resolved.strict_reconfig_check,
        request_timeout: request_timeout(resolved),
        warning_apply: resolved.warning_apply_duration,
    }
}

/// How long a request may take: 5 s and two election timeouts.
pub(crate) fn request_timeout(resolved: &Resolved) -> Duration {
    Duration::from_secs(5) + 2 * resolved.election
}

/// Runs a future to its end. On a thread of its own: the caller may be inside a runtime, where neither blocking on
/// another one nor dropping one is allowed.
pub(crate) fn run_async<T: Send>(work: impl Future<Output = T> + Send) -> std::io::Result<T> {
    thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let result = runtime.block_on(work);
            runtime.shutdown_background();
            Ok(result)
        };
        thread::Builder::new()
            .name("start-stop".into())
            .spawn_scoped(scope, run)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What is to be opened to clients once the member is ready.
struct Opening {
    net: Weak<net::Net>,
    services: Arc<dyn net::Services>,
    sockets: Sockets,
    acceptors: Acceptors,
    ready: watch::Sender<bool>,
}

impl Opening {
    fn serve(self, member: &Member) {
        let Some(net) = self.net.upgrade() else {
            return; // it stops already
        };
        let logger = &member.logger;
        info!(logger, "ready to serve client requests");
        let served = self.sockets.serve(&self.acceptors, |listener, transport, surface| {
            let address = listener.place().clone();
            let traffic = match surface {
                net::Surface::Grpc => "grpc",
                net::Surface::Http => "http",
                _ => "grpc+http",
            };
            if surface == net::Surface::Metrics {
                let scheme = if transport.plain { "http" } else { "https" };
                info!(logger, "serving metrics"; "address" => format!("{scheme}://{address}"));
            } else {
                if transport.plain {
                    info!(logger, "serving client traffic insecurely; this is strongly discouraged!";
                        "traffic" => traffic, "address" => %address);
                }
                if transport.tls.is_some() {
                    info!(logger, "serving client traffic securely";
                        "traffic" => traffic, "address" => %address);
                }
            }
            Ok(net.serve_over(listener, transport, surface, self.services.clone())?)
        });
        if let Err(error) = served {
            member.fail(format!("listener failed: {error}"));
            return;
        }
        self.ready.send_replace(true);
    }
}
