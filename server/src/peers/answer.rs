//! What other members ask over HTTP: everything on the peer listener but `/version`.
//!
//! Source: peer-protocol 1.1, 10, 12, 14; etcd `server/etcdserver/api/etcdhttp/peer.go`, `corrupt.go`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use retcd_storage::mvcc;
use serde::{Deserialize, Serialize};
use slog::{info, warn};

use super::introduction::Introduction;
use super::remote::RemoteCluster;
use super::{CLUSTER_ID, leases, question, strangers, verdict};
use crate::api::blocking;
use crate::error::Error;
use crate::lease::peer;
use crate::member::Member;
use crate::net::Body;

/// Bytes of a question; what is asked here is small.
const MAX_QUESTION: usize = 64 << 10;

const PROMOTE: &str = "/members/promote/";

/// Answers a request, unless its path is none that only peers use.
pub(crate) async fn answer(
    member: Arc<Member>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Request<Incoming>> {
    let path = request.uri().path();
    if path == "/raft" || path.starts_with("/raft/") {
        strangers::look(&member, request.headers());
        return Ok(match member.peers.get() {
            Some(peers) => peers.serve(request).await.map(Body::Streaming),
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "the member is starting"),
        });
    }
    Ok(match path {
        "/members" => only("GET", &request).unwrap_or_else(|| members(&member, &request)),
        "/members/hashkv" => hash_kv(&member, request).await,
        "/downgrade/enabled" => match only("GET", &request) {
            Some(refusal) => refusal,
            None => downgrade_enabled(&member).await,
        },
        peer::KEEP_ALIVE | peer::INTERNAL => leases::answer(&member, request).await,
        path if path.starts_with(PROMOTE) => match only("POST", &request) {
            Some(refusal) => refusal,
            None => promote(&member, &request).await,
        },
        _ => return Err(request),
    })
}

/// The refusal of any other method.
fn only(method: &'static str, request: &Request<Incoming>) -> Option<Response<Body>> {
    if request.method().as_str() == method {
        return None;
    }
    let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let headers = refusal.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(method));
    Some(refusal)
}

fn members(member: &Arc<Member>, request: &Request<Incoming>) -> Response<Body> {
    if let Some(who) = Introduction::read(request.headers()) {
        explain(member.clone(), who);
    }
    let cluster = member.cluster.load();
    let mut text = b"[".to_vec();
    for one in cluster.members() {
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(&one.to_json());
    }
    text.extend_from_slice(b"]\n");
    of_cluster(member, json(StatusCode::OK, text))
}

/// Says in the log why a member that is about to start will not, and what to do. It comes to the same verdict.
fn explain(member: Arc<Member>, who: Introduction) {
    // It asks again if it is of importance, and comes to the verdict by itself.
    let Some(turn) = member.strangers.turn() else {
        return;
    };
    // Host names may have to be resolved.
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let cluster = member.cluster.load();
        let members = cluster.members().cloned().collect();
        let cluster = RemoteCluster::new(member.cluster_id, members);
        match verdict::judge(&who, &cluster) {
            Ok(_) if who.joins && who.data_of.is_none() => {
                info!(member.logger, "a member asks for the cluster before it joins";
                    "name" => &who.name, "peer-urls" => who.peer_urls.join(","));
            }
            Ok(_) => {}
            Err(obstacle) => {
                warn!(member.logger, "refused a member: {}", obstacle.explain(&who, &cluster);
                    "remote-name" => &who.name, "remote-peer-urls" => who.peer_urls.join(","));
            }
        }
    });
}

async fn promote(member: &Arc<Member>, request: &Request<Incoming>) -> Response<Body> {
    let text = request
        .uri()
        .path()
        .strip_prefix(PROMOTE)
        .unwrap_or_default();
    let Ok(id) = text.parse::<u64>() else {
        let text = format!("member {text} not found in cluster");
        return of_cluster(member, plain(StatusCode::NOT_FOUND, text));
    };
    let answer = match member.promote(id, None).await {
        Ok(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|member| String::from_utf8_lossy(&member.to_json()).into_owned())
                .collect();
            json(StatusCode::OK, format!("[{}]\n", members.join(",")))
        }
        Err(error) => {
            warn!(member.logger, "failed to promote a member";
                "member-id" => format!("{id:x}"), "error" => %error);
            match error {
                Error::MemberNotFound => plain(StatusCode::NOT_FOUND, "membership: ID not found"),
                Error::MemberNotLearner => plain(
                    StatusCode::PRECONDITION_FAILED,
                    "membership: can only promote a learner member",
                ),
                Error::LearnerNotReady => plain(StatusCode::PRECONDITION_FAILED, error.to_string()),
                _ => json(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    r#"{"message":"Internal Server Error"}"#,
                ),
            }
        }
    };
    of_cluster(member, answer)
}

async fn downgrade_enabled(member: &Arc<Member>) -> Response<Body> {
    let answer = match member.linearizable().await {
        Ok(()) => {
            let enabled = member
                .cluster
                .load()
                .downgrade()
                .is_some_and(|info| info.enabled);
            let mut answer = Response::new(Body::Full(enabled.to_string().into()));
            let plain = HeaderValue::from_static("text/plain");
            answer.headers_mut().insert(header::CONTENT_TYPE, plain);
            answer
        }
        Err(error) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed linearized read: {error}"),
        ),
    };
    of_cluster(member, answer)
}

#[derive(Deserialize)]
struct HashQuestion {
    #[serde(default)]
    revision: i64,
}

#[derive(Serialize)]
struct HashAnswer {
    header: HashHeader,
    #[serde(skip_serializing_if = "is_zero")]
    hash: u32,
    #[serde(skip_serializing_if = "is_none")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_none")]
    hash_revision: i64,
}

#[derive(Serialize)]
struct HashHeader {
    #[serde(skip_serializing_if = "is_none")]
    revision: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none(number: &i64) -> bool {
    *number == 0
}

async fn hash_kv(member: &Arc<Member>, request: Request<Incoming>) -> Response<Body> {
    if let Some(refusal) = only("GET", &request) {
        return refusal;
    }
    if let Some(id) = request.headers().get(CLUSTER_ID)
        && id.as_bytes() != format!("{:x}", member.cluster_id).as_bytes()
    {
        return plain(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let Ok(body) = question::read(request.into_body(), MAX_QUESTION).await else {
        return plain(StatusCode::BAD_REQUEST, "error reading body");
    };
    let Ok(question) = serde_json::from_slice::<HashQuestion>(&body) else {
        return plain(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    let asked = member.clone();
    let found = blocking(move || {
        let _timer = asked.metrics.mvcc.hash_rev.start_timer();
        asked.store.hash_kv(question.revision)
    });
    match found.await {
        Ok(Ok(found)) => {
            let answer = HashAnswer {
                header: HashHeader {
                    revision: found.current_rev,
                },
                hash: found.hash,
                compact_revision: found.compact_rev,
                hash_revision: found.rev,
            };
            let text = serde_json::to_string(&answer).unwrap_or_default();
            of_cluster(member, json(StatusCode::OK, text))
        }
        Ok(Err(mvcc::Error::Compacted)) => plain(
            StatusCode::BAD_REQUEST,
            "mvcc: required revision has been compacted",
        ),
        Ok(Err(mvcc::Error::FutureRev)) => plain(
            StatusCode::BAD_REQUEST,
            "mvcc: required revision is a future revision",
        ),
        Ok(Err(error)) => {
            warn!(member.logger, "failed to get hashKV"; "requested-revision" => question.revision,
                "error" => %error);
            plain(StatusCode::BAD_REQUEST, error.to_string())
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Names the cluster on an answer.
fn of_cluster(member: &Member, mut answer: Response<Body>) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(&format!("{:x}", member.cluster_id)) {
        answer.headers_mut().insert(CLUSTER_ID, id);
    }
    answer
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Body::Full(text.into()));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

/// As Go's `http.Error`.
fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut text = text.into();
    text.push('\n');
    let mut answer = Response::new(Body::Full(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, content_type);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}
