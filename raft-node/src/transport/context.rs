//! What all parts of one transport share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use http::header::HeaderMap;
use tokio::sync::Semaphore;

use super::client::{self, ClientError, Connection};
use super::names::Names;
use super::url::PeerUrl;
use super::{MIN_CLUSTER_VERSION, Member, Options, hex};

/// Snapshots that are sent at a time, over all peers. etcd's queue of them has as many places.
pub(super) const MAX_SNAPSHOTS_SENT: usize = 16;
/// Databases that are received at a time; there is one leader.
const MAX_SNAPSHOTS_RECEIVED: usize = 4;

/// Bytes of messages whose rest is still to come, over all POSTs. One of any size fits; many senders
/// that never end do not take all memory.
const MAX_UNFINISHED: usize = 1024 * 1024 * 1024;

pub(super) struct Context {
    pub(super) options: Options,
    pub(super) member: Arc<dyn Member>,
    /// Own id.
    pub(super) local: String,
    /// The cluster's id.
    pub(super) cluster: String,
    /// What every request under `/raft` carries.
    pub(super) headers: HeaderMap,
    pub(super) sending: Arc<Semaphore>,
    pub(super) receiving: Arc<Semaphore>,
    unfinished: AtomicUsize,
    names: Names,
}

/// What one message takes of [`MAX_UNFINISHED`]; given back when it is dropped.
pub(super) struct Share<'a> {
    context: &'a Context,
    bytes: usize,
}

impl Share<'_> {
    /// For so many bytes more.
    ///
    /// # Errors
    /// A sentence, when others have taken what there is.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), String> {
        let before = self.context.unfinished.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before + bytes > MAX_UNFINISHED {
            return Err(format!(
                "messages that are on their way have more than {MAX_UNFINISHED} bytes in all"
            ));
        }
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let unfinished = &self.context.unfinished;
        unfinished.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Context {
    pub(super) fn new(options: Options, member: Arc<dyn Member>) -> Context {
        let local = hex(options.local_id);
        let cluster = hex(options.cluster_id);
        let urls = options.peer_urls.join(",");
        let mut headers = HeaderMap::new();
        for (name, text) in [
            ("x-server-from", local.as_str()),
            ("x-server-version", options.server_version.as_str()),
            ("x-min-cluster-version", MIN_CLUSTER_VERSION),
            ("x-etcd-cluster-id", cluster.as_str()),
            ("x-peerurls", urls.as_str()),
        ] {
            // A URL with a control character would have been refused as a flag.
            if let Ok(value) = HeaderValue::from_str(text)
                && !text.is_empty()
            {
                headers.insert(name, value);
            }
        }
        Context {
            options,
            member,
            local,
            cluster,
            headers,
            sending: Arc::new(Semaphore::new(MAX_SNAPSHOTS_SENT)),
            receiving: Arc::new(Semaphore::new(MAX_SNAPSHOTS_RECEIVED)),
            unfinished: AtomicUsize::new(0),
            names: Names::default(),
        }
    }

    /// A connection to a peer.
    pub(super) async fn connect(&self, url: &PeerUrl) -> Result<Connection, ClientError> {
        let options = &self.options;
        let connector = options.connector.as_deref();
        client::connect(&self.names, connector, url, options.dial_timeout).await
    }

    pub(super) fn share(&self) -> Share<'_> {
        Share {
            context: self,
            bytes: 0,
        }
    }
}
