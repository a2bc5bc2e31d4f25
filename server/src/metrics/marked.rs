//! Gauges that are 1 for what there is now, and 0 for what there was.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use prometheus::GaugeVec;

/// A family with two labels.
#[derive(Debug)]
pub(crate) struct Marked {
    family: GaugeVec,
    /// What is at 1.
    shown: Mutex<BTreeSet<[String; 2]>>,
}

impl Marked {
    pub(super) fn new(family: GaugeVec) -> Self {
        Self {
            family,
            shown: Mutex::default(),
        }
    }

    /// Shows what there is now; what was shown before and is not among it goes to 0.
    pub(crate) fn show(&self, present: impl IntoIterator<Item = [String; 2]>) {
        let present: BTreeSet<[String; 2]> = present.into_iter().collect();
        let mut shown = self.shown.lock();
        for gone in shown.difference(&present) {
            self.set(gone, 0.0);
        }
        for labels in &present {
            self.set(labels, 1.0);
        }
        *shown = present;
    }

    /// Shows what is known to be gone.
    pub(crate) fn show_gone(&self, gone: impl IntoIterator<Item = [String; 2]>) {
        for labels in gone {
            self.set(&labels, 0.0);
        }
    }

    fn set(&self, labels: &[String; 2], value: f64) {
        self.family.with_label_values(labels).set(value);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    #[test]
    fn what_is_gone_goes_to_zero_and_can_come_back() {
        let family = GaugeVec::new(Opts::new("x", "x"), &["a", "b"]).expect("sound");
        let marked = Marked::new(family.clone());
        let labels = |name: &str| ["id".to_owned(), name.to_owned()];
        let value = |name: &str| family.with_label_values(&labels(name)).get();
        marked.show([labels("one"), labels("two")]);
        assert_eq!((value("one"), value("two")), (1.0, 1.0));
        marked.show([labels("two"), labels("three")]);
        assert_eq!(
            (value("one"), value("two"), value("three")),
            (0.0, 1.0, 1.0)
        );
        marked.show([labels("one")]);
        marked.show_gone([labels("four")]);
        assert_eq!((value("one"), value("two"), value("four")), (1.0, 0.0, 0.0));
    }
}
