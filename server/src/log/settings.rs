//! The flags about the log: as given, what they may not say, and what they open.

use std::path::Path;

use slog::Level;

use super::journal::Journal;
use super::rotate::{Policy, Rotating};
use super::sink::Sink;
use super::{Format, Log, reason};

/// The output that is the systemd journal.
const JOURNAL: &str = "systemd/journal";
/// The output that stands for standard error, and may not stand beside others.
const DEFAULT: &str = "default";
/// Takes everything, and then there is no other output, as in etcd.
const NOWHERE: &str = "/dev/null";

/// `--logger`, `--log-level`, `--log-format`, `--log-outputs` and those of rotation as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Only `zap`.
    pub logger: String,
    /// `debug`, `info`, `warn`, `error`, `panic` or `fatal`.
    pub level: String,
    /// `json` or `console`.
    pub format: String,
    /// `default`, `stderr`, `stdout`, `systemd/journal` or paths of files.
    pub outputs: Vec<String>,
    /// `--enable-log-rotation`: the one file among the outputs is rotated.
    pub rotation: bool,
    /// `--log-rotation-config-json`; looked at only for rotation.
    pub rotation_config: String,
}

impl Settings {
    /// The default of `--log-rotation-config-json`.
    pub const ROTATION_CONFIG: &'static str =
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            logger: "zap".into(),
            level: "info".into(),
            format: "json".into(),
            outputs: vec![DEFAULT.into()],
            rotation: false,
            rotation_config: Self::ROTATION_CONFIG.into(),
        }
    }
}

/// Settings that make no log. Texts are etcd's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// etcd panics with this text; exit code 2.
    #[error("unrecognized level: {0:?}")]
    Level(String),
    /// Neither json nor console.
    #[error("unknown log format: {0}, supported values json, console")]
    Format(String),
    /// The logger of etcd before 3.4.
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    /// Any other logger.
    #[error("unknown logger option {0:?}")]
    Logger(String),
    /// `default` beside another output.
    #[error("multi logoutput for \"default\" is not supported yet")]
    Default,
    /// The journal beside another output.
    #[error(
        "running with systemd/journal but other '--log-outputs' values ([{0}]) are configured with 'default'; override \
         'default' value with something else"
    )]
    JournalAmongOthers(String),
    /// There is no journal on this machine.
    #[error("can't find journal (dial unixgram {path}: connect: {reason})")]
    NoJournal {
        /// Where it should be.
        path: String,
        /// From the system.
        reason: String,
    },
    /// Rotation without a file, or with several.
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    RotationOutput,
    /// `--log-rotation-config-json` is no JSON.
    #[error("improperly formatted log rotation config: {0}")]
    RotationSyntax(String),
    /// `--log-rotation-config-json` has a value that cannot be one.
    #[error("invalid log rotation config: {0}")]
    RotationValue(String),
    /// A URL that names no file of this machine.
    #[error("open sink {path:?}: {reason}")]
    Sink {
        /// As given.
        path: String,
        /// In the words of etcd's logger.
        reason: String,
    },
    /// A file that cannot be opened.
    #[error("open sink {path:?}: open {path}: {reason}")]
    Open {
        /// As given.
        path: String,
        /// From the system.
        reason: String,
    },
}

impl SettingsError {
    /// What to do about it, in one sentence.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Level(_) => {
                "give debug, info, warn, error, panic or fatal with --log-level, or leave it out"
            }
            Self::Format(_) => "give json or console with --log-format, or leave it out",
            Self::Capnslog | Self::Logger(_) => "leave --logger out, or give zap",
            Self::Default => {
                "leave default out of --log-outputs, or name nothing else: it stands for stderr"
            }
            Self::JournalAmongOthers(_) => "name systemd/journal alone with --log-outputs",
            Self::NoJournal { .. } => {
                "give stderr with --log-outputs where there is no journal of systemd"
            }
            Self::RotationOutput => {
                "name one file with --log-outputs, or leave --enable-log-rotation out"
            }
            Self::RotationSyntax(_) | Self::RotationValue(_) => {
                "give --log-rotation-config-json a map with maxsize (MB), maxage (days), maxbackups, localtime and compress"
            }
            Self::Sink { .. } => {
                "give --log-outputs stderr, stdout, systemd/journal or the path of a file, separated by commas"
            }
            Self::Open { .. } => {
                "give --log-outputs a file in a directory that is there and that the user of the member may write to"
            }
        }
    }
}

/// Settings that make sense.
#[derive(Debug)]
struct Plan {
    level: Level,
    format: Format,
    /// Sorted, each once.
    outputs: Vec<String>,
    /// How to rotate the one file.
    rotation: Option<Policy>,
}

impl Settings {
    /// Whether [`Settings::open`] would understand them; opens nothing.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.plan().map(drop)
    }

    /// The level that they ask for.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn level(&self) -> Result<Level, SettingsError> {
        parse_level(&self.level)
    }

    fn plan(&self) -> Result<Plan, SettingsError> {
        match self.logger.as_str() {
            "zap" => {}
            "capnslog" => return Err(SettingsError::Capnslog),
            other => return Err(SettingsError::Logger(other.into())),
        }
        let mut outputs = self.outputs.clone();
        outputs.sort_unstable();
        outputs.dedup();
        if outputs.is_empty() {
            outputs.push(DEFAULT.into());
        }
        let has = |name: &str| outputs.iter().any(|output| output == name);
        if outputs.len() > 1 && has(DEFAULT) {
            return Err(SettingsError::Default);
        }
        let rotation = match self.rotation {
            true => Some(self.policy(&outputs)?),
            false => None,
        };
        if outputs.len() > 1 && has(JOURNAL) {
            let quoted: Vec<_> = outputs.iter().map(|output| format!("{output:?}")).collect();
            return Err(SettingsError::JournalAmongOthers(quoted.join(" ")));
        }
        let level = self.level()?;
        let format = match self.format.as_str() {
            "json" | "" => Format::Json,
            "console" => Format::Console,
            other => return Err(SettingsError::Format(other.into())),
        };
        if rotation.is_none() {
            outputs.iter().try_for_each(|output| is_file(output))?;
        }
        if has(NOWHERE) {
            outputs = vec![NOWHERE.into()];
        }
        Ok(Plan {
            level,
            format,
            outputs,
            rotation,
        })
    }

    /// etcd counts the journal as a file here.
    fn policy(&self, outputs: &[String]) -> Result<Policy, SettingsError> {
        let files = outputs
            .iter()
            .filter(|output| !matches!(output.as_str(), DEFAULT | "stderr" | "stdout"));
        match files.count() {
            0 if outputs.len() == 1 => Err(SettingsError::RotationOutput),
            0 | 1 => Policy::parse(&self.rotation_config),
            _ => Err(SettingsError::RotationOutput),
        }
    }

    /// Opens the outputs.
    ///
    /// # Errors
    /// A setting that is wrong, a file that cannot be opened for appending, a journal that is not there.
    pub fn open(&self) -> Result<Log, SettingsError> {
        let plan = self.plan()?;
        let mut sinks = Vec::new();
        for output in &plan.outputs {
            sinks.push(open(output, plan.rotation)?);
        }
        Ok(Log::new(plan.level, plan.format, sinks))
    }
}

/// Whether an output that looks like a URL is one of a file here, as zap asks before it opens any.
fn is_file(output: &str) -> Result<(), SettingsError> {
    let refuse = |reason| {
        let path = output.to_owned();
        Err(SettingsError::Sink { path, reason })
    };
    let Some((scheme, rest)) = output.split_once(':') else {
        return Ok(());
    };
    let mut letters = scheme.chars();
    let is_scheme = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return Ok(());
    }
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "file" {
        return refuse(format!("no sink found for scheme {scheme:?}"));
    }
    let host = rest
        .strip_prefix("//")
        .and_then(|rest| rest.split('/').next());
    match host {
        None | Some("" | "localhost") => Ok(()),
        Some(_) => refuse(format!(
            "file URLs must leave host empty or use localhost: got {output}"
        )),
    }
}

fn open(output: &str, rotation: Option<Policy>) -> Result<Sink, SettingsError> {
    let failed = |error: &std::io::Error| SettingsError::Open {
        path: output.into(),
        reason: reason(error),
    };
    match (output, rotation) {
        (DEFAULT | "stderr", _) => Ok(Sink::Stderr),
        ("stdout", _) => Ok(Sink::Stdout),
        (JOURNAL, _) => {
            let path = Path::new(Journal::SOCKET);
            let journal = Journal::connect(path).map_err(|error| SettingsError::NoJournal {
                path: path.display().to_string(),
                reason: reason(&error),
            })?;
            Ok(Sink::Journal(journal))
        }
        (path, Some(policy)) => {
            let file = Rotating::open(path.into(), policy).map_err(|error| failed(&error))?;
            Ok(Sink::Rotating(file))
        }
        (path, None) => Sink::file(path).map_err(|error| failed(&error)),
    }
}

/// A level by zap's names, in any case.
pub(super) fn parse_level(text: &str) -> Result<Level, SettingsError> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(Level::Debug),
        "info" | "" => Ok(Level::Info),
        "warn" | "warning" => Ok(Level::Warning),
        "error" => Ok(Level::Error),
        "dpanic" | "panic" | "fatal" => Ok(Level::Critical),
        _ => Err(SettingsError::Level(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(outputs: &[&str]) -> Settings {
        Settings {
            outputs: outputs.iter().map(|output| (*output).to_owned()).collect(),
            ..Settings::default()
        }
    }

    fn refusal(settings: &Settings) -> String {
        settings.check().expect_err("refused").to_string()
    }

    #[test]
    fn outputs_stand_beside_each_other_as_in_etcd() {
        with(&["stdout", "stderr", "/tmp/a", "b"])
            .check()
            .expect("several");
        with(&["default", "default"]).check().expect("once");
        assert_eq!(
            refusal(&with(&["stderr", "default"])),
            "multi logoutput for \"default\" is not supported yet"
        );
        assert_eq!(
            refusal(&with(&["systemd/journal", "stderr"])),
            "running with systemd/journal but other '--log-outputs' values ([\"stderr\" \"systemd/journal\"]) are \
             configured with 'default'; override 'default' value with something else"
        );
        let plan = with(&["/dev/null", "stderr"]).plan().expect("sound");
        assert_eq!(plan.outputs, ["/dev/null"]);
    }

    #[test]
    fn rotation_wants_one_file() {
        let rotating = |outputs: &[&str]| Settings {
            rotation: true,
            ..with(outputs)
        };
        rotating(&["/tmp/a"]).check().expect("one file");
        rotating(&["/tmp/a", "stderr"]).check().expect("one file");
        let text =
            "--log-outputs requires a single file path when --log-rotate-config-json is defined";
        for outputs in [&["default"][..], &["stdout"], &["/tmp/a", "/tmp/b"]] {
            assert_eq!(refusal(&rotating(outputs)), text, "{outputs:?}");
        }
        // Without rotation nobody looks at its configuration.
        let unused = Settings {
            rotation_config: "nonsense".into(),
            ..Settings::default()
        };
        unused.check().expect("not used");
    }

    #[test]
    fn levels_have_zaps_spellings() {
        for (text, level) in [
            ("debug", Level::Debug),
            ("INFO", Level::Info),
            ("warning", Level::Warning),
            ("error", Level::Error),
            ("panic", Level::Critical),
            ("fatal", Level::Critical),
        ] {
            assert_eq!(parse_level(text).expect(text), level);
        }
        assert_eq!(
            parse_level("trace"),
            Err(SettingsError::Level("trace".into()))
        );
        let both = Settings {
            level: "foo".into(),
            format: "xml".into(),
            ..Settings::default()
        };
        assert_eq!(refusal(&both), "unrecognized level: \"foo\"");
    }

    #[test]
    fn a_machine_without_a_journal_is_told_so() {
        if Path::new(Journal::SOCKET).exists() {
            return;
        }
        assert_eq!(
            with(&["systemd/journal"])
                .open()
                .expect_err("none")
                .to_string(),
            "can't find journal (dial unixgram /run/systemd/journal/socket: connect: no such file or directory)"
        );
    }
}
