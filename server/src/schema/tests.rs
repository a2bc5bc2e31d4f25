use std::sync::Arc;

use retcd_storage::backend::{Backend as _, Batch, BoltBackend, BoltOptions};
use retcd_storage::fs::RealFs;

use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap_or_else(|| panic!("{text}"))
}

fn cluster(version: Option<&str>, downgrade_to: Option<&str>) -> Option<String> {
    let next = decided(version, downgrade_to, Some("3.7.0"));
    next.ok().flatten().map(|version| version.to_string())
}

fn decided(
    version: Option<&str>,
    downgrade_to: Option<&str>,
    lowest: Option<&str>,
) -> Result<Option<Version>, ImpossibleDowngrade> {
    let info = downgrade_to.map(|target| DowngradeInfo {
        enabled: true,
        target_version: target.to_owned(),
    });
    next_cluster_version(
        version.and_then(Version::parse),
        info.as_ref(),
        lowest.and_then(Version::parse),
    )
}

#[test]
fn versions_are_three_numbers() {
    assert_eq!(version("3.6.0").to_string(), "3.6.0");
    assert_eq!(version("3.6.4-rc.1+abc").to_string(), "3.6.0");
    assert!(version("3.10.0") > version("3.9.0"));
    for text in ["", "3", "3.6", "3.6.0.1", "3.x.0", "v3.6.0", "3.6.0 "] {
        assert_eq!(Version::parse(text), None, "{text:?}");
    }
}

#[test]
fn layouts_are_found_by_label_or_by_age() {
    assert_eq!(detect(None, false), None);
    assert_eq!(detect(None, true), Some(version("3.5.0")));
    assert_eq!(detect(Some(b"3.6.0"), false), Some(version("3.6.0")));
    assert_eq!(detect(Some(b"\xff"), true), Some(version("3.5.0")));
}

#[test]
fn newer_layouts_are_refused_in_etcds_words() {
    for known in ["3.5.0", "3.6.0", "3.7.0"] {
        assert_eq!(check_storage(Some(version(known))), Ok(()));
    }
    assert_eq!(check_storage(None), Ok(()));
    for (found, words) in [
        ("3.8.0", "version \"3.8.0\" is not supported"),
        ("3.4.0", "version \"3.5.0\" is not supported"),
        ("4.0.0", "changing major storage version is not supported"),
    ] {
        let text = check_storage(Some(version(found))).unwrap_err().to_string();
        assert!(text.starts_with(words), "{text}");
    }
}

#[test]
fn newer_clusters_are_refused_in_etcds_words() {
    assert_eq!(check_cluster(version("3.7.0")), Ok(()));
    let text = check_cluster(version("3.8.0")).unwrap_err().to_string();
    assert!(
        text.starts_with(
            "invalid downgrade; server version is lower than determined cluster version"
        ),
        "{text}"
    );
}

#[test]
fn the_label_follows_the_cluster() {
    let all = |layout, cluster| relabel(Version::parse(layout), version(cluster));
    assert_eq!(all("", "3.7.0"), Relabel::Keep);
    assert_eq!(all("3.5.0", "3.0.0"), Relabel::Keep);
    assert_eq!(all("3.5.0", "3.5.0"), Relabel::Keep);
    assert_eq!(all("3.7.0", "3.7.0"), Relabel::Keep);
    assert_eq!(all("3.5.0", "3.4.0"), Relabel::Keep);
    assert_eq!(all("3.5.0", "3.7.0"), Relabel::Raise(version("3.7.0")));
    assert_eq!(all("3.6.0", "3.7.0"), Relabel::Raise(version("3.7.0")));
    assert_eq!(all("3.7.0", "3.6.0"), Relabel::Lower(version("3.6.0")));
    assert_eq!(all("3.6.0", "3.5.0"), Relabel::Remove);
}

#[test]
fn a_leader_decides_the_clusters_version_as_etcd_does() {
    assert_eq!(cluster(None, None).as_deref(), Some("3.7.0"));
    for old in ["3.0.0", "3.5.0", "3.6.0"] {
        assert_eq!(cluster(Some(old), None).as_deref(), Some("3.7.0"));
    }
    assert_eq!(cluster(Some("3.7.0"), None), None);
    let down = cluster(Some("3.7.0"), Some("3.6.0"));
    assert_eq!(down.as_deref(), Some("3.6.0"));
    // Downgraded, and waiting for the older release.
    assert_eq!(cluster(Some("3.6.0"), Some("3.6.0")), None);
    assert_eq!(cluster(Some("3.7.0"), Some("3.5.0")), None);
    assert_eq!(cluster(Some("3.6.0"), Some("3.5.0")), None);
    assert_eq!(cluster(Some("3.7.0"), Some("nonsense")), None);
}

#[test]
fn the_oldest_member_decides() {
    let undecided = Version::parse("3.0.0");
    assert_eq!(
        decided(None, None, Some("3.5.0")),
        Ok(Version::parse("3.5.0"))
    );
    assert_eq!(decided(None, None, None), Ok(undecided));
    assert_eq!(decided(Some("3.5.0"), None, None), Ok(None));
    assert_eq!(
        decided(Some("3.5.0"), None, Some("3.6.0")),
        Ok(Version::parse("3.6.0"))
    );
    assert_eq!(decided(Some("3.6.0"), None, Some("3.5.0")), Ok(None));
    // All members must have the release that a downgrade starts from.
    let refused = decided(Some("3.7.0"), Some("3.6.0"), Some("3.6.0")).unwrap_err();
    assert_eq!(refused.from, version("3.6.0"));
}

#[test]
fn what_can_be_joined_depends_on_a_downgrade() {
    assert_eq!(joinable(false), (version("3.0.0"), OWN));
    assert_eq!(joinable(true), (version("3.8.0"), version("3.8.0")));
}

/// A directory with databases: name and index.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new(files: &[(&str, u64)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, index) in files {
            let path = dir.path().join(name);
            let fs = Arc::new(RealFs);
            let engine = BoltBackend::open(fs, &path, BoltOptions::default()).unwrap();
            let mut batch = Batch::default();
            batch.put(Bucket::Meta, CONSISTENT_INDEX, index.to_be_bytes().to_vec());
            engine.commit(&batch).unwrap();
        }
        Self(dir)
    }

    fn place(&self, begin: u64) -> Result<bool, DatabaseError> {
        place_database(&RealFs, self.0.path(), begin)
    }

    fn files(&self) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let index = index_of(&RealFs, &entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), index)
            })
            .collect();
        files.sort();
        files
    }
}

#[test]
fn a_database_that_has_the_snapshot_stays() {
    let dir = Dir::new(&[("db", 10), ("000000000000000a.snap.db", 12)]);
    let before = dir.files();
    assert!(!dir.place(0).unwrap());
    assert!(!dir.place(10).unwrap());
    assert_eq!(dir.files(), before);
    // Without a snapshot, a lost database comes back from the log.
    assert!(!Dir::new(&[]).place(0).unwrap());
}

#[test]
fn a_database_from_the_leader_takes_the_place_of_an_older_one() {
    for old in [&[("db", 3)][..], &[]] {
        let received = [("0000000000000014.snap.db", 20)];
        let dir = Dir::new(&[old, &received].concat());
        assert!(dir.place(20).unwrap());
        assert_eq!(dir.files(), [("db".to_owned(), 20)]);
        assert!(!dir.place(20).unwrap(), "once is enough");
    }
}

#[test]
fn without_it_the_start_is_refused_in_etcds_words() {
    for (files, state) in [
        (&[("db", 3)][..], "has nothing behind index 3"),
        (&[], "is missing"),
        (&[("db", 3), ("0000000000000013.snap.db", 20)], "index 3"),
    ] {
        let dir = Dir::new(files);
        let before = dir.files();
        let text = dir.place(20).unwrap_err().to_string();
        assert!(
            text.starts_with("failed to recover v3 backend from snapshot: failed to find database snapshot file (snap: snapshot file doesn't exist)"),
            "{text}"
        );
        assert!(text.contains(state), "{text}");
        assert!(text.contains("0000000000000014.snap.db"), "{text}");
        assert_eq!(dir.files(), before);
    }
}

#[test]
fn a_database_that_is_too_old_as_well_is_not_put_in_place() {
    let dir = Dir::new(&[("db", 3), ("0000000000000014.snap.db", 19)]);
    let before = dir.files();
    let text = dir.place(20).unwrap_err().to_string();
    assert!(
        text.starts_with("database file (")
            && text.contains("index 19) does not match with snapshot (index 20)"),
        "{text}"
    );
    assert_eq!(dir.files(), before);
}
