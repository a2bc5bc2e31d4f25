//! From JSON to the bytes of a message.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use retcd_proto::schema::{Field, Kind, Message};

use super::number;
use super::token::{self, Token, Tokens};

/// Messages in messages that are read; the decoder behind has the same limit. Go's is 10,000.
const MAX_DEPTH: usize = 100;

/// Encodes a JSON value that is known to be JSON as a message.
///
/// Names are those of the fields, in either form; unknown ones, and unknown names of enumerations, are left out.
///
/// # Errors
/// The value does not fit the message, in the words of `protojson`.
pub(crate) fn to_wire(message: &'static Message, json: &[u8]) -> Result<Vec<u8>, String> {
    let mut reader = Reader {
        tokens: Tokens::new(json),
        out: Vec::with_capacity(json.len()),
    };
    reader.message(message, MAX_DEPTH)?;
    Ok(reader.out)
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    out: Vec<u8>,
}

impl Reader<'_> {
    fn message(&mut self, message: &'static Message, depth: usize) -> Result<(), String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err("proto: exceeded max recursion depth".to_owned());
        };
        let token = self.tokens.next()?;
        if token.kind != token::Kind::ObjectOpen {
            return Err(self.tokens.unexpected(&token));
        }
        let mut seen = 0_u64;
        let mut oneofs: Vec<&str> = Vec::new();
        loop {
            let token = self.tokens.next()?;
            let name = match &token.kind {
                token::Kind::ObjectClose => return Ok(()),
                token::Kind::Text(name) => name,
                _ => return Err(self.tokens.unexpected(&token)),
            };
            let Some((index, field)) = find(message, name) else {
                self.skip()?;
                continue;
            };
            let raw = String::from_utf8_lossy(token.raw);
            if seen & (1 << index) != 0 {
                return Err(self
                    .tokens
                    .error(token.at, &format!("duplicate field {raw}")));
            }
            seen |= 1 << index;
            if self.tokens.peek() == Some(b'n') {
                self.tokens.next()?;
                continue;
            }
            if field.repeated {
                self.list(field, depth)?;
                continue;
            }
            if let Some(oneof) = field.oneof {
                if oneofs.contains(&oneof) {
                    let words = format!("error parsing {raw}, oneof {oneof} is already set");
                    return Err(self.tokens.error(token.at, &words));
                }
                oneofs.push(oneof);
            }
            self.single(field, depth)?;
        }
    }

    fn list(&mut self, field: &Field, depth: usize) -> Result<(), String> {
        let token = self.tokens.next()?;
        if token.kind != token::Kind::ArrayOpen {
            return Err(self.tokens.unexpected(&token));
        }
        while self.tokens.peek() != Some(b']') {
            self.single(field, depth)?;
        }
        self.tokens.next().map(drop)
    }

    fn single(&mut self, field: &Field, depth: usize) -> Result<(), String> {
        let Kind::Message(message) = field.kind else {
            return self.scalar(field);
        };
        self.key(field, LENGTH);
        let start = self.out.len();
        self.message(message, depth)?;
        // The length stands in front of what it is the length of.
        let length = self.out.len() - start;
        let before = self.out.len();
        push_varint(length as u64, &mut self.out);
        let digits = self.out.len() - before;
        if let Some(both) = self.out.get_mut(start..) {
            both.rotate_right(digits);
        }
        Ok(())
    }

    fn scalar(&mut self, field: &Field) -> Result<(), String> {
        let token = self.tokens.next()?;
        let fits = match field.kind {
            Kind::Bool => match token.kind {
                token::Kind::Bool(value) => Some(Scalar::Number(value.into())),
                _ => None,
            },
            Kind::Int64 => digits(&token).and_then(number::signed).map(Scalar::signed),
            Kind::Int32 => digits(&token)
                .and_then(number::signed)
                .filter(|value| i32::try_from(*value).is_ok())
                .map(Scalar::signed),
            Kind::Uint64 => digits(&token)
                .and_then(number::unsigned)
                .map(Scalar::Number),
            Kind::Uint32 => digits(&token)
                .and_then(number::unsigned)
                .filter(|value| u32::try_from(*value).is_ok())
                .map(Scalar::Number),
            Kind::String => match &token.kind {
                token::Kind::Text(text) => Some(Scalar::Bytes(text.as_bytes().to_vec())),
                _ => None,
            },
            Kind::Bytes => match &token.kind {
                token::Kind::Text(text) => base64(text).map(Scalar::Bytes),
                _ => None,
            },
            Kind::Enum(values) => match &token.kind {
                token::Kind::Text(text) => {
                    let named = values.values.iter().find(|(_, name)| name == text);
                    let Some((number, _)) = named else {
                        return Ok(()); // an unknown name is left out
                    };
                    Some(Scalar::signed((*number).into()))
                }
                token::Kind::Number => number::signed(token.raw)
                    .filter(|value| i32::try_from(*value).is_ok())
                    .map(Scalar::signed),
                _ => None,
            },
            Kind::Message(_) => None,
        };
        let Some(value) = fits else {
            let raw = String::from_utf8_lossy(token.raw);
            let (kind, name) = (field.kind.name(), field.json_name);
            let words = format!("invalid value for {kind} field {name}: {raw}");
            return Err(self.tokens.error(token.at, &words));
        };
        // Who may be absent is absent when it is zero.
        let always = field.repeated || field.oneof.is_some();
        match value {
            Scalar::Number(0) if !always => {}
            Scalar::Number(number) => {
                self.key(field, VARINT);
                push_varint(number, &mut self.out);
            }
            Scalar::Bytes(bytes) if bytes.is_empty() && !always => {}
            Scalar::Bytes(bytes) => {
                self.key(field, LENGTH);
                push_varint(bytes.len() as u64, &mut self.out);
                self.out.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// Skips a value.
    fn skip(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        loop {
            match self.tokens.next()?.kind {
                token::Kind::ObjectOpen | token::Kind::ArrayOpen => open += 1,
                token::Kind::ObjectClose | token::Kind::ArrayClose => {
                    open = open.saturating_sub(1);
                }
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn key(&mut self, field: &Field, wire_type: u32) {
        push_varint(u64::from(field.number << 3 | wire_type), &mut self.out);
    }
}

/// Types on the wire.
const VARINT: u32 = 0;
const LENGTH: u32 = 2;

/// A value on the wire.
enum Scalar {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Scalar {
    /// Negative numbers have all 64 bits on the wire.
    fn signed(value: i64) -> Self {
        Self::Number(u64::from_ne_bytes(value.to_ne_bytes()))
    }
}

/// A field by either name, and its position. Positions are below 64.
fn find(message: &'static Message, name: &str) -> Option<(usize, &'static Field)> {
    let numbered = || message.fields.iter().enumerate();
    numbered()
        .find(|(_, field)| field.json_name == name)
        .or_else(|| numbered().find(|(_, field)| field.name == name))
        .filter(|(index, _)| *index < 64)
}

/// What may be a number: one, or a string without space around it.
fn digits<'a>(token: &'a Token<'_>) -> Option<&'a [u8]> {
    match &token.kind {
        token::Kind::Number => Some(token.raw),
        token::Kind::Text(text) => (text.trim() == text).then_some(text.as_bytes()),
        _ => None,
    }
}

/// Both alphabets, with or without padding, as Go reads them: line breaks do not count, nor do bits beyond the last byte.
fn base64(text: &str) -> Option<Vec<u8>> {
    let alphabet = match text.contains(['-', '_']) {
        true => &alphabet::URL_SAFE,
        false => &alphabet::STANDARD,
    };
    let padding = match text.len().is_multiple_of(4) {
        true => DecodePaddingMode::RequireCanonical,
        false => DecodePaddingMode::RequireNone,
    };
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding);
    let engine = GeneralPurpose::new(alphabet, config);
    match text.contains(['\r', '\n']) {
        true => engine.decode(text.replace(['\r', '\n'], "")),
        false => engine.decode(text),
    }
    .ok()
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
