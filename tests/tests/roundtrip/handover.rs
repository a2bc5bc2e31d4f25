//! One data directory in changing hands.

use std::path::{Path, PathBuf};

use retcd_tests::member::{Member, Setup};
use retcd_tests::random::Random;
use retcd_tests::state::{Load, Which};
use tempfile::TempDir;

use crate::files::{self, Kept};
use crate::rig::{Rig, Side};
use crate::shown::Shown;

/// A data directory, who serves it, and what everybody has to see in it.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) rig: Rig,
    pub(crate) side: Side,
    pub(crate) member: Member,
    pub(crate) random: Random,
    pub(crate) load: Load,
    /// What was shown before the last stop.
    pub(crate) expected: Option<Shown>,
    kept: Option<Kept>,
    temp: TempDir,
    folders: u32,
}

impl Handover {
    /// Starts an empty member.
    pub(crate) fn begin(rig: &Rig, side: Side, mut random: Random) -> Self {
        let temp = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a temporary directory");
        let setup = Setup::new(rig.server(side)).data_dir(temp.path().join("data")).flags(FLAGS);
        let load = Load { seed: random.next(), ..Load::default() };
        Self {
            rig: rig.clone(),
            side,
            member: Member::start(setup),
            random,
            load,
            expected: None,
            kept: None,
            temp,
            folders: 0,
        }
    }

    /// A new path for something that goes with this directory.
    pub(crate) fn folder(&mut self, name: &str) -> PathBuf {
        self.folders += 1;
        self.temp.path().join(format!("{:02}-{name}", self.folders))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.member.dir().join("member/snap/db")
    }

    /// A sentence that says where something went wrong.
    pub(crate) fn trouble(&self, what: &str) -> String {
        format!("{:?} serves {}: {what}\n{}", self.side, self.member.dir().display(), self.member.describe())
    }

    /// Writes a history with so many new keys.
    pub(crate) fn write(&mut self, keys: u64, compactions: u64) {
        self.load.keys = keys;
        self.load.ops = keys / 4 + 200;
        self.load.compactions = compactions;
        (self.load.leases, self.load.users) = (40, 6);
        let loaded = self.rig.state.load(&self.member, self.side.skip(), &mut self.load);
        let loaded = loaded.unwrap_or_else(|why| panic!("{}", self.trouble(&why)));
        println!(
            "  {:?} took {} calls to revision {}, compacted {}",
            self.side, loaded.operations, loaded.revision, loaded.compacted
        );
    }

    /// What the member shows now.
    pub(crate) fn show(&mut self, which: &Which) -> Shown {
        self.try_show(which).unwrap_or_else(|why| panic!("{}", self.trouble(&why)))
    }

    fn try_show(&mut self, which: &Which) -> Result<Shown, String> {
        let dir = self.folder("shown");
        let (revision, revs) = self.rig.state.dump(&self.member, self.side.skip(), which, &dir)?;
        Ok(Shown { dir, revision, revs })
    }

    /// Chooses what to compare.
    pub(crate) fn samples(&mut self, keys_at: Option<i64>) -> Which {
        Which::Samples { count: 3, seed: self.random.next(), keys_at }
    }

    /// What everybody has to see from now on.
    pub(crate) fn remember(&mut self) {
        let which = self.samples(None);
        let shown = self.show(&which);
        self.expect(shown);
    }

    /// What everybody has to see from now on.
    pub(crate) fn expect(&mut self, shown: Shown) {
        let shown = shown.completed_by(self.expected.as_ref());
        // Who shows it is at one with itself.
        shown.compare(&shown, "").unwrap_or_else(|why| panic!("{}", self.trouble(&why)));
        if let Some(old) = self.expected.replace(shown) {
            old.remove();
        }
    }

    /// The member shows what is expected.
    pub(crate) fn compare(&mut self) {
        self.difference().unwrap_or_else(|why| panic!("{}", self.trouble(&why)));
    }

    /// Whether the member shows what is expected.
    pub(crate) fn difference(&mut self) -> Result<(), String> {
        let expected = self.expected.clone().expect("something was remembered");
        let shown = self.try_show(&Which::These { revs: expected.revs.clone(), keys_at: None })?;
        let found = shown.compare(&expected, self.side.skip());
        shown.remove();
        found
    }

    /// Ends the member in peace and looks at its file.
    pub(crate) fn stop(&mut self) {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.member.terminate();
        assert_eq!(status.signal(), Some(15), "{}", self.trouble(&status.to_string()));
        self.check_file();
    }

    /// The file is sound, and what this side could not change is as it was.
    pub(crate) fn check_file(&mut self) {
        let kept = files::check(&self.rig, &self.database()).unwrap_or_else(|why| panic!("{}", self.trouble(&why)));
        if let Some(was) = self.kept.as_ref().filter(|_| !self.side.skip().is_empty()) {
            files::same_kept(was, &kept).unwrap_or_else(|why| panic!("{}", self.trouble(&why)));
        }
        self.kept = Some(kept);
    }

    /// Somebody starts on the directory as it is.
    pub(crate) fn hand_to(&mut self, side: Side) {
        self.side = side;
        self.member.set_program(self.rig.server(side));
        self.member.restart();
    }

    /// Changes places with a copy of the directory that was made before.
    pub(crate) fn put_back(&self, copy: &Path) {
        std::fs::remove_dir_all(self.member.dir()).expect("removable");
        std::fs::rename(copy, self.member.dir()).expect("renamable");
    }
}

/// Raft snapshots come often enough that every turn makes some.
const FLAGS: [&str; 1] = ["--snapshot-count=2000"];
