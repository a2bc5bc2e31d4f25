//! The data directory: whose it is, and whether it can be used.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use retcd_proto::etcdserverpb;
use retcd_raft_node::ids;
use retcd_storage::fs::RealFs;
use retcd_storage::wal;

use super::Plan;
use super::access::{self, User, Wish};
use super::finding::Findings;
use crate::config::Resolved;

/// What a data directory has in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Data {
    /// A member has lived there.
    pub(super) has_log: bool,
    /// The member and the cluster whose log it is.
    pub(super) ids: Option<(u64, u64)>,
    /// The process that has it open.
    pub(super) holder: Option<u32>,
}

impl Data {
    /// Looks, and tells what stands in the way.
    /// `made`: directories that a service manager makes, and gives to who runs the member.
    pub(super) fn find(
        resolved: &Resolved,
        made: &[PathBuf],
        user: Option<&User>,
        findings: &mut Findings,
    ) -> Self {
        let mut data = Self::default();
        let mut dirs = vec![("--data-dir", &resolved.data_dir)];
        if resolved.wal_dir_dedicated {
            dirs.push(("--wal-dir", &resolved.wal_dir));
        }
        for (flag, dir) in dirs {
            if dir.exists() || !made.iter().any(|made| dir.starts_with(made)) {
                usable(dir, flag, user, findings);
            }
        }
        if !resolved.data_dir.is_dir() {
            return data;
        }
        mode(&resolved.data_dir, findings);
        content(resolved, findings);
        for dir in [&resolved.member_dir, &resolved.snap_dir, &resolved.wal_dir] {
            if dir.is_dir() {
                usable(dir, "data directory", user, findings);
            }
        }
        // What cannot be listed was told.
        data.has_log = wal::exists(&RealFs, &resolved.wal_dir).unwrap_or(false);
        if data.has_log {
            data.ids = whose(&resolved.wal_dir, findings);
            parts(resolved, findings);
        } else if resolved.snap_dir.join("db").exists() {
            findings.error(
                "data-dir-content",
                format!(
                    "{} has a database in it, but {} has no log: a start founds or joins a cluster as if nothing was there",
                    resolved.snap_dir.display(),
                    resolved.wal_dir.display()
                ),
                "name the directory of the log if it is elsewhere (--wal-dir); otherwise restore a snapshot with `etcdutl snapshot \
                 restore`, or move the directory away",
            );
        }
        data.holder = holder(resolved);
        data
    }
}

/// Whether the directory, or the one that it has to be made in, can be written.
fn usable(dir: &Path, flag: &str, user: Option<&User>, findings: &mut Findings) {
    let Some(existing) = access::existing(dir) else {
        return;
    };
    let what = format!("{flag} {}", dir.display());
    if !existing.is_dir() {
        findings.error(
            "data-dir-access",
            format!("{what}: {} is no directory", existing.display()),
            "name a directory, or one that can be made",
        );
    } else if let Err(reason) = access::check(&existing, Wish::Fill, user) {
        let who = user.map_or("<user>", |user| user.name.as_str());
        findings.error(
            "data-dir-access",
            format!("{what}: {}: {reason}", existing.display()),
            format!(
                "give it to the user who runs the member: mkdir -p {0} && chown -R {who}: {0} && chmod 700 {0}; a unit does so with \
                 StateDirectory= (name it with --unit, so that it is looked at)",
                dir.display()
            ),
        );
    }
}

fn mode(dir: &Path, findings: &mut Findings) {
    if let Ok(metadata) = fs::metadata(dir)
        && metadata.mode() & 0o077 != 0
    {
        findings.warning(
            "data-dir-mode",
            format!(
                "{} has mode {:04o}: others than its owner can look into it",
                dir.display(),
                metadata.mode() & 0o7777
            ),
            format!("chmod 700 {}", dir.display()),
        );
    }
}

/// What a member does not put there.
fn content(resolved: &Resolved, findings: &mut Findings) {
    let Ok(entries) = fs::read_dir(&resolved.data_dir) else {
        return; // told
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    if names.iter().any(|name| name == "member") && names.iter().any(|name| name == "proxy") {
        findings.error(
            "data-dir-content",
            format!(
                "{} has both member and proxy in it",
                resolved.data_dir.display()
            ),
            "move away the one that is not used any more; proxies of etcd 2 are gone",
        );
    }
    let wal = resolved
        .wal_dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    names.retain(|name| {
        let known = [
            "member",
            "proxy",
            "fixtures",
            "lost+found",
            "member.part",
            "retcd-dev.json",
        ];
        !known.contains(&name.as_str()) && Some(name) != wal.as_ref()
    });
    if !names.is_empty() {
        names.truncate(5);
        findings.warning(
            "data-dir-content",
            format!("{} holds what no member put there: {}", resolved.data_dir.display(), names.join(", ")),
            "give the member a directory of its own, so that nobody removes or copies the wrong files",
        );
    }
}

fn parts(resolved: &Resolved, findings: &mut Findings) {
    let database = resolved.snap_dir.join(resolved.backend_engine.file());
    if !database.exists() {
        findings.error(
            "data-dir-content",
            format!("{} has the log of a member, but {} is missing", resolved.wal_dir.display(), database.display()),
            "bring it back from where it was moved to; if it is lost, move the directory away, remove the member with `etcdctl member \
             remove` and add it again",
        );
    }
}

/// The member and the cluster that a log is of.
fn whose(wal_dir: &Path, findings: &mut Findings) -> Option<(u64, u64)> {
    match wal::metadata(&RealFs, wal_dir) {
        Ok(bytes) => {
            let metadata = etcdserverpb::Metadata::decode(bytes).ok()?;
            Some((metadata.node_id(), metadata.cluster_id()))
        }
        Err(error) => {
            findings.error(
                "data-dir-content",
                error,
                "if the disk lost it, restore the member from a snapshot, or remove it from the cluster and add it again",
            );
            None
        }
    }
}

/// Which process has the files of the member locked. Taking the lock to find out would keep a member from starting.
fn holder(resolved: &Resolved) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let files = [
        resolved.member_dir.join("lock"),
        resolved.snap_dir.join("db"),
    ];
    files.iter().find_map(|path| {
        let metadata = fs::metadata(path).ok()?;
        held(&locks, metadata.ino())
    })
}

/// Lines look like `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`. The device of some file systems differs from that of their
/// files, so the number of the file has to do.
fn held(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, "WRITE", pid, file, ..] = fields.get(1..)? else {
            return None;
        };
        let number = file.rsplit(':').next()?.parse::<u64>().ok()?;
        let same = number == inode;
        same.then(|| pid.parse().ok())?
    })
}

/// Whether the data is that of the member that the flags describe.
pub(super) fn check(plan: &Plan, findings: &mut Findings) {
    let (Some((member, cluster)), Some(list)) = (plan.data.ids, &plan.cluster) else {
        return;
    };
    let resolved = &plan.resolved;
    let token = &resolved.initial_cluster_token;
    let id = |urls: &Vec<crate::config::Url>| {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        ids::member_id(&urls, token, None)
    };
    let founders: Vec<(&String, u64)> = list.iter().map(|(name, urls)| (name, id(urls))).collect();
    let all: Vec<u64> = founders.iter().map(|(_, id)| *id).collect();
    if ids::cluster_id(&all) != cluster {
        return; // other members by now, perhaps; only they can tell
    }
    let owner = founders.iter().find(|(_, id)| *id == member);
    if let Some((owner, _)) = owner
        && **owner != resolved.name
    {
        findings.error(
            "data-dir-member",
            format!(
                "{} holds the data of member {owner:?} ({member:x}), and this is to be {:?}",
                resolved.data_dir.display(),
                resolved.name
            ),
            "name the data directory of this member: two members with the same data destroy the cluster",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::{found, plan};
    use super::*;
    use crate::config::Config;

    fn resolved(dir: &Path) -> Resolved {
        Config::new(dir).resolve().expect("sound")
    }

    fn look(resolved: &Resolved) -> (Data, Findings) {
        let mut findings = Findings::default();
        let data = Data::find(resolved, &[], None, &mut findings);
        (data, findings)
    }

    #[test]
    fn a_directory_that_is_made_for_the_member_is_fine() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "x").expect("written");
        // Not to be made by anybody, so nothing may be said of it.
        let resolved = resolved(&file.join("etcd"));
        let (_, findings) = look(&resolved);
        assert_eq!(findings.checks(), ["data-dir-access"]);
        let mut findings = Findings::default();
        Data::find(&resolved, &[file.join("etcd")], None, &mut findings);
        assert!(findings.checks().is_empty(), "{findings:?}");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_fine() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, findings) = look(&resolved(&dir.path().join("a/b")));
        assert_eq!(data, Data::default());
        assert!(findings.checks().is_empty(), "{findings:?}");
    }

    #[test]
    fn foreign_and_open_directories_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("changed");
        for name in ["member", "proxy", "backup.db"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        let (_, findings) = look(&resolved(dir.path()));
        let expected = ["data-dir-mode", "data-dir-content", "data-dir-content"];
        assert_eq!(findings.checks(), expected);

        let file = dir.path().join("file");
        fs::write(&file, "x").expect("written");
        let (_, findings) = look(&resolved(&file));
        assert_eq!(findings.checks(), ["data-dir-access"]);
    }

    #[test]
    fn a_database_without_its_log_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("changed");
        let resolved = resolved(dir.path());
        fs::create_dir_all(&resolved.snap_dir).expect("made");
        fs::write(resolved.snap_dir.join("db"), "x").expect("written");
        let (data, findings) = look(&resolved);
        assert!(!data.has_log);
        assert_eq!(findings.checks(), ["data-dir-content"]);
    }

    #[test]
    fn locks_are_found_by_the_number_of_the_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 fd:01:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 99 fd:01:9 0 EOF\n";
        assert_eq!(held(locks, 5678), Some(1234));
        assert_eq!(held(locks, 567), None);
        assert_eq!(held(locks, 9), None);
    }

    #[test]
    fn the_data_of_another_member_of_the_list_is_found() {
        let list = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380";
        let urls = ["http://10.0.0.1:2380".to_owned()];
        let a = ids::member_id(&urls, "etcd-cluster", None);
        let b = ids::member_id(&["http://10.0.0.2:2380".to_owned()], "etcd-cluster", None);
        let checks = |name: &str, member: u64| {
            let mut plan = plan(|config| {
                config.name = name.into();
                config.initial_cluster = Some(list.into());
            });
            plan.data.ids = Some((member, ids::cluster_id(&[a, b])));
            found(|findings| check(&plan, findings)).checks()
        };
        assert!(checks("a", a).is_empty());
        assert_eq!(checks("b", a), ["data-dir-member"]);
    }
}
