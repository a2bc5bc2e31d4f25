//! A member whose disk takes its time: strace holds each of its syncs up.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::peers;
use tempfile::TempDir;

/// Microseconds that each sync takes longer: more than half a second, and less than the second that the next bucket
/// of the histogram ends at.
const DELAY: &str = "inject=fdatasync,fsync:delay_exit=700000";

/// The member, and somebody who writes to it once it runs.
pub(crate) struct SlowDisk {
    member: Member,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl SlowDisk {
    /// A member that does not run yet; `None`, and a word, when it cannot be held up here.
    pub(crate) fn prepare(program: &Path) -> Option<Self> {
        let may = Command::new("strace").args(["-qq", "-o", "/dev/null", "-e", DELAY, "true"]).output();
        if !may.is_ok_and(|out| out.status.success()) {
            peers::skipped("strace that may trace", "apt-get install strace");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory");
        let script = dir.path().join("etcd");
        // The process itself becomes the server, and the tracer goes aside.
        let trace = format!("strace -D -f -qq --seccomp-bpf -o /dev/null -e trace=fdatasync,fsync -e {DELAY}");
        let text = format!("#!/bin/sh\nexec {trace} '{}' \"$@\"\n", program.display());
        std::fs::write(&script, text).expect("written");
        std::fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("set");
        let member = Member::prepare(Setup::new(script));
        Some(Self { member, stop: Arc::default(), writer: None, _dir: dir })
    }

    pub(crate) fn port(&self) -> u16 {
        self.member.port()
    }

    /// Starts the member and writes to it.
    pub(crate) fn start(&mut self) {
        self.member.spawn();
        assert_eq!(self.member.wait_or_serve(), None, "{}", self.member.log().text());
        let (port, stop) = (self.port(), self.stop.clone());
        self.writer = Some(thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let connection = Connection::open(port).await;
                while !stop.load(Ordering::Relaxed) {
                    let request = pb::PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
                    let outcome = connection.call("/etcdserverpb.KV/Put", &request).await;
                    assert!(outcome.ok(), "{outcome:?}");
                }
            });
        }));
    }

    /// Ends both.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            writer.join().expect("it writes until it is told to stop");
        }
        self.member.kill();
    }
}
