//! Our program over Go's client (`peers/state`): it fills servers and shows their state.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::member::Member;
use crate::{peers, run};

/// The program.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

/// Which revisions to show, besides the newest.
#[derive(Clone, Debug)]
pub enum Which {
    /// Some above that of the last compaction.
    Samples {
        /// How many.
        count: u32,
        /// Chance.
        seed: u64,
        /// One more, without its hash.
        keys_at: Option<i64>,
    },
    /// The same as somebody else.
    These {
        /// Which.
        revs: Vec<i64>,
        /// One more, without its hash.
        keys_at: Option<i64>,
    },
}

/// What to write, and where the history before ended.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Chance.
    pub seed: u64,
    /// The number of the first new key.
    pub first_key: u64,
    /// How many new keys.
    pub keys: u64,
    /// The number of the first change.
    pub first_op: u64,
    /// How many changes.
    pub ops: u64,
    /// How many compactions.
    pub compactions: u64,
    /// How many new leases.
    pub leases: u64,
    /// How many new users.
    pub users: u64,
}

/// How a load ended.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// The newest revision.
    pub revision: i64,
    /// The revision of the last compaction, -1 if there was none.
    pub compacted: i64,
    /// Calls that were acknowledged.
    pub operations: u64,
}

impl Load {
    fn args(&self) -> Vec<String> {
        [
            ("seed", self.seed),
            ("first-key", self.first_key),
            ("keys", self.keys),
            ("first-op", self.first_op),
            ("ops", self.ops),
            ("compactions", self.compactions),
            ("leases", self.leases),
            ("users", self.users),
        ]
        .iter()
        .map(|(name, n)| format!("--{name}={n}"))
        .collect()
    }

    /// Notes where the next one goes on.
    fn advance(&mut self, summary: &Value) -> Result<Loaded, String> {
        let number = |name: &str| summary[name].as_i64().ok_or_else(|| format!("no {name} in {summary}"));
        let unsigned = |name| number(name).and_then(|n| u64::try_from(n).map_err(|e| format!("{name}: {e}")));
        (self.first_key, self.first_op) = (unsigned("next_key")?, unsigned("next_op")?);
        Ok(Loaded {
            revision: number("revision")?,
            compacted: number("compacted")?,
            operations: unsigned("operations")?,
        })
    }
}

impl State {
    /// The program; says `SKIPPED` when it is not there.
    #[must_use]
    pub fn find() -> Option<Self> {
        peers::state().map(Self)
    }

    fn command(&self, name: &str, member: &Member, skip: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.args([name, &format!("--endpoint=127.0.0.1:{}", member.port()), &format!("--skip={skip}")]);
        command
    }

    /// Writes a history, and sets the numbers of `load` to where the next one goes on.
    ///
    /// # Errors
    /// If the server refused something.
    pub fn load(&self, member: &Member, skip: &str, load: &mut Load) -> Result<Loaded, String> {
        let text = run::stdout(self.command("load", member, skip).args(load.args()))?;
        load.advance(&serde_json::from_str(&text).map_err(|e| format!("{text}: {e}"))?)
    }

    /// Starts to write a history that ends when the server is gone; `acks` gets what is acknowledged.
    ///
    /// # Errors
    /// If the program does not run.
    pub fn load_until_gone(&self, member: &Member, skip: &str, load: &Load, acks: &Path) -> Result<Writing, String> {
        let mut command = self.command("load", member, skip);
        command.args(load.args()).arg("--until-gone").arg(format!("--acks={}", acks.display()));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{command:?} does not run: {e}"))?;
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Ok(Writing { child, lines })
    }

    /// Looks for all that was acknowledged; returns how many effects were found.
    ///
    /// # Errors
    /// If one is not there.
    pub fn verify(&self, member: &Member, skip: &str, acks: &Path) -> Result<u64, String> {
        let text = run::stdout(self.command("verify", member, skip).arg(format!("--acks={}", acks.display())))?;
        let summary: Value = serde_json::from_str(&text).map_err(|e| format!("{text}: {e}"))?;
        summary["checked"].as_u64().ok_or(text)
    }

    /// Writes what a client sees, at the newest revision and at older ones, into a new folder; returns the
    /// newest revision and all that keys and hashes were shown of.
    ///
    /// # Errors
    /// If the server does not show something.
    pub fn dump(&self, member: &Member, skip: &str, which: &Which, dir: &Path) -> Result<(i64, Vec<i64>), String> {
        let mut command = self.command("dump", member, skip);
        command.arg(format!("--out={}", dir.display()));
        match which {
            Which::Samples { count, seed, .. } => {
                command.args([format!("--samples={count}"), format!("--seed={seed}")])
            }
            Which::These { revs, .. } => {
                let revs: Vec<_> = revs.iter().map(ToString::to_string).collect();
                command.arg(format!("--revs={}", revs.join(",")))
            }
        };
        if let Which::Samples { keys_at: Some(rev), .. } | Which::These { keys_at: Some(rev), .. } = which {
            command.arg(format!("--keys-at={rev}"));
        }
        let text = run::stdout(&mut command)?;
        let said: Value = serde_json::from_str(&text).map_err(|e| format!("{text}: {e}"))?;
        let revs = said["revs"].as_array().map(|revs| revs.iter().filter_map(Value::as_i64).collect());
        said["revision"].as_i64().zip(revs).ok_or(text)
    }

    /// Every pair of database files, as lines: `file`, `bucket`, and key in hex, size and digest of the value.
    ///
    /// # Errors
    /// If Go's bbolt does not read one of them.
    pub fn bolt<P: AsRef<Path>>(&self, files: &[P]) -> Result<String, String> {
        run::stdout(Command::new(&self.0).arg("bolt").args(files.iter().map(AsRef::as_ref)))
    }

    /// Changes a database file by Go's bbolt, as a script says.
    ///
    /// # Errors
    /// If bbolt refuses something.
    pub fn bolt_apply(&self, file: &Path, freelist: bool, script: &Path) -> Result<(), String> {
        let input = File::open(script).map_err(|e| format!("{}: {e}", script.display()))?;
        let mut command = Command::new(&self.0);
        command.arg("bolt-apply").arg(format!("--freelist={freelist}")).arg(file).stdin(input);
        let out = command.output().map_err(|e| format!("{command:?} does not run: {e}"))?;
        if out.status.success() {
            return Ok(());
        }
        Err(format!("{command:?} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr)))
    }
}

/// A load that goes on until its server is gone.
#[derive(Debug)]
pub struct Writing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writing {
    /// Waits until so many calls were acknowledged.
    ///
    /// # Errors
    /// If it ended before.
    pub fn wait(&mut self, count: u64) -> Result<(), String> {
        for line in &mut self.lines {
            let line = line.map_err(|e| e.to_string())?;
            let acknowledged = line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok());
            if acknowledged.ok_or_else(|| format!("{line} instead of a count"))? >= count {
                return Ok(());
            }
        }
        Err(format!("the load ended before {count} calls were acknowledged"))
    }

    /// Waits for its end, after that of the server, and sets the numbers of `load` to where the next one goes on.
    ///
    /// # Errors
    /// If it failed by itself.
    pub fn finish(mut self, load: &mut Load) -> Result<Loaded, String> {
        let mut last = String::new();
        for line in &mut self.lines {
            last = line.map_err(|e| e.to_string())?;
        }
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if !status.success() {
            return Err(format!("the load ended with {status}: {last}"));
        }
        load.advance(&serde_json::from_str(&last).map_err(|e| format!("{last}: {e}"))?)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// FNV-1a, as the program writes digests of values.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// Bytes in hex, as the program writes keys.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Where two files of lines differ: the first few places, in words.
///
/// # Errors
/// The differences.
///
/// # Panics
/// If a file cannot be read.
pub fn same_lines(expected: &Path, actual: &Path) -> Result<(), String> {
    // Equal ones, nearly all, are not split into lines.
    let read = |path: &Path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if read(expected) == read(actual) {
        return Ok(());
    }
    let lines = |path: &Path| {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        BufReader::new(file).lines().map(|line| line.expect("lines are readable"))
    };
    let (mut expected_lines, mut actual_lines) = (lines(expected), lines(actual));
    let name = expected.file_name().unwrap_or_default().to_string_lossy();
    let (mut out, mut shown) = (String::new(), 0);
    for number in 1.. {
        let pair = (expected_lines.next(), actual_lines.next());
        if pair == (None, None) || shown == 5 {
            break;
        }
        if pair.0 != pair.1 {
            shown += 1;
            let text = |line: Option<String>| line.unwrap_or_else(|| "(the end)".into());
            let _ = write!(out, "\n{name}, line {number}:\n  was {}\n  is  {}", text(pair.0), text(pair.1));
        }
    }
    Err(out)
}
