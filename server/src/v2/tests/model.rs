//! Random writes, beside a model that is a few maps.

use std::collections::BTreeMap;

use super::*;
use crate::v2::node::Shown;

const PATHS: &[&str] = &[
    "/", "/a", "/a/b", "/a/b/c", "/a/_h", "/a-b", "/d", "/d/e", "/_x/y", "/a/b/c/d",
];

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Option<String>,
    created: i64,
    modified: i64,
}

#[derive(Default)]
struct Model(BTreeMap<String, Entry>);

type Refused = (Code, String);

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

impl Model {
    fn entry(&self, path: &str) -> Option<Entry> {
        let root = Entry {
            value: None,
            created: 0,
            modified: 0,
        };
        match path {
            "/" => Some(root),
            _ => self.0.get(path).cloned(),
        }
    }

    /// The entry, or why there is none.
    fn look(&self, path: &str) -> Result<Entry, Refused> {
        if path != "/" && self.look(parent(path))?.value.is_some() {
            return Err((Code::NotDir, parent(path).to_owned()));
        }
        self.entry(path)
            .ok_or_else(|| (Code::KeyNotFound, path.to_owned()))
    }

    fn add(&mut self, path: &str, content: &Content, index: i64) -> Entry {
        let mut above = parent(path);
        while above != "/" {
            let dir = Entry {
                value: None,
                created: index,
                modified: index,
            };
            self.0.entry(above.to_owned()).or_insert(dir);
            above = parent(above);
        }
        let entry = Entry {
            value: (!content.dir).then(|| content.value.clone()),
            created: index,
            modified: index,
        };
        self.0.insert(path.to_owned(), entry.clone());
        entry
    }

    fn is_parent(&self, path: &str) -> bool {
        self.0.keys().any(|other| parent(other) == path)
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0
            .retain(|other, _| other != path && !other.starts_with(&below));
    }

    fn compare(entry: &Entry, path: &str, expected: &Expected) -> Result<(), Refused> {
        let Some(value) = &entry.value else {
            return Err((
                Code::NotFile,
                if path == "/" { "" } else { path }.to_owned(),
            ));
        };
        let index = entry.modified.unsigned_abs();
        let value_differs = !expected.value.is_empty() && expected.value != *value;
        let index_differs = expected.index != 0 && expected.index != index;
        let values = format!("[{} != {value}]", expected.value);
        let indexes = format!("[{} != {index}]", expected.index);
        match (value_differs, index_differs) {
            (false, false) => Ok(()),
            (true, false) => Err((Code::TestFailed, values)),
            (false, true) => Err((Code::TestFailed, indexes)),
            (true, true) => Err((Code::TestFailed, format!("{values} {indexes}"))),
        }
    }

    /// The action, the entry after it, and the one before.
    fn apply(
        &mut self,
        path: &str,
        write: &Write,
        index: i64,
    ) -> Result<(Action, Entry, Option<Entry>), Refused> {
        let root = || Err((Code::RootReadOnly, "/".to_owned()));
        let found = match self.look(path) {
            Err((Code::KeyNotFound, _)) => None,
            found => Some(found?),
        };
        let gone = |before: &Entry| Entry {
            value: None,
            created: before.created,
            modified: index,
        };
        match write {
            Write::Set { .. } | Write::Create(_) if path == "/" => root(),
            Write::Set { content, .. } => {
                if found.as_ref().is_some_and(|entry| entry.value.is_none()) {
                    return Err((Code::NotFile, path.to_owned()));
                }
                let entry = self.add(path, content, index);
                Ok((Action::Set, entry, found))
            }
            Write::Create(_) if found.is_some() => Err((Code::NodeExist, path.to_owned())),
            Write::Create(content) => Ok((Action::Create, self.add(path, content, index), None)),
            Write::Append(_) => unreachable!("has tests of its own"),
            Write::Update { .. } | Write::Swap { .. } | Write::Delete { .. } if path == "/" => {
                root()
            }
            Write::Update { content, .. } | Write::Swap { content, .. } => {
                let before = self.look(path)?;
                let action = match write {
                    Write::Swap { expected, .. } => {
                        Self::compare(&before, path, expected)?;
                        Action::CompareAndSwap
                    }
                    _ => Action::Update,
                };
                if before.value.is_none() && !content.value.is_empty() {
                    return Err((Code::NotFile, path.to_owned()));
                }
                let entry = Entry {
                    value: before.value.as_ref().map(|_| content.value.clone()),
                    created: before.created,
                    modified: index,
                };
                self.0.insert(path.to_owned(), entry.clone());
                Ok((action, entry, Some(before)))
            }
            Write::Delete { dir, recursive } => {
                let before = self.look(path)?;
                if before.value.is_none() && !recursive {
                    if !dir {
                        return Err((Code::NotFile, path.to_owned()));
                    }
                    if self.is_parent(path) {
                        return Err((Code::DirNotEmpty, path.to_owned()));
                    }
                }
                self.remove(path);
                Ok((Action::Delete, gone(&before), Some(before)))
            }
            Write::DeleteExpected(expected) => {
                let before = self.look(path)?;
                Self::compare(&before, path, expected)?;
                self.remove(path);
                Ok((Action::CompareAndDelete, gone(&before), Some(before)))
            }
        }
    }

    fn listed(&self) -> Vec<String> {
        let shown = self.0.iter().filter(|(path, _)| !path.contains("/_"));
        shown
            .map(|(path, entry)| match &entry.value {
                Some(value) => format!("{path}={value}@{}-{}", entry.created, entry.modified),
                None => format!("{path}/@{}-{}", entry.created, entry.modified),
            })
            .collect()
    }
}

fn listed(nodes: &[Shown], all: &mut Vec<String>) {
    for node in nodes {
        let Shown {
            key,
            created,
            modified,
            ..
        } = node;
        let value = node
            .value
            .as_ref()
            .map_or_else(|| "/".to_owned(), |v| format!("={v}"));
        all.push(format!("{key}{value}@{created}-{modified}"));
        listed(&node.nodes, all);
    }
}

/// Xorshift: the same numbers from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    fn content(&mut self) -> Content {
        match self.below(4) {
            0 => directory(),
            1 => file(""),
            n => file(n.to_string()),
        }
    }

    fn expected(&mut self, model: &Model, path: &str) -> Expected {
        let now = model.entry(path);
        let value = now.as_ref().and_then(|entry| entry.value.clone());
        let index = now.map_or(7, |entry| entry.modified.unsigned_abs());
        match self.below(4) {
            0 => expected(&value.unwrap_or_default(), index),
            1 => expected("", index),
            2 => expected("2", 0),
            _ => expected("3", index.saturating_sub(1).max(1)),
        }
    }

    fn write(&mut self, model: &Model, path: &str) -> Write {
        let refresh = false;
        let content = self.content();
        match self.below(9) {
            0..3 => Write::Set { content, refresh },
            3 => Write::Create(content),
            4 => Write::Update { content, refresh },
            5 => Write::Swap {
                expected: self.expected(model, path),
                content,
                refresh,
            },
            6 => Write::DeleteExpected(self.expected(model, path)),
            _ => Write::Delete {
                dir: self.chance(),
                recursive: self.below(3) == 0,
            },
        }
    }
}

fn entry(node: &Shown) -> Entry {
    Entry {
        value: node.value.clone(),
        created: node.created,
        modified: node.modified,
    }
}

#[tokio::test]
async fn random_writes_do_what_the_model_does() {
    let variable = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let seed = variable("RETCD_V2_SEED", 1).max(1);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let rig = Rig::start();
    let store = &rig.server.member().store;
    let mut model = Model::default();
    let (mut done, mut refused) = (0, 0);
    for step in 0..400 * variable("RETCD_TEST_SCALE", 1) {
        let path = PATHS[random.below(PATHS.len())];
        let write = random.write(&model, path);
        let case = format!("RETCD_V2_SEED={seed}, step {step}: {path} {write:?}");
        let before = store.rev();
        let outcome = rig.write(path, write.clone()).await;
        let wanted = model.apply(path, &write, before + 1);
        match (outcome, wanted) {
            (Ok(event), Ok((action, after, prev))) => {
                done += 1;
                assert_eq!(store.rev(), before + 1, "{case}");
                assert_eq!(event.action, action, "{case}");
                let node = event.node.expect("a node");
                assert_eq!(node.key, path, "{case}");
                let was_dir = prev.as_ref().is_some_and(|prev| prev.value.is_none());
                let removes = matches!(action, Action::Delete | Action::CompareAndDelete);
                let is_dir = if removes {
                    was_dir
                } else {
                    after.value.is_none()
                };
                assert_eq!(node.dir, is_dir, "{case}");
                assert_eq!(entry(&node), after, "{case}");
                assert_eq!(event.prev.as_ref().map(entry), prev, "{case}");
            }
            (Err(refusal), Err((code, cause))) => {
                refused += 1;
                let wanted = Refusal::new(code, cause, before);
                assert_eq!(refusal, wanted, "{case}");
                assert_eq!(store.rev(), before, "{case}");
            }
            (outcome, wanted) => panic!("{case}: {outcome:?}, not {wanted:?}"),
        }
        let event = rig.get("/", true).await.expect("the root");
        let mut all = Vec::new();
        listed(&event.node.expect("a node").nodes, &mut all);
        all.sort();
        let mut wanted = model.listed();
        wanted.sort();
        assert_eq!(all, wanted, "{case}");
    }
    assert!(done > 50 && refused > 50, "{done} done, {refused} refused");
}
