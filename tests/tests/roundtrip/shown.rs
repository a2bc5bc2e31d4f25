//! What a server showed: a folder of sorted lines, and how two of them are compared.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use retcd_tests::state::same_lines;

/// Files of services that a side may not have.
const OPTIONAL: [&str; 3] = ["leases", "lease-keys", "auth"];

/// What a server showed at some revisions.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) dir: PathBuf,
    /// The newest revision.
    pub(crate) revision: i64,
    /// All of which keys and hashes were shown.
    pub(crate) revs: Vec<i64>,
}

impl Shown {
    /// What is expected of the next one who shows it: all that `before` knew, where this one could not say.
    ///
    /// Leases, users and roles do not change while a side serves that knows neither. Which keys are attached
    /// to leases does, and the keys tell.
    pub(crate) fn completed_by(self, before: Option<&Shown>) -> Self {
        for name in ["leases", "auth"] {
            let (from, to) = (before.map(|b| b.dir.join(name)), self.dir.join(name));
            if let Some(from) = from.filter(|from| from.exists() && !to.exists()) {
                fs::copy(from, to).expect("copies");
            }
        }
        let path = self.dir.join("lease-keys");
        if !path.exists() {
            fs::write(path, self.attached()).expect("writes");
        }
        self
    }

    /// The keys of a revision that was shown.
    pub(crate) fn keys_at(&self, revision: i64) -> PathBuf {
        self.dir.join(format!("keys@{revision}"))
    }

    /// How many keys there are at the newest revision.
    pub(crate) fn count(&self) -> u64 {
        let keys = fs::read_to_string(self.keys_at(self.revision)).expect("shown");
        let last = keys.lines().last().and_then(|line| line.strip_prefix("count "));
        last.and_then(|n| n.parse().ok()).expect("the last line counts")
    }

    /// Clears the files away.
    pub(crate) fn remove(self) {
        fs::remove_dir_all(self.dir).expect("removable");
    }

    /// The file `lease-keys` as the keys of the newest revision have it.
    fn attached(&self) -> String {
        let keys = fs::read_to_string(self.keys_at(self.revision)).expect("shown");
        let mut out = String::new();
        for line in keys.lines() {
            let words: Vec<_> = line.split(' ').collect();
            if let [key, .., "lease", lease, "value", _, _] = words[..]
                && lease != "0"
            {
                let _ = writeln!(out, "{key} lease {lease}");
            }
        }
        out
    }

    /// Whether `self` is what `expected` says; `skip` of this side may be missing.
    ///
    /// # Errors
    /// Every difference.
    pub(crate) fn compare(&self, expected: &Shown, skip: &str) -> Result<(), String> {
        let mut wrong = String::new();
        for name in names(&expected.dir) {
            let (was, is) = (expected.dir.join(&name), self.dir.join(&name));
            if is.exists() {
                wrong += &same_lines(&was, &is).err().unwrap_or_default();
            } else if skip.is_empty() || !OPTIONAL.contains(&&*name) {
                let _ = write!(wrong, "\n{name} is not shown");
            }
        }
        for name in names(&self.dir).iter().filter(|n| !expected.dir.join(n).exists()) {
            if !OPTIONAL.contains(&&**name) {
                let _ = write!(wrong, "\n{name} was not shown");
            }
        }
        // Two ways to the same answer: the lessor's, and that of the keys.
        if let Ok(attached) = fs::read_to_string(self.dir.join("lease-keys"))
            && attached != self.attached()
        {
            wrong += "\nthe keys that leases name are not the keys that name leases";
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// The names of the files, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names: Vec<_> = entries.map(|e| e.expect("readable").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}
