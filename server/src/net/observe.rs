//! What the listeners tell whoever counts.

use std::time::Duration;

use tonic::Code;

use super::grpc::Method;

/// Told of every gRPC call, from the connection threads: implementations must not block.
///
/// Counted as etcd's interceptors count: a unary call starts once its request is decoded, so one
/// that is too large or garbage never starts; a streaming call starts with its headers.
pub(crate) trait CallObserver: Send + Sync + 'static {
    /// A call starts.
    fn started(&self, _method: Method) {}
    /// A request message of so many bytes, without its prefix, was decoded.
    fn received(&self, _method: Method, _bytes: usize) {}
    /// A message of a stream of requests could not be read.
    fn receive_failed(&self, _method: Method) {}
    /// Reply messages of so many bytes together, without their prefixes, are on their way.
    fn sent(&self, _method: Method, _messages: usize, _bytes: usize) {}
    /// A started call ended; `Cancelled` also when the client went away.
    fn finished(&self, _method: Method, _code: Code) {}
    /// Whether [`CallObserver::took`] is wanted: reading the clock has its price.
    fn wants_time(&self) -> bool {
        false
    }
    /// A started call ended after so long.
    fn took(&self, _method: Method, _time: Duration) {}
}

/// Counts nothing.
pub(crate) struct NoObserver;

impl CallObserver for NoObserver {}
