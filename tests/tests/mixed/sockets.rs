//! Members that meet over Unix sockets. etcd takes host and port of such a URL for the name of a file in its current
//! directory, and speaks no TLS there, also where the URL says so.

use std::time::Duration;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::nodes::{Cluster, Kind};

/// How long one call may take that should be quick.
const CALL: Duration = Duration::from_secs(10);

/// One member writes, all of them read.
async fn told_to_all(cluster: &mut Cluster, by: usize, value: &str) {
    let put = pb::PutRequest { key: "told".into(), value: value.to_owned().into(), ..Default::default() };
    let sent =
        cluster.until(by, "a put", async |caller, at| caller.call::<pb::PutResponse>(at, "KV/Put", &put, CALL).await);
    sent.await;
    let get = pb::RangeRequest { key: "told".into(), ..Default::default() };
    for n in 0..cluster.nodes.len() {
        let read = cluster
            .until(n, "a read", async |caller, at| caller.call::<pb::RangeResponse>(at, "KV/Range", &get, CALL).await);
        assert_eq!(read.await.kvs[0].value, value.to_owned());
    }
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work);
}

#[test]
fn genuine_members_and_ours_meet_over_files() {
    block_on(async {
        let Some(mut cluster) = Cluster::prepare(&Kind::parse("GOO"), &[], &[]) else { return };
        cluster.over_sockets();
        cluster.bootstrap().await;
        for n in 0..3 {
            cluster.lead(n).await;
            told_to_all(&mut cluster, n, &format!("by {n}")).await;
        }
        // Its file is still there when it comes back.
        let socket = cluster.nodes[1].socket().expect("a file");
        cluster.nodes[1].kill();
        assert!(socket.exists());
        cluster.restart(1);
        told_to_all(&mut cluster, 1, "again").await;
        cluster.same_hash().await;
        // Not so when it had time to take it away.
        cluster.nodes[1].terminate();
        assert!(!socket.exists());
    });
}

#[test]
fn ours_speak_tls_over_files() {
    block_on(async {
        let Some(mut cluster) = Cluster::prepare(&Kind::parse("OOO"), &[], &[]) else { return };
        cluster.secure();
        cluster.over_sockets();
        cluster.bootstrap().await;
        told_to_all(&mut cluster, 0, "in secret").await;
    });
}
