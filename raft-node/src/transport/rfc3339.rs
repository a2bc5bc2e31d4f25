//! The time in answers to probes.

use std::time::Duration;

const DAY: u64 = 86_400;
/// Days from 0000-03-01, where the count of leap days is simplest, to 1970-01-01.
const TO_EPOCH: u64 = 719_468;
/// Days in 400 years.
const ERA: u64 = 146_097;

/// As Go writes `RFC3339Nano` in UTC: a fraction without zeros at its end.
pub fn format(unix: Duration) -> String {
    let seconds = unix.as_secs();
    let (year, month, day) = civil(seconds / DAY);
    let rest = seconds % DAY;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if unix.subsec_nanos() != 0 {
        let fraction = format!("{:09}", unix.subsec_nanos());
        text.push('.');
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// `None` for what is no such time, or before 1970.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if hour > 23 || minute > 59 || second > 60 || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(9 - u32::try_from(fraction.len()).ok()?);
    let nanos = number(fraction)? * scale;
    let local = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let seconds = match zone.split_at(1) {
        ("Z", "") => local,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let offset = number(hours)? * 3600 + number(minutes)? * 60;
            if sign == "+" {
                local.checked_sub(offset)?
            } else {
                local + offset
            }
        }
    };
    Some(Duration::new(seconds, u32::try_from(nanos).ok()?))
}

/// At most nine digits, nothing else.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + TO_EPOCH;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months are counted from March.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA + day_of_era - TO_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (unix, text) in [
            (Duration::ZERO, "1970-01-01T00:00:00Z"),
            (
                Duration::new(1_795_180_075, 197_516_397),
                "2026-11-20T13:07:55.197516397Z",
            ),
            (
                Duration::new(951_782_400, 500_000_000),
                "2000-02-29T00:00:00.5Z",
            ),
            (
                Duration::new(4_107_542_400, 1_000),
                "2100-03-01T00:00:00.000001Z",
            ),
        ] {
            assert_eq!(format(unix), text);
            assert_eq!(parse(text), Some(unix));
        }
        assert_eq!(
            parse("2000-02-29T01:30:00+01:30"),
            Some(Duration::from_secs(951_782_400))
        );
        for bad in [
            "",
            "T",
            "2000-02-29",
            "2000-13-01T00:00:00Z",
            "1969-01-01T00:00:00Z",
            "2000-02-29T00:00:00",
            "2000-02-29T24:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "2000-02-29T00:00:00.1234567890Z",
            "2000-02-29T00:00:00+é",
            "+é",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_some_centuries() {
        for day in (0..130_000).step_by(7) {
            let at = Duration::from_secs(day * DAY + day % DAY);
            assert_eq!(parse(&format(at)), Some(at));
        }
    }
}
