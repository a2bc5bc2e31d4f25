//! Locks and elections, made of keys, leases and watches.
//!
//! Source: api-semantics 12; etcd `client/v3/concurrency`, whose keys these are: `name/` and the id of the lease in
//! hex. Who uses that package and who calls our services stand in the same queue.

pub(crate) mod election;
pub(crate) mod lock;
mod queue;

use crate::client::Client;
use crate::error::Error;

/// Seconds of the lease of who brings none.
const DEFAULT_TTL: i64 = 60;

/// The given lease, or a new one for 0.
async fn lease_or_new(client: &Client, lease: i64) -> Result<i64, Error> {
    match lease {
        0 => Ok(client.lease_grant(0, DEFAULT_TTL).await?.id),
        lease => Ok(lease),
    }
}

/// These services send every error as `Unknown`, with the text of what they met.
fn unknown(error: Error) -> Error {
    match error {
        Error::Recipe(_) => error,
        error => Error::Recipe(error.to_string()),
    }
}

fn says(text: &str) -> Error {
    Error::Recipe(text.to_owned())
}
