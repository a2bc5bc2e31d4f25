//! JSON as etcd writes it: like `serde_json`, but `<`, `>`, `&` and the two line separators are
//! escaped.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let Some(c) = special.chars().next() else {
                break;
            };
            write!(writer, "\\u{:04x}", c as u32)?;
            rest = &special[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The compact encoding of a value, as Go writes it.
pub fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut out, Escaping))
        .expect("only maps with keys that are not strings fail, and writing to memory does not");
    out
}

/// As [`to_vec`], as text.
pub(super) fn to_string(value: &impl Serialize) -> String {
    String::from_utf8(to_vec(value)).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        assert_eq!(
            to_string(&"a<b>&\u{2028}\"\\\n\u{1}é"),
            r#""a\u003cb\u003e\u0026\u2028\"\\\n\u0001é""#
        );
    }
}
