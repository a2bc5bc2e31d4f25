//! One accepted connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use retcd_raft_node::transport::WriteDeadline;
use retcd_tls::{Socket, TlsStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;

use super::authority::Authorities;
use super::body::Body;
use super::cork::cork;
use super::gateway::Later;
use super::grpc;
use super::http as plain;
use super::pings::{Counted, Frames, Pings};
use super::refused;
use super::site::{Boxed, Secure, Sender, Site, Surface};
use super::threads::Drain;

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The h2 crate closes a connection whose unread small frames exceed half of this window; a burst
/// of some ten thousand small requests must fit.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What one stream may send ahead.
const STREAM_WINDOW: u32 = 1 << 20;

/// Metadata of a call, tokens included.
const MAX_HEADER_BYTES: u32 = 256 << 10;

/// Streams that a client opened and reset before they were looked at: beyond this the connection
/// is closed (CVE-2023-44487). A client that gives up on a burst of calls stays below.
const MAX_PENDING_RESETS: usize = 1024;

/// How long a client that was sent away may take to leave; closing at once could take back what it was told.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection until it ends, or, once `drain` begins, until the calls in flight
/// have ended. What goes wrong with a connection ends that connection and nothing else.
pub(super) async fn serve(stream: Socket, site: Arc<Site>, drain: Drain) {
    let remote = match &stream {
        // Gone already, when it has no address.
        Socket::Tcp(stream) => match stream.peer_addr() {
            Ok(remote) => remote,
            Err(_) => return,
        },
        // Whoever opens a file is on this machine.
        Socket::Unix(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let mut stop = drain.clone();
    let opened = tokio::select! {
        biased;
        opened = open(stream, remote, &site) => opened,
        () = stop.begun() => return,
    };
    match opened {
        Some(Opened::Plain(stream)) => {
            let wire = Wire {
                remote,
                secure: false,
            };
            match stream {
                Socket::Tcp(stream) => {
                    let (reader, writer) = stream.into_split();
                    converse(reader, writer, wire, site, drain).await;
                }
                Socket::Unix(stream) => {
                    let (reader, writer) = stream.into_split();
                    converse(reader, writer, wire, site, drain).await;
                }
            }
        }
        Some(Opened::Tls(stream)) => {
            let wire = Wire {
                remote,
                secure: true,
            };
            let (reader, writer) = tokio::io::split(*stream);
            converse(reader, writer, wire, site, drain).await;
        }
        None => {}
    }
}

/// How a client is connected.
#[derive(Clone, Copy)]
struct Wire {
    remote: SocketAddr,
    secure: bool,
}

enum Opened {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

/// Finds out whether TLS is spoken, and shakes hands then.
async fn open(stream: Socket, remote: SocketAddr, site: &Site) -> Option<Opened> {
    let Some(acceptor) = &site.transport.tls else {
        return Some(Opened::Plain(stream));
    };
    if site.transport.plain {
        let mut first = [0];
        let peeked = timeout(site.settings.header_timeout, stream.peek(&mut first)).await;
        match peeked {
            Ok(Ok(1)) if retcd_tls::is_tls(&first) => {}
            Ok(Ok(1)) => return Some(Opened::Plain(stream)),
            _ => return None,
        }
    }
    match acceptor.accept(stream, remote).await {
        Ok(stream) => Some(Opened::Tls(Box::new(stream))),
        Err(refused) => {
            refused::log(&site.settings.logger, site.surface, &refused);
            None
        }
    }
}

async fn converse(
    mut reader: impl AsyncRead + Unpin + Send + 'static,
    writer: impl AsyncWrite + Unpin + Send + 'static,
    wire: Wire,
    site: Arc<Site>,
    drain: Drain,
) {
    let mut stop = drain.clone();
    let greeting = tokio::select! {
        biased;
        greeting = timeout(site.settings.header_timeout, greeting(&mut reader)) => greeting,
        () = stop.begun() => return,
    };
    // A client that said nothing in time, or whose connection broke.
    let Ok(Ok((is_http2, read))) = greeting else {
        return;
    };
    if !wire.secure && retcd_tls::is_tls(&read) {
        let logger = &site.settings.logger;
        return refused::log_tls(logger, site.surface, wire.remote, &read, reader).await;
    }
    // What is for one of them alone knows no word of the other.
    match site.surface {
        Surface::Http if is_http2 && !wire.secure => return,
        Surface::Grpc if !is_http2 => return,
        _ => {}
    }
    let reader = io::Cursor::new(read).chain(reader);
    if is_http2 {
        // As in etcd, where over TLS another server answers, which has no rule about pings.
        let counted = match site.surface {
            Surface::Client => !wire.secure,
            Surface::Grpc => true,
            _ => false,
        };
        let pings = counted.then(|| Pings::new(site.settings.keepalive_min_time));
        let reader = Authorities::new(reader, PREFACE.len(), pings.clone());
        serve_http2(reader, writer, wire, site, pings, drain).await;
        return;
    }
    let io = tokio::io::join(reader, writer);
    // A stream to a peer lasts; one that takes nothing must not.
    if site.surface == Surface::Peer {
        let io = WriteDeadline::new(io, site.settings.peer_write_timeout);
        serve_http1(io, wire, site, drain).await;
    } else {
        serve_http1(io, wire, site, drain).await;
    }
}

/// Reads until it is clear whether the client speaks HTTP/2; returns what was read.
async fn greeting(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(bool, Bytes)> {
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() && read[..length] == PREFACE[..length] {
        match reader.read(&mut read[length..]).await? {
            0 => break,
            more => length += more,
        }
    }
    Ok((read == PREFACE, Bytes::copy_from_slice(&read[..length])))
}

async fn serve_http2(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    wire: Wire,
    site: Arc<Site>,
    pings: Option<Arc<Pings>>,
    mut drain: Drain,
) {
    let settings = Arc::clone(&site.settings);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .auto_date_header(false);
    let calls = pings.clone();
    let service = service_fn(move |request| {
        let answer = match site.surface {
            // Over TLS, where clients agree on HTTP/2 as browsers do, it may be for the other endpoints.
            Surface::Client if !wire.secure || is_grpc(&request) => {
                grpc::serve(&site, wire.remote, request)
            }
            Surface::Grpc => grpc::serve(&site, wire.remote, request),
            _ => answer(Arc::clone(&site), wire, None, request),
        };
        let call = calls.as_ref().map(Pings::call);
        async move {
            let response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| Counted::new(body, call)))
        }
    });
    let (writer, cork) = cork(writer, pings.clone().map(Frames::new));
    let io = TokioIo::new(tokio::io::join(reader, writer));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let too_many = || {
        let pings = pings.as_ref();
        pings.filter(|pings| pings.too_many() && cork.is_between_frames())
    };
    // What a turn has written goes out at its end.
    let turn = |connection: Pin<&mut _>, context: &mut Context<'_>| {
        let ended = Future::poll(connection, context).map(|_| None);
        if ended.is_pending()
            && let Some(pings) = too_many()
        {
            return Poll::Ready(Some(pings));
        }
        match cork.poll_pull(context) {
            // Nobody is there any more.
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => ended,
        }
    };
    let sent_away = tokio::select! {
        biased;
        ended = poll_fn(|context| turn(connection.as_mut(), context)) => ended,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            poll_fn(|context| turn(connection.as_mut(), context)).await
        }
    };
    if let Some(pings) = sent_away {
        cork.say_last(&pings.go_away());
        let farewell = async {
            let closed = poll_fn(|context| cork.poll_close(context)).await;
            if closed.is_ok() {
                let _ = connection.await;
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

async fn serve_http1(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    wire: Wire,
    site: Arc<Site>,
    mut drain: Drain,
) {
    let header_timeout = site.settings.header_timeout;
    let later = Later::new(drain.clone());
    let service = {
        let later = later.clone();
        service_fn(move |request| answer(Arc::clone(&site), wire, Some(later.clone()), request))
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if ended.is_ok()
        && let Some(conversation) = later.take()
    {
        conversation.await;
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.contains("application/grpc"))
}

fn answer(
    site: Arc<Site>,
    wire: Wire,
    later: Option<Later>,
    request: Request<Incoming>,
) -> Boxed<'static, Result<Response<Body>, Infallible>> {
    Box::pin(async move {
        let (method, version) = (request.method().clone(), request.version());
        let mut response = respond(&site, wire, later, request).await;
        if version == Version::HTTP_2 {
            plain::complete(&method, &mut response);
        }
        Ok(response)
    })
}

async fn respond(
    site: &Site,
    wire: Wire,
    later: Option<Later>,
    request: Request<Incoming>,
) -> Response<Body> {
    let request = match site.surface {
        Surface::Peer => match site.services.peer(request).await {
            Ok(response) => return response,
            Err(other) => other,
        },
        _ => request,
    };
    let (mut head, body) = request.into_parts();
    head.extensions.insert(Sender(wire.remote));
    if wire.secure {
        head.extensions.insert(Secure);
    }
    if let Some(later) = later {
        head.extensions.insert(later);
    }
    let body = super::incoming::Incoming::new(body, head.version);
    plain::serve(site, &head, body).await
}
