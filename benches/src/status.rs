//! What a server's header blocks say of the end of a call: `grpc-status` and `grpc-message`.
//!
//! As much of HPACK (RFC 7541) as that needs. Most blocks are a few indices of what the peer sent before, so reading
//! them costs next to nothing.

use std::borrow::Cow;
use std::collections::VecDeque;

/// The static table has as many entries; the peer's own come behind them.
const STATIC: usize = 61;

/// Entries that fit the table of 4096 bytes that a peer may use: each counts for 32 bytes and its own.
const REMEMBERED: usize = 4096 / 32;

/// The code of success.
const OK: &str = "0";

/// Reads the header blocks of one connection, all of them and in order.
#[derive(Debug, Default)]
pub(crate) struct Statuses {
    /// What the peer wants remembered, the newest first.
    remembered: VecDeque<Field>,
}

/// A field, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Status(String),
    Message(String),
    Other,
}

/// What one block says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// `grpc-status`, if it is there and not success.
    code: Option<String>,
    /// `grpc-message`, with its escapes.
    message: String,
}

impl Status {
    /// Why the call failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        let code = self.code.as_ref()?;
        let name = code.parse().ok().and_then(|code: usize| NAMES.get(code));
        let (name, message) = (name.unwrap_or(&"unknown code"), unescape(&self.message));
        Some(format!("{name} (grpc-status {code}): {message}"))
    }
}

const NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Statuses {
    /// A block that cannot be read says nothing; what follows it is not understood any more.
    pub(crate) fn read(&mut self, block: &[u8]) -> Status {
        let mut input = Input(block);
        let mut status = Status::default();
        while let Some(first) = input.0.first().copied() {
            if self.field(first, &mut input, &mut status).is_none() {
                break;
            }
        }
        status
    }

    fn field(&mut self, first: u8, input: &mut Input<'_>, status: &mut Status) -> Option<()> {
        let (prefix, remember) = match first {
            0x80.. => {
                let index = input.integer(7)?;
                if let Some(field) = self.entry(index) {
                    status.take(field);
                }
                return Some(());
            }
            0x40.. => (6, true),
            // A new size for the table. It never grows, and what is dropped is not asked for.
            0x20.. => return input.integer(5).map(drop),
            _ => (4, false),
        };
        let index = input.integer(prefix)?;
        let name = match index {
            0 => Field::named(&input.string()?),
            _ => self.entry(index).cloned().unwrap_or(Field::Other),
        };
        let value = input.string()?;
        let text = || String::from_utf8_lossy(&value).into_owned();
        let field = match name {
            Field::Status(_) => Field::Status(text()),
            Field::Message(_) => Field::Message(text()),
            Field::Other => Field::Other,
        };
        status.take(&field);
        if remember {
            self.remembered.truncate(REMEMBERED - 1);
            self.remembered.push_front(field);
        }
        Some(())
    }

    /// `None` for the static table, which has no such field.
    fn entry(&self, index: usize) -> Option<&Field> {
        self.remembered.get(index.checked_sub(STATIC + 1)?)
    }
}

impl Status {
    fn take(&mut self, field: &Field) {
        match field {
            Field::Status(code) if code == OK => {}
            Field::Status(code) => self.code = Some(code.clone()),
            Field::Message(message) => self.message.clone_from(message),
            Field::Other => {}
        }
    }
}

impl Field {
    fn named(name: &[u8]) -> Self {
        match name {
            b"grpc-status" => Self::Status(String::new()),
            b"grpc-message" => Self::Message(String::new()),
            _ => Self::Other,
        }
    }
}

/// The rest of a block.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number whose first part is in the low `prefix` bits of the next byte.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let mask = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Some(value);
        }
        // 2^21 is beyond every index, and every length in a frame.
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let coded = self.0.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        match coded {
            true => Some(decode(string).into()),
            false => Some(string.into()),
        }
    }
}

/// The Huffman code of RFC 7541, appendix B: the length of codes, and what those of that length stand for, in their
/// order. The code is canonical, so that is all there is to know. Longer ones stand for what is in no message: gRPC
/// escapes all but printable ASCII.
const CODES: [(u32, &[u8]); 11] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
];

/// Up to the padding, or to the first longer code.
fn decode(string: &[u8]) -> Vec<u8> {
    let bits: Vec<u32> = string
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1)))
        .collect();
    let mut text = Vec::new();
    let mut rest = &bits[..];
    while let Some((byte, length)) = decode_one(rest) {
        text.push(byte);
        rest = &rest[length as usize..];
    }
    text
}

fn decode_one(bits: &[u32]) -> Option<(u8, u32)> {
    let (mut code, mut first, mut length) = (0, 0, 0);
    for (wanted, symbols) in CODES {
        while length < wanted {
            code = code << 1 | bits.get(length as usize)?;
            first <<= 1;
            length += 1;
        }
        // Codes of one length follow those of the one before.
        if let Some(byte) = symbols.get((code - first) as usize) {
            return Some((*byte, length));
        }
        first += symbols.len() as u32;
    }
    None
}

/// A message without its percent signs.
fn unescape(message: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = message.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match byte {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                &tail[2..]
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(kind: u8, name: &str, value: &str) -> Vec<u8> {
        let mut block = vec![kind];
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
        block
    }

    fn failure(statuses: &mut Statuses, block: &[u8]) -> String {
        statuses.read(block).failure().unwrap_or_default()
    }

    #[test]
    fn a_failure_is_told_with_code_and_message() {
        let mut statuses = Statuses::default();
        // :status 200, then literals that are to be remembered.
        let mut block = vec![0x88];
        block.extend(literal(0x40, "grpc-status", "0"));
        block.extend(literal(0x40, "grpc-message", ""));
        assert_eq!(statuses.read(&block), Status::default());
        // Both by their index.
        assert_eq!(failure(&mut statuses, &[0x88, 0xbf, 0xbe]), "");
        // The name by its index, not remembered; a message with an escape.
        let block = b"\x88\x0f\x30\x01\x38\x0f\x2f\x0cno%20way: 5%";
        let text = "ResourceExhausted (grpc-status 8): no way: 5%";
        assert_eq!(failure(&mut statuses, block), text);
        // What was remembered is the same as before; a new code is remembered.
        assert_eq!(failure(&mut statuses, &[0xbf, 0xbe]), "");
        assert_eq!(
            failure(&mut statuses, b"\x7f\x00\x0214"),
            "Unavailable (grpc-status 14): "
        );
        assert_eq!(
            failure(&mut statuses, &[0xbe]),
            "Unavailable (grpc-status 14): "
        );
        assert_eq!(failure(&mut statuses, &[0xc0]), "");
        let odd = literal(0, "grpc-status", "99");
        assert_eq!(
            failure(&mut statuses, &odd),
            "unknown code (grpc-status 99): "
        );
    }

    /// As Go and others send it. Source: RFC 7541, C.4.1 and C.6.1.
    #[test]
    fn coded_strings_are_read() {
        let hex = |text: &str| -> Vec<u8> {
            let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
            (0..text.len()).step_by(2).map(digit).collect()
        };
        assert_eq!(decode(&hex("f1e3c2e5f23a6ba0ab90f4ff")), b"www.example.com");
        let date = "d07abe941054d444a8200595040b8166e082a62d1bff";
        assert_eq!(decode(&hex(date)), b"Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(
            decode(&hex("9d29ad171863c78f0b97c8e9ae82ae43d3")),
            b"https://www.example.com"
        );
        // The longest code that is known, 0x7fff0 in 19 bits.
        assert_eq!(decode(&hex("fffe1f")), b"\\");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), b"");
    }

    #[test]
    fn whatever_comes_is_read_to_its_end() {
        let mut seed = 7_u64;
        for length in 0..2_000 {
            let mut random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) as u8
            };
            let block: Vec<u8> = (0..length % 60).map(|_| random()).collect();
            let mut statuses = Statuses::default();
            statuses.read(&block);
            statuses.read(&block);
            assert!(statuses.remembered.len() <= REMEMBERED);
        }
    }
}
