//! Errors as JSON.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use tonic::Code;

use super::JSON;
use crate::json::push_string;
use crate::net::body::Body;
use crate::net::grpc::Status;

/// An error as the whole answer.
pub(super) fn response(status: &Status) -> Response<Body> {
    let mut body = Vec::new();
    push_object(status, &mut body);
    answer(status, body)
}

/// An error of a stream that has not begun.
pub(super) fn of_stream(status: &Status) -> Response<Body> {
    answer(status, line(status))
}

/// An error as a line of a stream.
pub(super) fn line(status: &Status) -> Vec<u8> {
    let mut line = br#"{"error":"#.to_vec();
    push_object(status, &mut line);
    line.extend_from_slice(b"}\n");
    line
}

/// Of a path that leads nowhere.
pub(super) fn not_found() -> Response<Body> {
    response(&Status::new(Code::NotFound, "Not Found"))
}

/// Of another verb than `POST`.
pub(super) fn not_allowed() -> Response<Body> {
    response(&Status::new(Code::Unimplemented, "Method Not Allowed"))
}

fn answer(status: &Status, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Full(body.into()));
    *response.status_mut() = http_status(status.code);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    if status.code == Code::Unauthenticated
        && let Ok(words) = HeaderValue::from_str(&status.text)
    {
        headers.insert(header::WWW_AUTHENTICATE, words);
    }
    response
}

fn push_object(status: &Status, out: &mut Vec<u8>) {
    let number = (status.code as i32).to_string();
    out.extend_from_slice(br#"{"code":"#);
    out.extend_from_slice(number.as_bytes());
    if !status.text.is_empty() {
        out.extend_from_slice(br#","message":"#);
        push_string(&status.text, out);
    }
    out.push(b'}');
}

/// 499 is what nginx says of a client that went away.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_statuses() {
        let statuses = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        for (number, status) in (0..).zip(statuses) {
            assert_eq!(http_status(Code::from_i32(number)), status, "{number}");
        }
    }

    #[test]
    fn errors_are_json() {
        let status = Status::new(Code::Unknown, "a \"b\"\n");
        assert_eq!(
            line(&status),
            b"{\"error\":{\"code\":2,\"message\":\"a \\\"b\\\"\\n\"}}\n"
        );
        let refused = response(&Status::new(Code::Unauthenticated, "who?"));
        assert_eq!(refused.headers()["www-authenticate"], "who?");
    }
}
