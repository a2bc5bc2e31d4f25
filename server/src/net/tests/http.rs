//! The plain endpoints: whole answers, as etcd 3.7.1 gives them.

use super::fake::Server;
use super::wire::{connect, exchange, receive};
use crate::net::Surface;

const CORS: &str = "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\n\
    Access-Control-Allow-Origin: *\n\
    Access-Control-Allow-Headers: accept, content-type, authorization\n";

/// Sends one request; gives the answer without `Date`, with plain line ends.
async fn ask(server: &Server, method: &str, target: &str, headers: &str) -> String {
    let request = format!("{method} {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    let answer = exchange(server.addr, request.as_bytes()).await;
    let answer = String::from_utf8(answer).unwrap().replace("\r\n", "\n");
    let lines = answer.split_inclusive('\n');
    let kept = lines.filter(|line| !line.starts_with("Date: ") && *line != "Connection: close\n");
    kept.collect()
}

async fn get(server: &Server, target: &str) -> String {
    ask(server, "GET", target, "Host: test\r\n").await
}

/// The parts of an answer that differ.
fn answer(status: &str, headers: &str, cors: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\n{headers}{cors}Content-Length: {length}\n\n{body}")
}

const PLAIN: &str = "Content-Type: text/plain; charset=utf-8\n";
const NOSNIFF: &str = "Content-Type: text/plain; charset=utf-8\nX-Content-Type-Options: nosniff\n";

#[tokio::test]
async fn a_healthy_member() {
    let server = Server::start();
    let ok = |body| answer("200 OK", NOSNIFF, CORS, body);
    let healthy = answer("200 OK", PLAIN, CORS, r#"{"health":"true","reason":""}"#);
    assert_eq!(get(&server, "/health").await, healthy);
    for (target, body) in [
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", "ok\n"),
        ("/livez?exclude=serializable_read&verbose", "ok\n"),
        ("/livez/serializable_read?exclude=serializable_read", "ok\n"),
        (
            "/readyz?verbose&exclude=nope",
            "[+]data_corruption ok\n[+]serializable_read ok\n\
             [+]linearizable_read ok\n[+]non_learner ok\nok\n",
        ),
        (
            "/readyz?verbose&exclude=data_corruption&exclude=non_learner",
            "[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
        ),
        ("/readyz/non_learner?verbose=x", "[+]non_learner ok\nok\n"),
    ] {
        assert_eq!(get(&server, target).await, ok(body), "{target}");
    }
}

#[tokio::test]
async fn a_sick_member() {
    let server = Server::start();
    *server.fake.sick.lock() = Some("ALARM CORRUPT");
    let bad = |body| answer("503 Service Unavailable", NOSNIFF, CORS, body);
    assert_eq!(
        get(&server, "/health").await,
        bad("{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n")
    );
    let healthy = answer("200 OK", PLAIN, CORS, r#"{"health":"true","reason":""}"#);
    assert_eq!(get(&server, "/health?exclude=CORRUPT").await, healthy);
    // Failures show all checks, verbose or not.
    assert_eq!(
        get(&server, "/readyz").await,
        bad(
            "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
             [+]linearizable_read ok\n[+]non_learner ok\n\n"
        )
    );
    assert_eq!(
        get(&server, "/readyz/data_corruption").await,
        bad("[-]data_corruption failed: alarm activated: CORRUPT\n\n")
    );
    let ok = answer("200 OK", NOSNIFF, CORS, "ok\n");
    assert_eq!(get(&server, "/readyz?exclude=data_corruption").await, ok);
    assert_eq!(get(&server, "/readyz/linearizable_read").await, ok);

    *server.fake.sick.lock() = Some("RAFT NO LEADER");
    assert_eq!(get(&server, "/health?serializable=true").await, healthy);
    *server.fake.sick.lock() = Some("RANGE ERROR:<&>\"");
    assert_eq!(
        get(&server, "/health").await,
        bad("{\"health\":\"false\",\"reason\":\"RANGE ERROR:\\u003c\\u0026\\u003e\\\"\"}\n")
    );
}

#[tokio::test]
async fn version_and_metrics() {
    let server = Server::start();
    let json = "Content-Type: application/json\n";
    let body = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.6.0"}"#;
    let expected = answer("200 OK", json, CORS, body);
    assert_eq!(get(&server, "/version").await, expected);
    *server.fake.cluster_version.lock() = "not_decided".to_owned();
    let body = r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"3.6.0"}"#;
    let expected = answer("200 OK", json, CORS, body);
    assert_eq!(get(&server, "/version").await, expected);

    let text = "Content-Type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores\n";
    let expected = answer("200 OK", text, CORS, "up 1\n");
    assert_eq!(get(&server, "/metrics").await, expected);
    let posted = ask(&server, "POST", "/metrics", "Host: test\r\n").await;
    assert_eq!(posted, expected);
}

#[tokio::test]
async fn wrong_paths_and_methods() {
    let server = Server::start();
    let nothing = answer("404 Not Found", NOSNIFF, CORS, "404 page not found\n");
    for target in [
        "/",
        "/nope",
        "/health/",
        "/version/",
        "/readyz/",
        "/livez/nope",
        "/livez/non_learner",
        "/livezz",
        "/etcdserverpb.KV/Range",
    ] {
        assert_eq!(get(&server, target).await, nothing, "{target}");
        let posted = ask(&server, "POST", target, "Host: test\r\n").await;
        assert_eq!(posted, nothing, "{target}");
    }
    // The status is etcd's, and the first words.
    let old = get(&server, "/v2/keys").await;
    let named = old.contains("404 page not found") && old.contains("--enable-v2");
    assert!(old.starts_with("HTTP/1.1 404 ") && named, "{old}");
    let allow = format!("{NOSNIFF}Allow: GET\n");
    let refused = answer(
        "405 Method Not Allowed",
        &allow,
        CORS,
        "Method Not Allowed\n",
    );
    for target in ["/health", "/version", "/livez", "/readyz/non_learner"] {
        for method in ["POST", "PUT", "DELETE", "FOO"] {
            let answered = ask(&server, method, target, "Host: test\r\n").await;
            assert_eq!(answered, refused, "{method} {target}");
        }
        let head = ask(&server, "HEAD", target, "Host: test\r\n").await;
        assert_eq!(head, refused.strip_suffix("Method Not Allowed\n").unwrap());
        let options = ask(&server, "OPTIONS", target, "Host: test\r\n").await;
        assert_eq!(options, answer("200 OK", "", CORS, ""));
    }
    let html = "Content-Type: text/html; charset=utf-8\nLocation: /health?a=1&b=2\n";
    let link = "<a href=\"/health?a=1&amp;b=2\">Temporary Redirect</a>.\n\n";
    assert_eq!(
        get(&server, "//health?a=1&b=2").await,
        answer("307 Temporary Redirect", html, CORS, link)
    );
    let posted = ask(&server, "POST", "//health", "Host: test\r\n").await;
    let bare = answer("307 Temporary Redirect", "Location: /health\n", CORS, "");
    assert_eq!(posted, bare);
}

#[tokio::test]
async fn a_request_is_for_one_host() {
    let server = Server::start();
    for (headers, text) in [
        ("", "400 Bad Request: missing required Host header"),
        ("Host: a\r\nHost: a\r\n", "400 Bad Request"),
        ("Host: a\r\nHost: b\r\n", "400 Bad Request"),
        ("Host: a b\r\n", "400 Bad Request: malformed Host header"),
        ("Host: a/b\r\n", "400 Bad Request: malformed Host header"),
        ("Host: \u{e9}\r\n", "400 Bad Request: malformed Host header"),
    ] {
        let refused = answer("400 Bad Request", PLAIN, "", text);
        let answered = ask(&server, "GET", "/health", headers).await;
        assert_eq!(answered, refused, "{headers:?}");
        // Whatever else the client has to say is not listened to.
        let request = format!("GET /health HTTP/1.1\r\n{headers}\r\n").repeat(2);
        let answers = exchange(server.addr, request.as_bytes()).await;
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 400").count(), 1, "{answers}");
    }
    for host in ["", "[::1]:2379", "a_b~c:1"] {
        let answered = ask(&server, "GET", "/health", &format!("Host: {host}\r\n")).await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{host}: {answered}");
    }
}

#[tokio::test]
async fn hosts_and_origins() {
    let server = Server::with(Surface::Client, |settings| {
        settings.host_whitelist = vec!["foo".to_owned(), "::1".to_owned()];
        settings.cors = vec!["http://a.b:80".to_owned()];
    });
    let healthy = |cors| answer("200 OK", PLAIN, cors, r#"{"health":"true","reason":""}"#);
    for host in ["foo", "foo:99", "[::1]:23", "[::1]"] {
        let host = format!("Host: {host}\r\n");
        let answered = ask(&server, "GET", "/health", &host).await;
        assert_eq!(answered, healthy(""), "{host}");
    }
    let allowed = CORS.replace("*", "http://a.b:80");
    let answered = ask(
        &server,
        "GET",
        "/health",
        "Host: foo\r\nOrigin: http://a.b:80\r\n",
    )
    .await;
    assert_eq!(answered, healthy(&allowed));
    let answered = ask(
        &server,
        "GET",
        "/health",
        "Host: foo\r\nOrigin: http://x\r\n",
    )
    .await;
    assert_eq!(answered, healthy(""));

    for (host, shown) in [
        ("evil", "evil"),
        ("FOO", "FOO"),
        ("[::2]:1", "::2"),
        ("", ""),
    ] {
        let body = format!(
            "\netcd received your request, but the Host header was unrecognized.\n\n\
             To fix this, choose one of the following options:\n\
             - Enable TLS, then any HTTPS request will be allowed.\n\
             - Add the hostname you want to use to the whitelist in settings.\n  \
             - e.g. etcd --host-whitelist \"{shown}\"\n\n\
             This requirement has been added to help prevent \"DNS Rebinding\" attacks \
             (CVE-2018-5702).\n\n"
        );
        let expected = answer("421 Misdirected Request", NOSNIFF, "", &body);
        let headers = format!("Host: {host}\r\nOrigin: http://a.b:80\r\n");
        for method in ["GET", "OPTIONS"] {
            let answered = ask(&server, method, "/health", &headers).await;
            assert_eq!(answered, expected, "{method} {host}");
        }
    }
}

#[tokio::test]
async fn a_peer_url_serves_less() {
    let peer = Server::with(Surface::Peer, |_| ());
    let json = "Content-Type: application/json\n";
    let body = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.6.0"}"#;
    assert_eq!(
        get(&peer, "/version").await,
        answer("200 OK", json, "", body)
    );
    let nothing = answer("404 Not Found", NOSNIFF, "", "404 page not found\n");
    for target in ["/health", "/metrics", "/livez", "/"] {
        assert_eq!(get(&peer, target).await, nothing, "{target}");
    }
    let options = ask(&peer, "OPTIONS", "/version", "Host: test\r\n").await;
    assert!(options.starts_with("HTTP/1.1 405 "), "{options}");

    let mut client = connect(peer.addr).await;
    let request = http::Request::get("http://test/version").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = receive(response).await.unwrap();
    assert_eq!((response.http, &response.data[..]), (200, body.as_bytes()));

    // Over HTTP/2 nobody else sees to it that `HEAD` has no body, and that there is a date.
    let request = http::Request::head("http://test/version").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["content-length"], "19");
    let date = response.headers()["date"].to_str().unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    assert!(response.into_body().is_end_stream());
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start();
    let twice = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n\
        GET /livez HTTP/1.0\r\n\r\n";
    let answer = exchange(server.addr, twice.as_bytes()).await;
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.matches("ok\n").count(), 2, "{answer}");
}

#[tokio::test]
async fn the_log_level_is_read_and_changed() {
    let log = crate::log::Log::discard();
    let handle = log.clone();
    let server = Server::with(Surface::Client, |settings| settings.log = Some(handle));
    log.set_level(slog::Level::Info);
    let ask = async |method: &str, headers: &str, body: &str| {
        let request = format!(
            "{method} /config/local/log HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(server.addr, request.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        format!("{status} {body}")
    };
    assert_eq!(ask("GET", "", "").await, "200 {\"Level\":\"INFO\"}\n");
    // As etcd 3.4 took it.
    assert_eq!(ask("PUT", "", r#"{"Level":"DEBUG"}"#).await, "204 ");
    assert_eq!(log.level(), slog::Level::Debug);
    assert_eq!(ask("PUT", "", r#"{"level":"warn"}"#).await, "204 ");
    assert_eq!(log.level(), slog::Level::Warning);
    for body in [
        "",
        "x",
        "{}",
        r#"{"Level":7}"#,
        r#"{"Level":"loud"}"#,
        r#"{"Level":""}"#,
    ] {
        assert!(
            ask("PUT", "", body).await.starts_with("400 Invalid "),
            "{body}"
        );
    }
    let large = format!("{{\"Level\":\"{}\"}}", "x".repeat(2000));
    assert!(
        ask("PUT", "", &large)
            .await
            .starts_with("400 the body cannot be read")
    );
    assert!(
        ask("POST", "", r#"{"Level":"info"}"#)
            .await
            .starts_with("405 ")
    );
    // A page in a browser says where it is from.
    let origin = "Origin: http://example.com\r\n";
    assert!(
        ask("PUT", origin, r#"{"Level":"info"}"#)
            .await
            .starts_with("403 ")
    );
    assert_eq!(log.level(), slog::Level::Warning);

    // Where no log is to be changed there is nothing.
    let server = Server::start();
    assert!(
        get(&server, "/config/local/log")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}
