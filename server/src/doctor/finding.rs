//! What was found.

use std::fmt;

use serde::Serialize;

use super::checks;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works, and will hurt.
    Warning,
    /// It does not work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One mistake, or what may be one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check, one of [`CHECKS`](super::CHECKS).
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the value that is.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub skipped: Vec<String>,
}

impl Report {
    /// How many there are that bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let same = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(same).count()
    }
}

/// Where checks leave what they find.
#[derive(Debug, Default)]
pub(super) struct Findings {
    report: Report,
}

impl Findings {
    pub(super) fn error(&mut self, check: &'static str, what: impl ToString, fix: impl ToString) {
        self.add(check, Severity::Error, what, fix);
    }

    pub(super) fn warning(&mut self, check: &'static str, what: impl ToString, fix: impl ToString) {
        self.add(check, Severity::Warning, what, fix);
    }

    pub(super) fn note(&mut self, check: &'static str, what: impl ToString, fix: impl ToString) {
        self.add(check, Severity::Note, what, fix);
    }

    pub(super) fn add(
        &mut self,
        check: &'static str,
        severity: Severity,
        what: impl ToString,
        fix: impl ToString,
    ) {
        debug_assert!(checks::is_listed(check), "{check} is not in the list");
        let finding = Finding {
            check,
            severity,
            // Each finding has one line.
            what: what.to_string().replace('\n', "; "),
            fix: fix.to_string(),
        };
        if !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    pub(super) fn skipped(&mut self, what: impl ToString) {
        self.report.skipped.push(what.to_string());
    }

    pub(super) fn into_report(mut self) -> Report {
        let findings = &mut self.report.findings;
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.report
    }

    /// The checks that found something, in order.
    #[cfg(test)]
    pub(super) fn checks(&self) -> Vec<&'static str> {
        let findings = self.report.findings.iter();
        findings.map(|finding| finding.check).collect()
    }

    /// The only finding of a check.
    #[cfg(test)]
    pub(super) fn only(&self, check: &str) -> &Finding {
        let mut found = self
            .report
            .findings
            .iter()
            .filter(|finding| finding.check == check);
        match (found.next(), found.next()) {
            (Some(only), None) => only,
            _ => panic!("not one {check} in {:#?}", self.report.findings),
        }
    }
}
