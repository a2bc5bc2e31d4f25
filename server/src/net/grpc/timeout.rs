//! The header `grpc-timeout`: up to eight digits and a unit.

use std::time::Duration;

/// Why a header value is no timeout, in grpc-go's words.
pub(super) fn parse(value: &[u8]) -> Result<Duration, String> {
    let quoted = || format!("{:?}", String::from_utf8_lossy(value));
    let short = || format!("transport: timeout string is too short: {}", quoted());
    let (unit, digits) = value.split_last().ok_or_else(short)?;
    if digits.is_empty() {
        return Err(short());
    }
    if digits.len() > 8 {
        let text = format!("transport: timeout string is too long: {}", quoted());
        return Err(text);
    }
    let one = match unit {
        b'H' => Duration::from_secs(3600),
        b'M' => Duration::from_secs(60),
        b'S' => Duration::from_secs(1),
        b'm' => Duration::from_millis(1),
        b'u' => Duration::from_micros(1),
        b'n' => Duration::from_nanos(1),
        _ => {
            let text = format!("transport: timeout unit is not recognized: {}", quoted());
            return Err(text);
        }
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = String::from_utf8_lossy(digits);
        let text = format!("strconv.ParseUint: parsing {digits:?}: invalid syntax");
        return Err(text);
    }
    let count = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Ok(one.saturating_mul(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, nanos) in [
            ("1n", 1),
            ("20u", 20_000),
            ("3m", 3_000_000),
            ("0S", 0),
            ("2M", 120_000_000_000),
            ("1H", 3_600_000_000_000),
            ("99999999H", 359_999_996_400_000_000_000),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().as_nanos(), nanos);
        }
    }

    #[test]
    fn refusals() {
        for (text, reason) in [
            ("", "transport: timeout string is too short: \"\""),
            ("5", "transport: timeout string is too short: \"5\""),
            (
                "123456789S",
                "transport: timeout string is too long: \"123456789S\"",
            ),
            ("xx", "transport: timeout unit is not recognized: \"xx\""),
            ("-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("+1S", "strconv.ParseUint: parsing \"+1\": invalid syntax"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), reason);
        }
    }
}
