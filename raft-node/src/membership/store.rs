//! The membership in the database: buckets `members`, `members_removed` and `cluster`.

use bytes::Bytes;
use retcd_storage::backend::{self, Bucket, Reader, View, Writer};

use super::{Change, Cluster, DowngradeInfo, Member, json};
use crate::ids::format_id;

const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";
const REMOVED: &[u8] = b"removed";

/// Why the membership in a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database could not be read.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// A record that no member has written.
    #[error(
        "database: bucket {bucket}, key {key:?} is damaged: {reason}; \
         restore the member from a backup"
    )]
    Damaged {
        /// Where it is.
        bucket: &'static str,
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

impl Cluster {
    /// The membership that a database has; without members when it has none yet.
    ///
    /// # Errors
    /// A database that cannot be read or understood.
    pub fn load(
        reader: &Reader,
        cluster_id: u64,
        max_learners: usize,
    ) -> Result<Cluster, LoadError> {
        Self::load_view(&*reader.view()?, cluster_id, max_learners)
    }

    /// As [`Cluster::load`], as of one moment.
    ///
    /// # Errors
    /// As there.
    pub fn load_view(
        reader: &dyn View,
        cluster_id: u64,
        max_learners: usize,
    ) -> Result<Cluster, LoadError> {
        let mut cluster = Cluster::empty(cluster_id, max_learners);
        for (key, value) in reader.scan(Bucket::Members, b"", None, usize::MAX)? {
            let id = id_of(Bucket::Members, &key)?;
            let member = Member::from_json(&value)
                .map_err(|e| damaged(Bucket::Members, &key, e.to_string()))?;
            if member.id != id {
                let reason = format!("it is the record of member {:x}", member.id);
                return Err(damaged(Bucket::Members, &key, reason));
            }
            cluster.members.insert(id, member);
        }
        for (key, _) in reader.scan(Bucket::MembersRemoved, b"", None, usize::MAX)? {
            let id = id_of(Bucket::MembersRemoved, &key)?;
            cluster.removed.insert(id);
        }
        if let Some(version) = reader.get(Bucket::Cluster, CLUSTER_VERSION)? {
            let text = std::str::from_utf8(&version)
                .map_err(|e| damaged(Bucket::Cluster, CLUSTER_VERSION, e.to_string()))?;
            cluster.version = Some(text.to_owned());
        }
        if let Some(info) = reader.get(Bucket::Cluster, DOWNGRADE)? {
            let info: DowngradeInfo = serde_json::from_slice(&info)
                .map_err(|e| damaged(Bucket::Cluster, DOWNGRADE, e.to_string()))?;
            cluster.downgrade = Some(info);
        }
        Ok(cluster)
    }

    /// Writes a change that was applied. Part of the unit of the entry that made it.
    pub fn store(&self, change: &Change, writer: &mut Writer) {
        match change {
            Change::Added(member) | Change::Promoted(member) | Change::Updated(member) => {
                store_member(member, writer);
            }
            Change::Removed(id) => {
                writer.delete(Bucket::Members, format_id(*id));
                writer.put(
                    Bucket::MembersRemoved,
                    format_id(*id),
                    Bytes::from_static(REMOVED),
                );
            }
        }
    }

    /// Writes one member as it is now, after its attributes changed.
    pub fn store_member(&self, id: u64, writer: &mut Writer) {
        if let Some(member) = self.member(id) {
            store_member(member, writer);
        }
    }

    /// Writes the cluster's version.
    pub fn store_version(&self, writer: &mut Writer) {
        if let Some(version) = &self.version {
            writer.put(
                Bucket::Cluster,
                CLUSTER_VERSION,
                Bytes::copy_from_slice(version.as_bytes()),
            );
        }
    }

    /// Writes the state of the downgrade.
    pub fn store_downgrade(&self, writer: &mut Writer) {
        if let Some(info) = &self.downgrade {
            writer.put(Bucket::Cluster, DOWNGRADE, json::to_vec(info));
        }
    }
}

fn store_member(member: &Member, writer: &mut Writer) {
    writer.put(Bucket::Members, format_id(member.id), member.to_json());
}

fn id_of(bucket: Bucket, key: &[u8]) -> Result<u64, LoadError> {
    std::str::from_utf8(key)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| damaged(bucket, key, "the key is not a member id".to_owned()))
}

fn damaged(bucket: Bucket, key: &[u8], reason: String) -> LoadError {
    LoadError::Damaged {
        bucket: bucket.name(),
        key: String::from_utf8_lossy(key).into_owned(),
        reason,
    }
}
