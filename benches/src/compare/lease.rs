//! The lines of leases.

use std::time::{Duration, Instant};

use prost::Message;
use retcd_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, request_op,
};

use super::{CONNECTIONS, LIMIT, SMALL_KEYS, Turn, VALUE, p99_us, plan};
use crate::Error;
use crate::busy;
use crate::keepalive;
use crate::load::{self, Usage};
use crate::report::{DISTURBED, Figure, Goal};
use crate::server::Server;
use crate::watch::{Layout, WIDE, Watchers};
use crate::workload::{Kind, Plan};

const KEEP_ALIVE: &str = "lease: keep-alive, 64 streams with a request in flight each";
const EXPIRE: &str = "lease: 100,000 leases with a key each that end together beside 1000 puts a second, until all are gone";

/// Streams, and leases that each renews in turn.
const STREAMS: usize = 64;
const RENEWED: u64 = 1000;
const AN_HOUR: i64 = 3600;

const MANY: u64 = 100_000;
/// More than granting them takes.
const TTL: i64 = 30;
/// Both servers give a lease an election timeout more after a change of leader, which a restart is.
const GRACE: Duration = Duration::from_secs(1);
/// Keys attached in one transaction.
const CHUNK: u64 = 100;
/// Puts begin so long before the end.
const EARLIER: Duration = Duration::from_secs(1);

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";

impl Turn<'_> {
    pub(super) fn lease(&mut self) -> Result<(), Error> {
        self.keep_alive()?;
        self.expiry()
    }

    fn keep_alive(&mut self) -> Result<(), Error> {
        if !self.wanted(&[KEEP_ALIVE]) {
            return Ok(());
        }
        self.expect(KEEP_ALIVE, &[(Figure::Cpu, Goal::AtMost(0.333))]);
        let (server, _) = Server::start(self.program(), &self.dir.join("keep-alive"))?;
        let (endpoint, pids) = (server.endpoint, [server.pid()]);
        load::each(
            endpoint,
            GRANT,
            100,
            (1..=RENEWED).map(|id| grant(id, AN_HOUR)),
        )?;
        let requests: Vec<_> = (1..=RENEWED)
            .map(|id| LeaseKeepAliveRequest { id: id as i64 }.encode_to_vec())
            .collect();
        let streams = keepalive::Streams::start(endpoint, CONNECTIONS, STREAMS, requests)?;
        std::thread::sleep(Duration::from_secs(1).min(self.options.duration));
        let mut best: Option<(f64, f64, Option<f64>)> = None;
        for _ in 0..=self.options.retries {
            let (seen, before, begin) = (streams.renewed(), Usage::now(&pids)?, Instant::now());
            std::thread::sleep(self.options.duration);
            let (renewed, after) = ((streams.renewed() - seen) as f64, Usage::now(&pids)?);
            let rate = renewed / begin.elapsed().as_secs_f64();
            let others = after.others_since(&before);
            let cpu = after.server_since(&before).unwrap_or_default();
            let cpu = cpu.as_secs_f64() * 1e6 / renewed.max(1.0);
            if best.is_none_or(|(_, _, least)| others < least) {
                best = Some((rate, cpu, others));
            }
            if others <= Some(DISTURBED) {
                break;
            }
        }
        streams.stop()?;
        if let Some((rate, cpu, others)) = best {
            self.add(KEEP_ALIVE, Figure::Throughput, rate, others);
            self.add(KEEP_ALIVE, Figure::Cpu, cpu, others);
        }
        Ok(())
    }

    /// Leases that all have their whole time again after a restart. Etcd takes minutes, so it is done once a round.
    fn expiry(&mut self) -> Result<(), Error> {
        if !self.is_first || !self.wanted(&[EXPIRE]) {
            return Ok(());
        }
        self.expect(EXPIRE, &[(Figure::Time, Goal::OursAtMost(2.0))]);
        let (mut server, _) = Server::start(self.program(), &self.dir.join("expiry"))?;
        let endpoint = server.endpoint;
        load::each(endpoint, GRANT, 1000, (1..=MANY).map(|id| grant(id, TTL)))?;
        let leased = Plan {
            kind: Kind::PutOnce,
            prefix: "leased/".into(),
            keys: MANY,
            value_size: VALUE,
            serializable: false,
            limit: LIMIT,
            seed: 9,
        };
        let attach = (0..MANY / CHUNK).map(|chunk| attach(&leased, chunk));
        load::each(endpoint, "/etcdserverpb.KV/Txn", 16, attach)?;
        server.kill()?;
        server.restart()?;
        let end = Instant::now() + Duration::from_secs(TTL as u64) + GRACE;
        let layout = Layout {
            connections: 1,
            streams: 1,
            watchers: 1,
            window: WIDE,
            whole: true,
            from: 0,
        };
        let readers = Watchers::create(endpoint, &leased, &layout)?.read()?;
        let there = count(&server, &leased)?;
        if there != MANY {
            let path = self.program().path.display();
            return Err(Error::Server(format!(
                "{path}: of {MANY} leases {there} have outlived their granting and a restart"
            )));
        }
        std::thread::sleep((end - EARLIER).saturating_duration_since(Instant::now()));
        let puts = plan(Kind::Put, SMALL_KEYS, false);
        let (_, gone, latency) =
            busy::beside_puts(endpoint, &puts, busy::RATE, Duration::ZERO, || {
                readers.wait(MANY)?;
                Ok(Instant::now())
            })?;
        readers.stop()?;
        let late = gone.saturating_duration_since(end);
        self.add(EXPIRE, Figure::Time, late.as_secs_f64(), None);
        self.add(EXPIRE, Figure::P99, p99_us(&latency), None);
        Ok(())
    }
}

fn grant(id: u64, ttl: i64) -> Vec<u8> {
    let id = id as i64;
    LeaseGrantRequest { ttl, id }.encode_to_vec()
}

/// Puts some keys, each with the lease of its number.
fn attach(plan: &Plan, chunk: u64) -> Vec<u8> {
    let put = |number: u64| RequestOp {
        request: Some(request_op::Request::RequestPut(PutRequest {
            key: plan.key(number).into(),
            value: b"leased".to_vec().into(),
            lease: number as i64 + 1,
            ..PutRequest::default()
        })),
    };
    TxnRequest {
        success: (chunk * CHUNK..(chunk + 1) * CHUNK).map(put).collect(),
        ..TxnRequest::default()
    }
    .encode_to_vec()
}

fn count(server: &Server, plan: &Plan) -> Result<u64, Error> {
    let request = RangeRequest {
        key: plan.prefix.clone().into(),
        range_end: plan.end().into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let path = "/etcdserverpb.KV/Range";
    let reply = busy::call(server.endpoint, path, &request.encode_to_vec())?;
    let reply = RangeResponse::decode(&reply[..]);
    let reply = reply.map_err(|error| Error::Server(error.to_string()))?;
    Ok(reply.count as u64)
}
