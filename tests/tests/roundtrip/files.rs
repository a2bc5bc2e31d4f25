//! The database file itself, with nobody between.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use retcd_storage::backend::{BoltFile, Error};
use retcd_storage::fs::RealFs;
use retcd_tests::run;
use retcd_tests::state::{digest, hex};

use crate::rig::Rig;

/// Buckets that only services change which not both sides have, and those of the cluster, which does not change.
const KEPT: [&str; 7] = ["alarm", "auth", "authRoles", "authUsers", "cluster", "members", "members_removed"];

/// The small buckets of a file, as lines of key, size and digest of the value.
pub(crate) type Kept = BTreeMap<String, Vec<String>>;

/// Whether a database file is sound in the eyes of Go's bbolt and in ours, and both read the same in it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(rig: &Rig, db: &Path) -> Result<Kept, String> {
    let said = run::stdout(Command::new(rig.bbolt()).arg("check").arg(db))?;
    if said.trim() != "OK" {
        return Err(format!("bbolt check {}: {said}", db.display()));
    }
    let file = BoltFile::open(&RealFs, db).map_err(|e| e.to_string())?;
    file.check().map_err(|e| e.to_string())?;
    let content = rig.state.bolt(&[db])?;
    let ours = lines(&file).map_err(|e| e.to_string())?;
    if content.lines().skip(1).ne(ours.lines()) {
        let pair = content.lines().skip(1).zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
        return Err(format!("{}: bbolt reads otherwise than we do: {pair:?}", db.display()));
    }
    let mut kept = Kept::new();
    let mut bucket = String::new();
    for line in content.lines() {
        if let Some(name) = line.strip_prefix("bucket ") {
            bucket = unhex(name);
        } else if KEPT.contains(&&*bucket) {
            kept.entry(bucket.clone()).or_default().push(line.to_owned());
        }
    }
    Ok(kept)
}

/// All pairs as we read them, in the lines of `state bolt`.
fn lines(file: &BoltFile) -> Result<String, Error> {
    let mut out = String::new();
    for bucket in file.buckets()? {
        let _ = writeln!(out, "bucket {}", hex(&bucket));
        for (key, value) in file.scan(&bucket, b"", 0)? {
            let _ = writeln!(out, "{} {} {}", hex(&key), value.len(), digest(&value));
        }
    }
    Ok(out)
}

/// What two files keep differently.
///
/// # Errors
/// The buckets.
pub(crate) fn same_kept(was: &Kept, is: &Kept) -> Result<(), String> {
    let differ: Vec<_> = KEPT.iter().filter(|name| was.get(**name) != is.get(**name)).collect();
    if differ.is_empty() {
        return Ok(());
    }
    let show = |kept: &Kept| differ.iter().map(|n| format!("\n  {n}: {:?}", kept.get(**n))).collect::<String>();
    Err(format!("buckets that nobody changed are not as they were:{}\n now:{}", show(was), show(is)))
}

fn unhex(text: &str) -> String {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_or('?', char::from)).collect()
}
