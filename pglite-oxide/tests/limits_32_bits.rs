//! Sizes that do not fit into 32 bits: each must be an error of its statement, not a small
//! allocation that is written past its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pglite_oxide::Pglite;

type Test = Result<(), Box<dyn std::error::Error>>;

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_query_with_too_many_operands_is_not_ranked() -> Test {
    let mut db = Pglite::temporary()?;
    // 65,536 operands and 65,535 operators: 131,071 items of 32,776 bytes are 1,015,800 bytes more
    // than 2^32.
    let rank = |levels: u32| {
        format!(
            "WITH RECURSIVE q(level, query) AS (
                 SELECT 0, 'a' UNION ALL SELECT level + 1, '(' || query || '&' || query || ')' FROM q WHERE level < {levels}
             ) SELECT ts_rank_cd('a:1'::tsvector, query::tsquery) FROM q WHERE level = {levels}"
        )
    };
    let error = db.query_one(&rank(16), &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "54000", "{error}");
    assert!(db.query_one(&rank(8), &[])?.get::<_, f32>(0) >= 0.0);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn too_many_percentiles_are_an_error() -> Test {
    let mut db = Pglite::temporary()?;
    let percentiles = |function: &str, count: u32| {
        format!(
            "SELECT {function}(array_fill(NULL::float8, ARRAY[{count}])) WITHIN GROUP (ORDER BY a::float8)
             FROM generate_series(1, 3) a"
        )
    };
    for function in ["percentile_cont", "percentile_disc"] {
        // Of 32 bytes each, 2^27 are 2^32 bytes.
        let error = db.batch_execute(&percentiles(function, 1 << 27)).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "54000", "{error}");
        db.batch_execute(&percentiles(function, 3))?;
    }
    Ok(())
}
