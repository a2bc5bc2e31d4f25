//! Which request belongs to which method, and how its reply is shown for comparison.

use bytes::Bytes;
use prost::Message;
use retcd_proto::{etcdserverpb as pb, v3electionpb, v3lockpb};

/// What differs from member to member by right, so that replies can be compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ids {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
}

impl Ids {
    /// Stands in for an id: small numbers that no hash is. Any other id stays, and so shows.
    fn plain(self, header: &mut Option<pb::ResponseHeader>) {
        if let Some(header) = header {
            self.replace(&mut header.cluster_id, &mut header.member_id);
            header.raft_term = header.raft_term.min(1);
        }
    }

    fn replace(self, cluster: &mut u64, member: &mut u64) {
        if *cluster == self.cluster {
            *cluster = 1;
        }
        if *member == self.member {
            *member = 1;
        }
    }
}

/// A request type with the one method that takes it.
pub(crate) trait Rpc: Message {
    const PATH: &'static str;
    type Reply: Reply;
}

/// A reply that can be freed of what differs by right.
pub(crate) trait Reply: Message + Default + std::fmt::Debug {
    fn normalise(&mut self, ids: Ids);
}

/// Turns the bytes of a reply into text that can be compared.
pub(crate) type Show = fn(&Bytes, Ids) -> String;

pub(crate) fn show<R: Reply>(bytes: &Bytes, ids: Ids) -> String {
    match R::decode(bytes.clone()) {
        Ok(mut reply) => {
            reply.normalise(ids);
            brief(&format!("{reply:?}"))
        }
        Err(e) => format!("not a reply: {e}: {bytes:?}"),
    }
}

/// The header of a reply in two words.
fn brief(text: &str) -> String {
    const FROM: &str = "header: Some(ResponseHeader { cluster_id: 1, member_id: 1, revision: ";
    const TO: &str = ", raft_term: 1 })";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(FROM) {
        let Some((revision, after)) = after.split_once(TO) else {
            break;
        };
        out += before;
        out += "at ";
        out += revision;
        rest = after;
    }
    out + rest
}

/// Ids of leases that the server chose have no equal in a script.
fn plain_lease(id: &mut i64) {
    if *id >= 1 << 40 {
        *id = 1 << 40;
    }
}

/// The same in a key of a lock.
fn plain_key(key: &mut Bytes) {
    let at = key.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    if key.len() - at >= 12 {
        *key = [&key[..at], b"CHOSEN"].concat().into();
    }
}

fn plain_kv(kv: &mut retcd_proto::mvccpb::KeyValue) {
    plain_lease(&mut kv.lease);
    plain_key(&mut kv.key);
}

/// Seconds pass while a script runs, more of them on a busy machine.
fn plain_ttl(ttl: &mut i64, granted: i64) {
    if (1..=20).contains(&(granted - *ttl)) {
        *ttl = granted - 1;
    }
}

macro_rules! rpcs {
    ($($request:ident => $path:literal, $reply:ident $(, |$r:ident, $ids:ident| $more:block)?;)*) => {
        rpcs! { pb: $($request => $path, $reply $(, |$r, $ids| $more)?;)* }
    };
    ($pb:ident: $($request:ident => $path:literal, $reply:ident $(, |$r:ident, $ids:ident| $more:block)?;)*) => {$(
        impl Rpc for $pb::$request {
            const PATH: &'static str = $path;
            type Reply = $pb::$reply;
        }
        impl Reply for $pb::$reply {
            fn normalise(&mut self, ids: Ids) {
                ids.plain(&mut self.header);
                $( let ($r, $ids) = (self, ids); $more )?
            }
        }
    )*};
}

rpcs! {
    RangeRequest => "/etcdserverpb.KV/Range", RangeResponse, |r, _ids| {
        for kv in r.kvs.iter_mut().filter(|kv| kv.lease >= 1 << 40) {
            plain_kv(kv);
        }
    };
    PutRequest => "/etcdserverpb.KV/Put", PutResponse;
    DeleteRangeRequest => "/etcdserverpb.KV/DeleteRange", DeleteRangeResponse;
    TxnRequest => "/etcdserverpb.KV/Txn", TxnResponse;
    CompactionRequest => "/etcdserverpb.KV/Compact", CompactionResponse;
    HashKvRequest => "/etcdserverpb.Maintenance/HashKV", HashKvResponse;
    HashRequest => "/etcdserverpb.Maintenance/Hash", HashResponse, |r, _ids| {
        r.hash = r.hash.min(1);
    };
    DefragmentRequest => "/etcdserverpb.Maintenance/Defragment", DefragmentResponse;
    StatusRequest => "/etcdserverpb.Maintenance/Status", StatusResponse, |r, ids| {
        // Before its first commit an engine may use nothing yet.
        r.db_size_in_use = i64::from((0..=r.db_size).contains(&r.db_size_in_use));
        r.db_size = r.db_size.min(1);
        r.raft_term = r.raft_term.min(1);
        r.raft_index = r.raft_index.min(1);
        r.raft_applied_index = r.raft_applied_index.min(1);
        ids.replace(&mut 0, &mut r.leader);
        for error in &mut r.errors {
            // The number of blanks in it depends on the build.
            *error = error.replace(&ids.member.to_string(), "1").split_whitespace().collect::<Vec<_>>().join(" ");
        }
    };
    AlarmRequest => "/etcdserverpb.Maintenance/Alarm", AlarmResponse, |r, ids| {
        for alarm in &mut r.alarms {
            ids.replace(&mut 0, &mut alarm.member_id);
        }
    };
    MemberListRequest => "/etcdserverpb.Cluster/MemberList", MemberListResponse, |r, ids| {
        for member in &mut r.members {
            ids.replace(&mut 0, &mut member.id);
            for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
                if let Some((host, port)) = url.rsplit_once(':') && port.parse::<u16>().is_ok() {
                    *url = format!("{host}:PORT");
                }
            }
        }
    };
}

rpcs! {
    LeaseGrantRequest => "/etcdserverpb.Lease/LeaseGrant", LeaseGrantResponse, |r, _ids| {
        plain_lease(&mut r.id);
    };
    LeaseRevokeRequest => "/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeResponse;
    LeaseKeepAliveRequest => "/etcdserverpb.Lease/LeaseKeepAlive", LeaseKeepAliveResponse;
    LeaseTimeToLiveRequest => "/etcdserverpb.Lease/LeaseTimeToLive", LeaseTimeToLiveResponse, |r, _ids| {
        plain_ttl(&mut r.ttl, r.granted_ttl);
        // Without an order in etcd.
        r.keys.sort();
    };
    LeaseLeasesRequest => "/etcdserverpb.Lease/LeaseLeases", LeaseLeasesResponse, |r, _ids| {
        for lease in &mut r.leases {
            plain_lease(&mut lease.id);
        }
    };
}

rpcs! {
    v3lockpb:
    LockRequest => "/v3lockpb.Lock/Lock", LockResponse, |r, _ids| {
        plain_key(&mut r.key);
    };
    UnlockRequest => "/v3lockpb.Lock/Unlock", UnlockResponse;
}

fn plain_leader(leader: &mut Option<v3electionpb::LeaderKey>) {
    if let Some(leader) = leader {
        plain_lease(&mut leader.lease);
        plain_key(&mut leader.key);
    }
}

rpcs! {
    v3electionpb:
    CampaignRequest => "/v3electionpb.Election/Campaign", CampaignResponse, |r, _ids| {
        plain_leader(&mut r.leader);
    };
    ProclaimRequest => "/v3electionpb.Election/Proclaim", ProclaimResponse;
    ResignRequest => "/v3electionpb.Election/Resign", ResignResponse;
    LeaderRequest => "/v3electionpb.Election/Leader", LeaderResponse, |r, _ids| {
        r.kv.iter_mut().for_each(plain_kv);
    };
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Health {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HealthReply {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

impl Rpc for Health {
    const PATH: &'static str = "/grpc.health.v1.Health/Check";
    type Reply = HealthReply;
}

impl Reply for HealthReply {
    fn normalise(&mut self, _: Ids) {}
}

impl Reply for pb::RangeStreamResponse {
    fn normalise(&mut self, ids: Ids) {
        if let Some(reply) = &mut self.range_response {
            reply.normalise(ids);
        }
    }
}
