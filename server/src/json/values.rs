//! Cuts values out of a stream of bytes.

use bytes::{Buf as _, Bytes, BytesMut};

use super::scan::{Scanner, Seen, is_space};

/// Why there is no further value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// What comes is no JSON, in the words of Go's `encoding/json`.
    Syntax(String),
    /// The value has more bytes than are taken.
    TooLarge,
}

/// JSON values, one after the other, of bytes that come in pieces.
#[derive(Debug)]
pub(crate) struct Values {
    pending: BytesMut,
    /// How far `scanner` has seen `pending`.
    scanned: usize,
    scanner: Scanner,
    max: usize,
}

impl Values {
    /// `max`: bytes that one value may have.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            pending: BytesMut::new(),
            scanned: 0,
            scanner: Scanner::new(),
            max,
        }
    }

    /// Adds what has come.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// The next value, without space around it; `None` if it is not there as a whole.
    ///
    /// # Errors
    /// It is no JSON, or too large. Nothing follows then.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Bad> {
        if self.scanned == 0 {
            let space = self.pending.iter().take_while(|byte| is_space(**byte));
            let space = space.count();
            self.pending.advance(space);
        }
        while let Some(byte) = self.pending.get(self.scanned) {
            match self.scanner.step(*byte).map_err(Bad::Syntax)? {
                Seen::More => self.scanned += 1,
                Seen::Last => return self.cut(self.scanned + 1).map(Some),
                Seen::Ended => return self.cut(self.scanned).map(Some),
            }
            if self.scanner.in_text() {
                let rest = self.pending.get(self.scanned..).unwrap_or_default();
                let plain = |byte: &&u8| !matches!(**byte, b'"' | b'\\' | 0..0x20);
                self.scanned += rest.iter().take_while(plain).count();
            }
        }
        match self.pending.len() > self.max {
            true => Err(Bad::TooLarge),
            false => Ok(None),
        }
    }

    /// The last value, which may end with the stream; `None` if there is none.
    ///
    /// # Errors
    /// It is cut off.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, Bad> {
        if let Some(value) = self.next()? {
            return Ok(Some(value));
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        match self.scanner.step(b' ') {
            Ok(Seen::Ended) => self.cut(self.scanned).map(Some),
            _ => Err(Bad::Syntax("unexpected EOF".to_owned())),
        }
    }

    fn cut(&mut self, length: usize) -> Result<Bytes, Bad> {
        if length > self.max {
            return Err(Bad::TooLarge);
        }
        self.scanned = 0;
        self.scanner = Scanner::new();
        Ok(self.pending.split_to(length).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> (Vec<String>, Option<Bad>) {
        let mut values = Values::new(1 << 20);
        let mut found = Vec::new();
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        for piece in pieces {
            values.push(piece.as_bytes());
            loop {
                match values.next() {
                    Ok(Some(value)) => found.push(text(value)),
                    Ok(None) => break,
                    Err(bad) => return (found, Some(bad)),
                }
            }
        }
        loop {
            match values.finish() {
                Ok(Some(value)) => found.push(text(value)),
                Ok(None) => return (found, None),
                Err(bad) => return (found, Some(bad)),
            }
        }
    }

    #[test]
    fn values_are_found_however_they_are_cut() {
        let stream =
            r#" {"a":[1,{"b":"}\"\u12aF"}]}{}[] "x" 12 -0.5e+3true null{"k" : false , "l":[ ] } 7"#;
        let expected = [
            r#"{"a":[1,{"b":"}\"\u12aF"}]}"#,
            "{}",
            "[]",
            "\"x\"",
            "12",
            "-0.5e+3",
            "true",
            "null",
            r#"{"k" : false , "l":[ ] }"#,
            "7",
        ];
        for size in [1, 2, 3, 7, stream.len()] {
            let pieces: Vec<_> = stream
                .as_bytes()
                .chunks(size)
                .map(|piece| std::str::from_utf8(piece).expect("ASCII"))
                .collect();
            let (found, bad) = all(&pieces);
            assert_eq!(bad, None);
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    /// Printed by Go.
    #[test]
    fn bad_json_is_refused_in_gos_words() {
        for (text, words) in [
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "'",
                "invalid character '\\'' looking for beginning of value",
            ),
            ("{", "unexpected EOF"),
            ("{\"a\"", "unexpected EOF"),
            ("\"a", "unexpected EOF"),
            ("tru", "unexpected EOF"),
            ("-", "unexpected EOF"),
            ("1.", "unexpected EOF"),
            (
                "{a",
                "invalid character 'a' looking for beginning of object key string",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 2}",
                "invalid character '2' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            ("]", "invalid character ']' looking for beginning of value"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u00g0\"",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            ("[01]", "invalid character '1' after array element"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1ex",
                "invalid character 'x' in exponent of numeric literal",
            ),
            (
                "trve",
                "invalid character 'v' in literal true (expecting 'u')",
            ),
            (
                "falze",
                "invalid character 'z' in literal false (expecting 's')",
            ),
            (
                "nil",
                "invalid character 'i' in literal null (expecting 'u')",
            ),
            (
                "\u{e9}",
                "invalid character '\u{c3}' looking for beginning of value",
            ),
            (
                "\u{1}",
                "invalid character '\\x01' looking for beginning of value",
            ),
        ] {
            assert_eq!(
                all(&[text]),
                (vec![], Some(Bad::Syntax(words.to_owned()))),
                "{text:?}"
            );
        }
        let deep = "[".repeat(10_001);
        let words = "invalid character '[' exceeded max depth";
        assert_eq!(all(&[&deep]).1, Some(Bad::Syntax(words.to_owned())));
        assert_eq!(all(&[&"[".repeat(10_000), &"]".repeat(10_000)]).1, None);
    }

    #[test]
    fn a_value_has_a_bound() {
        let mut values = Values::new(10);
        values.push(b"          [1,2,3,4] [1,2,3,4,5]");
        assert!(values.next().expect("nine bytes").is_some());
        assert_eq!(values.next(), Err(Bad::TooLarge));
        let mut values = Values::new(10);
        values.push(b"[\"01234567");
        assert_eq!(values.next(), Ok(None));
        values.push(b"89");
        assert_eq!(values.next(), Err(Bad::TooLarge));
    }
}
