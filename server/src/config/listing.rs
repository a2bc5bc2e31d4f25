//! The flags for whoever lists them: help, completion of shells, samples of configurations.

use super::table::{FLAGS, Flag, Kind, variable};

/// A flag of the `etcd` binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagInfo {
    /// Without dashes.
    pub name: &'static str,
    /// Whether it may be given without a value.
    pub is_switch: bool,
    /// The only values that it takes; empty when it takes others.
    pub choices: &'static [&'static str],
    /// As text, the way etcd's help shows it.
    pub default: &'static str,
    /// What it does; `None` while only its default is accepted.
    pub help: Option<&'static str>,
}

impl FlagInfo {
    /// The environment variable that stands for it.
    #[must_use]
    pub fn env(&self) -> String {
        variable(self.name)
    }

    /// Whether `text` means the same as the default.
    #[must_use]
    pub fn is_default(&self, text: &str) -> bool {
        super::table::find(self.name).is_some_and(|flag| flag.is_default(text) == Ok(true))
    }
}

impl From<&Flag> for FlagInfo {
    fn from(flag: &Flag) -> Self {
        Self {
            name: flag.name,
            is_switch: flag.kind == Kind::Bool,
            choices: match flag.kind {
                Kind::Choice(values) => values,
                _ => &[],
            },
            default: flag.default,
            help: flag.help,
        }
    }
}

/// All flags of the `etcd` binary, sorted by name.
pub fn flags() -> impl Iterator<Item = FlagInfo> {
    FLAGS.iter().map(FlagInfo::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_as_the_table_has_them() {
        let all: Vec<FlagInfo> = flags().collect();
        assert_eq!(all.len(), FLAGS.len());
        let find = |name: &str| *all.iter().find(|flag| flag.name == name).expect(name);
        let state = find("initial-cluster-state");
        assert_eq!(state.choices, ["new", "existing"]);
        assert_eq!(state.env(), "ETCD_INITIAL_CLUSTER_STATE");
        assert!(!state.is_switch && find("auto-tls").is_switch);
        assert!(find("heartbeat-interval").is_default("0x64"));
        assert!(!find("heartbeat-interval").is_default("101"));
    }
}
