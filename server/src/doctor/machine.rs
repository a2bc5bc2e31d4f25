//! The machine: ports, addresses, disk, limits.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::access;
use super::finding::Findings;
use super::{Plan, Request, sockets};
use crate::config::{GoBytes, GoDuration, Place, Resolved};

/// A member refuses to start with less.
const LEAST_FREE: u64 = 16 << 20;
/// Less than this is soon gone.
const LITTLE_FREE: u64 = 1 << 30;

/// etcd's own recommendation for the time of most syncs.
const FAST: Duration = Duration::from_millis(10);
/// Of this many, most have to be fast.
const SYNCS: usize = 20;
/// As long as the log entry of a small write.
const SYNC_BYTES: usize = 512;

/// Each connection and each file takes one; this many do for a few hundred clients.
const ENOUGH_FILES: u64 = 4096;
/// So many are set aside; a member does not start with fewer.
const RESERVED_FILES: u64 = 150;

/// Whether an address is one of this machine.
pub(super) fn has_address(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

pub(super) fn check(plan: &Plan, request: &Request, findings: &mut Findings) {
    ports(plan, request, findings);
    files(request.open_files, findings);
    disk(&plan.resolved, findings);
    speed(&plan.resolved, findings);
}

fn ports(plan: &Plan, request: &Request, findings: &mut Findings) {
    let resolved = &plan.resolved;
    let listeners = [
        ("--listen-peer-urls", &resolved.listen_peers),
        ("--listen-client-urls", &resolved.listen_clients),
        ("--listen-client-http-urls", &resolved.listen_clients_http),
        ("--listen-metrics-urls", &resolved.listen_metrics),
    ];
    for (flag, places) in listeners {
        // A member that runs has its ports.
        let runs = plan.data.holder.is_some();
        for place in places {
            match place {
                Place::Tcp(address) if address.port() != 0 && !runs => {
                    if let Err(error) = TcpListener::bind(address) {
                        cannot_listen(flag, *address, &error, findings);
                    }
                }
                Place::Tcp(_) => {}
                Place::Unix(path) => {
                    let (made, user) = (&request.made, request.user.as_ref());
                    sockets::check(flag, path, runs, made, user, findings);
                }
            }
        }
    }
}

fn cannot_listen(flag: &str, address: SocketAddr, error: &io::Error, findings: &mut Findings) {
    let reason = crate::log::reason(error);
    let what = format!("{flag}: {address}: {reason}");
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => findings.error(
            "port-in-use",
            what,
            format!(
                "stop who has it (`ss -ltnp 'sport = :{port}'` shows who), or take another port; leave it if it is systemd, by a .socket \
                 unit for this very member"
            ),
        ),
        io::ErrorKind::AddrNotAvailable => findings.error(
            "listen-not-local",
            what,
            "put an address of this machine there (`ip address` shows them), or 0.0.0.0 for all: a copied configuration looks like \
             this",
        ),
        _ => findings.error(
            "port-in-use",
            what,
            "take a port from 1024 on, which needs no special right",
        ),
    }
}

fn files(known: Option<u64>, findings: &mut Findings) {
    let own = || rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = known.or_else(own).unwrap_or(u64::MAX);
    descriptors(limit, known.is_some(), findings);
}

fn descriptors(limit: u64, certain: bool, findings: &mut Findings) {
    let fix = "raise it: LimitNOFILE=65536 in the systemd unit, or `ulimit -n 65536` before etcd is started";
    let whose = match certain {
        true => "by the unit",
        false => "in this shell (the limit of a service may be another)",
    };
    let what = format!("{limit} files may be open {whose}, and each connection of a client is one");
    if limit <= RESERVED_FILES {
        findings.error("fd-limit", what, fix);
    } else if limit < ENOUGH_FILES {
        findings.warning("fd-limit", what, fix);
    }
}

/// Where data and log are, or will be.
fn places(resolved: &Resolved) -> Vec<std::path::PathBuf> {
    let wal = Some(&resolved.wal_dir).filter(|_| resolved.wal_dir_dedicated);
    let mut dirs: Vec<_> = std::iter::once(&resolved.data_dir)
        .chain(wal)
        .filter_map(|dir| access::existing(dir))
        .filter(|dir| dir.is_dir())
        .collect();
    dirs.dedup();
    dirs
}

fn disk(resolved: &Resolved, findings: &mut Findings) {
    let database = fs::metadata(resolved.snap_dir.join("db")).map_or(0, |file| file.len());
    for (number, dir) in places(resolved).into_iter().enumerate() {
        if let Ok(stat) = rustix::fs::statvfs(&dir) {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            space(&dir, free, findings);
            // The first is that of the database.
            if number == 0 {
                quota(
                    &dir,
                    free.saturating_add(database),
                    resolved.quota_backend_bytes,
                    findings,
                );
            }
        }
        if let Ok(stat) = rustix::fs::statfs(&dir) {
            file_system(&dir, i128::from(stat.f_type), findings);
        }
    }
}

fn space(dir: &Path, free: u64, findings: &mut Findings) {
    let what = format!("{} free on the disk of {}", GoBytes(free), dir.display());
    if free < LEAST_FREE {
        findings.error(
            "disk-space",
            what,
            "free some space: a member does not start with less than 17 MB",
        );
    } else if free < LITTLE_FREE {
        findings.warning("disk-space", what, "free some space: the log alone takes 64 MB at a time, and a full disk stops the member");
    }
}

fn quota(dir: &Path, room: u64, quota: Option<u64>, findings: &mut Findings) {
    match quota {
        Some(quota) if quota > room => findings.warning(
            "quota",
            format!("--quota-backend-bytes is {}, and the disk of {} has room for a database of {}", GoBytes(quota), dir.display(), GoBytes(room)),
            "lower the quota or make room: a quota that is reached can be cleared, a full disk stops the member",
        ),
        Some(_) => {}
        None => findings.warning(
            "quota",
            "--quota-backend-bytes is below 0: nothing stops the database before the disk is full",
            "set a quota; 2 GiB is the default, 8 GiB what etcd recommends at most",
        ),
    }
}

fn file_system(dir: &Path, kind: i128, findings: &mut Findings) {
    let (name, why) = match kind & 0xffff_ffff {
        0x6969 => (
            "NFS",
            "its locks and its syncs do not hold what the log relies on",
        ),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => (
            "SMB",
            "its locks and its syncs do not hold what the log relies on",
        ),
        0x0102_1994 => (
            "tmpfs, which is memory",
            "a restart of the machine loses it all",
        ),
        0x794c_7630 => (
            "overlayfs, as containers have it",
            "it goes with the container",
        ),
        _ => return,
    };
    findings.warning(
        "file-system",
        format!("{} is on {name}: {why}", dir.display()),
        "put the data directory on a local disk, or a volume of its own",
    );
}

/// Writes as the log does.
fn speed(resolved: &Resolved, findings: &mut Findings) {
    for dir in places(resolved) {
        match measure(&dir) {
            Ok(times) => judge_speed(&dir, times, findings),
            // Whether it can be written is told elsewhere.
            Err(error) => findings.skipped(format!(
                "the speed of the disk of {}: {}",
                dir.display(),
                crate::log::reason(&error)
            )),
        }
    }
}

fn measure(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".retcd-doctor-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let mut write = || {
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let begin = Instant::now();
            file.write_all(&[0x5a; SYNC_BYTES])?;
            file.sync_data()?;
            times.push(begin.elapsed());
        }
        Ok(times)
    };
    let times = write();
    fs::remove_file(&path)?;
    times
}

fn judge_speed(dir: &Path, mut times: Vec<Duration>, findings: &mut Findings) {
    times.sort_unstable();
    // Nine of ten are at most so slow.
    let Some(most) = times.get(times.len() * 9 / 10) else {
        return;
    };
    let shown = |time: &Duration| {
        GoDuration(Duration::from_micros(
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        ))
    };
    if *most > FAST {
        let slowest = times.last().unwrap_or(most);
        findings.warning(
            "disk-slow",
            format!(
                "{} writes and syncs of {SYNC_BYTES} bytes in {}: one in ten took more than {}, the slowest {}",
                times.len(),
                dir.display(),
                shown(most),
                shown(slowest)
            ),
            "every write of a client waits for this: put the data on an SSD that nothing else uses, or make --heartbeat-interval and \
             --election-timeout longer on every member",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan};
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound");
        let any = "http://127.0.0.1:0".parse().expect("a URL");
        let mut plan = plan(|config| {
            config.listen_peer_urls = vec![any];
            config.listen_client_urls = vec![crate::config::Url::http(address)];
        });
        let of_ports =
            |plan: &Plan| found(|findings| ports(plan, &Request::default(), findings)).checks();
        assert_eq!(of_ports(&plan), ["port-in-use"]);
        // By itself, in all likelihood.
        plan.data.holder = Some(1);
        assert!(of_ports(&plan).is_empty());
    }

    #[test]
    fn an_address_of_another_machine_is_found() {
        // Reserved for documentation, so no machine has it.
        assert!(!has_address([192, 0, 2, 1].into()));
        assert!(has_address([127, 0, 0, 1].into()));
        let found = found(|findings| {
            let address = ([192, 0, 2, 1], 2380).into();
            let error = TcpListener::bind(address).expect_err("not ours");
            cannot_listen("--listen-peer-urls", address, &error, findings);
        });
        assert_eq!(found.checks(), ["listen-not-local"]);
    }

    #[test]
    fn limits_are_judged() {
        let of = |limit| found(|findings| descriptors(limit, true, findings)).checks();
        assert_eq!(of(150), ["fd-limit"]);
        assert_eq!(of(1024), ["fd-limit"]);
        assert!(of(65_536).is_empty());

        let dir = Path::new("/data");
        let of = |free| found(|findings| space(dir, free, findings)).checks();
        assert_eq!(of(1 << 20), ["disk-space"]);
        assert_eq!(of(100 << 20), ["disk-space"]);
        assert!(of(10 << 30).is_empty());

        let of = |room, limit| found(|findings| quota(dir, room, limit, findings)).checks();
        assert_eq!(of(1 << 30, Some(2 << 30)), ["quota"]);
        assert_eq!(of(1 << 40, None), ["quota"]);
        assert!(of(1 << 40, Some(2 << 30)).is_empty());

        let of = |kind| found(|findings| file_system(dir, kind, findings)).checks();
        assert_eq!(of(0x6969), ["file-system"]);
        assert_eq!(
            of(-11_317_950),
            ["file-system"],
            "the kind of CIFS, as a number with sign"
        );
        assert!(of(0xef53).is_empty());
    }

    #[test]
    fn a_slow_disk_is_told_by_most_of_its_syncs() {
        let dir = Path::new("/data");
        let fast = Duration::from_millis(1);
        let slow = Duration::from_millis(80);
        let of = |times: Vec<Duration>| found(|findings| judge_speed(dir, times, findings));
        let mut times = vec![fast; SYNCS];
        times[3] = slow;
        assert!(of(times.clone()).checks().is_empty(), "one may be slow");
        times[4] = slow;
        times[5] = slow;
        let found = of(times);
        assert!(
            found.only("disk-slow").what.contains("more than 80ms"),
            "{found:?}"
        );
    }

    #[test]
    fn measuring_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(measure(dir.path()).expect("measured").len(), SYNCS);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }
}
