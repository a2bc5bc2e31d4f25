//! `--memory-mlock`: the memory of the process stays in RAM.

use slog::{Logger, info};

/// The system does not let the process lock its memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "--memory-mlock: the memory of this process cannot be locked ({source}); give it the right to lock as much as it \
     needs (LimitMEMLOCK=infinity in its unit, or `ulimit -l unlimited`), or leave the flag out"
)]
pub struct LockError {
    source: std::io::Error,
}

/// Locks what the process has and what it will have: index, caches and code. Pages of the database that only the kernel
/// keeps are not the memory of the process.
///
/// # Errors
/// The limit of locked memory is too low, or there is no such thing on this system.
pub(crate) fn lock(logger: &Logger) -> Result<(), LockError> {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{MlockAllFlags, mlockall};
        use rustix::process::{Resource, getrlimit};
        use slog::warn;
        // What is never touched, such as most of a stack, takes no RAM.
        let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        mlockall(all).map_err(|errno| LockError {
            source: errno.into(),
        })?;
        let limit = getrlimit(Resource::Memlock).current;
        if let Some(limit) = limit.filter(|_| !rustix::process::geteuid().is_root()) {
            warn!(logger, "memory may be locked up to a limit, at which the process would end: raise it (LimitMEMLOCK)";
                "limit-bytes" => limit);
        }
        info!(
            logger,
            "locked the memory of the process; pages of the database that are not in its caches stay the \
                       kernel's to keep"
        );
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = logger;
        Err(LockError {
            source: std::io::ErrorKind::Unsupported.into(),
        })
    }
}
