//! Flags about HTTP on client URLs.

use crate::plan::Plan;

/// `--cors` and `--host-whitelist` with something in them.
pub(crate) fn lists() -> Plan {
    let mut plan = Plan::new(
        "lists",
        &["--cors=http://a.example:80,https://b.example:443", "--host-whitelist=127.0.0.1,good.example,::1"],
    );
    for origin in
        ["http://a.example:80", "https://b.example:443", "http://c.example:80", "http://a.example", "*", "null"]
    {
        for (method, path) in
            [("GET", "/health"), ("OPTIONS", "/v3/kv/range"), ("POST", "/v3/kv/range"), ("GET", "/nope")]
        {
            let headers: &'static [(&'static str, &'static str)] = Box::leak(Box::new([("Origin", origin)]));
            plan.request(method, path, headers, "", &[]);
        }
    }
    plan.request("GET", "/health", &[], "", &[]);
    for host in [
        "good.example",
        "good.example:2379",
        "bad.example",
        "bad.example:80",
        "127.0.0.1",
        "[::1]:2379",
        "GOOD.example",
        "good.example.",
    ] {
        for (method, path) in [("GET", "/version"), ("POST", "/v3/kv/range"), ("OPTIONS", "/health")] {
            let headers: &'static [(&'static str, &'static str)] = Box::leak(Box::new([("Host", host)]));
            plan.request(method, path, headers, "", &[]);
        }
    }
    plan
}

/// `--enable-grpc-gateway=false`.
pub(crate) fn off() -> Plan {
    let mut plan = Plan::new("off", &["--enable-grpc-gateway=false"]);
    for path in ["/v3/kv/range", "/v3/", "/v3", "/v3beta/kv/range", "/v3/watch"] {
        plan.post(path, "{}");
        plan.request("GET", path, &[], "", &[]);
    }
    plan.request("GET", "/health", &[], "", &[]);
    plan
}
