//! A Prometheus that looks every second.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use retcd_tests::http1;
use retcd_tests::ports::Port;
use retcd_tests::process::{Process, until};
use serde_json::Value;
use tempfile::TempDir;

/// A running server. Ended and cleared away when dropped.
pub(crate) struct Prometheus {
    port: Port,
    _process: Process,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one with rules that do not wait, and jobs of loopback ports.
    pub(crate) fn start(program: &Path, rules: &Path, jobs: &[(&str, Vec<u16>)]) -> Self {
        let dir = tempfile::Builder::new().prefix("retcd-").tempdir().expect("a directory");
        let rules = std::fs::read_to_string(rules).expect("rules");
        std::fs::write(dir.path().join("rules.yml"), quick(&rules)).expect("written");
        let mut config = String::from(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\nrule_files: [rules.yml]\nscrape_configs:\n",
        );
        for (name, ports) in jobs {
            let targets: Vec<_> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
            let targets = targets.join(", ");
            let _ = writeln!(config, "  - job_name: {name}\n    static_configs: [{{targets: [{targets}]}}]");
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
        let port = Port::take();
        let mut command = Command::new(program);
        command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .current_dir(dir.path());
        let server = Self { port, _process: Process::start(command), _dir: dir };
        until("Prometheus", || server.get("/-/ready").map(|_| ()));
        server
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let answer = http1::get(self.port.number(), path).map_err(|e| e.to_string())?;
        if answer.status == 200 { Ok(answer.text()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    }

    fn data(&self, path: &str) -> Result<Value, String> {
        let answer: Value = serde_json::from_str(&self.get(path)?).map_err(|e| e.to_string())?;
        Ok(answer["data"].clone())
    }

    /// Waits until a query has a value.
    pub(crate) fn wait_for_value(&self, query: &str, wanted: f64) {
        let path = format!("/api/v1/query?query={}", escaped(query));
        until(query, || {
            let data = self.data(&path)?;
            let value = data["result"][0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
            if value == Some(wanted) { Ok(()) } else { Err(format!("{data}")) }
        });
    }

    /// Waits until all rules were evaluated at least once.
    pub(crate) fn wait_for_evaluation(&self) {
        until("rules", || {
            let data = self.data("/api/v1/rules")?;
            let rules = data["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
            let done = |rule: &Value| rule["lastEvaluation"].as_str().is_some_and(|at| !at.starts_with("0001"));
            if !rules.is_empty() && rules.iter().all(done) { Ok(()) } else { Err(format!("{data}")) }
        });
    }

    /// The names of the alerts that fire.
    fn firing(&self) -> Result<BTreeSet<String>, String> {
        let data = self.data("/api/v1/alerts")?;
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Waits until some alerts fire and others do not.
    pub(crate) fn wait_for(&self, on: &[&str], off: &[&str]) {
        until(&format!("{on:?} firing, and not {off:?}"), || {
            let firing = self.firing()?;
            let right = on.iter().all(|name| firing.contains(*name)) && off.iter().all(|name| !firing.contains(*name));
            if right { Ok(()) } else { Err(format!("{firing:?} fire")) }
        });
    }
}

/// The same rules without their patience: they fire at once, and look at the last ten seconds.
pub(crate) fn quick(rules: &str) -> String {
    let mut out = String::new();
    for line in rules.split_inclusive('\n') {
        if let Some(indent) = line.find("for: ").filter(|at| line[..*at].trim().is_empty()) {
            out.push_str(&line[..indent]);
            out.push_str("for: 0s\n");
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('[') {
            out.push_str(before);
            match after.split_once(']') {
                Some((window, after)) if window.starts_with(|c: char| c.is_ascii_digit()) => {
                    out.push_str("[10s]");
                    rest = after;
                }
                _ => {
                    out.push('[');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
    }
    out
}

/// For a query string.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
