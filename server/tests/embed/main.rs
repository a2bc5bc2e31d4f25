//! Members inside one process, driven without a socket and over gRPC.

mod cluster;
mod upkeep;

use std::path::Path;
use std::time::Duration;

use retcd::{Client, Config, Error, Server, StartError};
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::kv_client::KvClient;
use retcd_proto::etcdserverpb::request_op::Request;

fn start(dir: &Path) -> Server {
    let mut config = Config::ephemeral(dir);
    config.log.outputs = vec!["/dev/null".into()];
    Server::start(config).expect("the member starts")
}

async fn dial(server: &Server) -> KvClient<tonic::transport::Channel> {
    let url = format!("http://{}", server.client_addresses()[0]);
    KvClient::connect(url).await.expect("the member listens")
}

async fn value(client: &Client, key: &'static str) -> Option<Vec<u8>> {
    let pair = client.get(key).await.expect("a read");
    pair.map(|pair| pair.value.to_vec())
}

#[tokio::test]
async fn two_members_in_one_process_keep_to_themselves() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = start(dirs[0].path());
    let two = start(dirs[1].path());
    assert_ne!(one.client_addresses(), two.client_addresses());

    one.client().put("who", "one").await.expect("a put");
    two.client().put("who", "two").await.expect("a put");

    // What went in without a socket comes out over gRPC, and the other way round.
    for (server, expected) in [(&one, "one"), (&two, "two")] {
        let mut remote = dial(server).await;
        let request = pb::RangeRequest {
            key: "who".into(),
            ..Default::default()
        };
        let reply = remote.range(request).await.expect("a read").into_inner();
        assert_eq!(reply.kvs[0].value, expected);
        let request = pb::PutRequest {
            key: "over".into(),
            value: format!("grpc to {expected}").into(),
            ..Default::default()
        };
        let reply = remote.put(request).await.expect("a put").into_inner();
        assert_eq!(reply.header.expect("a header").revision, 3);
        let stored = value(&server.client(), "over").await;
        assert_eq!(stored, Some(format!("grpc to {expected}").into_bytes()));
    }

    // One stops and comes back with all it had; the other goes on meanwhile.
    let gone = one.client();
    one.stop();
    assert_eq!(gone.put("x", "y").await, Err(Error::Stopped));
    assert_eq!(gone.get("who").await, Err(Error::Stopped));
    two.client().put("meanwhile", "here").await.expect("a put");

    let one = start(dirs[0].path());
    assert_eq!(value(&one.client(), "who").await, Some(b"one".to_vec()));
    assert_eq!(value(&one.client(), "meanwhile").await, None);
    assert_eq!(one.client().put("who", "again").await, Ok(4));
    let mut remote = dial(&one).await;
    let request = pb::RangeRequest {
        key: "who".into(),
        ..Default::default()
    };
    let reply = remote.range(request).await.expect("a read").into_inner();
    assert_eq!(reply.kvs[0].version, 2);
}

#[tokio::test]
async fn a_data_directory_has_one_member_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path());
    let second = Server::start(Config::ephemeral(dir.path()));
    let Err(StartError::DataDir(error)) = second else {
        panic!("the second member must be refused, not {second:?}");
    };
    let text = error.to_string();
    let pid = std::process::id().to_string();
    assert!(text.contains(&pid) && text.contains("--data-dir"), "{text}");

    first.client().put("still", "here").await.expect("a put");
    drop(first);
    let again = start(dir.path());
    assert_eq!(
        value(&again.client(), "still").await,
        Some(b"here".to_vec())
    );
}

#[tokio::test]
async fn the_client_has_the_errors_of_the_services() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let client = server.client();
    assert_eq!(client.put("", "v").await, Err(Error::EmptyKey));
    let put = |key: &'static str| pb::RequestOp {
        request: Some(Request::RequestPut(pb::PutRequest {
            key: key.into(),
            ..Default::default()
        })),
    };
    let txn = pb::TxnRequest {
        success: vec![put("a"), put("a")],
        ..Default::default()
    };
    assert_eq!(client.txn(txn).await, Err(Error::DuplicateKey));
    let too_many = pb::TxnRequest {
        success: vec![put("a"); 129],
        ..Default::default()
    };
    assert_eq!(client.txn(too_many).await, Err(Error::TooManyOps));
    let future = pb::RangeRequest {
        key: "a".into(),
        revision: 99,
        ..Default::default()
    };
    assert_eq!(client.range(future).await, Err(Error::FutureRev));
    let lease = pb::PutRequest {
        key: "a".into(),
        lease: 7,
        ..Default::default()
    };
    assert_eq!(client.put_request(lease).await, Err(Error::LeaseNotFound));
    // None of it used a revision.
    assert_eq!(client.put("a", "b").await, Ok(2));
    assert_eq!(client.delete("a").await, Ok(true));
    assert_eq!(client.delete("a").await, Ok(false));
    let status = client.status().await.expect("a status");
    assert_eq!(status.version, "3.7.1");
    assert_eq!(
        client.member_list().await.expect("members").members.len(),
        1
    );
}

/// What dashboards look at moves when the member works.
#[tokio::test]
async fn the_metrics_are_fed() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    server.client().put("a", "b").await.expect("a put");
    let address = server.client_addresses()[0];
    let text = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).expect("the member listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    });
    let text = text.await.expect("a thread");
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_mvcc_put_total",
        "etcd_server_has_leader",
        "etcd_server_proposals_applied_total",
        "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"}",
        "etcd_debugging_mvcc_keys_total",
        "etcd_debugging_mvcc_current_revision",
    ] {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(value.is_some_and(|value| value > 0.0), "{name}: {line:?}");
    }
}

/// Snapshots and segment purging under a low snapshot count, over restarts.
#[tokio::test]
async fn the_log_is_trimmed_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut config = Config::ephemeral(dir.path());
        config.log.outputs = vec!["/dev/null".into()];
        config.snapshot_count = 50;
        config.snapshot_catchup_entries = 10;
        let server = Server::start(config).expect("the member starts");
        let client = server.client();
        for i in 0..round {
            let key = format!("key-{i}-199");
            let pair = client.get(key.clone()).await.expect("a read");
            assert!(pair.is_some(), "{key} is lost in round {round}");
        }
        for i in 0..200 {
            let key = format!("key-{round}-{i}");
            client.put(key, vec![b'v'; 100]).await.expect("a put");
        }
    }
    let snaps = std::fs::read_dir(dir.path().join("member/snap")).unwrap();
    let names = snaps.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let snaps = names.filter(|name| name.ends_with(".snap")).count();
    assert!(snaps > 0, "no snapshot was taken");
}

#[tokio::test]
async fn watches_work_without_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let client = server.client();
    assert_eq!(client.put("before", "1").await, Ok(2));
    let mut watches = client
        .watch(pb::WatchCreateRequest {
            key: "before".into(),
            start_revision: 1,
            ..Default::default()
        })
        .expect("a stream");
    watches.create(pb::WatchCreateRequest {
        key: "a".into(),
        range_end: "c".into(),
        prev_kv: true,
        ..Default::default()
    });
    let next = async |watches: &mut retcd::WatchStream| {
        let reply = watches.next().await.expect("it goes on");
        let reply = reply.expect("no error");
        let events = reply.events.iter().map(|event| {
            let kv = event.kv.clone().unwrap_or_default();
            (kv.key.to_vec(), kv.mod_revision, event.prev_kv.is_some())
        });
        (reply.watch_id, reply.created, events.collect::<Vec<_>>())
    };
    assert_eq!(next(&mut watches).await, (0, true, vec![]));
    assert_eq!(next(&mut watches).await, (1, true, vec![]));
    let history = vec![(b"before".to_vec(), 2, false)];
    assert_eq!(next(&mut watches).await, (0, false, history));
    assert_eq!(client.put("b", "1").await, Ok(3));
    assert_eq!(
        next(&mut watches).await,
        (1, false, vec![(b"b".to_vec(), 3, false)])
    );
    assert_eq!(client.put("b", "2").await, Ok(4));
    assert_eq!(
        next(&mut watches).await,
        (1, false, vec![(b"b".to_vec(), 4, true)])
    );
    watches.request_progress();
    assert_eq!(next(&mut watches).await, (-1, false, vec![]));
    watches.cancel(1);
    let last = watches.next().await.expect("a reply").expect("no error");
    assert!(last.canceled && last.watch_id == 1);
    // A stream that nobody asks for replies does not keep the member's files.
    let idle = client.watch_stream().expect("a stream");
    server.stop();
    assert_eq!(watches.next().await, Some(Err(Error::Stopped)));
    assert_eq!(watches.next().await, None);
    let again = start(dir.path());
    assert_eq!(value(&again.client(), "b").await, Some(b"2".to_vec()));
    drop(idle);
}

/// The other engine, in builds that have it: chosen by the configuration, never mixed up.
#[cfg(feature = "sled")]
#[tokio::test]
async fn sled_and_bolt_keep_their_data() {
    use retcd::config::Engine;

    let dir = tempfile::tempdir().unwrap();
    let with = |engine| {
        let mut config = Config::ephemeral(dir.path());
        config.log.outputs = vec!["/dev/null".into()];
        config.backend_engine = engine;
        Server::start(config)
    };
    let server = with(Engine::Sled).expect("the member starts");
    server.client().put("a", "b").await.expect("a put");
    let refused = server.client().snapshot().await.err();
    assert!(
        matches!(&refused, Some(Error::EngineCannot(text)) if text.contains("sled")),
        "{refused:?}"
    );
    server.stop();
    let refused = with(Engine::Bolt).expect_err("another engine").to_string();
    assert!(
        refused.contains("--experimental-backend-engine=sled"),
        "{refused}"
    );
    let server = with(Engine::Sled).expect("the member starts");
    assert_eq!(value(&server.client(), "a").await, Some(b"b".to_vec()));
}

#[tokio::test]
async fn leases_without_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let client = server.client();
    let granted = client.lease_grant(7, 60).await.expect("a grant");
    assert_eq!((granted.id, granted.ttl), (7, 60));
    assert_eq!(client.lease_grant(7, 60).await, Err(Error::LeaseExists));
    let too_long = client.lease_grant(8, i64::MAX).await;
    assert_eq!(too_long, Err(Error::LeaseTtlTooLarge));
    let chosen = client.lease_grant(0, 60).await.expect("a grant").id;
    assert!(chosen > 0);
    let put = pb::PutRequest {
        key: "k".into(),
        lease: 7,
        ..Default::default()
    };
    client.put_request(put).await.expect("a put");

    let told = client.lease_time_to_live(7, true).await.expect("a reply");
    assert_eq!((told.granted_ttl, told.keys), (60, vec!["k".into()]));
    let unknown = client.lease_time_to_live(77, true).await.expect("a reply");
    assert_eq!((unknown.ttl, unknown.granted_ttl), (-1, 0));
    let mut listed = client.leases().await.expect("a list");
    listed.sort_unstable();
    assert_eq!(listed, [7, chosen]);

    let mut renewals = client.lease_keep_alive().expect("a stream");
    for id in [7, 77, chosen] {
        renewals.renew(id);
    }
    for (id, ttl) in [(7, 60), (77, 0), (chosen, 60)] {
        let reply = renewals.next().await.expect("a reply").expect("no error");
        assert_eq!((reply.id, reply.ttl), (id, ttl));
    }
    assert_eq!(client.lease_keep_alive_once(7).await, Ok(60));

    client.lease_revoke(7).await.expect("a revoke");
    assert_eq!(client.lease_revoke(7).await, Err(Error::LeaseNotFound));
    assert_eq!(value(&client, "k").await, None);

    let mut watch = client
        .watch(pb::WatchCreateRequest {
            key: "short".into(),
            ..Default::default()
        })
        .expect("a watch");
    let created = watch.next().await.expect("a reply").expect("no error");
    assert!(created.created);
    let short = client.lease_grant(0, 1).await.expect("a grant");
    assert_eq!(short.ttl, 2, "the shortest");
    let put = pb::PutRequest {
        key: "short".into(),
        lease: short.id,
        ..Default::default()
    };
    client.put_request(put).await.expect("a put");
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let reply = watch.next().await.expect("a reply").expect("no error");
        kinds.extend(reply.events.iter().map(|event| event.r#type));
    }
    assert_eq!(kinds, [0, 1], "put, and deleted when its time was over");

    server.stop();
    assert_eq!(client.lease_grant(0, 60).await, Err(Error::Stopped));
    assert_eq!(renewals.next().await, Some(Err(Error::Stopped)));
    assert_eq!(renewals.next().await, None);
}

#[tokio::test]
async fn locks_and_elections_without_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let client = server.client();
    for id in 1..=3 {
        client.lease_grant(id, 600).await.expect("a grant");
    }
    let held = client.lock("l", 1).await.expect("the lock");
    assert_eq!(held.key, "l/1");
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.lock("l", 2).await }
    });
    let there = async |key: &'static str, there: bool| {
        while client.get(key).await.expect("a read").is_some() != there {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    there("l/2", true).await;
    let third = tokio::spawn({
        let client = client.clone();
        async move { client.lock("l", 3).await }
    });
    there("l/3", true).await;
    // Who gives up leaves the queue.
    second.abort();
    there("l/2", false).await;
    assert!(!third.is_finished());
    client.unlock(held.key).await.expect("an answer");
    assert_eq!(third.await.unwrap().expect("the lock").key, "l/3");
    let unknown = client.lock("l", 77).await;
    let text = "etcdserver: requested lease not found".to_owned();
    assert_eq!(unknown, Err(Error::Recipe(text)));

    let candidate = |value: &'static str, lease| retcd_proto::v3electionpb::CampaignRequest {
        name: "e".into(),
        lease,
        value: value.into(),
    };
    let mut leaders = client.observe("e").await.expect("a stream");
    let won = client
        .campaign(candidate("one", 1))
        .await
        .expect("it leads");
    let leader = won.leader.expect("a key");
    let next = tokio::spawn({
        let (client, candidate) = (client.clone(), candidate("two", 2));
        async move { client.campaign(candidate).await }
    });
    let mut told = async || {
        let leader = leaders.next().await.expect("a leader").expect("no error");
        leader.kv.expect("a pair").value
    };
    assert_eq!(told().await, "one");
    let proclaim = retcd_proto::v3electionpb::ProclaimRequest {
        leader: Some(leader.clone()),
        value: "more".into(),
    };
    client.proclaim(proclaim.clone()).await.expect("an answer");
    assert_eq!(told().await, "more");
    there("e/2", true).await;
    let resign = retcd_proto::v3electionpb::ResignRequest {
        leader: Some(leader),
    };
    client.resign(resign).await.expect("an answer");
    next.await.unwrap().expect("it leads");
    assert_eq!(told().await, "two");
    let late = client.proclaim(proclaim).await;
    assert_eq!(late, Err(Error::Recipe("election: not leader".into())));
    let leader = client.leader("e").await.expect("a leader");
    assert_eq!(leader.kv.expect("a pair").value, "two");
    server.stop();
}
