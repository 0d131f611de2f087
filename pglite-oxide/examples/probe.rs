//! Scratch.
use pglite_oxide::Pglite;
use std::time::Instant;
fn rss() -> u64 {
    std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
fn main() {
    let what = std::env::args().nth(1).unwrap();
    match what.as_str() {
        "loop" => {
            for i in 0..300 {
                let t = Instant::now();
                let mut db = Pglite::temporary().unwrap();
                let o = t.elapsed();
                db.exec("CREATE TABLE t(a int); INSERT INTO t VALUES (1)").unwrap();
                let c = Instant::now();
                db.close().unwrap();
                if i % 25 == 0 {
                    println!(
                        "{i} rss {} kB threads {} fds {} open {o:?} close {:?} maps {}",
                        rss(),
                        threads(),
                        fds(),
                        c.elapsed(),
                        std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
                    );
                }
            }
        }
        "wal" => {
            let mut db = Pglite::temporary().unwrap();
            db.exec("CREATE TABLE t(a int, b text)").unwrap();
            for i in 0..10 {
                let t = Instant::now();
                db.exec("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 130000) g").unwrap();
                let r = db.query("SELECT count(*), sum(size), (SELECT count(*) FROM pg_stat_user_tables WHERE last_autoanalyze IS NOT NULL), (select num_requested from pg_stat_checkpointer) FROM pg_ls_waldir()").unwrap();
                println!("{i} {:?} {:?} rss {}", t.elapsed(), r.rows[0], rss());
            }
        }
        "bloat" => {
            let mut db = Pglite::temporary().unwrap();
            db.exec(
                "CREATE TABLE t(a int primary key, b int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g",
            )
            .unwrap();
            for i in 0..60 {
                let t = Instant::now();
                db.exec("UPDATE t SET b = b + 1").unwrap();
                let e = t.elapsed();
                if i % 5 == 0 {
                    let r = db.query("SELECT pg_relation_size('t'), pg_relation_size('t_pkey'), autovacuum_count, autoanalyze_count, n_dead_tup FROM pg_stat_user_tables").unwrap();
                    println!("{i} {e:?} {:?}", r.rows[0]);
                }
            }
        }
        "depth" => {
            let mut db = Pglite::temporary().unwrap();
            db.exec("CREATE FUNCTION down(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN IF i = 0 THEN RETURN 0; END IF; RETURN down(i - 1); END'").unwrap();
            let (mut lo, mut hi) = (1, 1_000_000);
            while lo + 1 < hi {
                let mid = (lo + hi) / 2;
                if db.query(&format!("SELECT down({mid})")).is_ok() { lo = mid } else { hi = mid }
            }
            println!("depth {lo}");
        }
        "rt" => {
            let mut db = Pglite::temporary().unwrap();
            for _ in 0..3 {
                let t = Instant::now();
                for _ in 0..20000 {
                    db.query("SELECT 1").unwrap();
                }
                println!("{:?}", t.elapsed() / 20000);
            }
            let t = Instant::now();
            for _ in 0..2000 {
                db.query("SELECT 1/0").unwrap_err();
            }
            println!("error {:?}", t.elapsed() / 2000);
        }
        _ => panic!(),
    }
}
