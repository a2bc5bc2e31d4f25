use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::thread;

use slog::o;
use tokio::io::copy_bidirectional;
use tokio::net::UnixListener;

use super::*;
use crate::Server;
use crate::config::{Config, Discovery};

fn etcd(dir: &Path) -> Server {
    let mut config = Config::ephemeral(dir);
    config.log.outputs = vec!["/dev/null".into()];
    Server::start(config).expect("the member starts")
}

/// The flags for these endpoints, tried in this order.
fn config(endpoints: &[String]) -> ServiceDiscovery {
    let mut config = Config::new("/data");
    config.discovery.token = "t".into();
    config.discovery.endpoints = endpoints.to_vec();
    config.discovery.request_timeout = 60_000_000_000;
    match config.resolve().expect("sound").discovery {
        Some(Discovery::Service(service)) => *service,
        other => panic!("{other:?}"),
    }
}

fn client(config: &ServiceDiscovery) -> Client<'_> {
    let logger = Logger::root(slog::Discard, o!());
    Client::new(config, &logger).expect("no files")
}

/// An address at which nobody is.
fn nobody() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("bound").to_string()
}

/// Somebody who speaks something else.
fn stranger() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"220 mail ready\r\n");
        }
    });
    address
}

#[tokio::test]
async fn what_is_written_is_read_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = etcd(dir.path());
    let real = server.client_addresses()[0].to_string();
    // Who is not there, and who is somebody else, is passed over.
    let config = config(&[nobody(), stranger(), real.clone()]);
    let mut one = client(&config);
    one.write("/a/members/1", "x=y").await.expect("written");
    one.write("/a/members/2", "z").await.expect("written");
    one.write("/a/size", "3").await.expect("written");
    let (found, _) = one.read("/a/size", false).await.expect("read");
    let pair = |key: &str, value: &str, created| Pair {
        key: key.into(),
        value: value.into(),
        created,
    };
    assert_eq!(found, [pair("/a/size", "3", 4)]);
    assert_eq!(one.read("/a/siz", false).await, Ok((Vec::new(), 4)));
    let (found, revision) = one.read("/a/members", true).await.expect("read");
    assert_eq!(
        found,
        [pair("/a/members/1", "x=y", 2), pair("/a/members/2", "z", 3)]
    );

    let mut watch = one
        .watch("/a/members", revision + 1)
        .await
        .expect("a watch");
    one.write("/a/other", "").await.expect("written");
    one.write("/a/members/1", "x=w").await.expect("written");
    let told = async {
        loop {
            // The first answer says that there is a watch.
            let pairs = watch.next().await?;
            if !pairs.is_empty() {
                return Ok::<_, ClientError>(pairs);
            }
        }
    };
    assert_eq!(told.await, Ok(vec![pair("/a/members/1", "x=w", 2)]));

    tokio::task::spawn_blocking(|| server.stop())
        .await
        .expect("it stops");
    let error = watch.next().await.expect_err("it is gone");
    assert!(
        error.to_string().starts_with(&format!("{real}: ")),
        "{error}"
    );
}

#[tokio::test]
async fn history_that_is_gone_ends_a_watch() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = etcd(dir.path());
    let config = config(&[server.client_addresses()[0].to_string()]);
    let mut one = client(&config);
    for value in ["1", "2", "3"] {
        one.write("k", value).await.expect("written");
    }
    let compaction = pb::CompactionRequest {
        revision: 4,
        physical: false,
    };
    server
        .client()
        .compact(compaction)
        .await
        .expect("compacted");
    let mut watch = one.watch("k", 2).await.expect("a watch");
    let error = loop {
        if let Err(error) = watch.next().await {
            break error;
        }
    };
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(error, ClientError::Refused(text.into()));
    let refused = one.write("", "x").await.expect_err("an empty key");
    assert_eq!(
        refused,
        ClientError::Refused("etcdserver: key is not provided".into())
    );
}

#[tokio::test]
async fn who_is_not_there_is_named() {
    let gone = nobody();
    let mut config = config(std::slice::from_ref(&gone));
    config.request_timeout = Duration::from_secs(2);
    let error = client(&config).read("k", false).await.expect_err("nobody");
    assert_eq!(error.to_string(), format!("{gone}: connection refused"));
    // Somebody who takes the connection and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let mut config = self::config(std::slice::from_ref(&address));
    config.request_timeout = Duration::from_millis(200);
    let error = client(&config).read("k", false).await.expect_err("silence");
    assert_eq!(
        error.to_string(),
        format!("{address}: context deadline exceeded")
    );
}

#[tokio::test]
async fn sockets_are_endpoints_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = etcd(&dir.path().join("data"));
    let real = server.client_addresses()[0];
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let relay = async {
        let (mut from, _) = listener.accept().await.expect("a connection");
        let mut to = TcpStream::connect(real).await.expect("the server");
        copy_bidirectional(&mut from, &mut to).await
    };
    let config = config(&[format!("unix://{}", path.display())]);
    let mut one = client(&config);
    let written = async {
        let written = one.write("k", "v").await;
        one.open = None;
        written
    };
    let (written, _) = tokio::join!(written, relay);
    assert_eq!(written, Ok(()));
    let pair = server
        .client()
        .get("k")
        .await
        .expect("read")
        .expect("written");
    assert_eq!(pair.value, "v");
}
