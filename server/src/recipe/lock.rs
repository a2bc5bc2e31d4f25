//! A lock is held by who stands first in its queue.

use bytes::Bytes;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::queue::{self, Leave};
use super::{lease_or_new, says, unknown};
use crate::client::Client;
use crate::error::Error;

pub(crate) async fn lock(client: &Client, r: LockRequest) -> Result<LockResponse, Error> {
    wait_for_lock(client, r).await.map_err(unknown)
}

async fn wait_for_lock(client: &Client, r: LockRequest) -> Result<LockResponse, Error> {
    let lease = lease_or_new(client, r.lease).await?;
    let place = queue::enter(client, &r.name, lease, Bytes::new()).await?;
    if place.is_first {
        return Ok(LockResponse {
            header: place.header,
            key: place.key,
        });
    }
    let leave = Leave::unless_served(client, &place);
    let is_turn = place.wait_for_turn(client).await?;
    // The lease may have ended, and the key with it, while it waited (L9).
    let now = place.look(client).await?;
    if !is_turn || now.kvs.is_empty() {
        leave.stay();
        return Err(says("mutex: session is expired"));
    }
    leave.stay();
    Ok(LockResponse {
        header: now.header,
        key: place.key,
    })
}

pub(crate) async fn unlock(client: &Client, r: UnlockRequest) -> Result<UnlockResponse, Error> {
    let request = pb::DeleteRangeRequest {
        key: r.key,
        ..Default::default()
    };
    let reply = client.delete_range(request).await.map_err(unknown)?;
    Ok(UnlockResponse {
        header: reply.header,
    })
}
