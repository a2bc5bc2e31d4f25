//! An election is won by who stands first in its queue.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{Stream, stream};
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::request_op::Request;
use retcd_proto::mvccpb::KeyValue;
use retcd_proto::mvccpb::event::EventType;
use retcd_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

use super::queue::{self, Leave, created_at, delete_if, op};
use super::{lease_or_new, says, unknown};
use crate::client::{Client, WatchStream};
use crate::error::Error;

const NO_LEADER_KEY: &str = "\"leader\" field must be provided";
const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
const CLOSED: &str = "election: observe closed early";

pub(crate) async fn campaign(
    client: &Client,
    r: CampaignRequest,
) -> Result<CampaignResponse, Error> {
    wait_for_lead(client, r).await.map_err(unknown)
}

async fn wait_for_lead(client: &Client, r: CampaignRequest) -> Result<CampaignResponse, Error> {
    let lease = lease_or_new(client, r.lease).await?;
    let place = queue::enter(client, &r.name, lease, r.value.clone()).await?;
    let leave = Leave::unless_served(client, &place);
    if place.found.as_ref().is_some_and(|kv| kv.value != r.value) {
        set_value(client, &place.key, place.rev, lease, r.value).await?;
    }
    let mut leads = place.is_first;
    if !leads {
        leads = place.wait_for_turn(client).await?;
        // The lease may have ended, and the key with it, while it waited (L9).
        leads = leads && !place.look(client).await?.kvs.is_empty();
    }
    leave.stay();
    if !leads {
        return Err(says(NOT_LEADER));
    }
    Ok(CampaignResponse {
        header: place.header,
        leader: Some(LeaderKey {
            name: r.name,
            key: place.key,
            rev: place.rev,
            lease,
        }),
    })
}

pub(crate) async fn proclaim(
    client: &Client,
    r: ProclaimRequest,
) -> Result<ProclaimResponse, Error> {
    let leader = r.leader.ok_or_else(|| says(NO_LEADER_KEY))?;
    let LeaderKey { key, rev, .. } = leader;
    let header = async {
        let lease = lease_or_new(client, leader.lease).await?;
        set_value(client, &key, rev, lease, r.value).await
    };
    let header = header.await.map_err(unknown)?;
    Ok(ProclaimResponse { header })
}

/// Changes what a candidate stands for, if it still stands.
async fn set_value(
    client: &Client,
    key: &Bytes,
    rev: i64,
    lease: i64,
    value: Bytes,
) -> Result<Option<pb::ResponseHeader>, Error> {
    let put = pb::PutRequest {
        key: key.clone(),
        value,
        lease,
        ..Default::default()
    };
    let reply = client
        .txn(pb::TxnRequest {
            compare: vec![created_at(key, rev)],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![],
        })
        .await?;
    match reply.succeeded {
        true => Ok(reply.header),
        false => Err(says(NOT_LEADER)),
    }
}

pub(crate) async fn leader(client: &Client, r: LeaderRequest) -> Result<LeaderResponse, Error> {
    let prefix = queue::prefix(&r.name);
    let oldest = client
        .range(queue::oldest(&prefix))
        .await
        .map_err(unknown)?;
    let kv = oldest.kvs.into_iter().next();
    let kv = kv.ok_or_else(|| says(NO_LEADER))?;
    Ok(LeaderResponse {
        header: oldest.header,
        kv: Some(kv),
    })
}

pub(crate) async fn resign(client: &Client, r: ResignRequest) -> Result<ResignResponse, Error> {
    let leader = r.leader.ok_or_else(|| says(NO_LEADER_KEY))?;
    let is_kept = created_at(&leader.key, leader.rev);
    let reply = delete_if(client, leader.key, is_kept)
        .await
        .map_err(unknown)?;
    Ok(ResignResponse {
        header: reply.header,
    })
}

/// Who leads, as it changes.
pub(crate) fn observe(
    client: Client,
    r: &LeaderRequest,
) -> impl Stream<Item = Result<LeaderResponse, Error>> + Send + use<> {
    let observer = Observer {
        client,
        prefix: queue::prefix(&r.name),
        following: None,
        told: VecDeque::new(),
    };
    stream::unfold(Some(observer), |observer| async {
        let mut observer = observer?;
        match observer.next().await {
            Ok(leader) => Some((Ok(leader), Some(observer))),
            Err(_) => Some((Err(says(CLOSED)), None)),
        }
    })
}

struct Observer {
    client: Client,
    prefix: Bytes,
    /// Watches the leader's key.
    following: Option<WatchStream>,
    /// What it told and nobody has heard yet.
    told: VecDeque<LeaderResponse>,
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderResponse, Error> {
        loop {
            if let Some(leader) = self.told.pop_front() {
                return Ok(leader);
            }
            let Some(watch) = &mut self.following else {
                return self.find().await;
            };
            let reply = next_reply(watch).await?;
            for event in reply.events {
                if event.r#type() == EventType::Delete {
                    // What comes behind that is found by the next look.
                    self.following = None;
                    break;
                }
                self.told.push_back(LeaderResponse {
                    header: reply.header,
                    kv: event.kv,
                });
            }
        }
    }

    /// Finds the leader, or waits for one.
    async fn find(&mut self) -> Result<LeaderResponse, Error> {
        let oldest = self.client.range(queue::oldest(&self.prefix)).await?;
        let mut header = oldest.header;
        let now = header.as_ref().map_or(0, |header| header.revision);
        let kv = match oldest.kvs.into_iter().next() {
            Some(kv) => kv,
            None => {
                let (of_events, kv) = self.first_put(now).await?;
                header = of_events;
                if let Some(header) = &mut header {
                    // The reply may hold later ones.
                    header.revision = kv.mod_revision;
                }
                kv
            }
        };
        let from = header.as_ref().map_or(0, |header| header.revision) + 1;
        let watch = self.client.watch(pb::WatchCreateRequest {
            key: kv.key.clone(),
            start_revision: from,
            ..Default::default()
        })?;
        self.following = Some(watch);
        Ok(LeaderResponse {
            header,
            kv: Some(kv),
        })
    }

    async fn first_put(
        &mut self,
        since: i64,
    ) -> Result<(Option<pb::ResponseHeader>, KeyValue), Error> {
        let mut watch = self.client.watch(queue::watch_all(&self.prefix, since))?;
        loop {
            let reply = next_reply(&mut watch).await?;
            let mut events = reply.events.into_iter();
            let put = events.find(|event| event.r#type() == EventType::Put);
            if let Some(kv) = put.and_then(|event| event.kv) {
                return Ok((reply.header, kv));
            }
        }
    }
}

async fn next_reply(watch: &mut WatchStream) -> Result<pb::WatchResponse, Error> {
    let reply = watch.next().await.unwrap_or(Err(Error::Stopped))?;
    match reply.canceled {
        true => Err(Error::Compacted),
        false => Ok(reply),
    }
}
