//! One record as one line.

use std::fmt::{self, Arguments, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slog::{KV, Key, Level, OwnedKVList, Record, Serializer};

use super::{Format, json};

/// The key of a field that names the logger instead of being shown among the fields.
const NAME_KEY: &str = "logger";

/// Time since 1970, 0 if the clock stands before it.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// One record, its values already JSON.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) level: Level,
    /// In quotes.
    pub(super) logger: Option<String>,
    pub(super) caller: String,
    pub(super) message: String,
    /// In the order given.
    pub(super) fields: Vec<(Key, String)>,
}

impl Line {
    pub(super) fn of(record: &Record<'_>, values: &OwnedKVList) -> Self {
        let mut fields = Fields::default();
        // A value that cannot be shown is left out.
        let _ = record.kv().serialize(record, &mut fields);
        let _ = values.serialize(record, &mut fields);
        fields.reversed.reverse();
        Self {
            level: record.level(),
            logger: fields.logger,
            caller: caller(record),
            message: record.msg().to_string(),
            fields: fields.reversed,
        }
    }

    #[cfg(test)]
    pub(super) fn plain(level: Level, message: &str, fields: Vec<(Key, String)>) -> Self {
        Self {
            level,
            logger: None,
            caller: "a/b.rs:1".into(),
            message: message.into(),
            fields,
        }
    }

    /// The value of a field, as JSON.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let is_it = |(key, _): &&(Key, String)| AsRef::<str>::as_ref(key) == name;
        self.fields.iter().find(is_it).map(|(_, value)| &**value)
    }

    /// Adds a text as the last field.
    pub(super) fn add_text(&mut self, key: &'static str, text: &str) {
        let mut value = String::new();
        json::push_str(&mut value, text);
        self.fields.push((key.into(), value));
    }

    /// Adds a number as the last field.
    pub(super) fn add_number(&mut self, key: &'static str, number: u64) {
        self.fields.push((key.into(), number.to_string()));
    }

    pub(super) fn render(&self, format: Format, at: Duration) -> String {
        match format {
            Format::Json => self.json(at),
            Format::Console => self.text(Time(at).to_string()),
            Format::Tool => self.text(format!("{}Z", Seconds(at))),
        }
    }

    fn json(&self, at: Duration) -> String {
        let mut line = String::with_capacity(256);
        let level = level_name(self.level);
        let _ = write!(line, "{{\"level\":\"{level}\",\"ts\":\"{}\"", Time(at));
        if let Some(name) = &self.logger {
            line.push_str(",\"logger\":");
            line.push_str(name);
        }
        let _ = write!(line, ",\"caller\":\"{}\",\"msg\":", self.caller);
        json::push_str(&mut line, &self.message);
        for (key, value) in &self.fields {
            line.push(',');
            json::push_str(&mut line, key.as_ref());
            line.push(':');
            line.push_str(value);
        }
        line.push_str("}\n");
        line
    }

    /// `ts <tab> level <tab> logger <tab> caller <tab> msg <tab> {fields}`, as zap's console encoder has it: the fields
    /// are JSON with a blank behind each comma and colon.
    fn text(&self, mut line: String) -> String {
        let _ = write!(line, "\t{}\t", level_name(self.level));
        if let Some(name) = &self.logger {
            let _ = write!(line, "{}\t", name.trim_matches('"'));
        }
        let _ = write!(line, "{}\t{}", self.caller, self.message);
        let mut separator = "\t{";
        for (key, value) in &self.fields {
            line.push_str(separator);
            separator = ", ";
            json::push_str(&mut line, key.as_ref());
            line.push_str(": ");
            json::push_spaced(&mut line, value);
        }
        line.push_str(if separator == ", " { "}\n" } else { "\n" });
        line
    }
}

/// As zap names it.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Critical => "fatal",
        Level::Error => "error",
        Level::Warning => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

/// `directory/file.rs:line`, the directory being the one that tells more than `src`.
fn caller(record: &Record<'_>) -> String {
    let mut parts = record
        .file()
        .rsplit(['/', '\\'])
        .filter(|part| *part != "src");
    let file = parts.next().unwrap_or_default();
    match parts.next() {
        Some(directory) => format!("{directory}/{file}:{}", record.line()),
        None => format!("{file}:{}", record.line()),
    }
}

/// A time since 1970 as `2006-01-02T15:04:05.000000Z`.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}Z", Seconds(self.0), self.0.subsec_micros())
    }
}

/// A time since 1970 as `2006-01-02T15:04:05`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01.
pub(super) fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the leap day is the last of its year; eras of 400 years repeat.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

/// Fields as JSON values. `slog` hands out the newest first.
#[derive(Default)]
struct Fields {
    logger: Option<String>,
    /// Newest first.
    reversed: Vec<(Key, String)>,
}

impl Fields {
    fn push(&mut self, key: Key, value: String) -> slog::Result {
        if AsRef::<str>::as_ref(&key) == NAME_KEY {
            self.logger.get_or_insert(value);
        } else {
            self.reversed.push((key, value));
        }
        Ok(())
    }

    fn push_with(&mut self, key: Key, write: impl FnOnce(&mut String)) -> slog::Result {
        let mut value = String::new();
        write(&mut value);
        self.push(key, value)
    }
}

macro_rules! emit_integers {
    ($($emit:ident: $type:ty),*) => {
        $(fn $emit(&mut self, key: Key, value: $type) -> slog::Result {
            self.push(key, value.to_string())
        })*
    };
}

impl Serializer for Fields {
    emit_integers!(
        emit_u8: u8, emit_u16: u16, emit_u32: u32, emit_u64: u64, emit_u128: u128, emit_usize: usize,
        emit_i8: i8, emit_i16: i16, emit_i32: i32, emit_i64: i64, emit_i128: i128, emit_isize: isize,
        emit_bool: bool
    );

    fn emit_f32(&mut self, key: Key, value: f32) -> slog::Result {
        self.emit_f64(key, value.into())
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        self.push_with(key, |out| json::push_float(out, value))
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        self.push_with(key, |out| json::push_str(out, value))
    }

    fn emit_char(&mut self, key: Key, value: char) -> slog::Result {
        self.push_with(key, |out| json::push_display(out, value))
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.push(key, "null".into())
    }

    fn emit_unit(&mut self, key: Key) -> slog::Result {
        self.push(key, "null".into())
    }

    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        self.push_with(key, |out| json::push_display(out, value))
    }

    /// An error is its message followed by those of its causes.
    fn emit_error(&mut self, key: Key, error: &(dyn std::error::Error + 'static)) -> slog::Result {
        self.push_with(key, |out| json::push_display(out, Chain(error)))
    }

    fn emit_serde(&mut self, key: Key, value: &dyn slog::SerdeValue) -> slog::Result {
        let value = serde_json::to_string(value.as_serde()).map_err(|_| slog::Error::Other)?;
        self.push(key, value)
    }
}

struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut shown = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            // Many errors repeat their cause in their own message.
            let text = cause.to_string();
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown.push_str(&text);
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_777, (2026, 11, 20)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date);
        }
    }
}
