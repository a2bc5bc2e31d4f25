//! `Status`, alarms, quota, members, health.

use crate::requests::*;
use crate::rpc::{Health, Ids};
use crate::script::{Call, Script};

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;
const NOSPACE: i32 = 1;

fn alarm(action: i32, alarm: i32) -> Call {
    Call::of(move |ids: Ids| AlarmRequest { action, alarm, member_id: if action == GET { 0 } else { ids.member } })
}

fn get(path: &str) -> Call {
    Call::Http { method: "GET", path: path.into(), headers: vec![], body: "" }
}

pub(crate) fn calls() -> Script {
    let mut s = Script::new("maintenance");
    s.good("status of a fresh store", StatusRequest {});
    s.setup(put("a", "1"));
    s.good("status", StatusRequest {});
    s.good("members", MemberListRequest { linearizable: true });
    s.good("members, not linearizable", MemberListRequest { linearizable: false });
    s.good("hash of the backend", HashRequest {});
    s.good("defragment", DefragmentRequest {});
    s.good("health", Health { service: String::new() });
    s.bad("health of an unknown service", Health { service: "etcdserverpb.KV".into() });

    s.good("no alarms", alarm(GET, 0));
    s.good("no such alarms", alarm(GET, NOSPACE));
    s.good("deactivate one that is not active", alarm(DEACTIVATE, NOSPACE));
    s.bad("activate none", alarm(ACTIVATE, 0));
    s.bad("get unknown alarms", alarm(GET, 9));
    s.good("activate", alarm(ACTIVATE, NOSPACE));
    s.good("activate again", alarm(ACTIVATE, NOSPACE));
    s.good("list", alarm(GET, 0));
    s.good("list by kind", alarm(GET, NOSPACE));
    s.good("list by another kind", alarm(GET, 2));
    s.good("status tells", StatusRequest {});
    s.good("health over HTTP tells", get("/health"));
    s.good("unless excluded", get("/health?exclude=NOSPACE"));
    s.good("other exclusion", get("/health?exclude=CORRUPT"));
    s.good("ready nevertheless", get("/readyz?verbose"));
    s.good("gRPC health too", Health { service: String::new() });
    s.bad("put without space", put("a", "2"));
    s.bad("put of no key without space", put("", "2"));
    s.bad("transaction that puts", batch([put("b", "2").op()]));
    s.bad("transaction that might put", txn([], [one("a").op()], [put("b", "2").op()]));
    s.bad("nested put", batch([batch([put("b", "2").op()]).op()]));
    s.good("transaction that deletes", batch([delete("none").op(), one("a").op()]));
    s.good("read", all());
    s.good("compact", CompactionRequest { revision: 2, physical: true });
    s.good("delete", delete("a"));
    s.good("defragment without space", DefragmentRequest {});
    s.good("deactivate another kind", alarm(DEACTIVATE, 2));
    s.good("deactivate", alarm(DEACTIVATE, NOSPACE));
    s.good("no more alarms", alarm(GET, 0));
    s.good("put again", put("a", "3"));
    s.good("healthy again", get("/health"));
    s.good("alarm of another member", AlarmRequest { action: ACTIVATE, member_id: 77, alarm: NOSPACE });
    s.bad("counts as well", put("a", "4"));
    s.good("its end", AlarmRequest { action: DEACTIVATE, member_id: 77, alarm: NOSPACE });
    s.good("put once more", put("a", "4"));
    s.good("status at the end", StatusRequest {});
    s
}

/// A quota that no put fits into.
pub(crate) fn quota() -> Script {
    let mut s = Script::new("quota").flags(&["--quota-backend-bytes=100"]);
    s.good("status", StatusRequest {});
    s.good("read", all());
    s.bad("put", put("a", "1"));
    s.good("raises the alarm", alarm(GET, 0));
    s.good("status tells", StatusRequest {});
    s.good("deletes pass", delete("a"));
    s.good("deactivate", alarm(DEACTIVATE, NOSPACE));
    s.bad("transaction", batch([put("a", "1").op()]));
    s.good("raises it again", alarm(GET, 0));
    s
}

/// `CORRUPT` stops everything that reads or writes keys.
pub(crate) fn corrupt() -> Script {
    const CORRUPT: i32 = 2;
    let mut s = Script::new("corrupt");
    s.setup(put("a", "1"));
    s.good("activate", alarm(ACTIVATE, CORRUPT));
    s.good("list", alarm(GET, CORRUPT));
    s.bad("put", put("a", "2"));
    s.bad("read", all());
    s.bad("serializable read", RangeRequest { serializable: true, ..all() });
    s.bad("delete", delete("a"));
    s.bad("transaction", batch([put("a", "2").op()]));
    s.bad("transaction that reads", batch([one("a").op()]));
    s.bad("compact", compact(2));
    s.good("health", get("/health"));
    s.good("health, excluded", get("/health?exclude=CORRUPT"));
    s.good("ready", get("/readyz?verbose"));
    s.good("live", get("/livez?verbose"));
    s.good("status", StatusRequest {});
    s.good("hash", hash_kv(0));
    s.good("deactivate", alarm(DEACTIVATE, CORRUPT));
    s.good("read again", all());
    s
}
