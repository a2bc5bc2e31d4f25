//! Who may read and write what.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Access;

/// A user of this machine, who is to run the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As `passwd` has it.
    pub name: String,
    uid: u32,
    gids: Vec<u32>,
}

impl User {
    /// # Errors
    /// There is no such user, or the lists of users and groups cannot be read.
    pub fn find(name: &str) -> io::Result<Self> {
        let passwd = fs::read_to_string("/etc/passwd")?;
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::from_lists(name, &passwd, &group)
            .ok_or_else(|| io::Error::other(format!("there is no user {name:?} in /etc/passwd")))
    }

    fn from_lists(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let named = |line: &&str| line.split(':').next() == Some(name);
        // systemd takes the number of a user, too.
        let numbered = |line: &&str| line.split(':').nth(2) == Some(name);
        let mut lines = passwd.lines();
        let line = lines.find(named);
        let line = line.or_else(|| passwd.lines().find(numbered))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let mut gids = vec![fields.next()?.parse().ok()?];
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, gid, members] = fields[..]
                && members.split(',').any(|member| member == name)
                && let Ok(gid) = gid.parse()
            {
                gids.push(gid);
            }
        }
        Some(Self {
            name: name.to_owned(),
            uid,
            gids,
        })
    }

    /// Whether the bits of a file give this user `bit` (4: read, 2: write, 1: enter).
    fn has(&self, uid: u32, gid: u32, mode: u32, bit: u32) -> bool {
        if self.uid == 0 {
            return true;
        }
        let shift = if uid == self.uid {
            6
        } else if self.gids.contains(&gid) {
            3
        } else {
            0
        };
        mode >> shift & bit != 0
    }

    fn may(&self, metadata: &Metadata, bit: u32) -> bool {
        self.has(metadata.uid(), metadata.gid(), metadata.mode(), bit)
    }
}

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    /// Make, rename and remove files in a directory.
    Fill,
}

/// Whether `user` (`None`: whoever runs this) may do that; why not, in a sentence without the name of the file.
pub(super) fn check(path: &Path, wish: Wish, user: Option<&User>) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| crate::log::reason(&error))?;
    let Some(user) = user else {
        let access = match wish {
            Wish::Read => Access::READ_OK,
            Wish::Fill => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
        };
        return rustix::fs::access(path, access)
            .map_err(|errno| crate::log::reason(&io::Error::from(errno)));
    };
    let bits: &[u32] = match wish {
        Wish::Read => &[4],
        Wish::Fill => &[4, 2, 1],
    };
    if !bits.iter().all(|bit| user.may(&metadata, *bit)) {
        return Err(format!(
            "user {} may not: it belongs to uid {}, gid {} and has mode {:04o}",
            user.name,
            metadata.uid(),
            metadata.gid(),
            metadata.mode() & 0o7777
        ));
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for dir in absolute.ancestors().skip(1) {
        let Ok(metadata) = fs::metadata(dir) else {
            continue;
        };
        if !user.may(&metadata, 1) {
            return Err(format!(
                "user {} may not enter {} (mode {:04o})",
                user.name,
                dir.display(),
                metadata.mode() & 0o7777
            ));
        }
    }
    Ok(())
}

/// The directory itself, or the nearest one above it that exists.
pub(super) fn existing(path: &Path) -> Option<std::path::PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let found = absolute.ancestors().find(|dir| dir.exists());
    found.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\netcd:x:70001:70001::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nkeys:x:70009:a,etcd\netcd:x:70001:\n";

    fn etcd() -> User {
        User::from_lists("etcd", PASSWD, GROUP).expect("listed")
    }

    #[test]
    fn users_are_found_with_their_groups() {
        assert_eq!(etcd().uid, 70_001);
        assert_eq!(etcd().gids, [70_001, 70_009]);
        assert_eq!(User::from_lists("nobody", PASSWD, GROUP), None);
    }

    #[test]
    fn bits_count_for_owner_group_and_others_in_this_order() {
        let user = etcd();
        assert!(user.has(70_001, 0, 0o400, 4));
        assert!(
            !user.has(70_001, 0, 0o044, 4),
            "the owner's bits count alone"
        );
        assert!(user.has(0, 70_009, 0o640, 4));
        assert!(!user.has(0, 0, 0o640, 4));
        assert!(user.has(0, 0, 0o644, 4));
        let root = User::from_lists("root", PASSWD, GROUP).expect("listed");
        assert!(root.has(70_001, 0, 0, 4));
    }

    /// A tutorial's own mistake: the key belongs to root, the service runs as etcd.
    #[test]
    fn a_key_of_another_user_is_refused_with_owner_and_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = dir.path().join("key.pem");
        fs::write(&key, "x").expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
        let reason = check(&key, Wish::Read, Some(&etcd())).expect_err("not readable");
        assert!(reason.contains("mode 0600"), "{reason}");
        assert_eq!(check(&key, Wish::Read, None), Ok(()));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("changed");
        let reason = check(&key, Wish::Read, Some(&etcd())).expect_err("not reachable");
        assert!(reason.contains("may not enter"), "{reason}");
        let reason = check(&dir.path().join("none"), Wish::Read, None).expect_err("not there");
        assert_eq!(reason, "no such file or directory");
    }
}
