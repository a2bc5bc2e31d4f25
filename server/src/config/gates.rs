//! `--feature-gates`: names, notation and errors as etcd has them, and what each of them is here.
//!
//! Source: config-and-ops 2.2; etcd 3.7 `server/features/etcd_features.go`.

use std::collections::BTreeMap;

use super::notice::Notice;
use super::value::{self, ValueError};

/// A feature that can be switched.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) name: &'static str,
    class: Class,
    pub(super) default: bool,
    meaning: Meaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Alpha,
    Beta,
    /// Switches those of its class that are not named.
    All,
}

/// What the switch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing, whatever it says; why, where it is not at its default.
    None(&'static str),
    /// What it turns on is not there yet.
    Missing,
    /// What it says.
    Real,
}

const fn gate(name: &'static str, class: Class, default: bool, meaning: Meaning) -> Gate {
    Gate {
        name,
        class,
        default,
        meaning,
    }
}

/// Sorted by name.
pub(super) static GATES: &[Gate] = &[
    gate("AllAlpha", Class::All, false, Meaning::Real),
    gate("AllBeta", Class::All, false, Meaning::Real),
    gate("CompactHashCheck", Class::Alpha, false, Meaning::Missing),
    gate(
        "FastLeaseKeepAlive",
        Class::Beta,
        true,
        Meaning::None("a renewal waits for what was committed before it, and for nothing else"),
    ),
    gate("InitialCorruptCheck", Class::Alpha, false, Meaning::Missing),
    gate(
        "LeaseCheckpoint",
        Class::Alpha,
        false,
        Meaning::None("what is left of long leases is always written to the log"),
    ),
    gate(
        "LeaseCheckpointPersist",
        Class::Alpha,
        false,
        Meaning::None("what is left of long leases always outlives a restart"),
    ),
    gate(
        "PriorityRequest",
        Class::Alpha,
        false,
        Meaning::None("requests are applied in the order of the log"),
    ),
    gate("SetMemberLocalAddr", Class::Alpha, false, Meaning::Real),
    gate(
        "StopGRPCServiceOnDefrag",
        Class::Alpha,
        false,
        Meaning::None("requests are served while a database is defragmented"),
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        Class::Beta,
        true,
        Meaning::None("there is one way in which a transaction reads"),
    ),
];

/// The gate called `name`.
pub(super) fn find(name: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.name == name)
}

/// A gate as it is, for those who watch the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// `ALPHA` or `BETA`.
    pub(crate) stage: &'static str,
    pub(crate) open: bool,
}

/// What was switched, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gates(BTreeMap<&'static str, bool>);

impl Gates {
    /// Takes `Name=bool,...` on top of what was taken before.
    ///
    /// # Errors
    /// etcd's texts.
    pub(super) fn assign(&mut self, text: &str) -> Result<(), ValueError> {
        let mut given = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (name.trim(), value.trim());
            if !pair.contains('=') {
                return Err(ValueError::Other(format!("missing bool value for {name}")));
            }
            let value = value::parse_bool(value).map_err(|_| {
                ValueError::Other(format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
                ))
            })?;
            given.push((name, value));
        }
        for (name, _) in &given {
            if find(name).is_none() {
                return Err(ValueError::Other(format!(
                    "unrecognized feature gate: {name}"
                )));
            }
        }
        for (name, value) in given {
            self.set(name, value);
        }
        Ok(())
    }

    /// Switches one gate.
    pub(super) fn set(&mut self, name: &str, value: bool) {
        if let Some(gate) = find(name) {
            self.0.insert(gate.name, value);
        }
    }

    /// Whether a gate is open.
    pub(super) fn is_open(&self, name: &str) -> bool {
        let Some(gate) = find(name) else {
            return false;
        };
        let class = match gate.class {
            Class::Alpha => self.0.get("AllAlpha"),
            Class::Beta => self.0.get("AllBeta"),
            Class::All => None,
        };
        let named = self.0.get(gate.name).or(class);
        named.copied().unwrap_or(gate.default)
    }

    /// All gates as they are.
    pub(super) fn features(&self) -> Vec<Feature> {
        let feature = |gate: &Gate| Feature {
            name: gate.name,
            stage: match (gate.class, gate.name) {
                (Class::Beta, _) | (Class::All, "AllBeta") => "BETA",
                _ => "ALPHA",
            },
            open: self.is_open(gate.name),
        };
        GATES.iter().map(feature).collect()
    }

    /// Whether a gate was named.
    pub(super) fn names(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Why the gates cannot be as they are; what has no effect is noted.
    ///
    /// # Errors
    /// etcd's text, or that retcd cannot do something.
    pub(super) fn check(&self, notices: &mut Vec<Notice>) -> Result<(), String> {
        let persist = self.is_open("LeaseCheckpointPersist");
        if persist && !self.is_open("LeaseCheckpoint") {
            return Err(PERSIST_ALONE.into());
        }
        for gate in GATES {
            let open = self.is_open(gate.name);
            if open == gate.default {
                continue;
            }
            match gate.meaning {
                Meaning::Real => {}
                Meaning::None(reason) => {
                    let fields = vec![
                        ("feature-gate", format!("{}={open}", gate.name).into()),
                        ("reason", reason.into()),
                    ];
                    notices.push(Notice::new(
                        slog::Level::Warning,
                        "feature gate has no effect",
                        fields,
                    ));
                }
                Meaning::Missing => {
                    let all = match self.names(gate.name) {
                        true => "",
                        false => " (opened by AllAlpha=true)",
                    };
                    return Err(format!(
                        "--feature-gates: {}={open}{all} is not implemented by retcd yet: leave it out, or set it to {}",
                        gate.name, gate.default
                    ));
                }
            }
        }
        Ok(())
    }
}

/// etcd's text for a gate that needs another one.
pub(super) const PERSIST_ALONE: &str =
    "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint";
/// What to do about it.
pub(super) const PERSIST_REMEDY: &str = "add LeaseCheckpoint=true to --feature-gates, or leave \
     LeaseCheckpointPersist=true out: what both stand for is always on here";

/// For the help: what the gates are by default.
pub(super) fn list() -> String {
    let names: Vec<_> = GATES
        .iter()
        .map(|gate| format!("{}={}", gate.name, gate.default))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &str) -> Gates {
        let mut gates = Gates::default();
        gates.assign(text).expect(text);
        gates
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(GATES.is_sorted_by(|a, b| a.name < b.name));
    }

    /// Texts of etcd 3.7.1.
    #[test]
    fn errors_are_etcds() {
        for (text, error) in [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("Foo", "missing bool value for Foo"),
            (
                "InitialCorruptCheck",
                "missing bool value for InitialCorruptCheck",
            ),
            (
                "InitialCorruptCheck=maybe",
                "invalid value of InitialCorruptCheck=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                "=x",
                "invalid value of =x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            ("=true", "unrecognized feature gate: "),
        ] {
            let got = Gates::default().assign(text).expect_err(text);
            assert_eq!(got.to_string(), error);
        }
        let persist = gates("LeaseCheckpointPersist=true");
        assert_eq!(
            persist.check(&mut Vec::new()).expect_err("half"),
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
        );
    }

    #[test]
    fn a_class_is_switched_but_for_those_that_are_named() {
        assert!(!gates("").is_open("LeaseCheckpoint"));
        let all = gates("AllAlpha=true, LeaseCheckpoint = F,");
        assert!(all.is_open("PriorityRequest") && !all.is_open("LeaseCheckpoint"));
        assert!(gates("AllAlpha=true").is_open("LeaseCheckpoint"));
        assert!(!gates("AllBeta=false").is_open("FastLeaseKeepAlive"));
        assert!(gates("AllBeta=false,FastLeaseKeepAlive=true").is_open("FastLeaseKeepAlive"));
        let mut twice = gates("LeaseCheckpoint=true");
        twice.assign("PriorityRequest=true").expect("sound");
        assert!(twice.is_open("LeaseCheckpoint") && twice.is_open("PriorityRequest"));
    }

    #[test]
    fn what_has_no_effect_is_noted_and_what_is_missing_is_refused() {
        let mut notices = Vec::new();
        gates("LeaseCheckpoint=true,StopGRPCServiceOnDefrag=true,FastLeaseKeepAlive=true")
            .check(&mut notices)
            .expect("sound");
        let noted: Vec<_> = notices.iter().map(|n| n.fields[0].1.to_string()).collect();
        assert_eq!(
            noted,
            ["LeaseCheckpoint=true", "StopGRPCServiceOnDefrag=true"]
        );
        for text in ["InitialCorruptCheck=true", "CompactHashCheck=true"] {
            let error = gates(text).check(&mut Vec::new()).expect_err(text);
            assert!(
                error.contains(text) && error.contains("leave it out"),
                "{error}"
            );
        }
        let error = gates("AllAlpha=true")
            .check(&mut Vec::new())
            .expect_err("some are missing");
        assert!(error.contains("AllAlpha"), "{error}");
        gates("InitialCorruptCheck=false")
            .check(&mut Vec::new())
            .expect("the default");
    }
}
