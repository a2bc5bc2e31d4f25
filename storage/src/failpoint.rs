//! Points at which a test ends the process, as `kill -9` would, to see what a start makes of it.
//!
//! Only a build with the cargo feature `failpoints` knows them; in any other this is nothing.

/// Ends the process, if the file that the environment variable `RETCD_FAILPOINTS` names has a line that is `point`.
///
/// The file is read each time, so that a test can choose the point while the member runs.
#[cfg(feature = "failpoints")]
pub fn failpoint(point: &str) {
    let Some(path) = std::env::var_os("RETCD_FAILPOINTS") else {
        return;
    };
    let points = std::fs::read_to_string(path).unwrap_or_default();
    if points.lines().any(|line| line == point) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Nothing more happens on this thread until the signal has come.
        loop {
            std::thread::park();
        }
    }
}

/// Nothing: this build has no such points.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn failpoint(_point: &str) {}
