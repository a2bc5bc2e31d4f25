//! A client that may send anything.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use retcd_proto::etcdserverpb as pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back from a call.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) http: u16,
    pub(super) headers: HeaderMap,
    pub(super) data: Vec<u8>,
    trailers: HeaderMap,
}

impl Reply {
    fn last(&self, name: &str) -> Option<&str> {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name));
        value.map(|value| value.to_str().unwrap())
    }

    pub(super) fn code(&self) -> i32 {
        self.last("grpc-status").unwrap().parse().unwrap()
    }

    pub(super) fn text(&self) -> &str {
        self.last("grpc-message").unwrap_or_default()
    }

    /// The messages, decoded.
    pub(super) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let mut rest = &self.data[..];
        let mut messages = Vec::new();
        while let [0, a, b, c, d, tail @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            messages.push(M::decode(&tail[..length]).unwrap());
            rest = &tail[length..];
        }
        assert!(rest.is_empty(), "{rest:?}");
        messages
    }
}

/// An HTTP/2 connection with windows that never hold us up.
pub(super) async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = client::Builder::new()
        .initial_window_size(16 << 20)
        .initial_connection_window_size(64 << 20)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// A request for a path, with what gRPC asks for.
pub(super) fn request(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A `Range` request for `key`, framed.
pub(super) fn range(key: &str) -> Bytes {
    frame(&pb::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..pb::RangeRequest::default()
    })
}

pub(super) fn frame(message: &impl Message) -> Bytes {
    raw_frame(0, &message.encode_to_vec())
}

pub(super) fn raw_frame(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// Sends a request whole, reads the answer whole.
pub(super) async fn call(
    client: &SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<Reply, h2::Error> {
    let mut client = client.clone().ready().await?;
    let (response, mut send) = client.send_request(request, false)?;
    // A server may answer, and close the stream, before it has read everything.
    let _ = send.send_data(body, true);
    receive(response).await
}

pub(super) async fn receive(response: client::ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        data.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(Reply {
        http: head.status.as_u16(),
        headers: head.headers,
        data,
        trailers: body.trailers().await?.unwrap_or_default(),
    })
}

/// Sends bytes, then reads until the server closes the connection.
pub(super) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read all; what it said before that counts.
    let _ = stream.write_all(bytes).await;
    let _ = stream.read_to_end(&mut answer).await;
    answer
}
