//! Values as etcd's flags spell them: Go's integers, booleans and durations.

use std::fmt;
use std::time::Duration;

/// Why a value cannot be taken; the text is the one etcd prints after the flag's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not in the notation.
    #[error("parse error")]
    Syntax,
    /// In the notation, but too large or too small.
    #[error("value out of range")]
    Range,
    /// A text of its own, e.g. of a URL or an enumeration.
    #[error("{0}")]
    Other(String),
}

/// A truth value in Go's notation: `true`, `T`, `1`, `FALSE` and so on.
///
/// # Errors
/// For anything else.
pub fn parse_bool(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Syntax),
    }
}

/// An unsigned integer in Go's notation with base prefix (`0x`, `0o`, `0`, `0b`) and underscores.
///
/// # Errors
/// For anything else, and beyond 64 bits.
pub fn parse_uint(text: &str) -> Result<u64, ValueError> {
    let magnitude = parse_magnitude(text)?;
    u64::try_from(magnitude).map_err(|_| ValueError::Range)
}

/// As [`parse_uint`], with an optional sign.
pub(super) fn parse_int(text: &str) -> Result<i64, ValueError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_magnitude(digits)?;
    let value = i128::try_from(magnitude).map_err(|_| ValueError::Range)?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| ValueError::Range)
}

fn parse_magnitude(text: &str) -> Result<u128, ValueError> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits, prefixed) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest, true)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], true)
    } else {
        (10, lower.as_str(), false)
    };
    // An underscore may follow the base prefix or stand between digits, nowhere else.
    let misplaced = digits.ends_with('_')
        || digits.contains("__")
        || (digits.starts_with('_') && !prefixed)
        || digits.is_empty();
    if misplaced {
        return Err(ValueError::Syntax);
    }
    let mut value: u128 = 0;
    let mut overflow = false;
    for digit in digits.bytes().filter(|byte| *byte != b'_') {
        let digit = char::from(digit)
            .to_digit(radix)
            .ok_or(ValueError::Syntax)?;
        match value
            .checked_mul(radix.into())
            .and_then(|v| v.checked_add(digit.into()))
        {
            Some(next) => value = next,
            None => overflow = true,
        }
    }
    if overflow {
        Err(ValueError::Range)
    } else {
        Ok(value)
    }
}

/// A signed duration in nanoseconds: `300ms`, `-1.5h`, `2h45m`; a bare `0` needs no unit.
///
/// # Errors
/// For anything else, and beyond 292 years.
pub fn parse_duration(text: &str) -> Result<i64, ValueError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(ValueError::Syntax);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(ValueError::Syntax)?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(ValueError::Syntax),
        };
        total = total
            .checked_add(scaled(number, scale)?)
            .ok_or(ValueError::Syntax)?;
        rest = tail;
    }
    let limit = i64::MAX as u128 + u128::from(negative);
    if total > limit {
        return Err(ValueError::Syntax);
    }
    let value = total as i128;
    Ok(if negative { -value } else { value } as i64)
}

/// In Go's words, why `text`, which [`parse_duration`] does not take, is no duration.
pub(super) fn why_no_duration(text: &str) -> String {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut end = number;
        if rest[end..].starts_with('.') {
            let fraction = &rest[end + 1..];
            let after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            end = rest.len() - after.len();
            if number == 0 && end == 1 {
                return invalid();
            }
        } else if number == 0 {
            return invalid();
        }
        // Whole numbers beyond 63 bits are none.
        let fits = |digits: &str| digits.parse::<u64>().is_ok_and(|n| n <= 1 << 63);
        if number > 0 && !fits(&rest[..number]) {
            return invalid();
        }
        let tail = &rest[end..];
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        match unit {
            "" => return format!("time: missing unit in duration {text:?}"),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = tail,
            _ => return format!("time: unknown unit {unit:?} in duration {text:?}"),
        }
    }
    invalid()
}

/// `number` (digits with at most one point) times `scale`, fractions of a nanosecond dropped.
fn scaled(number: &str, scale: u128) -> Result<u128, ValueError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(ValueError::Syntax);
    }
    let whole: u128 = match whole {
        "" => 0,
        digits => digits
            .parse::<u64>()
            .map_err(|_| ValueError::Syntax)?
            .into(),
    };
    let mut value = whole.checked_mul(scale).ok_or(ValueError::Syntax)?;
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        value += u128::from(digit - b'0') * unit;
    }
    Ok(value)
}

/// Shows a duration as Go does: `1h2m0.5s`, `5.17434ms`, `0s`.
///
/// Log fields hold durations in this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (value, unit) = match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => (decimal(nanos, 1_000), "µs"),
            1_000_000..1_000_000_000 => (decimal(nanos, 1_000_000), "ms"),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                (decimal(nanos % 60_000_000_000, 1_000_000_000), "s")
            }
        };
        write!(f, "{value}{unit}")
    }
}

/// Shows a number of bytes as etcd does: `2.1 GB`, in powers of 1000 with two digits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoBytes(pub u64);

impl fmt::Display for GoBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 10 {
            return write!(f, "{} B", self.0);
        }
        let power = (self.0.ilog10() / 3) as usize;
        let value = (self.0 as f64 / 1000_f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
        let decimals = usize::from(value < 10.0);
        write!(f, "{value:.decimals$} {}", UNITS[power])
    }
}

/// `nanos / scale` with as many decimals as it needs.
fn decimal(nanos: u128, scale: u128) -> String {
    let fraction = nanos % scale;
    if fraction == 0 {
        return (nanos / scale).to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{}.{}", nanos / scale, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_go_notation() {
        assert_eq!(parse_uint("1_000"), Ok(1000));
        assert_eq!(parse_uint("0x10"), Ok(16));
        assert_eq!(parse_uint("010"), Ok(8));
        assert_eq!(parse_uint("0_1"), Ok(1));
        assert_eq!(parse_uint("0"), Ok(0));
        assert_eq!(parse_int("-0b11"), Ok(-3));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        for bad in ["", "abc", "-1", "1__0", "_1", "1_", "0x", "08", "1.5"] {
            assert_eq!(parse_uint(bad), Err(ValueError::Syntax), "{bad}");
        }
        assert_eq!(parse_uint("18446744073709551616"), Err(ValueError::Range));
        assert_eq!(parse_uint(&"9".repeat(60)), Err(ValueError::Range));
        assert_eq!(parse_int("9223372036854775808"), Err(ValueError::Range));
    }

    #[test]
    fn durations_follow_go_notation() {
        assert_eq!(parse_duration("100ms"), Ok(100_000_000));
        assert_eq!(parse_duration("1h2m"), Ok(3_720_000_000_000));
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("-.5us"), Ok(-500));
        assert_eq!(parse_duration("0"), Ok(0));
        assert_eq!(parse_duration("1µs1ns"), Ok(1001));
        for bad in [
            "", "5", "1x", "s", ".s", "1.2.3s", "3000000h", "-", "1s ", "é",
        ] {
            assert_eq!(parse_duration(bad), Err(ValueError::Syntax), "{bad}");
        }
    }

    #[test]
    fn bytes_are_shown_as_etcd_shows_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (10_485_760, "10 MB"),
            (99_999_999, "100 MB"),
            (2_147_483_648, "2.1 GB"),
            (8_589_934_592, "8.6 GB"),
            (99_999_999_999, "100 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(GoBytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn durations_are_shown_as_go_shows_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (726_197, "726.197µs"),
            (5_174_340, "5.17434ms"),
            (100_000_000, "100ms"),
            (7_000_000_000, "7s"),
            (60_000_000_000, "1m0s"),
            (7_200_000_000_000, "2h0m0s"),
            (3_661_500_000_000, "1h1m1.5s"),
        ] {
            assert_eq!(GoDuration(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
