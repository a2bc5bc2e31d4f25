//! Connections to peers.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::context::Context;
use super::names::Names;
use super::url::PeerUrl;
use super::version::{Incompatible, text};
use super::{Connector, Stream};

/// The body of a request. One that fails closes the connection, so that half of it is not taken
/// for all of it.
pub(super) type RequestBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An answer to a POST is a sentence at most.
const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("dial {to}: {source}")]
    Dial { to: String, source: io::Error },
    #[error("dial {to}: i/o timeout after {after:?}")]
    DialTimeout { to: String, after: Duration },
    #[error("dial {to}: the URL asks for TLS, and this member has none for peers")]
    NoTls { to: String },
    #[error("{}", with_cause(.0))]
    Http(#[from] hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the request cannot be built: {0}")]
    Request(#[from] http::Error),
    #[error("the answer is longer than {0} bytes")]
    AnswerTooLong(usize),
}

/// hyper keeps what the operating system said one level below.
fn with_cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Why a POST did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    #[error("unhandled error {0:?} when precondition failed")]
    Precondition(String),
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("the member at this address is another one")]
    Mismatch,
    #[error("unexpected http status {status} while posting to {url:?}")]
    Status { status: String, url: String },
    #[error("the database cannot be read: {0}")]
    Database(String),
}

/// A connection, which may be used again and again.
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    _driver: AbortOnDrop,
}

/// A task that ends with its owner.
pub(super) struct AbortOnDrop(pub(super) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn connect(
    names: &Names,
    connector: Option<&dyn Connector>,
    url: &PeerUrl,
    within: Duration,
) -> Result<Connection, ClientError> {
    let stream = match timeout(within, dial(names, connector, url)).await {
        Ok(stream) => stream?,
        Err(_) => {
            return Err(ClientError::DialTimeout {
                to: url.dialed(),
                after: within,
            });
        }
    };
    let (sender, driver) = Builder::new()
        // As Go writes them; some who read captures are not used to anything else.
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = tokio::spawn(async move {
        // Whoever waits for an answer is told.
        let _ = driver.await;
    });
    Ok(Connection {
        sender,
        _driver: AbortOnDrop(driver),
    })
}

async fn dial(
    names: &Names,
    connector: Option<&dyn Connector>,
    url: &PeerUrl,
) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |source| ClientError::Dial {
        to: url.dialed(),
        source,
    };
    if url.tls && connector.is_none() {
        return Err(ClientError::NoTls { to: url.dialed() });
    }
    let stream = match &url.socket {
        Some(file) => dial_file(file).await.map_err(failed)?,
        None => {
            let addresses = names.addresses(&url.host, url.port).await.map_err(failed)?;
            let local = connector.and_then(|connector| connector.local_address());
            let tcp = open(&addresses, local).await.map_err(failed)?;
            // Messages are small and somebody waits for them.
            tcp.set_nodelay(true).map_err(failed)?;
            tcp
        }
    };
    match connector {
        Some(connector) if url.tls => connector.connect(stream, &url.host).await.map_err(failed),
        _ => Ok(Box::new(stream)),
    }
}

/// A connection to the first of these addresses that takes one.
async fn open(addresses: &[SocketAddr], local: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else {
        return TcpStream::connect(addresses).await;
    };
    let mut failure = io::Error::other(format!("none of its addresses can be dialed from {local}"));
    let same = |address: &&SocketAddr| address.is_ipv4() == local.is_ipv4();
    for address in addresses.iter().filter(same) {
        let socket = match local {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(local, 0))?;
        match socket.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn dial_file(file: &Path) -> io::Result<TcpStream> {
    let connected = UnixStream::connect(file).await;
    let stream = connected.map_err(|error| match error.kind() {
        // A server takes its file away when it ends: nobody listens, as on a port that nobody has.
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::ConnectionRefused, error),
        _ => error,
    })?;
    // What is done with a connection is the same for either kind of socket; only its options differ.
    TcpStream::from_std(OwnedFd::from(stream.into_std()?).into())
}

impl Connection {
    /// Can it take another request?
    pub(super) async fn usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

/// A request to `url`.
pub(super) fn build(
    method: Method,
    url: &PeerUrl,
    path: &str,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Request<RequestBody>, ClientError> {
    let host = HeaderValue::from_str(&url.authority).map_err(http::Error::from)?;
    let mut request = Request::builder().method(method).uri(path).body(body)?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

pub(super) fn empty() -> RequestBody {
    full(Bytes::new())
}

pub(super) fn full(bytes: Bytes) -> RequestBody {
    Box::pin(Full::new(bytes).map_err(|never: Infallible| match never {}))
}

/// At most `limit` bytes.
pub(super) async fn read_answer(
    response: Response<Incoming>,
    limit: usize,
) -> Result<Response<Bytes>, ClientError> {
    let (head, mut body) = response.into_parts();
    if body.size_hint().lower() > limit as u64 {
        return Err(ClientError::AnswerTooLong(limit));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if data.len() > limit - bytes.len() {
            return Err(ClientError::AnswerTooLong(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Response::from_parts(head, bytes.into()))
}

/// What the answer to a POST of a message or a snapshot means.
pub(super) async fn post_result(
    context: &Context,
    response: Response<Incoming>,
    peer: &str,
    to: &str,
) -> Result<(), PostError> {
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    let logger = &context.options.logger;
    let cluster = text(response.headers(), "x-etcd-cluster-id").to_owned();
    let body = read_answer(response, MAX_ANSWER).await?.into_body();
    let body = String::from_utf8_lossy(&body);
    let said = body.strip_suffix('\n').unwrap_or(&body);
    match status {
        StatusCode::PRECONDITION_FAILED if said == Incompatible::Version.to_string() => {
            slog::error!(logger, "request sent was ignored by peer"; "remote-peer-id" => peer);
            Err(Incompatible::Version.into())
        }
        StatusCode::PRECONDITION_FAILED if said == Incompatible::Cluster.to_string() => {
            slog::error!(logger, "request sent was ignored due to cluster ID mismatch";
                "remote-peer-id" => peer,
                "remote-peer-cluster-id" => cluster,
                "local-member-cluster-id" => &context.cluster);
            Err(Incompatible::Cluster.into())
        }
        StatusCode::PRECONDITION_FAILED => Err(PostError::Precondition(body.into_owned())),
        // etcd takes this for a removal as well, and stops. But it only says that the address
        // belongs to somebody else now.
        StatusCode::FORBIDDEN if said.contains("mismatch member") => Err(PostError::Mismatch),
        StatusCode::FORBIDDEN => Err(PostError::Removed),
        other => Err(PostError::Status {
            status: other.canonical_reason().unwrap_or("").to_owned(),
            url: to.to_owned(),
        }),
    }
}

/// A body of known length does not need to be sent in chunks.
pub(super) fn length(headers: &mut HeaderMap, bytes: usize) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes as u64));
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// All of 127.0.0.0/8 is this machine.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_comes_from_the_address_that_was_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let from: IpAddr = [127, 0, 0, 2].into();
        let v6 = SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), address.port());
        let _stream = open(&[v6, address], Some(from)).await.expect("dialed");
        assert_eq!(listener.accept().expect("accepted").1.ip(), from);
        let error = open(&[v6], Some(from)).await.expect_err("another family");
        assert!(error.to_string().contains("127.0.0.2"), "{error}");
    }
}
