//! Certificates, keys and authority of peers replaced in a running cluster under load: nothing is lost, nobody else
//! leads for it, and connections made from then on have the new ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::member::PATIENCE;
use retcd_tests::nodes::{Caller, Cluster, Kind, Secrets};
use retcd_tests::pki::Issued;
use retcd_tests::secure;

/// How long a put may take; nobody is ever without a leader here.
const CALL: Duration = Duration::from_secs(30);

/// Rotations in CI; 200 by hand.
fn rotations() -> u64 {
    std::env::var("RETCD_PEER_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Puts one key after the other at one member, each of which has to succeed, and counts them.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    done: AtomicU64,
}

impl Load {
    async fn run(self: Arc<Self>, secrets: Arc<Secrets>, at: SocketAddr) {
        let mut caller = Caller::over(Some(secrets.client()));
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.done.load(Ordering::Relaxed);
            let request = pb::PutRequest { key: key(n).into(), value: key(n).into(), ..Default::default() };
            caller.call::<pb::PutResponse>(at, "KV/Put", &request, CALL).await.expect("a put");
            self.done.store(n + 1, Ordering::Relaxed);
        }
    }

    /// Waits until some more puts are acknowledged.
    async fn goes_on(&self) {
        let until = self.done.load(Ordering::Relaxed) + 5;
        let deadline = Instant::now() + PATIENCE;
        while self.done.load(Ordering::Relaxed) < until {
            assert!(Instant::now() < deadline, "puts hang");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn key(n: u64) -> String {
    format!("k{n:08}")
}

/// Who leads in which term, as a member says.
async fn leader(cluster: &mut Cluster, n: usize) -> (u64, u64) {
    let status = cluster.until(n, "its state", async |caller, at| {
        let request = pb::StatusRequest::default();
        caller.call::<pb::StatusResponse>(at, "Maintenance/Status", &request, CALL).await
    });
    let status = status.await;
    (status.leader, status.raft_term)
}

/// A member shows its new certificate, takes the new one of another, and the old one no more.
fn is_renewed(at: SocketAddr, own: &Issued, other: &Issued, old: &Issued) {
    let tried = secure::get(at.port(), "/version", Some(other), &secure::VERSIONS);
    assert!(tried.is_served(), "{tried:?}");
    assert_eq!(tried.server.as_deref(), Some(own.der()), "it shows another certificate");
    let tried = secure::get(at.port(), "/version", Some(old), &secure::VERSIONS);
    assert!(!tried.is_served(), "the old authority is still trusted");
}

#[test]
fn peers_do_not_notice() {
    // A busy machine must not be a reason for another leader.
    let flags = ["--heartbeat-interval=300", "--election-timeout=10000"].map(str::to_owned);
    let mut cluster = Cluster::prepare(&[Kind::Ours; 3], &[], &flags).expect("nothing is looked for");
    let secrets = cluster.secure();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        cluster.bootstrap().await;
        let first = cluster.leader().await;
        let before = leader(&mut cluster, first).await;
        let followers: Vec<_> = (0..3).filter(|n| *n != first).collect();
        let members: Vec<(String, IpAddr)> =
            cluster.nodes.iter().map(|node| (node.name.clone(), node.peer().ip())).collect();
        let load = Arc::new(Load::default());
        let running = tokio::spawn(Arc::clone(&load).run(Arc::clone(&secrets), cluster.nodes[first].client()));
        let mut old = secrets.renew_peers(&members);
        for round in 0..rotations() {
            let new = secrets.renew_peers(&members);
            for n in 0..3 {
                let (at, other) = (cluster.nodes[n].peer(), (n + 1) % 3);
                let (own, other, old) = (new[n].clone(), new[other].clone(), old[other].clone());
                let looked = thread::spawn(move || is_renewed(at, &own, &other, &old)).join();
                assert!(looked.is_ok(), "rotation {round}, member {n}");
            }
            load.goes_on().await;
            // All its streams are made anew, in both directions, and nobody trusts what was before.
            let one = followers[usize::try_from(round % 2).expect("small")];
            cluster.nodes[one].kill();
            load.goes_on().await;
            cluster.restart(one);
            cluster.serves(one).await;
            assert!(!running.is_finished(), "rotation {round}: a put failed");
            assert_eq!(leader(&mut cluster, first).await, before, "rotation {round}: somebody else leads");
            assert_eq!(leader(&mut cluster, one).await, before, "rotation {round}: it follows somebody else");
            old = new;
        }
        load.stop.store(true, Ordering::Relaxed);
        running.await.expect("all puts succeeded");
        let done = load.done.load(Ordering::Relaxed);
        println!("{} rotations, {done} puts", rotations());
        for n in 0..3 {
            let request =
                pb::RangeRequest { key: key(0).into(), range_end: "l".into(), count_only: true, ..Default::default() };
            let counted = cluster.until(n, "its keys", async |caller, at| {
                caller.call::<pb::RangeResponse>(at, "KV/Range", &request, CALL).await
            });
            assert_eq!(counted.await.count, i64::try_from(done).expect("few"), "puts are lost");
        }
        cluster.same_hash().await;
    });
}
