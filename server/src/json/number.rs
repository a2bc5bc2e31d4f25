//! Integers however JSON spells them: `5`, `5.0`, `50e-1`, and in strings.

/// The number at the beginning of `text`, if a sound one is there and ends.
fn prefix(text: &[u8]) -> Option<&[u8]> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    at = match text.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at = digits(at + 1);
    }
    if matches!(text.get(at), Some(b'e' | b'E')) && text.len() >= at + 2 {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
            text.get(at)?;
        }
        at = digits(at);
    }
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || b"-+._".contains(byte);
    if text.get(at).is_some_and(goes_on) {
        return None;
    }
    text.get(..at)
}

/// Most digits of a number that any of our integers can hold.
const MAX_DIGITS: i32 = 20;

/// The sign and digits of a number that is an integer.
fn integer(number: &[u8]) -> Option<(bool, String)> {
    let number = std::str::from_utf8(prefix(number)?).ok()?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (number, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.strip_prefix('0').unwrap_or(whole);
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return Some((false, "0".to_owned()));
    }
    let exponent: i32 = match exponent {
        None => 0,
        Some(text) => text.parse().ok()?,
    };
    let (length, behind) = (
        i32::try_from(whole.len()).ok()?,
        i32::try_from(fraction.len()).ok()?,
    );
    let digits = if exponent >= 0 {
        if behind > exponent || length.checked_add(exponent)? > MAX_DIGITS {
            return None;
        }
        let zeros = usize::try_from(exponent - behind).ok()?;
        format!("{whole}{fraction}{}", "0".repeat(zeros))
    } else {
        if behind > 0 {
            return None;
        }
        let end = usize::try_from(length.checked_add(exponent)?).ok()?;
        let (digits, gone) = whole.split_at_checked(end)?;
        if gone.bytes().any(|digit| digit != b'0') {
            return None;
        }
        digits.to_owned()
    };
    Some((negative, digits))
}

/// A signed integer.
pub(super) fn signed(number: &[u8]) -> Option<i64> {
    let (negative, digits) = integer(number)?;
    match negative {
        true => format!("-{digits}").parse().ok(),
        false => digits.parse().ok(),
    }
}

/// An unsigned integer.
pub(super) fn unsigned(number: &[u8]) -> Option<u64> {
    let (negative, digits) = integer(number)?;
    match negative {
        true => None,
        false => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_all_spellings() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0.000", Some(0)),
            ("0e99999", Some(0)),
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("-50e-1", Some(-5)),
            ("0.5e1", Some(5)),
            ("1.20e1", Some(12)),
            ("1e3", Some(1000)),
            ("1e+3", Some(1000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1e19", None),
            ("1e99999999999", None),
            ("5.5", None),
            ("55e-2", None),
            ("5e-9", None),
            ("", None),
            ("-", None),
            ("+5", None),
            ("05", None),
            ("5x", None),
            ("0x5", None),
            ("5.", None),
            ("5e", None),
            ("5e+", None),
            ("NaN", None),
            // As Go: what follows a whole number and cannot belong to it is not looked at.
            ("5,6", Some(5)),
            ("5 6", Some(5)),
        ] {
            assert_eq!(signed(text.as_bytes()), value, "{text}");
        }
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b"-1"), None);
        assert_eq!(unsigned(b"-0"), Some(0));
    }
}
