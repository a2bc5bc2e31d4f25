//! Leases between members: the way to the leader, and the answers of the leader.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::question::{self, Unread};
use crate::lease::peer::{self, AskLeader, Boxed, Question};
use crate::member::Member;
use crate::net::Body;

/// How a member asks its leader.
#[derive(Debug)]
pub(crate) struct LeaderPath(Weak<Member>);

impl LeaderPath {
    pub(crate) fn new(member: &Arc<Member>) -> Self {
        Self(Arc::downgrade(member))
    }
}

impl AskLeader for LeaderPath {
    fn ask(&self, question: Question) -> Boxed<'_, Result<(u16, Bytes), String>> {
        Box::pin(async move {
            let member = self.0.upgrade().ok_or("the member has stopped")?;
            let leader = member.leader.borrow().id;
            let cluster = member.cluster.load_full();
            let urls = match cluster.member(leader) {
                Some(leader) => &leader.peer_urls[..],
                None => return Err("there is no leader".to_owned()),
            };
            let mut reason = "the leader has no peer URL".to_owned();
            for url in urls {
                match post(&member, url, &question).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => reason = error,
                }
            }
            Err(reason)
        })
    }
}

async fn post(member: &Member, url: &str, question: &Question) -> Result<(u16, Bytes), String> {
    let mut request = Request::new(question.body.clone());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(question.path);
    let protobuf = HeaderValue::from_static("application/protobuf");
    request.headers_mut().insert(header::CONTENT_TYPE, protobuf);
    let timeout: Duration = member.limits.request_timeout;
    let limit = peer::MAX_ANSWER_BYTES + 1;
    match member.remote.request(url, request, timeout, limit).await {
        Ok(answer) => Ok((answer.status().as_u16(), answer.into_body())),
        Err(error) => Err(error.to_string()),
    }
}

/// Answers a question of another member.
pub(super) async fn answer(member: &Arc<Member>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match question::read(body, peer::MAX_REQUEST_BYTES).await {
        Ok(body) => peer::Body::Whole(body),
        Err(Unread::TooLarge) => peer::Body::TooLarge,
        Err(Unread::Broken) => peer::Body::Broken,
    };
    let answer = match head.uri.path() {
        peer::INTERNAL => peer::serve_internal(member, &head.method, body).await,
        _ => peer::serve_keep_alive(member, &head.method, body).await,
    };
    let mut response = Response::new(Body::Full(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
