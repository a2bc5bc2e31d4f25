//! The headers of a call that mean something to etcd.

use http::{HeaderMap, HeaderName};

use super::status::Status;
use crate::error::Error;

const REQUIRE_LEADER: HeaderName = HeaderName::from_static("hasleader");
const API_VERSION: HeaderName = HeaderName::from_static("client-api-version");

/// What a call says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// `hasleader: true`: refuse the call while there is no leader.
    pub(crate) require_leader: bool,
    /// `client-api-version`, if it was sent.
    pub(crate) api_version: Option<String>,
    garbled: bool,
}

impl Metadata {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let require_leader = headers
            .get(REQUIRE_LEADER)
            .is_some_and(|value| value.as_bytes() == b"true");
        let (api_version, garbled) = match headers.get(API_VERSION) {
            None => (None, false),
            Some(value) => match std::str::from_utf8(value.as_bytes()) {
                Ok(version) => (Some(version.to_owned()), false),
                Err(_) => (None, true),
            },
        };
        Self {
            require_leader,
            api_version,
            garbled,
        }
    }

    /// etcd checks the metadata only after it has decoded a unary request.
    pub(super) fn check(&self) -> Result<(), Status> {
        match self.garbled {
            true => Err(Error::InvalidClientApiVersion.into()),
            false => Ok(()),
        }
    }
}
