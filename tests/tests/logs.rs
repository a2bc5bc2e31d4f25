//! Where log lines go, how they look, and what is refused, beside genuine etcd where it is there.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::cluster::wait_for;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::ports::Port;
use retcd_tests::process::Process;
use retcd_tests::{binary, http1, peers, run};
use serde_json::Value;

fn start(flags: &[&str]) -> Member {
    Member::start(Setup::new(binary::ours()).flags(flags.iter().copied()))
}

fn temporary() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory")
}

/// Runs a server that does not start.
fn refused(program: &Path, flags: &[String]) -> Output {
    let dir = temporary();
    let data = dir.path().join("data");
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).arg(format!("--data-dir={}", data.display())).args(flags);
    let out = run::output(&mut command);
    assert!(!data.exists(), "{flags:?} made a directory");
    out
}

/// What it said last, as (`msg`, `error`).
fn last_words(out: &Output) -> (String, String) {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let record = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let record = record.unwrap_or_else(|| panic!("no record in {text}"));
    let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    (field("msg"), field("error"))
}

#[test]
fn settings_that_make_no_log_are_refused_as_in_etcd() {
    let ours = binary::ours();
    let go = peers::go_etcd();
    let dir = temporary();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let rotation = |json: &str| {
        vec![
            format!("--log-outputs={}", file("a.log")),
            "--enable-log-rotation".into(),
            format!("--log-rotation-config-json={json}"),
        ]
    };
    let plain = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
    let prefix = "improperly formatted log rotation config: ";
    let cases = [
        (plain(&["--logger=capnslog"]), ""),
        (plain(&["--logger=x"]), ""),
        (plain(&["--log-format=xml"]), ""),
        (plain(&["--log-outputs=default,stderr"]), ""),
        (plain(&["--log-outputs=stderr,systemd/journal"]), ""),
        (plain(&["--enable-log-rotation"]), ""),
        (plain(&["--enable-log-rotation", "--log-outputs=stdout"]), ""),
        (vec!["--enable-log-rotation".into(), format!("--log-outputs={},{}", file("a"), file("b"))], ""),
        (rotation(r#"{"maxsize": "1"}"#), ""),
        (rotation(r#"{"maxage": 1.5}"#), ""),
        (rotation(r#"{"compress": 1}"#), ""),
        (rotation("[]"), ""),
        // Their parsers have words of their own behind this.
        (rotation("{"), prefix),
        (rotation(r#"{"maxsize": 1,}"#), prefix),
        (vec![format!("--log-outputs={}", file("none/a.log"))], ""),
    ];
    for (flags, prefix) in cases {
        let own = refused(&ours, &flags);
        let (message, error) = last_words(&own);
        assert_eq!((own.status.code(), &*message), (Some(1), "failed to verify flags"), "{flags:?}: {error}");
        let Some(go) = &go else { continue };
        let theirs = refused(go, &flags);
        let (_, expected) = last_words(&theirs);
        assert_eq!(theirs.status.code(), Some(1), "{flags:?}");
        if prefix.is_empty() {
            assert_eq!(error, expected, "{flags:?}");
        } else {
            assert!(error.starts_with(prefix) && expected.starts_with(prefix), "{flags:?}: {error} for {expected}");
        }
    }
}

/// A console line without time and place: level, message and fields, between tabs.
fn console(log: &str, message: &str) -> Vec<String> {
    let line = log.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("{message}:\n{log}"));
    let mut parts: Vec<String> = line.split('\t').map(str::to_owned).collect();
    assert!(parts.len() >= 4, "{line}");
    let time = parts.remove(0);
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape.starts_with("0000-00-00T00:00:00.000000"), "{line}");
    let caller = parts.remove(1);
    let (file, number) = caller.rsplit_once(':').unwrap_or_else(|| panic!("{line}"));
    assert!(file.contains('/') && number.chars().all(|c| c.is_ascii_digit()), "{line}");
    parts
}

#[test]
fn console_lines_look_like_etcds() {
    let flags = ["--log-format=console", "--log-outputs=stdout"];
    let member = start(&flags);
    let [first, second] = ["ready to serve client requests", "serving client traffic insecurely"];
    [first, second].iter().for_each(|text| member.wait_for_log(text));
    let own = member.log().text();
    let ready = console(&own, first);
    assert_eq!(ready, ["info", "ready to serve client requests"]);
    let serving = console(&own, second);
    let place = format!("{{\"traffic\": \"grpc+http\", \"address\": \"127.0.0.1:{}\"}}", member.port());
    assert_eq!(serving[1..], ["serving client traffic insecurely; this is strongly discouraged!".to_owned(), place]);
    let Some(go) = peers::go_etcd() else { return };
    let member = Member::start(Setup::new(go).flags(flags));
    [first, second].iter().for_each(|text| member.wait_for_log(text));
    let theirs = member.log().text();
    assert_eq!(console(&theirs, first), ready);
    let line = console(&theirs, second);
    assert_eq!(line[1].split(';').next(), Some("serving client traffic insecurely"));
    assert!(line[2].starts_with("{\"traffic\": \"grpc+http\", \"address\": \""), "{line:?}");
}

/// A JSON line with the names that it has, in their order, and instead of each value what kind of value it is.
fn shape(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c == '"' || c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with('"') {
            let mut escaped = false;
            let closes = |(_, c): &(usize, char)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            };
            rest.char_indices().skip(1).find(closes).expect("a string ends").0 + 1
        } else {
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(end);
        let is_name = after.starts_with(':');
        out.push_str(if is_name {
            token
        } else if token.starts_with('"') {
            "text"
        } else {
            "number"
        });
        rest = after;
    }
    out + rest
}

#[test]
fn json_lines_have_etcds_fields_in_etcds_order() {
    let line = r#"{"level":"info","n":12.5,"a":["x:","\"y\":"],"msg":"a"}"#;
    assert_eq!(shape(line), r#"{"level":text,"n":number,"a":[text,text],"msg":text}"#);
    let Some(go) = peers::go_etcd() else { return };
    let members = [binary::ours(), go].map(|program| Member::start(Setup::new(program)));
    for message in [
        "Initialize and start etcd server",
        "configuring peer listeners",
        "configuring client listeners",
        "kvstore restored",
        "restore consistentIndex",
        "starting local member",
        "serving peer traffic",
        "added member",
        "published local member to cluster through raft",
        "ready to serve client requests",
        "set initial cluster version",
        "enabled capabilities for version",
        "updated storage version",
        "notifying init daemon",
        "successfully notified init daemon",
    ] {
        let quoted = format!("\"msg\":\"{message}\"");
        let [own, theirs] = members.each_ref().map(|member| {
            member.wait_for_log(&quoted);
            let log = member.log().text();
            let line = log.lines().find(|line| line.contains(&quoted));
            shape(line.unwrap_or_else(|| panic!("{message}:\n{log}")))
        });
        assert_eq!(own, theirs, "{message}");
    }
    let logs = members.each_ref().map(|member| member.log().text());
    let times = logs.each_ref().map(|log| {
        let line: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("a record");
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        line["ts"].as_str().expect("a time").chars().map(digits).collect::<String>()
    });
    assert_eq!(times, ["0000-00-00T00:00:00.000000Z", "0000-00-00T00:00:00.000000Z"]);
    let complaints = logs[0].lines().filter(|line| line.contains("\"level\":\"error\""));
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn lines_go_to_several_outputs_and_the_level_changes_while_it_runs() {
    let dir = temporary();
    let path = dir.path().join("etcd.log");
    let mut member = start(&[&format!("--log-outputs=stderr,stdout,{}", path.display()), "--log-level=warn"]);
    let level = |method, body: &str| {
        let answer = http1::request(member.port(), method, "/config/local/log", &[], body.as_bytes());
        let answer = answer.expect("an answer");
        (answer.status, answer.text())
    };
    assert_eq!(level("GET", ""), (200, "{\"Level\":\"WARN\"}\n".to_owned()));
    assert_eq!(level("PUT", r#"{"Level":"INFO"}"#).0, 204);
    assert_eq!(level("PUT", r#"{"Level":"loud"}"#).0, 400);
    assert_eq!(level("GET", ""), (200, "{\"Level\":\"INFO\"}\n".to_owned()));
    let foreign = [("Origin", "http://example.com")];
    let body = br#"{"Level":"ERROR"}"#;
    let answer = http1::request(member.port(), "PUT", "/config/local/log", &foreign, body).expect("an answer");
    assert_eq!(answer.status, 403);
    member.terminate();
    let written = member.log().whole();
    let file = std::fs::read_to_string(&path).expect("a log");
    assert!(!file.contains("ready to serve client requests"), "{file}");
    for text in ["log level changed", "received signal; shutting down"] {
        assert_eq!(file.matches(text).count(), 1, "{file}");
        assert_eq!(written.matches(text).count(), 2, "{written}");
    }
}

#[test]
fn full_files_are_renamed_and_compressed_and_slow_requests_are_shown() {
    let dir = temporary();
    let path = dir.path().join("etcd.log");
    let config = r#"--log-rotation-config-json={"maxsize":1,"maxbackups":2,"compress":true}"#;
    let outputs = format!("--log-outputs={}", path.display());
    // Nothing is applied in less.
    let mut member = start(&[&outputs, "--enable-log-rotation", config, "--warning-apply-duration=1ns"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let files = || {
        let entries = std::fs::read_dir(dir.path()).expect("readable");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        for n in 0..10_000 {
            let key = format!("{n:-<1500}");
            let request = pb::PutRequest { key: key.into(), value: "secret".into(), ..Default::default() };
            let outcome = connection.call("/etcdserverpb.KV/Put", &request).await;
            assert!(outcome.ok(), "{outcome:?}");
            if n % 50 == 0 && files().len() > 2 {
                return;
            }
        }
        panic!("no file is ever full: {:?}", files());
    });
    wait_for("compressed files", || files().iter().any(|name| name.ends_with(".log.gz")).then_some(()));
    member.terminate();
    let names = files();
    assert!(names.iter().all(|name| name == "etcd.log" || name.starts_with("etcd-20")), "{names:?}");
    let text = std::fs::read_to_string(&path).expect("a log");
    let slow = text.lines().find(|line| line.contains("apply request took too long")).expect("a slow request");
    let slow: Value = serde_json::from_str(slow).expect("a record");
    assert_eq!((&slow["level"], &slow["expected-duration"]), (&"warn".into(), &"1ns".into()));
    let request = slow["request"].as_str().expect("a request");
    assert!(
        request.starts_with("header:<ID:") && request.contains("> put:<key:\"") && request.contains("value_size:6")
    );
    assert!(!text.contains("secret"), "values are not logged");
}

/// How a client begins that was given https:// by mistake; waits until it is sent away.
fn hello(port: u16) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    let _ = stream.write_all(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03");
    // There is no more to wait for.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn what_repeats_itself_is_counted_and_explained() {
    const TIMES: u64 = 60;
    let mut member = start(&[]);
    for _ in 0..TIMES {
        hello(member.port());
    }
    let message = "rejected connection on client endpoint";
    member.wait_for_log(message);
    member.terminate();
    let log = member.log().whole();
    let records: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<_> = records.iter().filter(|record| record["msg"] == message).collect();
    let told: u64 = lines.iter().map(|line| line["repeated"].as_u64().unwrap_or(1)).sum();
    assert_eq!(told, TIMES, "{log}");
    assert!(lines.len() < 10, "{log}");
    assert!(lines[0]["repeated"].is_null() && lines[1]["since"].is_string(), "{lines:?}");
    let explain = lines[0]["explain"].as_str().expect("an explanation");
    assert!(explain.contains("use http:// in its endpoints"), "{explain}");
}

/// A datagram to the journal: `NAME=value` and a line feed, or the name, a line feed, how long the value is, and the value.
fn fields(mut datagram: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut found = BTreeMap::new();
    while !datagram.is_empty() {
        let end = datagram.iter().position(|b| matches!(b, b'=' | b'\n')).expect("the end of a name");
        let (name, rest) = (&datagram[..end], &datagram[end + 1..]);
        let (value, rest) = if datagram[end] == b'=' {
            let end = rest.iter().position(|b| *b == b'\n').expect("the end of a value");
            rest.split_at(end)
        } else {
            let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
            rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("small"))
        };
        found.insert(text(name), text(value));
        datagram = rest.strip_prefix(b"\n").expect("the end of a field");
    }
    found
}

/// What a member tells the journal until it is ready, and what it writes besides. Its `/run` is its own, with a journal
/// that is this test.
fn journal(program: &Path) -> (Vec<BTreeMap<String, String>>, String) {
    let dir = temporary();
    let socket = UnixDatagram::bind(dir.path().join("socket")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let (client, peer) = (Port::take(), Port::take());
    let url = |port: &Port| format!("http://127.0.0.1:{}", port.number());
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind \"$1\" /run/systemd/journal \
                  && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path()).arg(program).args([
        format!("--data-dir={}", dir.path().join("data").display()),
        format!("--listen-client-urls={}", url(&client)),
        format!("--advertise-client-urls={}", url(&client)),
        format!("--listen-peer-urls={}", url(&peer)),
        format!("--initial-advertise-peer-urls={}", url(&peer)),
        format!("--initial-cluster=default={}", url(&peer)),
        "--log-outputs=systemd/journal".into(),
    ]);
    let mut process = Process::start(command);
    let mut told: Vec<BTreeMap<String, String>> = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let deadline = Instant::now() + PATIENCE;
    let ready = "ready to serve client requests";
    // The queue of a socket is short: when this test does not get to read, some lines go elsewhere.
    while !told.iter().any(|record| record["MESSAGE"].contains(ready)) && !process.log().text().contains(ready) {
        match socket.recv(&mut buffer) {
            Ok(length) => told.push(fields(&buffer[..length])),
            Err(error) => assert!(Instant::now() < deadline, "{error}: {told:?}, {}", process.tail()),
        }
    }
    process.kill();
    while let Ok(length) = socket.recv(&mut buffer) {
        told.push(fields(&buffer[..length]));
    }
    (told, process.log().whole())
}

#[test]
fn the_journal_is_told_what_etcd_tells_it() {
    let may = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]).output();
    if !may.is_ok_and(|out| out.status.success()) {
        peers::skipped("the right to mount", "run as root, with unshare of util-linux");
        return;
    }
    let (own, besides) = journal(&binary::ours());
    let with = |told: &[BTreeMap<String, String>], priority: &str| {
        let found = told.iter().find(|record| record["PRIORITY"] == priority).cloned();
        found.unwrap_or_else(|| panic!("nothing of {priority}: {told:?}"))
    };
    // The first of all lines is a warning, and there is room for some.
    assert!(with(&own, "4")["MESSAGE"].starts_with("{\"level\":\"warn\",\"ts\":"), "{own:?}");
    let info = with(&own, "6");
    let message: Value = serde_json::from_str(&info["MESSAGE"]).expect("a record as ever");
    assert_eq!(message["level"], "info");
    // As in Go: the name of the program.
    let ours = binary::ours();
    assert_eq!(Some(info["SYSLOG_IDENTIFIER"].as_str()), ours.file_name().and_then(|name| name.to_str()));
    let twice = own.iter().find(|record| besides.contains(&record["MESSAGE"]));
    assert_eq!(twice, None, "what the journal takes is nowhere else: {besides}");
    let Some(go) = peers::go_etcd() else { return };
    let go = with(&journal(&go).0, "6");
    assert_eq!(go.keys().collect::<Vec<_>>(), info.keys().collect::<Vec<_>>());
    assert_eq!(go["SYSLOG_IDENTIFIER"], "etcd");
    assert!(!go["PACKAGE"].is_empty() && !info["PACKAGE"].is_empty());
}
