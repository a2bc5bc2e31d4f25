//! HTTP calls, and answers in a form that can be compared: indexes count from a first one, times are left out.

use std::fmt::Write as _;

use retcd_tests::http1::{self, Answer};
use retcd_tests::member::Member;
use serde_json::Value;

/// Headers that mean something.
const HEADERS: &[&str] = &["content-type", "allow", "x-content-type-options", "x-etcd-cluster-id"];
/// Of these it counts only that they are there.
const NUMBERS: &[&str] = &["x-raft-index", "x-raft-term"];

/// One call. In path and body, `@n` stands for the index that is `n` after the first one.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// A form; a JSON document if it begins with a brace.
    pub(crate) body: &'static str,
}

pub(crate) const fn call(method: &'static str, path: &'static str, body: &'static str) -> Call {
    Call { method, path, body }
}

/// A member, and where its indexes began when the script did.
pub(crate) struct Player<'a> {
    member: &'a Member,
    first: u64,
}

impl<'a> Player<'a> {
    pub(crate) fn new(member: &'a Member) -> Self {
        let answer = http1::get(member.port(), "/v2/keys/").expect("an answer");
        let index = answer.header("x-etcd-index").and_then(|index| index.parse().ok());
        Self { member, first: index.unwrap_or_else(|| panic!("{answer:?}")) }
    }

    /// Puts indexes in the place of `@n`.
    fn fill(&self, text: &str) -> String {
        let mut parts = text.split('@');
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let offset: u64 = part[..end].parse().expect("digits follow the @");
            let _ = write!(out, "{}{}", self.first + offset, &part[end..]);
        }
        out
    }

    pub(crate) fn ask(&self, call: &Call) -> Answer {
        let (path, body) = (self.fill(call.path), self.fill(call.body));
        let kind = match body.as_bytes().first() {
            Some(b'{') => "application/json",
            _ => "application/x-www-form-urlencoded",
        };
        let headers = [("Content-Type", kind)];
        let headers = if body.is_empty() { &[][..] } else { &headers[..] };
        http1::request(self.member.port(), call.method, &path, headers, body.as_bytes())
            .unwrap_or_else(|e| panic!("{} {path}: {e}\n{}", call.method, self.member.describe()))
    }

    /// What a call is answered, in words.
    pub(crate) fn play(&self, call: &Call) -> String {
        let answer = self.ask(call);
        let mut shown = format!("{}", answer.status);
        for name in HEADERS {
            if let Some(value) = answer.header(name) {
                let _ = write!(shown, "\n{name}: {value}");
            }
        }
        for name in NUMBERS {
            if answer.header(name).is_some_and(|value| value.parse::<u64>().is_ok()) {
                let _ = write!(shown, "\n{name}: a number");
            }
        }
        if let Some(index) = answer.header("x-etcd-index").and_then(|index| index.parse().ok()) {
            let _ = write!(shown, "\nx-etcd-index: {}", self.relative(index));
        }
        let body = answer.text();
        let _ = match serde_json::from_str::<Value>(&body) {
            Ok(mut value) if value.is_object() => {
                self.mask(&mut value);
                write!(shown, "\n{value}{}", if body.ends_with('\n') { "\\n" } else { "" })
            }
            _ => write!(shown, "\n{body:?}"),
        };
        shown
    }

    fn relative(&self, index: u64) -> String {
        match index.checked_sub(self.first) {
            // What has no index says 0.
            None if index == 0 => "0".to_owned(),
            None => "before".to_owned(),
            Some(offset) => format!("+{offset}"),
        }
    }

    /// Indexes and times of a document; directories in order, since Go shows them in any.
    fn mask(&self, value: &mut Value) {
        match value {
            Value::Array(all) => {
                all.iter_mut().for_each(|one| self.mask(one));
                all.sort_by_key(|one| one["key"].as_str().unwrap_or_default().to_owned());
            }
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    match &**name {
                        "modifiedIndex" | "createdIndex" | "index" => {
                            if let Some(index) = value.as_u64() {
                                *value = self.relative(index).into();
                            }
                        }
                        "expiration" => *value = expiration(value).into(),
                        // A second may pass between two calls.
                        "ttl" if value.as_i64().is_some_and(|ttl| ttl > 60) => *value = "long".into(),
                        // A name that was made in order, or the values of a comparison.
                        "key" | "cause" => {
                            if let Some(text) = value.as_str().filter(|text| text.starts_with(['/', '['])) {
                                *value = self.mask_text(text).into();
                            }
                        }
                        _ => self.mask(value),
                    }
                }
            }
            _ => {}
        }
    }

    /// Numbers within a text that are indexes of this script.
    fn mask_text(&self, text: &str) -> String {
        let mut out = String::new();
        let mut digits = String::new();
        for c in text.chars().chain(['\0']) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let long = digits.len() == 20;
            match digits.parse::<u64>() {
                Ok(number) if number > self.first && (long || number < self.first + 1000) => {
                    let _ = write!(out, "{}{}", if long { "20 digits: " } else { "" }, self.relative(number));
                }
                _ => out += &digits,
            }
            digits.clear();
            if c != '\0' {
                out.push(c);
            }
        }
        out
    }
}

fn expiration(value: &Value) -> &'static str {
    let is_time = |text: &str| text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
    match value.as_str() {
        Some(text) if is_time(text) => "a time",
        _ => "no time",
    }
}
