//! The direct API with real SQL: statements, rows, transactions, portals, notices and errors.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pglite_oxide::types::{Kind, Type};
use pglite_oxide::{
    ErrorKind, ErrorPosition, GenericClient, IsolationLevel, Pglite, Result, Row, SimpleQueryMessage, SqlState, ToSql,
    TransactionStatus,
};

fn open() -> Pglite {
    Pglite::temporary().expect("a temporary database opens")
}

fn count(db: &mut impl GenericClient, sql: &str) -> i64 {
    db.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> SqlState {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{error}");
    *error.code().unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn parameters_and_rows() {
    let mut db = open();
    db.batch_execute("CREATE TABLE person (id serial PRIMARY KEY, name text NOT NULL, data bytea)").unwrap();
    let insert = "INSERT INTO person (name, data) VALUES ($1, $2)";
    assert_eq!(db.execute(insert, &[&"Ada", &None::<Vec<u8>>]).unwrap(), 1);
    assert_eq!(db.execute(insert, &[&"Grace", &Some(&b"\0\xff"[..])]).unwrap(), 1);
    let rows = db.query("SELECT * FROM person WHERE id > $1 ORDER BY id", &[&0i32]).unwrap();
    let values: Vec<(i32, &str, Option<&[u8]>)> =
        rows.iter().map(|row| (row.get("id"), row.get("NAME"), row.get(2))).collect();
    assert_eq!(values, [(1, "Ada", None), (2, "Grace", Some(&b"\0\xff"[..]))]);
    let row = &rows[0];
    assert_eq!((row.len(), row.is_empty(), row.columns()[1].type_()), (3, false, &Type::TEXT));
    assert_eq!((row.columns()[0].table_oid().is_some(), row.columns()[1].column_id()), (true, Some(2)));
    assert_eq!((row.raw_value(1), row.raw_value(2), row.raw_value(3)), (Some(&b"Ada"[..]), None, None));
    assert_eq!(db.execute("UPDATE person SET name = name || '!'", &[]).unwrap(), 2);
    assert_eq!(db.execute("CREATE TABLE other ()", &[]).unwrap(), 0);
    assert_eq!(db.execute("", &[]).unwrap(), 0);
    assert!(db.query("", &[]).unwrap().is_empty());
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn one_row_or_none() {
    let mut db = open();
    let rows = "SELECT g FROM generate_series(1, $1) g";
    assert_eq!(db.query_one(rows, &[&1i32]).unwrap().get::<_, i32>(0), 1);
    assert_eq!(kind(db.query_one(rows, &[&0i32])), ErrorKind::RowCount);
    assert_eq!(kind(db.query_one(rows, &[&2i32])), ErrorKind::RowCount);
    assert!(db.query_opt(rows, &[&0i32]).unwrap().is_none());
    assert_eq!(kind(db.query_opt(rows, &[&10i32])), ErrorKind::RowCount);
    assert_eq!(count(&mut db, "SELECT 7::bigint"), 7);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn values_that_do_not_fit_are_errors_that_name_the_place() {
    let mut db = open();
    let row = db.query_one("SELECT 1 AS one, NULL::int AS nothing", &[]).unwrap();
    let error = row.try_get::<_, &str>(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FromSql);
    assert!(error.to_string().contains("column 0 (\"one\") of type int4"), "{error}");
    assert_eq!(kind(row.try_get::<_, i32>("nothing")), ErrorKind::FromSql);
    assert_eq!(row.try_get::<_, Option<i32>>("nothing").unwrap(), None);
    let error = row.try_get::<_, i32>("two").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ColumnNotFound);
    assert!(error.to_string().contains("column two") && error.to_string().contains("one, nothing"), "{error}");
    assert_eq!(kind(row.try_get::<_, i32>(2)), ErrorKind::ColumnNotFound);

    let error = db.query("SELECT $1::int + $2::int", &[&1i32, &"2"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ToSql);
    assert!(error.to_string().contains("parameter $2 of type int4"), "{error}");
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    for wrong in
        [db.query("SELECT $1::int", &[]), db.query("SELECT 1", &[&1i32]), db.query("SELECT $1::int", &[&1i32, &2i32])]
    {
        assert_eq!(kind(wrong), ErrorKind::ParameterCount);
    }
    let statement = db.prepare("SELECT $1::int").unwrap();
    assert_eq!(kind(db.query(&statement, &[])), ErrorKind::ParameterCount);
    assert_eq!(kind(db.query(&statement, &[&"x"])), ErrorKind::ToSql);
    assert_eq!(kind(db.query("SELECT\0", &[])), ErrorKind::Usage);
    assert_eq!(db.query_one(&statement, &[&3i32]).unwrap().get::<_, i32>(0), 3);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn statements_are_prepared_described_and_closed() {
    let mut db = open();
    let statement = db.prepare("SELECT $1::int8 + 1 AS next, $2::text AS t").unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT]);
    let columns: Vec<_> = statement.columns().iter().map(|column| (column.name(), column.type_().clone())).collect();
    assert_eq!(columns, [("next", Type::INT8), ("t", Type::TEXT)]);
    for number in 0..100i64 {
        let row = db.query_one(&statement, &[&number, &"x"]).unwrap();
        assert_eq!((row.get::<_, i64>("next"), row.get::<_, &str>("t")), (number + 1, "x"));
    }
    let open = "SELECT count(*) FROM pg_prepared_statements";
    assert_eq!(count(&mut db, open), 1);
    let clone = statement.clone();
    drop(statement);
    assert_eq!(count(&mut db, open), 1);
    drop(clone);
    assert_eq!(count(&mut db, open), 0);

    let typed = db.prepare_typed("SELECT $1 || $2", &[Type::TEXT, Type::TEXT]).unwrap();
    assert_eq!(typed.params(), [Type::TEXT, Type::TEXT]);
    let described = db.describe("SELECT $1::uuid, now() AS at").unwrap();
    assert_eq!((described.params(), described.columns()[1].type_()), (&[Type::UUID][..], &Type::TIMESTAMPTZ));
    assert!(db.describe("CREATE TABLE never ()").unwrap().columns().is_empty());
    assert_eq!(code(db.prepare("SELECT nothing")), SqlState::UNDEFINED_COLUMN);
    let rows = db.query_typed("SELECT $1 + $2 AS sum", &[(&1i32, Type::INT4), (&2i64, Type::INT8)]).unwrap();
    assert_eq!(rows[0].get::<_, i64>("sum"), 3);

    let mut other = self::open();
    assert_eq!(kind(other.query(&typed, &[&"a", &"b"])), ErrorKind::Usage);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_transaction_commits_or_rolls_back() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    let mut transaction = db.transaction().unwrap();
    transaction.execute("INSERT INTO t VALUES ($1)", &[&1i32]).unwrap();
    assert_eq!(transaction.transaction_status(), TransactionStatus::InTransaction);
    transaction.commit().unwrap();
    let mut dropped = db.transaction().unwrap();
    dropped.execute("INSERT INTO t VALUES (2)", &[]).unwrap();
    drop(dropped);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    let mut undone = db.transaction().unwrap();
    undone.execute("INSERT INTO t VALUES (3)", &[]).unwrap();
    undone.rollback().unwrap();
    assert_eq!(count(&mut db, "SELECT sum(a) FROM t"), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn savepoints_nest() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    let mut transaction = db.transaction().unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", &[]).unwrap();
    {
        let mut inner = transaction.savepoint("a \"name\"").unwrap();
        inner.execute("INSERT INTO t VALUES (10)", &[]).unwrap();
        let mut innermost = inner.transaction().unwrap();
        innermost.execute("INSERT INTO t VALUES (100)", &[]).unwrap();
        innermost.rollback().unwrap();
        inner.commit().unwrap();
    }
    {
        let mut failing = transaction.transaction().unwrap();
        failing.execute("INSERT INTO t VALUES (1000)", &[]).unwrap();
        assert_eq!(code(failing.execute("SELECT 1/0", &[])), SqlState::DIVISION_BY_ZERO);
        assert_eq!(failing.transaction_status(), TransactionStatus::Failed);
        assert_eq!(code(failing.query("SELECT 1", &[])), SqlState::IN_FAILED_SQL_TRANSACTION);
        // It cannot be released; the transaction around it goes on.
        assert_eq!(code(failing.commit()), SqlState::IN_FAILED_SQL_TRANSACTION);
    }
    assert_eq!(transaction.transaction_status(), TransactionStatus::InTransaction);
    // A function that takes a database works in a transaction, and its own transaction is a
    // savepoint then.
    fn add(db: &mut impl GenericClient, value: i32) -> Result<()> {
        let mut transaction = db.transaction()?;
        transaction.execute("INSERT INTO t VALUES ($1)", &[&value])?;
        transaction.commit()
    }
    add(&mut transaction, 10_000).unwrap();
    transaction.commit().unwrap();
    assert_eq!(count(&mut db, "SELECT sum(a) FROM t"), 10_011);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn transactions_have_characteristics() {
    let mut db = open();
    fn show(db: &mut impl GenericClient, what: &str) -> String {
        db.query_one(&format!("SHOW transaction_{what}"), &[]).unwrap().get(0)
    }
    let builder = db.build_transaction().isolation_level(IsolationLevel::Serializable).read_only(true).deferrable(true);
    let mut transaction = builder.start().unwrap();
    let settings = ["isolation", "read_only", "deferrable"].map(|what| show(&mut transaction, what));
    assert_eq!(settings, ["serializable", "on", "on"]);
    assert_eq!(code(transaction.execute("CREATE TABLE t ()", &[])), SqlState::READ_ONLY_SQL_TRANSACTION);
    drop(transaction);
    db.batch_execute("BEGIN").unwrap();
    assert_eq!(kind(db.build_transaction().start().map(drop)), ErrorKind::Usage);
    db.batch_execute("ROLLBACK").unwrap();
    let mut plain = db.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().unwrap();
    assert_eq!(show(&mut plain, "isolation"), "repeatable read");
    drop(plain);
    assert_eq!(show(&mut db, "isolation"), "read committed");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_failing_commit_is_an_error() {
    let mut db = open();
    let sql = "CREATE TABLE parent (id int PRIMARY KEY);
               CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)";
    db.batch_execute(sql).unwrap();
    let mut transaction = db.transaction().unwrap();
    transaction.execute("INSERT INTO child VALUES (1)", &[]).unwrap();
    assert_eq!(code(transaction.commit()), SqlState::FOREIGN_KEY_VIOLATION);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    // Without a transaction block the check comes at the end of the statement.
    assert_eq!(code(db.execute("INSERT INTO child VALUES ($1)", &[&1i32])), SqlState::FOREIGN_KEY_VIOLATION);
    let mut failed = db.transaction().unwrap();
    failed.execute("INSERT INTO parent VALUES (1)", &[]).unwrap();
    assert_eq!(code(failed.query("SELECT 1/0", &[])), SqlState::DIVISION_BY_ZERO);
    assert_eq!(kind(failed.commit()), ErrorKind::RolledBack);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(count(&mut db, "SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)"), 0);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_panic_in_a_transaction_rolls_back() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut transaction = db.transaction().unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", &[]).unwrap();
        let mut inner = transaction.transaction().unwrap();
        let mut rows = inner.query_raw("SELECT generate_series(1, 1000000)", [0i32; 0]).unwrap();
        assert_eq!(rows.next().unwrap().unwrap().get::<_, i32>(0), 2, "this panics");
    }));
    assert!(panic.is_err());
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(count(&mut db, "SELECT count(*) FROM t"), 0);
}

#[derive(Debug)]
struct Panics;

impl ToSql for Panics {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut pglite_oxide::types::private::BytesMut,
    ) -> Result<pglite_oxide::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        panic!("while a value is written")
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    pglite_oxide::types::to_sql_checked!();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_panic_in_the_callers_code_leaves_the_session_usable() {
    let mut db = open();
    let statement = db.prepare("SELECT $1::int").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| db.query(&statement, &[&Panics]))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| db.query("SELECT $1::int", &[&Panics]))).is_err());
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(count(&mut db, "SELECT 1::bigint"), 1);
    db.on_notice(|notice| panic!("{}", notice.message()));
    let notice = "DO $$ BEGIN RAISE NOTICE 'first'; END $$; SELECT 2";
    assert!(catch_unwind(AssertUnwindSafe(|| db.batch_execute(notice))).is_err());
    assert_eq!(count(&mut db, "SELECT 3::bigint"), 3);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn forgotten_values_do_not_block_the_session() {
    let mut db = open();
    let mut rows = db.query_raw("SELECT generate_series(1, 1000000)", [0i32; 0]).unwrap();
    assert!(rows.next().unwrap().is_ok());
    std::mem::forget(rows);
    assert_eq!(count(&mut db, "SELECT 1::bigint"), 1);
    std::mem::forget(db.copy_out("COPY (SELECT generate_series(1, 1000000)) TO STDOUT").unwrap());
    assert_eq!(count(&mut db, "SELECT 2::bigint"), 2);
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    std::mem::forget(db.copy_in("COPY t FROM STDIN").unwrap());
    assert_eq!(count(&mut db, "SELECT count(*) FROM t"), 0);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn errors_say_where_they_are() {
    let mut db = open();
    let sql = "CREATE TABLE guarded (a int);
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN EXECUTE 'SELECT ' || NEW.a || ' + nonsense'; RETURN NEW; END $$;
        CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION guard()";
    db.batch_execute(sql).unwrap();
    let mut transaction = db.transaction().unwrap();
    let mut savepoint = transaction.savepoint("s").unwrap();
    let error = savepoint.execute("INSERT INTO guarded VALUES (1)", &[]).unwrap_err();
    assert_eq!(*error.code().unwrap(), SqlState::UNDEFINED_COLUMN);
    let details = error.as_db_error().unwrap();
    let internal = ErrorPosition::Internal { position: 12, query: "SELECT 1 + nonsense".to_string() };
    assert_eq!(details.position(), Some(&internal));
    assert!(details.context().unwrap().contains("guard()"), "{details:?}");
    assert_eq!(savepoint.transaction_status(), TransactionStatus::Failed);
    savepoint.rollback().unwrap();
    assert_eq!(transaction.transaction_status(), TransactionStatus::InTransaction);
    transaction.commit().unwrap();
    let error = db.query("SELECT zzz", &[]).unwrap_err();
    assert_eq!(error.as_db_error().unwrap().position(), Some(&ErrorPosition::Original(8)));
    assert_eq!(error.as_db_error().unwrap().severity(), "ERROR");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn rows_stream_in_portions() {
    let mut db = open();
    let mut rows = db.query_raw("SELECT g, repeat('x', 50) FROM generate_series(1, $1) g", [200_000i32]).unwrap();
    assert_eq!(rows.columns()[0].type_(), &Type::INT4);
    let mut sum = 0;
    for row in &mut rows {
        sum += i64::from(row.unwrap().get::<_, i32>(0));
    }
    assert_eq!((sum, rows.next().is_none()), (200_000 * 200_001 / 2, true));
    drop(rows);
    let statement = db.prepare("SELECT 10 / (5 - g) FROM generate_series(1, $1) g").unwrap();
    let mut rows = db.query_raw(&statement, [10i32]).unwrap();
    rows.set_fetch_size(1);
    // An error in the first portion of rows is returned at once.
    assert_eq!(rows.columns().len(), 1);
    drop(rows);
    let mut late = db.query_raw("SELECT 10 / (500 - g) FROM generate_series(1, 1000) g", [0i32; 0]).unwrap();
    late.set_fetch_size(100);
    let good = late.by_ref().take_while(|row| row.is_ok()).count();
    assert_eq!((good, late.next().is_none()), (499, true));
    drop(late);
    // Dropped before its end, in a transaction, and followed by a statement.
    let mut transaction = db.transaction().unwrap();
    drop(transaction.query_raw("SELECT generate_series(1, 1000000)", [0i32; 0]).unwrap().next());
    assert_eq!(count(&mut transaction, "SELECT 1::bigint"), 1);
    transaction.commit().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn portals_give_rows_in_portions() {
    let mut db = open();
    let mut transaction = db.transaction().unwrap();
    let portal = transaction.bind("SELECT g FROM generate_series(1, $1) g", &[&10i32]).unwrap();
    let other = transaction.bind("SELECT 'x'", &[]).unwrap();
    let mut numbers = |rows| -> Vec<i32> {
        let rows: Vec<Row> = transaction.query_portal(&portal, rows).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        (numbers(3), numbers(3), numbers(0), numbers(0)),
        (vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9, 10], vec![])
    );
    assert_eq!(transaction.query_portal(&other, 0).unwrap()[0].get::<_, &str>(0), "x");
    drop(portal);
    drop(other);
    assert_eq!(count(&mut transaction, "SELECT count(*) FROM pg_cursors WHERE name <> ''"), 0);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn simple_queries_return_text() {
    let mut db = open();
    let answer = db.simple_query("SELECT 1 AS one, NULL; INSERT INTO nothing VALUES (1)");
    assert_eq!(code(answer), SqlState::UNDEFINED_TABLE);
    let answer = db.simple_query("SELECT 1.50 AS n, NULL AS m; ; SELECT 'x' WHERE false").unwrap();
    let [description, row, one, SimpleQueryMessage::RowDescription(_), none] = &answer[..] else {
        panic!("{answer:?}")
    };
    assert!(matches!(description, SimpleQueryMessage::RowDescription(columns) if columns[1].name() == "m"));
    let SimpleQueryMessage::Row(row) = row else { panic!("{row:?}") };
    assert_eq!(
        (row.get(0), row.get(1), row.try_get(2).unwrap_err().kind()),
        (Some("1.50"), None, ErrorKind::ColumnNotFound)
    );
    assert!(matches!((one, none), (SimpleQueryMessage::CommandComplete(1), SimpleQueryMessage::CommandComplete(0))));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn notices_are_kept_or_handed_over() {
    let mut db = open();
    let raise = "DO $$ BEGIN RAISE WARNING 'one %', 1 USING HINT = 'a hint'; END $$";
    db.batch_execute(raise).unwrap();
    let notices = db.take_notices();
    assert_eq!((notices[0].severity(), notices[0].message(), notices[0].hint()), ("WARNING", "one 1", Some("a hint")));
    let (sender, receiver) = mpsc::channel();
    db.on_notice(move |notice| sender.send(notice).unwrap());
    db.execute(raise, &[]).unwrap();
    assert_eq!(receiver.try_iter().count(), 1);
    assert!(db.take_notices().is_empty());
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn notifications_are_queued_and_waits_for_them_time_out_or_are_cancelled() {
    let mut db = open();
    db.batch_execute("LISTEN news; NOTIFY news, 'first'").unwrap();
    db.execute("SELECT pg_notify('news', $1)", &[&"second"]).unwrap();
    let mut notifications = db.notifications();
    assert_eq!(notifications.len(), 2);
    let payloads: Vec<String> = notifications.iter().map(|next| next.unwrap().payload().to_string()).collect();
    assert_eq!(payloads, ["first", "second"]);
    assert!(notifications.is_empty());
    assert!(notifications.timeout_iter(Duration::from_millis(50)).next().is_none());
    db.batch_execute("NOTIFY news").unwrap();
    let cancel = db.cancel_token();
    let mut notifications = db.notifications();
    let mut blocking = notifications.blocking_iter();
    assert_eq!(blocking.next().unwrap().unwrap().channel(), "news");
    // A request that comes before the wait cancels nothing: they are repeated until the wait ends.
    let ended = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                cancel.cancel();
                thread::yield_now();
            }
        });
        let last = blocking.next();
        ended.store(true, Ordering::SeqCst);
        last
    });
    assert_eq!(kind(last.unwrap()), ErrorKind::Cancelled);
    assert_eq!(count(&mut db, "SELECT 1::bigint"), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_session_that_was_ended_says_why() {
    let mut db = open();
    db.is_valid().unwrap();
    let error = db.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Closed, Some(&SqlState::ADMIN_SHUTDOWN)));
    assert!(db.is_closed());
    assert_eq!(kind(db.is_valid()), ErrorKind::Closed);
    assert_eq!(kind(db.transaction().map(drop)), ErrorKind::Closed);
    assert_eq!(kind(db.copy_in("COPY t FROM STDIN").map(drop)), ErrorKind::Closed);
    assert_eq!(kind(db.notifications().iter().next().unwrap()), ErrorKind::Closed);
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn types_that_are_not_built_in_are_looked_up() {
    let mut db = open();
    db.batch_execute(
        "CREATE EXTENSION vector;
         CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE TYPE pair AS (first int, moods mood[]);
         CREATE TYPE span AS RANGE (subtype = positive);
         CREATE TABLE mine (m mood, p positive, c pair, s span, ms span_multirange, v vector(3), cs pair[])",
    )
    .unwrap();
    let described = db.describe("SELECT * FROM mine").unwrap();
    let types: Vec<&Type> = described.columns().iter().map(|column| column.type_()).collect();
    let names: Vec<&str> = types.iter().map(|type_| type_.name()).collect();
    assert_eq!(names, ["mood", "int4", "pair", "span", "span_multirange", "vector", "_pair"]);
    assert_eq!(*types[0].kind(), Kind::Enum(vec!["sad".to_string(), "ok".to_string()]));
    let Kind::Composite(fields) = types[2].kind() else { panic!("{:?}", types[2]) };
    assert!(matches!(fields[1].type_().kind(), Kind::Array(mood) if mood == types[0]));
    let Kind::Range(positive) = types[3].kind() else { panic!("{:?}", types[3]) };
    assert!(matches!(positive.kind(), Kind::Domain(base) if *base == Type::INT4));
    assert!(matches!(types[4].kind(), Kind::Multirange(element) if element == positive));
    assert!(matches!(types[6].kind(), Kind::Array(pair) if pair == types[2]));
    // A type changes after it was cached.
    db.batch_execute("ALTER TYPE mood ADD VALUE 'happy'").unwrap();
    let described = db.describe("SELECT $1::mood").unwrap();
    assert!(matches!(described.params()[0].kind(), Kind::Enum(labels) if labels.len() == 3));
    // In a statement that was not prepared, with values.
    let row = db.query_one("SELECT $1::int::positive AS p, 'ok'::mood AS m", &[&5i32]).unwrap();
    assert_eq!((row.get::<_, i32>("p"), row.columns()[1].type_().name()), (5, "mood"));
    let row = db.query_one("SELECT 'sad'::mood", &[]).unwrap();
    assert_eq!(row.columns()[0].type_().name(), "mood");
    // A domain over 199 other domains.
    let mut sql = "CREATE DOMAIN d0 AS int;".to_string();
    (1..200).for_each(|n| sql += &format!("CREATE DOMAIN d{n} AS d{};", n - 1));
    db.batch_execute(&sql).unwrap();
    db.batch_execute("CREATE TYPE holder AS (deep d199)").unwrap();
    assert_eq!(db.describe("SELECT NULL::holder").unwrap().columns()[0].type_().name(), "holder");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn up_to_65535_parameters() {
    let mut db = open();
    for number in [32_767usize, 65_535] {
        let places: Vec<String> = (1..=number).map(|place| format!("${place}::int")).collect();
        let sql = format!("SELECT sum(v) FROM unnest(ARRAY[{}]) v", places.join(","));
        let params: Vec<&(dyn ToSql + Sync)> = vec![&1i32; number];
        assert_eq!(db.query_one(&sql, &params).unwrap().get::<_, i64>(0), number as i64);
    }
    let params: Vec<&(dyn ToSql + Sync)> = vec![&1i32; 65_536];
    assert_eq!(kind(db.query("SELECT 1", &params)), ErrorKind::ParameterCount);
    assert_eq!(count(&mut db, "SELECT 1::bigint"), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_value_of_200_mb_goes_in_and_out() {
    let mut db = open();
    let value: Vec<u8> = (0..200_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let row = db.query_one("SELECT $1::bytea, length($1::bytea)", &[&value]).unwrap();
    assert_eq!(row.get::<_, i32>(1), 200_000_000);
    assert!(row.get::<_, &[u8]>(0) == value);
    drop(row);
    db.batch_execute("CREATE TABLE large (v bytea)").unwrap();
    db.execute("INSERT INTO large VALUES ($1)", &[&value]).unwrap();
    assert!(db.query_one("SELECT v FROM large", &[]).unwrap().get::<_, &[u8]>(0) == value);
}
