//! The same calls on Go etcd 3.5 and on ours.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{binary, http1, peers};

use crate::script::{Call, Player, call};

/// Each finds what those before it left.
const CALLS: &[Call] = &[
    // files
    call("GET", "/v2/keys", ""),
    call("GET", "/v2/keys/foo", ""),
    call("PUT", "/v2/keys/foo", "value=bar"),
    call("GET", "/v2/keys/foo", ""),
    call("GET", "/v2/keys/foo/", ""),
    call("HEAD", "/v2/keys/foo", ""),
    call("PUT", "/v2/keys/foo", "value=baz"),
    call("PUT", "/v2/keys/foo?value=fromquery", ""),
    call("PUT", "/v2/keys/foo?value=fromquery", "value=frombody"),
    call("PUT", "/v2/keys/foo", "value=a%3Cb%3E%26%22c+d%0A%C3%B6"),
    call("PUT", "/v2/keys/empty", "value="),
    call("PUT", "/v2/keys/none", ""),
    call("GET", "/v2/keys/empty", ""),
    call("GET", "/v2/keys/foo?quorum=true", ""),
    call("PUT", "/v2/keys/a%20b/c%2Bd", "value=escaped"),
    call("GET", "/v2/keys/a%20b/c%2Bd", ""),
    call("PUT", "/v2/keys/quiet?noValueOnSuccess=true", "value=x"),
    call("DELETE", "/v2/keys/quiet?noValueOnSuccess=true", ""),
    // create
    call("PUT", "/v2/keys/new?prevExist=false", "value=1"),
    call("PUT", "/v2/keys/new?prevExist=false", "value=2"),
    call("PUT", "/v2/keys/new?prevExist=false&prevValue=1", "value=2"),
    call("PUT", "/v2/keys/x/y/z?prevExist=false", "value=deep"),
    call("PUT", "/v2/keys/new/below", "value=1"),
    call("GET", "/v2/keys/new/below", ""),
    call("GET", "/v2/keys/new/below/that", ""),
    call("GET", "/v2/keys/x/none/at/all", ""),
    // update
    call("PUT", "/v2/keys/new?prevExist=true", "value=2"),
    call("PUT", "/v2/keys/missing?prevExist=true", "value=2"),
    call("PUT", "/v2/keys/x?prevExist=true", "value=2"),
    // compare and swap
    call("PUT", "/v2/keys/foo", "value=one"),
    call("PUT", "/v2/keys/foo?prevValue=two", "value=three"),
    call("PUT", "/v2/keys/foo?prevValue=one", "value=two"),
    call("PUT", "/v2/keys/foo", "value=three&prevValue=two"),
    call("PUT", "/v2/keys/foo?prevIndex=@500", "value=x"),
    call("PUT", "/v2/keys/foo?prevIndex=@500&prevValue=nope", "value=x"),
    call("PUT", "/v2/keys/foo?prevIndex=0", "value=four"),
    call("PUT", "/v2/keys/foo?prevIndex=0&prevExist=true", "value=five"),
    call("PUT", "/v2/keys/missing?prevValue=x", "value=y"),
    call("PUT", "/v2/keys/x?prevValue=x", "value=y"),
    // directories
    call("PUT", "/v2/keys/dir?dir=true", ""),
    call("PUT", "/v2/keys/dir?dir=true", ""),
    call("PUT", "/v2/keys/dir", "dir=true&prevExist=false"),
    call("PUT", "/v2/keys/dir", "value=x"),
    call("GET", "/v2/keys/dir", ""),
    call("PUT", "/v2/keys/dir/b", "value=2"),
    call("PUT", "/v2/keys/dir/a", "value=1"),
    call("PUT", "/v2/keys/dir/sub/c", "value=3"),
    call("PUT", "/v2/keys/dir/_hidden", "value=h"),
    call("PUT", "/v2/keys/dir/sub/_also/x", "value=h"),
    call("GET", "/v2/keys/dir", ""),
    call("GET", "/v2/keys/dir?sorted=true", ""),
    call("GET", "/v2/keys/dir?recursive=true&sorted=true", ""),
    call("GET", "/v2/keys/dir/_hidden", ""),
    call("GET", "/v2/keys/dir/sub/_also", ""),
    call("GET", "/v2/keys/?recursive=true", ""),
    call("PUT", "/v2/keys/turned", "value=file"),
    call("PUT", "/v2/keys/turned?dir=true", ""),
    call("GET", "/v2/keys/turned", ""),
    call("PUT", "/v2/keys/turned?prevExist=true", "value=file"),
    // in order
    call("POST", "/v2/keys/queue", "value=first"),
    call("POST", "/v2/keys/queue", "value=second"),
    call("POST", "/v2/keys/queue?dir=true", ""),
    call("GET", "/v2/keys/queue?recursive=true&sorted=true", ""),
    call("POST", "/v2/keys/foo", "value=x"),
    call("POST", "/v2/keys/", "value=x"),
    // delete
    call("DELETE", "/v2/keys/foo?prevValue=nope", ""),
    call("DELETE", "/v2/keys/foo?prevIndex=@500", ""),
    call("DELETE", "/v2/keys/foo?prevValue=five", ""),
    call("DELETE", "/v2/keys/foo", ""),
    call("DELETE", "/v2/keys/empty", ""),
    call("DELETE", "/v2/keys/dir", ""),
    call("DELETE", "/v2/keys/dir?dir=true", ""),
    call("DELETE", "/v2/keys/dir?prevValue=x", ""),
    call("DELETE", "/v2/keys/dir?recursive=true", ""),
    call("DELETE", "/v2/keys/turned?dir=true", ""),
    call("DELETE", "/v2/keys/none/at/all", ""),
    // the root
    call("PUT", "/v2/keys/", "value=x"),
    call("PUT", "/v2/keys?dir=true", ""),
    call("PUT", "/v2/keys/?prevExist=true", "value=x"),
    call("PUT", "/v2/keys/?prevExist=false", "value=x"),
    call("PUT", "/v2/keys/?prevValue=x", "value=x"),
    call("DELETE", "/v2/keys/?recursive=true", ""),
    call("DELETE", "/v2/keys/?prevValue=x", ""),
    // time
    call("PUT", "/v2/keys/ttl", "value=x&ttl=1000"),
    call("GET", "/v2/keys/ttl", ""),
    call("PUT", "/v2/keys/ttl", "refresh=true&ttl=2000"),
    call("PUT", "/v2/keys/ttl?prevExist=true", "refresh=true&ttl=3000"),
    call("PUT", "/v2/keys/ttl?prevValue=x", "refresh=true&ttl=3000"),
    call("PUT", "/v2/keys/missing", "refresh=true&ttl=2000"),
    call("PUT", "/v2/keys/missing/below?prevExist=true", "refresh=true&ttl=2000"),
    call("PUT", "/v2/keys/ttl", "value=stays&ttl="),
    call("GET", "/v2/keys/ttl", ""),
    call("PUT", "/v2/keys/ttldir?dir=true", "ttl=1000"),
    call("GET", "/v2/keys/ttldir", ""),
    call("PUT", "/v2/keys/ttldir/in", "value=x&ttl=2000"),
    call("GET", "/v2/keys/?recursive=true&sorted=true", ""),
    call("DELETE", "/v2/keys/ttldir?recursive=true", ""),
    // waiting for what has happened
    call("PUT", "/v2/keys/w", "value=1"),
    call("GET", "/v2/keys/w?wait=true&waitIndex=@1", ""),
    call("GET", "/v2/keys/w?wait=true&waitIndex=@1&recursive=true", ""),
    call("GET", "/v2/keys/w?wait=true&quorum=true", ""),
    call("GET", "/v2/keys/?wait=true&waitIndex=@1&recursive=true", ""),
    // mistakes
    call("PUT", "/v2/keys/foo", "value=x&ttl=nope"),
    call("PUT", "/v2/keys/foo", "value=x&ttl=-1"),
    call("PUT", "/v2/keys/foo", "value=x&prevIndex=nope"),
    call("PUT", "/v2/keys/foo", "value=x&prevValue="),
    call("PUT", "/v2/keys/foo", "value=x&prevExist=nope"),
    call("PUT", "/v2/keys/foo", "value=x&prevExist="),
    call("PUT", "/v2/keys/foo", "value=x&refresh=nope"),
    call("PUT", "/v2/keys/foo", "refresh=true"),
    call("PUT", "/v2/keys/foo", "value=x&refresh=true&ttl=5"),
    call("PUT", "/v2/keys/foo", "value=x&dir=nope"),
    call("PUT", "/v2/keys/foo", "value=x&wait=true"),
    call("PUT", "/v2/keys/foo?value=%zz", ""),
    call("PUT", "/v2/keys/foo", "value=%4"),
    call("PUT", "/v2/keys/foo?a;b", "value=x"),
    call("GET", "/v2/keys/foo?recursive", ""),
    call("GET", "/v2/keys/foo?sorted=nope", ""),
    call("GET", "/v2/keys/foo?quorum=2", ""),
    call("GET", "/v2/keys/foo?stream=x&wait=true", ""),
    call("GET", "/v2/keys/foo?wait=true&waitIndex=-1", ""),
    call("GET", "/v2/keys/foo?wait=nope", ""),
    call("PATCH", "/v2/keys/foo", "value=x"),
    call("OPTIONS", "/v2/keys/foo", ""),
    call("GET", "/v2/keysfoo", ""),
    call("GET", "/v2", ""),
    call("GET", "/v2/", ""),
    call("GET", "/v2/nope", ""),
    // members
    call("GET", "/v2/machines", ""),
    call("HEAD", "/v2/machines", ""),
    call("POST", "/v2/machines", "x=y"),
    call("GET", "/v2/machines/", ""),
    call("GET", "/v2/members", ""),
    call("GET", "/v2/members/", ""),
    call("GET", "/v2/members/leader", ""),
    call("GET", "/v2/members/nope", ""),
    call("HEAD", "/v2/members", ""),
    call("DELETE", "/v2/members", ""),
    call("DELETE", "/v2/members/nope", ""),
    call("DELETE", "/v2/members/12ab", ""),
    call("PUT", "/v2/members/12ab", r#"{"peerURLs":["http://127.0.0.1:1"]}"#),
    call("PUT", "/v2/members/12ab", "peerURLs=x"),
    call("POST", "/v2/members", "peerURLs=x"),
    call("POST", "/v2/members", r#"{"peerURLs":[]}"#),
    call("POST", "/v2/members", r#"{"peerURLs":["nope"]}"#),
    call("POST", "/v2/members", r#"{"peerURLs":["http://127.0.0.1"]}"#),
    call("POST", "/v2/members", r#"{"peerURLs":["http://127.0.0.1:1/x"]}"#),
    // statistics
    call("POST", "/v2/stats/store", "x=y"),
    call("POST", "/v2/stats/self", "x=y"),
    call("GET", "/v2/stats/nope", ""),
    call("GET", "/v2/stats", ""),
    call("GET", "/v2/auth/enable", ""),
    // At the end: from here on indexes differ.
    call("PUT", "/v2/keys/x?dir=true&prevExist=true", "ttl=1000"),
];

/// Calls that ours answers otherwise on purpose, and why.
const OTHERWISE: &[(&str, &str)] = &[(
    "PUT /v2/keys/x?dir=true&prevExist=true",
    "etcd 3.5 takes the update of a directory for one of a file and says `Raft Internal Error`; older ones did it",
)];

fn start(program: std::path::PathBuf) -> Member {
    Member::start(Setup::new(program).flags(["--enable-v2"]))
}

fn answers(member: &Member) -> Vec<String> {
    let player = Player::new(member);
    CALLS.iter().map(|call| format!("{} {} {}\n{}", call.method, call.path, call.body, player.play(call))).collect()
}

#[test]
fn the_same_calls_get_the_same_answers() {
    let Some(go) = peers::go_etcd_of("3.5") else { return };
    let genuine = start(go);
    let expected = answers(&genuine);
    // On the same ports, and so with the same ids.
    let ours = genuine.replaced(Setup::new(binary::ours()).flags(["--enable-v2"]));
    let mut wrong = String::new();
    for (theirs, ours) in expected.iter().zip(answers(&ours)) {
        let on_purpose = OTHERWISE.iter().any(|(call, _)| theirs.starts_with(call));
        assert!(!on_purpose || *theirs != ours, "no longer otherwise: {theirs}");
        if *theirs != ours && !on_purpose {
            wrong += &format!("\n--- etcd: {theirs}\n    ours: {ours}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Statistics have the fields that etcd has.
#[test]
fn statistics_have_the_same_fields() {
    let Some(go) = peers::go_etcd_of("3.5") else { return };
    let genuine = start(go);
    let fields = |member: &Member| {
        ["store", "self", "leader"].map(|name| {
            let answer = http1::get(member.port(), &format!("/v2/stats/{name}")).expect("an answer");
            assert_eq!(answer.status, 200, "{name}");
            let value: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            let names: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
            (answer.header("content-type"), names)
        })
    };
    let expected = fields(&genuine);
    let ours = genuine.replaced(Setup::new(binary::ours()).flags(["--enable-v2"]));
    assert_eq!(fields(&ours), expected);
}

/// The head of an answer comes before the event, and events as they happen.
#[test]
fn a_stream_brings_events_as_they_come() {
    let member = start(binary::ours());
    let put = |value: &str| {
        let body = format!("value={value}");
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = http1::request(member.port(), "PUT", "/v2/keys/s/x", &form, body.as_bytes());
        assert!(answer.expect("an answer").status < 300);
    };
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, member.port())).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = "GET /v2/keys/s?wait=true&recursive=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head[0].starts_with("HTTP/1.1 200"), "{head:?}");
    assert!(head.iter().any(|line| line.starts_with("X-Etcd-Index: ")), "{head:?}");
    for value in ["1", "2", "3"] {
        put(value);
        let event = lines.by_ref().find(|line| line.starts_with('{')).expect("an event");
        let event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
        assert_eq!(event["node"]["value"], value);
    }
}

/// The command of a tutorial, as it stands there but for the address.
#[test]
fn curl_puts_a_key() {
    let member = start(binary::ours());
    let url = format!("{}/v2/keys/foo", member.url());
    let curl = |args: &[&str]| {
        let output = std::process::Command::new("curl").args(["-s", &url]).args(args).output();
        let Ok(output) = output else {
            peers::skipped("curl", "apt-get install curl");
            return None;
        };
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        Some(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"))
    };
    let Some(put) = curl(&["-XPUT", "-d", "value=bar", "-v"]) else { return };
    assert_eq!((&put["action"], &put["node"]["value"]), (&"set".into(), &"bar".into()));
    let got = curl(&[]).expect("curl is there");
    assert_eq!(got["node"], put["node"]);
}
