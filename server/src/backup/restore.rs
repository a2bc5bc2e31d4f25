//! A data directory from a saved snapshot.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::{etcdserverpb, raftpb, walpb};
use retcd_raft_node::membership::bootstrap_entries;
use retcd_storage::fs::{Fs, OpenMode, RealFs};
use retcd_storage::wal::{self, Wal};
use retcd_storage::{backend, snapshot};
use slog::{Logger, info, warn};

use super::FileError;
use super::cluster::Founding;
use super::copy::Source;
use super::database::{Bolt, Engine};
use super::place::Place;
use super::rewrite::{FIRST_TERM, rewrite};
use crate::config::{BootstrapError, UrlError};

/// What to restore, and as which member. Fields carry the names of etcdutl's flags.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The saved snapshot.
    pub snapshot: PathBuf,
    /// `--data-dir`: does not exist, or is an empty directory.
    pub data_dir: PathBuf,
    /// `--wal-dir`: does not exist; `None`: inside the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `--name`: which member of the cluster this will be.
    pub name: String,
    /// `--initial-cluster`, `name=url[,name=url...]`: all members that start from this snapshot.
    pub initial_cluster: String,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--initial-advertise-peer-urls`: as the cluster lists this member.
    pub initial_advertise_peer_urls: String,
    /// `--skip-hash-check`: accepts a file without a trailer, such as a copied `member/snap/db`, and
    /// one that the trailer or a look at all pages shows to be damaged.
    pub skip_hash_check: bool,
    /// `--bump-revision` with `--mark-compacted`.
    pub bump: Option<Bump>,
    /// `--initial-memory-map-size`: only told in the log, since our engine needs no such hint.
    pub initial_memory_map_size: u64,
}

impl RestoreOptions {
    /// etcdutl's defaults.
    pub fn new(snapshot: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            snapshot: snapshot.into(),
            data_dir: data_dir.into(),
            wal_dir: None,
            name: "default".into(),
            initial_cluster: "default=http://localhost:2380".into(),
            initial_cluster_token: "etcd-cluster".into(),
            initial_advertise_peer_urls: "http://localhost:2380".into(),
            skip_hash_check: false,
            bump: None,
            initial_memory_map_size: 10 << 30,
        }
    }
}

/// Lets the restored member go on so many revisions later, with everything before marked as compacted, so
/// that clients that saw newer revisions than the snapshot has never see one go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bump(pub NonZeroU64);

/// What a restore made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Where its log is.
    pub wal_dir: PathBuf,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A URL that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Flags of a first start that do not go together.
    #[error(transparent)]
    Cluster(#[from] BootstrapError),
    /// An id that cannot be used.
    #[error(
        "the id of member {0:?} is zero or that of another member; choose another --initial-cluster-token"
    )]
    Id(String),
    /// There is something already.
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    /// There is a part of a restore.
    #[error(
        "data-dir not empty: {0:?} was left by a restore that was interrupted, or is being written by one right now; remove it if none is running, then restore again"
    )]
    Interrupted(PathBuf),
    /// There is something already.
    #[error("wal-dir {0:?} exists")]
    WalDirExists(PathBuf),
    /// The log would lie on the database.
    #[error(
        "wal-dir {wal_dir:?} overlaps the snapshot directory {snap:?}; choose a directory of its own"
    )]
    WalDirPlace {
        /// As given.
        wal_dir: PathBuf,
        /// Where the database goes.
        snap: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The snapshot is shorter than a trailer.
    #[error("seek {path}: invalid argument: the file has {len} bytes, a snapshot has more", path = path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// The snapshot became shorter while it was read.
    #[error("read {path}: unexpected EOF: the file became shorter while it was read", path = .0.display())]
    Shrunk(PathBuf),
    /// The snapshot has no trailer.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    MissingHash,
    /// The snapshot is not what was saved.
    #[error("expected sha256 {}, got {}", Decimal(expected), Decimal(got))]
    HashMismatch {
        /// By its trailer.
        expected: [u8; 32],
        /// By its bytes.
        got: [u8; 32],
    },
    /// The database in the snapshot is damaged.
    #[error(
        "the snapshot's database is damaged: {0}; take an older snapshot, or restore what can be read with --skip-hash-check"
    )]
    Damaged(backend::Error),
    /// The database cannot be read or written.
    #[error(transparent)]
    Database(#[from] backend::Error),
    /// A key of the bucket `key` that no member has written.
    #[error("the snapshot's database is damaged: key \"{key}\" is no revision; take an older snapshot", key = .0.escape_ascii())]
    RevisionKey(Bytes),
    /// The last revision would be passed.
    #[error(
        "--bump-revision={amount} is too large: the snapshot's latest revision is {newest}, and the last possible one is {max}",
        max = i64::MAX
    )]
    Bump {
        /// As given.
        amount: u64,
        /// The snapshot's.
        newest: i64,
    },
    /// The log cannot be written.
    #[error(transparent)]
    Wal(#[from] wal::Error),
    /// The raft snapshot cannot be written.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// What was written does not read back.
    #[error("the restored log does not read back as it was written; check the disk of {0:?}")]
    Unreadable(PathBuf),
}

/// Bytes as Go prints them.
struct Decimal<'a>(&'a [u8]);

impl std::fmt::Display for Decimal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[")?;
        for (n, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte}", if n == 0 { "" } else { " " })?;
        }
        f.write_str("]")
    }
}

/// What a restore works with. Handed in, so that tests can do without real files.
pub(super) struct Tools {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) engine: Box<dyn Engine>,
    /// Bytes of a segment of the log.
    pub(super) segment_size: u64,
}

pub(super) fn restore_with(
    tools: &Tools,
    options: &RestoreOptions,
    logger: &Logger,
) -> Result<Restored, RestoreError> {
    let fs = &tools.fs;
    let founding = Founding::new(options)?;
    let place = Place::new(&**fs, &options.data_dir, options.wal_dir.as_deref())?;
    let tell = |what: &'static str| {
        info!(logger, "{}", what; "path" => options.snapshot.display(),
            "wal-dir" => place.final_wal().display(),
            "data-dir" => options.data_dir.display(),
            "snap-dir" => place.final_snap().display(),
            "initial-memory-map-size" => options.initial_memory_map_size);
    };
    tell("restoring snapshot");
    let source = Source::open(&**fs, &options.snapshot)?;

    let existed = fs.exists(place.data_dir()).unwrap_or(true);
    let snap = place.snap();
    fs.create_dir_all(&snap)
        .map_err(FileError::on("mkdir", &snap))?;
    // From here on the place is ours alone: whoever else restores there fails to create this file.
    let path = place.database();
    let copy = fs
        .open(&path, OpenMode::CreateNew)
        .map_err(FileError::on("open", &path))?;
    let result = source
        .copy_to(&*copy, &path, options.skip_hash_check)
        .and_then(|()| {
            drop(copy);
            build(tools, options, &place, &founding, logger)
        })
        .and_then(|()| place.finish(&**fs));
    if let Err(error) = result {
        place.discard(&**fs, !existed);
        return Err(error);
    }
    tell("restored snapshot");
    Ok(Restored {
        member_id: founding.own,
        cluster_id: founding.cluster.cluster_id(),
        wal_dir: place.final_wal(),
    })
}

/// Makes the copied database a member's, and writes the log that it begins with.
fn build(
    tools: &Tools,
    options: &RestoreOptions,
    place: &Place,
    founding: &Founding,
    logger: &Logger,
) -> Result<(), RestoreError> {
    let Tools { fs, engine, .. } = tools;
    let path = place.database();
    let checked = engine.tables(&**fs, &path).and_then(|t| t.check());
    if let Err(error) = checked {
        if !options.skip_hash_check {
            return Err(RestoreError::Damaged(error));
        }
        warn!(logger, "restoring a damaged database"; "error" => %error);
    }
    let database = engine.open(fs.clone(), &path)?;
    rewrite(&*database, &founding.cluster, options.bump, logger)?;
    drop(database);

    let cluster = &founding.cluster;
    let metadata = etcdserverpb::Metadata {
        node_id: Some(founding.own),
        cluster_id: Some(cluster.cluster_id()),
    };
    let members: Vec<_> = cluster.members().cloned().collect();
    let entries = bootstrap_entries(&members);
    let voters: Vec<u64> = members.iter().map(|member| member.id).collect();
    let index = entries.len() as u64;
    let hard_state = raftpb::HardState {
        term: Some(FIRST_TERM),
        vote: voters.first().copied(),
        commit: Some(index),
    };
    let conf_state = raftpb::ConfState {
        voters,
        ..raftpb::ConfState::default()
    };
    let wal_dir = place.wal();
    let wal_options = wal::Options {
        // Nothing else is ever to be written here.
        prepare: wal::Prepare::Inline,
        segment_size: tools.segment_size,
        ..wal::Options::default()
    };
    let mut wal = Wal::create(fs.clone(), &wal_dir, &metadata.encode_to_vec(), wal_options)?;
    wal.append(Some(&hard_state), &entries)?;
    wal.flush()?;
    let raft_snapshot = raftpb::Snapshot {
        data: Some(cluster.v2_document().into()),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(conf_state.clone()),
            index: Some(index),
            term: Some(FIRST_TERM),
        }),
    };
    snapshot::save(&**fs, &place.snap(), &raft_snapshot)?;
    let record = walpb::Snapshot {
        index: Some(index),
        term: Some(FIRST_TERM),
        conf_state: Some(conf_state),
    };
    wal.append_snapshot(&record)?;
    wal.flush()?;
    drop(wal);

    let found = wal::verify(&**fs, &wal_dir, &record)?;
    if found.hard_state != hard_state || found.torn {
        return Err(RestoreError::Unreadable(wal_dir));
    }
    Ok(())
}

/// Makes a data directory from a snapshot that `etcdctl snapshot save` has written: the database of a
/// member of a new cluster, with its first log entries. All members of `initial_cluster` are restored from
/// the same snapshot, each in its place.
///
/// It is built aside and takes its name last: whatever goes wrong, there is no half of a member.
///
/// # Errors
/// See [`RestoreError`]. Then nothing is left behind.
pub fn restore(options: &RestoreOptions, logger: &Logger) -> Result<Restored, RestoreError> {
    let tools = Tools {
        fs: Arc::new(RealFs),
        engine: Box::new(Bolt),
        segment_size: wal::SEGMENT_SIZE,
    };
    restore_with(&tools, options, logger)
}
