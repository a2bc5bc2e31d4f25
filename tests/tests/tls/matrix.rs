//! Every kind of certificate at every kind of port: the decision is genuine etcd's, and the log says why.

use std::fmt::Write as _;
use std::path::Path;

use rcgen::ExtendedKeyUsagePurpose as Usage;
use retcd_tests::pki::{Issued, Spec, put};
use retcd_tests::secure::{self, Tried, VERSIONS, Version};
use retcd_tests::{binary, peers};
use serde_json::Value;

use crate::rig::{Endpoint, Rig, flags};

const DAY: i64 = 86_400;

/// What is tried.
enum Attempt<'a> {
    /// Over TLS, with a certificate or none.
    Tls(Option<&'a Issued>),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// A row: what is tried, which check refuses it at the client and at the peer port (`""`: none).
struct Row<'a>(&'static str, Attempt<'a>, &'static str, &'static str);

impl Row<'_> {
    fn check(&self, endpoint: Endpoint) -> &'static str {
        match endpoint {
            Endpoint::Client => self.2,
            Endpoint::Peer => self.3,
        }
    }
}

fn attempt(rig: &Rig, endpoint: Endpoint, attempt: &Attempt<'_>, version: Version) -> Tried {
    let port = rig.port(endpoint);
    match attempt {
        Attempt::Tls(own) => secure::get(port, "/version", *own, &[version]),
        Attempt::Bytes(bytes) => secure::raw(port, bytes),
    }
}

/// Runs all rows against both, and returns how many cells there were.
fn run(settings: &str, rows: &[Row<'_>], endpoints: &[Endpoint], client: &[String], peer: &[String]) -> usize {
    let Some(go) = peers::go_etcd() else {
        return 0;
    };
    let theirs = Rig::start(go, client, peer);
    let ours = Rig::start(binary::ours(), client, peer);
    let (mut cells, mut wrong) = (0, String::new());
    for row in rows {
        for &endpoint in endpoints {
            for version in VERSIONS {
                let one = cell(&theirs, &ours, row, endpoint, version);
                cells += 1;
                if let Err(why) = one {
                    let _ = write!(wrong, "\n{settings}, {endpoint:?} port, {:?}, {}: {why}", version.version, row.0);
                }
                if matches!(row.1, Attempt::Bytes(_)) {
                    // The bytes say which version.
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "of {cells} cells:{wrong}");
    cells
}

fn cell(theirs: &Rig, ours: &Rig, row: &Row<'_>, endpoint: Endpoint, version: Version) -> Result<(), String> {
    let go = attempt(theirs, endpoint, &row.1, version);
    let our = attempt(ours, endpoint, &row.1, version);
    if go.is_served() != our.is_served() {
        return Err(format!("etcd: {:?}, ours: {:?}", go.answer, our.answer));
    }
    let check = row.check(endpoint);
    if our.is_served() != check.is_empty() {
        return Err(format!("expected {check:?}, both: {:?}", our.answer));
    }
    if our.is_served() {
        return Ok(());
    }
    if our.answer.as_ref().is_ok_and(|answer| !answer.is_empty() && matches!(row.1, Attempt::Tls(_))) {
        return Err(format!("answered: {:?}", our.answer));
    }
    let (go, our) = (theirs.refusal(endpoint, go.local), ours.refusal(endpoint, our.local));
    if our["check"] != check || our["advice"].as_str().is_none_or(str::is_empty) {
        return Err(format!("expected {check:?}: {our}"));
    }
    // Go has not noted it yet when it finds no common version.
    if go["server-name"] != "" && our["server-name"] != go["server-name"] {
        return Err(format!("server name: etcd {go}, ours {our}"));
    }
    let (go, our) = (error(&go), error(&our));
    if go != our {
        return Err(format!("etcd says {go:?}, ours {our:?}"));
    }
    Ok(())
}

/// The error without what differs by right: dates, addresses of name servers, and whom Go suspects.
fn error(line: &Value) -> String {
    let error = line["error"].as_str().unwrap_or_default();
    let error = error.split(": current time ").next().unwrap_or_default();
    let error = error.split(" (possibly because of").next().unwrap_or_default();
    let error = error.split(" (lookup ").next().unwrap_or_default();
    error.to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Authority, revocation list, and what a member needs to start.
struct Base {
    dir: tempfile::TempDir,
    ca: Issued,
}

impl Base {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
        let ca = Issued::self_signed(&Spec::new("authority").names(&[]).usages(&[]).authority());
        ca.put(dir.path(), "ca");
        ca.issue(&Spec::new("server")).put(dir.path(), "server");
        Self { dir, ca }
    }

    fn file(&self, name: &str) -> String {
        path(&self.dir.path().join(name)).to_owned()
    }

    /// Flags for a side that demands certificates.
    fn mutual(&self, endpoint: Endpoint, more: &[(&str, &str)]) -> Vec<String> {
        let (cert, key, ca) = (self.file("server.pem"), self.file("server-key.pem"), self.file("ca.pem"));
        let mut pairs = vec![
            ("cert-file", cert.as_str()),
            ("key-file", &key),
            ("client-cert-auth", "true"),
            ("trusted-ca-file", &ca),
        ];
        pairs.extend(more);
        flags(endpoint, &pairs)
    }
}

#[test]
fn mutual_tls_with_a_revocation_list() {
    let base = Base::new();
    let (dir, ca) = (base.dir.path(), &base.ca);
    let authority = |name: &str| Spec::new(name).names(&[]).usages(&[]).authority();
    // Of the trusted ones, one is a thing of the past and one of the future.
    let past = Issued::self_signed(&authority("past").valid(-3 * DAY, -DAY));
    let future = Issued::self_signed(&authority("future").valid(DAY, 3 * DAY));
    let own_root = Issued::self_signed(&Spec::new("own root"));
    let own_authority = Issued::self_signed(&authority("own authority"));
    let trusted = [ca, &past, &future, &own_root, &own_authority].map(Issued::pem).concat();
    put(dir, "ca.pem", trusted.as_bytes());

    let foreign = Issued::self_signed(&authority("foreign")).issue(&Spec::new("good"));
    let impostor = Issued::self_signed(&authority("authority")).issue(&Spec::new("good"));
    let revoked = ca.issue(&Spec::new("revoked"));
    let middle = ca.issue(&authority("middle"));
    let revoked_middle = ca.issue(&authority("revoked middle"));
    let expired_middle = ca.issue(&authority("expired middle").valid(-3 * DAY, -DAY));
    let no_authority = ca.issue(&Spec::new("no authority"));
    put(dir, "crl.der", &ca.revoke(&[1, revoked.serial, revoked_middle.serial]));

    let of = |spec: Spec| ca.issue(&spec);
    let good = of(Spec::new("good"));
    let nameless = of(Spec::new("").names(&[]));
    let expired = of(Spec::new("expired").valid(-3 * DAY, -DAY));
    let early = of(Spec::new("early").valid(DAY, 3 * DAY));
    let for_servers = of(Spec::new("server").usages(&[Usage::ServerAuth]));
    let for_clients = of(Spec::new("client").usages(&[Usage::ClientAuth]));
    let for_code = of(Spec::new("code").usages(&[Usage::CodeSigning]));
    let for_any = of(Spec::new("any").usages(&[Usage::Any]));
    let for_all = of(Spec::new("all").usages(&[]));
    let as_authority = of(Spec::new("an authority").authority());
    let other_address = of(Spec::new("other").names(&["10.0.0.1", "::1"]));
    let two_addresses = of(Spec::new("two").names(&["10.0.0.1", "127.0.0.1"]));
    let local_name = of(Spec::new("local").names(&["localhost"]));
    let other_name = of(Spec::new("other").names(&["nowhere.invalid"]));
    let wild_name = of(Spec::new("wild").names(&["*.invalid"]));
    let name_not_address = of(Spec::new("name").names(&["10.0.0.1", "localhost"]));
    let neither = of(Spec::new("neither").names(&["10.0.0.1", "nowhere.invalid"]));
    let through = middle.issue(&Spec::new("through"));
    let headless = middle.issue(&Spec::new("headless")).alone();
    let through_expired = expired_middle.issue(&Spec::new("through expired"));
    let through_revoked = revoked_middle.issue(&Spec::new("through revoked"));
    let through_nobody = no_authority.issue(&Spec::new("through nobody"));
    let of_the_past = past.issue(&Spec::new("of the past"));
    let of_the_future = future.issue(&Spec::new("of the future"));
    let stranger = Issued::self_signed(&Spec::new("stranger"));

    let tls = |own| Attempt::Tls(Some(own));
    let bytes = |text: &str| Attempt::Bytes(text.as_bytes().to_vec());
    let rows = [
        Row("no certificate", Attempt::Tls(None), "no-certificate", "no-certificate"),
        Row("good", tls(&good), "", ""),
        Row("no names at all", tls(&nameless), "", ""),
        Row("foreign authority", tls(&foreign), "authority", "authority"),
        Row("authority of the same name", tls(&impostor), "authority", "authority"),
        Row("signed by itself", tls(&stranger), "authority", "authority"),
        Row("signed by itself and trusted", tls(&own_root), "", ""),
        Row("an authority signed by itself and trusted", tls(&own_authority), "", ""),
        Row("expired", tls(&expired), "expired", "expired"),
        Row("not yet valid", tls(&early), "not-yet-valid", "not-yet-valid"),
        Row("authority expired", tls(&of_the_past), "expired", "expired"),
        Row("authority not yet valid", tls(&of_the_future), "not-yet-valid", "not-yet-valid"),
        Row("revoked", tls(&revoked), "revoked", "revoked"),
        Row("for servers only", tls(&for_servers), "key-usage", "key-usage"),
        Row("for clients only", tls(&for_clients), "", ""),
        Row("for code only", tls(&for_code), "key-usage", "key-usage"),
        Row("for anything, said so", tls(&for_any), "", ""),
        Row("for anything, not said so", tls(&for_all), "", ""),
        Row("an authority's", tls(&as_authority), "", ""),
        Row("other addresses", tls(&other_address), "", "address"),
        Row("among other addresses", tls(&two_addresses), "", ""),
        Row("name of the address", tls(&local_name), "", ""),
        Row("name of nothing", tls(&other_name), "", "address"),
        Row("wild name", tls(&wild_name), "", "address"),
        Row("other address, right name", tls(&name_not_address), "", ""),
        Row("neither address nor name", tls(&neither), "", "address"),
        Row("through an intermediate", tls(&through), "", ""),
        Row("intermediate left out", tls(&headless), "authority", "authority"),
        Row("intermediate expired", tls(&through_expired), "expired", "expired"),
        Row("intermediate revoked", tls(&through_revoked), "revoked", "revoked"),
        Row("issued by no authority", tls(&through_nobody), "authority", "authority"),
        Row("plain HTTP", bytes("GET /version HTTP/1.1\r\nHost: x\r\n\r\n"), "not-tls", "not-tls"),
        Row("plain HTTP/2", bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "not-tls", "not-tls"),
        Row("something else", bytes("SSH-2.0-x\r\n"), "not-tls", "not-tls"),
        Row("TLS 1.0", Attempt::Bytes(secure::old_hello(1)), "tls-version", "tls-version"),
        Row("TLS 1.1", Attempt::Bytes(secure::old_hello(2)), "tls-version", "tls-version"),
    ];
    let crl = base.file("crl.der");
    let client = base.mutual(Endpoint::Client, &[("crl-file", &crl)]);
    let peer = base.mutual(Endpoint::Peer, &[("crl-file", &crl)]);
    let cells = run("mutual", &rows, &[Endpoint::Client, Endpoint::Peer], &client, &peer);
    assert!(cells == 0 || cells >= 120, "{cells} cells");
}

#[test]
fn allowed_host_names() {
    let base = Base::new();
    let of = |spec: Spec| base.ca.issue(&spec);
    let named = of(Spec::new("x").names(&["127.0.0.1", "good.test"]));
    let second = of(Spec::new("x").names(&["127.0.0.1", "also.test"]));
    let wild = of(Spec::new("x").names(&["127.0.0.1", "*.deep.test"]));
    let other = of(Spec::new("x").names(&["127.0.0.1", "bad.test"]));
    let common = of(Spec::new("good.test").names(&[]));
    let tls = |own| Attempt::Tls(Some(own));
    let rows = [
        Row("allowed", tls(&named), "", ""),
        Row("another allowed", tls(&second), "", ""),
        Row("by its pattern", tls(&wild), "", ""),
        Row("not allowed", tls(&other), "hostname", "hostname"),
        Row("as common name", tls(&common), "hostname", "hostname"),
        Row("no certificate", Attempt::Tls(None), "no-certificate", "no-certificate"),
    ];
    let allowed = [("cert-allowed-hostname", "good.test,also.test,x.deep.test")];
    let client = base.mutual(Endpoint::Client, &allowed);
    let peer = base.mutual(Endpoint::Peer, &allowed);
    run("allowed host names", &rows, &[Endpoint::Client, Endpoint::Peer], &client, &peer);
}

#[test]
fn allowed_common_names() {
    let base = Base::new();
    let of = |spec: Spec| base.ca.issue(&spec);
    let first = of(Spec::new("good"));
    let second = of(Spec::new("also"));
    let other = of(Spec::new("bad").names(&["127.0.0.1", "good"]));
    let nameless = of(Spec::new(""));
    let tls = |own| Attempt::Tls(Some(own));
    // A client may have any.
    let rows = [
        Row("allowed", tls(&first), "", ""),
        Row("another allowed", tls(&second), "", ""),
        Row("not allowed", tls(&other), "", "common-name"),
        Row("no name", tls(&nameless), "", "common-name"),
    ];
    let client = base.mutual(Endpoint::Client, &[]);
    let peer = base.mutual(Endpoint::Peer, &[("cert-allowed-cn", "good,also")]);
    run("allowed common names", &rows, &[Endpoint::Client, Endpoint::Peer], &client, &peer);
}

#[test]
fn one_way_and_the_lowest_version() {
    let base = Base::new();
    let (cert, key) = (base.file("server.pem"), base.file("server-key.pem"));
    let pairs = [("cert-file", cert.as_str()), ("key-file", key.as_str())];
    let stranger = Issued::self_signed(&Spec::new("stranger"));
    let mut client = flags(Endpoint::Client, &pairs);
    let peer = flags(Endpoint::Peer, &pairs);
    let rows = [
        Row("no certificate", Attempt::Tls(None), "", ""),
        Row("any certificate", Attempt::Tls(Some(&stranger)), "", ""),
        Row("TLS 1.1", Attempt::Bytes(secure::old_hello(2)), "tls-version", "tls-version"),
    ];
    run("one-way", &rows, &[Endpoint::Client, Endpoint::Peer], &client, &peer);

    client.push("--tls-min-version=TLS1.3".into());
    let Some(go) = peers::go_etcd() else {
        return;
    };
    for program in [go, binary::ours()] {
        let rig = Rig::start(program, &client, &peer);
        for endpoint in [Endpoint::Client, Endpoint::Peer] {
            let [old, new] = VERSIONS.map(|version| secure::get(rig.port(endpoint), "/version", None, &[version]));
            assert!(new.is_served(), "{:?}", new.answer);
            assert!(!old.is_served(), "{:?}", old.answer);
            let line = rig.refusal(endpoint, old.local);
            let error = line["error"].as_str().unwrap_or_default();
            assert!(error.starts_with("tls: client offered only unsupported versions: ["), "{line}");
        }
    }
}
