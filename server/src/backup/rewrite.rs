//! The changes that make a copied database that of a new cluster: who its members are, where its log
//! begins, and at which revision it goes on.

use bytes::Bytes;
use retcd_raft_node::ids::format_id;
use retcd_raft_node::membership::Cluster;
use retcd_storage::backend::{Backend, Batch, Bucket, CONSISTENT_INDEX, View};
use retcd_storage::mvcc::Revision;
use slog::{Logger, info};

use super::restore::{Bump, RestoreError};

/// Where etcd keeps the term of the consistent index.
const TERM: &[u8] = b"term";
/// Where etcd marks a compaction that is to be done.
const SCHEDULED: &[u8] = b"scheduledCompactRev";
/// The term of a restored member's first entries.
pub(super) const FIRST_TERM: u64 = 1;

/// Commits all changes as one. Buckets that are not named here stay as they are.
pub(super) fn rewrite(
    database: &dyn Backend,
    cluster: &Cluster,
    bump: Option<Bump>,
    logger: &Logger,
) -> Result<(), RestoreError> {
    let view = database.view()?;
    let mut batch = Batch::default();
    info!(
        logger,
        "Trimming membership information from the backend..."
    );
    for bucket in [Bucket::Members, Bucket::MembersRemoved] {
        for (key, _) in view.scan(bucket, b"", None, 0)? {
            batch.delete(bucket, key);
        }
    }
    if let Some(bump) = bump {
        let newest = newest(&*view)?;
        let bumped = i64::try_from(bump.0.get())
            .ok()
            .and_then(|amount| newest.checked_add(amount))
            // The last of all revisions leaves none for the next write.
            .filter(|bumped| *bumped < i64::MAX)
            .ok_or(RestoreError::Bump {
                amount: bump.0.get(),
                newest,
            })?;
        info!(logger, "bumping latest revision"; "latest-revision" => newest,
            "bump-amount" => bump.0.get(), "new-latest-revision" => bumped);
        info!(logger, "marking revision compacted"; "revision" => bumped);
        let key = Bytes::copy_from_slice(&Revision::new(bumped, 0).key());
        batch.put(Bucket::Key, key.clone(), Bytes::new());
        batch.put(Bucket::Meta, SCHEDULED, key);
    }
    let id = format_id(cluster.cluster_id());
    let mut index = 0_u64;
    for member in cluster.members() {
        index += 1;
        batch.put(Bucket::Members, format_id(member.id), member.to_json());
        info!(logger, "added member"; "cluster-id" => &id, "local-member-id" => "0",
            "added-peer-id" => format_id(member.id),
            "added-peer-peer-urls" => slog::Serde(member.peer_urls.clone()),
            "added-peer-is-learner" => member.is_learner);
    }
    batch.put(Bucket::Meta, CONSISTENT_INDEX, index.to_be_bytes().to_vec());
    batch.put(Bucket::Meta, TERM, FIRST_TERM.to_be_bytes().to_vec());
    database.commit(&batch)?;
    Ok(())
}

/// The largest main revision, 0 for an empty store.
fn newest(view: &dyn View) -> Result<i64, RestoreError> {
    // Views read forwards only; so the place of the last key is searched for.
    let first_from = |main: i64| -> Result<Option<i64>, RestoreError> {
        let from = Revision::new(main, 0).key();
        let Some((key, _)) = view.scan(Bucket::Key, &from, None, 1)?.pop() else {
            return Ok(None);
        };
        match Revision::from_key(&key) {
            Some((revision, _)) => Ok(Some(revision.main)),
            None => Err(RestoreError::RevisionKey(key)),
        }
    };
    let Some(mut low) = first_from(0)? else {
        return Ok(0);
    };
    let mut high = i64::MAX;
    while low < high {
        let middle = low + (high - low) / 2 + (high - low) % 2;
        match first_from(middle)? {
            Some(main) => low = main,
            None => high = middle - 1,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::Path;
    use std::sync::Arc;

    use retcd_raft_node::membership::Member;
    use retcd_storage::backend::MemBackend;
    use retcd_storage::fs::SimFs;

    use super::*;
    use crate::log::Log;

    fn database(keys: &[Bytes]) -> MemBackend {
        let fs = Arc::new(SimFs::new());
        let database = MemBackend::open(fs, Path::new("/db")).expect("opens");
        let mut batch = Batch::default();
        for key in keys {
            batch.put(Bucket::Key, key.clone(), "value");
        }
        batch.put(Bucket::Members, "aa", "old");
        batch.put(Bucket::MembersRemoved, "bb", "removed");
        batch.put(Bucket::Meta, "confState", "{}");
        batch.put(
            Bucket::Meta,
            CONSISTENT_INDEX,
            77_u64.to_be_bytes().to_vec(),
        );
        batch.put(Bucket::Cluster, "clusterVersion", "3.7.0");
        batch.put(Bucket::Lease, "12345678", "lease");
        database.commit(&batch).expect("commits");
        database
    }

    fn cluster() -> Cluster {
        let member = |id| Member {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            name: format!("m{id}"),
            ..Member::default()
        };
        Cluster::from_initial(vec![member(0xb), member(0xa)], 1)
    }

    fn key(main: i64, sub: i64) -> Bytes {
        Bytes::copy_from_slice(&Revision::new(main, sub).key())
    }

    fn run(database: &MemBackend, bump: u64) -> Result<(), RestoreError> {
        let bump = NonZeroU64::new(bump).map(Bump);
        rewrite(database, &cluster(), bump, Log::discard().logger())
    }

    fn all(database: &MemBackend, bucket: Bucket) -> Vec<(String, Bytes)> {
        let view = database.view().expect("a view");
        let pairs = view.scan(bucket, b"", None, 0).expect("readable");
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        pairs.into_iter().map(|(k, v)| (text(&k), v)).collect()
    }

    #[test]
    fn members_index_and_term_are_new_and_the_rest_is_as_it_was() {
        let database = database(&[key(2, 0)]);
        run(&database, 0).expect("rewrites");
        let members = all(&database, Bucket::Members);
        let ids: Vec<&str> = members.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(
            members[0].1,
            r#"{"id":10,"peerURLs":["http://127.0.0.1:10"],"name":"m10"}"#
        );
        assert_eq!(all(&database, Bucket::MembersRemoved), []);
        let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
        assert_eq!(
            all(&database, Bucket::Meta),
            [
                ("confState".to_owned(), Bytes::from("{}")),
                ("consistent_index".to_owned(), number(2)),
                ("term".to_owned(), number(1)),
            ]
        );
        assert_eq!(all(&database, Bucket::Cluster).len(), 1);
        assert_eq!(all(&database, Bucket::Lease).len(), 1);
        assert_eq!(all(&database, Bucket::Key).len(), 1);
    }

    #[test]
    fn a_bump_leaves_an_empty_revision_that_is_to_be_compacted() {
        let tombstone = Bytes::copy_from_slice(&Revision::new(9, 4).tombstone_key());
        let database = database(&[key(2, 0), key(9, 3), tombstone]);
        run(&database, 100).expect("rewrites");
        let get = |bucket, key: &[u8]| database.get(bucket, key).expect("readable");
        assert_eq!(get(Bucket::Key, &key(109, 0)), Some(Bytes::new()));
        assert_eq!(get(Bucket::Meta, SCHEDULED), Some(key(109, 0)));
        assert_eq!(all(&database, Bucket::Key).len(), 4);
    }

    #[test]
    fn the_newest_revision_is_found_wherever_it_is() {
        for mains in [
            &[][..],
            &[1],
            &[1, 2, 3],
            &[5, 1 << 40],
            &[1, i64::MAX - 1, i64::MAX],
        ] {
            let keys: Vec<Bytes> = mains.iter().map(|main| key(*main, 1)).collect();
            let view = database(&keys).view().expect("a view");
            let expected = mains.last().copied().unwrap_or(0);
            assert_eq!(newest(&*view).expect("sound"), expected);
        }
    }

    #[test]
    fn no_bump_beyond_the_last_revision() {
        for (newest, amount, fits) in [
            (10, i64::MAX as u64 - 10, false),
            (10, i64::MAX as u64 - 11, true),
            (10, u64::MAX, false),
        ] {
            let database = database(&[key(newest, 0)]);
            let result = run(&database, amount);
            assert_eq!(result.is_ok(), fits, "{result:?}");
            // A refused one changes nothing.
            assert_eq!(all(&database, Bucket::Members)[0].0 == "aa", !fits);
        }
    }
}
