//! Repeated warnings become one line with a count.
//!
//! The first line of its kind is written at once, always. Those that follow and say the same are counted; when the
//! window that the first one opened ends, the newest of them is written, with the fields `repeated` (how many were
//! counted) and `since` (when a line of the kind was written before). As long as it goes on, windows grow from ten
//! seconds to a minute; a window in which nothing came ends the matter, and the next line is a first one again.

use std::collections::HashMap;
use std::time::Duration;

use slog::Level;

use super::line::{Line, Time};

/// How long what repeats itself is counted before it is told.
const FIRST_WINDOW: Duration = Duration::from_secs(10);
const LAST_WINDOW: Duration = Duration::from_secs(60);

/// Kinds of lines that are watched at a time. For one more, the one that ends soonest is told and forgotten.
const MAX_KINDS: usize = 128;
/// What says more than this is written as it comes: it is not kept.
const MAX_BYTES: usize = 4 << 10;

/// A moment by both clocks: one for windows, and one to show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Since any beginning.
    pub(super) uptime: Duration,
    /// Since 1970.
    pub(super) unix: Duration,
}

/// Lines that came lately.
#[derive(Debug)]
pub(super) struct Folds {
    kinds: HashMap<String, Kind>,
    pub(super) first_window: Duration,
}

impl Default for Folds {
    fn default() -> Self {
        Self {
            kinds: HashMap::new(),
            first_window: FIRST_WINDOW,
        }
    }
}

#[derive(Debug)]
struct Kind {
    /// The newest one that was counted, and how many were.
    counted: Option<(Line, u64)>,
    /// When one was last written, since 1970.
    written: Duration,
    window: Duration,
    /// When the window ends.
    ends: Duration,
}

impl Kind {
    fn tell(&mut self) -> Option<Line> {
        let (mut line, repeated) = self.counted.take()?;
        line.add_number("repeated", repeated);
        line.add_text("since", &Time(self.written).to_string());
        Some(line)
    }
}

impl Folds {
    /// Takes a line; gives back what is to be written now, in order: nothing if it was counted.
    pub(super) fn take(&mut self, line: Line, now: Now) -> Vec<Line> {
        let mut out = self.due(now);
        if !matches!(line.level, Level::Warning | Level::Error) {
            out.push(line);
            return out;
        }
        let Some(key) = key(&line) else {
            out.push(line);
            return out;
        };
        if let Some(kind) = self.kinds.get_mut(&key) {
            let counted = kind.counted.as_ref().map_or(0, |(_, count)| *count);
            kind.counted = Some((line, counted + 1));
            return out;
        }
        if self.kinds.len() >= MAX_KINDS {
            out.extend(self.evict());
        }
        let kind = Kind {
            counted: None,
            written: now.unix,
            window: self.first_window,
            ends: now.uptime + self.first_window,
        };
        self.kinds.insert(key, kind);
        out.push(line);
        out
    }

    /// Ends the windows that are over; gives back what was counted in them.
    pub(super) fn due(&mut self, now: Now) -> Vec<Line> {
        let mut out = Vec::new();
        self.kinds.retain(|_, kind| {
            if kind.ends > now.uptime {
                return true;
            }
            let Some(line) = kind.tell() else {
                return false;
            };
            out.push(line);
            kind.written = now.unix;
            kind.window = LAST_WINDOW.min(2 * kind.window);
            kind.ends = now.uptime + kind.window;
            true
        });
        out
    }

    /// When the first window ends in which something was counted.
    pub(super) fn next(&self) -> Option<Duration> {
        let pending = self.kinds.values().filter(|kind| kind.counted.is_some());
        pending.map(|kind| kind.ends).min()
    }

    /// All that was counted. Every kind is forgotten.
    pub(super) fn drain(&mut self) -> Vec<Line> {
        let mut kinds: Vec<Kind> = self.kinds.drain().map(|(_, kind)| kind).collect();
        kinds.sort_by_key(|kind| kind.ends);
        kinds.iter_mut().filter_map(Kind::tell).collect()
    }

    fn evict(&mut self) -> Option<Line> {
        let soonest = self.kinds.iter().min_by_key(|(_, kind)| kind.ends);
        let key = soonest.map(|(key, _)| key.clone())?;
        self.kinds.remove(&key)?.tell()
    }
}

/// What lines that say the same have in common: all but numbers, durations and the port that somebody dialed from.
fn key(line: &Line) -> Option<String> {
    let mut key = String::with_capacity(128);
    key.push_str(line.level.as_short_str());
    key.push_str(line.logger.as_deref().unwrap_or_default());
    key.push_str(&line.message);
    let mut bytes = line.message.len();
    for (name, value) in &line.fields {
        bytes += value.len();
        let value = match AsRef::<str>::as_ref(name) {
            "remote-addr" => without_port(value),
            _ if varies(value) => "",
            _ => value,
        };
        key.push('\n');
        key.push_str(name.as_ref());
        key.push_str(value);
    }
    (bytes <= MAX_BYTES).then_some(key)
}

/// Whether a value is a number, or a text such as `1.5s` or `2m0s`.
fn varies(value: &str) -> bool {
    let text = value.trim_matches('"');
    let mut units = false;
    let all = text.chars().all(|c| {
        let unit = matches!(c, 'n' | 'µ' | 'u' | 'm' | 's' | 'h');
        units |= unit;
        unit || c.is_ascii_digit() || matches!(c, '.' | '-')
    });
    let number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    all && number && (units || !value.starts_with('"'))
}

/// `"127.0.0.1:4711"` as `"127.0.0.1`.
fn without_port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            uptime: Duration::from_secs(seconds),
            unix: Duration::from_secs(1_795_000_000 + seconds),
        }
    }

    fn line(level: Level, message: &str, fields: &[(&'static str, &str)]) -> Line {
        let fields = fields
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).to_owned()))
            .collect();
        Line::plain(level, message, fields)
    }

    fn warning(message: &str) -> Line {
        line(Level::Warning, message, &[])
    }

    /// What a line says: its message, and how often it was repeated.
    fn said(lines: &[Line]) -> Vec<(&str, Option<&str>)> {
        lines
            .iter()
            .map(|line| (line.message.as_str(), line.field("repeated")))
            .collect()
    }

    #[test]
    fn the_first_is_never_hidden_and_the_rest_is_counted() {
        let mut folds = Folds::default();
        assert_eq!(said(&folds.take(warning("a"), at(0))), [("a", None)]);
        for second in 1..10 {
            assert!(folds.take(warning("a"), at(second)).is_empty());
        }
        assert_eq!(said(&folds.take(warning("b"), at(9))), [("b", None)]);
        assert_eq!(folds.next(), Some(Duration::from_secs(10)));
        let told = folds.due(at(10));
        assert_eq!(said(&told), [("a", Some("9"))]);
        assert_eq!(
            told[0].field("since"),
            Some("\"2026-11-18T11:06:40.000000Z\"")
        );
        assert_eq!(folds.next(), None);
    }

    #[test]
    fn windows_grow_to_a_minute_and_end_when_nothing_comes() {
        let mut folds = Folds::default();
        let mut written = Vec::new();
        for second in 0..300 {
            let told = folds.take(warning("a"), at(second));
            written.extend(told.iter().map(|_| second));
        }
        assert_eq!(written, [0, 10, 30, 70, 130, 190, 250]);
        // What was counted since is told at the end of the window, and then the matter is over.
        assert_eq!(said(&folds.due(at(310))), [("a", Some("50"))]);
        assert!(folds.due(at(370)).is_empty());
        assert!(folds.kinds.is_empty());
        assert_eq!(said(&folds.take(warning("a"), at(400))), [("a", None)]);
    }

    #[test]
    fn a_window_that_is_over_is_told_before_the_next_line() {
        let mut folds = Folds::default();
        folds.take(warning("a"), at(0));
        folds.take(warning("a"), at(1));
        let written = folds.take(warning("b"), at(20));
        assert_eq!(said(&written), [("a", Some("1")), ("b", None)]);
    }

    #[test]
    fn lines_that_differ_are_not_folded() {
        let from = |addr: &str, error: &str, took: &str| {
            let fields = [("remote-addr", addr), ("error", error), ("took", took)];
            line(Level::Warning, "rejected", &fields)
        };
        let mut folds = Folds::default();
        assert_eq!(
            folds
                .take(from("\"10.0.0.1:7\"", "\"EOF\"", "\"1s\""), at(0))
                .len(),
            1
        );
        // Another port, another duration.
        assert!(
            folds
                .take(from("\"10.0.0.1:9\"", "\"EOF\"", "\"2m3.5s\""), at(0))
                .is_empty()
        );
        // Another machine, another error, another level.
        assert_eq!(
            folds
                .take(from("\"10.0.0.2:7\"", "\"EOF\"", "\"1s\""), at(0))
                .len(),
            1
        );
        assert_eq!(
            folds
                .take(from("\"10.0.0.1:7\"", "\"reset\"", "\"1s\""), at(0))
                .len(),
            1
        );
        let error = Line {
            level: Level::Error,
            ..from("\"10.0.0.1:7\"", "\"EOF\"", "\"1s\"")
        };
        assert_eq!(folds.take(error, at(0)).len(), 1);
        // An id is no number, even if it looks like one.
        let of = |id: &str| line(Level::Warning, "lost", &[("remote-peer-id", id)]);
        assert_eq!(folds.take(of("\"1234\""), at(0)).len(), 1);
        assert_eq!(folds.take(of("\"1235\""), at(0)).len(), 1);
    }

    #[test]
    fn only_warnings_and_errors_are_folded() {
        let mut folds = Folds::default();
        for level in [Level::Debug, Level::Info, Level::Critical] {
            for _ in 0..3 {
                assert_eq!(folds.take(line(level, "a", &[]), at(0)).len(), 1);
            }
        }
        assert!(folds.kinds.is_empty());
    }

    #[test]
    fn memory_has_a_bound_and_nothing_is_lost_at_it() {
        let mut folds = Folds::default();
        let mut lines = 0;
        for n in 0..10_000 {
            let message = format!("made up {n}");
            // Each comes twice: the second is counted, and told when the kind has to go.
            lines += folds.take(warning(&message), at(0)).len();
            lines += folds.take(warning(&message), at(0)).len();
            assert!(folds.kinds.len() <= MAX_KINDS);
        }
        lines += folds.drain().len();
        assert_eq!(lines, 20_000);
        assert!(folds.kinds.is_empty());
        // What is too large to be kept is written as it comes.
        let large = "x".repeat(MAX_BYTES + 1);
        for _ in 0..2 {
            assert_eq!(folds.take(warning(&large), at(0)).len(), 1);
        }
        assert!(folds.kinds.is_empty());
    }

    #[test]
    fn what_varies() {
        for value in ["1", "-1.5", "\"7s\"", "\"5.17ms\"", "\"2m0s\"", "\"12µs\""] {
            assert!(varies(value), "{value}");
        }
        for value in [
            "\"8e9e05c5\"",
            "\"12\"",
            "\"seconds\"",
            "\"\"",
            "true",
            "\"127.0.0.1:1\"",
        ] {
            assert!(!varies(value), "{value}");
        }
    }
}
