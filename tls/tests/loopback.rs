//! Both sides in one process, with certificates that are their own authority.

use std::net::Ipv4Addr;
use std::path::Path;

use retcd_tls::{Acceptor, Check, Connector, Failure, Refused, TlsInfo, TlsStream, self_signed};
use slog::{Discard, Logger, o};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

fn logger() -> Logger {
    Logger::root(Discard, o!())
}

fn made(dir: &Path, hosts: &[&str]) -> TlsInfo {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    self_signed(dir, &hosts, 1, &logger()).expect("made")
}

/// Trusts itself and nobody else.
fn mutual(info: TlsInfo) -> TlsInfo {
    TlsInfo {
        trusted_ca_file: info.cert_file.clone(),
        client_cert_auth: true,
        insecure_skip_verify: false,
        verify_client_san: true,
        ..info
    }
}

async fn meet(
    server: &TlsInfo,
    client: &TlsInfo,
    host: &str,
) -> (Result<TlsStream, Refused>, Result<TlsStream, Failure>) {
    let acceptor = Acceptor::new(server, &logger()).expect("sound");
    let connector = Connector::new(client, &logger()).expect("sound");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let address = listener.local_addr().expect("bound");
    let accept = async {
        let (stream, remote) = listener.accept().await.expect("accepted");
        let mut accepted = acceptor.accept(stream, remote).await;
        if let Ok(stream) = &mut accepted {
            stream.write_all(b"hello").await.expect("written");
            stream.flush().await.expect("written");
        }
        accepted
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.expect("connected");
        connector.connect(stream, host).await
    };
    tokio::join!(accept, connect)
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let info = mutual(made(dir.path(), &["127.0.0.1", "member.test"]));
    for host in ["127.0.0.1", "member.test"] {
        let (accepted, connected) = meet(&info, &info, host).await;
        let (accepted, mut connected) = (accepted.expect("served"), connected.expect("known"));
        assert_eq!(accepted.leaf().expect("shown").dns_names, ["member.test"]);
        assert_eq!(accepted.leaf(), connected.leaf());
        assert!(!accepted.is_http2());
        let mut word = [0; 5];
        connected.read_exact(&mut word).await.expect("read");
        assert_eq!(&word, b"hello");
    }
}

#[tokio::test]
async fn a_socket_in_a_file_is_as_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let info = TlsInfo {
        verify_client_san: false,
        ..mutual(made(dir.path(), &["127.0.0.1", "member.test"]))
    };
    let acceptor = Acceptor::new(&info, &logger()).expect("sound");
    let connector = Connector::new(&info, &logger()).expect("sound");
    let nobody = (Ipv4Addr::UNSPECIFIED, 0).into();
    let (here, there) = UnixStream::pair().expect("a pair");
    let (accepted, connected) = tokio::join!(
        acceptor.accept(here, nobody),
        connector.connect(there, "member.test")
    );
    let (mut accepted, mut connected) = (accepted.expect("served"), connected.expect("known"));
    accepted.write_all(b"hello").await.expect("written");
    accepted.flush().await.expect("written");
    let mut word = [0; 5];
    connected.read_exact(&mut word).await.expect("read");
    assert_eq!(&word, b"hello");

    // What is no TLS is looked at before it is taken.
    let (here, mut there) = UnixStream::pair().expect("a pair");
    there
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("written");
    let refused = acceptor.accept(here, nobody).await.expect_err("no TLS");
    assert_eq!(refused.failure.check, Check::NotTls);
}

#[tokio::test]
async fn whoever_is_dialed_has_to_bear_the_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let info = mutual(made(dir.path(), &["127.0.0.1", "member.test"]));
    let (accepted, connected) = meet(&info, &info, "other.test").await;
    let failure = connected.expect_err("another name");
    assert_eq!(failure.check, Check::Hostname);
    assert_eq!(
        failure.error,
        "tls: failed to verify certificate: x509: certificate is valid for member.test, not other.test"
    );
    let refused = accepted.expect_err("it broke off");
    assert_eq!(refused.failure.check, Check::RefusedByPeer);
    assert_eq!(refused.server_name, "other.test");

    let named = TlsInfo {
        server_name: Some("member.test".into()),
        ..info.clone()
    };
    meet(&info, &named, "other.test")
        .await
        .1
        .expect("the name to verify");
}

#[tokio::test]
async fn who_dials_can_tell_whether_a_certificate_is_for_its_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let elsewhere = mutual(made(dir.path(), &["10.0.0.1"]));
    let refused = meet(&elsewhere, &elsewhere, "10.0.0.1").await.0;
    let refused = refused.expect_err("it comes from another address").failure;
    let connector = Connector::new(&elsewhere, &logger()).expect("sound");
    // The same verdict, before anybody is dialed.
    let foreseen = connector.belongs_to(Ipv4Addr::LOCALHOST.into()).await;
    assert_eq!(foreseen, Err(refused.clone()));
    assert_eq!(refused.check, Check::Address);
    assert!(
        refused.advice.contains("issue one with 127.0.0.1"),
        "{}",
        refused.advice
    );
    let own = connector.belongs_to([10, 0, 0, 1].into()).await;
    own.expect("its own address");
}

#[tokio::test]
async fn strangers_stay_strangers() {
    let (one, two) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let (one, two) = (
        made(one.path(), &["127.0.0.1"]),
        made(two.path(), &["127.0.0.1"]),
    );
    // Made ones verify nobody, but whoever they dial may.
    meet(&one, &two, "127.0.0.1").await.1.expect("anybody");
    let refused = meet(&mutual(one.clone()), &two, "127.0.0.1").await.0;
    assert_eq!(
        refused.expect_err("a stranger").failure.check,
        Check::Authority
    );
    let failure = meet(&one, &mutual(two.clone()), "127.0.0.1").await.1;
    assert_eq!(failure.expect_err("a stranger").check, Check::Authority);
    // Allowed names are demanded of both sides, as in etcd.
    let picky = TlsInfo {
        allowed_cns: vec!["good".into()],
        ..mutual(one.clone())
    };
    let failure = meet(&one, &picky, "127.0.0.1").await.1;
    let failure = failure.expect_err("no such name");
    assert_eq!(failure.check, Check::CommonName);
    assert_eq!(failure.error, "client certificate authentication failed");
}

#[tokio::test]
async fn an_answer_in_plain_text_is_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let info = made(dir.path(), &["127.0.0.1"]);
    let connector = Connector::new(&info, &logger()).expect("sound");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let address = listener.local_addr().expect("bound");
    let plain = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.expect("connected");
        connector.connect(stream, "127.0.0.1").await
    };
    let ((), connected) = tokio::join!(plain, connect);
    let failure = connected.expect_err("no TLS");
    assert_eq!(failure.check, Check::NotTls);
    assert!(failure.advice.contains("http://"), "{}", failure.advice);
}

#[test]
fn what_does_not_fit_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    let (one, two) = (made(&one, &["a"]), made(&two, &["a"]));
    let error = |info: &TlsInfo| {
        Acceptor::new(info, &logger())
            .err()
            .expect("refused")
            .to_string()
    };
    let path =
        |path: &Option<std::path::PathBuf>| path.as_ref().expect("named").display().to_string();
    let mixed = TlsInfo {
        key_file: two.key_file.clone(),
        ..one.clone()
    };
    assert_eq!(
        error(&mixed),
        format!(
            "{}: tls: private key does not match public key of {}",
            path(&two.key_file),
            path(&one.cert_file)
        )
    );
    let half = TlsInfo {
        key_file: None,
        ..one.clone()
    };
    assert_eq!(
        error(&half),
        format!(
            "KeyFile and CertFile must both be present[key: , cert: {}]",
            path(&one.cert_file)
        )
    );
    let gone = TlsInfo {
        cert_file: Some("/nonexistent/c.pem".into()),
        ..one.clone()
    };
    assert_eq!(
        error(&gone),
        "open /nonexistent/c.pem: no such file or directory"
    );
    let no_authority = TlsInfo {
        trusted_ca_file: one.key_file.clone(),
        ..one.clone()
    };
    assert!(error(&no_authority).contains("no certificate in it"));
    let both = TlsInfo {
        allowed_cns: vec!["a".into()],
        allowed_hostnames: vec!["b".into()],
        ..one.clone()
    };
    assert_eq!(
        error(&both),
        r#"AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b"])"#
    );
    // Made once, used from then on.
    let again = made(&dir.path().join("1"), &["b"]);
    let read = |info: &TlsInfo| std::fs::read(path(&info.cert_file)).expect("there");
    assert_eq!(read(&again), read(&one));
}
