//! Directories as a whole.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files and directories, sorted: name, mode and content.
pub type Image = Vec<(PathBuf, u32, Vec<u8>)>;

/// Every file and directory below a path.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn image(dir: &Path) -> Image {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let content = if meta.is_dir() {
            let names = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            todo.extend(names.map(|entry| entry.expect("readable").path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        found.push((path.strip_prefix(dir).expect("below it").to_owned(), meta.mode(), content));
    }
    found.sort();
    found
}

/// What differs between two images, in words; empty if nothing does.
#[must_use]
pub fn difference(before: &[(PathBuf, u32, Vec<u8>)], after: &[(PathBuf, u32, Vec<u8>)]) -> Vec<String> {
    let mut out = Vec::new();
    for (path, mode, content) in before {
        match after.iter().find(|(p, ..)| p == path) {
            None => out.push(format!("{} is gone", path.display())),
            Some((_, m, _)) if m != mode => out.push(format!("{} has mode {m:o}, had {mode:o}", path.display())),
            Some((.., c)) if c != content => out.push(format!("{} changed", path.display())),
            Some(_) => {}
        }
    }
    for (path, ..) in after.iter().filter(|(p, ..)| !before.iter().any(|(b, ..)| b == p)) {
        out.push(format!("{} is new", path.display()));
    }
    out
}

/// Copies files and directories, none of which is a link.
///
/// # Panics
/// If it cannot be read or written.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    fs::set_permissions(to, fs::metadata(from).expect("readable").permissions()).expect("changeable");
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let (from, to) = (entry.as_ref().expect("readable").path(), to.join(entry.expect("readable").file_name()));
        if from.is_dir() {
            copy_dir(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        }
    }
}
