//! `grpc.health.v1`: one service name, the empty one, as etcd registers it.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::Code;

use super::call::{Answer, Call};
use super::status::Status;

/// The states of the protocol.
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct CheckResponse {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

/// `grpc.health.v1.HealthListRequest`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ListRequest {}

/// `grpc.health.v1.HealthListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) statuses: BTreeMap<String, CheckResponse>,
}

/// Whether the member serves, and a notice when that changes.
pub(in crate::net) type Serving = watch::Receiver<bool>;

fn response(serving: bool) -> CheckResponse {
    let status = if serving { SERVING } else { NOT_SERVING };
    CheckResponse { status }
}

/// `Check`.
pub(super) async fn check(call: Call, serving: Serving) -> Answer {
    call.unary(|_, request: CheckRequest| async move {
        match request.service.as_str() {
            "" => Ok(response(*serving.borrow())),
            _ => Err(Status::new(Code::NotFound, "unknown service")),
        }
    })
    .await
}

/// `List`.
pub(super) async fn list(call: Call, serving: Serving) -> Answer {
    call.unary(|_, ListRequest {}| async move {
        let statuses = BTreeMap::from([(String::new(), response(*serving.borrow()))]);
        Ok::<_, Status>(ListResponse { statuses })
    })
    .await
}

/// `Watch`: the state now and at every change, until the server stops.
pub(super) async fn watch(call: Call, serving: Serving) -> Answer {
    call.server_stream(|_, request: CheckRequest| async move {
        let known = request.service.is_empty();
        Ok::<_, Status>(changes(serving, known))
    })
    .await
}

fn changes(
    serving: Serving,
    known: bool,
) -> impl Stream<Item = Result<CheckResponse, Status>> + Send {
    let first = match known {
        true => response(*serving.borrow()),
        false => CheckResponse {
            status: SERVICE_UNKNOWN,
        },
    };
    let later = stream::unfold(Some(serving), move |state| async move {
        let mut serving = state?;
        loop {
            if serving.changed().await.is_err() {
                let ended = Status::new(Code::Cancelled, "Stream has ended.");
                return Some((Err(ended), None));
            }
            if known {
                let now = response(*serving.borrow_and_update());
                return Some((Ok(now), Some(serving)));
            }
        }
    });
    stream::iter([Ok(first)]).chain(later)
}
