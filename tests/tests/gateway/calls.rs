//! Calls with one answer: every route with bad input, and with good.

use crate::plan::Plan;

const LATER: &str = "users, roles and downgrades are not served yet";

/// A route, and a value that does not fit its request.
struct Route(&'static str, &'static str);

/// All routes of calls that take one request.
const ROUTES: &[Route] = &[
    Route("auth/authenticate", r#"{"name":5}"#),
    Route("auth/disable", "5"),
    Route("auth/enable", "\"x\""),
    Route("auth/role/add", r#"{"name":[]}"#),
    Route("auth/role/delete", r#"{"role":{}}"#),
    Route("auth/role/get", r#"{"role":true}"#),
    Route("auth/role/grant", r#"{"perm":{"permType":true}}"#),
    Route("auth/role/list", "null"),
    Route("auth/role/revoke", r#"{"key":"*"}"#),
    Route("auth/status", "true"),
    Route("auth/user/add", r#"{"options":{"no_password":1}}"#),
    Route("auth/user/changepw", r#"{"hashedPassword":1}"#),
    Route("auth/user/delete", r#"{"name":"\ud800"}"#),
    Route("auth/user/get", r#"{"name":1.5}"#),
    Route("auth/user/grant", r#"{"user":"a","user":"b"}"#),
    Route("auth/user/list", "-1"),
    Route("auth/user/revoke", r#"{"role":false}"#),
    Route("cluster/member/add", r#"{"peerURLs":"http://127.0.0.1:1"}"#),
    Route("cluster/member/list", r#"{"linearizable":"true"}"#),
    Route("cluster/member/promote", r#"{"ID":-1}"#),
    Route("cluster/member/remove", r#"{"ID":"x"}"#),
    Route("cluster/member/update", r#"{"peerURLs":[null]}"#),
    Route("election/campaign", r#"{"lease":"9223372036854775808"}"#),
    Route("election/leader", r#"{"name":"a b"}"#),
    Route("election/observe", r#"{"name":1}"#),
    Route("election/proclaim", r#"{"leader":[]}"#),
    Route("election/resign", r#"{"leader":{"rev":"1.5"}}"#),
    Route("kv/compaction", r#"{"physical":0}"#),
    Route("kv/deleterange", r#"{"prev_kv":"yes"}"#),
    Route("kv/lease/leases", "[1]"),
    Route("kv/lease/revoke", r#"{"ID":null,"ID":1}"#),
    Route("kv/lease/timetolive", r#"{"keys":1}"#),
    Route("kv/put", r#"{"value":5}"#),
    Route("kv/range", r#"{"sort_order":[]}"#),
    Route("kv/txn", r#"{"compare":[{"result":1.5}]}"#),
    Route("lease/grant", r#"{"TTL":true}"#),
    Route("lease/leases", "\"\""),
    Route("lease/revoke", r#"{"ID":" 1"}"#),
    Route("lease/timetolive", r#"{"ID":1e30}"#),
    Route("lock/lock", r#"{"name":"@"}"#),
    Route("lock/unlock", r#"{"key":[]}"#),
    Route("maintenance/alarm", r#"{"alarm":99999999999}"#),
    Route("maintenance/defragment", "1e5"),
    Route("maintenance/downgrade", r#"{"action":{}}"#),
    Route("maintenance/hash", "false"),
    Route("maintenance/hashkv", r#"{"revision":"0x1"}"#),
    Route("maintenance/snapshot", "0"),
    Route("maintenance/status", "[]"),
    Route("maintenance/transfer-leadership", r#"{"targetID":1.5}"#),
];

/// Adds all of them.
pub(crate) fn add(plan: &mut Plan) {
    for Route(name, misfit) in ROUTES {
        let path = format!("/v3/{name}");
        plan.request("GET", &path, &[], "", &[]);
        plan.post(&path, "x");
        plan.post(&path, "{\"a\":");
        plan.post(&path, "[]");
        plan.post(&path, misfit);
    }
    unknown_paths(plan);
    bad_json(plan);
    keys(plan);
    transactions(plan);
    leases(plan);
    members(plan);
    maintenance(plan);
    recipes(plan);
    metadata(plan);
    others(plan);
    to_come(plan);
}

fn unknown_paths(plan: &mut Plan) {
    for path in [
        "/v3/",
        "/v3",
        "/v3/kv",
        "/v3/kv/",
        "/v3/kv/range/",
        "/v3/kv/Range",
        "/v3/nope",
        "/v3/kv/range/x",
        "/v3//kv/range",
    ] {
        plan.post(path, "{}");
    }
    for path in ["/v3beta/", "/v3beta", "/v3beta/nope", "/v3alpha/kv/range", "/v4/kv/range", "/v3/kv/../kv/range"] {
        plan.request("GET", path, &[], "", &[]);
    }
    for method in ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
        plan.request(method, "/v3/kv/range", &[], "", &[]);
        plan.request(method, "/v3/nope", &[], "", &[]);
    }
    plan.post("/v3/kv/range?key=Zm9v", "");
    plan.request("POST", "/v3/kv/range", &[("Host", "example.com")], r#"{"key":"Zm9v"}"#, &[]);
}

/// What Go's two parsers say.
fn bad_json(plan: &mut Plan) {
    for body in [
        "",
        " \n\t\r",
        "{",
        "}",
        "{\"key\"}",
        "{\"key\":}",
        "{\"key\":\"Zm9v\"",
        "{\"key\":\"Zm9v\",}",
        "{\"key\":\"Zm9v\"]",
        "{key:\"Zm9v\"}",
        "{'key':'Zm9v'}",
        "{\"key\":\"Zm9v}",
        "{\"key\":\"Zm\n9v\"}",
        "{\"key\":\"Zm\\x9v\"}",
        "{\"key\":\"\\u00zz\"}",
        "{\"key\":tru}",
        "{\"key\":nul}",
        "{\"key\":falsy}",
        "{\"limit\":01}",
        "{\"limit\":1.}",
        "{\"limit\":1e}",
        "{\"limit\":-}",
        "{\"limit\":+1}",
        "{\"limit\":.5}",
        "{\"limit\":NaN}",
        "{\"limit\":1 2}",
        "[1 2]",
        "/* */{}",
        "\u{feff}{}",
        "\u{e9}",
        "tru",
        "null",
        "12",
        "\"x\"",
        "{\"key\":\"Zm9v\"} trailing",
        "{\"key\":\"Zm9v\"}{\"key\":\"YmFy\"}",
        "{\"key\":\"Zg\"}",
        "{\"key\":\"Zg=\"}",
        "{\"key\":\"Zg==\"}",
        "{\"key\":\"Z\"}",
        "{\"key\":\"Zm9v\\nYmFy\"}",
        "{\"key\":\"_-8\"}",
        "{\"key\":\"_+8\"}",
        "{\"key\":null}",
        "{\"key\":\"Zm9v\",\"limit\":\"1\"}",
        "{\"key\":\"Zm9v\",\"limit\":1.0}",
        "{\"key\":\"Zm9v\",\"limit\":1e0}",
        "{\"key\":\"Zm9v\",\"limit\":\"1e0\"}",
        "{\"key\":\"Zm9v\",\"limit\":\"1 2\"}",
        "{\"key\":\"Zm9v\",\"limit\":\"\"}",
        "{\"key\":\"Zm9v\",\"limit\":\"01\"}",
        "{\"key\":\"Zm9v\",\"limit\":10e-1}",
        "{\"key\":\"Zm9v\",\"limit\":1.5}",
        "{\"key\":\"Zm9v\",\"limit\":9223372036854775807}",
        "{\"key\":\"Zm9v\",\"limit\":9223372036854775808}",
        "{\"key\":\"Zm9v\",\"limit\":-9223372036854775808}",
        "{\"key\":\"Zm9v\",\"sort_order\":\"ASCEND\"}",
        "{\"key\":\"Zm9v\",\"sort_order\":\"ascend\"}",
        "{\"key\":\"Zm9v\",\"sort_order\":\"1\"}",
        "{\"key\":\"Zm9v\",\"sort_order\":7}",
        "{\"key\":\"Zm9v\",\"sortOrder\":\"DESCEND\",\"sortTarget\":\"MOD\"}",
        "{\"key\":\"Zm9v\",\"sort_order\":\"DESCEND\",\"sortOrder\":1}",
        "{\"Key\":\"Zm9v\"}",
        "{\"key\":\"Zm9v\",\"nonsense\":{\"a\":[1,2,{\"b\":null}]}}",
        "{\"key\":\"Zm9v\",\"[a.b]\":1,\"@type\":\"x\"}",
        "{\"key\":\"Zm9v\",\"serializable\":1}",
        "{\"key\":\"Zm9v\",\n  \"keys_only\": \"no\"}",
        "{\"\u{e9}\u{e9}\":1,\"limit\":\"x\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud83d\\ude00\",\"key\":\"Zm9v\"}",
        "{\"a\":\"\\ud83dxxxxxx\"}",
        "{\"\\u006bey\":\"Zm9v\"}",
    ] {
        plan.post("/v3/kv/range", body);
    }
    plan.act("deep nesting that nobody knows", |server| {
        let body = format!("{{\"key\":\"Zm9v\",\"x\":{}{}}}", "[".repeat(9990), "]".repeat(9990));
        crate::streams::posted(server, "/v3/kv/range", &body)
    });
    plan.act("nesting that is too deep", |server| {
        let body = format!("{{\"x\":{}", "[".repeat(10_001));
        crate::streams::posted(server, "/v3/kv/range", &body)
    });
    plan.act("a byte that is no UTF-8", |server| {
        let answer = retcd_tests::http1::request(server.port(), "POST", "/v3/kv/range", &[], b"{\"key\":\"\xff\"}");
        crate::shown::answer(&answer.expect("an answer"), server, &[])
    });
}

fn keys(plan: &mut Plan) {
    for (path, body) in [
        ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
        ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#),
        ("/v3/kv/put", r#"{"key":"Zm9w","value":""}"#),
        ("/v3/kv/put", r#"{"key":"YQ==","value":"//79","prevKv":true}"#),
        ("/v3/kv/put", r#"{"key":"Zm9v","ignore_value":true,"prev_kv":true}"#),
        ("/v3/kv/put", r#"{"key":"Zm9v","ignoreValue":true,"value":"YQ=="}"#),
        ("/v3/kv/put", r#"{"key":"bm9uZQ==","ignore_value":true}"#),
        ("/v3/kv/put", r#"{"key":"Zm9v","lease":"77"}"#),
        ("/v3/kv/put", r#"{"key":"Zm9v","lease":-1,"ignore_lease":true}"#),
        ("/v3/kv/put", r#"{"value":"YmFy"}"#),
        ("/v3/kv/put", "{}"),
        ("/v3beta/kv/put", r#"{"key":"YmV0YQ==","value":"YmV0YQ=="}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
        ("/v3beta/kv/range", r#"{"key":"Zm9v","range_end":"Zm9x"}"#),
        ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","limit":"2"}"#),
        ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","sort_order":"DESCEND","sort_target":"VALUE"}"#),
        ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","keys_only":true}"#),
        ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":"200"}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":"-1"}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","serializable":true,"min_mod_revision":"3","maxModRevision":3}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","sort_order":3}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","sort_target":-1}"#),
        ("/v3/kv/range", r#"{"key":"bm9uZQ=="}"#),
        ("/v3/kv/deleterange", r#"{"key":"Zm9w","prev_kv":true}"#),
        ("/v3/kv/deleterange", r#"{"key":"Zm9w"}"#),
        ("/v3/kv/deleterange", r#"{"key":"YQ==","range_end":"Yg==","prevKv":true}"#),
        ("/v3/kv/deleterange", "{}"),
        ("/v3/kv/compaction", r#"{"revision":"3"}"#),
        ("/v3/kv/compaction", r#"{"revision":3,"physical":true}"#),
        ("/v3/kv/compaction", r#"{"revision":"1000"}"#),
        ("/v3/kv/compaction", "{}"),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
    ] {
        plan.post(path, body);
    }
    plan.act("a value of a megabyte", |server| {
        let body = format!("{{\"key\":\"YmlnMQ==\",\"value\":\"{}\"}}", "QUJD".repeat(350_000));
        crate::streams::posted(server, "/v3/kv/put", &body)
    });
    plan.act("the same twice, read", |server| {
        let body = format!("{{\"key\":\"YmlnMg==\",\"value\":\"{}\"}}", "QUJD".repeat(350_000));
        let put = crate::streams::posted(server, "/v3/kv/put", &body);
        let read = crate::streams::posted(server, "/v3/kv/range", r#"{"key":"Ymln","range_end":"Ymlo"}"#);
        format!("{put} {} bytes {}", read.len(), &read[..300])
    });
    plan.act("a value that is too large", |server| {
        let body = format!("{{\"key\":\"YmlnMQ==\",\"value\":\"{}\"}}", "QUJD".repeat(600_000));
        crate::streams::posted(server, "/v3/kv/put", &body)
    });
    plan.act("a message that is too large", |server| {
        let body = format!("{{\"key\":\"YmlnMQ==\",\"value\":\"{}\"}}", "QUJD".repeat(800_000));
        crate::streams::posted(server, "/v3/kv/put", &body)
    });
    plan.post("/v3/kv/deleterange", r#"{"key":"Ymln","range_end":"Ymlo"}"#);
}

fn transactions(plan: &mut Plan) {
    for body in [
        "{}",
        r#"{"compare":[{"target":"VERSION","key":"Zm9v","version":"0","result":"GREATER"}],"success":[{"request_put":{"key":"eA==","value":"MQ=="}},{"request_range":{"key":"eA=="}}],"failure":[{"request_delete_range":{"key":"eA=="}}]}"#,
        r#"{"compare":[{"target":3,"key":"eA==","value":"MQ=="}],"success":[{"requestDeleteRange":{"key":"eA==","prev_kv":true}}]}"#,
        r#"{"compare":[{"target":"CREATE","key":"eA==","createRevision":0}],"success":[{"requestTxn":{"success":[{"requestPut":{"key":"eA==","value":"Mg=="}}]}}],"failure":[]}"#,
        r#"{"compare":[{"target":"MOD","key":"eA==","mod_revision":"1","result":"NOT_EQUAL"},{"target":"LEASE","key":"eA==","lease":0,"range_end":"eQ=="}],"success":[{"request_range":{"key":"eA==","range_end":"eQ=="}}]}"#,
        r#"{"compare":[{"target":"VALUE","key":"eA==","value":null,"version":"1"}]}"#,
        r#"{"compare":[{"target":"VALUE","key":"eA==","value":"","version":"1"}]}"#,
        r#"{"compare":[{"result":"NONSENSE","key":"eA=="}]}"#,
        r#"{"compare":[{"result":9,"key":"eA=="}]}"#,
        r#"{"compare":[{}]}"#,
        r#"{"success":[{}]}"#,
        r#"{"success":[null]}"#,
        r#"{"success":null,"failure":null}"#,
        r#"{"success":[{"request_put":{"key":"eA=="}},{"request_put":{"key":"eA=="}}]}"#,
        r#"{"success":[{"request_put":{"key":"eA=="},"request_range":{"key":"eA=="}}]}"#,
        r#"{"success":{"request_put":{"key":"eA=="}}}"#,
        r#"{"success":[{"request_put":{}}]}"#,
        r#"{"success":[{"request_put":{"key":"eA==","lease":"1"}}]}"#,
        r#"{"success":[[]]}"#,
    ] {
        plan.post("/v3/kv/txn", body);
    }
    plan.act("a transaction of too many operations", |server| {
        let ops: Vec<_> = (0..129).map(|i| format!("{{\"request_put\":{{\"key\":\"{i:04}\"}}}}")).collect();
        crate::streams::posted(server, "/v3/kv/txn", &format!("{{\"success\":[{}]}}", ops.join(",")))
    });
    plan.act("a transaction of many", |server| {
        let ops: Vec<_> = (0..128).map(|i| format!("{{\"request_put\":{{\"key\":\"{i:04}\"}}}}")).collect();
        crate::streams::posted(server, "/v3/kv/txn", &format!("{{\"success\":[{}]}}", ops.join(",")))
    });
    plan.act("transactions in transactions", |server| {
        let nested = |levels: usize| {
            let open = r#"{"success":[{"request_txn":"#.repeat(levels);
            format!("{open}{{\"success\":[{{\"request_put\":{{\"key\":\"eA==\"}}}}]}}{}", "}]}".repeat(levels))
        };
        crate::streams::posted(server, "/v3/kv/txn", &nested(20))
    });
}

fn leases(plan: &mut Plan) {
    const TTL: &[&str] = &["TTL"];
    for (path, body, hidden) in [
        ("/v3/lease/grant", r#"{"TTL":"1000","ID":"7001"}"#, &[][..]),
        ("/v3/lease/grant", r#"{"TTL":1000,"ID":7002}"#, &[]),
        ("/v3/lease/grant", r#"{"TTL":1000,"ID":7001}"#, &[]),
        ("/v3/lease/grant", r#"{"TTL":"1000"}"#, &["ID"]),
        ("/v3/lease/grant", r#"{"TTL":"9000000001","ID":1}"#, &[]),
        ("/v3/lease/grant", r#"{"TTL":"-5","ID":"7003"}"#, &[]),
        ("/v3/lease/grant", r#"{"ttl":5,"id":"7004"}"#, &["ID"]),
        ("/v3/kv/put", r#"{"key":"bGVhc2U=","value":"MQ==","lease":"7001"}"#, &[]),
        ("/v3/kv/range", r#"{"key":"bGVhc2U="}"#, &[]),
        ("/v3/lease/timetolive", r#"{"ID":"7001","keys":true}"#, TTL),
        ("/v3/kv/lease/timetolive", r#"{"ID":7002,"keys":true}"#, TTL),
        ("/v3/lease/timetolive", r#"{"ID":"1"}"#, &[]),
        ("/v3/lease/timetolive", "{}", &[]),
        ("/v3/kv/lease/revoke", r#"{"ID":"7002"}"#, &[]),
        ("/v3/lease/revoke", r#"{"ID":"7002"}"#, &[]),
        ("/v3/lease/revoke", "{}", &[]),
        ("/v3/lease/revoke", r#"{"ID":"7003"}"#, &[]),
        ("/v3/lease/leases", "{}", &["ID"]),
        ("/v3/kv/lease/leases", "", &["ID"]),
        ("/v3beta/lease/leases", "", &["ID"]),
    ] {
        plan.request("POST", path, &[], body, hidden);
    }
}

fn members(plan: &mut Plan) {
    for (path, body) in [
        ("/v3/cluster/member/list", "{}"),
        ("/v3/cluster/member/list", r#"{"linearizable":true}"#),
        ("/v3beta/cluster/member/list", ""),
        ("/v3/cluster/member/add", "{}"),
        ("/v3/cluster/member/add", r#"{"peerURLs":[]}"#),
        ("/v3/cluster/member/add", r#"{"peerURLs":["nonsense"]}"#),
        ("/v3/cluster/member/add", r#"{"peerURLs":["ftp://127.0.0.1:1"]}"#),
        ("/v3/cluster/member/remove", "{}"),
        ("/v3/cluster/member/remove", r#"{"ID":"12"}"#),
        ("/v3/cluster/member/promote", "{}"),
        ("/v3/cluster/member/promote", r#"{"ID":"12"}"#),
        ("/v3/cluster/member/promote", r#"{"ID":"{member}"}"#),
        ("/v3/cluster/member/update", "{}"),
        ("/v3/cluster/member/update", r#"{"ID":12,"peerURLs":["http://127.0.0.1:1"]}"#),
        ("/v3/cluster/member/update", r#"{"ID":12,"peerURLs":["nonsense"]}"#),
    ] {
        plan.post(path, body);
    }
    plan.post("/v3/cluster/member/update", r#"{"ID":"{member}","peerURLs":["nonsense"]}"#)
        .differs("etcd takes it, and every member of the cluster panics on it");
}

fn maintenance(plan: &mut Plan) {
    const STATUS: &[&str] = &["raftIndex", "raftAppliedIndex", "raftTerm", "dbSize", "dbSizeInUse"];
    plan.request("POST", "/v3/maintenance/status", &[], "{}", STATUS);
    plan.request("POST", "/v3/maintenance/status", &[], "", STATUS);
    plan.request("POST", "/v3/maintenance/hash", &[], "{}", &["hash"]);
    for (path, body) in [
        ("/v3/maintenance/hashkv", "{}"),
        ("/v3/maintenance/hashkv", r#"{"revision":"5"}"#),
        ("/v3/maintenance/hashkv", r#"{"revision":"1"}"#),
        ("/v3/maintenance/hashkv", r#"{"revision":"5000"}"#),
        ("/v3/maintenance/alarm", "{}"),
        ("/v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"77","alarm":"NOSPACE"}"#),
        ("/v3/maintenance/alarm", r#"{"action":"GET","alarm":"NOSPACE"}"#),
        ("/v3/maintenance/alarm", r#"{"action":0,"alarm":2}"#),
        ("/v3/kv/put", r#"{"key":"Zm9v"}"#),
        ("/v3/maintenance/alarm", r#"{"action":2,"memberID":77,"alarm":1}"#),
        ("/v3/maintenance/alarm", r#"{"action":"NONSENSE"}"#),
        ("/v3/maintenance/defragment", "{}"),
        ("/v3/maintenance/transfer-leadership", "{}"),
        ("/v3/maintenance/transfer-leadership", r#"{"targetID":"12"}"#),
        ("/v3/maintenance/transfer-leadership", r#"{"targetID":"{member}"}"#),
    ] {
        plan.post(path, body);
    }
}

fn recipes(plan: &mut Plan) {
    for (path, body) in [
        ("/v3/lease/grant", r#"{"TTL":1000,"ID":255}"#),
        ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"255"}"#),
        ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"12"}"#),
        ("/v3/lock/unlock", r#"{"key":"bG9jay9mZg=="}"#),
        ("/v3/lock/unlock", r#"{"key":"bG9jay9mZg=="}"#),
        ("/v3/lock/unlock", "{}"),
        ("/v3/election/leader", "{}"),
        ("/v3/election/leader", r#"{"name":"ZWxlY3Q="}"#),
        ("/v3/election/campaign", r#"{"name":"ZWxlY3Q=","lease":255,"value":"bWU="}"#),
        ("/v3/election/leader", r#"{"name":"ZWxlY3Q="}"#),
        ("/v3/election/proclaim", "{}"),
        (
            "/v3/election/proclaim",
            r#"{"leader":{"name":"ZWxlY3Q=","key":"ZWxlY3QvZmY=","rev":"1","lease":"255"},"value":"eW91"}"#,
        ),
        ("/v3/election/resign", "{}"),
        ("/v3/lease/revoke", r#"{"ID":255}"#),
        ("/v3/election/leader", r#"{"name":"ZWxlY3Q="}"#),
    ] {
        plan.post(path, body);
    }
}

fn metadata(plan: &mut Plan) {
    let body = r#"{"key":"Zm9v"}"#;
    for headers in [
        &[("Grpc-Metadata-Hasleader", "true")][..],
        &[("Grpc-Metadata-Client-Api-Version", "3.7")],
        &[("Grpc-Timeout", "30S")],
        &[("Grpc-Timeout", "1n")],
        &[("Grpc-Timeout", "-1S")],
        &[("Grpc-Timeout", "0S")],
        &[("Grpc-Timeout", "soon")],
        &[("Grpc-Timeout", "5")],
        &[("Grpc-Timeout", "S")],
        &[("Grpc-Metadata-X-Bin", "AAE=")],
        &[("Grpc-Metadata-X-Bin", "!")],
        &[("Content-Type", "application/json")],
        &[("Content-Type", "text/plain; charset=utf-8")],
        &[("Content-Type", "nonsense; =")],
        &[("Accept", "text/html")],
        &[("Origin", "http://example.com")],
        &[("Authorization", "nobody")],
    ] {
        plan.request("POST", "/v3/kv/range", headers, body, &[]);
    }
    plan.request("POST", "/v3/maintenance/snapshot", &[("Grpc-Timeout", "soon")], "{}", &[]);
    plan.request("POST", "/v3/maintenance/snapshot", &[("Grpc-Timeout", "-1S")], "{}", &[]);
    plan.request("POST", "/v3/kv/range", &[("Grpc-Timeout", "-1S")], "nonsense", &[]);
}

/// What is no call.
fn others(plan: &mut Plan) {
    const VARIABLES: &[&str] = &["cmdline", "file_descriptor_limit", "memstats"];
    for method in ["GET", "POST", "HEAD"] {
        plan.act(format!("{method} /debug/vars"), move |server| {
            let answer =
                retcd_tests::http1::request(server.port(), method, "/debug/vars", &[], b"").expect("an answer");
            let head = crate::shown::head(&answer);
            let Ok(serde_json::Value::Object(variables)) = serde_json::from_slice(&answer.body) else {
                return format!("{head} {:?}", answer.text());
            };
            let raft = variables.get("raft.status").and_then(serde_json::Value::as_object);
            let fields: Vec<_> = raft
                .expect("raft's")
                .iter()
                .map(|(name, value)| {
                    let own = ["id", "vote", "lead", "term", "commit", "applied", "progress"].contains(&name.as_str());
                    format!("{name}={}", if own { serde_json::Value::from("*") } else { value.clone() })
                })
                .collect();
            let id = &raft.expect("raft's")["id"];
            let alike = ["vote", "lead"].map(|name| &raft.expect("raft's")[name] == id);
            let names: Vec<_> = variables
                .iter()
                .map(|(name, value)| match name.as_str() {
                    name if VARIABLES.contains(&name) => name.to_owned(),
                    "raft.status" => format!("raft.status {fields:?} {alike:?}"),
                    name => format!("{name}={value}"),
                })
                .collect();
            format!("{head} {names:?}")
        });
    }
    for accepted in
        ["gzip", "gzip, deflate, br", "gzip;q=0.5, identity;q=0.1", "identity, gzip", "*", "gzip;q=0", "zstd"]
    {
        plan.act(format!("GET /metrics for who accepts {accepted}"), move |server| {
            let headers = [("Accept-Encoding", accepted)];
            let answer =
                retcd_tests::http1::request(server.port(), "GET", "/metrics", &headers, b"").expect("an answer");
            format!("{} packed: {}", crate::shown::head(&answer), answer.body.starts_with(&[0x1f, 0x8b]))
        });
    }
    for path in ["/debug/vars/", "/debug/pprof/", "/debug/requests", "/debug"] {
        plan.request("GET", path, &[], "", &[]);
    }
}

fn to_come(plan: &mut Plan) {
    for (path, body) in [
        ("/v3/auth/status", "{}"),
        ("/v3/auth/enable", "{}"),
        ("/v3/auth/disable", "{}"),
        ("/v3/auth/authenticate", r#"{"name":"root","password":"x"}"#),
        ("/v3/auth/user/add", r#"{"name":"a","password":"b"}"#),
        ("/v3/auth/user/get", r#"{"name":"a"}"#),
        ("/v3/auth/user/list", "{}"),
        ("/v3/auth/user/changepw", r#"{"name":"a","password":"c"}"#),
        ("/v3/auth/role/add", r#"{"name":"r"}"#),
        ("/v3/auth/role/grant", r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#),
        ("/v3/auth/role/get", r#"{"role":"r"}"#),
        ("/v3/auth/role/list", "{}"),
        ("/v3/auth/user/grant", r#"{"user":"a","role":"r"}"#),
        ("/v3/auth/user/revoke", r#"{"name":"a","role":"r"}"#),
        ("/v3/auth/role/revoke", r#"{"role":"r","key":"YQ==","range_end":"Yg=="}"#),
        ("/v3/auth/role/delete", r#"{"role":"r"}"#),
        ("/v3/auth/user/delete", r#"{"name":"a"}"#),
        ("/v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"3.6"}"#),
    ] {
        plan.post(path, body).differs(LATER);
    }
}
