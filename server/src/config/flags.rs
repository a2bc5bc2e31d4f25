//! The command line and the environment, read as etcd reads them.

mod earlier;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use slog::Level;

use super::auth;
use super::file;
use super::gates::{self, Gates};
use super::help;
use super::notice::{Field, Notice};
use super::old::{self, Fate, OLD};
use super::table::{self, FLAGS, Flag, IGNORED, Kind};
use super::text;
use super::value::{self, ValueError};
use super::{ClusterState, Config, Engine};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run a member.
    Serve {
        /// As given; not checked for contradictions yet.
        config: Box<Config>,
        /// To be logged once there is a logger.
        notices: Vec<Notice>,
    },
    /// Print this and exit with code 0.
    Print {
        /// For standard output.
        stdout: String,
        /// For standard error.
        stderr: String,
    },
}

/// A command line that cannot be used.
#[derive(Debug)]
pub struct Refusal {
    /// Plain text for standard error, before anything is logged.
    pub stderr: String,
    /// Log lines for the default logger: JSON on standard error.
    pub notices: Vec<Notice>,
    /// The exit code: 2 for a malformed flag, 1 for anything else.
    pub code: u8,
}

impl Refusal {
    fn malformed(message: impl std::fmt::Display) -> Self {
        Self {
            stderr: format!("{message}\n{}", text::USAGE),
            notices: Vec::new(),
            code: 2,
        }
    }

    pub(super) fn unverified(mut notices: Vec<Notice>, error: impl ToString) -> Self {
        notices.push(Notice::unverified(error));
        Self {
            stderr: String::new(),
            notices,
            code: 1,
        }
    }

    /// Adds a field to the last log line.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Field>) -> Self {
        if let Some(notice) = self.notices.last_mut() {
            notice.fields.push((key, value.into()));
        }
        self
    }
}

/// Reads `args` (without the program's name) and the environment.
///
/// # Errors
/// A [`Refusal`] with etcd's texts and exit codes; a flag of etcd that is not implemented yet and is not at its
/// default is refused too.
pub fn from_command_line(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Refusal> {
    let mut reader = Reader::new();
    match reader.read_args(args)? {
        Outcome::Help => {
            return Ok(Invocation::Print {
                stdout: help::flag_list(),
                stderr: text::USAGE.into(),
            });
        }
        Outcome::Positional(extra) => {
            let error = format!("{extra:?} is not a valid flag");
            let refusal = Refusal::unverified(Vec::new(), error);
            return Err(refusal.with("remedy", help::no_flag(&extra)));
        }
        Outcome::Flags => {}
    }
    if reader.print_version {
        return Ok(Invocation::Print {
            stdout: text::version(),
            stderr: String::new(),
        });
    }
    let env: Vec<_> = env.into_iter().collect();
    if let Some(path) = reader.config_file(&env) {
        let beside = reader.named.iter().filter(|name| **name != "config-file");
        let beside: Vec<_> = beside.map(|name| format!("--{name}")).collect();
        let (reader, mut notices) = file::read(&path)?;
        if !beside.is_empty() {
            notices.insert(0, Notice::beside_the_file(&beside, &path));
        }
        notices.insert(0, Notice::file_loaded(&path));
        let invocation = reader.finish_file(notices);
        return invocation.map_err(|refusal| refusal.with("config-file", path));
    }
    let mut notices = Vec::new();
    reader.read_env(env, &mut notices)?;
    reader.finish(notices)
}

enum Outcome {
    Flags,
    Help,
    Positional(String),
}

/// Values of flags, from wherever they come.
pub(super) struct Reader {
    config: Config,
    /// `--config-file`; empty: none.
    config_file: String,
    print_version: bool,
    /// Flags named on the command line.
    named: BTreeSet<&'static str>,
    /// Flags with a value, from wherever it came.
    set: BTreeSet<&'static str>,
    /// Values that differ from the default of a flag that is not implemented.
    unimplemented: BTreeMap<&'static str, String>,
    ignored: BTreeSet<String>,
    /// Without effect; looked at for what etcd does not understand either.
    freelist_type: String,
    /// What etcd could do once, when discovery fails.
    falls_back_to_proxy: bool,
    gates: Gates,
    /// Gates by the flags that were their names before etcd 3.6.
    old_gates: BTreeMap<&'static str, bool>,
    /// Values of old flags that are not harmless, with what to do instead.
    harmful: BTreeMap<&'static str, (String, &'static str)>,
    debug: bool,
    /// Flags whose values have no effect, at another one than their default.
    useless: BTreeSet<&'static str>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            config: Config::new(""),
            config_file: String::new(),
            print_version: false,
            named: BTreeSet::new(),
            set: BTreeSet::new(),
            unimplemented: BTreeMap::new(),
            ignored: BTreeSet::new(),
            freelist_type: String::new(),
            falls_back_to_proxy: false,
            gates: Gates::default(),
            old_gates: BTreeMap::new(),
            harmful: BTreeMap::new(),
            debug: false,
            useless: BTreeSet::new(),
        }
    }

    /// Go's rules: one dash or two; `=value` or the next argument; a boolean never takes the next argument;
    /// `--` or the first argument that is no flag ends the flags.
    fn read_args(&mut self, args: impl IntoIterator<Item = OsString>) -> Result<Outcome, Refusal> {
        let mut args = args.into_iter();
        let utf8 = |arg: OsString| {
            arg.into_string().map_err(|arg| {
                Refusal::malformed(format!("argument is not UTF-8: {}", arg.display()))
            })
        };
        while let Some(arg) = args.next() {
            let arg = utf8(arg)?;
            if arg == "--" {
                return Ok(args.next().map_or(Outcome::Flags, |arg| {
                    Outcome::Positional(arg.to_string_lossy().into())
                }));
            }
            let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
                return Ok(Outcome::Positional(arg));
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            if body.is_empty() || body.starts_with(['-', '=']) {
                return Err(Refusal::malformed(format!("bad flag syntax: {arg}")));
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            if matches!(name, "h" | "help") {
                return Ok(Outcome::Help);
            }
            if IGNORED.contains(&name) {
                self.ignored.insert(name.to_owned());
                continue;
            }
            let flag = old::find_any(name).ok_or_else(|| {
                let advice = help::unknown(name);
                Refusal::malformed(format!("flag provided but not defined: -{name}\n{advice}"))
            })?;
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true".to_owned(),
                (None, _) => match args.next() {
                    Some(value) => utf8(value)?,
                    None => {
                        let remedy = help::remedy(flag);
                        return Err(Refusal::malformed(format!(
                            "flag needs an argument: -{name}\n{remedy}"
                        )));
                    }
                },
            };
            self.named.insert(flag.name);
            self.assign(flag, &value).map_err(|error| {
                let remedy = help::remedy(flag);
                Refusal::malformed(match flag.kind {
                    Kind::Bool => {
                        format!("invalid boolean value {value:?} for -{name}: {error}\n{remedy}")
                    }
                    _ => format!("invalid value {value:?} for flag -{name}: {error}\n{remedy}"),
                })
            })?;
        }
        Ok(Outcome::Flags)
    }

    /// A variable fills in for a flag that was not named; for one that was, it is fatal, even when empty.
    fn read_env(
        &mut self,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Refusal> {
        let mut variables: Vec<(String, String)> = Vec::new();
        for (key, value) in env {
            let Ok(key) = key.into_string() else { continue };
            if !key.starts_with("ETCD_") {
                continue;
            }
            match value.into_string() {
                Ok(value) => variables.push((key, value)),
                Err(_) => {
                    return Err(Refusal::unverified(
                        std::mem::take(notices),
                        format!("{key} is not UTF-8"),
                    ));
                }
            }
        }
        variables.retain(|(key, value)| {
            let special = key == "ETCD_VERSION" && !value.is_empty();
            if special {
                let fields = vec![("key", key.clone().into()), ("value", value.clone().into())];
                notices.push(Notice::new(
                    Level::Warning,
                    "cannot set special environment variable",
                    fields,
                ));
            }
            !special
        });
        let mut used = BTreeSet::new();
        let mut failure = None;
        for flag in known().filter(|flag| flag.name != "version") {
            let key = flag.env();
            let value = variables
                .iter()
                .find(|(k, v)| *k == key && !v.is_empty())
                .map(|(_, v)| v.clone());
            let Some(value) = value.filter(|_| !self.named.contains(flag.name)) else {
                continue;
            };
            if let Err(error) = self.assign(flag, &value) {
                let error = format!("invalid value {value:?} for {key}: {error}");
                failure = Some((error, help::remedy(flag)));
            }
            used.insert(key);
        }
        for (key, value) in &variables {
            if used.contains(key) {
                continue;
            }
            if known().any(|flag| self.named.contains(flag.name) && flag.env() == *key) {
                notices.push(Notice::new(
                    Level::Critical,
                    "conflicting environment variable is shadowed by corresponding command-line flag \
                     (either unset environment variable or disable flag))",
                    vec![("environment-variable", key.clone().into())],
                ));
                return Err(Refusal {
                    stderr: String::new(),
                    notices: std::mem::take(notices),
                    code: 1,
                });
            }
            let field = ("environment-variable", format!("{key}={value}").into());
            notices.push(Notice::new(
                Level::Warning,
                "unrecognized environment variable",
                vec![field],
            ));
        }
        match failure {
            Some((error, remedy)) => {
                Err(Refusal::unverified(std::mem::take(notices), error).with("remedy", remedy))
            }
            None => Ok(()),
        }
    }

    /// The file that is read in place of all else.
    fn config_file(&self, env: &[(OsString, OsString)]) -> Option<String> {
        let given = match self.config_file.is_empty() {
            true => env
                .iter()
                .find(|(key, _)| key == "ETCD_CONFIG_FILE")?
                .1
                .to_str()?,
            false => &self.config_file,
        };
        (!given.is_empty()).then(|| given.to_owned())
    }

    /// Takes a list as it is, where a flag would need commas.
    pub(super) fn assign_list(&mut self, name: &'static str, list: Vec<String>) {
        self.set.insert(name);
        let name = match old::find(name).map(|old| old.fate) {
            Some(Fate::Renamed(new)) => new,
            _ => name,
        };
        match name {
            "log-outputs" if list.is_empty() => {}
            "log-outputs" => self.config.log.outputs = list,
            "discovery-endpoints" => self.config.discovery.endpoints = list,
            _ => {
                if let Err(list) = self.config.tls.assign_list(name, list)
                    && !list.is_empty()
                {
                    self.unimplemented.insert(name, list.join(","));
                }
            }
        }
    }

    /// Takes what only a file can say.
    pub(super) fn assign_unflagged(&mut self, name: &str, text: &str) -> Result<(), ValueError> {
        if name == "client-skip-client-san-verification" {
            self.config.tls.client.skip_client_san_verification = value::parse_bool(text)?;
        }
        Ok(())
    }

    pub(super) fn assign(&mut self, flag: &'static Flag, text: &str) -> Result<(), ValueError> {
        self.set.insert(flag.name);
        self.assign_value(flag, text)
    }

    fn assign_value(&mut self, flag: &'static Flag, text: &str) -> Result<(), ValueError> {
        if let Some(old) = old::find(flag.name) {
            return self.assign_old(old, text);
        }
        if flag.help.is_none() {
            if flag.is_default(text)? {
                self.unimplemented.remove(flag.name);
            } else {
                self.unimplemented.insert(flag.name, text.to_owned());
            }
            return Ok(());
        }
        let config = &mut self.config;
        match flag.name {
            "version" => self.print_version = value::parse_bool(text)?,
            "config-file" => self.config_file = text.to_owned(),
            "name" => config.name = text.to_owned(),
            "data-dir" => config.data_dir = text.into(),
            "wal-dir" => config.wal_dir = (!text.is_empty()).then(|| text.into()),
            "listen-peer-urls" => config.listen_peer_urls = table::parse_urls(text)?,
            "listen-client-urls" => config.listen_client_urls = table::parse_urls(text)?,
            "listen-client-http-urls" => config.listen_client_http_urls = table::parse_urls(text)?,
            "listen-metrics-urls" => config.listen_metrics_urls = table::parse_urls(text)?,
            "initial-advertise-peer-urls" => {
                config.initial_advertise_peer_urls = Some(table::parse_urls(text)?)
            }
            "advertise-client-urls" => {
                config.advertise_client_urls = Some(table::parse_urls(text)?)
            }
            "initial-cluster" => config.initial_cluster = Some(text.to_owned()),
            "initial-cluster-state" => {
                flag.is_default(text)?;
                config.initial_cluster_state = if text == "new" {
                    ClusterState::New
                } else {
                    ClusterState::Existing
                };
            }
            "initial-cluster-token" => config.initial_cluster_token = text.to_owned(),
            "snapshot-count" => config.snapshot_count = value::parse_uint(text)?,
            "snapshot-catchup-entries" => {
                config.snapshot_catchup_entries = value::parse_uint(text)?
            }
            "max-wals" => config.max_wals = value::parse_uint(text)?,
            "max-snapshots" => config.max_snapshots = value::parse_uint(text)?,
            "quota-backend-bytes" => config.quota_backend_bytes = value::parse_int(text)?,
            "max-request-bytes" => config.max_request_bytes = value::parse_uint(text)?,
            "max-txn-ops" => config.max_txn_ops = value::parse_uint(text)?,
            "max-concurrent-streams" => config.max_concurrent_streams = table::parse_uint32(text)?,
            "enable-grpc-gateway" => config.enable_grpc_gateway = value::parse_bool(text)?,
            "enable-pprof" => config.enable_pprof = value::parse_bool(text)?,
            "cors" => config.cors = origins(text)?,
            "host-whitelist" => {
                config.host_whitelist = text.split(',').map(str::to_owned).collect()
            }
            "heartbeat-interval" => config.heartbeat_interval = value::parse_uint(text)?,
            "election-timeout" => config.election_timeout = value::parse_uint(text)?,
            "initial-election-tick-advance" => {
                config.initial_election_tick_advance = value::parse_bool(text)?
            }
            "force-new-cluster" => config.force_new_cluster = value::parse_bool(text)?,
            "raft-read-timeout" => config.raft_read_timeout = value::parse_duration(text)?,
            "raft-write-timeout" => config.raft_write_timeout = value::parse_duration(text)?,
            "max-learners" => config.max_learners = value::parse_int(text)?,
            "strict-reconfig-check" => config.strict_reconfig_check = value::parse_bool(text)?,
            "pre-vote" => config.pre_vote = value::parse_bool(text)?,
            "backend-batch-interval" => {
                config.backend_batch_interval = value::parse_duration(text)?
            }
            "backend-batch-limit" => config.backend_batch_limit = value::parse_int(text)?,
            "compaction-batch-limit" => config.compaction_batch_limit = value::parse_int(text)?,
            "compaction-sleep-interval" => {
                config.compaction_sleep_interval = value::parse_duration(text)?
            }
            "warning-apply-duration" => {
                config.warning_apply_duration = value::parse_duration(text)?
            }
            "watch-progress-notify-interval" => {
                config.watch_progress_notify_interval = value::parse_duration(text)?
            }
            "warning-unary-request-duration" => {
                config.warning_unary_request_duration = value::parse_duration(text)?
            }
            "grpc-keepalive-min-time" => {
                config.grpc_keepalive_min_time = value::parse_duration(text)?
            }
            "grpc-keepalive-interval" => {
                config.grpc_keepalive_interval = value::parse_duration(text)?
            }
            "grpc-keepalive-timeout" => {
                config.grpc_keepalive_timeout = value::parse_duration(text)?
            }
            "socket-reuse-port" => config.socket_reuse_port = value::parse_bool(text)?,
            "memory-mlock" => config.memory_mlock = value::parse_bool(text)?,
            "bootstrap-defrag-threshold-megabytes" => {
                config.bootstrap_defrag_threshold_megabytes = value::parse_uint(text)?
            }
            // It is always so.
            "socket-reuse-address" => {
                flag.is_default(text)?;
            }
            "downgrade-check-time"
            | "distributed-tracing-address"
            | "distributed-tracing-instance-id"
            | "distributed-tracing-sampling-rate"
            | "distributed-tracing-service-name" => {
                match flag.is_default(text)? {
                    true => self.useless.remove(flag.name),
                    false => self.useless.insert(flag.name),
                };
            }
            "backend-bbolt-freelist-type" => self.freelist_type = text.to_owned(),
            "feature-gates" => self.gates.assign(text)?,
            "experimental-backend-engine" => {
                config.backend_engine = Engine::find(text)
                    .ok_or_else(|| ValueError::Other("the engines are bolt and sled".into()))?;
            }
            "unsafe-no-fsync" => config.unsafe_no_fsync = value::parse_bool(text)?,
            "enable-v2" => config.enable_v2 = value::parse_bool(text)?,
            "auto-compaction-mode" => config.auto_compaction_mode = text.to_owned(),
            "auto-compaction-retention" => config.auto_compaction_retention = text.to_owned(),
            "metrics" => config.metrics = text.to_owned(),
            "logger" => config.log.logger = text.to_owned(),
            "log-level" => config.log.level = text.to_owned(),
            "enable-log-rotation" => config.log.rotation = value::parse_bool(text)?,
            "log-rotation-config-json" => config.log.rotation_config = text.to_owned(),
            "log-format" => config.log.format = text.to_owned(),
            "log-outputs" => {
                config.log.outputs = text.split(',').map(|s| s.trim().to_owned()).collect()
            }
            "v2-deprecation" => {
                flag.is_default(text)
                    .map_err(|_| ValueError::Other(format!("invalid value {text:?}")))?;
            }
            "discovery-fallback" => {
                self.falls_back_to_proxy = !flag.is_default(text)?;
            }
            other if config.discovery.assign(other, text)? => {}
            other if config.tls.assign(other, text)? => {}
            other => return Err(ValueError::Other(format!("no field for --{other}"))),
        }
        Ok(())
    }

    /// What a file leaves out has etcd's default, whatever the member's name is and wherever it listens.
    fn finish_file(mut self, notices: Vec<Notice>) -> Result<Invocation, Refusal> {
        let config = &mut self.config;
        config
            .advertise_client_urls
            .get_or_insert_with(|| vec![super::resolved::default_url(2379)]);
        if config.initial_cluster.is_none() && !config.discovery.replaces_default_cluster() {
            config.initial_cluster = Some(super::resolved::default_initial_cluster());
        }
        if config.tls.self_signed_cert_validity == 0 {
            config.tls.self_signed_cert_validity = 1;
        }
        self.finish(notices)
    }

    fn finish(mut self, mut notices: Vec<Notice>) -> Result<Invocation, Refusal> {
        if self.falls_back_to_proxy {
            let error =
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"";
            let remedy = "leave --discovery-fallback out, and give clients the URLs of all members";
            return Err(Refusal::unverified(notices, error).with("remedy", remedy));
        }
        if let Err(error) = auth::check(&mut self.unimplemented, &mut notices) {
            return Err(Refusal::unverified(notices, error));
        }
        if let Some((name, value)) = self.unimplemented.pop_first() {
            return Err(Refusal::unverified(notices, refuse(name, &value)));
        }
        if let Err(error) = self.finish_old(&mut notices) {
            let half = error == gates::PERSIST_ALONE;
            let refusal = Refusal::unverified(notices, error);
            return Err(match half {
                true => refusal.with("remedy", gates::PERSIST_REMEDY),
                false => refusal,
            });
        }
        if self.set.contains("max-snapshots") {
            notices.push(Notice::warn(
                "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
            ));
        }
        if self.set.contains("v2-deprecation") {
            notices.push(Notice::warn(
                "--v2-deprecation is deprecated and scheduled for removal in v3.8. \
                 The default value is enforced, ignoring user input.",
            ));
        }
        if !matches!(self.freelist_type.as_str(), "" | "map" | "array") {
            notices.push(Notice::new(
                Level::Warning,
                "--backend-bbolt-freelist-type is neither map nor array; as in etcd, this stands for map",
                vec![("backend-bbolt-freelist-type", self.freelist_type.as_str().into())],
            ));
        }
        for name in self.useless {
            let flag = ("flag", format!("--{name}").into());
            notices.push(Notice::new(
                Level::Warning,
                "flag has no effect: its default holds",
                vec![flag],
            ));
        }
        for name in self.ignored {
            let flag = ("flag", format!("--{name}").into());
            notices.push(Notice::new(
                Level::Warning,
                "flag is no longer supported and is ignored",
                vec![flag],
            ));
        }
        self.config.advertise_or_fail = self.set.contains("listen-client-urls");
        // etcd derives the cluster from the other flags only for a member with a name of its own.
        let unnamed = self.config.name == super::resolved::DEFAULT_NAME;
        if self.config.initial_cluster.is_none() && self.config.discovery.replaces_default_cluster()
        {
            self.config.initial_cluster = Some(String::new());
        }
        if self.config.initial_cluster.is_none() && unnamed {
            self.config.initial_cluster = Some(super::resolved::default_initial_cluster());
        }
        Ok(Invocation::Serve {
            config: Box::new(self.config),
            notices,
        })
    }
}

/// Flags of this release, then those of earlier ones.
fn known() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(OLD.iter().map(|old| &old.flag))
}

/// `*`, or URLs.
fn origins(text: &str) -> Result<Vec<String>, ValueError> {
    if text == "*" {
        return Ok(vec![text.to_owned()]);
    }
    // Unlike other lists of URLs it cannot be empty.
    if text.is_empty() {
        let url = text.parse::<super::Url>();
        url.map_err(|error| ValueError::Other(error.to_string()))?;
    }
    let urls = table::parse_urls(text)?;
    Ok(urls.iter().map(ToString::to_string).collect())
}

fn refuse(name: &str, value: &str) -> String {
    let default = old::find_any(name).map_or("", |flag| flag.default);
    format!(
        "--{name}={value:?} is not implemented by retcd yet: leave the flag out (its default is {default:?})"
    )
}

#[cfg(test)]
mod tests;
