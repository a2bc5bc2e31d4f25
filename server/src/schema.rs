//! Which versions of server, cluster and database go together, and which database goes with the log.
//!
//! A cluster's version and a database's label are `major.minor.0`; only the first two count.
//! Source: disk-format 4 and 6.4, raft-log 7; etcd `server/storage/schema/`, `server/etcdserver/version/`.

use std::fmt;
use std::path::{Path, PathBuf};

use retcd_raft_node::membership::DowngradeInfo;
use retcd_storage::backend::{self, BoltFile, Bucket, CONSISTENT_INDEX};
use retcd_storage::fs::Fs;
use retcd_storage::snapshot;

/// Where the database keeps the label of its layout: key in the bucket `meta` (disk-format 6.3).
pub(crate) const STORAGE_VERSION: &[u8] = b"storageVersion";

/// A release, without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u64,
    minor: u64,
}

/// The release that this one stands in for.
pub(crate) const OWN: Version = Version::new(3, 7);
/// The oldest layout that can be opened: it has no label.
const UNLABELLED: Version = Version::new(3, 5);
/// The first release that keeps checkpoints of leases, and labels.
pub(crate) const V3_6: Version = Version::new(3, 6);
/// A cluster has this version until all members have been asked for theirs.
const UNDECIDED: Version = Version::new(3, 0);

impl Version {
    pub(crate) const fn new(major: u64, minor: u64) -> Self {
        Self { major, minor }
    }

    /// `3.6` of `3.6.0`; `None` for what is not three numbers, and perhaps a suffix.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (numbers, _) = text.split_once(['-', '+']).unwrap_or((text, ""));
        let mut numbers = numbers.split('.').map(|part| part.parse().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let _patch: u64 = numbers.next()??;
        numbers.next().is_none().then_some(Self { major, minor })
    }

    /// The release before.
    pub(crate) fn previous(self) -> Option<Self> {
        let minor = self.minor.checked_sub(1)?;
        Some(Self { minor, ..self })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

/// Why a database or a cluster is not for this release. The first words are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The database has a layout that this release does not know.
    #[error(
        "version \"{unknown}\" is not supported: the database is labelled {found}, and this release opens {UNLABELLED} to {OWN}; start the release that wrote it, or migrate it there first (etcdutl migrate --target-version)"
    )]
    Storage {
        /// The first version on the way that is unknown.
        unknown: String,
        /// Its label.
        found: String,
    },
    /// The database is of another major version.
    #[error(
        "changing major storage version is not supported: the database is labelled {found}, and this release is {OWN}; start the release that wrote it"
    )]
    StorageMajor {
        /// Its label.
        found: String,
    },
    /// The members agreed on features that this release does not have.
    #[error(
        "invalid downgrade; server version is lower than determined cluster version: the cluster has version {cluster}, and this release is {OWN}; start that release, or downgrade the cluster first (etcdctl downgrade enable)"
    )]
    Cluster {
        /// Its version.
        cluster: String,
    },
}

/// The layout of a database, by its label and by whether an entry was ever `applied` to it, which etcd goes by
/// where there is no label; `None` for a new one.
pub(crate) fn detect(label: Option<&[u8]>, applied: bool) -> Option<Version> {
    label
        .and_then(|label| Version::parse(std::str::from_utf8(label).ok()?))
        .or_else(|| applied.then_some(UNLABELLED))
}

/// Whether this release can open a database with this layout.
///
/// # Errors
/// `Storage`, `StorageMajor`.
pub(crate) fn check_storage(layout: Option<Version>) -> Result<(), VersionError> {
    match layout {
        Some(found) if found.major != OWN.major => Err(VersionError::StorageMajor {
            found: found.to_string(),
        }),
        Some(found) if found > OWN => Err(VersionError::Storage {
            unknown: found.to_string(),
            found: found.to_string(),
        }),
        Some(found) if found < UNLABELLED => Err(VersionError::Storage {
            unknown: Version::new(found.major, found.minor + 1).to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Whether this release can be a member of a cluster of this version.
///
/// # Errors
/// `Cluster`.
pub(crate) fn check_cluster(version: Version) -> Result<(), VersionError> {
    if version > OWN {
        return Err(VersionError::Cluster {
            cluster: version.to_string(),
        });
    }
    Ok(())
}

/// What has to be done to a database's label, so that it says what the cluster's version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relabel {
    Keep,
    /// The layouts since 3.5 differ in nothing but the label, so it can be set at once.
    Raise(Version),
    /// Only once the log, from its newest snapshot on, holds nothing that the older release cannot read.
    Lower(Version),
    /// As `Lower`, to a release that has no labels.
    Remove,
}

pub(crate) fn relabel(layout: Option<Version>, cluster: Version) -> Relabel {
    let Some(layout) = layout else {
        return Relabel::Keep; // the first applied entry brings the term, and with it a layout
    };
    if cluster == UNDECIDED || cluster == layout || cluster < UNLABELLED {
        Relabel::Keep
    } else if cluster > layout {
        Relabel::Raise(cluster)
    } else if cluster == UNLABELLED {
        Relabel::Remove
    } else {
        Relabel::Lower(cluster)
    }
}

/// The version that the leader of a cluster decides on; `None` if the present one stays. `lowest` is that of the oldest
/// member, `None` while one of them does not tell.
///
/// # Errors
/// A downgrade is wanted that cannot be made: its target, and the version that does not allow it.
pub(crate) fn next_cluster_version(
    current: Option<Version>,
    downgrade: Option<&DowngradeInfo>,
    lowest: Option<Version>,
) -> Result<Option<Version>, ImpossibleDowngrade> {
    let Some(current) = current else {
        return Ok(Some(lowest.unwrap_or(UNDECIDED)));
    };
    let Some(lowest) = lowest else {
        return Ok(None);
    };
    if let Some(info) = downgrade.filter(|info| info.enabled) {
        let target = Version::parse(&info.target_version);
        if target == Some(current) {
            return Ok(None);
        }
        for from in [current, lowest] {
            if target.is_none() || target != from.previous() {
                return Err(ImpossibleDowngrade {
                    target: info.target_version.clone(),
                    from,
                });
            }
        }
        return Ok(target);
    }
    Ok((current < lowest && current.major == lowest.major).then_some(lowest))
}

/// A downgrade that is not one step down.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot downgrade from {from} to {target}: a downgrade goes to the minor release before")]
pub(crate) struct ImpossibleDowngrade {
    pub(crate) target: String,
    pub(crate) from: Version,
}

/// The versions that a cluster may have which a member of this release joins, lowest and highest.
pub(crate) fn joinable(downgrade: bool) -> (Version, Version) {
    if downgrade {
        let next = Version::new(OWN.major, OWN.minor + 1);
        return (next, next);
    }
    (UNDECIDED, OWN)
}

/// Why the database that goes with the log is not there. The first words are etcd's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The log begins behind what the database has, and no newer database came from the leader.
    #[error(
        "failed to recover v3 backend from snapshot: failed to find database snapshot file (snap: snapshot file doesn't exist): the log begins behind index {snapshot}, the database {} {state}, and {} is not there; restore this member from a snapshot, or remove it from the cluster and add it again with an empty data directory",
        path.display(), received.display()
    )]
    Missing {
        /// The database.
        path: PathBuf,
        /// What is known of it.
        state: String,
        /// Where the leader's database would be.
        received: PathBuf,
        /// Where the log begins.
        snapshot: u64,
    },
    /// The database that came from the leader is too old as well.
    #[error(
        "database file ({} index {index}) does not match with snapshot (index {snapshot}); nothing was changed: restore this member from a snapshot, or remove it from the cluster and add it again with an empty data directory",
        path.display()
    )]
    Outdated {
        /// The database that came.
        path: PathBuf,
        /// The last entry that it has.
        index: u64,
        /// Where the log begins.
        snapshot: u64,
    },
    /// The member's own database cannot be read.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The one that came cannot be put in place.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// It cannot be seen whether there is one.
    #[error("cannot look for {}: {source}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Makes sure that `<dir>/db` has everything up to `begin`, where the log begins (D16). Where it has not, the member
/// stopped between receiving a database from the leader and putting it in place, and that is done now.
///
/// True when another database was put in place.
///
/// # Errors
/// When there is none. Nothing is changed then.
pub(crate) fn place_database(fs: &dyn Fs, dir: &Path, begin: u64) -> Result<bool, DatabaseError> {
    if begin == 0 {
        return Ok(false); // the log has everything
    }
    let path = dir.join("db");
    let exists = fs.exists(&path).map_err(|source| DatabaseError::Io {
        path: path.clone(),
        source,
    })?;
    let index = if exists { index_of(fs, &path)? } else { 0 };
    if begin <= index {
        return Ok(false);
    }
    match snapshot::install(fs, dir, begin) {
        Ok(()) => Ok(true),
        Err(snapshot::Error::NoDatabase { path: received }) => Err(DatabaseError::Missing {
            state: if exists {
                format!("has nothing behind index {index}")
            } else {
                "is missing".to_owned()
            },
            path,
            received,
            snapshot: begin,
        }),
        Err(snapshot::Error::Older { path, found, index }) => Err(DatabaseError::Outdated {
            path,
            index: found,
            snapshot: index,
        }),
        Err(error) => Err(error.into()),
    }
}

/// The last entry that a database has.
fn index_of(fs: &dyn Fs, path: &Path) -> Result<u64, backend::Error> {
    let file = BoltFile::open(fs, path)?;
    let index = file.get(Bucket::Meta.name().as_bytes(), CONSISTENT_INDEX)?;
    let index = index.and_then(|value| <[u8; 8]>::try_from(value.as_ref()).ok());
    Ok(index.map_or(0, u64::from_be_bytes))
}

#[cfg(test)]
mod tests;
