//! A member that lost its database while its log is whole applies every entry again: what comes out is what the
//! genuine server had.

use std::fs;

use retcd_tests::binary::ours;
use retcd_tests::member::{Member, Setup};

use crate::client::Client;
use crate::file;
use crate::load;
use crate::shown::Shown;
use crate::{RELEASES, go};

#[test]
fn every_entry_has_the_effect_that_it_has_in_etcd() {
    for release in RELEASES {
        let Some(theirs) = go(release) else {
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut member = Member::start(Setup::new(theirs).data_dir(dir.path().join("data")));
        let client = Client::new(&member);
        load::everything(&client);
        let before = Shown::of(&client);
        member.terminate();
        let left = dir.path().join("left.db");
        fs::rename(file::database(&member), &left).unwrap();

        member.set_program(ours());
        member.restart();
        assert_eq!(Shown::of(&Client::new(&member)), before, "{release}");
        member.wait_for_log(&format!(r#""compact-revision":{}"#, before.compacted()));
        member.terminate();
        // A member that starts says its name again; what it says is the same.
        let except = [("meta", "consistent_index"), ("meta", "term")];
        let (theirs, new) = (file::open(&left), file::open(&file::database(&member)));
        assert_eq!(file::differences(&theirs, &new, &except), Vec::<String>::new(), "{release}");
    }
}

/// With one member alone, the version of cluster and storage follow.
#[test]
fn a_lone_member_raises_the_version_of_cluster_and_storage() {
    for release in RELEASES {
        let Some(theirs) = go(release) else {
            continue;
        };
        let mut member = Member::start(Setup::new(theirs));
        Client::new(&member).put("k", "v", 0);
        member.terminate();
        let before = file::open(&file::database(&member));
        assert_eq!(file::text(&before, "cluster", "clusterVersion"), Some(format!("{release}.0")));
        drop(before);
        member.set_program(ours());
        member.restart();
        member.terminate();
        let after = file::open(&file::database(&member));
        assert_eq!(file::text(&after, "cluster", "clusterVersion").as_deref(), Some("3.7.0"), "{release}");
        assert_eq!(file::text(&after, "meta", "storageVersion").as_deref(), Some("3.7.0"), "{release}");
    }
}
