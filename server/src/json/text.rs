//! Strings in JSON, and in Go's messages.

use std::fmt::Write as _;

/// Adds a string in quotes, with what must be escaped escaped and nothing else.
pub(crate) fn push_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))
    {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, tail)) = tail.split_first() else {
            break;
        };
        let short = match byte {
            b'"' | b'\\' => Some(*byte),
            b'\x08' => Some(b'b'),
            b'\x0c' => Some(b'f'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            _ => None,
        };
        match short {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A byte as `encoding/json` shows it: as the character with its number, in single quotes.
pub(super) fn quoted_byte(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        _ => {
            let mut out = String::from("'");
            push_quoted(char::from(byte), &mut out);
            out.push('\'');
            out
        }
    }
}

/// Bytes as Go's `%q` shows them.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.push_str("\\\""),
                _ => push_quoted(letter, &mut out),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_quoted(letter: char, out: &mut String) {
    match letter {
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\0'..' ' | '\x7f' => {
            let _ = write!(out, "\\x{:02x}", u32::from(letter));
        }
        // What Go does not count as printable of the first 256.
        '\u{80}'..='\u{a0}' | '\u{ad}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        }
        _ => out.push(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_escaped() {
        let mut out = Vec::new();
        push_string("a\"\\/\n\t\u{1}\u{1f}<&>\u{e9}\u{7f}", &mut out);
        let expected = "\"a\\\"\\\\/\\n\\t\\u0001\\u001f<&>\u{e9}\u{7f}\"";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn bytes_are_quoted_as_go_does() {
        assert_eq!(quoted(b"\\ud8\"\xff\n"), r#""\\ud8\"\xff\n""#);
        assert_eq!(quoted_byte(0x85), "'\\u0085'");
        assert_eq!(quoted_byte(b'"'), "'\"'");
        assert_eq!(quoted_byte(b'\\'), "'\\\\'");
    }
}
