//! Full log files: their names, and how long they stay.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Policy;
use crate::log::line::civil;

/// The length of a time in a name, `2006-01-02T15-04-05.000`.
const STAMP: usize = 23;
const DAY: u64 = 86_400;
const PACKED: &str = ".gz";

/// What a full file is called: the time stands before its extension.
pub(super) fn name(path: &Path, at: SystemTime, local: bool) -> PathBuf {
    let (stem, extension) = parts(path);
    let unix = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let offset = if local { local_offset(at) } else { 0 };
    let seconds = unix.as_secs().saturating_add_signed(offset);
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = unix.subsec_millis();
    path.with_file_name(format!(
        "{stem}-{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{millis:03}{extension}"
    ))
}

/// The same file once it is compressed.
pub(super) fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PACKED);
    name.into()
}

/// Seconds that the machine's own time is ahead of UTC.
fn local_offset(at: SystemTime) -> i64 {
    jiff::Timestamp::try_from(at).map_or(0, |at| {
        let zone = jiff::tz::TimeZone::system();
        i64::from(zone.to_offset(at).seconds())
    })
}

/// The name without its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.rfind('.') {
        Some(dot) => (name[..dot].to_owned(), name[dot..].to_owned()),
        None => (name.into_owned(), String::new()),
    }
}

/// One file that was full.
#[derive(Debug)]
struct Old {
    path: PathBuf,
    /// As its name has it; names of one length, so they sort by time.
    stamp: String,
    packed: bool,
}

/// Removes what is too old or too much and compresses the rest, as far as that is wanted. Goes on after an error;
/// returns the first one.
pub(super) fn sweep(path: &Path, policy: &Policy, now: SystemTime) -> io::Result<()> {
    let mut files = list(path)?;
    // Newest first; a file and what it is being compressed to count as one.
    files.sort_by(|a, b| b.stamp.cmp(&a.stamp));
    let unix = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = unix.saturating_sub(Duration::from_secs(policy.max_days.saturating_mul(DAY)));
    let mut kept: Vec<String> = Vec::new();
    let mut outcome = Ok(());
    for file in files {
        if kept.last() != Some(&file.stamp) {
            kept.push(file.stamp.clone());
        }
        let too_many = policy.max_files > 0 && kept.len() > policy.max_files;
        let too_old = policy.max_days > 0 && seconds(&file.stamp) < Some(oldest.as_secs());
        let done = if too_many || too_old {
            fs::remove_file(&file.path)
        } else if policy.compress && !file.packed {
            compress(&file.path)
        } else {
            Ok(())
        };
        outcome = outcome.and(done);
    }
    outcome
}

/// The full files of a log. Whatever else is in the directory is none of ours.
fn list(path: &Path) -> io::Result<Vec<Old>> {
    let (stem, extension) = parts(path);
    let prefix = format!("{stem}-");
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let unpacked = name
            .strip_suffix(PACKED)
            .filter(|_| !extension.ends_with(PACKED));
        let stamp = unpacked.unwrap_or(&name).strip_prefix(&prefix);
        let stamp = stamp.and_then(|rest| rest.strip_suffix(&extension));
        let Some(stamp) = stamp.filter(|stamp| seconds(stamp).is_some()) else {
            continue;
        };
        if entry.file_type()?.is_file() {
            files.push(Old {
                path: entry.path(),
                stamp: stamp.to_owned(),
                packed: unpacked.is_some(),
            });
        }
    }
    Ok(files)
}

/// Seconds since 1970 of a time in a name; `None` if it is none.
fn seconds(stamp: &str) -> Option<u64> {
    let bytes = stamp.as_bytes();
    let shape = b"0000-00-00T00-00-00.000";
    let fits = bytes.len() == STAMP
        && bytes.iter().zip(shape).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| stamp[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let sound = (1970..).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !sound || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days(year, month, day) * DAY + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970 of a date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Writes the compressed file beside, then removes this one: a crash in between leaves both, and the next sweep writes
/// it again.
fn compress(path: &Path) -> io::Result<()> {
    let mut source = File::open(path)?;
    let meta = source.metadata()?;
    let target = compressed(path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let packed = options.mode(meta.mode() & 0o7777).open(&target)?;
    let _ = std::os::unix::fs::fchown(&packed, Some(meta.uid()), Some(meta.gid()));
    let mut encoder = GzEncoder::new(packed, Compression::default());
    let done = io::copy(&mut source, &mut encoder).and_then(|_| encoder.finish());
    if let Err(error) = done {
        let _ = fs::remove_file(&target);
        return Err(error);
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7)
    }

    #[test]
    fn names_are_lumberjacks() {
        let at = unix(1_794_916_800);
        for (path, expected) in [
            ("/x/etcd.log", "/x/etcd-2026-11-17T12-00-00.007.log"),
            ("etcd", "etcd-2026-11-17T12-00-00.007"),
            ("/x/.log", "/x/-2026-11-17T12-00-00.007.log"),
            ("a.b.c", "a.b-2026-11-17T12-00-00.007.c"),
        ] {
            assert_eq!(name(Path::new(path), at, false), Path::new(expected));
        }
        // Wherever this runs: the same but for the offset of its own time.
        let local = name(Path::new("a"), at, true).display().to_string();
        let shown = seconds(&local[2..]).expect("a time");
        assert_eq!(shown as i64 - 1_794_916_800, local_offset(at));
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for at in [0, 951_782_400, 1_709_164_800, 1_794_916_812, 4_107_542_399] {
            let name = name(Path::new("a"), unix(at), false).display().to_string();
            assert_eq!(seconds(&name[2..]), Some(at), "{name}");
        }
        for text in [
            "",
            "2026-11-17",
            "2026-13-17T12-00-00.007",
            "2026-11-17T24-00-00.007",
            "2026-11-17 12-00-00.007",
            "2026-11-17T12-00-00,007",
            "0000-11-17T12-00-00.007",
            "2026-11-17T12-00-00.007x",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    fn at(path: &Path, seconds: u64) -> PathBuf {
        name(path, unix(seconds), false)
    }

    fn policy(max_days: u64, max_files: usize, compress: bool) -> Policy {
        Policy {
            max_bytes: 1,
            max_days,
            max_files,
            local: false,
            compress,
        }
    }

    #[test]
    fn old_files_go_by_age_and_number_and_strangers_stay() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a.log");
        let today = 20_000 * DAY;
        let strangers = [
            "a.log",
            "a-x.log",
            "b-2026-11-17T12-00-00.007.log",
            "a-2026-11-17.log",
        ];
        for name in strangers {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        for days in 0..5 {
            fs::write(at(&path, today - days * DAY), "old").expect("written");
        }
        // The newest one is being compressed.
        fs::write(compressed(&at(&path, today)), "half").expect("written");
        let left = || {
            (0..5)
                .filter(|days| at(&path, today - days * DAY).exists())
                .count()
        };

        sweep(&path, &policy(0, 0, false), unix(today)).expect("swept");
        assert_eq!(left(), 5);
        sweep(&path, &policy(3, 0, false), unix(today)).expect("swept");
        assert_eq!(left(), 4);
        sweep(&path, &policy(0, 2, false), unix(today)).expect("swept");
        assert_eq!(left(), 2);
        sweep(&path, &policy(0, 2, true), unix(today)).expect("swept");
        assert_eq!(left(), 0);
        for days in 0..2 {
            let packed = File::open(compressed(&at(&path, today - days * DAY))).expect("there");
            let mut text = String::new();
            let mut decoder = flate2::read::GzDecoder::new(packed);
            io::Read::read_to_string(&mut decoder, &mut text).expect("gzip");
            assert_eq!(text, "old");
        }
        for name in strangers {
            assert!(dir.path().join(name).exists(), "{name}");
        }
    }
}
