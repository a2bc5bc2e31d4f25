//! What a process has used: CPU time and memory, from `/proc`.

use std::time::Duration;

use crate::Error;

/// Ticks per second in `/proc/*/stat`.
const TICKS: u64 = 100;

/// CPU time of a process so far, all threads, system time included.
///
/// # Errors
/// If there is no such process.
pub fn cpu(pid: u32) -> Result<Duration, Error> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::io(path.clone()))?;
    // The name, in brackets, may hold anything; the fields behind it start with number 3.
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = |field: usize| {
        fields
            .get(field - 3)
            .and_then(|text| text.parse::<u64>().ok())
    };
    match (ticks(14), ticks(15)) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 1000 / TICKS)),
        _ => Err(Error::Server(format!("{path}: unknown format"))),
    }
}

/// Memory of a process in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident: u64,
    /// The most that ever was (`VmHWM`).
    pub peak: u64,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.peak += other.peak;
    }
}

/// Memory of a process.
///
/// # Errors
/// If there is no such process.
pub fn memory(pid: u32) -> Result<Memory, Error> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(Error::io(path.clone()))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    match (kib("VmRSS:"), kib("VmHWM:")) {
        (Some(resident), Some(peak)) => Ok(Memory {
            resident: resident << 10,
            peak: peak << 10,
        }),
        _ => Err(Error::Server(format!("{path}: unknown format"))),
    }
}

/// CPU time spent by all processes of the machine, and taken by its host.
///
/// # Errors
/// If `/proc/stat` cannot be read.
pub fn machine_cpu() -> Result<Duration, Error> {
    let text = std::fs::read_to_string("/proc/stat").map_err(Error::io("/proc/stat"))?;
    let fields = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let ticks: Vec<u64> = fields.map_while(|text| text.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; interrupts serve the processes measured, mostly.
    let busy: u64 = [0, 1, 2, 7]
        .iter()
        .filter_map(|at: &usize| ticks.get(*at))
        .sum();
    Ok(Duration::from_millis(busy * 1000 / TICKS))
}

/// What the machine is, one line each, for a report.
pub fn describe_machine(dir: &std::path::Path) -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| {
            Some(
                line.strip_prefix(name)?
                    .trim_start_matches([' ', '\t', ':'])
                    .trim()
                    .to_owned(),
            )
        })
    };
    let cpus = read("/proc/cpuinfo");
    let cores = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let mut lines = vec![format!(
        "{cores} x {}",
        field(&cpus, "model name").unwrap_or_else(|| "unknown CPU".into())
    )];
    if let Some(kib) = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|m| m.trim_end_matches(" kB").parse::<u64>().ok())
    {
        lines.push(format!("{} GiB of memory", (kib + (1 << 19)) >> 20));
    }
    lines.push(format!(
        "Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    ));
    if let Some(kind) = file_system(&read("/proc/mounts"), dir) {
        lines.push(format!("{kind} on the disk under test"));
    }
    lines
}

fn file_system(mounts: &str, dir: &std::path::Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let (_, kind) = mounts
        .filter(|(mount, _)| dir.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())?;
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let before = cpu(pid).expect("cpu");
        let mut sum = 0u64;
        while cpu(pid).expect("cpu") < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        let memory = memory(pid).expect("memory");
        assert!(memory.peak >= memory.resident && memory.resident > 100_000);
        assert!(machine_cpu().expect("machine") >= before);
        assert!(cpu(u32::MAX).is_err());
        assert!(describe_machine(std::path::Path::new("/")).len() >= 3);
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "a / ext4 rw 0 0\nb /proc proc rw 0 0\n";
        assert_eq!(
            file_system(mounts, std::path::Path::new("/proc")).as_deref(),
            Some("proc")
        );
        assert_eq!(
            file_system(mounts, std::path::Path::new("/")).as_deref(),
            Some("ext4")
        );
    }
}
