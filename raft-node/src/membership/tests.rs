use prost::Message as _;
use retcd_proto::raftpb::{ConfChange, ConfChangeType, Entry};
use retcd_storage::backend::{Bucket, MemBackend, Writer, WriterOptions};
use std::sync::Arc;

use super::*;

fn member(n: u64) -> Member {
    Member {
        id: n,
        peer_urls: vec![format!("http://127.0.0.1:{n}")],
        ..Member::default()
    }
}

fn change(kind: ConfChangeType, id: u64, context: Vec<u8>) -> ConfChange {
    ConfChange {
        id: Some(77),
        r#type: Some(kind as i32),
        node_id: Some(id),
        context: (!context.is_empty()).then(|| context.into()),
    }
}

fn add(n: u64) -> ConfChange {
    change(ConfChangeType::ConfChangeAddNode, n, member(n).to_json())
}

fn add_learner(n: u64) -> ConfChange {
    let learner = Member {
        is_learner: true,
        ..member(n)
    };
    change(
        ConfChangeType::ConfChangeAddLearnerNode,
        n,
        learner.to_json(),
    )
}

fn promote(n: u64) -> ConfChange {
    let context = ConfChangeContext {
        member: Member {
            id: n,
            ..Member::default()
        },
        is_promote: true,
    };
    change(ConfChangeType::ConfChangeAddNode, n, context.to_json())
}

fn remove(n: u64) -> ConfChange {
    change(ConfChangeType::ConfChangeRemoveNode, n, Vec::new())
}

fn update(n: u64, url: &str) -> ConfChange {
    let new = Member {
        id: n,
        peer_urls: vec![url.to_owned()],
        ..Member::default()
    };
    change(ConfChangeType::ConfChangeUpdateNode, n, new.to_json())
}

fn cluster(members: &[u64]) -> Cluster {
    Cluster::from_initial(members.iter().copied().map(member).collect(), 1)
}

#[test]
fn json_is_that_of_etcd() {
    let full = Member {
        id: 2463649901447206692,
        peer_urls: vec!["http://127.0.0.1:17001".to_owned()],
        is_learner: false,
        name: "n1".to_owned(),
        client_urls: vec!["http://127.0.0.1:17000".to_owned()],
    };
    let text = r#"{"id":2463649901447206692,"peerURLs":["http://127.0.0.1:17001"],"name":"n1","clientURLs":["http://127.0.0.1:17000"]}"#;
    assert_eq!(String::from_utf8(full.to_json()).unwrap(), text);
    assert_eq!(Member::from_json(text.as_bytes()).unwrap(), full);

    let learner = Member {
        is_learner: true,
        ..member(5)
    };
    assert_eq!(
        learner.to_json(),
        br#"{"id":5,"peerURLs":["http://127.0.0.1:5"],"isLearner":true}"#
    );
    assert_eq!(
        promote(5).context(),
        br#"{"id":5,"peerURLs":null,"isPromote":true}"#
    );
    let context = ConfChangeContext::from_json(promote(5).context()).unwrap();
    assert!(context.is_promote);
    assert_eq!(context.member.id, 5);
    assert!(Member::from_json(b"{}").is_err(), "a member has an id");
}

/// Bytes of the first entry and hard state that etcd 3.7.1 wrote for a member named `a<b`.
#[test]
fn first_entries_are_those_of_etcd() {
    let wal = include_bytes!("../../testdata/wal-bootstrap.bin");
    // Frame at 0x50, record of type 2 with its checksum, then 106 bytes of entry.
    let entry = &wal[0x62..0x62 + 106];
    assert_eq!(&wal[0x60..0x62], [0x1a, 106]);
    let peer_urls = vec!["http://127.0.0.1:27380".to_owned()];
    let first = Member {
        id: crate::ids::member_id(&peer_urls, "etcd-cluster", None),
        peer_urls,
        name: "a<b".to_owned(),
        ..Member::default()
    };
    let entries = bootstrap_entries(std::slice::from_ref(&first));
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].encode_to_vec(), entry);
    let mut cluster = Cluster::empty(1, 1);
    let cc = ConfChange::decode(Entry::decode(entry).unwrap().data.unwrap()).unwrap();
    assert_eq!(cluster.apply(&cc), Ok(Change::Added(first)));
}

#[test]
fn first_entries_are_sorted_by_id() {
    let entries = bootstrap_entries(&[member(3), member(1), member(2)]);
    let ids: Vec<_> = entries
        .iter()
        .map(|e| {
            let cc = ConfChange::decode(e.data.clone().unwrap()).unwrap();
            (e.index(), e.term(), cc.node_id())
        })
        .collect();
    assert_eq!(ids, [(1, 1, 1), (2, 1, 2), (3, 1, 3)]);
}

/// The document that etcd 3.7.1 wrote into a snapshot of the same cluster.
#[test]
fn the_v2_document_is_that_of_etcd() {
    let peer_urls = vec!["http://127.0.0.1:27380".to_owned()];
    let id = crate::ids::member_id(&peer_urls, "etcd-cluster", None);
    let mut cluster = Cluster::from_initial(
        vec![Member {
            id,
            peer_urls,
            name: "a<b".to_owned(),
            ..Member::default()
        }],
        1,
    );
    cluster.set_attributes(id, "a<b", &["http://127.0.0.1:27379".to_owned()]);
    cluster.set_version("3.7.0");
    let golden = include_bytes!("../../testdata/v2-one-member.json");
    assert_eq!(
        String::from_utf8(cluster.v2_document()).unwrap(),
        std::str::from_utf8(golden).unwrap()
    );
}

#[test]
fn the_v2_document_has_a_ring_of_a_thousand_events() {
    for members in [1, 999, 1000, 1001, 1500] {
        let ids: Vec<u64> = (1..=members).collect();
        let document = cluster(&ids).v2_document();
        let json: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let history = &json["WatcherHub"]["EventHistory"];
        let events = history["Queue"]["Events"].as_array().unwrap();
        assert_eq!(events.len(), 1000);
        let used = members.min(1000);
        assert_eq!(history["Queue"]["Size"], used);
        assert_eq!(history["Queue"]["Back"], members % 1000);
        assert_eq!(history["LastIndex"], members);
        assert_eq!(history["StartIndex"], members - used + 1);
        let front = history["Queue"]["Front"].as_u64().unwrap() as usize;
        assert_eq!(
            events[front]["node"]["modifiedIndex"],
            history["StartIndex"]
        );
        assert_eq!(json["CurrentIndex"], members);
    }
}

#[test]
fn the_v2_document_lists_learners_and_removed_members() {
    let mut cluster = cluster(&[1, 2]);
    cluster.apply(&remove(2)).unwrap();
    cluster.apply(&add_learner(3)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&cluster.v2_document()).unwrap();
    let zero = &json["Root"]["Children"]["0"]["Children"];
    assert_eq!(zero["removed_members"]["Children"]["2"]["Value"], "");
    assert_eq!(
        zero["members"]["Children"]["3"]["Children"]["raftAttributes"]["Value"],
        r#"{"peerURLs":["http://127.0.0.1:3"],"isLearner":true}"#
    );
    assert!(zero["members"]["Children"]["3"]["Children"]["attributes"].is_null());
    assert!(zero["version"].is_null());
}

#[test]
fn rules_are_checked_in_the_order_of_etcd() {
    use MembershipError as E;
    let mut cluster = cluster(&[1, 2]);
    let rejected = |cluster: &Cluster, cc: &ConfChange| cluster.validate(cc).unwrap_err();

    assert_eq!(rejected(&cluster, &add(1)), E::IdExists);
    let same_url = Member { id: 9, ..member(1) };
    let cc = change(ConfChangeType::ConfChangeAddNode, 9, same_url.to_json());
    assert_eq!(rejected(&cluster, &cc), E::PeerUrlExists);
    assert_eq!(rejected(&cluster, &remove(9)), E::IdNotFound);
    assert_eq!(rejected(&cluster, &update(9, "http://x:1")), E::IdNotFound);
    assert_eq!(
        rejected(&cluster, &update(1, "http://127.0.0.1:2")),
        E::PeerUrlExists
    );
    assert_eq!(cluster.validate(&update(1, "http://127.0.0.1:1")), Ok(()));
    assert_eq!(rejected(&cluster, &promote(9)), E::IdNotFound);
    assert_eq!(rejected(&cluster, &promote(1)), E::NotLearner);

    cluster.apply(&add_learner(3)).unwrap();
    assert_eq!(rejected(&cluster, &add_learner(4)), E::TooManyLearners);
    assert_eq!(cluster.validate(&add(4)), Ok(()), "voters are not counted");
    cluster.apply(&promote(3)).unwrap();
    cluster.apply(&add_learner(4)).unwrap();

    // M9: an id that was removed never comes back, whatever the change.
    assert_eq!(cluster.apply(&remove(4)), Ok(Change::Removed(4)));
    for cc in [
        add(4),
        add_learner(4),
        promote(4),
        remove(4),
        update(4, "http://x:1"),
    ] {
        assert_eq!(rejected(&cluster, &cc), E::IdRemoved);
    }
}

#[test]
fn changes_that_cannot_be_read_are_rejected() {
    let mut cluster = cluster(&[1]);
    let before = cluster.clone();
    let mut odd = add(2);
    odd.r#type = Some(17);
    assert_eq!(cluster.apply(&odd), Err(MembershipError::UnknownType(17)));
    let mut other = add(2);
    other.node_id = Some(3);
    assert_eq!(
        cluster.apply(&other),
        Err(MembershipError::DifferentId { id: 3, context: 2 })
    );
    let broken = change(ConfChangeType::ConfChangeAddNode, 2, b"{".to_vec());
    assert!(matches!(
        cluster.apply(&broken),
        Err(MembershipError::Context { id: 2, .. })
    ));
    assert_eq!(cluster, before);
}

/// M4, M6: promotion and new URLs change what they are about and nothing else.
#[test]
fn updates_are_field_by_field() {
    let mut cluster = cluster(&[1]);
    cluster.apply(&add_learner(2)).unwrap();
    cluster.set_attributes(2, "two", &["http://c:2".to_owned()]);
    cluster.apply(&update(2, "http://new:2")).unwrap();
    let two = cluster.member(2).unwrap();
    assert!(two.is_learner);
    assert_eq!(two.name, "two");
    assert_eq!(two.peer_urls, ["http://new:2"]);
    cluster.apply(&promote(2)).unwrap();
    let two = cluster.member(2).unwrap();
    assert!(!two.is_learner);
    assert_eq!(two.peer_urls, ["http://new:2"]);
    assert_eq!(two.client_urls, ["http://c:2"]);
    let cs = cluster.conf_state();
    assert_eq!((cs.voters, cs.learners), (vec![1, 2], vec![]));
}

/// M5: attributes of a member that is gone, met again on a replay, are no reason to stop.
#[test]
fn attributes_of_unknown_members_are_ignored() {
    let mut cluster = cluster(&[1]);
    assert!(!cluster.set_attributes(9, "x", &[]));
    assert_eq!(cluster, self::cluster(&[1]));
}

#[test]
fn a_lower_version_is_noticed() {
    let mut cluster = cluster(&[1]);
    assert!(!cluster.set_version("3.9.0"));
    assert!(!cluster.set_version("3.10.0"));
    assert!(cluster.set_version("3.9.0"));
}

/// M3: what is loaded from the database is what was stored there, and there is no other source.
#[test]
fn membership_is_what_the_database_says() {
    let (mut writer, reader) = Writer::start(Arc::new(MemBackend::new()), WriterOptions::default());
    let mut cluster = Cluster::empty(42, 1);
    for cc in [add(1), add_learner(0xab), promote(0xab), add(3), remove(3)] {
        let change = cluster.apply(&cc).unwrap();
        cluster.store(&change, &mut writer);
    }
    cluster.set_attributes(1, "one", &["http://c:1".to_owned()]);
    cluster.store_member(1, &mut writer);
    cluster.store_member(99, &mut writer);
    cluster.set_version("3.6.0");
    cluster.store_version(&mut writer);
    cluster.set_downgrade(DowngradeInfo {
        target_version: "3.5.0".to_owned(),
        enabled: true,
    });
    cluster.store_downgrade(&mut writer);
    writer.publish().unwrap();

    assert_eq!(Cluster::load(&reader, 42, 1).unwrap(), cluster);
    let get = |bucket, key: &str| reader.get(bucket, key.as_bytes()).unwrap().unwrap();
    assert_eq!(
        get(Bucket::Members, "ab"),
        r#"{"id":171,"peerURLs":["http://127.0.0.1:171"]}"#
    );
    assert_eq!(get(Bucket::MembersRemoved, "3"), "removed");
    assert_eq!(get(Bucket::Cluster, "clusterVersion"), "3.6.0");
    assert_eq!(
        get(Bucket::Cluster, "downgrade"),
        r#"{"target-version":"3.5.0","enabled":true}"#
    );
    assert_eq!(reader.get(Bucket::Members, b"3").unwrap(), None);
    writer.close().unwrap();
}

#[test]
fn damaged_records_are_named() {
    for (bucket, key, value) in [
        (Bucket::Members, "xyz", "{}"),
        (Bucket::Members, "1", "{"),
        (Bucket::Members, "1", r#"{"id":2,"peerURLs":null}"#),
        (Bucket::MembersRemoved, "-", "removed"),
        (Bucket::Cluster, "downgrade", "x"),
    ] {
        let (mut writer, reader) =
            Writer::start(Arc::new(MemBackend::new()), WriterOptions::default());
        writer.put(bucket, key, value);
        writer.publish().unwrap();
        let error = Cluster::load(&reader, 1, 1).unwrap_err().to_string();
        assert!(
            error.contains(bucket.name()) && error.contains(key),
            "{error}"
        );
    }
}

/// With `Root` as etcd 3.5 dumps it, cut down to what is read.
fn document(children: &str) -> Vec<u8> {
    format!(
        r#"{{"Root":{{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{children}}},"WatcherHub":{{}},"CurrentIndex":3,"Stats":{{}},"CurrentVersion":2}}"#
    )
    .into_bytes()
}

#[test]
fn the_v2_document_that_we_write_can_be_read() {
    let mut cluster = cluster(&[1, 2]);
    cluster.apply(&add_learner(3)).unwrap();
    cluster.apply(&remove(2)).unwrap();
    cluster.set_attributes(1, "one", &["http://127.0.0.1:1000".to_owned()]);
    cluster.set_version("3.5.0");
    let read = Cluster::from_v2_document(&cluster.v2_document(), cluster.cluster_id(), 1).unwrap();
    assert_eq!(read, cluster);
}

#[test]
fn a_v2_document_of_etcd_3_5_is_read() {
    let text = document(
        r#"{"0":{"Path":"/0","Value":"","Children":{"members":{"Path":"/0/members","Value":"","Children":{"cbff4ef837fa9b82":{"Path":"/0/members/cbff4ef837fa9b82","Value":"","Children":{"attributes":{"Path":"x","Value":"{\"name\":\"n1\",\"clientURLs\":[\"http://127.0.0.1:17020\"]}","Children":null},"raftAttributes":{"Path":"x","Value":"{\"peerURLs\":[\"http://127.0.0.1:17021\"],\"isLearner\":true}","Children":null}}}}},"removed_members":{"Children":{"a":{"Value":"removed","Children":null}}},"version":{"Value":"3.5.0","Children":null}}},"1":{"Path":"/1","Value":"","Children":{}}}"#,
    );
    let cluster = Cluster::from_v2_document(&text, 5, 1).unwrap();
    let member = cluster.member(0xcbff_4ef8_37fa_9b82).unwrap();
    assert_eq!(member.name, "n1");
    assert_eq!(member.peer_urls, ["http://127.0.0.1:17021"]);
    assert_eq!(member.client_urls, ["http://127.0.0.1:17020"]);
    assert!(member.is_learner);
    assert!(cluster.is_removed(10));
    assert_eq!(cluster.version(), Some("3.5.0"));
}

#[test]
fn what_is_no_v2_document_of_members_is_refused() {
    let custom = document(r#"{"1":{"Children":{"key":{"Value":"v","Children":null}}}}"#);
    let error = Cluster::from_v2_document(&custom, 5, 1).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("detected disallowed custom content in v2store"),
        "{error}"
    );
    // The users of the v2 API are no data.
    let users = document(r#"{"2":{"Children":{"users":{"Children":{}}}}}"#);
    assert_eq!(
        Cluster::from_v2_document(&users, 5, 1)
            .unwrap()
            .members()
            .len(),
        0
    );
    for bad in [
        &b""[..],
        b"[]",
        b"{}",
        &document(r#"{"0":{"Children":{"members":{"Children":{"xyz":{"Children":{}}}}}}}"#),
        &document(r#"{"0":{"Children":{"members":{"Children":{"1":{"Children":{}}}}}}}"#),
        &document(r#"{"0":{"Children":{"removed_members":{"Children":{"-":{}}}}}}"#),
    ] {
        assert!(Cluster::from_v2_document(bad, 5, 1).is_err());
    }
    let deep = "{\"0\":{\"Children\":".repeat(10_000);
    assert!(Cluster::from_v2_document(&document(&deep), 5, 1).is_err());
}

#[test]
fn members_that_etcd_3_5_did_not_know_are_removed() {
    let mut database = cluster(&[1, 2]);
    database.apply(&add_learner(3)).unwrap();
    let mut v2 = cluster(&[1]);
    v2.apply(&add_learner(3)).unwrap();
    v2.apply(&promote(3)).unwrap();
    v2.apply(&add(4)).unwrap();
    let changes = database.follow_v2(&v2);
    let voter = Member {
        is_learner: false,
        ..member(3)
    };
    assert_eq!(changes, [Change::Removed(2), Change::Promoted(voter)]);
    assert!(database.is_removed(2));
    assert_eq!(database.conf_state().voters, [1, 3]);
    assert_eq!(database.follow_v2(&v2), []);
}

#[test]
fn raft_says_who_votes_among_the_same_members() {
    let mut database = cluster(&[1, 2]);
    let state = |voters: &[u64], learners: &[u64]| raftpb::ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..raftpb::ConfState::default()
    };
    assert_eq!(database.follow_raft(&state(&[1, 2], &[])), []);
    // Left over from another cluster.
    assert_eq!(database.follow_raft(&state(&[7], &[2])), []);
    assert_eq!(database.follow_raft(&state(&[1], &[])), []);
    let learner = Member {
        is_learner: true,
        ..member(2)
    };
    assert_eq!(
        database.follow_raft(&state(&[1], &[2])),
        [Change::Updated(learner)]
    );
    assert_eq!(
        database.follow_raft(&state(&[2, 1], &[])),
        [Change::Promoted(member(2))]
    );
}
