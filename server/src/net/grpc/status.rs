//! The outcome of a call on the wire.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tonic::Code;

use crate::error::Error;
use crate::net::body::Body;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A gRPC code and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
}

impl Status {
    pub(crate) fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// What a reply's headers or trailers say, if that is an error.
    pub(in crate::net) fn of(headers: &HeaderMap) -> Option<Self> {
        let number = headers.get(GRPC_STATUS)?.to_str().ok()?;
        let code = Code::from_i32(number.parse().unwrap_or(Code::Unknown as i32));
        let text = headers.get(GRPC_MESSAGE).map(HeaderValue::as_bytes);
        (code != Code::Ok).then(|| Self::new(code, message_text(text.unwrap_or_default())))
    }

    pub(in crate::net) fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// The call's last headers.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(2);
        self.put(&mut map);
        map
    }

    fn put(&self, map: &mut HeaderMap) {
        map.insert(GRPC_STATUS, code_value(self.code));
        if !self.text.is_empty() {
            map.insert(GRPC_MESSAGE, message_value(&self.text));
        }
    }

    /// A reply that is nothing but this status. `http` is 200 unless the request was not gRPC.
    pub(super) fn response(&self, http: StatusCode, content_type: HeaderValue) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = http;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        self.put(headers);
        response
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, text) = error.code_and_text();
        Self::new(code, text.to_owned())
    }
}

/// The trailers of a call that succeeded.
pub(super) fn ok_trailers() -> HeaderMap {
    let mut map = HeaderMap::with_capacity(1);
    map.insert(GRPC_STATUS, code_value(Code::Ok));
    map
}

fn code_value(code: Code) -> HeaderValue {
    const CODES: [&str; 17] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    ];
    HeaderValue::from_static(CODES[code as i32 as usize])
}

/// Percent-encodes as the gRPC specification says: everything but printable ASCII, and `%`.
fn message_value(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    HeaderValue::try_from(encoded).expect("printable ASCII is a header value")
}

/// The text that [`message_value`] made a header of.
fn message_text(value: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                text.push((high << 4 | low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => text.push(*byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        for (text, wire) in [
            ("plain text", "plain text"),
            ("100%", "100%25"),
            ("a\nb", "a%0Ab"),
            ("é~", "%C3%A9~"),
        ] {
            assert_eq!(message_value(text).to_str().unwrap(), wire);
            assert_eq!(message_text(wire.as_bytes()), text);
        }
    }

    #[test]
    fn every_code_has_its_number() {
        for number in 0..17 {
            let code = Code::from_i32(number);
            assert_eq!(code_value(code).to_str().unwrap(), number.to_string());
        }
    }
}
