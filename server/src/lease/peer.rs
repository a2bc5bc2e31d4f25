//! Leases between members: renewals and questions that reached a member which does not lead.
//!
//! The leader answers at [`KEEP_ALIVE`] and [`INTERNAL`] of its peer URLs. Source: peer-protocol 13; etcd
//! `server/lease/leasehttp/http.go`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use prost::Message;
use retcd_proto::{etcdserverpb as pb, leasepb};

use super::shared::TimeToLive;
use crate::error::Error;
use crate::member::Member;

/// The path of renewals.
pub(crate) const KEEP_ALIVE: &str = "/leases";
/// The path of questions.
pub(crate) const INTERNAL: &str = "/leases/internal";

/// A larger request is refused. Whoever reads it from the network need not read on.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// A larger answer is not used. Whoever reads it from the network need not read on.
pub(crate) const MAX_ANSWER_BYTES: usize = 100 * 1024 * 1024;

const PROTOBUF: &str = "application/protobuf";
const TEXT: &str = "text/plain; charset=utf-8";

const NOT_FOUND: &str = "lease not found";
const CATCHING_UP: &str = "waiting for node to catch up its applied index has timed out";

/// A future of a dynamic call.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the leader gave no answer to a question about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It has no such lease.
    NotFound,
    /// It could not be reached, does not lead any more, or is busy: to be tried again.
    Retry(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str(NOT_FOUND),
            Self::Retry(why) => f.write_str(why),
        }
    }
}

/// The leases of the leader, asked by another member.
pub(crate) trait LeaderLeases: fmt::Debug + Send + Sync {
    /// Renews a lease; returns its seconds.
    fn keep_alive(&self, id: i64) -> Boxed<'_, Result<i64, Unanswered>>;

    /// What is left of a lease, and its keys if they are wanted.
    fn time_to_live(&self, id: i64, keys: bool) -> Boxed<'_, Result<TimeToLive, Unanswered>>;
}

/// A request of one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// To be appended to the peer URL.
    pub(crate) path: &'static str,
    /// Posted, with the content type `application/protobuf`.
    pub(crate) body: Bytes,
}

/// Who carries a question to the leader: status and body of its answer, or why there is none. Tries each of the
/// leader's peer URLs until one answers. An answer has [`MAX_ANSWER_BYTES`] at most.
pub(crate) trait AskLeader: fmt::Debug + Send + Sync {
    fn ask(&self, question: Question) -> Boxed<'_, Result<(u16, Bytes), String>>;
}

/// The leases of the leader over HTTP.
#[derive(Debug)]
pub(crate) struct OverHttp<A>(pub(crate) A);

impl<A: AskLeader> LeaderLeases for OverHttp<A> {
    fn keep_alive(&self, id: i64) -> Boxed<'_, Result<i64, Unanswered>> {
        Box::pin(async move {
            let request = pb::LeaseKeepAliveRequest { id };
            let question = Question {
                path: KEEP_ALIVE,
                body: request.encode_to_vec().into(),
            };
            let reply: pb::LeaseKeepAliveResponse = read(self.0.ask(question).await)?;
            match reply.id == id {
                true => Ok(reply.ttl),
                false => Err(Unanswered::Retry("lease: renew id mismatch".into())),
            }
        })
    }

    fn time_to_live(&self, id: i64, keys: bool) -> Boxed<'_, Result<TimeToLive, Unanswered>> {
        Box::pin(async move {
            let request = leasepb::LeaseInternalRequest {
                lease_time_to_live_request: Some(pb::LeaseTimeToLiveRequest { id, keys }),
            };
            let question = Question {
                path: INTERNAL,
                body: request.encode_to_vec().into(),
            };
            let reply: leasepb::LeaseInternalResponse = read(self.0.ask(question).await)?;
            let reply = reply.lease_time_to_live_response.unwrap_or_default();
            if reply.id != id {
                return Err(Unanswered::Retry("lease: renew id mismatch".into()));
            }
            Ok(TimeToLive {
                left: reply.ttl,
                granted: reply.granted_ttl,
                keys: reply.keys,
            })
        })
    }
}

fn read<T: Message + Default>(answer: Result<(u16, Bytes), String>) -> Result<T, Unanswered> {
    let (status, body) = answer.map_err(Unanswered::Retry)?;
    let text = || String::from_utf8_lossy(&body).trim_end().to_owned();
    if body.len() > MAX_ANSWER_BYTES {
        return Err(Unanswered::Retry(format!(
            "lease: an answer of {} bytes is too large",
            body.len()
        )));
    }
    match status {
        200 => T::decode(body.clone())
            .map_err(|error| Unanswered::Retry(format!("lease: {error}. data = {:?}", text()))),
        404 => Err(Unanswered::NotFound),
        408 => Err(Unanswered::Retry(CATCHING_UP.into())),
        _ => Err(Unanswered::Retry(format!(
            "lease: unknown error({})",
            text()
        ))),
    }
}

/// A leader that cannot be asked: this member has no connection to others.
#[derive(Debug)]
pub(crate) struct Alone;

impl LeaderLeases for Alone {
    fn keep_alive(&self, _: i64) -> Boxed<'_, Result<i64, Unanswered>> {
        Box::pin(std::future::ready(Err(unreachable())))
    }

    fn time_to_live(&self, _: i64, _: bool) -> Boxed<'_, Result<TimeToLive, Unanswered>> {
        Box::pin(std::future::ready(Err(unreachable())))
    }
}

fn unreachable() -> Unanswered {
    Unanswered::Retry("this member has no way to ask the leader".into())
}

/// The answer to a request of another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names and values.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Bytes,
}

impl Answer {
    fn message(message: &impl Message) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", PROTOBUF)],
            body: message.encode_to_vec().into(),
        }
    }

    /// As Go's `http.Error` writes it.
    fn error(status: u16, text: &str) -> Self {
        Self {
            status,
            headers: vec![
                ("content-type", TEXT),
                ("x-content-type-options", "nosniff"),
            ],
            body: format!("{text}\n").into(),
        }
    }

    fn refused(error: &Error, otherwise: u16) -> Self {
        match error {
            Error::LeaseNotFound => Self::error(404, NOT_FOUND),
            Error::TimeoutWaitAppliedIndex => Self::error(408, CATCHING_UP),
            other => Self::error(otherwise, other.code_and_text().1),
        }
    }
}

/// What came of reading a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Whole(Bytes),
    /// It has more than [`MAX_REQUEST_BYTES`].
    TooLarge,
    /// It ended too early.
    Broken,
}

/// Answers a request for [`KEEP_ALIVE`].
pub(crate) async fn serve_keep_alive(member: &Arc<Member>, method: &Method, body: Body) -> Answer {
    let request: pb::LeaseKeepAliveRequest = match request(method, body) {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    match member.renew_as_leader(request.id).await {
        Ok(ttl) => Answer::message(&pb::LeaseKeepAliveResponse {
            header: None,
            id: request.id,
            ttl,
        }),
        Err(error) => Answer::refused(&error, 400),
    }
}

/// Answers a request for [`INTERNAL`].
pub(crate) async fn serve_internal(member: &Arc<Member>, method: &Method, body: Body) -> Answer {
    let request: leasepb::LeaseInternalRequest = match request(method, body) {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    let r = request.lease_time_to_live_request.unwrap_or_default();
    match member.time_to_live_as_leader(r.id, r.keys).await {
        Ok(found) => Answer::message(&leasepb::LeaseInternalResponse {
            lease_time_to_live_response: Some(pb::LeaseTimeToLiveResponse {
                header: Some(pb::ResponseHeader::default()),
                id: r.id,
                ttl: found.left,
                granted_ttl: found.granted,
                keys: found.keys,
            }),
        }),
        Err(error) => Answer::refused(&error, 500),
    }
}

fn request<T: Message + Default>(method: &Method, body: Body) -> Result<T, Answer> {
    if method != Method::POST {
        return Err(Answer::error(405, "Method Not Allowed"));
    }
    match body {
        Body::TooLarge => Err(Answer::error(413, "request body too large")),
        Body::Broken => Err(Answer::error(400, "error reading body")),
        Body::Whole(body) if body.len() > MAX_REQUEST_BYTES => {
            Err(Answer::error(413, "request body too large"))
        }
        Body::Whole(body) => {
            T::decode(body).map_err(|_| Answer::error(400, "error unmarshalling request"))
        }
    }
}
