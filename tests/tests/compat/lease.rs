//! The Lease service, call by call.

use retcd_tests::grpc::frame;

use crate::requests::*;
use crate::rpc::{Rpc, show};
use crate::script::{Call, Script};

fn grant(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { id, ttl }
}

fn revoke(id: i64) -> LeaseRevokeRequest {
    LeaseRevokeRequest { id }
}

fn ask(id: i64) -> LeaseTimeToLiveRequest {
    LeaseTimeToLiveRequest { id, keys: false }
}

fn with_keys(id: i64) -> LeaseTimeToLiveRequest {
    LeaseTimeToLiveRequest { id, keys: true }
}

fn list() -> LeaseLeasesRequest {
    LeaseLeasesRequest {}
}

fn leased(key: &str, id: i64) -> PutRequest {
    PutRequest { lease: id, ..put(key, "v") }
}

/// Renewals on one stream.
fn renew(ids: &[i64]) -> Call {
    use prost::Message as _;
    let frames = ids.iter().flat_map(|id| frame(&LeaseKeepAliveRequest { id: *id }.encode_to_vec()));
    raw(frames.collect())
}

fn raw(body: Vec<u8>) -> Call {
    Call::raw(LeaseKeepAliveRequest::PATH, body, show::<retcd_proto::etcdserverpb::LeaseKeepAliveResponse>)
}

pub(crate) fn leases() -> Script {
    let mut s = Script::new("lease");
    s.good("no leases", list());
    s.good("grant", grant(7, 100));
    s.good("one lease", list());
    s.good("grant with a chosen id", grant(0, 3000));
    s.good("a negative id (L7)", grant(-7, 200));
    s.good("the smallest id", grant(i64::MIN, 300));
    s.good("the largest id", grant(i64::MAX, 400));
    s.good("the longest lease", grant(9, 9_000_000_000));
    s.good("in the order of their ends", list());
    s.good("what is left", ask(7));
    s.good("what is left of the longest", ask(9));
    s.good("what is left of the one below zero", ask(-7));
    s.good("what is left, with keys that are not there", with_keys(7));
    s.good("revoke", revoke(7));
    s.good("it is gone", ask(7));
    s.good("the id can be had again", grant(7, 50));
    s.good("and is another lease", ask(7));
    s.good("revoke the one below zero", revoke(-7));
    s.good("revoke the smallest", revoke(i64::MIN));
    s.good("what is there", list());
    s.good("no revision was used", all());
    s
}

pub(crate) fn bad() -> Script {
    // The shortest lease is 1.5 times as long as an election: too long to end before the script, however busy a machine.
    let mut s = Script::new("lease-bad").flags(&["--election-timeout=6000"]);
    s.bad("a negative TTL", grant(1, -1));
    s.bad("the most negative TTL", grant(2, i64::MIN));
    s.bad("no TTL", grant(3, 0));
    s.bad("a TTL below the shortest", grant(4, 1));
    s.bad("too long", grant(5, 9_000_000_001));
    s.bad("the largest TTL there can be", grant(5, i64::MAX));
    s.bad("an id that is there", grant(1, 100));
    s.bad("an id that is there, and too long", grant(1, i64::MAX));
    s.bad("revoke what is not there", revoke(77));
    s.bad("revoke nothing", revoke(0));
    s.bad("revoke a negative id that is not there", revoke(-77));
    s.bad("ask for what is not there", ask(77));
    s.bad("ask for nothing", ask(0));
    s.bad("ask for the keys of what is not there", with_keys(77));
    s.bad("an empty grant", Call::raw(LeaseGrantRequest::PATH, frame(b""), show::<LeaseGrantResponse>));
    s.bad("a grant that is garbage", Call::raw(LeaseGrantRequest::PATH, frame(b"\xff"), show::<LeaseGrantResponse>));
    s.bad("a revoke that is cut off", Call::raw(LeaseRevokeRequest::PATH, frame(b"\x08"), show::<LeaseGrantResponse>));
    s.bad(
        "a list with fields",
        Call::raw(LeaseLeasesRequest::PATH, frame(b"\x08\x01"), show::<retcd_proto::etcdserverpb::LeaseLeasesResponse>),
    );
    s.bad("a lease that is not there", leased("k", 77));
    s.bad("in a transaction", batch([leased("k", 77).op()]));
    s.good("nothing of that left a trace", all());
    s
}

pub(crate) fn keys() -> Script {
    let mut s = Script::new("lease-keys");
    s.setup(grant(1, 100)).setup(grant(2, 200));
    s.good("a key", leased("b", 1));
    s.good("another one", leased("a", 1));
    s.good("its lease shows", all());
    s.good("both", with_keys(1));
    s.good("without asking for them", ask(1));
    s.good("to another lease", leased("b", 2));
    s.good("the first has one", with_keys(1));
    s.good("the second has the other", with_keys(2));
    s.good("off its lease", put("b", "w"));
    s.good("the second has none", with_keys(2));
    s.good("keeps its lease", PutRequest { ignore_lease: true, ..put("a", "w") });
    s.good("the first still has one", with_keys(1));
    s.good("a deleted key", delete("a"));
    s.good("belongs to none", with_keys(1));
    s.good("in a transaction", batch([leased("t/2", 1).op(), leased("t/1", 1).op(), leased("u", 2).op()]));
    s.good("the first has two", with_keys(1));
    s.good("a delete in a transaction", batch([delete("t/2").op()]));
    s.good("the first has one of them", with_keys(1));
    s.setup(leased("z", 1)).setup(leased("m", 1)).setup(leased("c", 1));
    s.good("its end deletes all, in one revision", revoke(1));
    s.good("at their last revision", RangeRequest { revision: 11, ..all() });
    s.good("what is left", all());
    s.good("its end with one key", revoke(2));
    s.good("nothing is leased", all());
    s.setup(grant(3, 100));
    s.good("its end without keys uses no revision", revoke(3));
    s.good("hash", hash_kv(0));
    s.setup(grant(4, 100)).setup(leased("k", 4));
    s.good("a lease compares", txn([lease_is("k", 4)], [one("k").op()], []));
    s.good("and other ones do not", txn([lease_is("k", 5)], [one("k").op()], []));
    s
}

pub(crate) fn renewals() -> Script {
    let mut s = Script::new("lease-renewals");
    s.setup(grant(1, 100)).setup(grant(-2, 200)).setup(put("k", "v"));
    s.good("one", renew(&[1]));
    s.good("many on one stream, in order", renew(&[1, -2, 77, 1, 0, -2]));
    s.bad("what is not there", renew(&[77]));
    s.bad("nothing", renew(&[0]));
    s.good("the full time again", ask(1));
    s.setup(revoke(1));
    s.good("after its end (L5)", renew(&[1, -2]));
    s.bad("garbage first", raw(frame(b"\xff")));
    s.bad("garbage in the middle", raw([frame(b"\x08\x01"), frame(b"\x08"), frame(b"\x08\x01")].concat()));
    s.bad("half a message", raw(vec![0, 0, 0, 0, 9, 8]));
    s.bad("a message that is too large", raw(frame(&vec![0; 3 << 20])));
    s.bad("a compressed one without an encoding", raw(vec![1, 0, 0, 0, 0]));
    s.good("unknown fields", raw(frame(b"\x08\x01\xa8\x06\x01")));
    s.good("with a leader", renew(&[-2]).header("hasleader", "true"));
    s.good("no revision was used", all());
    s
}
