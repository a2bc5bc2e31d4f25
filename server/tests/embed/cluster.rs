//! Several members in one process: how a cluster grows, changes its leader, shrinks, and loses its quorum.

use std::net::SocketAddr;
use std::time::Duration;

use retcd::config::ClusterState;
use retcd::{Config, Error, Server};
use retcd_proto::etcdserverpb as pb;

use super::value;

/// More than a slow machine needs.
const DEADLINE: Duration = Duration::from_secs(120);

/// An address that is kept for a member, also while it is down: by a socket that never listens. With this option a
/// listener shares it; for an outgoing connection or a port that somebody asks the system for it is taken.
fn kept_address() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    socket.set_reuse_address(true).expect("an option");
    let address = socket.local_addr().expect("an address").as_socket();
    (address.expect("of IPv4"), socket)
}

#[tokio::test]
async fn three_members_in_one_process_are_a_cluster() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let addresses = [(); 3].map(|()| kept_address());
    let urls = addresses
        .each_ref()
        .map(|(address, _)| format!("http://{address}"));
    let members: Vec<String> = urls
        .iter()
        .zip(1..)
        .map(|(url, n)| format!("m{n}={url}"))
        .collect();
    let launch = |n: usize| {
        let mut config = Config::ephemeral(dirs[n].path());
        config.name = format!("m{}", n + 1);
        config.listen_peer_urls = vec![urls[n].parse().unwrap()];
        config.initial_advertise_peer_urls = Some(config.listen_peer_urls.clone());
        config.initial_cluster = Some(members.join(","));
        config.log.outputs = vec!["/dev/null".into()];
        Server::launch(config).expect("the member starts")
    };
    let mut servers = vec![launch(0), launch(1), launch(2)];
    for server in &servers {
        let ready = tokio::time::timeout(Duration::from_secs(60), server.ready()).await;
        ready.expect("in time").expect("it is ready");
    }
    servers[0].client().put("who", "one").await.expect("a put");
    for server in &servers {
        assert_eq!(value(&server.client(), "who").await, Some(b"one".to_vec()));
        let list = server.client().member_list().await.expect("a list");
        assert_eq!(list.members.len(), 3);
    }
    // One goes and comes back.
    let gone = servers.remove(1);
    tokio::task::spawn_blocking(move || gone.stop())
        .await
        .unwrap();
    servers[1].client().put("who", "two").await.expect("a put");
    let back = launch(1);
    back.ready().await.expect("it is ready");
    assert_eq!(value(&back.client(), "who").await, Some(b"two".to_vec()));
}

/// Repeats a question until it has an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    answer.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn read(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        serializable: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_cluster_grows_and_shrinks_without_a_socket() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let addresses = [(); 3].map(|()| kept_address());
    let urls = addresses
        .each_ref()
        .map(|(address, _)| format!("http://{address}"));
    let launch = |n: usize, state| {
        let mut config = Config::ephemeral(dirs[n].path());
        config.name = format!("m{n}");
        config.listen_peer_urls = vec![urls[n].parse().unwrap()];
        config.initial_advertise_peer_urls = Some(config.listen_peer_urls.clone());
        let members = urls.iter().enumerate().take(n + 1);
        let members: Vec<String> = members.map(|(n, url)| format!("m{n}={url}")).collect();
        config.initial_cluster = Some(members.join(","));
        config.initial_cluster_state = state;
        // It would want every connection to be five seconds old.
        config.strict_reconfig_check = false;
        config.log.outputs = vec!["/dev/null".into()];
        Server::launch(config).expect("the member starts")
    };
    let ready = async |server: &Server| {
        let ready = tokio::time::timeout(DEADLINE, server.ready()).await;
        ready.expect("in time").expect("it is ready");
    };

    // One voter, and a learner that becomes the second.
    let first = launch(0, ClusterState::New);
    ready(&first).await;
    let client = first.client();
    assert_eq!(
        client.move_leader(99).await,
        Err(Error::BadLeaderTransferee)
    );
    let none: [&str; 0] = [];
    assert_eq!(client.member_add(none).await, Err(Error::MemberBadUrls));
    let twice = client.member_add([&urls[0]]).await;
    assert_eq!(twice, Err(Error::PeerUrlExist));
    let added = client
        .member_add_learner([&urls[1]])
        .await
        .expect("it is added");
    let learner = added.member.expect("the member");
    assert!(learner.is_learner && added.members.len() == 2);
    let too_many = client.member_add_learner([&urls[2]]).await;
    assert_eq!(too_many, Err(Error::TooManyLearners));
    let second = launch(1, ClusterState::Existing);
    ready(&second).await;
    let other = second.client();
    assert!(other.status().await.expect("a status").is_learner);
    let refused = other.put("a", "b").await;
    assert_eq!(refused, Err(Error::NotSupportedForLearner));
    let nobody = client.move_leader(learner.id).await;
    assert_eq!(nobody, Err(Error::BadLeaderTransferee));
    let promoted = until("the learner is ready", async || {
        match client.member_promote(learner.id).await {
            Err(Error::LearnerNotReady) => None,
            done => Some(done.expect("it is promoted")),
        }
    })
    .await;
    assert!(promoted.members.iter().all(|member| !member.is_learner));
    let again = until(
        "it has most of the log as a voter, too",
        async || match client.member_promote(learner.id).await {
            Err(Error::LearnerNotReady) => None,
            done => Some(done.expect_err("it is no learner any more")),
        },
    )
    .await;
    assert_eq!(again, Error::MemberNotLearner);

    // A third one that votes from the start.
    let added = client.member_add([&urls[2]]).await.expect("it is added");
    let voter = added.member.expect("the member");
    assert!(!voter.is_learner && added.members.len() == 3);
    let third = launch(2, ClusterState::Existing);
    ready(&third).await;
    let clients = [client.clone(), other.clone(), third.client()];
    let mut ids = Vec::new();
    for client in &clients {
        let list = client.member_list().await.expect("a list");
        assert_eq!(list.members.len(), 3);
        ids.push(list.header.expect("a header").member_id);
    }
    assert_eq!(ids[1..], [learner.id, voter.id]);
    let revision = client.put("a", "b").await.expect("a put");
    let mut hashes = Vec::new();
    for client in &clients {
        assert_eq!(value(client, "a").await, Some(b"b".to_vec()));
        let hash = client.hash_kv(revision).await.expect("a hash");
        assert_eq!(hash.hash_revision, revision);
        hashes.push(hash.hash);
    }
    assert_eq!(hashes, [hashes[0]; 3]);

    // Whoever leads hands over, and only that one can.
    let mut refusals = Vec::new();
    for client in &clients {
        refusals.push(client.move_leader(99).await.expect_err("no such member"));
    }
    assert!(refusals.contains(&Error::NotLeader));
    let known = |error: &Error| matches!(error, Error::NotLeader | Error::BadLeaderTransferee);
    assert!(refusals.iter().all(known), "{refusals:?}");
    let leads = async || {
        let leader = client.status().await.expect("a status").leader;
        ids.iter().position(|id| *id == leader)
    };
    let heir = until("a leader that hands over", async || {
        let at = leads().await?;
        let heir = (at + 1) % ids.len();
        // On a machine this slow, somebody else may lead by now.
        let handed_over = clients[at].move_leader(ids[heir]).await;
        handed_over.ok().map(|()| heir)
    })
    .await;
    client.put("a", "c").await.expect("a put");

    // The leader is asked: it has applied a change before it is asked for the next one, and so takes that one.
    let admin = &clients[heir];
    // Other URLs, then none.
    let port = addresses[2].0.port();
    let names = [urls[2].clone(), format!("http://localhost:{port}")];
    let updated = admin.member_update(voter.id, names.clone()).await;
    let updated = updated.expect("it is updated").members;
    let found = updated.iter().find(|member| member.id == voter.id);
    assert_eq!(found.expect("the member").peer_ur_ls, names);
    let refused = admin.member_update(voter.id, ["ftp://a:1"]).await;
    assert_eq!(refused, Err(Error::MemberBadUrls));
    let refused = admin.member_update(voter.id, [&urls[0]]).await;
    assert_eq!(refused, Err(Error::PeerUrlExist));
    let refused = admin.member_update(99, ["http://localhost:1"]).await;
    assert_eq!(refused, Err(Error::MemberNotFound));
    let refused = admin.member_remove(99).await;
    assert_eq!(refused, Err(Error::MemberNotFound));
    let rest = admin.member_remove(voter.id).await.expect("it is removed");
    assert_eq!(rest.members.len(), 2);
    let stopped = tokio::time::timeout(DEADLINE, third.failed()).await;
    let reason = stopped.expect("it stops by itself");
    assert!(third.was_removed(), "{reason}");
    assert_eq!(
        clients[2].member_list_serializable().await,
        Err(Error::Stopped)
    );

    // Who wants a leader is told that there is none any more, on streams too.
    let needing = client.with_require_leader();
    let range = until("a leader of two", async || {
        needing.range(read("a")).await.ok()
    })
    .await;
    assert_eq!(range.kvs[0].value, "c");
    let create = pb::WatchCreateRequest {
        key: "a".into(),
        ..Default::default()
    };
    let mut ends = needing.watch(create.clone()).expect("a watch");
    let mut stays = client.watch(create).expect("a watch");
    for watch in [&mut ends, &mut stays] {
        let created = watch.next().await.expect("a reply").expect("no error");
        assert!(created.created);
    }
    let mut renewals = needing.lease_keep_alive().expect("a stream");
    let stopping = tokio::task::spawn_blocking(move || second.stop());
    stopping.await.expect("it stops");
    assert_eq!(ends.next().await, Some(Err(Error::NoLeader)));
    assert_eq!(ends.next().await, None);
    assert_eq!(renewals.next().await, Some(Err(Error::NoLeader)));
    assert_eq!(needing.range(read("a")).await, Err(Error::NoLeader));
    assert!(matches!(needing.watch_stream(), Err(Error::NoLeader)));
    assert!(client.range(read("a")).await.is_ok());
    let list = client.member_list_serializable().await.expect("a list");
    assert_eq!(list.members.len(), 2);
    // A watch of a client that did not ask for it waits for a leader to come back.
    let stopping = tokio::task::spawn_blocking(move || first.stop());
    stopping.await.expect("it stops");
    assert_eq!(stays.next().await, Some(Err(Error::Stopped)));
}
