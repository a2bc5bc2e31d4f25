//! Our database files in the eyes of Go's bbolt: random workloads on a real disk, after each of which the file is
//! sound for `bbolt check`, and bbolt reads from it, and changes in it, what a model says.
//!
//! `RETCD_BOLT_WORKLOADS` sets how many (500 by default), `RETCD_BOLT_SEED` the first one's seed.

mod model;
mod structure;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{env, fs, thread};

use retcd_storage::backend::BoltFile;
use retcd_storage::fs::RealFs;
use retcd_tests::state::State;
use retcd_tests::{peers, run};

use model::Model;
use workload::Workload;

/// How many files one process of Go's reads.
const TOGETHER: usize = 16;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

#[test]
fn random_workloads() {
    let (Some(bbolt), Some(state)) = (peers::bbolt(), State::find()) else { return };
    let (first, count) = (number("RETCD_BOLT_SEED", 1), number("RETCD_BOLT_WORKLOADS", 500));
    let begin = Instant::now();
    let (next, checked, commits, bytes) =
        (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let temp = tempfile::Builder::new().prefix("retcd-bolt-").tempdir().expect("a temporary directory");
                let mut files = Vec::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = seed >= first + count;
                    if !over {
                        let mut workload = Workload::new(seed, temp.path());
                        let done = workload.run(&state).unwrap_or_else(|why| panic!("{}: {why}", again(seed)));
                        commits.fetch_add(done.commits, Ordering::Relaxed);
                        for (path, model) in done.files {
                            bytes.fetch_add(fs::metadata(&path).expect("there").len(), Ordering::Relaxed);
                            sound(&bbolt, &path, &model).unwrap_or_else(|why| panic!("{}: {why}", again(seed)));
                            checked.fetch_add(1, Ordering::Relaxed);
                            files.push((seed, path, model));
                        }
                    }
                    if over || files.len() >= TOGETHER {
                        same_content(&state, &files);
                        for (_, path, _) in files.drain(..) {
                            fs::remove_file(path).expect("removable");
                        }
                    }
                    if over {
                        break;
                    }
                }
            });
        }
    });
    println!(
        "{count} workloads from seed {first}: {commits:?} commits, {checked:?} files of {bytes:?} bytes in {:?}",
        begin.elapsed(),
    );
    assert!(checked.into_inner() >= count);
}

fn again(seed: u64) -> String {
    format!("RETCD_BOLT_SEED={seed} RETCD_BOLT_WORKLOADS=1")
}

/// The file is sound for bbolt's tool and for our own check, and our reader for tools finds the model's content.
fn sound(bbolt: &Path, path: &Path, model: &Model) -> Result<(), String> {
    let said = run::stdout(Command::new(bbolt).arg("check").arg(path))?;
    if said.trim() != "OK" {
        return Err(format!("bbolt check: {said}"));
    }
    let file = BoltFile::open(&RealFs, path).map_err(|e| e.to_string())?;
    file.check().map_err(|e| e.to_string())?;
    structure::no_lone_children(path)?;
    model.compare(&file)
}

/// bbolt reads the model's content.
fn same_content(state: &State, files: &[(u64, PathBuf, Model)]) {
    if files.is_empty() {
        return;
    }
    let paths: Vec<_> = files.iter().map(|(_, path, _)| path).collect();
    let content = state.bolt(&paths).unwrap_or_else(|why| panic!("{}: {why}", again(files[0].0)));
    let mut sections = content.split("file ").skip(1);
    for (seed, path, model) in files {
        let section = sections.next().unwrap_or_default();
        let (name, lines) = section.split_once('\n').unwrap_or_default();
        assert_eq!(Path::new(name), path);
        let expected = model.lines();
        if lines != expected {
            let pair = lines.lines().zip(expected.lines()).find(|(is, was)| is != was);
            panic!(
                "{}: bbolt reads {pair:?} (read, expected), {} bytes of {}",
                again(*seed),
                lines.len(),
                expected.len()
            );
        }
    }
}

/// The check itself: a file that is not sound, and one that is not as the model says.
#[test]
fn damage_is_noticed() {
    let (Some(bbolt), Some(state)) = (peers::bbolt(), State::find()) else { return };
    let temp = tempfile::Builder::new().prefix("retcd-bolt-").tempdir().expect("a temporary directory");
    let mut done = Workload::new(3, temp.path()).run(&state).expect("runs");
    let (path, mut model) = done.files.remove(0);
    sound(&bbolt, &path, &model).expect("sound");
    model.touch();
    assert!(sound(&bbolt, &path, &model).is_err(), "a model that is not the file's");
    let content = fs::read(&path).expect("readable");
    // A leaf that says it is a branch.
    let leaf = (2..content.len() / 4096).find(|page| content[page * 4096 + 8] == 2).expect("a leaf");
    let mut damaged = content;
    damaged[leaf * 4096 + 8] = 1;
    fs::write(&path, damaged).expect("writable");
    assert!(run::stdout(Command::new(&bbolt).arg("check").arg(&path)).is_err(), "a leaf as a branch");
    let file = BoltFile::open(&RealFs, &path).expect("the meta pages are sound");
    assert!(file.check().is_err(), "a leaf as a branch");
}
