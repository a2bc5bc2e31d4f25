//! Our own binaries.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The path of our `etcd`, built if need be, once per process.
///
/// `RETCD_BIN` names another one: a release build, or a peer to try the suites on.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn ours() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("RETCD_BIN").map_or_else(|| keep("etcd-tested", &[]), PathBuf::from)).clone()
}

/// The path of our `etcdutl`, built if need be, once per process; `RETCD_ETCDUTL_BIN` names another one.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn our_etcdutl() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("RETCD_ETCDUTL_BIN").map_or_else(|| build_with("etcdutl", &[]), PathBuf::from))
        .clone()
}

/// The path of our `etcd` with the points at which a test ends it, built if need be, once per process;
/// `RETCD_FAILPOINTS_BIN` names another one.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn ours_with_failpoints() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let given = env::var_os("RETCD_FAILPOINTS_BIN").map(PathBuf::from);
        given.unwrap_or_else(|| keep("etcd-failpoints", &["--features", "retcd/failpoints"]))
    })
    .clone()
}

/// Builds our `etcd` and gives it a name of its own: cargo has one name for all builds of it, and whoever builds
/// another one takes it away from a test that is about to start this one.
fn keep(name: &str, more: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let built = build_with("etcd", more);
    let (kept, new) = (built.with_file_name(name), built.with_file_name(format!("{name}.{}", process::id())));
    fs::hard_link(&built, &new).and_then(|()| fs::rename(&new, &kept)).unwrap_or_else(|e| panic!("{name}: {e}"));
    // Still there if it was the same file before.
    let _ = fs::remove_file(new);
    kept
}

/// Asks cargo even if a binary is there, since it may be older than the sources. All of the workspace
/// is named, so that the features of shared crates are those that the tests were built with.
fn build_with(name: &str, more: &[&str]) -> PathBuf {
    let exe = env::current_exe().expect("a test knows its own path");
    let profile = exe.ancestors().nth(2).expect("tests live in <target>/<profile>/deps");
    let target = profile.parent().expect("tests live in <target>/<profile>/deps");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--workspace", "--bin", name, "--target-dir"]).arg(target).args(more);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "our {name} does not build: {cargo:?}");
    profile.join(name)
}
