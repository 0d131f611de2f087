//! COPY in both directions, as text and as values, with real SQL.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, Read, Write};

use pglite_oxide::types::Type;
use pglite_oxide::{
    BinaryCopyInWriter, BinaryCopyOutIter, Error, ErrorKind, Pglite, Result, SqlState, TransactionStatus,
};

const ROWS: i64 = 1_000_000;

fn open() -> Pglite {
    Pglite::temporary().expect("a temporary database opens")
}

fn count(db: &mut Pglite, sql: &str) -> i64 {
    db.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> SqlState {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{error}");
    *error.code().unwrap()
}

/// The crate's error inside one of `Read` or `Write`.
fn inner(error: std::io::Error) -> Error {
    error.downcast().unwrap()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_million_rows_in_and_out_as_text() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a bigint, b text)").unwrap();
    let mut writer = db.copy_in("COPY t FROM STDIN").unwrap();
    for number in 0..ROWS {
        writeln!(writer, "{number}\trow {number}").unwrap();
    }
    assert_eq!(writer.finish().unwrap(), ROWS as u64);
    assert_eq!(count(&mut db, "SELECT sum(a)::bigint FROM t WHERE b = 'row ' || a"), ROWS * (ROWS - 1) / 2);
    let (mut rows, mut sum) = (0, 0);
    for line in db.copy_out("COPY t TO STDOUT").unwrap().lines() {
        let line = line.unwrap();
        let (number, text) = line.split_once('\t').unwrap();
        assert_eq!(text.strip_prefix("row "), Some(number));
        rows += 1;
        sum += number.parse::<i64>().unwrap();
    }
    assert_eq!((rows, sum), (ROWS, ROWS * (ROWS - 1) / 2));
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_million_rows_in_and_out_as_values() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a bigint, b text)").unwrap();
    let types = [Type::INT8, Type::TEXT];
    let writer = db.copy_in("COPY t FROM STDIN (FORMAT binary)").unwrap();
    let mut writer = BinaryCopyInWriter::new(writer, &types);
    for number in 0..ROWS {
        writer.write(&[&number, &(number % 2 == 0).then_some("even")]).unwrap();
    }
    // A row that does not fit the types is left out; the others are copied.
    assert_eq!(writer.write(&[&1i64, &2i64]).unwrap_err().kind(), ErrorKind::ToSql);
    assert_eq!(writer.write(&[&1i64]).unwrap_err().kind(), ErrorKind::ParameterCount);
    assert_eq!(writer.finish().unwrap(), ROWS as u64);
    assert_eq!(count(&mut db, "SELECT count(*) FROM t WHERE b IS NULL"), ROWS / 2);

    let reader = db.copy_out("COPY t TO STDOUT (FORMAT binary)").unwrap();
    let mut sum = 0;
    for row in BinaryCopyOutIter::new(reader, &types) {
        let row = row.unwrap();
        let number: i64 = row.get(0);
        assert_eq!(row.get::<Option<&str>>(1), (number % 2 == 0).then_some("even"));
        sum += number;
    }
    assert_eq!(sum, ROWS * (ROWS - 1) / 2);
    let reader = db.copy_out("COPY (SELECT 1) TO STDOUT").unwrap();
    let error = BinaryCopyOutIter::new(reader, &[Type::INT4]).next().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Usage | ErrorKind::Protocol), "{error}");
    assert_eq!(count(&mut db, "SELECT 1::bigint"), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn bad_data_is_an_error_that_names_the_line_at_the_end_or_while_writing() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    // The error is found when the copy ends.
    let mut writer = db.copy_in("COPY t FROM STDIN").unwrap();
    writer.write_all(b"1\n2\nx\n4\n").unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(*error.code().unwrap(), SqlState::INVALID_TEXT_REPRESENTATION);
    assert!(error.as_db_error().unwrap().context().unwrap().contains("COPY t, line 3"), "{error:?}");
    // The error is found while data is written.
    let mut writer = db.copy_in("COPY t FROM STDIN").unwrap();
    let failed = (0..10_000_000).find_map(|row| {
        let line = if row == 100_000 { "x\n".to_string() } else { format!("{row}\n") };
        writer.write_all(line.as_bytes()).err()
    });
    let error = inner(failed.expect("writing fails before the end"));
    assert_eq!(*error.code().unwrap(), SqlState::INVALID_TEXT_REPRESENTATION);
    assert!(error.as_db_error().unwrap().context().unwrap().contains("COPY t, line 100001"), "{error:?}");
    assert!(writer.write_all(b"1\n").is_err());
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(count(&mut db, "SELECT count(*) FROM t"), 0);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_error_in_copy_fails_its_transaction_only() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").unwrap();
    let mut transaction = db.transaction().unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", &[]).unwrap();
    let mut savepoint = transaction.transaction().unwrap();
    let mut writer = savepoint.copy_in("COPY t FROM STDIN").unwrap();
    writer.write_all(b"2\n1\n").unwrap();
    assert_eq!(code(writer.finish()), SqlState::UNIQUE_VIOLATION);
    assert_eq!(savepoint.transaction_status(), TransactionStatus::Failed);
    savepoint.rollback().unwrap();
    assert_eq!(transaction.transaction_status(), TransactionStatus::InTransaction);
    let mut writer = transaction.copy_in("COPY t FROM STDIN").unwrap();
    writer.write_all(b"3\n").unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    transaction.commit().unwrap();
    assert_eq!(count(&mut db, "SELECT sum(a) FROM t"), 4);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_writer_that_is_dropped_copies_nothing() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    let mut writer = db.copy_in("COPY t FROM STDIN").unwrap();
    for number in 0..100_000 {
        writeln!(writer, "{number}").unwrap();
    }
    drop(writer);
    assert_eq!(count(&mut db, "SELECT count(*) FROM t"), 0);
    assert_eq!(db.copy_in("COPY t FROM STDIN").unwrap().finish().unwrap(), 0);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_reader_that_is_dropped_ends_its_statement() {
    let mut db = open();
    for round in 0..20 {
        let mut reader = db.copy_out("COPY (SELECT generate_series(1, 1000000000)) TO STDOUT").unwrap();
        let mut start = [0; 6];
        reader.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"1\n2\n3\n");
        drop(reader);
        // The cancel request does not affect the statement that follows.
        assert_eq!(count(&mut db, "SELECT count(*) FROM generate_series(1, 1000)"), 1000, "round {round}");
    }
    let mut small = db.copy_out("COPY (SELECT 1) TO STDOUT").unwrap();
    small.read_exact(&mut [0]).unwrap();
    drop(small);
    assert_eq!(count(&mut db, "SELECT count(*) FROM generate_series(1, 1000)"), 1000);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_error_while_reading_comes_after_what_was_read() {
    let mut db = open();
    let mut reader =
        db.copy_out("COPY (SELECT 1000 / (500000 - g) FROM generate_series(1, 600000) g) TO STDOUT").unwrap();
    let mut data = Vec::new();
    let error = inner(reader.read_to_end(&mut data).unwrap_err());
    assert_eq!(*error.code().unwrap(), SqlState::DIVISION_BY_ZERO);
    assert_eq!(data.iter().filter(|byte| **byte == b'\n').count(), 499_999);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    drop(reader);
    assert_eq!(count(&mut db, "SELECT 1::bigint"), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn statements_that_are_no_copy_are_refused() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    assert_eq!(db.copy_in("SELECT 1").map(drop).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(db.copy_out("SELECT 1").map(drop).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(db.copy_out("CREATE TABLE u ()").map(drop).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(db.copy_in("COPY t TO STDOUT").map(drop).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(db.copy_out("COPY t FROM STDIN").map(drop).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(code(db.copy_in("COPY nothing FROM STDIN").map(drop)), SqlState::UNDEFINED_TABLE);
    assert_eq!(code(db.copy_out("COPY nothing TO STDOUT").map(drop)), SqlState::UNDEFINED_TABLE);
    assert_eq!(code(db.batch_execute("COPY t FROM STDIN")), SqlState::QUERY_CANCELED);
    assert_eq!(code(db.query("COPY t FROM STDIN", &[])), SqlState::QUERY_CANCELED);
    assert_eq!(db.query("COPY t TO STDOUT", &[]).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    let copy = db.prepare("COPY t FROM STDIN").unwrap();
    let mut writer = db.copy_in(&copy).unwrap();
    writer.write_all(b"5\n").unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    assert_eq!(count(&mut db, "SELECT sum(a) FROM t"), 5);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn of_many_notices_of_a_copy_the_newest_thousand_are_kept() {
    let mut db = open();
    db.batch_execute(
        "CREATE TABLE t (a int);
         CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE NOTICE '% %', NEW.a, repeat('x', 1000); RETURN NEW; END $$;
         CREATE TRIGGER speak BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION speak()",
    )
    .unwrap();
    let mut writer = db.copy_in("COPY t FROM STDIN").unwrap();
    for number in 0..20_000 {
        writeln!(writer, "{number}").unwrap();
    }
    assert_eq!(writer.finish().unwrap(), 20_000);
    let notices = db.take_notices();
    assert_eq!(notices.len(), 1000);
    for (notice, number) in notices.iter().zip(19_000..) {
        assert!(notice.message().starts_with(&format!("{number} xxx")), "{}", notice.message());
    }
}
