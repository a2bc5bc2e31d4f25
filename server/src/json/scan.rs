//! Where a JSON value ends, byte by byte.

use super::text;

/// Values in values beyond this are refused.
const MAX_DEPTH: usize = 10_000;

/// What a byte meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The value goes on.
    More,
    /// This byte is the last one of the value.
    Last,
    /// The value, a number or a word, ended before this byte.
    Ended,
}

/// What surrounds a value.
#[derive(Clone, Copy, Debug)]
enum Within {
    Key,
    Value,
    Array,
}

/// What is expected next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    AfterValue,
    Text,
    Escape,
    /// So many hexadecimal digits are to come.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// A word, and how many letters of it have been seen.
    Word(&'static str, usize),
}

/// Follows one value.
#[derive(Debug)]
pub(super) struct Scanner {
    step: Step,
    within: Vec<Within>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            step: Step::Value,
            within: Vec::new(),
        }
    }

    /// Whether the bytes until the next quote, backslash or control character are text and nothing else.
    pub(super) fn in_text(&self) -> bool {
        matches!(self.step, Step::Text)
    }

    /// Looks at the next byte.
    ///
    /// # Errors
    /// What `encoding/json` says.
    pub(super) fn step(&mut self, byte: u8) -> Result<Seen, String> {
        match self.step {
            Step::Value => self.value(byte),
            Step::ValueOrEnd if byte == b']' => Ok(self.close()),
            Step::ValueOrEnd => self.value(byte),
            Step::Key | Step::KeyOrEnd if is_space(byte) => Ok(Seen::More),
            Step::KeyOrEnd if byte == b'}' => Ok(self.close()),
            Step::Key | Step::KeyOrEnd if byte == b'"' => self.go(Step::Text),
            Step::Key | Step::KeyOrEnd => bad(byte, "looking for beginning of object key string"),
            Step::AfterValue => self.after_value(byte),
            Step::Text => match byte {
                b'"' => self.go(Step::AfterValue),
                b'\\' => self.go(Step::Escape),
                0..0x20 => bad(byte, "in string literal"),
                _ => Ok(Seen::More),
            },
            Step::Escape => match byte {
                b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.go(Step::Text),
                b'u' => self.go(Step::Hex(4)),
                _ => bad(byte, "in string escape code"),
            },
            Step::Hex(left) if byte.is_ascii_hexdigit() => match left {
                1 => self.go(Step::Text),
                _ => self.go(Step::Hex(left - 1)),
            },
            Step::Hex(_) => bad(byte, "in \\u hexadecimal character escape"),
            Step::Word(word, seen) => self.word(word, seen, byte),
            _ => self.number(byte),
        }
    }

    fn go(&mut self, step: Step) -> Result<Seen, String> {
        self.step = step;
        Ok(Seen::More)
    }

    fn value(&mut self, byte: u8) -> Result<Seen, String> {
        match byte {
            _ if is_space(byte) => Ok(Seen::More),
            b'{' => self.open(byte, Within::Key, Step::KeyOrEnd),
            b'[' => self.open(byte, Within::Array, Step::ValueOrEnd),
            b'"' => self.go(Step::Text),
            b'-' => self.go(Step::Minus),
            b'0' => self.go(Step::Zero),
            b'1'..=b'9' => self.go(Step::Digits),
            b't' => self.go(Step::Word("true", 1)),
            b'f' => self.go(Step::Word("false", 1)),
            b'n' => self.go(Step::Word("null", 1)),
            _ => bad(byte, "looking for beginning of value"),
        }
    }

    fn open(&mut self, byte: u8, within: Within, step: Step) -> Result<Seen, String> {
        if self.within.len() == MAX_DEPTH {
            return bad(byte, "exceeded max depth");
        }
        self.within.push(within);
        self.go(step)
    }

    fn close(&mut self) -> Seen {
        self.within.pop();
        self.step = Step::AfterValue;
        match self.within.is_empty() {
            true => Seen::Last,
            false => Seen::More,
        }
    }

    fn after_value(&mut self, byte: u8) -> Result<Seen, String> {
        let Some(within) = self.within.last_mut() else {
            return Ok(Seen::Ended);
        };
        if is_space(byte) {
            self.step = Step::AfterValue;
            return Ok(Seen::More);
        }
        match (*within, byte) {
            (Within::Key, b':') => {
                *within = Within::Value;
                self.go(Step::Value)
            }
            (Within::Key, _) => bad(byte, "after object key"),
            (Within::Value, b',') => {
                *within = Within::Key;
                self.go(Step::Key)
            }
            (Within::Value, b'}') | (Within::Array, b']') => Ok(self.close()),
            (Within::Value, _) => bad(byte, "after object key:value pair"),
            (Within::Array, b',') => self.go(Step::Value),
            (Within::Array, _) => bad(byte, "after array element"),
        }
    }

    fn word(&mut self, word: &'static str, seen: usize, byte: u8) -> Result<Seen, String> {
        let expected = word.as_bytes().get(seen).copied().unwrap_or_default();
        if byte != expected {
            let expected = char::from(expected);
            return bad(byte, &format!("in literal {word} (expecting '{expected}')"));
        }
        match seen + 1 == word.len() {
            true => self.go(Step::AfterValue),
            false => self.go(Step::Word(word, seen + 1)),
        }
    }

    fn number(&mut self, byte: u8) -> Result<Seen, String> {
        match (self.step, byte) {
            (Step::Minus, b'0') => self.go(Step::Zero),
            (Step::Minus, b'1'..=b'9') => self.go(Step::Digits),
            (Step::Minus, _) => bad(byte, "in numeric literal"),
            (Step::Zero | Step::Digits, b'.') => self.go(Step::Dot),
            (Step::Dot | Step::Fraction, b'0'..=b'9') => self.go(Step::Fraction),
            (Step::Dot, _) => bad(byte, "after decimal point in numeric literal"),
            (Step::Zero | Step::Digits | Step::Fraction, b'e' | b'E') => self.go(Step::Exponent),
            (Step::Exponent, b'+' | b'-') => self.go(Step::ExponentSign),
            (Step::Exponent | Step::ExponentSign | Step::ExponentDigits, b'0'..=b'9') => {
                self.go(Step::ExponentDigits)
            }
            (Step::Exponent | Step::ExponentSign, _) => bad(byte, "in exponent of numeric literal"),
            (Step::Digits, b'0'..=b'9') => Ok(Seen::More),
            _ => self.after_value(byte),
        }
    }
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn bad(byte: u8, place: &str) -> Result<Seen, String> {
    Err(format!(
        "invalid character {} {place}",
        text::quoted_byte(byte)
    ))
}
