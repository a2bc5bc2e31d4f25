//! The tokens of a value that is known to be JSON.

use std::borrow::Cow;

use super::scan::is_space;
use super::text;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Null,
    Bool(bool),
    Number,
    /// A string, decoded; also a name in an object.
    Text(Cow<'a, str>),
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    /// As it is spelled.
    pub(super) raw: &'a [u8],
    /// The position of its first byte.
    pub(super) at: usize,
}

/// Goes through a value, token by token.
pub(super) struct Tokens<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// `json` is one whole value: what stands between its tokens is not looked at.
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0 }
    }

    /// The first byte of the next token.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let between = |byte: &&u8| is_space(**byte) || matches!(**byte, b',' | b':');
        let rest = self.json.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(between).count();
        self.json.get(self.at).copied()
    }

    /// The next token.
    ///
    /// # Errors
    /// A string that is no UTF-8, or half of a pair of surrogates: these are JSON for Go's `encoding/json` alone.
    pub(super) fn next(&mut self) -> Result<Token<'a>, String> {
        let first = self.peek().ok_or_else(unexpected_end)?;
        let at = self.at;
        let rest = self.json.get(at..).unwrap_or_default();
        let (kind, length) = match first {
            b'{' => (Kind::ObjectOpen, 1),
            b'}' => (Kind::ObjectClose, 1),
            b'[' => (Kind::ArrayOpen, 1),
            b']' => (Kind::ArrayClose, 1),
            b'n' => (Kind::Null, 4),
            b't' => (Kind::Bool(true), 4),
            b'f' => (Kind::Bool(false), 5),
            b'"' => {
                let (text, length) = self.string(rest)?;
                (Kind::Text(text), length)
            }
            _ => {
                let ends = |byte: &u8| is_space(*byte) || matches!(*byte, b',' | b']' | b'}');
                (
                    Kind::Number,
                    rest.iter().position(ends).unwrap_or(rest.len()),
                )
            }
        };
        let raw = rest.get(..length).ok_or_else(unexpected_end)?;
        self.at = at + length;
        Ok(Token { kind, raw, at })
    }

    /// Decodes the string at the beginning of `rest`; returns its length with its quotes too.
    fn string(&self, rest: &'a [u8]) -> Result<(Cow<'a, str>, usize), String> {
        let inside = rest.get(1..).unwrap_or_default();
        let special = |byte: &u8| matches!(*byte, b'"' | b'\\');
        let end = inside.iter().position(special).ok_or_else(unexpected_end)?;
        let (plain, mut left) = inside.split_at(end);
        let plain = self.utf8(plain)?;
        if left.first() == Some(&b'"') {
            return Ok((Cow::Borrowed(plain), end + 2));
        }
        let mut out = plain.to_owned();
        loop {
            let (letter, after) = match left {
                [b'"', ..] => return Ok((Cow::Owned(out), rest.len() - left.len() + 1)),
                [b'\\', b'u', after @ ..] => self.unicode(after)?,
                [b'\\', letter, after @ ..] => {
                    let letter = match letter {
                        b'b' => '\x08',
                        b'f' => '\x0c',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        other => char::from(*other),
                    };
                    (letter, after)
                }
                _ => return Err(unexpected_end()),
            };
            out.push(letter);
            let end = after.iter().position(special).ok_or_else(unexpected_end)?;
            let (plain, behind) = after.split_at(end);
            out.push_str(self.utf8(plain)?);
            left = behind;
        }
    }

    fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str, String> {
        std::str::from_utf8(bytes).map_err(|_| self.syntax(self.at, "invalid UTF-8 in string"))
    }

    /// The character that four digits stand for, with four more if it is one of two surrogates.
    fn unicode(&self, after: &'a [u8]) -> Result<(char, &'a [u8]), String> {
        let (digits, after) = after.split_at_checked(4).ok_or_else(unexpected_end)?;
        let first = hex(digits).ok_or_else(unexpected_end)?;
        if let Some(letter) = char::from_u32(first) {
            return Ok((letter, after));
        }
        let (escape, behind) = after.split_at_checked(6).ok_or_else(unexpected_end)?;
        let second = escape.strip_prefix(b"\\u").and_then(hex);
        let pair = match (first, second) {
            (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            }
            _ => None,
        };
        let letter = pair.ok_or_else(|| {
            let escape = text::quoted(escape);
            self.syntax(self.at, &format!("invalid escape code {escape} in string"))
        })?;
        Ok((letter, behind))
    }

    /// An error at a position.
    pub(super) fn error(&self, at: usize, words: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto: (line {line}:{column}): {words}")
    }

    /// An error of syntax at a position.
    pub(super) fn syntax(&self, at: usize, words: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto: syntax error (line {line}:{column}): {words}")
    }

    /// A token that has no business where it stands.
    pub(super) fn unexpected(&self, token: &Token<'_>) -> String {
        let raw = String::from_utf8_lossy(token.raw);
        self.syntax(token.at, &format!("unexpected token {raw}"))
    }

    /// Line and column, both from 1; columns count characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.json.get(..at).unwrap_or(self.json);
        let mut lines = before.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        (
            lines.count() + 1,
            String::from_utf8_lossy(last).chars().count() + 1,
        )
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    let all_hex = digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| all_hex)?;
    u32::from_str_radix(digits, 16).ok()
}

fn unexpected_end() -> String {
    "proto: unexpected EOF".to_owned()
}
