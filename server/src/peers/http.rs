//! One HTTP/1.1 request to another member.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("{0:?} is not a URL that peers are reached at")]
    Url(String),
    #[error("dial tcp {address}: {source}")]
    Dial {
        address: String,
        source: std::io::Error,
    },
    #[error("context deadline exceeded (no answer within {0:?})")]
    Deadline(Duration),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Body(String),
}

/// Sends a request to the member at `url` and reads the whole answer, within `deadline` and up to
/// `limit` bytes. Redirects are not followed (M15).
pub(super) async fn request(
    url: &str,
    request: Request<Bytes>,
    deadline: Duration,
    limit: usize,
) -> Result<Response<Bytes>, RequestError> {
    timeout(deadline, exchange(url, request, limit))
        .await
        .map_err(|_| RequestError::Deadline(deadline))?
}

async fn exchange(
    url: &str,
    mut request: Request<Bytes>,
    limit: usize,
) -> Result<Response<Bytes>, RequestError> {
    let authority = url
        .strip_prefix("http://")
        .ok_or_else(|| RequestError::Url(url.to_owned()))?;
    let host = header::HeaderValue::from_str(authority)
        .map_err(|_| RequestError::Url(url.to_owned()))?;
    request.headers_mut().insert(header::HOST, host);
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|source| RequestError::Dial {
            address: authority.to_owned(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let answer = async {
        let answer = sender.send_request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, limit)
            .collect()
            .await
            .map_err(|error| RequestError::Body(error.to_string()))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            answer = answer.as_mut() => return answer,
            ended = connection.as_mut(), if open => {
                open = false;
                ended?;
            }
        }
    }
}
