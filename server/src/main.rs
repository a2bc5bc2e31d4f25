//! The `etcd` binary: a thin shell over the library.

mod init_daemon;

use std::process::ExitCode;

use retcd::config::{self, Config, ConfigError, Invocation, Notice};
use retcd::log::Log;
use retcd::{Inherited, Server, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use slog::{Logger, crit, error, info, warn};

fn main() -> ExitCode {
    match config::from_command_line(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Invocation::Print { stdout, stderr }) => {
            eprint!("{stderr}");
            print!("{stdout}");
            ExitCode::SUCCESS
        }
        Ok(Invocation::Serve {
            mut config,
            notices,
        }) => {
            config.inherited = Inherited::from_env();
            serve(*config, &notices)
        }
        Err(refusal) => {
            eprint!("{}", refusal.stderr);
            log_all(&refusal.notices, &Log::stderr());
            ExitCode::from(refusal.code)
        }
    }
}

fn log_all(notices: &[Notice], log: &Log) {
    for notice in notices {
        notice.log(log.logger());
    }
}

fn serve(config: Config, notices: &[Notice]) -> ExitCode {
    let log = match config.log.open() {
        Ok(log) => log,
        Err(error) => return refuse(&ConfigError::from(error), &Log::stderr()),
    };
    log_all(notices, &log);
    let logger = log.logger().clone();
    let server = match Server::launch_with_log(config, &log) {
        Ok(server) => server,
        Err(StartError::Config(error)) => return refuse(&error, &log),
        Err(StartError::Bootstrap(error)) => {
            let mut notices = error.notices();
            let last = notices.pop();
            log_all(&notices, &log);
            // The sentence for people comes before the last word, which is etcd's.
            if let Some(advice) = error.advice() {
                error!(logger, "{}", advice);
            }
            if let Some(last) = last {
                last.log(&logger);
            }
            return ExitCode::FAILURE;
        }
        Err(error) => {
            error!(logger, "bootstrap failed"; "error" => %error);
            if let Some(advice) = error.advice() {
                error!(logger, "{}", advice);
            }
            crit!(logger, "discovery failed"; "error" => %error);
            return ExitCode::FAILURE;
        }
    };

    match wait(&server, &logger) {
        Ok(Stop::Signal(signal)) => {
            info!(logger, "received signal; shutting down"; "signal" => signal_name(signal));
            server.stop();
            log.flush();
            die_of(signal)
        }
        Ok(Stop::Failure(reason)) => {
            let removed = server.was_removed();
            server.stop();
            if removed {
                return ExitCode::SUCCESS; // as etcd: there is nothing to be started again
            }
            crit!(logger, "server error"; "error" => reason);
            ExitCode::FAILURE
        }
        Err(error) => {
            server.stop();
            crit!(logger, "cannot wait for signals"; "error" => %error);
            ExitCode::FAILURE
        }
    }
}

/// Says why the flags do not add up.
fn refuse(error: &ConfigError, log: &Log) -> ExitCode {
    log_all(&error.notices(), log);
    ExitCode::from(error.code())
}

/// Why a running server has to stop.
enum Stop {
    Signal(i32),
    Failure(String),
}

fn wait(server: &Server, logger: &Logger) -> std::io::Result<Stop> {
    use tokio::signal::unix::{SignalKind, signal};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ready = async {
            // One that does not become ready fails, or is stopped.
            if server.ready().await.is_ok() {
                init_daemon::notify(logger);
            }
            std::future::pending().await
        };
        Ok(tokio::select! {
            _ = terminate.recv() => Stop::Signal(SIGTERM),
            _ = interrupt.recv() => Stop::Signal(SIGINT),
            reason = server.failed() => Stop::Failure(reason),
            stop = ready => stop,
        })
    })
}

/// As Go prints them.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "interrupt",
        _ => "terminated",
    }
}

/// Ends the process as the signal would have, so that a supervisor sees why. As process 1 of a
/// container there is no such end; then it exits with 0, like etcd.
fn die_of(signal: i32) -> ExitCode {
    if std::process::id() != 1
        && let Err(error) = signal_hook::low_level::emulate_default_handler(signal)
    {
        warn!(Log::stderr().logger(), "cannot end by signal"; "error" => %error);
    }
    ExitCode::SUCCESS
}
