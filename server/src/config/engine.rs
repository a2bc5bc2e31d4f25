//! The engines that a store may have.

use std::fmt;

/// `--experimental-backend-engine`: what keeps the data on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The default: etcd's own database file, `member/snap/db`.
    Bolt,
    /// The database in `member/snap/sled`, which etcd cannot read. Only in a build with the cargo
    /// feature `sled`.
    Sled,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bolt, Self::Sled];

    /// As the flag spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bolt => "bolt",
            Self::Sled => "sled",
        }
    }

    /// The engine that the flag calls so.
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name)
    }

    /// Whether this build can run it.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            Self::Bolt => true,
            Self::Sled => cfg!(feature = "sled"),
        }
    }

    /// The file or directory of its data, in `member/snap`.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Bolt => "db",
            Self::Sled => "sled",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
