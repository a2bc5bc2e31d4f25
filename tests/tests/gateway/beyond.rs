//! Where etcd never answers, or has no answer to compare with: ours alone.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::ports::Port;
use retcd_tests::websocket::WebSocket;
use retcd_tests::{binary, http1};

/// etcd lets a client wait for ever that sends what is no JSON to a stream, and one that sends a single request over a
/// websocket.
#[test]
fn nobody_waits_for_ever() {
    let member = Member::start(Setup::new(binary::ours()));
    for path in ["/v3/watch", "/v3/lease/keepalive"] {
        let answer = http1::request(member.port(), "POST", path, &[], b"{\"create_request\":x}").expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.text());
        let said = "Failed to decode request: invalid character 'x' looking for beginning of value";
        assert_eq!(answer.text(), format!("{{\"error\":{{\"code\":3,\"message\":\"{said}\"}}}}\n"));
    }
    let mut socket = WebSocket::open(member.port(), "/v3/kv/put", &[]).expect("a websocket");
    socket.send(r#"{"key":"Zm9v","value":"YmFy"}"#).expect("sent");
    assert!(socket.receive().expect("a message").is_some_and(|line| line.contains("revision")));
    assert_eq!(socket.receive().expect("the end"), None);
    let answer = http1::get(member.port(), "/health").expect("it lives");
    assert_eq!(answer.status, 200, "{}", member.describe());
}

/// HTTP and gRPC on sockets of their own, and in files.
#[test]
fn sockets_for_everybody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (both, http) = (dir.path().join("grpc.sock"), dir.path().join("http.sock"));
    let port = Port::take();
    let mut member = Member::prepare(Setup::new(binary::ours()));
    let url = member.url();
    member.set_flags([
        format!("--listen-client-urls={url},unix://{}", both.display()),
        format!("--listen-client-http-urls=http://127.0.0.1:{},unix://{}", port.number(), http.display()),
    ]);
    member.spawn();
    for traffic in [r#""traffic":"grpc""#, r#""traffic":"http""#] {
        member.wait_for_log(traffic);
    }
    member.wait_for_log(&http.display().to_string());

    let answer = http1::request(port.number(), "POST", "/v3/kv/put", &[], br#"{"key":"Zm9v"}"#).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(http1::get(member.port(), "/health").is_err(), "HTTP where only gRPC is spoken");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        let outcome = connection
            .call("/etcdserverpb.KV/Range", &pb::RangeRequest { key: "foo".into(), ..Default::default() })
            .await;
        let reply: pb::RangeResponse = outcome.reply().expect("a reply");
        assert_eq!(reply.count, 1);
    });

    let ask = |path: &std::path::Path| {
        let mut stream = UnixStream::connect(path).expect("it listens");
        stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            // It hung up before all was read.
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let version = ask(&http);
    assert!(version.starts_with("HTTP/1.0 200") && version.contains("etcdserver"), "{version}");
    assert_eq!(ask(&both), "");
    assert!(member.terminate().code().is_none_or(|code| code == 0), "{}", member.describe());
    let left: Vec<_> = fs::read_dir(dir.path()).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What a member answers to a request for each thing that has a flag of its own.
fn kinds(member: &Member) -> [u16; 4] {
    [("GET", "/v2/keys"), ("POST", "/v3/kv/range"), ("POST", "/v3beta/kv/range"), ("GET", "/health")].map(
        |(method, path)| {
            let answer = http1::request(member.port(), method, path, &[], b"{\"key\":\"Zm9v\"}").expect("an answer");
            answer.status
        },
    )
}

/// The API of etcd 2 and calls as JSON have nothing to do with each other, and the same guards stand before both.
#[test]
fn two_flags() {
    for (flags, answers) in [
        (&["--enable-v2"][..], [200, 200, 200, 200]),
        (&["--enable-v2", "--enable-grpc-gateway=false"], [200, 404, 404, 200]),
        (&["--enable-grpc-gateway=false"], [404, 404, 404, 200]),
        (&[], [404, 200, 200, 200]),
    ] {
        let member = Member::start(Setup::new(binary::ours()).flags(flags.iter().copied()));
        assert_eq!(kinds(&member), answers, "{flags:?}");
    }
    let lists = ["--enable-v2", "--host-whitelist=127.0.0.1", "--cors=http://a.example:80"];
    let member = Member::start(Setup::new(binary::ours()).flags(lists));
    for path in ["/v2/keys", "/v3/kv/range", "/config/local/log", "/nope"] {
        let ask = |header| http1::request(member.port(), "GET", path, &[header], b"").expect("an answer");
        let stranger = ask(("Host", "evil.example"));
        assert_eq!(stranger.status, 421, "{path}: {}", stranger.text());
        let allowed = |answer: &http1::Answer| answer.header("access-control-allow-origin");
        assert_eq!(allowed(&ask(("Origin", "http://a.example:80"))).as_deref(), Some("http://a.example:80"), "{path}");
        assert_eq!(allowed(&ask(("Origin", "http://b.example:80"))), None, "{path}");
    }
}
