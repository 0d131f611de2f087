//! `Pglite::exec_protocol_raw`: messages in, messages out, and what other methods find afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod raw_client;

use pglite_oxide::{ErrorKind, Pglite, TransactionStatus};
use raw_client::{FLUSH, Message, SYNC, TERMINATE, bind, execute, parse, query, text};

/// Takes an answer apart.
fn messages(mut answer: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = answer {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        messages.push((*tag, rest[..len].to_vec()));
        answer = &rest[len..];
    }
    assert!(answer.is_empty(), "the answer is cut off");
    messages
}

fn exec(db: &mut Pglite, parts: &[&[u8]]) -> String {
    text(&messages(&db.exec_protocol_raw(&parts.concat()).unwrap()))
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn messages_are_answered_as_over_a_connection() {
    let mut db = Pglite::temporary().unwrap();
    assert_eq!(exec(&mut db, &[&query("SELECT 1; SELECT 2")]), "T D C T D C Z");
    assert_eq!(exec(&mut db, &[&query("SELECT 1 / 0")]), "E:22012 Z");
    assert_eq!(exec(&mut db, &[&parse("SELECT $1::int"), &bind(&["7"]), &execute(), SYNC]), "1 2 D C Z");
    let answer = messages(&db.exec_protocol_raw(&query("SELECT 'x' FROM generate_series(1, 100000)")).unwrap());
    assert_eq!(answer.iter().filter(|(tag, _)| *tag == b'D').count(), 100_000);
    assert_eq!(exec(&mut db, &[]), "");

    // An extended query over several calls, with an error in between.
    assert_eq!(exec(&mut db, &[&parse("SELECT 1 / (pg_backend_pid() * 0 + $1::int)"), FLUSH]), "1");
    assert_eq!(exec(&mut db, &[&bind(&["0"]), &execute(), FLUSH]), "2 E:22012");
    assert_eq!(exec(&mut db, &[&bind(&["1"]), &execute()]), "");
    assert_eq!(exec(&mut db, &[SYNC]), "Z");

    // COPY, with its data.
    let (data, done) = (raw_client::message(b'd', b"1\n2\n"), raw_client::message(b'c', b""));
    db.batch_execute("CREATE TABLE t (id int)").unwrap();
    assert_eq!(exec(&mut db, &[&query("COPY t FROM STDIN"), &data, &done]), "G C Z");
    assert_eq!(exec(&mut db, &[&query("COPY t TO STDOUT")]), "H d d c C Z");
    assert!(exec(&mut db, &[&query("COPY t FROM STDIN")]).starts_with("G E:57014"));
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 2);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn other_methods_find_the_session_as_it_was_left() {
    let mut db = Pglite::temporary().unwrap();
    let statement = db.prepare("SELECT 41 + $1::int").unwrap();
    assert_eq!(exec(&mut db, &[&query("BEGIN; SET LOCAL work_mem = '1MB'")]), "C C Z");
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    assert_eq!(exec(&mut db, &[&query("SELECT 1 / 0")]), "E:22012 Z");
    assert_eq!(db.transaction_status(), TransactionStatus::Failed);
    db.batch_execute("ROLLBACK").unwrap();
    // An extended query that has had no Sync ends when another method is called.
    assert_eq!(exec(&mut db, &[&parse("CREATE TABLE t ()"), &bind(&[]), &execute(), FLUSH]), "1 2 C");
    assert_eq!(db.query_one(&statement, &[&1i32]).unwrap().get::<_, i32>(0), 42);
    assert_eq!(exec(&mut db, &[&parse("SELECT"), &bind(&["x"]), FLUSH]), "1 E:08P01");
    db.batch_execute("TABLE t").unwrap();
    // Statements that were dropped are closed, and that is not in the answer.
    drop(statement);
    assert_eq!(
        exec(&mut db, &[&query("LISTEN news; NOTIFY news, 'first'; DO $$ BEGIN RAISE NOTICE 'n'; END $$")]),
        "C C N C A Z"
    );
    assert_eq!(db.take_notices().len(), 1);
    assert_eq!(exec(&mut db, &[&query("SELECT FROM pg_prepared_statements")]), "T C Z");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_cannot_be_sent_is_refused_before_anything_is() {
    let mut db = Pglite::temporary().unwrap();
    let create = query("CREATE TABLE t ()");
    for bad in [TERMINATE, b"Q\0\0\0", b"Q\0\0\0\x10SELECT", b"F\0\0\0\x04", b"S\0\0\0\x00"] {
        let error = db.exec_protocol_raw(&[&create[..], bad].concat()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    db.batch_execute("CREATE TABLE t ()").unwrap();
    let ended = db.exec_protocol_raw(&query("SELECT pg_terminate_backend(pg_backend_pid())")).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Closed);
    assert_eq!(db.exec_protocol_raw(SYNC).unwrap_err().kind(), ErrorKind::Closed);
}
