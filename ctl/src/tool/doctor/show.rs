//! A report as text.

use std::fmt::Write as _;

use retcd::doctor::{Report, Severity};

/// Each finding in two lines, what is wrong and what to do; at the end how many there are.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(
            text,
            "{:8} {}  {}",
            finding.severity, finding.check, finding.what
        );
        let _ = writeln!(text, "         fix: {}", finding.fix);
    }
    for skipped in &report.skipped {
        let _ = writeln!(text, "skipped  {skipped}");
    }
    let count = |severity, one: &str| match report.count(severity) {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let _ = writeln!(
        text,
        "{}, {}, {}",
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note")
    );
    text
}

#[cfg(test)]
mod tests {
    use retcd::doctor::Finding;

    use super::*;

    #[test]
    fn a_report_ends_with_numbers() {
        let report = Report {
            findings: vec![Finding {
                check: "clock",
                severity: Severity::Warning,
                what: "it is late".into(),
                fix: "hurry".into(),
            }],
            skipped: vec!["the rest".into()],
        };
        assert_eq!(
            text(&report),
            "warning  clock  it is late\n         fix: hurry\nskipped  the rest\n0 errors, 1 warning, 0 notes\n"
        );
        assert_eq!(text(&Report::default()), "0 errors, 0 warnings, 0 notes\n");
    }
}
