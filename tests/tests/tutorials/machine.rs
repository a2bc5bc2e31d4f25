//! A machine of a tutorial: its shell, its services, the server in its foreground.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use retcd_tests::net::{Files, Host, Network};
use retcd_tests::process::Process;
use retcd_tests::{binary, run};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::script::Script;
use crate::units::Units;

/// Where the stand-ins are on each machine.
const STAND_INS: &str = "/usr/lib/tutorial";
const PATH: &str = "/usr/lib/tutorial/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) struct Machine {
    host: Arc<Host>,
    units: Arc<Units>,
    foreground: Mutex<Option<Process>>,
    /// Goes with the last machine.
    _stand_ins: Arc<TempDir>,
}

impl Machine {
    /// The machines of a script, which reach each other.
    pub(crate) fn all(network: &Network, script: &Script) -> Vec<Self> {
        let machines: Vec<_> =
            script.machines.iter().map(|(name, address)| Self::new(network, name, address)).collect();
        let mut list = String::new();
        for Self { host, .. } in &machines {
            let _ = writeln!(list, "{} {}", host.address(), host.pid());
        }
        let mut variables = String::from("HOME=/root\ncd\n");
        for (name, value, _) in &script.environment {
            let _ = writeln!(variables, "export {name}='{value}'");
        }
        for machine in &machines {
            machine.write("/run/tutorial/machines", &list);
            machine.write("/run/tutorial/shell", &variables);
            if script.installed {
                machine.host.does(&format!("ln -s {STAND_INS}/etcd {STAND_INS}/etcdutl /usr/bin/"));
            }
        }
        machines
    }

    fn new(network: &Network, name: &str, address: &str) -> Self {
        let address = address.parse().unwrap_or_else(|e| panic!("machine {name}: {address}: {e}"));
        let host = Arc::new(network.host(name, address, Files::Own));
        let stand_ins = stand_ins();
        host.share(stand_ins.path(), STAND_INS);
        // A service's user must get at everything that root made, as on any machine; and CentOS has this file.
        host.does("chmod 755 / && mkdir -p /usr/lib/systemd/system /etc/sysconfig && echo '# Created by anaconda' >/etc/sysconfig/network");
        let units = Units::serve(&host);
        Self { host, units, foreground: Mutex::default(), _stand_ins: stand_ins }
    }

    pub(crate) fn name(&self) -> &str {
        self.host.name()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.host.path(path);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Runs lines as in the machine's terminal: folder and variables are those that earlier lines left. Ends at the first
    /// that fails. Whether all went well, and what was printed.
    pub(crate) fn shell(&self, body: &str) -> (bool, String) {
        self.write("/run/tutorial/lines", &format!("{PRELUDE}{KEEP}set -eo pipefail\n{body}"));
        let out = run::output(&mut self.bash(&["timeout", "-k", "5", "120"], "/run/tutorial/lines"));
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text.into_owned())
    }

    /// A shell that reads lines from a file, started by way of another command.
    fn bash(&self, by: &[&str], lines: &str) -> Command {
        let mut bash = self.host.command("env");
        bash.args(["-i", &format!("PATH={PATH}"), "TERM=dumb"]).args(by).args(["bash", lines]);
        bash
    }

    /// Starts a server that stays in the terminal. The terminal is free for other lines: one opens another one.
    pub(crate) fn stays(&self, command: &str) {
        // The process is the server, so that signals reach it. The file is its own: a shell reads as it goes on.
        self.write("/run/tutorial/server", &format!("{PRELUDE}exec env {}", command.trim_start()));
        // A terminal takes the next server when the one before has ended.
        let before = self.foreground().take();
        if let Some(mut before) = before {
            before.wait();
        }
        *self.foreground() = Some(Process::start(self.bash(&[], "/run/tutorial/server")));
    }

    fn foreground(&self) -> MutexGuard<'_, Option<Process>> {
        self.foreground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the server in the foreground ended, if it has: whether well.
    pub(crate) fn ended(&self) -> Option<bool> {
        self.foreground().as_mut()?.exited().map(|status| status.success())
    }

    /// Ctrl-C, and waits for the end.
    pub(crate) fn interrupt(&self) {
        let mut process = self.foreground().take().unwrap_or_else(|| panic!("nothing runs on {}", self.name()));
        process.signal(Signal::INT);
        process.wait();
    }

    /// What the server in the foreground wrote, or the services, since they were last told to start.
    pub(crate) fn log(&self) -> String {
        match self.foreground().as_mut() {
            None => self.units.log(),
            Some(process) => match process.exited() {
                None => process.log().text(),
                // Its last words may still be on their way.
                Some(_) => self.units.log() + &process.log().whole(),
            },
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the servers of {}:\n{}", self.name(), lines[lines.len().saturating_sub(12)..].join("\n"));
        }
        self.units.end();
    }
}

/// The terminal as it was left. Variables that may not be set complain, and keep their values.
const PRELUDE: &str = "source /run/tutorial/shell 2>/dev/null\n";
const KEEP: &str = "trap '{ declare -p; declare -f; printf \"cd %q\\n\" \"$PWD\"; } >/run/tutorial/shell' EXIT\n";

/// Programs that stand in for others, and ours, in a folder that all machines are shown.
fn stand_ins() -> Arc<TempDir> {
    static FOLDER: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = folder.upgrade() {
        return made;
    }
    let dir = tempfile::Builder::new().prefix("retcd-tutorial-").tempdir().expect("a folder");
    let (from, to) = (PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds/machine"), dir.path());
    run::stdout(Command::new("cp").arg("-a").arg(from.join(".")).arg(to)).expect("stand-ins");
    let programs = [
        (binary::ours(), "etcd"),
        (binary::our_etcdutl(), "etcdutl"),
        // Linked from where a tutorial puts it, so not from there.
        (PathBuf::from("/usr/bin/etcdctl"), "etcdctl"),
    ];
    for (program, name) in programs {
        // A link does where it is possible: these files are large, and nobody writes to them.
        let place = to.join(name);
        let kept = fs::hard_link(&program, &place).or_else(|_| fs::copy(&program, &place).map(drop));
        kept.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("our own folder");
    let made = Arc::new(dir);
    *folder = Arc::downgrade(&made);
    made
}
