//! The Lock and Election services, as far as nobody has to wait; `recipes/waiting.rs` is about who waits.

use retcd_proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use retcd_proto::v3lockpb::{LockRequest, UnlockRequest};
use retcd_tests::grpc::frame;

use crate::requests::*;
use crate::rpc::{Rpc, show};
use crate::script::{Call, Script};

mod waiting;

fn lock(name: &str, lease: i64) -> LockRequest {
    LockRequest { name: bytes(name), lease }
}

fn unlock(key: &str) -> UnlockRequest {
    UnlockRequest { key: bytes(key) }
}

fn campaign(name: &str, lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest { name: bytes(name), lease, value: bytes(value) }
}

fn leader(name: &str) -> LeaderRequest {
    LeaderRequest { name: bytes(name) }
}

fn key(name: &str, key: &str, rev: i64, lease: i64) -> LeaderKey {
    LeaderKey { name: bytes(name), key: bytes(key), rev, lease }
}

fn proclaim(leader: LeaderKey, value: &str) -> ProclaimRequest {
    ProclaimRequest { leader: Some(leader), value: bytes(value) }
}

fn resign(leader: LeaderKey) -> ResignRequest {
    ResignRequest { leader: Some(leader) }
}

fn grant(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { id, ttl }
}

pub(crate) fn locks() -> Script {
    let mut s = Script::new("lock");
    s.setup(grant(0x10, 1000)).setup(grant(-5, 1000)).setup(grant(0x007f_ffff_ffff, 1000));
    s.good("lock", lock("l", 0x10));
    s.good("its key", all());
    s.good("again by the same", lock("l", 0x10));
    s.good("no revision was used", all());
    s.good("unlock", unlock("l/10"));
    s.good("unlock again", unlock("l/10"));
    s.good("a negative lease", lock("l", -5));
    s.good("its key shows the sign", all());
    s.good("another lock", lock("m", -5));
    s.good("the end of the lease frees both", LeaseRevokeRequest { id: -5 });
    s.good("nothing is locked", all());
    s.good("a lease of its own", lock("l", 0));
    s.good("of a minute", range("l/", "l0"));
    s.good("a name that ends with a slash", lock("n/", 0x10));
    s.good("a name below", lock("n/sub", 0x10));
    s.good("a binary name", LockRequest { name: bytes([0xff, 0]), lease: 0x10 });
    s.good("no name", lock("", 0x10));
    s.good("unlock it", unlock("/10"));
    s.bad("an unknown lease", lock("x", 77));
    s.bad("an unknown lease below zero", lock("x", -77));
    s.bad("unlock no key", unlock(""));
    s.good("unlock any key", unlock("none"));
    s.setup(put("k", "v"));
    s.good("even one that is no lock", unlock("k"));
    s.bad("garbage", Call::raw(LockRequest::PATH, frame(b"\x0a\x05"), show::<retcd_proto::v3lockpb::LockResponse>));
    s.bad(
        "unlock garbage",
        Call::raw(UnlockRequest::PATH, frame(b"\xff"), show::<retcd_proto::v3lockpb::UnlockResponse>),
    );
    s.good("what is locked", range("n", "o"));
    s
}

pub(crate) fn elections() -> Script {
    let mut s = Script::new("election");
    s.setup(grant(0x10, 1000)).setup(grant(0x20, 1000));
    s.bad("no leader", leader("e"));
    s.good("campaign", campaign("e", 0x10, "one"));
    s.good("leader", leader("e"));
    s.good("its key", all());
    s.good("campaign again with the same value", campaign("e", 0x10, "one"));
    s.good("campaign again with another value", campaign("e", 0x10, "two"));
    s.good("leader with another value", leader("e"));
    s.good("proclaim", proclaim(key("e", "e/10", 2, 0x10), "three"));
    s.good("leader that has proclaimed", leader("e"));
    s.bad("proclaim of another revision", proclaim(key("e", "e/10", 3, 0x10), "x"));
    s.bad("proclaim by another key", proclaim(key("e", "e/20", 2, 0x20), "x"));
    s.bad("proclaim with another lease that is not there", proclaim(key("e", "e/10", 2, 77), "x"));
    s.bad("proclaim without a leader", ProclaimRequest { leader: None, value: bytes("x") });
    s.bad("proclaim by an empty leader", proclaim(key("", "", 0, 0x10), "x"));
    s.good("proclaim with another lease", proclaim(key("e", "e/10", 2, 0x20), "four"));
    s.good("leader by another lease", leader("e"));
    s.good("proclaim without a lease", proclaim(key("e", "e/10", 2, 0), "five"));
    s.good("leader by a lease of its own", leader("e"));
    s.bad("resign without a leader", ResignRequest { leader: None });
    s.good("resign of another revision", resign(key("e", "e/10", 3, 0x10)));
    s.good("still leader", leader("e"));
    s.good("resign", resign(key("e", "e/10", 2, 0x10)));
    s.bad("nobody leads", leader("e"));
    s.good("resign again", resign(key("e", "e/10", 2, 0x10)));
    s.bad("resign by an empty leader", resign(key("", "", 0, 0x10)));
    s.bad("campaign with an unknown lease", campaign("e", 77, "x"));
    s.good("campaign with a lease of its own", campaign("e", 0, "six"));
    s.good("leader with it", leader("e"));
    s.good("campaign without a value", campaign("f", 0x20, ""));
    s.good("leader without a value", leader("f"));
    s.good("campaign without a name", campaign("", 0x20, "v"));
    s.good("leader without a name", leader(""));
    s.good("the end of the lease ends it", LeaseRevokeRequest { id: 0x20 });
    s.bad("nobody leads any more", leader("f"));
    s.bad(
        "garbage",
        Call::raw(CampaignRequest::PATH, frame(b"\xff"), show::<retcd_proto::v3electionpb::CampaignResponse>),
    );
    s
}
