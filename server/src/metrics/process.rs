//! `process_*` and `os_fd_*`: facts about the whole process, read when somebody asks.

use parking_lot::Mutex;
use prometheus::{Counter, Gauge, IntGauge, Registry};

use super::saturating;

/// Ticks per second in `/proc/*/stat`: the same on every Linux that runs this, whatever the kernel's own tick.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Counter,
    start_time: Gauge,
    resident: IntGauge,
    virtual_size: IntGauge,
    virtual_limit: Gauge,
    network: [Counter; 2],
    fds: [IntGauge; 2],
    max_fds: [IntGauge; 2],
    /// Held by whoever raises counters to what the system says.
    updating: Mutex<()>,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let float = |name: &str, help: &str| -> Result<Gauge, prometheus::Error> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<Counter, prometheus::Error> {
            let counter = Counter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let int = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            cpu_seconds: counter(
                "process_cpu_seconds_total",
                "CPU time of the process in seconds.",
            )?,
            start_time: float(
                "process_start_time_seconds",
                "Start of the process in seconds since 1970.",
            )?,
            resident: int("process_resident_memory_bytes", "Resident memory.")?,
            virtual_size: int("process_virtual_memory_bytes", "Virtual memory.")?,
            virtual_limit: float(
                "process_virtual_memory_max_bytes",
                "Most virtual memory allowed.",
            )?,
            network: [
                counter(
                    "process_network_receive_bytes_total",
                    "Bytes received by all processes in the network namespace of this one.",
                )?,
                counter(
                    "process_network_transmit_bytes_total",
                    "Bytes sent by all processes in the network namespace of this one.",
                )?,
            ],
            fds: [
                int("process_open_fds", "Open file descriptors.")?,
                int("os_fd_used", "Open file descriptors.")?,
            ],
            max_fds: [
                int("process_max_fds", "Most file descriptors allowed.")?,
                int("os_fd_limit", "Most file descriptors allowed.")?,
            ],
            updating: Mutex::default(),
        })
    }

    /// Reads `/proc/self`. Where there is none, values stay at 0.
    pub(super) fn update(&self) {
        let _guard = self.updating.lock();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        if let Some(stat) = Stat::parse(&read("/proc/self/stat")) {
            raise(&self.cpu_seconds, stat.cpu_ticks / TICKS);
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
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        self.virtual_limit.set(limit.unwrap_or(u64::MAX) as f64);
        if let Some(octets) = octets(&read("/proc/self/net/netstat")) {
            for (counter, octets) in self.network.iter().zip(octets) {
                raise(counter, octets as f64);
            }
        }
        if let Some((open, limit)) = descriptors() {
            let (open, limit) = (saturating(open), saturating(limit));
            self.fds.iter().for_each(|gauge| gauge.set(open));
            self.max_fds.iter().for_each(|gauge| gauge.set(limit));
        }
    }
}

/// Brings a counter up to a number that somebody else counts.
fn raise(counter: &Counter, to: f64) {
    counter.inc_by((to - counter.get()).max(0.0));
}

/// How many file descriptors are open, and how many may be.
pub(crate) fn descriptors() -> Option<(u64, u64)> {
    // The listing itself holds one.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Some((open.saturating_sub(1), limit.unwrap_or(u64::MAX)))
}

/// Bytes received and sent, from `/proc/*/net/netstat`: a line of names and one of numbers for each protocol.
fn octets(text: &str) -> Option<[u64; 2]> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |name: &str| {
        let at = names.split_whitespace().position(|other| other == name)?;
        values.split_whitespace().nth(at)?.parse::<u64>().ok()
    };
    Some([value("InOctets")?, value("OutOctets")?])
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
    fn octets_are_found_by_name() {
        let text =
            "TcpExt: A InOctets\nTcpExt: 1 2\nIpExt: X InOctets OutOctets\nIpExt: 3 40 500\n";
        assert_eq!(octets(text), Some([40, 500]));
        assert_eq!(octets("IpExt: X InOctets OutOctets\nIpExt: 3 40\n"), None);
        assert_eq!(octets(""), None);
    }

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
