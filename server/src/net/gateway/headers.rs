//! What the headers of a request mean to a call.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::Code;

use crate::net::grpc::{Status, metadata};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Headers behind this are the metadata of a call.
const METADATA: &str = "grpc-metadata-";

/// The metadata of a call, and until when it may last.
///
/// # Errors
/// A timeout that is none, or metadata whose name ends in `-bin` and which is not base64.
pub(super) fn read(headers: &HeaderMap) -> Result<(HeaderMap, Option<Instant>), Status> {
    let mut call = HeaderMap::new();
    for (name, value) in headers {
        if *name == header::AUTHORIZATION {
            call.append(header::AUTHORIZATION, value.clone());
        }
        let Some(key) = name.as_str().strip_prefix(METADATA) else {
            continue;
        };
        if key.ends_with("-bin") {
            if let Some(at) = metadata::base64_error(value.as_bytes()) {
                let name = canonical(name.as_str());
                let words =
                    format!("invalid binary header {name}: illegal base64 data at input byte {at}");
                return Err(Status::new(Code::InvalidArgument, words));
            }
            continue; // etcd knows no binary metadata
        }
        let printable = value
            .as_bytes()
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~'));
        if let Ok(key) = HeaderName::from_bytes(key.as_bytes())
            && printable
        {
            call.append(key, value.clone());
        }
    }
    let deadline = headers
        .get(TIMEOUT)
        .filter(|value| !value.is_empty())
        .map(deadline)
        .transpose()?
        .flatten();
    Ok((call, deadline))
}

/// A number and a unit. Zero is no timeout, one beyond the range of the clock neither; what is below zero is over.
fn deadline(value: &HeaderValue) -> Result<Option<Instant>, Status> {
    let bytes = value.as_bytes();
    let parsed = bytes.split_last().and_then(|(unit, number)| {
        let one = match unit {
            b'H' => Duration::from_secs(3600),
            b'M' => Duration::from_secs(60),
            b'S' => Duration::from_secs(1),
            b'm' => Duration::from_millis(1),
            b'u' => Duration::from_micros(1),
            b'n' => Duration::from_nanos(1),
            _ => return None,
        };
        let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some((one, number))
    });
    let Some((one, number)) = parsed else {
        let given = String::from_utf8_lossy(bytes);
        let words = format!("invalid grpc-timeout: {given}");
        return Err(Status::new(Code::InvalidArgument, words));
    };
    if number == 0 {
        return Ok(None);
    }
    let number = u128::from(number.max(0).unsigned_abs());
    let nanos = u64::try_from(one.as_nanos().saturating_mul(number));
    let timeout = nanos.map_or(Duration::MAX, Duration::from_nanos);
    Ok(Instant::now().checked_add(timeout))
}

/// A name of a header as Go writes it.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn metadata_and_authorization_are_passed_on() {
        let mut given = headers(&[
            ("authorization", "token"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-x-bin", "AAE="),
            ("accept", "*/*"),
        ]);
        let garbled = HeaderValue::from_bytes(b"caf\xe9").expect("a value");
        given.insert("grpc-metadata-garbled", garbled);
        let (call, deadline) = read(&given).expect("sound");
        assert_eq!(
            call,
            headers(&[("authorization", "token"), ("hasleader", "true")])
        );
        assert_eq!(deadline, None);
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts() {
        let at = |value: &'static str| read(&headers(&[("grpc-timeout", value)]));
        let now = Instant::now();
        for (value, after) in [
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("10000000000n", Some(Duration::from_secs(10))),
            ("-1H", Some(Duration::ZERO)),
            ("0n", None),
            ("", None),
        ] {
            let (_, deadline) = at(value).expect(value);
            assert_eq!(deadline.map(|at| at - now), after, "{value}");
        }
        for value in ["S", "3", "3s", "x3S", "99999999999999999999S"] {
            let status = at(value).expect_err(value);
            assert_eq!(status.text, format!("invalid grpc-timeout: {value}"));
            assert_eq!(status.code, Code::InvalidArgument);
        }
    }

    #[test]
    fn binary_metadata_is_base64() {
        let status = read(&headers(&[("grpc-metadata-x-bin", "A!")])).expect_err("no base64");
        let words =
            "invalid binary header Grpc-Metadata-X-Bin: illegal base64 data at input byte 1";
        assert_eq!(status.text, words);
    }
}
