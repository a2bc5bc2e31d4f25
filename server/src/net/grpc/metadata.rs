//! The headers of a call that mean something to etcd.

use http::{HeaderMap, HeaderName, HeaderValue};

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

/// Where a value is no base64, as Go counts: with padding if its length says so, else without.
/// Bits beyond the last byte are not looked at.
pub(in crate::net) fn base64_error(value: &[u8]) -> Option<usize> {
    let length = value.len();
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let Some(at) = value.iter().position(|byte| !digit(byte)) else {
        // One digit alone makes no byte.
        return (length % 4 == 1).then(|| length - 1);
    };
    let padded = length.is_multiple_of(4) && value[at] == b'=';
    let end = match at % 4 {
        2 if padded && value[at + 1] == b'=' => at + 2,
        3 if padded => at + 1,
        _ => return Some(at),
    };
    (end < length).then_some(end)
}

/// Why a header that holds bytes (`-bin`) holds none.
pub(super) fn binary_error(name: &HeaderName, value: &HeaderValue) -> Option<String> {
    let name = name.as_str();
    let at = name
        .ends_with("-bin")
        .then(|| base64_error(value.as_bytes()))??;
    let value = String::from_utf8_lossy(value.as_bytes());
    Some(format!(
        "malformed binary metadata {value:?} in header {name:?}: illegal base64 data at input byte {at}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen at a Go server.
    #[test]
    fn broken_base64_is_found_where_go_finds_it() {
        for (value, at) in [
            ("", None),
            ("AAEC", None),
            ("AAE", None),
            ("AA", None),
            ("AB", None),
            ("AA==", None),
            ("AAE=", None),
            ("+/", None),
            ("AAECAA==", None),
            ("!!!", Some(0)),
            ("A", Some(0)),
            ("AAAAA", Some(4)),
            ("AAEC,AAEC", Some(4)),
            ("AA=", Some(2)),
            ("AA=A", Some(2)),
            ("AAA=AAAA", Some(4)),
            ("AAECAA=", Some(6)),
            ("====", Some(0)),
            ("AAEC AA", Some(4)),
            ("-_", Some(0)),
            ("AAE!", Some(3)),
            ("!AAE", Some(0)),
        ] {
            assert_eq!(base64_error(value.as_bytes()), at, "{value:?}");
        }
    }
}
