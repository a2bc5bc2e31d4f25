//! Snapshots, ranges in parts, alarms, hashes.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use retcd::{Config, Error, Server};
use retcd_proto::etcdserverpb as pb;
use retcd_storage::backend::BoltFile;
use retcd_storage::fs::RealFs;
use sha2::{Digest as _, Sha256};

use super::{start, value};

/// A snapshot without a socket is the file that etcd's tools make.
#[tokio::test]
async fn a_snapshot_is_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir.path().join("data"));
    let client = server.client();
    for n in 0..100 {
        client
            .put(format!("key-{n}"), vec![b'v'; 2000])
            .await
            .expect("a put");
    }
    let mut stream = client.snapshot().await.expect("a snapshot");
    // What comes later is not in it.
    client.put("later", "v").await.expect("a put");
    let mut file = Vec::new();
    while let Some(message) = stream.next().await {
        file.extend_from_slice(&message.expect("a message").blob);
    }
    let database = file.len() - 32;
    assert_eq!(file[database..], Sha256::digest(&file[..database])[..]);
    let path = dir.path().join("saved.db");
    std::fs::write(&path, &file).unwrap();
    let saved = BoltFile::open(&RealFs, &path).expect("a database");
    saved.check().expect("sound pages");
    assert_eq!(saved.scan(b"key", b"", 0).expect("pairs").len(), 100);
}

/// A stream that nobody reads does not keep the database open behind a member that stopped.
#[tokio::test]
async fn a_snapshot_ends_with_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let client = server.client();
    for n in 0..40 {
        client
            .put(format!("key-{n}"), vec![b'v'; 60_000])
            .await
            .expect("a put");
    }
    let mut stream = client.snapshot().await.expect("a snapshot");
    let first = stream.next().await.expect("a message").expect("a blob");
    assert!(first.remaining_bytes > 1 << 20);
    let stopping = tokio::task::spawn_blocking(|| server.stop());
    tokio::time::timeout(Duration::from_secs(60), stopping)
        .await
        .expect("it stops")
        .expect("without a panic");
    // Its file is free.
    drop(start(dir.path()));
    let rest: Vec<_> = pin!(stream).collect().await;
    assert_eq!(rest.last(), Some(&Err(Error::Stopped)));
    assert_eq!(client.snapshot().await.err(), Some(Error::Stopped));
}

#[tokio::test]
async fn a_range_comes_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let client = server.client();
    let key = |n: usize| format!("key-{n:03}").into_bytes();
    for n in 0..100 {
        client.put(key(n), "v").await.expect("a put");
    }
    let all = pb::RangeRequest {
        key: "key".into(),
        range_end: "kez".into(),
        ..Default::default()
    };
    let mut stream = client.range_stream(all.clone()).await.expect("a stream");
    let mut parts = Vec::new();
    while let Some(message) = stream.next().await {
        parts.push(message.expect("a message").range_response.expect("a part"));
        // What comes later is not in it.
        client.put(key(999), "later").await.expect("a put");
    }
    let last = parts.pop().expect("the last part");
    assert!(!parts.is_empty(), "more than one part");
    assert!(
        parts
            .iter()
            .all(|part| part.header.is_none() && part.count == 0)
    );
    assert_eq!(last.header.map(|header| header.revision), Some(101));
    assert_eq!((last.count, last.more), (100, false));
    let pairs = parts.iter().chain([&last]).flat_map(|part| &part.kvs);
    let found: Vec<_> = pairs.map(|pair| pair.key.to_vec()).collect();
    assert_eq!(found, (0..100).map(key).collect::<Vec<_>>());

    let backwards = pb::RangeRequest {
        sort_order: pb::range_request::SortOrder::Descend as i32,
        ..all.clone()
    };
    let refused = client.range_stream(backwards).await.err();
    assert_eq!(refused, Some(Error::StreamSortOrder));

    // One that nobody reads on does not keep the member's files.
    let mut stream = client.range_stream(all.clone()).await.expect("a stream");
    stream.next().await.expect("a message").expect("a part");
    server.stop();
    let again = start(dir.path());
    assert_eq!(value(&again.client(), "key-000").await, Some(b"v".to_vec()));
    assert_eq!(stream.next().await, Some(Err(Error::Stopped)));
    assert_eq!(stream.next().await, None);
    assert_eq!(client.range_stream(all).await.err(), Some(Error::Stopped));
}

#[tokio::test]
async fn a_full_database_is_emptied_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::ephemeral(dir.path());
    config.log.outputs = vec!["/dev/null".into()];
    config.quota_backend_bytes = 4 << 20;
    let server = Server::start(config).expect("the member starts");
    let client = server.client();
    assert_eq!(client.alarms().await, Ok(vec![]));
    // The database grows when it is written, a moment after a put is answered.
    let full = async {
        loop {
            match client.put("big", vec![b'v'; 1 << 20]).await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    let full = tokio::time::timeout(Duration::from_secs(120), full).await;
    assert_eq!(full, Ok(Error::NoSpace));
    let own = client.status().await.expect("a status").header;
    let member_id = own.expect("a header").member_id;
    let raised = || pb::AlarmMember {
        member_id,
        alarm: pb::AlarmType::Nospace as i32,
    };
    assert_eq!(client.alarms().await, Ok(vec![raised()]));
    assert_eq!(client.put("small", "v").await, Err(Error::NoSpace));

    let before = client.hash().await.expect("a hash").hash;
    let everything = pb::DeleteRangeRequest {
        key: "big".into(),
        ..Default::default()
    };
    let deleted = client.delete_range(everything).await.expect("a deletion");
    assert!(deleted.deleted > 0);
    let compaction = pb::CompactionRequest {
        revision: deleted.header.expect("a header").revision,
        physical: true,
    };
    client.compact(compaction).await.expect("a compaction");
    assert_ne!(client.hash().await.expect("a hash").hash, before);
    client.defragment().await.expect("it is defragmented");
    assert!(client.status().await.expect("a status").db_size < 2 << 20);

    let disarm = async || client.alarm_disarm(member_id, pb::AlarmType::Nospace).await;
    assert_eq!(disarm().await, Ok(vec![raised()]));
    assert_eq!(disarm().await, Ok(vec![]));
    assert_eq!(client.alarms().await, Ok(vec![]));
    client.put("small", "v").await.expect("a put");
    let future = client.hash_kv(i64::MAX).await;
    assert_eq!(future, Err(Error::FutureRev));
    server.stop();
    assert_eq!(client.alarms().await, Err(Error::Stopped));
    assert_eq!(client.defragment().await, Err(Error::Stopped));
}
