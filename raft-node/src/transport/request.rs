//! Requests to the other endpoints of a peer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::timeout;

use super::Connector;
use super::client::{self, ClientError};
use super::pool::Pool;
use super::url::{BadUrl, PeerUrl};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The URL is not one.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// Nothing within the deadline.
    #[error("no answer from {url} within {deadline:?}")]
    Deadline {
        /// The peer's URL.
        url: String,
        /// The deadline.
        deadline: Duration,
    },
    /// The answer is longer than the limit.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLong {
        /// The peer's URL.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// No connection, or it broke.
    #[error("{url}: {text}")]
    Connection {
        /// The peer's URL.
        url: String,
        /// What happened.
        text: String,
    },
}

/// One HTTP/1.1 request to a peer: `url` is one of its peer URLs, the path and the query are those
/// of `request`. Never follows a redirect. `deadline` is for all of it, `limit` for the body of
/// the answer. To be called within a tokio runtime.
///
/// # Errors
/// See [`RequestError`]; an answer is none, whatever its status.
pub async fn request(
    connector: Option<&dyn Connector>,
    url: &str,
    request: Request<Bytes>,
    deadline: Duration,
    limit: usize,
) -> Result<Response<Bytes>, RequestError> {
    // What is in it goes with it.
    let pool = Pool::new(Duration::ZERO);
    request_over(connector, &pool, url, request, deadline, limit).await
}

pub(super) async fn request_over(
    connector: Option<&dyn Connector>,
    pool: &Pool,
    url: &str,
    request: Request<Bytes>,
    deadline: Duration,
    limit: usize,
) -> Result<Response<Bytes>, RequestError> {
    let target = PeerUrl::parse(url)?;
    match timeout(
        deadline,
        exchange(connector, pool, &target, request, deadline, limit),
    )
    .await
    {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(ClientError::AnswerTooLong(limit))) => Err(RequestError::TooLong {
            url: url.to_owned(),
            limit,
        }),
        Ok(Err(error)) => Err(RequestError::Connection {
            url: url.to_owned(),
            text: error.to_string(),
        }),
        Err(_) => Err(RequestError::Deadline {
            url: url.to_owned(),
            deadline,
        }),
    }
}

async fn exchange(
    connector: Option<&dyn Connector>,
    pool: &Pool,
    url: &PeerUrl,
    request: Request<Bytes>,
    deadline: Duration,
    limit: usize,
) -> Result<Response<Bytes>, ClientError> {
    let (mut head, body) = request.into_parts();
    if !body.is_empty() {
        client::length(&mut head.headers, body.len());
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    loop {
        let kept = pool.take(url).await;
        let again = kept.is_some();
        let mut connection = match kept {
            Some(kept) => kept,
            None => client::connect(&pool.names, connector, url, deadline).await?,
        };
        let (method, headers) = (head.method.clone(), head.headers.clone());
        let body = client::full(body.clone());
        let request = client::build(method, url, path, headers, body)?;
        let response = match connection.send(request).await {
            Err(ClientError::Http(error)) if again && was_not_sent(&error) => continue,
            response => response?,
        };
        let answer = client::read_answer(response, limit).await?;
        pool.put(url, connection);
        return Ok(answer);
    }
}

/// The connection ended before anything of the request was written. Where it may have arrived, it
/// is not for this level to say whether it does harm twice.
fn was_not_sent(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed()
}
