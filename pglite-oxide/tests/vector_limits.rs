//! pgvector at its limits: builds of indexes that need more memory than there is, and
//! half-precision numbers of every kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pglite_oxide::Pglite;

fn database() -> Pglite {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE EXTENSION vector").unwrap();
    db
}

fn refused(db: &mut Pglite, sql: &str, message: &str) {
    let error = db.batch_execute(sql).expect_err(sql);
    assert_eq!(error.code().unwrap_or_else(|| panic!("{sql}: {error}")).code(), "54000", "{sql}: {error}");
    assert!(error.to_string().contains(message), "{sql}: {error}");
    assert_eq!(db.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
}

/// The largest number of lists and as many rows make two sizes multiples of 2^32.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_ivfflat_build_of_four_gigabytes_is_refused() {
    let mut db = database();
    db.batch_execute(
        "CREATE TABLE t (v vector(1));
         INSERT INTO t SELECT ARRAY[i]::vector FROM generate_series(1, 32768) i",
    )
    .unwrap();
    let index = "CREATE INDEX ON t USING ivfflat (v vector_l2_ops) WITH (lists = 32768)";
    refused(&mut db, index, "memory required is 82");
    refused(&mut db, index, "maintenance_work_mem is 64 MB");
    // A build that fits goes on as before.
    db.batch_execute("CREATE INDEX ON t USING ivfflat (v vector_l2_ops) WITH (lists = 10)").unwrap();
}

/// Fifty samples for each list, of 2,632 bytes each, are a little more than 2^32 bytes.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn samples_of_an_ivfflat_build_that_cannot_be_allocated_are_refused() {
    let mut db = database();
    db.batch_execute(
        "CREATE TABLE t (v vector(656));
         INSERT INTO t SELECT array_fill(i, ARRAY[656])::vector FROM generate_series(1, 10) i",
    )
    .unwrap();
    refused(
        &mut db,
        "CREATE INDEX ON t USING ivfflat (v vector_l2_ops) WITH (lists = 32768)",
        "memory required is 4113 MB, which is more than can be allocated",
    );
}

/// Every finite half-precision number that is not negative, exactly.
fn halves() -> Vec<f32> {
    let subnormal = (0..1024).map(|m| m as f32 * 2f32.powi(-24));
    let normal = (1..31).flat_map(|e| (0..1024).map(move |m| (1024 + m) as f32 * 2f32.powi(e - 25)));
    subnormal.chain(normal).collect()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn half_precision_numbers_convert_exactly() {
    let mut db = database();
    let halves = halves();
    assert_eq!(halves.len(), 31 * 1024);
    for sign in [1f32, -1f32] {
        for chunk in halves.chunks(1024) {
            let chunk: Vec<f32> = chunk.iter().map(|x| sign * x).collect();
            let row = db.query_one("SELECT ($1::float4[]::halfvec)::vector::float4[]", &[&chunk]).unwrap();
            let found: Vec<f32> = row.get(0);
            assert_eq!(found, chunk);
        }
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn distances_of_half_precision_vectors_are_those_of_single_precision() {
    let mut db = database();
    // Numbers whose squares are in range, subnormal ones among them.
    db.batch_execute(
        "CREATE TABLE t AS
         SELECT g AS id, array_agg((0.5 - random()) * 10 ^ (-(d % 6)) ORDER BY d)::halfvec AS v
         FROM generate_series(1, 40) g, generate_series(1, 771) d GROUP BY g",
    )
    .unwrap();
    for operator in ["<->", "<#>", "<=>", "<+>"] {
        let sql = format!(
            "SELECT max(abs((a.v {operator} b.v) - (a.v::vector {operator} b.v::vector))
                 / (1 + abs(a.v::vector {operator} b.v::vector)))
             FROM t a, t b"
        );
        let largest: f64 = db.query_one(&sql, &[]).unwrap().get(0);
        assert!(largest < 1e-4, "{operator}: {largest}");
    }
}

/// Short arrays are added up by the module, longer ones by the host; both are what SQL computes.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn distances_are_those_that_sql_computes() {
    let mut db = database();
    for dimensions in [1, 3, 31, 32, 33, 40, 63, 64, 65, 768, 1999] {
        db.batch_execute(&format!(
            "DROP TABLE IF EXISTS t;
             CREATE TABLE t AS
             SELECT g AS id, array_agg((random() - 0.5)::float4 ORDER BY d) AS v
             FROM generate_series(1, 5) g, generate_series(1, {dimensions}) d GROUP BY g"
        ))
        .unwrap();
        for (operator, sum) in [
            ("<->", "sqrt(sum((x - y) ^ 2))"),
            ("<#>", "-sum(x * y)"),
            ("<=>", "1 - sum(x * y) / sqrt(sum(x * x) * sum(y * y))"),
            ("<+>", "sum(abs(x - y))"),
        ] {
            for numbers in ["vector", "halfvec"] {
                let sql = format!(
                    "SELECT max(abs(found - computed) / (1 + abs(computed)))
                     FROM t a, t b,
                     LATERAL (SELECT a.v::{numbers} {operator} b.v::{numbers} AS found) AS f,
                     LATERAL (
                         SELECT {sum} AS computed
                         FROM unnest(a.v::{numbers}::vector::float4[]::float8[],
                                     b.v::{numbers}::vector::float4[]::float8[]) AS n (x, y)
                     ) AS c"
                );
                let largest: f64 = db.query_one(&sql, &[]).unwrap().get(0);
                assert!(largest < 1e-5, "{numbers} {operator} {dimensions}: {largest}");
            }
        }
    }
}
