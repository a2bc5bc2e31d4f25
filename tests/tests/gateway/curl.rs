//! `curl` over TLS with a client's certificate, over both versions of HTTP, and over a file.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use retcd_tests::http1::Answer;
use retcd_tests::member::{Member, Setup};
use retcd_tests::pki::{Issued, Spec};
use retcd_tests::ports::Port;
use retcd_tests::{binary, peers};
use tempfile::TempDir;

use crate::plan::Server;
use crate::shown;

/// The certificates, and what is asked with them.
struct Curl {
    dir: TempDir,
}

/// What a request is sent over.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// The port of this number.
    Port(u16),
    /// This file.
    File(&'a Path),
}

impl Curl {
    /// `None`, and a word on it, where there is no `curl`.
    fn new() -> Option<Self> {
        if Command::new("curl").arg("--version").output().is_err() {
            peers::skipped("curl", "apt-get install curl");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("retcd-curl-").tempdir().expect("a directory");
        let ca = Issued::self_signed(&Spec::new("ca").names(&[]).usages(&[]).authority());
        ca.put(dir.path(), "ca");
        ca.issue(&Spec::new("both")).put(dir.path(), "both");
        ca.issue(&Spec::new("server").usages(&[ServerAuth])).put(dir.path(), "server");
        ca.issue(&Spec::new("client").names(&[]).usages(&[ClientAuth])).put(dir.path(), "client");
        Some(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a server whose certificate is `name`, for certified clients alone, on `port` and in `file`.
    fn serve(&self, program: PathBuf, name: &str, port: u16, file: &Path) -> Member {
        let mut member = Member::prepare(Setup::new(program));
        let path = |name: String| self.path(&name).display().to_string();
        member.set_flags([
            format!("--listen-client-urls={},https://127.0.0.1:{port},unixs://{}", member.url(), file.display()),
            format!("--cert-file={}", path(format!("{name}.pem"))),
            format!("--key-file={}", path(format!("{name}-key.pem"))),
            format!("--trusted-ca-file={}", path("ca.pem".into())),
            "--client-cert-auth".into(),
            "--host-whitelist=127.0.0.1".into(),
        ]);
        member.restart();
        member
    }

    fn command(&self, way: Way<'_>, path: &str, own: bool, args: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]).arg(self.path("ca.pem"));
        if own {
            command.arg("--cert").arg(self.path("client.pem")).arg("--key").arg(self.path("client-key.pem"));
        }
        let url = match way {
            Way::Port(port) => format!("https://127.0.0.1:{port}{path}"),
            Way::File(file) => {
                command.arg("--unix-socket").arg(file);
                format!("https://localhost{path}")
            }
        };
        command.args(args).arg(url);
        command
    }

    /// What came of a request.
    fn ask(&self, server: &Server<'_>, way: Way<'_>, path: &str, args: &[&str]) -> String {
        let output = self.command(way, path, true, &[&["--include"], args].concat()).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return format!("no answer: {output:?}");
        };
        let mut lines = head.lines();
        let own = |name: &str| name.eq_ignore_ascii_case("grpc-metadata-content-type");
        let status = lines.next().unwrap_or_default();
        let mut words = status.split(' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|code| code.parse().ok()).unwrap_or_default();
        // Errors of etcd have it over TLS or not, as it happens.
        let headers = lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| status < 400 || !own(name));
        let answer = Answer {
            status,
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
            body: body.as_bytes().to_vec(),
        };
        let dated = answer.header("date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT"));
        format!("{version} dated={dated} {}", shown::answer(&answer, server, &[]))
    }

    /// The first two replies of a watch, during which something is put.
    fn watch(&self, server: &Server<'_>, way: Way<'_>, version: &str) -> String {
        let created = r#"{"create_request":{"key":"d2F0Y2g="}}"#;
        let mut command = self.command(way, "/v3/watch", true, &["--no-buffer", version, "--data", created]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("curl runs");
        let mut child = Killed(child);
        let mut lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
        let mut next = || match lines.next() {
            Some(line) => shown::line_of(&line.expect("a line"), server, &[]),
            None => "END".to_owned(),
        };
        let first = next();
        let put = self.ask(server, way, "/v3/kv/put", &["--data", r#"{"key":"d2F0Y2g=","value":"MQ=="}"#]);
        format!("{first}\n    {}\n    {put}", next())
    }

    /// What a server says, one line for each request.
    fn talk(&self, program: PathBuf) -> Vec<String> {
        let (port, file) = (Port::take(), self.path("client.sock"));
        let member = self.serve(program, "both", port.number(), &file);
        let server = Server::of(&member);
        let mut said = Vec::new();
        for (name, way) in [("port", Way::Port(port.number())), ("file", Way::File(&file))] {
            for version in ["--http1.1", "--http2"] {
                let requests: &[(&str, &[&str])] = &[
                    ("/v3/kv/put", &["--data", r#"{"key":"Zm9v","value":"YmFy"}"#]),
                    ("/v3/kv/range", &["--data", r#"{"key":"Zm9v"}"#]),
                    ("/v3beta/kv/range", &["--data", r#"{"key":"bm9uZQ=="}"#]),
                    ("/v3/kv/range", &["--data", "nonsense"]),
                    ("/v3/kv/range", &["--request", "GET"]),
                    ("/v3/kv/range", &["--request", "OPTIONS", "--header", "Origin: http://a.example"]),
                    ("/v3/kv/range", &["--data", "{}", "--header", "Host: evil.example"]),
                    ("/v3/nope", &["--data", "{}"]),
                    ("/v3/lease/keepalive", &["--data", r#"{"ID":5}{"ID":6}"#]),
                    ("/v3", &[]),
                    ("/health", &[]),
                    ("/health", &["--head"]),
                    ("/version", &["--header", "Host: evil.example"]),
                    ("/nope", &[]),
                    ("//health", &[]),
                ];
                for (path, args) in requests {
                    let answer = self.ask(&server, way, path, &[&[version], *args].concat());
                    said.push(format!("{name} {version} {path} {args:?}\n    {answer}"));
                }
                said.push(format!("{name} {version} watch\n    {}", self.watch(&server, way, version)));
            }
            let stranger = self.command(way, "/health", false, &[]).output().expect("curl runs");
            assert!(!stranger.status.success() && stranger.stdout.is_empty(), "{name}: {stranger:?}");
        }
        said
    }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn certified_clients() {
    let (Some(curl), Some(etcd)) = (Curl::new(), peers::go_etcd()) else { return };
    let theirs = curl.talk(etcd);
    let ours = curl.talk(binary::ours());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(theirs.len(), ours.len());
    let served = ours.iter().filter(|line| line.contains("dated=true 200")).count();
    assert!(served > 30, "{served} of {}: {ours:#?}", ours.len());
}

/// etcd's gateway shows the server's certificate to the server, which then has to be good for clients too.
#[test]
fn a_certificate_for_servers_alone() {
    let Some(curl) = Curl::new() else { return };
    let (port, file) = (Port::take(), curl.path("client.sock"));
    let member = curl.serve(binary::ours(), "server", port.number(), &file);
    let server = Server::of(&member);
    for way in [Way::Port(port.number()), Way::File(&file)] {
        let put = curl.ask(&server, way, "/v3/kv/put", &["--data", r#"{"key":"Zm9v","value":"YmFy"}"#]);
        assert!(put.starts_with("HTTP/2 dated=true 200"), "{put}");
        let events = curl.watch(&server, way, "--http2");
        assert!(events.contains(r#""key":"d2F0Y2g=""#), "{events}");
    }
}
