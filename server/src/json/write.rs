//! From the bytes of a message to JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use retcd_proto::schema::{Field, Kind, Message};

use super::text::push_string;

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse invalid wire-format data")]
pub(crate) struct Damaged;

/// Adds a message as a JSON object: fields by their names in the `.proto` file, absent and zero ones left out, numbers
/// of 64 bits and bytes (in base64) as strings.
///
/// Nothing is built in between, so that an answer of many megabytes costs no more than its text.
///
/// # Errors
/// The bytes are no message.
pub(crate) fn to_json(
    message: &'static Message,
    wire: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Damaged> {
    let mut present = 0_u64;
    for item in Wire(wire) {
        if let Some(index) = index(message, item?.0) {
            present |= 1 << index;
        }
    }
    out.push(b'{');
    let mut first = true;
    for (index, field) in message.fields.iter().enumerate() {
        if present & (1 << (index & 63)) == 0 {
            continue;
        }
        let before = (out.len(), first);
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        let written = match field.repeated {
            true => list(field, wire, out)?,
            false => single(field, wire, out)?,
        };
        if !written {
            out.truncate(before.0);
            first = before.1;
        }
    }
    out.push(b'}');
    Ok(())
}

fn index(message: &'static Message, number: u32) -> Option<usize> {
    let fields = message.fields;
    // Most messages number their fields from 1 without gaps.
    let guess = usize::try_from(number).ok()?.checked_sub(1)?;
    let found = match fields.get(guess) {
        Some(field) if field.number == number => Some(guess),
        _ => fields.iter().position(|field| field.number == number),
    };
    found.filter(|index| *index < 64)
}

/// Writes all values of a field.
fn list(field: &Field, wire: &[u8], out: &mut Vec<u8>) -> Result<bool, Damaged> {
    out.push(b'[');
    let mut first = true;
    let mut comma = |out: &mut Vec<u8>| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
    };
    for item in Wire(wire) {
        match item? {
            (number, _) if number != field.number => {}
            // Numbers may come one by one or many together.
            (_, Value::Bytes(mut packed)) if is_number(field.kind) => {
                while !packed.is_empty() {
                    let (number, rest) = varint(packed)?;
                    comma(out);
                    value(field, Value::Number(number), out)?;
                    packed = rest;
                }
            }
            (_, item) => {
                comma(out);
                value(field, item, out)?;
            }
        }
    }
    out.push(b']');
    Ok(true)
}

/// Writes the value of a field, the last one if there are several; false if it is as good as absent.
fn single(field: &Field, wire: &[u8], out: &mut Vec<u8>) -> Result<bool, Damaged> {
    let mut last: Option<Value<'_>> = None;
    let mut joined = Vec::new();
    for item in Wire(wire) {
        let (number, item) = item?;
        if number != field.number {
            continue;
        }
        // Parts of a message are one when they are put together.
        if let (Kind::Message(_), Some(Value::Bytes(one)), Value::Bytes(more)) =
            (field.kind, last, item)
        {
            if joined.is_empty() {
                joined.extend_from_slice(one);
            }
            joined.extend_from_slice(more);
        }
        last = Some(item);
    }
    let last = match joined.is_empty() {
        true => last,
        false => Some(Value::Bytes(&joined)),
    };
    let Some(last) = last else {
        return Ok(false);
    };
    let absent = match (field.kind, last) {
        (Kind::Message(_), _) => false,
        (_, Value::Number(number)) => number == 0,
        (_, Value::Bytes(bytes)) => bytes.is_empty(),
        (_, Value::Fixed) => false,
    };
    if absent && field.oneof.is_none() {
        return Ok(false);
    }
    value(field, last, out)?;
    Ok(true)
}

fn is_number(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

fn value(field: &Field, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Damaged> {
    match (field.kind, value) {
        (Kind::Message(message), Value::Bytes(bytes)) => to_json(message, bytes, out)?,
        (Kind::String, Value::Bytes(bytes)) => push_string(&String::from_utf8_lossy(bytes), out),
        (Kind::Bytes, Value::Bytes(bytes)) => push_base64(bytes, out),
        (Kind::Bool, Value::Number(number)) => {
            out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
        }
        (Kind::Uint64, Value::Number(number)) => push_quoted(&number.to_string(), out),
        (Kind::Int64, Value::Number(number)) => push_quoted(&signed(number).to_string(), out),
        // Of longer numbers the lower half counts.
        (Kind::Uint32, Value::Number(number)) => {
            out.extend_from_slice((number as u32).to_string().as_bytes());
        }
        (Kind::Int32, Value::Number(number)) => {
            out.extend_from_slice((signed(number) as i32).to_string().as_bytes());
        }
        (Kind::Enum(values), Value::Number(number)) => {
            let number = signed(number) as i32;
            match values.values.iter().find(|(one, _)| *one == number) {
                Some((_, name)) => push_quoted(name, out),
                None => out.extend_from_slice(number.to_string().as_bytes()),
            }
        }
        _ => return Err(Damaged),
    }
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

fn push_quoted(plain: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(plain.as_bytes());
    out.push(b'"');
}

fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    if let Some(room) = out.get_mut(start..) {
        let written = BASE64_STANDARD.encode_slice(bytes, room);
        debug_assert!(written.is_ok_and(|length| start + length == out.len()));
    }
    out.push(b'"');
}

/// A value on the wire.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of four or eight bytes, which none of our fields is.
    Fixed,
}

/// The numbers and values of a message, in their order.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn item(&mut self) -> Result<(u32, Value<'a>), Damaged> {
        let (key, rest) = varint(self.0)?;
        let number = u32::try_from(key >> 3).map_err(|_| Damaged)?;
        let (value, rest) = match key & 7 {
            0 => {
                let (value, rest) = varint(rest)?;
                (Value::Number(value), rest)
            }
            1 => (Value::Fixed, rest.get(8..).ok_or(Damaged)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let length = usize::try_from(length).map_err(|_| Damaged)?;
                let (bytes, rest) = rest.split_at_checked(length).ok_or(Damaged)?;
                (Value::Bytes(bytes), rest)
            }
            5 => (Value::Fixed, rest.get(4..).ok_or(Damaged)?),
            _ => return Err(Damaged),
        };
        self.0 = rest;
        Ok((number, value))
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u32, Value<'a>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_err() {
            self.0 = &[];
        }
        Some(item)
    }
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Damaged> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Ok((value, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(Damaged)
}
