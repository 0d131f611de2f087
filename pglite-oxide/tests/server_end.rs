//! How the local server ends, and what its failures leave behind: locks, threads, errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod raw_client;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use pglite_oxide::{ErrorKind, Listen, Pglite, PgliteServer};
use postgres::{Client, NoTls};
use raw_client::{RawClient, SSL_REQUEST, query, startup};

type Test = Result<(), Box<dyn std::error::Error>>;

fn connect(server: &PgliteServer) -> Result<Client, postgres::Error> {
    Client::connect(&server.connection_uri(), NoTls)
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_database_may_be_opened_as_soon_as_its_server_is_shut_down() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let waiting = Pglite::builder().path(&path).serve(&Listen::tcp().wait_for_session(Duration::from_secs(600)))?;
    let mut clients = vec![RawClient::connect(&waiting)];
    let mut half = RawClient::connect(&waiting);
    half.send(&startup(&[("user", "postgres")])[..12]);
    let mut encrypted = RawClient::connect(&waiting);
    encrypted.send(&SSL_REQUEST);
    let served = connect(&waiting)?;
    // One that waits for its turn.
    let mut patient = RawClient::connect(&waiting);
    patient.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
    clients.extend([half, encrypted, patient]);
    waiting.shutdown()?;
    // The clients are still there.
    let db = Pglite::open(&path)?;
    db.close()?;
    drop((clients, served));

    let server = PgliteServer::open(&path)?;
    let silent = RawClient::connect(&server);
    drop(server);
    Pglite::open(&path)?.close()?;
    drop(silent);
    Ok(())
}

/// Shuts a server down on another thread, and fails if that takes too long.
fn shut_down_in_time(server: PgliteServer) {
    let (end, ended) = channel();
    let thread = std::thread::spawn(move || end.send(server.shutdown().map_err(|error| error.to_string())));
    let result = ended.recv_timeout(Duration::from_secs(30)).expect("the shutdown waits for clients");
    result.unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_shutdown_does_not_wait_for_a_client_that_is_silent_in_its_authentication() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let server = Pglite::builder().path(&path).serve(&Listen::tcp().password("secret"))?;
    let mut silent = RawClient::connect(&server);
    silent.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
    // PostgreSQL asks it to authenticate, and waits for the answer for a minute.
    let (tag, body) = silent.message().ok_or("no answer")?;
    assert_eq!((tag, &body[..4]), (b'R', &[0, 0, 0, 10][..]));
    shut_down_in_time(server);
    Pglite::open(&path)?.close()?;
    drop(silent);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_shutdown_does_not_wait_for_the_last_of_clients_that_go_on_connecting() -> Test {
    let server = PgliteServer::temporary()?;
    let address = server.addr().ok_or("no address")?;
    let (started, starts) = channel();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let started = started.clone();
            std::thread::spawn(move || {
                let packet = startup(&[("user", "postgres"), ("database", "postgres")]);
                let mut connections = Vec::new();
                // Until the server listens no more.
                while let Ok(mut stream) = std::net::TcpStream::connect(address) {
                    let _ = stream.write_all(&packet);
                    connections.push(stream);
                    connections.drain(..connections.len().saturating_sub(50));
                    let _ = started.send(());
                }
            })
        })
        .collect();
    for _ in 0..200 {
        starts.recv()?;
    }
    shut_down_in_time(server);
    for client in clients {
        client.join().map_err(|_| "a client panicked")?;
    }
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_last_checkpoint_that_fails_is_told_although_the_client_has_left() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let (told, tells) = channel();
    let listen = Listen::tcp().on_error(move |error| told.send(error.to_string()).unwrap());
    let server = Pglite::builder().path(&path).serve(&listen)?;
    let mut client = RawClient::ready(&server);
    client.send(&query("CREATE TABLE t (i int)"));
    client.until(b'Z');
    // The status of the transaction is in memory, and a checkpoint writes it there.
    std::fs::remove_dir_all(find(&path, "pg_xact"))?;
    drop(client);
    let error = tells.recv_timeout(Duration::from_secs(30))?;
    assert!(error.contains("did not shut down cleanly") && error.contains("pg_xact"), "{error}");
    // The next session does not find it either, if it has started meanwhile.
    let error = server.shutdown().unwrap_err().to_string();
    assert!(error.contains("pg_xact"), "{error}");
    Ok(())
}

/// A directory of a database, by its name.
fn find(root: &Path, name: &str) -> PathBuf {
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() == name {
                    return entry.path();
                }
                directories.push(entry.path());
            }
        }
    }
    panic!("no {name} below {}", root.display())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_shutdown_tells_that_no_session_could_start() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let (told, errors) = channel();
    let listen = Listen::tcp().on_error(move |error| told.send(error.to_string()).unwrap());
    let server = Pglite::builder().path(&path).serve(&listen)?;
    let client = connect(&server)?;
    let wal = find(&path, "pg_wal");
    let aside = directory.path().join("aside");
    std::fs::rename(&wal, &aside)?;
    client.close()?;
    assert!(connect(&server).is_err());
    assert!(connect(&server).is_err());
    let error = server.shutdown().expect_err("a shutdown without an error, though no session could start");
    assert!(error.to_string().contains("pg_wal"), "{error}");
    assert!(errors.try_iter().any(|error| error.contains("pg_wal")));

    // It is told no more when a session has started since.
    std::fs::rename(&aside, &wal)?;
    let server = PgliteServer::open(&path)?;
    let client = connect(&server)?;
    std::fs::rename(&wal, &aside)?;
    client.close()?;
    assert!(connect(&server).is_err());
    std::fs::rename(&aside, &wal)?;
    connects(&server).close()?;
    server.shutdown()?;
    Ok(())
}

/// A connection to a server whose sessions can start again. It notices that with the next client.
fn connects(server: &PgliteServer) -> Client {
    let mut refused = Vec::new();
    for _ in 0..5 {
        match connect(server) {
            Ok(client) => return client,
            Err(error) => refused.push(error.to_string()),
        }
    }
    panic!("{refused:?}")
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_callback_for_errors_that_panics_ends_nothing() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let (called, calls) = channel();
    let listen = Listen::tcp().wait_for_session(Duration::from_secs(2)).on_error(move |error| {
        called.send(()).unwrap();
        panic!("the callback's own: {error}");
    });
    let server = Pglite::builder().path(&path).serve(&listen)?;
    let client = connect(&server)?;
    let wal = find(&path, "pg_wal");
    let aside = directory.path().join("aside");
    std::fs::rename(&wal, &aside)?;
    client.close()?;
    assert!(connect(&server).is_err());
    assert!(connect(&server).is_err());
    std::fs::rename(&aside, &wal)?;
    let mut client = connects(&server);
    client.batch_execute("SELECT 1")?;
    client.close()?;
    assert!(calls.try_iter().count() > 0);
    server.shutdown()?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_server_that_cannot_listen_lets_go_of_its_database() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = Listen::tcp().port(taken.local_addr()?.port());
    assert_eq!(Pglite::builder().path(&path).serve(&listen).unwrap_err().kind(), ErrorKind::InUse);
    Pglite::open(&path)?.close()?;
    Ok(())
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_socket_has_a_lock_file_as_long_as_the_server_runs() -> Test {
    let directory = tempfile::tempdir()?;
    let listen = Listen::unix(directory.path());
    let server = Pglite::builder().serve(&listen)?;
    assert_eq!(Pglite::builder().serve(&listen).unwrap_err().kind(), ErrorKind::InUse);
    let lock = std::fs::read_to_string(directory.path().join(".s.PGSQL.5432.lock"))?;
    assert_eq!(lock.lines().next(), Some(std::process::id().to_string().as_str()));
    assert_eq!(server.socket_path(), Some(directory.path().join(".s.PGSQL.5432")));
    server.shutdown()?;
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 0);
    Pglite::builder().serve(&listen)?.shutdown()?;
    Ok(())
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn both_forms_of_a_sockets_uri_lead_to_it() -> Test {
    let directory = tempfile::Builder::new().prefix("a b%&").tempdir()?;
    let listen = Listen::unix(directory.path()).port(5433).password("p@ss&word");
    let server = Pglite::builder().user("postgres").serve(&listen)?;
    let path = directory.path().to_str().ok_or("no text")?;
    let encoded = path.replace('%', "%25").replace(' ', "%20").replace('&', "%26");
    let uri = server.connection_uri_with_host_parameter();
    assert_eq!(uri, format!("postgresql://postgres:p%40ss%26word@/postgres?host={encoded}&port=5433"));
    assert_eq!(server.addr(), None);
    for uri in [server.connection_uri(), uri] {
        assert_eq!(Client::connect(&uri, NoTls)?.query_one("SELECT 1", &[])?.get::<_, i32>(0), 1, "{uri}");
    }
    let tcp = PgliteServer::temporary()?;
    assert_eq!(tcp.addr().map(|address| (address.ip().is_loopback(), address.port())), Some((true, tcp.port())));
    assert_eq!(tcp.socket_path(), None);
    let uri = tcp.connection_uri_with_host_parameter();
    assert_eq!(uri, format!("postgresql://postgres@/postgres?host=127.0.0.1&port={}", tcp.port()));
    Client::connect(&uri, NoTls)?.batch_execute("SELECT 1")?;
    Ok(())
}
