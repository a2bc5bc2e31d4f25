//! Samples, their medians and ratios, and the table that shows them.

use std::fmt::Write;

use crate::load::Measured;

/// A figure that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Operations per second.
    Throughput,
    /// Median latency in microseconds.
    Median,
    /// 99th percentile in microseconds.
    P99,
    /// Server CPU per operation in microseconds.
    Cpu,
    /// Memory in MiB.
    Memory,
    /// Seconds; the median, where several were taken.
    Time,
    /// 95th percentile in seconds.
    TimeP95,
    /// The 99th percentile as a multiple of that without the work beside it.
    Slowdown,
    /// Bytes of the database file for each byte of live keys and values.
    Space,
    /// Events per second.
    EventRate,
    /// Server CPU per event in microseconds, with all that led to it.
    EventCpu,
    /// What the memory has grown by, in MiB.
    Growth,
}

impl Figure {
    fn label(self) -> &'static str {
        match self {
            Self::Throughput => "operations/s",
            Self::Median => "p50, µs",
            Self::P99 => "p99, µs",
            Self::Cpu => "server CPU, µs/op",
            Self::Memory => "RSS, MiB",
            Self::Time => "s",
            Self::TimeP95 => "p95, s",
            Self::Slowdown => "p99 to undisturbed",
            Self::Space => "file to live data",
            Self::EventRate => "events/s",
            Self::EventCpu => "server CPU, µs/event",
            Self::Growth => "RSS growth, MiB",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Median => "p50_us",
            Self::P99 => "p99_us",
            Self::Cpu => "cpu_us_per_op",
            Self::Memory => "rss_mib",
            Self::Time => "seconds",
            Self::TimeP95 => "p95_seconds",
            Self::Slowdown => "p99_ratio",
            Self::Space => "space_ratio",
            Self::EventRate => "events_per_second",
            Self::EventCpu => "cpu_us_per_event",
            Self::Growth => "rss_growth_mib",
        }
    }
}

/// Where a ratio (ours to theirs), or our figure itself, is meant to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Ours: this or less, whatever theirs is.
    OursAtMost(f64),
    /// Ours: this or more, whatever theirs is.
    OursAtLeast(f64),
}

impl Goal {
    fn met(self, ours: f64, ratio: f64) -> bool {
        match self {
            Self::AtLeast(goal) => ratio >= goal,
            Self::AtMost(goal) => ratio <= goal,
            Self::OursAtMost(goal) => ours <= goal,
            Self::OursAtLeast(goal) => ours >= goal,
        }
    }

    fn show(self) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {goal}"),
            Self::AtMost(goal) => format!("≤ {goal}"),
            Self::OursAtMost(goal) => format!("ours ≤ {goal}"),
            Self::OursAtLeast(goal) => format!("ours ≥ {goal}"),
        }
    }
}

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one to compare with.
    Theirs,
    /// Ours.
    Ours,
}

/// One figure of one line in one turn.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The line's title.
    pub line: &'static str,
    /// What was taken.
    pub figure: Figure,
    /// From whom.
    pub side: Side,
    /// In which round.
    pub round: usize,
    /// The figure.
    pub value: f64,
    /// CPU time of other processes meanwhile, as a part of all.
    pub other_cpu: Option<f64>,
}

/// All samples, in the order taken.
#[derive(Debug, Clone, Default)]
pub struct Report {
    samples: Vec<Sample>,
    goals: Vec<(&'static str, Figure, Goal)>,
}

/// Other processes may use this much of the machine before a sample counts as disturbed.
pub const DISTURBED: f64 = 0.07;

impl Report {
    /// Says what a ratio is meant to be.
    pub fn expect(&mut self, line: &'static str, figure: Figure, goal: Goal) {
        if !self
            .goals
            .iter()
            .any(|(l, f, _)| (*l, *f) == (line, figure))
        {
            self.goals.push((line, figure, goal));
        }
    }

    /// Adds a figure.
    pub fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Samples as lines of JSON.
    pub fn json_lines(&self) -> String {
        let lines = self.samples.iter().map(|sample| {
            serde_json::json!({
                "line": sample.line,
                "figure": sample.figure.name(),
                "side": if sample.side == Side::Ours { "retcd" } else { "etcd" },
                "round": sample.round,
                "value": sample.value,
                "other_cpu": sample.other_cpu,
            })
            .to_string()
        });
        lines.map(|line| line + "\n").collect()
    }

    /// A table in Markdown: medians, the median of the rounds' ratios and their spread, goals.
    pub fn markdown(&self, theirs: &str, ours: &str) -> String {
        let mut rows: Vec<(&str, Figure)> = Vec::new();
        for sample in &self.samples {
            if !rows.contains(&(sample.line, sample.figure)) {
                rows.push((sample.line, sample.figure));
            }
        }
        // Figures of a line stay together, lines in the order first seen.
        let order: Vec<&str> = rows.iter().map(|(line, _)| *line).collect();
        rows.sort_by_key(|(line, figure)| (order.iter().position(|l| l == line), *figure));
        let mut text = format!(
            "| line | figure | {theirs} | {ours} | ratio | rounds | goal |\n|---|---|--:|--:|--:|---|---|\n"
        );
        let mut previous = "";
        for (line, figure) in rows {
            let median_of = |side| median(self.values(line, figure, Some(side), None));
            let (Some(a), Some(b)) = (median_of(Side::Theirs), median_of(Side::Ours)) else {
                continue;
            };
            let ratios = self.ratios(line, figure);
            let Some(ratio) = median(ratios.clone()) else {
                continue;
            };
            let spread = match (
                ratios.iter().copied().reduce(f64::min),
                ratios.iter().copied().reduce(f64::max),
            ) {
                (Some(low), Some(high)) if ratios.len() > 1 => {
                    format!("{} to {}", number(low), number(high))
                }
                _ => "1".into(),
            };
            let goal = self
                .goals
                .iter()
                .find(|(l, f, _)| (*l, *f) == (line, figure))
                .map(|(_, _, goal)| *goal);
            let goal = goal.map_or(String::new(), |goal| {
                format!(
                    "{} {}",
                    goal.show(),
                    if goal.met(b, ratio) { "✓" } else { "✗" }
                )
            });
            let title = if line == previous { "" } else { line };
            previous = line;
            let (a, b, ratio) = (number(a), number(b), number(ratio));
            let _ = writeln!(
                text,
                "| {title} | {} | {a} | {b} | {ratio} | {spread} | {goal} |",
                figure.label()
            );
        }
        text
    }

    /// How many samples other processes disturbed, and how many there are with that figure known.
    pub fn disturbed(&self) -> (usize, usize) {
        let known = self.samples.iter().filter_map(|sample| sample.other_cpu);
        (
            known.clone().filter(|part| *part > DISTURBED).count(),
            known.count(),
        )
    }

    fn values(
        &self,
        line: &str,
        figure: Figure,
        side: Option<Side>,
        round: Option<usize>,
    ) -> Vec<f64> {
        let samples = self.samples.iter().filter(|sample| {
            (sample.line, sample.figure) == (line, figure)
                && side.is_none_or(|side| side == sample.side)
                && round.is_none_or(|round| round == sample.round)
        });
        samples.map(|sample| sample.value).collect()
    }

    /// Ours to theirs, per round.
    fn ratios(&self, line: &str, figure: Figure) -> Vec<f64> {
        let rounds = self
            .samples
            .iter()
            .map(|sample| sample.round)
            .max()
            .unwrap_or(0);
        let mean = |side, round| {
            let values = self.values(line, figure, Some(side), Some(round));
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let ratios = (0..=rounds).filter_map(|round| {
            let (theirs, ours) = (mean(Side::Theirs, round)?, mean(Side::Ours, round)?);
            (theirs > 0.0).then(|| ours / theirs)
        });
        ratios.collect()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if value < 10_000.0 { text } else { group(&text) }
}

/// Thousands set apart.
fn group(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A single run for people.
pub fn show(measured: &Measured) -> String {
    let mut text = format!(
        "{} operations in {:.2} s: {} per second\n",
        measured.ops,
        measured.elapsed.as_secs_f64(),
        number(measured.throughput())
    );
    let us = |quantile| number(measured.latency_us(quantile));
    let _ = writeln!(
        text,
        "latency, µs: p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        us(0.5),
        us(0.9),
        us(0.99),
        us(0.999),
        us(1.0)
    );
    if let Some(cpu) = measured.cpu_per_op() {
        let _ = writeln!(text, "server CPU: {} µs per operation", number(cpu));
    }
    let client = measured.client_cpu.as_secs_f64() * 1e6 / measured.ops.max(1) as f64;
    let _ = writeln!(text, "client CPU: {} µs per operation", number(client));
    if let Some(memory) = measured.memory {
        let mib = |bytes: u64| number(bytes as f64 / f64::from(1 << 20));
        let _ = writeln!(
            text,
            "server RSS: {} MiB, peak {} MiB",
            mib(memory.resident),
            mib(memory.peak)
        );
    }
    if let Some(other) = measured.other_cpu {
        let _ = writeln!(
            text,
            "other processes: {:.0} % of the machine's CPU",
            other * 100.0
        );
    }
    if let Some(failure) = &measured.failure {
        let _ = writeln!(
            text,
            "{} calls FAILED, the first: {failure}",
            measured.failures
        );
    }
    text
}

/// A single run as a line of JSON.
pub fn json(name: &str, measured: &Measured) -> String {
    serde_json::json!({
        "workload": name,
        "ops": measured.ops,
        "seconds": measured.elapsed.as_secs_f64(),
        "throughput": measured.throughput(),
        "failures": measured.failures,
        "p50_us": measured.latency_us(0.5),
        "p90_us": measured.latency_us(0.9),
        "p99_us": measured.latency_us(0.99),
        "p999_us": measured.latency_us(0.999),
        "max_us": measured.latency_us(1.0),
        "cpu_us_per_op": measured.cpu_per_op(),
        "client_cpu_seconds": measured.client_cpu.as_secs_f64(),
        "rss_bytes": measured.memory.map(|memory| memory.resident),
        "peak_rss_bytes": measured.memory.map(|memory| memory.peak),
        "other_cpu": measured.other_cpu,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_medians_of_rounds() {
        let mut report = Report::default();
        report.expect("put", Figure::Throughput, Goal::AtLeast(1.5));
        report.expect("put", Figure::Cpu, Goal::AtMost(0.5));
        for (round, ours) in [(0, 200.0), (1, 300.0), (2, 120.0)] {
            for (side, value) in [(Side::Theirs, 100.0), (Side::Ours, ours)] {
                let sample = Sample {
                    line: "put",
                    figure: Figure::Throughput,
                    side,
                    round,
                    value,
                    other_cpu: Some(0.1),
                };
                report.add(sample.clone());
                report.add(Sample {
                    figure: Figure::Cpu,
                    value: 12_345.6,
                    other_cpu: None,
                    ..sample
                });
            }
        }
        let table = report.markdown("Go", "retcd");
        assert!(
            table.contains("| put | operations/s | 100 | 200 | 2.00 | 1.20 to 3.00 | ≥ 1.5 ✓ |\n"),
            "{table}"
        );
        assert!(
            table.contains(
                "|  | server CPU, µs/op | 12,346 | 12,346 | 1.00 | 1.00 to 1.00 | ≤ 0.5 ✗ |\n"
            ),
            "{table}"
        );
        assert_eq!(report.disturbed(), (6, 6));
        assert_eq!(report.json_lines().lines().count(), 12);
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.001234, "0.00123"),
            (1.0, "1.00"),
            (98.76, "98.8"),
            (43_812.0, "43,812"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
