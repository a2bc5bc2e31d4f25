//! The bodies of what members ask each other.

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use retcd_raft_node::transport::DEFAULT_IO_TIMEOUT;
use tokio::time::timeout;

/// Why a body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    /// It ended too early, or not in time.
    Broken,
}

/// Reads a body of `limit` bytes at most; all of it within the time that etcd waits for a part. The connection of one
/// that is not read to its end is closed.
pub(super) async fn read(body: Incoming, limit: usize) -> Result<Bytes, Unread> {
    match timeout(DEFAULT_IO_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Unread::Broken),
    }
}
