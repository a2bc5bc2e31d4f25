//! `--auto-compaction-mode` and `--auto-compaction-retention`: as given, then resolved.
//!
//! Source: etcd `server/embed/etcd.go` (`parseCompactionRetention`).

use std::time::Duration;

use slog::Level;

use super::notice::Notice;
use super::value;
use super::{BootstrapError, ConfigError};

const HOUR: Duration = Duration::from_secs(3600);

/// How much of the history the leader keeps by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is younger than this.
    Periodic(Duration),
    /// So many of the newest revisions.
    Revision(i64),
}

impl AutoCompaction {
    /// As etcd counts both: a revision is a nanosecond.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        match self {
            Self::Periodic(period) => period,
            Self::Revision(revisions) => Duration::from_nanos(revisions.unsigned_abs()),
        }
    }
}

/// `--auto-compaction-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Periodic,
    Revision,
}

impl Mode {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        match text {
            "periodic" => Ok(Self::Periodic),
            "revision" => Ok(Self::Revision),
            other => Err(ConfigError::CompactionMode(other.to_owned())),
        }
    }

    /// What a retention means in this mode; `None`: no automatic compaction.
    ///
    /// A plain number is hours, or revisions. Anything else is a duration in both modes, as in etcd, where its
    /// nanoseconds count as revisions in the second one.
    ///
    /// # Errors
    /// Neither a number nor a duration; below 0, where etcd compacts without end; beyond what can be counted.
    pub(super) fn retention(
        self,
        text: &str,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<AutoCompaction>, BootstrapError> {
        // An empty variable of a unit file means what no variable means.
        let text = if text.is_empty() { "0" } else { text };
        let bad = |reason: String| BootstrapError::CompactionRetention {
            retention: text.to_owned(),
            reason,
        };
        if let Some(number) = plain_number(text) {
            return Ok(match (number, self) {
                (0, _) => None,
                (hours, Self::Periodic) => match u32::try_from(hours) {
                    Ok(hours) => Some(AutoCompaction::Periodic(HOUR * hours)),
                    Err(_) => {
                        return Err(bad(format!("{hours} hours are more than can be counted")));
                    }
                },
                (revisions, Self::Revision) => Some(AutoCompaction::Revision(revisions)),
            });
        }
        let nanos = value::parse_duration(text).map_err(|_| bad(value::why_no_duration(text)))?;
        if nanos < 0 {
            return Err(bad("it is below 0".to_owned()));
        }
        Ok(match (nanos, self) {
            (0, _) => None,
            (_, Self::Periodic) => {
                let period = Duration::from_nanos(nanos.unsigned_abs());
                Some(AutoCompaction::Periodic(period))
            }
            (_, Self::Revision) => {
                let fields = vec![
                    ("auto-compaction-retention", text.into()),
                    ("revisions", nanos.unsigned_abs().into()),
                ];
                notices.push(Notice::new(
                    Level::Warning,
                    "--auto-compaction-retention is a duration and the mode is revision; as in etcd, its nanoseconds \
                     count as revisions: give a plain number of revisions, or use --auto-compaction-mode=periodic",
                    fields,
                ));
                Some(AutoCompaction::Revision(nanos))
            }
        })
    }
}

/// Digits, with a plus sign perhaps, as Go's `Atoi` takes them.
fn plain_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // One that is too large for it is no number in etcd, and no duration either.
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(mode: &str, text: &str) -> Result<Option<AutoCompaction>, String> {
        let mode = Mode::parse(mode).expect("a mode");
        mode.retention(text, &mut Vec::new())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_plain_number_is_hours_or_revisions() {
        let hours = |n| Ok(Some(AutoCompaction::Periodic(HOUR * n)));
        assert_eq!(retention("periodic", "1"), hours(1));
        assert_eq!(retention("periodic", "+24"), hours(24));
        let revisions = |n| Ok(Some(AutoCompaction::Revision(n)));
        assert_eq!(retention("revision", "1000"), revisions(1000));
        for none in ["0", "", "0s", "-0s", "00"] {
            assert_eq!(retention("periodic", none), Ok(None), "{none:?}");
            assert_eq!(retention("revision", none), Ok(None), "{none:?}");
        }
    }

    #[test]
    fn a_duration_is_one() {
        let five = Ok(Some(AutoCompaction::Periodic(Duration::from_secs(300))));
        assert_eq!(retention("periodic", "5m"), five);
        let mut notices = Vec::new();
        let found = Mode::Revision.retention("1us", &mut notices);
        assert_eq!(found, Ok(Some(AutoCompaction::Revision(1000))));
        assert!(notices[0].message.contains("plain number of revisions"));
    }

    /// The texts are those of etcd 3.7.1, but for what is below 0, which it takes to its own harm.
    #[test]
    fn what_cannot_be_meant_is_refused() {
        let error = |mode, text| retention(mode, text).expect_err(text);
        for (text, reason) in [
            ("abc", "time: invalid duration \"abc\""),
            ("-5", "time: missing unit in duration \"-5\""),
            ("1.5", "time: missing unit in duration \"1.5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            (" 5m", "time: invalid duration \" 5m\""),
            (
                "99999999999999999999",
                "time: invalid duration \"99999999999999999999\"",
            ),
        ] {
            let wanted = format!("error parsing CompactionRetention: {reason}");
            assert_eq!(error("periodic", text), wanted);
            assert_eq!(error("revision", text), wanted);
        }
        for text in ["-5m", "-1ns"] {
            assert!(error("periodic", text).contains("below 0"), "{text}");
            assert!(error("revision", text).contains("below 0"), "{text}");
        }
        assert!(error("periodic", "9999999999").contains("more than can be counted"));
    }

    #[test]
    fn modes_are_etcds() {
        let error = |text| Mode::parse(text).expect_err(text).to_string();
        assert_eq!(error(""), "undefined auto-compaction-mode");
        assert_eq!(error("foo"), "unknown auto-compaction-mode \"foo\"");
    }
}
