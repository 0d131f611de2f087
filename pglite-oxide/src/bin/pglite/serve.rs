//! `pglite serve`: runs a server until a signal arrives, or while a command runs.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use clap::Args;
use pglite_oxide::{Listen, PgliteServer, cli};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Failure;
use crate::place::Place;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Listen at this TCP address: PORT, ADDRESS or ADDRESS:PORT [default: 127.0.0.1, a free port]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "unix")]
    tcp: Option<Address>,
    /// Listen at a Unix socket in this directory
    #[arg(long, value_name = "DIR")]
    unix: Option<PathBuf>,
    /// Permissions of the Unix socket, in octal
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode, requires = "unix")]
    socket_mode: u32,
    /// Require passwords (SCRAM-SHA-256), and set the password of --user to the value of this
    /// environment variable
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
    /// How long a client waits for the session, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    wait: Duration,
    /// How long running statements may continue at shutdown, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    grace: Duration,
    /// Terminate an idle session when another client connects
    #[arg(long)]
    take_over_idle: bool,
    /// Print the connection URI, and nothing else, to standard output
    #[arg(long)]
    print_uri: bool,
    /// Run this shell command with DATABASE_URL, PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSWORD
    /// set, stop when it ends, and exit with its exit code
    #[arg(long, value_name = "COMMAND")]
    run: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Address {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    // From here on, a signal shuts the server down, whenever it comes.
    let mut signals = Signals::new(cli::not_ignored(&[SIGHUP, SIGINT, SIGTERM])?)?;
    // Standard error may be closed.
    let listen = arguments.listen()?.on_error(|error| drop(writeln!(std::io::stderr(), "pglite: {error}")));
    let server = arguments.place.builder().serve(&listen)?;
    announce(&server, arguments)?;
    let code = match &arguments.run {
        Some(command) => accompany(&server, command, signals)?,
        None => {
            signals.forever().next();
            ExitCode::SUCCESS
        }
    };
    server.shutdown()?;
    Ok(code)
}

/// Prints where the server is. A program that reads the URI knows that clients can connect.
fn announce(server: &PgliteServer, arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.print_uri {
        if arguments.run.is_none() {
            let _ = writeln!(std::io::stderr(), "pglite: listening; connect to {}", server.connection_uri());
        }
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", server.connection_uri())
        .and_then(|()| stdout.flush())
        .map_err(|cause| format!("cannot print the connection URI: {cause}").into())
}

/// Runs a command to its end and returns its exit code. SIGTERM is passed on to it, and the command
/// decides how to end.
fn accompany(server: &PgliteServer, command: &str, mut signals: Signals) -> Result<ExitCode, Failure> {
    let handle = signals.handle();
    // The thread is spawned first: if that fails, no command has been started. Signals wait for it.
    let (tell, told) = mpsc::channel();
    let passing_on = std::thread::Builder::new()
        .name("pglite-signals".to_string())
        .spawn(move || {
            if let Ok(process) = told.recv() {
                signals.forever().for_each(|signal| pass_on(process, signal));
            }
        })
        .map_err(|cause| format!("--run: cannot spawn a thread: {cause}"))?;
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("/bin/sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(command);
    let child = server.set_environment(&mut shell).spawn();
    let mut companion = Companion(child.map_err(|cause| format!("--run: cannot start {command:?}: {cause}"))?);
    // The thread waits for it.
    let _ = tell.send(companion.0.id());
    let status = companion.0.wait().map_err(|cause| format!("--run: cannot wait for {command:?}: {cause}"));
    handle.close();
    // A panic has been reported by the panic hook.
    let _ = passing_on.join();
    Ok(ExitCode::from(exit_code(status?)))
}

/// A command that does not outlive its server, whatever happens here.
struct Companion(Child);

impl Drop for Companion {
    fn drop(&mut self) {
        // After a wait that succeeded, neither does anything.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Arguments {
    fn listen(&self) -> Result<Listen, Failure> {
        let mut listen = match (&self.unix, self.tcp) {
            (Some(directory), _) => Listen::unix(directory).socket_mode(self.socket_mode),
            (None, address) => {
                let mut listen = Listen::tcp();
                if let Some(ip) = address.and_then(|address| address.ip) {
                    listen = listen.address(ip);
                }
                if let Some(port) = address.and_then(|address| address.port) {
                    listen = listen.port(port);
                }
                listen
            }
        };
        if let Some(variable) = &self.password_env {
            let password = std::env::var(variable)
                .map_err(|cause| format!("--password-env: the variable {variable} holds no password: {cause}"))?;
            listen = listen.password(password);
        }
        Ok(listen.wait_for_session(self.wait).grace(self.grace).take_over_idle(self.take_over_idle))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self { ip: None, port: Some(port) });
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip: Some(ip), port: None });
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "expected PORT, ADDRESS or ADDRESS:PORT, such as 127.0.0.1:5432")?;
        Ok(Self { ip: Some(address.ip()), port: Some(address.port()) })
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "expected permissions in octal, such as 660".to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds".to_string())
}

#[cfg(unix)]
fn pass_on(process: u32, signal: i32) {
    use rustix::process::{Pid, Signal, kill_process};

    // A terminal gives SIGINT and SIGHUP to the command itself.
    if signal == SIGTERM
        && let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw)
    {
        let _ = kill_process(process, Signal::TERM);
    }
}

/// As in shells: 128 plus the signal's number for a command that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    u8::try_from(status.code().unwrap_or(1)).unwrap_or(u8::MAX)
}
