//! A log file that is renamed when it is full, and what becomes of those before it.
//!
//! Names, limits and keys of the configuration are those of lumberjack, which etcd uses: `a.log` becomes
//! `a-2006-01-02T15-04-05.000.log` and perhaps `a-2006-01-02T15-04-05.000.log.gz`.

mod old;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::settings::SettingsError;

const MEGABYTE: u64 = 1 << 20;
/// `maxsize` when it is 0, in megabytes.
const DEFAULT_SIZE: u64 = 100;

/// `--log-rotation-config-json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Bytes of a full file.
    pub(super) max_bytes: u64,
    /// Days that old files are kept; 0: for ever.
    pub(super) max_days: u64,
    /// Old files that are kept; 0: all.
    pub(super) max_files: usize,
    /// Name old files by the machine's own time instead of UTC.
    pub(super) local: bool,
    /// Compress old files.
    pub(super) compress: bool,
}

impl Policy {
    /// Keys are found in any case, unknown ones ignored, as by Go's JSON.
    pub(super) fn parse(text: &str) -> Result<Self, SettingsError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| SettingsError::RotationSyntax(error.to_string()))?;
        let entries = match value {
            Value::Object(entries) => entries,
            Value::Null => serde_json::Map::new(),
            other => {
                let kind = kind(&other);
                return Err(SettingsError::RotationValue(format!(
                    "json: cannot unmarshal {kind} into Go value of type embed.logRotationConfig"
                )));
            }
        };
        let (mut size, mut age, mut backups) = (0, 0, 0);
        let (mut local, mut compress) = (false, false);
        for (key, value) in &entries {
            match key.to_ascii_lowercase().as_str() {
                "maxsize" => size = number("maxsize", value, size)?,
                "maxage" => age = number("maxage", value, age)?,
                "maxbackups" => backups = number("maxbackups", value, backups)?,
                "localtime" => local = switch("localtime", value, local)?,
                "compress" => compress = switch("compress", value, compress)?,
                _ => {}
            }
        }
        // lumberjack would take this and write nothing at all.
        let megabytes = u64::try_from(size).map_err(|_| {
            SettingsError::RotationValue(format!(
                "maxsize is {size}: give the megabytes of a full file, or 0 for {DEFAULT_SIZE}"
            ))
        })?;
        let megabytes = if megabytes == 0 {
            DEFAULT_SIZE
        } else {
            megabytes
        };
        Ok(Self {
            max_bytes: megabytes.saturating_mul(MEGABYTE),
            max_days: u64::try_from(age).unwrap_or(0),
            max_files: usize::try_from(backups).unwrap_or(0),
            local,
            compress,
        })
    }
}

fn number(key: &str, value: &Value, before: i64) -> Result<i64, SettingsError> {
    match value {
        Value::Null => Ok(before),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Ok(number),
            None => Err(mismatch(key, &format!("number {number}"), "int")),
        },
        other => Err(mismatch(key, kind(other), "int")),
    }
}

fn switch(key: &str, value: &Value, before: bool) -> Result<bool, SettingsError> {
    match value {
        Value::Null => Ok(before),
        Value::Bool(value) => Ok(*value),
        other => Err(mismatch(key, kind(other), "bool")),
    }
}

fn mismatch(key: &str, found: &str, wanted: &str) -> SettingsError {
    SettingsError::RotationValue(format!(
        "json: cannot unmarshal {found} into Go struct field logRotationConfig.Logger.{key} of type {wanted}"
    ))
}

/// As Go names kinds of JSON values.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    policy: Policy,
    current: Mutex<Current>,
    sweeper: Arc<Mutex<Sweeper>>,
}

#[derive(Debug)]
struct Current {
    file: File,
    bytes: u64,
    /// The time in the name of the file before. No later one has an earlier time, even if several come in the same
    /// millisecond, or the clock was set back.
    named: Option<SystemTime>,
}

/// One thread at a time looks after old files.
#[derive(Debug, Default)]
struct Sweeper {
    running: bool,
    again: bool,
}

impl Rotating {
    /// Goes on with the file at `path`, or begins one; makes its directory.
    pub(super) fn open(path: PathBuf, policy: Policy) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        let rotating = Self {
            path,
            policy,
            current: Mutex::new(Current {
                file,
                bytes,
                named: None,
            }),
            sweeper: Arc::default(),
        };
        rotating.sweep();
        Ok(rotating)
    }

    /// Writes a line, in a new file if this one has no room for it. A line is never cut, and none is too long.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let full = current.bytes + line.len() as u64 > self.policy.max_bytes;
        if full && current.bytes > 0 {
            // Better a file that is too large than a line that is lost.
            if let Ok(next) = self.rotate(&current) {
                *current = next;
                self.sweep();
            }
        }
        current.bytes += line.len() as u64;
        current.file.write_all(line)
    }

    /// Renames the file and begins another one, of the same mode and owner.
    fn rotate(&self, full: &Current) -> io::Result<Current> {
        let before = full.file.metadata()?;
        let mut named = full.named;
        if self.path.exists() {
            let (name, at) = self.free_name(full.named)?;
            fs::rename(&self.path, name)?;
            named = Some(at);
        }
        let file = append(&self.path)?;
        // What cannot be kept is no reason to lose lines.
        let mode = fs::Permissions::from_mode(before.mode() & 0o7777);
        let _ = file.set_permissions(mode);
        let _ = std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()));
        Ok(Current {
            file,
            bytes: 0,
            named,
        })
    }

    /// A name with the present time, or one close to it that nobody has.
    fn free_name(&self, before: Option<SystemTime>) -> io::Result<(PathBuf, SystemTime)> {
        const MILLISECOND: Duration = Duration::from_millis(1);
        let now = SystemTime::now();
        let mut at = before.map_or(now, |before| now.max(before + MILLISECOND));
        for _ in 0..1000 {
            let name = old::name(&self.path, at, self.policy.local);
            if !name.exists() && !old::compressed(&name).exists() {
                return Ok((name, at));
            }
            at += MILLISECOND;
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Lets a thread compress and remove old files, if there is anything to do.
    fn sweep(&self) {
        let policy = self.policy;
        if policy.max_days == 0 && policy.max_files == 0 && !policy.compress {
            return;
        }
        let mut sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
        sweeper.again = true;
        if sweeper.running {
            return;
        }
        let (path, shared) = (self.path.clone(), self.sweeper.clone());
        let work = move || {
            loop {
                {
                    let mut sweeper = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    if !std::mem::take(&mut sweeper.again) {
                        sweeper.running = false;
                        return;
                    }
                }
                // What fails now is tried again with the next full file.
                let _ = old::sweep(&path, &policy, SystemTime::now());
            }
        };
        sweeper.running = thread::Builder::new()
            .name("log-files".into())
            .spawn(work)
            .is_ok();
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_configuration_is_lumberjacks() {
        let policy = Policy::parse(super::super::Settings::ROTATION_CONFIG).expect("default");
        let default = Policy {
            max_bytes: 100 << 20,
            max_days: 0,
            max_files: 0,
            local: false,
            compress: false,
        };
        assert_eq!(policy, default);
        assert_eq!(Policy::parse("{}"), Ok(default));
        assert_eq!(Policy::parse("null"), Ok(default));
        let text = r#"{"MaxSize": 3, "maxage": 7, "MAXBACKUPS": 2, "localtime": true, "compress": true,
            "filename": "ignored", "other": []}"#;
        let policy = Policy {
            max_bytes: 3 << 20,
            max_days: 7,
            max_files: 2,
            local: true,
            compress: true,
        };
        assert_eq!(Policy::parse(text), Ok(policy));
    }

    #[test]
    fn what_is_wrong_with_a_configuration() {
        let refusal = |text| Policy::parse(text).expect_err(text).to_string();
        let syntax = "improperly formatted log rotation config: ";
        assert!(refusal("{\"maxsize\": }").starts_with(syntax));
        assert!(refusal("").starts_with(syntax));
        let value = "invalid log rotation config: json: cannot unmarshal ";
        assert_eq!(
            refusal(r#"{"maxsize": "1"}"#),
            format!(
                "{value}string into Go struct field logRotationConfig.Logger.maxsize of type int"
            )
        );
        assert_eq!(
            refusal(r#"{"maxage": 1.5}"#),
            format!(
                "{value}number 1.5 into Go struct field logRotationConfig.Logger.maxage of type int"
            )
        );
        assert_eq!(
            refusal(r#"{"compress": 1}"#),
            format!(
                "{value}number into Go struct field logRotationConfig.Logger.compress of type bool"
            )
        );
        assert_eq!(
            refusal("[]"),
            format!("{value}array into Go value of type embed.logRotationConfig")
        );
        assert!(refusal(r#"{"maxsize": -1}"#).contains("maxsize is -1: give the megabytes"));
    }

    fn policy(max_bytes: u64, max_files: usize, compress: bool) -> Policy {
        Policy {
            max_bytes,
            max_days: 0,
            max_files,
            local: false,
            compress,
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("readable");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// What is done by another thread.
    fn wait_for(what: &str, mut look: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !look() {
            assert!(Instant::now() < deadline, "no {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_full_file_gets_another_name_and_no_line_is_cut_or_lost() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("new/a.log");
        let file = Rotating::open(path.clone(), policy(100, 0, false)).expect("open");
        for n in 0..20 {
            file.write(format!("line number {n:2}, of 30 bytes\n\n").as_bytes())
                .expect("written");
        }
        // One that is larger than any file has one to itself.
        file.write(&[b'x'; 250]).expect("written");
        file.write(b"the last\n").expect("written");
        let names = names(path.parent().expect("in a directory"));
        assert_eq!(names.len(), 9, "{names:?}");
        let mut all = String::new();
        for name in &names[..8] {
            let text = fs::read_to_string(path.with_file_name(name)).expect("readable");
            assert!(name.starts_with("a-2") && name.ends_with(".log"), "{name}");
            assert!(text.len() <= 100 || text.starts_with("xxx"), "{name}");
            all += &text;
        }
        assert!((0..20).all(|n| all.contains(&format!("line number {n:2}, of"))));
        assert_eq!(names[8], "a.log");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "the last\n");
    }

    #[test]
    fn an_old_file_is_gone_on_with_and_keeps_its_mode() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a");
        fs::write(&path, "before\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let file = Rotating::open(path.clone(), policy(20, 0, false)).expect("open");
        file.write(b"after\n").expect("written");
        assert_eq!(
            fs::read_to_string(&path).expect("readable"),
            "before\nafter\n"
        );
        file.write(b"in the next one\n").expect("written");
        let mode = fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o640);
        // A file that somebody took away is begun anew.
        fs::remove_file(&path).expect("removed");
        file.write(b"once more\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "once more\n");
    }

    #[test]
    fn old_files_are_compressed_and_the_oldest_removed() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a.log");
        let file = Rotating::open(path.clone(), policy(10, 2, true)).expect("open");
        for n in 0..6 {
            file.write(format!("number {n}\n").as_bytes())
                .expect("written");
        }
        wait_for("two compressed files beside the current one", || {
            let names = names(dir.path());
            names.len() == 3
                && names
                    .iter()
                    .filter(|name| name.ends_with(".log.gz"))
                    .count()
                    == 2
        });
        let newest = names(dir.path())
            .into_iter()
            .rfind(|name| name.ends_with(".gz"));
        let packed = File::open(dir.path().join(newest.expect("one"))).expect("readable");
        let mut text = String::new();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text)
            .expect("gzip");
        assert_eq!(text, "number 4\n");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "number 5\n");
    }
}
