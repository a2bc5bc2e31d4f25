//! Flags and the texts that refuse their values.

use retcd::config::{ValueError, parse_bool, parse_duration, parse_uint};

/// A flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// One letter that stands for it.
    pub short: Option<char>,
    /// Which values it takes.
    pub kind: Kind,
    /// The value when it is not given.
    pub default: &'static str,
    /// For the help.
    pub help: &'static str,
}

/// Which values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; given without a value it is true.
    Bool,
    /// Any text.
    Text,
    /// An integer of 64 bits, not negative.
    Uint,
    /// A time such as `1m30s`.
    Duration,
}

impl Flag {
    /// How refusals call it.
    pub(super) fn spelling(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }

    /// # Errors
    /// Why the value is not one of its kind, as Go says it.
    pub(super) fn check(&self, value: &str) -> Result<(), String> {
        let reason = match self.kind {
            Kind::Text => return Ok(()),
            Kind::Bool => parse_bool(value)
                .err()
                .map(|error| number_error("ParseBool", value, &error)),
            Kind::Uint => parse_uint(value)
                .err()
                .map(|error| number_error("ParseUint", value, &error)),
            Kind::Duration => parse_duration(value).err().map(|_| duration_error(value)),
        };
        match reason {
            None => Ok(()),
            Some(reason) => Err(format!(
                "invalid argument {value:?} for {:?} flag: {reason}",
                self.spelling()
            )),
        }
    }
}

fn number_error(function: &str, value: &str, error: &ValueError) -> String {
    let what = match error {
        ValueError::Range => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {value:?}: {what}")
}

/// Says of a text that is no duration which part of it is missing or unknown.
fn duration_error(value: &str) -> String {
    let mut rest = value.strip_prefix(['-', '+']).unwrap_or(value);
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - unit.len()];
        let end = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        if number.matches('.').count() > 1 || !number.bytes().any(|b| b.is_ascii_digit()) {
            break;
        }
        match &unit[..end] {
            "" => return format!("time: missing unit in duration {value:?}"),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = &unit[end..],
            other => return format!("time: unknown unit {other:?} in duration {value:?}"),
        }
    }
    format!("time: invalid duration {value:?}")
}
