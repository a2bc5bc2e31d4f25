//! JSON text the way etcd's logger escapes it.

use std::fmt::{self, Write};

/// A quoted string: `"`, `\` and control characters escaped, all else as it is.
pub(super) fn push_str(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// What `arguments` format to, quoted, without a string in between.
pub(super) fn push_display(out: &mut String, value: impl fmt::Display) {
    out.push('"');
    // Writing into a string fails only if the value refuses to be shown; what it wrote until then stays.
    let _ = write!(Escaped(out), "{value}");
    out.push('"');
}

/// A number; JSON has no NaN and no infinities, so these become strings.
pub(super) fn push_float(out: &mut String, value: f64) {
    if value.is_finite() {
        let _ = write!(out, "{value}");
    } else {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        };
        push_str(out, name);
    }
}

/// A value that is JSON already, with a blank behind each comma and colon.
pub(super) fn push_spaced(out: &mut String, value: &str) {
    if !value.starts_with(['[', '{']) {
        out.push_str(value);
        return;
    }
    let (mut quoted, mut escaped) = (false, false);
    for c in value.chars() {
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' | ':' if !quoted => out.push(' '),
            _ => {}
        }
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

fn push_escaped(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
}
