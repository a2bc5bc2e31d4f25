//! Metrics as text, read back.

use std::collections::{BTreeMap, BTreeSet};

/// All that a member exports.
#[derive(Debug, Default)]
pub(crate) struct Export {
    pub(crate) families: BTreeMap<String, Family>,
}

/// One name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// Each set of label names that a sample has, without `le`.
    pub(crate) labels: BTreeSet<BTreeSet<String>>,
    /// Upper bounds of a histogram, as numbers are written by Rust.
    pub(crate) bounds: Vec<String>,
    /// Labels and value of each sample, as written.
    pub(crate) samples: BTreeMap<String, String>,
}

impl Export {
    /// Reads the text format.
    ///
    /// # Panics
    /// If it is none.
    pub(crate) fn parse(text: &str) -> Self {
        let mut export = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                export.families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            } else if !line.starts_with('#') && !line.is_empty() {
                export.sample(line);
            }
        }
        export
    }

    fn sample(&mut self, line: &str) {
        // Values have no blanks; labels may.
        let (left, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let (name, labels) = match left.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("no end: {line}"))),
            None => (left, ""),
        };
        let family = self.family_of(name);
        let family = self.families.get_mut(&family).unwrap_or_else(|| panic!("no type: {line}"));
        let mut pairs = pairs(labels);
        if let Some(bound) = pairs.remove("le").filter(|_| name.ends_with("_bucket")) {
            let bound: f64 = bound.parse().unwrap_or_else(|_| panic!("no bound: {line}"));
            let bound = bound.to_string();
            if !family.bounds.contains(&bound) {
                family.bounds.push(bound);
            }
        }
        pairs.remove("quantile");
        family.labels.insert(pairs.keys().cloned().collect());
        family.samples.insert(labels.to_owned(), value.to_owned());
    }

    /// The family that a sample belongs to.
    fn family_of(&self, name: &str) -> String {
        for suffix in ["_bucket", "_sum", "_count"] {
            if let Some(family) = name.strip_suffix(suffix)
                && self.families.get(family).is_some_and(|f| f.kind == "histogram" || f.kind == "summary")
            {
                return family.to_owned();
            }
        }
        name.to_owned()
    }

    /// The value of a sample.
    pub(crate) fn value(&self, name: &str, labels: &str) -> Option<&str> {
        self.families.get(name)?.samples.get(labels).map(String::as_str)
    }

    /// The values that a label has in a family.
    pub(crate) fn label_values(&self, name: &str, label: &str) -> BTreeSet<String> {
        let samples = self.families.get(name).map(|family| family.samples.keys());
        samples.into_iter().flatten().filter_map(|labels| pairs(labels).remove(label)).collect()
    }

    /// The samples of a family by the labels named, in that order.
    pub(crate) fn by(&self, name: &str, labels: &[&str]) -> BTreeSet<Vec<String>> {
        let samples = self.families.get(name).map(|family| family.samples.keys());
        let picked = |text: &String| {
            let mut all = pairs(text);
            labels.iter().map(|label| all.remove(*label).unwrap_or_default()).collect()
        };
        samples.into_iter().flatten().map(picked).collect()
    }
}

/// `a="x",b="y"`.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                other => value.push(other),
            }
        }
        out.insert(name.trim_start_matches(',').to_owned(), value);
        rest = &after[end..];
    }
    out
}

#[test]
fn text_is_read_as_it_is_meant() {
    let text = "# HELP a A.\n# TYPE a counter\na 1\n# TYPE h histogram\nh_bucket{x=\"y\",le=\"0.001\"} 2\n\
                h_bucket{x=\"y\",le=\"1e+06\"} 2\nh_bucket{x=\"y\",le=\"+Inf\"} 3\nh_sum{x=\"y\"} 0.5\nh_count{x=\"y\"} 3\n\
                # TYPE b_count gauge\nb_count{p=\"a b,\\\"c\\\"}\",q=\"\"} 7\n";
    let export = Export::parse(text);
    assert_eq!(export.families.keys().collect::<Vec<_>>(), ["a", "b_count", "h"]);
    let histogram = &export.families["h"];
    assert_eq!(histogram.bounds, ["0.001", "1000000", "inf"]);
    assert_eq!(histogram.labels, BTreeSet::from([BTreeSet::from(["x".to_owned()])]));
    assert_eq!(export.value("a", ""), Some("1"));
    assert_eq!(export.label_values("b_count", "p"), BTreeSet::from(["a b,\"c\"}".to_owned()]));
}
