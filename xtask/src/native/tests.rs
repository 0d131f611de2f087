//! A native server that starts, answers and stops. The tests need the native PostgreSQL in the
//! cache; the check `native PostgreSQL` puts it there and runs them.

use std::fs;
use std::path::Path;

use super::server::run;
use super::*;

#[test]
#[ignore = "needs the native PostgreSQL: `cargo xtask test native`"]
fn a_server_starts_answers_and_leaves_nothing() {
    let native = in_the_cache();
    let cluster = native.initdb(false).unwrap();
    let server = cluster.start(&Options { settings: &[("fsync", "off")], port: None }).unwrap();
    let directory = server.socket_directory().to_path_buf();
    assert!(directory.join(format!(".s.PGSQL.{}", server.port())).exists());

    let ask = "SELECT current_setting('fsync'), current_setting('server_encoding'), datlocale FROM pg_database WHERE datname = 'postgres'";
    let mut psql = native.command(&directory, "psql");
    psql.args(["-h", "/pgl", "-U", "postgres", "-d", "postgres", "-AtXc", ask]);
    let output = run(&mut psql, "psql").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "off|UTF8|C.UTF-8\n");

    let process = server.pid();
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap();
    assert_eq!(name, "postgres\n", "the child is the server itself, so that signals reach it");
    server.stop().unwrap();
    assert!(!Path::new(&format!("/proc/{process}")).exists());
    drop(cluster);
    assert!(!directory.exists());
}

#[test]
#[ignore = "needs the native PostgreSQL: `cargo xtask test native`"]
fn a_server_that_cannot_start_says_why() {
    let native = in_the_cache();
    let cluster = native.initdb(false).unwrap();
    let error =
        cluster.start(&Options { settings: &[("shared_buffers", "none")], port: None }).unwrap_err().to_string();
    assert!(error.contains("ended while it started") && error.contains("invalid value for parameter"), "{error}");
}

/// The native PostgreSQL of this checkout's lock, unpacked before.
fn in_the_cache() -> Native {
    let paths = Paths::find().unwrap();
    let lock = Lock::read(&paths.lock()).unwrap();
    let recipe = Recipe::read(&paths.root, Root::Native).unwrap();
    let image = image::open(&recipe.spec(&lock, &paths.downloads()), &paths.images()).unwrap();
    Native::at(&image.rootfs)
}
