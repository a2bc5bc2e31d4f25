//! HTTP/1.1 on the client port.

use crate::script::{Call, Script};

fn request(method: &'static str, path: &str) -> Call {
    Call::Http { method, path: path.into(), headers: vec![], body: "" }
}

fn with(method: &'static str, path: &str, headers: &[(&'static str, &'static str)], body: &'static str) -> Call {
    Call::Http { method, path: path.into(), headers: headers.to_vec(), body }
}

pub(crate) fn paths() -> Script {
    let mut s = Script::new("http");
    for path in [
        "/health",
        "/health?serializable=true",
        "/health?serializable=false",
        "/health?serializable=nonsense",
        "/health?exclude=NOSPACE&exclude=CORRUPT",
        "/health?exclude=NONSENSE",
        "/livez",
        "/livez?verbose",
        "/livez?verbose=true",
        "/livez?exclude=serializable_read",
        "/livez?verbose&exclude=serializable_read",
        "/livez?verbose&exclude=nonsense",
        "/livez/serializable_read",
        "/livez/serializable_read?verbose",
        "/readyz",
        "/readyz?verbose",
        "/readyz?verbose&exclude=data_corruption&exclude=linearizable_read",
        "/readyz/data_corruption",
        "/readyz/serializable_read",
        "/readyz/linearizable_read",
        "/readyz/non_learner",
        "/version",
        "/metrics",
    ] {
        s.good(format!("GET {path}"), request("GET", path));
    }
    for path in [
        "/",
        "/nope",
        "/health/",
        "/health/nope",
        "/Health",
        "//health",
        "/./health",
        "/version/",
        "/versions",
        "/livez/",
        "/livez/nope",
        "/livez/linearizable_read",
        "/readyz/",
        "/readyz/nope",
        "/metrics/",
        "/metrics/x",
        "/v2/keys",
        "/v2/members",
        "/v2/machines",
        "/v1/",
        "/debug",
        "/debug/pprof/",
        "/debug/requests",
        "/favicon.ico",
        "/health%2F",
        "/nope?x=%zz",
        "/health?exclude=%zz",
        "/etcdserverpb.KV/Range",
        "/..%2f..%2fetc/passwd",
        "/members",
        "/raft",
    ] {
        let step = s.bad(format!("GET {path}"), request("GET", path));
        if path.starts_with("/v2/") {
            step.differs("it names the flag that serves it");
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "NONSENSE"] {
        for path in ["/health", "/livez", "/readyz", "/version"] {
            s.bad(format!("{method} {path}"), request(method, path));
        }
    }
    s.bad("an escaped path", request("GET", "/%68ealth")).differs("paths are compared as they are sent");
    for method in ["POST", "HEAD"] {
        s.bad(format!("{method} /nope"), request(method, "/nope"));
    }
    for path in ["/health", "/version", "/nope", "/v3/kv/range"] {
        s.good(format!("OPTIONS {path}"), request("OPTIONS", path));
    }
    s.good("with an origin", with("GET", "/health", &[("Origin", "http://example.com")], ""));
    s.good(
        "preflight",
        with("OPTIONS", "/health", &[("Origin", "http://example.com"), ("Access-Control-Request-Method", "GET")], ""),
    );
    s.good("another host", with("GET", "/version", &[("Host", "example.com")], ""));
    s.good("a body for GET", with("GET", "/health", &[], "body"));
    s.bad(
        "gRPC over HTTP/1.1",
        with("POST", "/etcdserverpb.KV/Range", &[("Content-Type", "application/grpc")], "xxxxx"),
    );
    s.bad(
        "an upgrade that is not wanted",
        with("GET", "/health", &[("Upgrade", "nonsense"), ("Connection", "upgrade")], ""),
    );

    let raw = |text: &str| Call::Tcp(text.as_bytes().to_vec());
    s.good("HTTP/1.0", raw("GET /health HTTP/1.0\r\n\r\n"));
    s.bad("no host", raw("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"));
    s.bad("two hosts", raw("GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"));
    s.bad("no HTTP at all", raw("nonsense\r\n\r\n"));
    s.bad("HTTP/0.9", raw("GET /health\r\n\r\n"));
    s.bad("HTTP/3.0", raw("GET /health HTTP/3.0\r\nHost: a\r\n\r\n"));
    s.bad("a header without colon", raw("GET /health HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"));
    s.bad("a header name with a blank", raw("GET /health HTTP/1.1\r\nHost: a\r\nno nsense: 1\r\n\r\n"));
    s.bad("a length that is no number", raw("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"));
    s.bad("a negative length", raw("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"));
    s.bad("TLS on a plain port", Call::Tcp(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n\r\n".to_vec()));
    s.good("still there", request("GET", "/health"));
    s
}
