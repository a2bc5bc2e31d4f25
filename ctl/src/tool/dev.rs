//! `retcd dev`: members to try things with, in this process, gone when it ends.

mod layout;
mod place;
#[cfg(test)]
mod tests;

use std::future::{Future as _, poll_fn};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::task::Poll;

use retcd::log::{Log, Settings};
use retcd::{Server, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Action, Command, Failure, Invocation, Kind, exit};

use super::{EMPTY, flag, no_arguments};
use layout::Layout;
use place::Place;

pub(super) const COMMAND: Command = Command {
    usage: "dev",
    short: "Runs a throw-away member, or a cluster of some, on this machine",
    flags: &[
        flag(
            "members",
            Kind::Uint,
            "",
            "how many members to run; 1 if nothing else is said, or as many as the data directory has",
        ),
        flag(
            "data-dir",
            Kind::Text,
            "",
            "where to keep the data; it stays, and another run with it goes on with the same members and ports",
        ),
        flag(
            "keep",
            Kind::Bool,
            "false",
            "leave the data in its temporary directory at the end",
        ),
        flag(
            "client-port",
            Kind::Uint,
            "",
            "port for clients of the first member; 2379 if nothing else is said and it is free, 0 for any free one",
        ),
        flag(
            "log-level",
            Kind::Text,
            "error",
            "least severe level of log lines on standard error: debug, info, warn or error",
        ),
    ],
    action: Action::Run(run),
    ..EMPTY
};

/// More would only be slow, and no cluster has more.
const MOST_MEMBERS: u64 = 9;

/// What the flags ask for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    members: Option<usize>,
    data_dir: Option<PathBuf>,
    keep: bool,
    client_port: Option<u16>,
}

impl Wish {
    fn read(call: &Invocation) -> Result<Self, Failure> {
        let bad = |text: String| Failure::new(exit::BAD_ARGS, text);
        let given = |flag: &str| (!call.text(flag).is_empty()).then(|| call.uint(flag));
        let members = match given("members") {
            Some(count @ 1..=MOST_MEMBERS) => usize::try_from(count).ok(),
            Some(count) => {
                return Err(bad(format!(
                    "--members={count} cannot be: give a number from 1 to {MOST_MEMBERS}"
                )));
            }
            None => None,
        };
        let client_port = match given("client-port").map(u16::try_from) {
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => {
                return Err(bad(format!(
                    "--client-port={} is no port: give a number up to 65535, 0 for any free one",
                    call.text("client-port")
                )));
            }
            None => None,
        };
        let data_dir = call.text("data-dir");
        Ok(Self {
            members,
            data_dir: (!data_dir.is_empty()).then(|| data_dir.into()),
            keep: call.is_set("keep"),
            client_port,
        })
    }
}

fn run(call: &Invocation, out: &mut dyn Write) -> Result<(), Failure> {
    no_arguments(call, "dev")?;
    let wish = Wish::read(call)?;
    let log = Settings {
        level: call.text("log-level").to_owned(),
        format: "console".to_owned(),
        ..Settings::default()
    };
    let log = log
        .open()
        .map_err(|error| Failure::new(exit::BAD_ARGS, format_args!("--log-level: {error}")))?;
    let failed = |error: std::io::Error| Failure::new(exit::ERROR, error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    // Signals are caught before there is anything that they would leave behind.
    let mut signals = runtime
        .block_on(async { Signals::catch() })
        .map_err(failed)?;

    let place = match &wish.data_dir {
        Some(dir) => Place::given(dir)?,
        None => Place::temporary(wish.keep)?,
    };
    let layout = Layout::of(&place, wish.members, wish.client_port)?;
    let servers = start(&layout, &place, &log)?;
    let ready = async {
        for server in &servers {
            server.ready().await?;
        }
        Ok::<(), StartError>(())
    };
    let end = runtime.block_on(async {
        tokio::select! {
            () = signals.any() => return Ok(None),
            ready = ready => ready.map_err(|error| start_failure(&error))?,
        }
        out.write_all(banner(&layout, &place).as_bytes())?;
        out.flush()?;
        Ok::<_, Failure>(tokio::select! {
            () = signals.any() => None,
            failure = first_failure(&servers) => Some(failure),
        })
    });
    for server in servers {
        server.stop();
    }
    drop(place);
    match end? {
        None => Ok(()),
        Some(reason) => Err(Failure::new(exit::ERROR, reason)),
    }
}

fn start(layout: &Layout, place: &Place, log: &Log) -> Result<Vec<Server>, Failure> {
    let configs = layout.configs(place.dir(), place.is_kept());
    let servers = configs
        .into_iter()
        .map(|config| Server::launch_with_log(config, log).map_err(|error| start_failure(&error)));
    servers.collect()
}

fn start_failure(error: &StartError) -> Failure {
    let advice = error.advice().map(|advice| format!("; {advice}"));
    Failure::new(
        exit::ERROR,
        format_args!(
            "the member cannot start: {error}{}",
            advice.unwrap_or_default()
        ),
    )
}

/// Which member stopped by itself, and why.
async fn first_failure(servers: &[Server]) -> String {
    let mut waits: Vec<_> = servers
        .iter()
        .map(|server| Box::pin(server.failed()))
        .collect();
    poll_fn(|context| {
        for (number, wait) in waits.iter_mut().enumerate() {
            if let Poll::Ready(reason) = wait.as_mut().poll(context) {
                let name = layout::name(number);
                return Poll::Ready(format!("member {name} stopped: {reason}"));
            }
        }
        Poll::Pending
    })
    .await
}

/// What ends it: the keyboard, a supervisor, a terminal that closes.
struct Signals([Signal; 3]);

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn banner(layout: &Layout, place: &Place) -> String {
    let endpoints = layout.endpoints().join(",");
    let members = match layout.members().len() {
        1 => "one member".to_owned(),
        count => format!("{count} members"),
    };
    let fate = match place.is_kept() {
        true => "is kept",
        false => "is removed at the end",
    };
    format!(
        "{}: {members}; {} {fate}\n\n\
         \x20 endpoint  {endpoints}\n\
         \x20 try       etcdctl --endpoints={endpoints} put greeting hello\n\
         \x20 or        export ETCDCTL_ENDPOINTS={endpoints}\n\
         \x20 stop      Ctrl-C\n",
        retcd::config::SERVER_NAME,
        shown(place.dir()),
    )
}

fn shown(dir: &Path) -> String {
    format!("data in {}", dir.display())
}
