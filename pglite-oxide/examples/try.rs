use pglite_oxide::pipeline::*;
use std::time::Instant;
fn files(dir: &std::path::Path, guest: &str, out: &mut Vec<File>) {
    for e in std::fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        let g = format!("{guest}/{}", p.file_name().unwrap().to_str().unwrap());
        if p.is_dir() {
            files(&p, &g, out)
        } else {
            out.push(File { path: g, contents: Some(std::fs::read(&p).unwrap().into()) })
        }
    }
}
fn template(path: &str, out: &mut Vec<File>) {
    let bytes = std::fs::read(path).unwrap();
    let mut a = tar::Archive::new(&bytes[..]);
    for e in a.entries().unwrap() {
        let e = e.unwrap();
        let path = format!("pgdata/{}", e.path().unwrap().display());
        let s = e.raw_file_position() as usize;
        let c = (e.header().entry_type() == tar::EntryType::Regular)
            .then(|| bytes[s..s + e.size() as usize].to_vec().into());
        out.push(File { path, contents: c });
    }
}
fn start(args: &[&str]) -> Start {
    Start {
        args: args.iter().map(|s| s.to_string()).collect(),
        env: vec![("TZ".into(), "UTC".into())],
        ..Default::default()
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let t = Instant::now();
    let modules = Modules::load(args[1].as_ref()).unwrap();
    eprintln!("load {:?}", t.elapsed());
    let t = Instant::now();
    let mut f = modules.placeholders("usr/lib/postgresql");
    files("/tmp/w/guest/tree".as_ref(), "", &mut f);
    template(&args[2], &mut f);
    eprintln!("files {} {:?}", f.len(), t.elapsed());
    for round in 0..3 {
        let t = Instant::now();
        let tree = Tree::new(f.clone(), 0).unwrap();
        eprintln!("tree {:?}", t.elapsed());
        let t = Instant::now();
        let mut c = match Connection::open(
            &modules,
            &tree,
            start(&["postgres", "--single", "-F", "-D", "/pgdata", "postgres"]),
        ) {
            Ok(c) => c,
            Err(e) => {
                eprintln!("open: {e}");
                std::process::exit(1)
            }
        };
        eprintln!("open {:?}", t.elapsed());
        let sqls: Vec<String> = if args.len() > 3 { args[3..].to_vec() } else { vec!["SELECT version(), 1+1".into()] };
        for sql in &sqls {
            let t = Instant::now();
            let r = c.exec(sql);
            let e = t.elapsed();
            if round == 0 || true {
                match r {
                    Ok(r) => {
                        for r in r.iter().take(3) {
                            let mut r = r.clone();
                            let n = r.rows.len();
                            r.rows.truncate(3);
                            eprintln!("{sql:.60} -> {n} {r:?} {e:?}")
                        }
                    }
                    Err(x) => eprintln!("{sql:.60} -> ERR {x} {e:?}"),
                }
            }
        }
        let t = Instant::now();
        match c.close() {
            Ok(log) => eprintln!("close {:?} log {log}", t.elapsed()),
            Err(e) => eprintln!("close: {e}"),
        }
    }
}
