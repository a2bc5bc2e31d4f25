//! `retcd-bench`: measures an etcd server, or two beside each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use retcd_benches::compare::{self, Options};
use retcd_benches::load::{self, Drive};
use retcd_benches::report::{self, Side};
use retcd_benches::server::{Program, Server};
use retcd_benches::workload::{Kind, Plan, STAMP};
use retcd_benches::{Error, process};

const USAGE: &str = "\
usage: retcd-bench WORKLOAD [options]      measure a running server
       retcd-bench restart --server BIN    time a restart after SIGKILL
       retcd-bench compare --theirs BIN --ours BIN [options]

workloads: put  put-once  range  count  limit  txn  load

options of workloads:
  --endpoint 127.0.0.1:2379   the server; or several members, with commas between them
  --clients 64                calls in flight
  --connections 8             connections they are spread over
  --seconds 5                 measured, after a second to warm up
  --keys 100000               number of keys
  --value-size 256            bytes
  --prefix bench/             first bytes of all keys
  --limit 500                 of the workload limit
  --serializable              reads without a round of the leader
  --seed 42                   of the random choice of keys
  --pid N                     the server's process, or those of all members, to see what they spend
  --json                      one line of JSON instead of text

options of restart and compare:
  --dir DIR                   for data (default: a new directory below the current one)
  --keys 1000000              keys of the lines on many keys
options of compare:
  --rounds 3                  each of four turns: theirs, ours, ours, theirs
  --seconds 5                 per line
  --trials 10                 per turn: leaders killed, and leaders moved
  --retries 2                 of a line that other processes disturbed
  --only TEXT                 lines whose title contains it
  --write FILE                put the table between the file's markers; samples go to FILE.jsonl
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("retcd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Vec<String>) -> Result<(), Error> {
    if args.is_empty()
        || args
            .iter()
            .any(|arg| matches!(arg.as_str(), "-h" | "--help"))
    {
        print!("{USAGE}");
        return Ok(());
    }
    let command = args.remove(0);
    let mut options = Given::parse(args)?;
    match command.as_str() {
        "restart" => restart(&mut options),
        "compare" => run_compare(&mut options),
        workload => measure(workload, &mut options),
    }
}

/// Options as given, each taken once.
struct Given(BTreeMap<String, String>);

impl Given {
    fn parse(args: Vec<String>) -> Result<Self, Error> {
        let mut given = BTreeMap::new();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = arg
                .strip_prefix("--")
                .ok_or_else(|| Error::Usage(format!("{arg:?} is no option")))?;
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if matches!(name, "json" | "serializable") => (name, "true".to_owned()),
                None => (
                    name,
                    args.next()
                        .ok_or_else(|| Error::Usage(format!("--{name} needs a value")))?,
                ),
            };
            given.insert(name.to_owned(), value);
        }
        Ok(Self(given))
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn value<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T, Error> {
        match self.0.remove(name) {
            Some(text) => text
                .parse()
                .map_err(|_| Error::Usage(format!("--{name}: {text:?} is no value for it"))),
            None => Ok(default),
        }
    }

    /// Values with commas between them.
    fn list<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<Vec<T>>, Error> {
        let Some(text) = self.0.remove(name) else {
            return Ok(None);
        };
        let values = text.split(',').map(|text| {
            text.parse()
                .map_err(|_| Error::Usage(format!("--{name}: {text:?} is no value for it")))
        });
        values.collect::<Result<_, _>>().map(Some)
    }

    fn program(&mut self, name: &str) -> Result<Program, Error> {
        let path = self.text(name).ok_or_else(|| {
            Error::Usage(format!("--{name} is missing: give the path of an etcd"))
        })?;
        Ok(Program {
            path: path.into(),
            flags: Vec::new(),
        })
    }

    /// A directory that did not exist before, to be removed afterwards.
    fn dir(&mut self) -> Result<PathBuf, Error> {
        let below = PathBuf::from(self.text("dir").unwrap_or_else(|| ".".into()));
        let dir = below.join(format!("retcd-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(Error::io(dir.display().to_string()))?;
        Ok(dir)
    }

    fn done(self) -> Result<(), Error> {
        match self.0.into_keys().next() {
            Some(name) => Err(Error::Usage(format!("--{name} is no option here"))),
            None => Ok(()),
        }
    }
}

fn measure(workload: &str, options: &mut Given) -> Result<(), Error> {
    let kind = match workload {
        "put" => Kind::Put,
        "put-once" => Kind::PutOnce,
        "range" => Kind::Range,
        "count" => Kind::Count,
        "limit" => Kind::Limit,
        "txn" => Kind::Txn,
        "load" => Kind::Load,
        other => return Err(Error::Usage(format!("{other:?} is no workload\n{USAGE}"))),
    };
    let plan = Plan {
        kind,
        prefix: options.text("prefix").unwrap_or_else(|| "bench/".into()),
        keys: options.value("keys", 100_000)?,
        value_size: options.value("value-size", 256)?,
        serializable: options.value("serializable", false)?,
        limit: options.value("limit", 500)?,
        seed: options.value("seed", 42)?,
    };
    if plan.value_size < STAMP || plan.keys == 0 || plan.keys > 9_999_999_999 {
        return Err(Error::Usage(format!(
            "values have at least {STAMP} bytes, and there are 1 to 9999999999 keys"
        )));
    }
    let drive = Drive {
        endpoints: options
            .list("endpoint")?
            .unwrap_or_else(|| vec![([127, 0, 0, 1], 2379).into()]),
        connections: options.value("connections", 8)?,
        clients: options.value("clients", 64)?,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs_f64(options.value("seconds", 5.0)?),
        pids: options.list("pid")?.unwrap_or_default(),
    };
    let json = options.value("json", false)?;
    std::mem::replace(options, Given(BTreeMap::new())).done()?;
    let measured = load::run(&plan, &drive)?;
    if json {
        println!("{}", report::json(workload, &measured));
    } else {
        print!("{}", report::show(&measured));
    }
    match measured.failures {
        0 => Ok(()),
        failures => Err(Error::Server(format!("{failures} calls failed"))),
    }
}

fn restart(options: &mut Given) -> Result<(), Error> {
    let program = options.program("server")?;
    let keys = options.value("keys", 1_000_000)?;
    let dir = options.dir()?;
    std::mem::replace(options, Given(BTreeMap::new())).done()?;
    let result = time_restart(&program, &dir, keys);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn time_restart(program: &Program, dir: &Path, keys: u64) -> Result<(), Error> {
    let (mut server, first) = Server::start(program, dir)?;
    println!("started empty in {:.3} s", first.as_secs_f64());
    let plan = Plan {
        kind: Kind::Load,
        prefix: "bench/".into(),
        keys,
        value_size: 256,
        serializable: true,
        limit: 0,
        seed: 42,
    };
    let (clients, duration) = (16, Duration::ZERO);
    let loaded = load::run(
        &plan,
        &Drive {
            endpoints: vec![server.endpoint],
            connections: 8,
            clients,
            warm_up: duration,
            duration,
            pids: vec![server.pid()],
        },
    )?;
    print!("load: {}", report::show(&loaded));
    for _ in 0..3 {
        server.kill()?;
        let took = server.restart()?;
        let memory = process::memory(server.pid())?;
        println!(
            "restarted with {keys} keys in {:.3} s, {} MiB resident",
            took.as_secs_f64(),
            memory.resident >> 20
        );
    }
    Ok(())
}

fn run_compare(given: &mut Given) -> Result<(), Error> {
    let options = Options {
        theirs: given.program("theirs")?,
        ours: given.program("ours")?,
        rounds: given.value("rounds", 3)?,
        duration: Duration::from_secs_f64(given.value("seconds", 5.0)?),
        keys: given.value("keys", 1_000_000)?,
        trials: given.value("trials", 10)?,
        retries: given.value("retries", 2)?,
        only: given.text("only").unwrap_or_default(),
        dir: given.dir()?,
    };
    let write = given.text("write").map(PathBuf::from);
    std::mem::replace(given, Given(BTreeMap::new())).done()?;
    let result = table(&options);
    let _ = std::fs::remove_dir_all(&options.dir);
    let (text, samples) = result?;
    println!("{text}");
    if let Some(path) = write {
        replace_between_markers(&path, &text)?;
        let path = path.with_added_extension("jsonl");
        std::fs::write(&path, samples).map_err(Error::io(path.display().to_string()))?;
    }
    Ok(())
}

/// The report in Markdown, and its samples as lines of JSON.
fn table(options: &Options) -> Result<(String, String), Error> {
    let (theirs, ours) = (options.theirs.version()?, options.ours.version()?);
    let flush = compare::disk_flush(&options.dir)?;
    let mut machine = process::describe_machine(&options.dir);
    machine.push(format!(
        "4 KiB append + fdatasync: {} µs (median)",
        flush.as_micros()
    ));
    let outcome = compare::run(options, &mut |line| eprintln!("{line}"))?;
    let mut text = format!("Machine: {}.\n\n", machine.join(", "));
    text.push_str(&format!("Compared: etcd {theirs} with {ours}.\n\n"));
    text.push_str(&outcome.report.markdown("etcd", "retcd"));
    let (disturbed, known) = outcome.report.disturbed();
    text.push_str(&format!(
        "\n{} rounds of four turns, {} s per line, {} keys where all keys are meant. \
         Ratios are retcd to etcd, the median of the rounds. \
         In {disturbed} of {known} samples other processes used more than 7 % of the machine.\n",
        options.rounds,
        options.duration.as_secs_f64(),
        options.keys
    ));
    if !outcome.proofs.is_empty() {
        let (theirs, ours) = (
            outcome.proof_text(Side::Theirs),
            outcome.proof_text(Side::Ours),
        );
        text.push_str(&format!("\nDurability under 1000 puts in flight and SIGKILL:\n- etcd: {theirs}\n- retcd: {ours}\n"));
    }
    Ok((text, outcome.report.json_lines()))
}

fn replace_between_markers(path: &Path, text: &str) -> Result<(), Error> {
    const BEGIN: &str = "<!-- results -->";
    const END: &str = "<!-- end of results -->";
    let old = std::fs::read_to_string(path).map_err(Error::io(path.display().to_string()))?;
    let (Some((head, rest)), true) = (old.split_once(BEGIN), old.contains(END)) else {
        return Err(Error::Usage(format!(
            "{} has no lines {BEGIN} and {END}",
            path.display()
        )));
    };
    let tail = rest.split_once(END).map_or("", |(_, tail)| tail);
    let new = format!("{head}{BEGIN}\n{text}{END}{tail}");
    std::fs::write(path, new).map_err(Error::io(path.display().to_string()))
}
