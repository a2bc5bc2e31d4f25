//! The line about a unary call that took long.
//!
//! Source: etcd 3.7 `server/etcdserver/api/v3rpc/interceptor.go`; observed of etcd 3.7.1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::etcdserverpb as pb;
use slog::warn;

use super::{Method, frame};
use crate::config::GoDuration;
use crate::net::Settings;
use crate::{log, loggable};

/// Who calls what.
pub(super) struct Stats {
    pub(super) settings: Arc<Settings>,
    pub(super) remote: SocketAddr,
    pub(super) method: Method,
}

/// A call that a handler works on.
pub(super) struct Running {
    stats: Stats,
    /// Read again if the call takes long, and only then.
    request: Bytes,
    began: Instant,
}

/// What the line tells of request and reply.
#[derive(Debug, PartialEq, Eq)]
struct Measures {
    request_count: i64,
    request_size: i64,
    response_count: i64,
    response_size: i64,
    content: String,
}

impl Stats {
    pub(super) fn begin(self, request: Bytes) -> Running {
        Running {
            stats: self,
            request,
            began: Instant::now(),
        }
    }
}

impl Running {
    /// The call ends; with an error there is no reply. It comes with its prefix.
    pub(super) fn end(self, reply: Option<&Bytes>) {
        let Stats {
            settings,
            remote,
            method,
        } = self.stats;
        let took = self.began.elapsed();
        if took <= settings.warning_unary_duration {
            return;
        }
        let reply = reply.map(|framed| framed.slice(frame::PREFIX.min(framed.len())..));
        let measures = measure(method, &self.request, reply.as_ref());
        warn!(settings.logger, "request stats";
            "start time" => log::time_ago(took),
            "time spent" => %GoDuration(took),
            "remote" => %remote,
            "response type" => format!("/{}/{}", method.service(), method.name()),
            "request count" => measures.request_count,
            "request size" => measures.request_size,
            "response count" => measures.response_count,
            "response size" => measures.response_size,
            "request content" => measures.content);
    }
}

/// Values are told by their size, and nothing of calls about users and the like.
fn measure(method: Method, request: &Bytes, reply: Option<&Bytes>) -> Measures {
    let size = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let reply_size = reply.map_or(0, |reply| size(reply.len()));
    let answered = |request_count, response_count, content| Measures {
        request_count,
        request_size: size(request.len()),
        response_count,
        response_size: reply_size,
        content,
    };
    match method {
        Method::Range => {
            let count = reply.and_then(|reply| pb::RangeResponse::decode(reply.clone()).ok());
            let content = pb::RangeRequest::decode(request.clone()).map(|r| loggable::range(&r));
            answered(0, count.map_or(0, |r| r.count), content.unwrap_or_default())
        }
        Method::Put => {
            let content = pb::PutRequest::decode(request.clone()).map(|r| loggable::put(&r));
            answered(1, 0, content.unwrap_or_default())
        }
        Method::DeleteRange => {
            let count = reply.and_then(|reply| pb::DeleteRangeResponse::decode(reply.clone()).ok());
            let content =
                pb::DeleteRangeRequest::decode(request.clone()).map(|r| loggable::delete_range(&r));
            let count = count.map_or(0, |r| r.deleted);
            answered(0, count, content.unwrap_or_default())
        }
        Method::Txn => {
            let reply = reply.and_then(|reply| pb::TxnResponse::decode(reply.clone()).ok());
            let request = pb::TxnRequest::decode(request.clone()).ok();
            // Which operations were meant is known only from the reply.
            let Some((request, reply)) = request.zip(reply) else {
                return Measures {
                    request_size: 0,
                    ..answered(0, 0, String::new())
                };
            };
            let operations = match reply.succeeded {
                true => &request.success,
                false => &request.failure,
            };
            Measures {
                request_size: size(operations.iter().map(|op| op.encoded_len()).sum()),
                ..answered(size(operations.len()), 0, loggable::txn(&request))
            }
        }
        _ => Measures {
            request_count: -1,
            request_size: -1,
            response_count: -1,
            response_size: -1,
            content: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &impl prost::Message) -> Bytes {
        message.encode_to_vec().into()
    }

    #[test]
    fn a_call_is_measured_as_etcd_does() {
        let range = bytes(&pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 5,
            ..Default::default()
        });
        let reply = bytes(&pb::RangeResponse {
            count: 7,
            ..Default::default()
        });
        assert_eq!(
            measure(Method::Range, &range, Some(&reply)),
            Measures {
                request_count: 0,
                request_size: 8,
                response_count: 7,
                response_size: 2,
                content: "key:\"a\" range_end:\"b\" limit:5".into(),
            }
        );
        let put = bytes(&pb::PutRequest {
            key: "a".into(),
            value: "secret".into(),
            ..Default::default()
        });
        let measured = measure(Method::Put, &put, None);
        assert_eq!((measured.request_count, measured.response_size), (1, 0));
        assert!(!measured.content.contains("secret"), "{}", measured.content);
        let operation = |request| pb::RequestOp {
            request: Some(request),
        };
        let txn = pb::TxnRequest {
            compare: vec![],
            success: vec![operation(pb::request_op::Request::RequestPut(
                pb::PutRequest {
                    key: "a".into(),
                    value: "secret".into(),
                    ..Default::default()
                },
            ))],
            failure: vec![],
        };
        let reply = bytes(&pb::TxnResponse {
            succeeded: true,
            ..Default::default()
        });
        let measured = measure(Method::Txn, &bytes(&txn), Some(&reply));
        assert_eq!((measured.request_count, measured.request_size), (1, 13));
        assert!(!measured.content.contains("secret"), "{}", measured.content);
        assert_eq!(
            measure(Method::Compact, &Bytes::new(), None).request_size,
            -1
        );
    }
}
