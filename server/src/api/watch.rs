//! The Watch service.

use futures_util::Stream;

use super::{Api, Caller};
use crate::error::Error;
use crate::watch::{Batch, Requests, Session};

impl Api {
    /// A watch stream. It ends when its client is gone, with an error of the requests, or when the member stops.
    pub(crate) fn watch<E: From<Error> + Send + 'static>(
        &self,
        caller: &Caller,
        requests: Requests<E>,
    ) -> Result<impl Stream<Item = Result<Batch, E>> + Send + use<E>, Error> {
        self.admit_stream(caller)?;
        Ok(Session::open(&self.member, requests, caller.require_leader))
    }
}
