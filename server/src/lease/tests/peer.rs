//! Leases between members, to the byte (peer-protocol 13).

use http::Method;
use parking_lot::Mutex;

use super::super::peer::*;
use super::*;
use crate::config::Config;
use crate::server::Server;

const POST: Method = Method::POST;

fn whole(bytes: &'static [u8]) -> Body {
    Body::Whole(Bytes::from_static(bytes))
}

fn answer(status: u16, text: &'static str) -> Answer {
    Answer {
        status,
        headers: vec![
            ("content-type", "text/plain; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
        ],
        body: Bytes::from(text),
    }
}

fn message(body: Bytes) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type", "application/protobuf")],
        body,
    }
}

fn start(dir: &tempfile::TempDir) -> Server {
    let mut config = Config::ephemeral(dir.path());
    config.log.outputs = vec!["/dev/null".into()];
    Server::start(config).unwrap()
}

#[tokio::test]
async fn what_the_leader_answers() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let member = server.member();
    server.client().lease_grant(300, 60).await.unwrap();
    let put = retcd_proto::etcdserverpb::PutRequest {
        key: "k".into(),
        lease: 300,
        ..Default::default()
    };
    server.client().put_request(put).await.unwrap();

    let get = serve_keep_alive(&member, &Method::GET, whole(b"")).await;
    assert_eq!(get, answer(405, "Method Not Allowed\n"));
    let put = serve_internal(&member, &Method::PUT, whole(b"")).await;
    assert_eq!(put, answer(405, "Method Not Allowed\n"));
    let large = answer(413, "request body too large\n");
    assert_eq!(
        serve_keep_alive(&member, &POST, Body::TooLarge).await,
        large
    );
    let bytes = Bytes::from(vec![0; MAX_REQUEST_BYTES + 1]);
    assert_eq!(
        serve_internal(&member, &POST, Body::Whole(bytes)).await,
        large
    );
    let broken = serve_keep_alive(&member, &POST, Body::Broken).await;
    assert_eq!(broken, answer(400, "error reading body\n"));
    let garbage = answer(400, "error unmarshalling request\n");
    assert_eq!(
        serve_keep_alive(&member, &POST, whole(b"\x08")).await,
        garbage
    );
    assert_eq!(
        serve_internal(&member, &POST, whole(b"\x0a\x05\x08")).await,
        garbage
    );

    let renewed = serve_keep_alive(&member, &POST, whole(b"\x08\xac\x02")).await;
    assert_eq!(
        renewed,
        message(Bytes::from_static(b"\x10\xac\x02\x18\x3c"))
    );
    let unknown = answer(404, "lease not found\n");
    assert_eq!(
        serve_keep_alive(&member, &POST, whole(b"\x08\x07")).await,
        unknown
    );
    assert_eq!(serve_keep_alive(&member, &POST, whole(b"")).await, unknown);
    assert_eq!(
        serve_internal(&member, &POST, whole(b"\x0a\x02\x08\x07")).await,
        unknown
    );
    assert_eq!(serve_internal(&member, &POST, whole(b"")).await, unknown);

    let asked = whole(b"\x0a\x05\x08\xac\x02\x10\x01");
    let told = serve_internal(&member, &POST, asked).await;
    // A header without anything; id, seconds left, seconds granted, the key.
    let bytes = b"\x0a\x0c\x0a\x00\x10\xac\x02\x18\x3b\x20\x3c\x2a\x01k";
    assert_eq!(told, message(Bytes::from_static(bytes)));

    member.leases.elected(None);
    let deposed = serve_keep_alive(&member, &POST, whole(b"\x08\xac\x02")).await;
    assert_eq!(deposed, answer(400, "not a primary lessor\n"));
    let deposed = serve_internal(&member, &POST, whole(b"\x0a\x03\x08\xac\x02")).await;
    assert_eq!(deposed, answer(500, "not a primary lessor\n"));
    drop(member);
    server.stop();
}

/// A leader that gives one answer.
#[derive(Debug)]
struct Fake {
    answer: Result<(u16, Bytes), String>,
    asked: Mutex<Vec<Question>>,
}

impl AskLeader for Arc<Fake> {
    fn ask(&self, question: Question) -> Boxed<'_, Result<(u16, Bytes), String>> {
        self.asked.lock().push(question);
        Box::pin(std::future::ready(self.answer.clone()))
    }
}

fn fake(answer: Result<(u16, &'static [u8]), &str>) -> (Arc<Fake>, OverHttp<Arc<Fake>>) {
    let answer = answer.map(|(status, body)| (status, Bytes::from_static(body)));
    let fake = Arc::new(Fake {
        answer: answer.map_err(str::to_owned),
        asked: Mutex::default(),
    });
    (fake.clone(), OverHttp(fake))
}

fn retry(text: &str) -> Unanswered {
    Unanswered::Retry(text.to_owned())
}

#[tokio::test]
async fn what_a_follower_asks() {
    let (leader, leases) = fake(Ok((200, b"\x10\xac\x02\x18\x3c")));
    assert_eq!(leases.keep_alive(300).await, Ok(60));
    let wrong = retry("lease: renew id mismatch");
    assert_eq!(leases.keep_alive(301).await, Err(wrong));
    let question = Question {
        path: "/leases",
        body: Bytes::from_static(b"\x08\xac\x02"),
    };
    assert_eq!(leader.asked.lock()[0], question);

    let (leader, leases) = fake(Ok((
        200,
        b"\x0a\x0c\x0a\x00\x10\xac\x02\x18\x3b\x20\x3c\x2a\x01k",
    )));
    let found = leases.time_to_live(300, true).await.unwrap();
    assert_eq!((found.left, found.granted), (59, 60));
    assert_eq!(found.keys, ["k"]);
    let question = Question {
        path: "/leases/internal",
        body: Bytes::from_static(b"\x0a\x05\x08\xac\x02\x10\x01"),
    };
    assert_eq!(leader.asked.lock()[0], question);
}

#[tokio::test]
async fn what_a_follower_makes_of_a_refusal() {
    for (given, expected) in [
        (Ok((404, &b"lease not found\n"[..])), Unanswered::NotFound),
        (
            Ok((408, b"whatever\n")),
            retry("waiting for node to catch up its applied index has timed out"),
        ),
        (
            Ok((400, b"not a primary lessor\n")),
            retry("lease: unknown error(not a primary lessor)"),
        ),
        (Ok((500, b"")), retry("lease: unknown error()")),
        (Err("connection refused"), retry("connection refused")),
    ] {
        let (_, leases) = fake(given);
        assert_eq!(leases.keep_alive(1).await, Err(expected.clone()));
        assert_eq!(leases.time_to_live(1, false).await, Err(expected));
    }
    let (_, leases) = fake(Ok((200, b"\x0f")));
    let Err(Unanswered::Retry(text)) = leases.keep_alive(1).await else {
        panic!("garbage is no answer");
    };
    assert!(text.starts_with("lease: "), "{text}");
}

/// A member that follows asks until it gets an answer.
#[tokio::test]
async fn a_follower_passes_on_what_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, over) = fake(Ok((200, b"\x10\xac\x02\x18\x3c")));
    let server = start(&dir);
    let member = server.member();
    member.leases.elected(None);
    member
        .leader
        .send_modify(|leader| leader.id = member.id + 1);
    *member.leader_leases.lock() = Arc::new(over);
    assert_eq!(member.renew(300).await, Ok(60));
    assert_eq!(fake.asked.lock().len(), 1);
    drop(member);
    server.stop();
}
