//! `process_*` and `os_fd_*`: facts about the whole process, read when somebody asks.

use prometheus::{Gauge, IntGauge, Registry};

use super::saturating;

/// Ticks per second in `/proc/*/stat`: the same on every Linux that runs this, whatever the kernel's own tick.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Gauge,
    start_time: Gauge,
    resident: IntGauge,
    virtual_size: IntGauge,
    fds: [IntGauge; 2],
    max_fds: [IntGauge; 2],
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let float = |name: &str, help: &str| -> Result<Gauge, prometheus::Error> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let int = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            cpu_seconds: float(
                "process_cpu_seconds_total",
                "CPU time of the process in seconds.",
            )?,
            start_time: float(
                "process_start_time_seconds",
                "Start of the process in seconds since 1970.",
            )?,
            resident: int("process_resident_memory_bytes", "Resident memory.")?,
            virtual_size: int("process_virtual_memory_bytes", "Virtual memory.")?,
            fds: [
                int("process_open_fds", "Open file descriptors.")?,
                int("os_fd_used", "Open file descriptors.")?,
            ],
            max_fds: [
                int("process_max_fds", "Most file descriptors allowed.")?,
                int("os_fd_limit", "Most file descriptors allowed.")?,
            ],
        })
    }

    /// Reads `/proc/self`. Where there is none, values stay at 0.
    pub(super) fn update(&self) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        if let Some(stat) = Stat::parse(&read("/proc/self/stat")) {
            self.cpu_seconds.set(stat.cpu_ticks / TICKS);
            self.virtual_size.set(saturating(stat.virtual_bytes));
            let booted = read("/proc/stat")
                .lines()
                .find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
            if let Some(booted) = booted {
                self.start_time.set(booted + stat.start_ticks / TICKS);
            }
        }
        let resident = read("/proc/self/status").lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        });
        if let Some(kib) = resident {
            self.resident.set(saturating(kib.saturating_mul(1024)));
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // The listing itself holds one descriptor.
            let open = saturating(entries.count() as u64) - 1;
            self.fds.iter().for_each(|gauge| gauge.set(open));
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.max_fds
            .iter()
            .for_each(|gauge| gauge.set(limit.map_or(i64::MAX, saturating)));
    }
}

struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
    virtual_bytes: u64,
}

impl Stat {
    /// Fields 14, 15, 22 and 23 of `proc(5)`; the name in field 2 may hold anything, so counting starts behind it.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: (number(14)? + number(15)?) as f64,
            start_ticks: number(22)? as f64,
            virtual_bytes: number(23)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_a_strange_name() {
        let text = "7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 4000 8192 5";
        let stat = Stat::parse(text).expect("stat");
        assert_eq!(
            (stat.cpu_ticks, stat.start_ticks, stat.virtual_bytes),
            (42.0, 4000.0, 8192)
        );
        assert!(Stat::parse("").is_none());
        assert!(Stat::parse("7 (x) S 1").is_none());
    }
}
