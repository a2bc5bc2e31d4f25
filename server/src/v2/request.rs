//! Requests for keys, as they are asked for in paths, queries and forms.
//!
//! Source: etcd 3.5 `server/etcdserver/api/v2http/client.go`: which fields there are, and what is wrong with them, in
//! that order.

use http::Method;

use super::form::Form;
use super::path::{MAX_DEPTH, Path};
use super::refusal::{Code, Refusal};
use crate::config::parse_bool;

/// Bytes that a path may have: with all directories on its way it must fit into one request.
const MAX_LENGTH: usize = 16 << 10;

/// A request for keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: Path,
    pub(super) what: What,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Get {
        recursive: bool,
        /// Not to be answered before everything that was written is seen here.
        quorum: bool,
    },
    Wait {
        /// The first index that counts; 0: whatever comes.
        since: u64,
        recursive: bool,
        stream: bool,
    },
    Write {
        write: Write,
        /// Do not show the node in the answer.
        quiet: bool,
    },
}

/// A change of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Whatever is there, unless it is a directory.
    Set { content: Content, refresh: bool },
    /// Only what is not there yet.
    Create(Content),
    /// Under a new name in the directory, behind all names that were made so.
    Append(Content),
    /// Only what is there.
    Update { content: Content, refresh: bool },
    /// Only a file as it is expected.
    Swap {
        expected: Expected,
        content: Content,
        refresh: bool,
    },
    Delete {
        /// Also a directory, if nothing is in it.
        dir: bool,
        /// Also with all that is in it.
        recursive: bool,
    },
    /// Only a file as it is expected.
    DeleteExpected(Expected),
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) value: String,
    pub(super) dir: bool,
    /// Nanoseconds since 1970; 0: it does not end by itself.
    pub(super) expires: i64,
}

/// What a file has to be for a comparison to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// Empty: whatever it is.
    pub(super) value: String,
    /// 0: whatever it is.
    pub(super) index: u64,
}

impl Expected {
    fn is_nothing(&self) -> bool {
        self.index == 0 && self.value.is_empty()
    }
}

/// Reads a request. `path` is what follows `/v2/keys`, without escapes; `now` is in nanoseconds since 1970.
pub(super) fn parse(
    method: &Method,
    path: &str,
    form: &Form,
    now: i64,
) -> Result<Request, Refusal> {
    let path = Path::of(path);
    let number = |name: &str| match form.first(name).map(decimal) {
        None => Ok(0),
        Some(Some(number)) => Ok(number),
        Some(None) => Err(Refusal::of_request(
            Code::IndexNaN,
            format!("invalid value for \"{name}\""),
        )),
    };
    let bool = |name: &str| match form.first(name).map(parse_bool) {
        None => Ok(false),
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) => Err(field(format!("invalid value for \"{name}\""))),
    };
    let nullable = |name: &str| match form.first(name).map(parse_bool) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(field(format!("invalid value for {name}"))),
    };

    let index = number("prevIndex")?;
    let since = number("waitIndex")?;
    let recursive = bool("recursive")?;
    bool("sorted")?; // answers always are
    let wait = bool("wait")?;
    let dir = bool("dir")?;
    let quorum = bool("quorum")?;
    let stream = bool("stream")?;
    if wait && method != Method::GET {
        return Err(field("\"wait\" can only be used with GET requests"));
    }
    let prev_value = form.first("prevValue");
    if prev_value == Some("") {
        let cause = "\"prevValue\" cannot be empty";
        return Err(Refusal::of_request(Code::PrevValueRequired, cause));
    }
    let quiet = bool("noValueOnSuccess")?;
    let ttl = match form.first("ttl").unwrap_or_default() {
        "" => None,
        text => Some(
            decimal(text)
                .ok_or_else(|| Refusal::of_request(Code::TtlNaN, "invalid value for \"ttl\""))?,
        ),
    };
    let exists = nullable("prevExist")?;
    let refresh = nullable("refresh")?.unwrap_or(false);
    let value = form.first("value").unwrap_or_default();
    if refresh && !value.is_empty() {
        let cause = "A value was provided on a refresh";
        return Err(Refusal::of_request(Code::RefreshValue, cause));
    }
    if refresh && ttl.is_none() {
        let cause = "No TTL value set";
        return Err(Refusal::of_request(Code::RefreshTtlRequired, cause));
    }
    let levels = path.depth() + usize::from(method == Method::POST);
    if levels > MAX_DEPTH {
        let cause = format!("the key has {levels} levels, {MAX_DEPTH} is the most");
        return Err(field(cause));
    }
    let bytes = path.as_str().len();
    if bytes > MAX_LENGTH {
        let cause = format!("the key has {bytes} bytes, {MAX_LENGTH} is the most");
        return Err(field(cause));
    }

    let content = Content {
        value: value.to_owned(),
        dir,
        expires: ttl.map_or(0, |seconds| deadline(now, seconds)),
    };
    let expected = Expected {
        value: prev_value.unwrap_or_default().to_owned(),
        index,
    };
    let write = match *method {
        Method::GET if wait && !quorum => {
            let what = What::Wait {
                since,
                recursive,
                stream,
            };
            return Ok(Request { path, what });
        }
        Method::POST => Write::Append(content),
        Method::PUT => put(content, expected, exists, refresh),
        Method::DELETE if expected.is_nothing() => Write::Delete { dir, recursive },
        Method::DELETE => Write::DeleteExpected(expected),
        _ => {
            let what = What::Get {
                recursive,
                quorum: quorum && method == Method::GET,
            };
            return Ok(Request { path, what });
        }
    };
    let what = What::Write { write, quiet };
    Ok(Request { path, what })
}

fn put(content: Content, expected: Expected, exists: Option<bool>, refresh: bool) -> Write {
    match exists {
        Some(false) => Write::Create(content),
        Some(true) if expected.is_nothing() => Write::Update { content, refresh },
        None if expected.is_nothing() => Write::Set { content, refresh },
        _ => Write::Swap {
            expected,
            content,
            refresh,
        },
    }
}

fn field(cause: impl Into<String>) -> Refusal {
    Refusal::of_request(Code::InvalidField, cause)
}

/// Digits only, as for Go's `ParseUint` with base 10.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The moment that many seconds after `now`. What is so far away that it cannot be told never comes.
fn deadline(now: i64, seconds: u64) -> i64 {
    let nanos = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000_000_000));
    // At least 1: 0 would stand for never.
    nanos
        .and_then(|nanos| nanos.checked_add(now))
        .map_or(0, |deadline| deadline.max(1))
}

#[cfg(test)]
mod tests;
