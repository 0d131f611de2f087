//! A server for PostgreSQL's own tests: a database with modules that only tests load and a directory of the machine mounted in the guest, on a Unix socket. It serves
//! until its standard input ends. What is run against it is `cargo xtask regress`'s.

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Parser)]
struct Options {
    /// Directory for the socket, which is named as PostgreSQL names it for port 5432
    #[arg(long)]
    socket: PathBuf,
    /// Root of the database; made if it is not there
    #[arg(long)]
    data: PathBuf,
    /// Directory of compiled modules
    #[arg(long)]
    modules: PathBuf,
    /// A directory of the machine and where the guest sees it
    #[arg(long, value_name = "POINT=DIRECTORY")]
    mount: String,
    /// A server setting
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

fn main() {
    let options = Options::parse();
    let (point, directory) = options.mount.split_once('=').unwrap();
    let settings: Vec<_> = options.settings.iter().map(|s| s.split_once('=').map(|(a, b)| (a.to_string(), b.to_string())).unwrap()).collect();
    std::thread::spawn(|| {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {}
        std::process::exit(0);
    });
    println!("ready");
    let point: &'static str = point.to_string().leak();
    pglite_oxide::bridge::serve(&options.socket.join(".s.PGSQL.5432"), &options.modules, (point, directory.as_ref()), &settings, Some(&options.data)).unwrap();
}
