//! The transactions of a test. It owns the schema, the numbered transactions and the expected
//! contents after each. All are functions of a seed, so a seed and a number determine the contents.
//! It does not access a database.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use fastrand::Rng;
use sha2::{Digest, Sha256};

/// The schema, created in one transaction, number 0.
const SCHEMA: &[&str] = &[
    "CREATE EXTENSION amcheck",
    "CREATE TABLE ledger (n bigint PRIMARY KEY, mark text NOT NULL)",
    "CREATE TABLE account (id int PRIMARY KEY, version bigint NOT NULL, touched bigint NOT NULL, code text NOT NULL UNIQUE, value int NOT NULL, note text NOT NULL) \
     WITH (fillfactor = 80)",
    "CREATE INDEX account_value ON account (value)",
    "CREATE TABLE document (id int PRIMARY KEY, version bigint NOT NULL, body text NOT NULL)",
    "CREATE TABLE batch (n bigint, i int, filler text NOT NULL, PRIMARY KEY (n, i))",
    "INSERT INTO ledger VALUES (0, 'schema')",
];

/// Size and variety of the workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Maximum number of accounts.
    accounts: u32,
    /// Maximum number of documents.
    documents: u32,
    /// Length of the shortest document in bytes: much more than a page holds.
    document_bytes: usize,
    /// Rows of the largest batch.
    batch_rows: u32,
    /// Factor by which documents, DDL and maintenance are more frequent than in a run of thousands
    /// of transactions.
    variety: f64,
}

impl Scale {
    /// For thousands of transactions.
    pub(crate) const LONG: Self =
        Self { accounts: 400, documents: 10, document_bytes: 100 * 1024, batch_rows: 1500, variety: 1.0 };
    /// For dozens of them, with every kind among them.
    pub(crate) const SHORT: Self =
        Self { accounts: 60, documents: 4, document_bytes: 100 * 1024, batch_rows: 400, variety: 4.0 };
    /// For a handful of them, where each file operation is a test case.
    pub(crate) const TINY: Self =
        Self { accounts: 10, documents: 2, document_bytes: 20 * 1024, batch_rows: 50, variety: 6.0 };
}

/// SQL to run, with the SQLSTATE if it must fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) fails: Option<&'static str>,
}

/// The expected contents: facts by name.
pub(crate) type Facts = BTreeMap<String, String>;

/// The contents after some transaction.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    seed: u64,
    scale: Scale,
    /// Number of the last transaction.
    pub(crate) last: u64,
    /// Accounts, with the transactions that wrote and touched them last.
    accounts: BTreeMap<u32, (u64, u64)>,
    /// Documents, with the transaction that wrote them last.
    documents: BTreeMap<u32, u64>,
    /// Batches by the transaction that made them, with their number of rows.
    batches: BTreeMap<u64, u32>,
    /// Tables by the transaction that made them, with their number of rows.
    tables: BTreeMap<u64, u32>,
    has_extra_index: bool,
}

/// A numbered transaction.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) number: u64,
    steps: Vec<Step>,
    seed: u64,
    scale: Scale,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    InsertAccount(u32),
    UpdateAccount(u32),
    /// Changes no indexed column.
    TouchAccount(u32),
    DeleteAccount(u32),
    PutDocument(u32),
    DeleteDocument(u32),
    AddBatch(u32),
    DeleteBatch(u64),
    TruncateBatches,
    CreateTable(u32),
    DropTable(u64),
    CreateIndex,
    DropIndex,
    Reindex,
    /// Work in a savepoint that is rolled back; the number chooses what.
    RolledBack(u32),
    /// A row that violates the unique index, in a savepoint.
    Duplicate(u32),
}

impl Model {
    /// The content of a database that has the schema and nothing else.
    pub(crate) fn new(seed: u64, scale: Scale) -> Self {
        Self {
            seed,
            scale,
            last: 0,
            accounts: BTreeMap::new(),
            documents: BTreeMap::new(),
            batches: BTreeMap::new(),
            tables: BTreeMap::new(),
            has_extra_index: false,
        }
    }

    /// The content after transaction number `last`.
    pub(crate) fn after(seed: u64, scale: Scale, last: u64) -> Self {
        let mut model = Self::new(seed, scale);
        while model.last < last {
            model.next();
        }
        model
    }

    /// The next transaction. The content is that after it when this returns.
    pub(crate) fn next(&mut self) -> Transaction {
        let number = self.last + 1;
        self.last = number;
        let mut rng = rng(self.seed, &[1, number]);
        let mut steps = Vec::new();
        for _ in 0..rng.u32(1..=4) {
            steps.push(self.account_step(number, &mut rng));
        }
        let variety = self.scale.variety;
        let chance = |rng: &mut Rng, probability: f64| rng.f64() < probability;
        if chance(&mut rng, (0.15 * variety).min(0.5)) {
            steps.push(self.document_step(number, &mut rng));
        }
        if chance(&mut rng, (0.1 * variety).min(0.3)) {
            steps.push(self.batch_step(number, &mut rng));
        }
        if chance(&mut rng, (0.06 * variety).min(0.4)) {
            steps.push(self.definition_step(number, &mut rng));
        }
        if chance(&mut rng, 0.15) {
            let at = rng.usize(0..=steps.len());
            let junk = Step::RolledBack(rng.u32(0..4));
            steps.insert(at, junk);
        }
        if chance(&mut rng, 0.1)
            && let Some(id) = choose(&self.accounts, &mut rng)
        {
            steps.push(Step::Duplicate(id));
        }
        Transaction { number, steps, seed: self.seed, scale: self.scale }
    }

    /// Maintenance after the last transaction; it does not change the contents.
    pub(crate) fn maintenance(&self) -> Vec<&'static str> {
        let mut rng = rng(self.seed, &[2, self.last]);
        let choices: [(f64, &[&str]); 9] = [
            (0.020, &["VACUUM"]),
            (0.020, &["VACUUM (FREEZE) account"]),
            (0.005, &["VACUUM FULL account", "VACUUM FULL document"]),
            (0.020, &["CHECKPOINT"]),
            (0.010, &["SELECT pg_switch_wal()"]),
            (0.010, &["ANALYZE"]),
            (0.010, &["REINDEX INDEX CONCURRENTLY account_value"]),
            (0.015, &["BEGIN", "DELETE FROM account", "TRUNCATE batch", "CREATE TABLE half (a int)", "ROLLBACK"]),
            (
                0.010,
                &[
                    "BEGIN",
                    "INSERT INTO batch SELECT -1, i, repeat('half', 20) FROM generate_series(1, 2000) i",
                    "ROLLBACK",
                ],
            ),
        ];
        let due = choices.iter().filter(|(probability, _)| rng.f64() < probability * self.scale.variety);
        due.flat_map(|(_, statements)| statements.iter().copied()).collect()
    }

    /// The contents, as facts that can be compared with query results.
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        let ledger = (0..=self.last).map(|n| (format!("ledger {n}"), mark(self.seed, n)));
        facts.extend(ledger);
        for (id, (version, touched)) in &self.accounts {
            let account = Account::new(self.seed, *id, *version);
            facts.insert(format!("account {id}"), account.fact(*version, *touched));
            facts.insert(format!("account by code {}", account.code), id.to_string());
            facts.insert(format!("account by value {} {id}", account.value), String::new());
        }
        for (id, version) in &self.documents {
            let body = document(self.seed, self.scale, *id, *version);
            facts.insert(format!("document {id}"), format!("version {version}, {}", digest(&body)));
        }
        for (n, rows) in &self.batches {
            facts.insert(format!("batch {n}"), format!("{rows} rows, sum {}, right", sum(*rows)));
        }
        for (n, rows) in &self.tables {
            facts.insert(format!("table scratch_{n}"), format!("{rows} rows, sum {}, right", sum(*rows)));
        }
        if self.has_extra_index {
            facts.insert("index account_extra".to_string(), String::new());
        }
        facts
    }

    fn account_step(&mut self, number: u64, rng: &mut Rng) -> Step {
        let id = rng.u32(0..self.scale.accounts);
        let choice = rng.u32(0..10);
        match self.accounts.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert((number, number));
                Step::InsertAccount(id)
            }
            Entry::Occupied(entry) if choice == 0 => {
                entry.remove();
                Step::DeleteAccount(id)
            }
            Entry::Occupied(mut entry) if choice < 5 => {
                entry.get_mut().1 = number;
                Step::TouchAccount(id)
            }
            Entry::Occupied(mut entry) => {
                entry.insert((number, number));
                Step::UpdateAccount(id)
            }
        }
    }

    fn document_step(&mut self, number: u64, rng: &mut Rng) -> Step {
        let id = rng.u32(0..self.scale.documents);
        if rng.u32(0..6) == 0 && self.documents.remove(&id).is_some() {
            return Step::DeleteDocument(id);
        }
        self.documents.insert(id, number);
        Step::PutDocument(id)
    }

    fn batch_step(&mut self, number: u64, rng: &mut Rng) -> Step {
        let choice = rng.u32(0..20);
        if choice == 0 && !self.batches.is_empty() {
            self.batches.clear();
            return Step::TruncateBatches;
        }
        if (choice < 7 || self.batches.len() > 12)
            && let Some(batch) = choose(&self.batches, rng)
        {
            self.batches.remove(&batch);
            return Step::DeleteBatch(batch);
        }
        let rows = rng.u32(1..=self.scale.batch_rows);
        self.batches.insert(number, rows);
        Step::AddBatch(rows)
    }

    fn definition_step(&mut self, number: u64, rng: &mut Rng) -> Step {
        match rng.u32(0..10) {
            0 => Step::Reindex,
            1 | 2 => {
                self.has_extra_index = !self.has_extra_index;
                if self.has_extra_index { Step::CreateIndex } else { Step::DropIndex }
            }
            choice => {
                if (choice < 6 || self.tables.len() > 5)
                    && let Some(table) = choose(&self.tables, rng)
                {
                    self.tables.remove(&table);
                    return Step::DropTable(table);
                }
                let rows = rng.u32(0..60);
                self.tables.insert(number, rows);
                Step::CreateTable(rows)
            }
        }
    }
}

impl Transaction {
    /// The statements, from BEGIN to COMMIT.
    pub(crate) fn statements(&self) -> Vec<Statement> {
        let mut statements = vec![plain("BEGIN")];
        let n = self.number;
        statements.push(plain(format!("INSERT INTO ledger VALUES ({n}, '{}')", mark(self.seed, n))));
        for step in &self.steps {
            self.render(*step, &mut statements);
        }
        statements.push(plain("COMMIT"));
        statements
    }

    fn render(&self, step: Step, statements: &mut Vec<Statement>) {
        let n = self.number;
        let sql = match step {
            Step::InsertAccount(id) => {
                let Account { code, value, note } = Account::new(self.seed, id, n);
                format!("INSERT INTO account VALUES ({id}, {n}, {n}, '{code}', {value}, '{note}')")
            }
            Step::UpdateAccount(id) => {
                let Account { code, value, note } = Account::new(self.seed, id, n);
                format!(
                    "UPDATE account SET version = {n}, touched = {n}, code = '{code}', value = {value}, note = '{note}' WHERE id = {id}"
                )
            }
            Step::TouchAccount(id) => format!("UPDATE account SET touched = {n} WHERE id = {id}"),
            Step::DeleteAccount(id) => format!("DELETE FROM account WHERE id = {id}"),
            Step::PutDocument(id) => {
                let body = document(self.seed, self.scale, id, n);
                format!(
                    "INSERT INTO document VALUES ({id}, {n}, '{body}') ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body"
                )
            }
            Step::DeleteDocument(id) => format!("DELETE FROM document WHERE id = {id}"),
            Step::AddBatch(rows) => {
                format!(
                    "INSERT INTO batch SELECT {n}, i, repeat(chr(97 + ({n} + i) % 26), 60) FROM generate_series(1, {rows}) i"
                )
            }
            Step::DeleteBatch(batch) => format!("DELETE FROM batch WHERE n = {batch}"),
            Step::TruncateBatches => "TRUNCATE batch".to_string(),
            Step::CreateTable(rows) => {
                statements.push(plain(format!("CREATE TABLE scratch_{n} (i int PRIMARY KEY, t text)")));
                statements.push(plain(format!(
                    "INSERT INTO scratch_{n} SELECT i, '{n}:' || i FROM generate_series(1, {rows}) i"
                )));
                format!("CREATE INDEX ON scratch_{n} (t)")
            }
            Step::DropTable(table) => format!("DROP TABLE scratch_{table}"),
            Step::CreateIndex => "CREATE INDEX account_extra ON account (version, id)".to_string(),
            Step::DropIndex => "DROP INDEX account_extra".to_string(),
            Step::Reindex => "REINDEX TABLE account".to_string(),
            Step::RolledBack(choice) => {
                let junk = match choice {
                    0 => "DELETE FROM document",
                    1 => "INSERT INTO batch SELECT -1, i, repeat('half', 15) FROM generate_series(1, 300) i",
                    2 => "CREATE TABLE half AS SELECT * FROM account",
                    _ => "UPDATE account SET value = -1, touched = -1",
                };
                return statements.extend(["SAVEPOINT s", junk, "ROLLBACK TO s", "RELEASE s"].map(plain));
            }
            Step::Duplicate(id) => {
                statements.push(plain("SAVEPOINT s"));
                let sql =
                    format!("INSERT INTO account SELECT -1, -1, -1, code, -1, 'half' FROM account WHERE id = {id}");
                statements.push(Statement { sql, fails: Some("23505") });
                "ROLLBACK TO s".to_string()
            }
        };
        statements.push(plain(sql));
    }
}

/// The statements of transaction number 0.
pub(crate) fn schema() -> Vec<Statement> {
    let statements = [&["BEGIN"], SCHEMA, &["COMMIT"]].concat();
    statements.into_iter().map(plain).collect()
}

/// The representation of a text in the facts.
pub(crate) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// A random source for a seed and the numbers that identify its purpose.
pub(crate) fn rng(seed: u64, what: &[u64]) -> Rng {
    what.iter().fold(Rng::with_seed(seed), |mut rng, what| Rng::with_seed(rng.u64(..) ^ what))
}

/// The contents of a row, by the transaction that wrote it.
struct Account {
    code: String,
    value: i32,
    note: String,
}

impl Account {
    fn new(seed: u64, id: u32, version: u64) -> Self {
        let mut rng = rng(seed, &[3, u64::from(id), version]);
        // Codes of different accounts differ; those of one account are in no order.
        let code = format!("{}-{id}", text(&mut rng, 12));
        let value = rng.i32(0..1000);
        let length = if rng.u32(0..8) == 0 { rng.usize(1000..3000) } else { rng.usize(0..200) };
        Self { code, value, note: text(&mut rng, length) }
    }

    fn fact(&self, version: u64, touched: u64) -> String {
        let Self { code, value, note } = self;
        format!("version {version}, touched {touched}, code {code}, value {value}, note {}", digest(note))
    }
}

/// Text that does not compress well, so that it is stored out of line.
fn document(seed: u64, scale: Scale, id: u32, version: u64) -> String {
    let mut rng = rng(seed, &[4, u64::from(id), version]);
    let length = scale.document_bytes + rng.usize(0..8192);
    text(&mut rng, length)
}

fn text(rng: &mut Rng, length: usize) -> String {
    (0..length).map(|_| rng.alphanumeric()).collect()
}

fn mark(seed: u64, n: u64) -> String {
    if n == 0 { "schema".to_string() } else { format!("{:016x}", rng(seed, &[5, n]).u64(..)) }
}

fn sum(rows: u32) -> u64 {
    u64::from(rows) * (u64::from(rows) + 1) / 2
}

fn choose<K: Copy, V>(map: &BTreeMap<K, V>, rng: &mut Rng) -> Option<K> {
    if map.is_empty() { None } else { map.keys().nth(rng.usize(0..map.len())).copied() }
}

fn plain(sql: impl Into<String>) -> Statement {
    Statement { sql: sql.into(), fails: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_function_of_seed_and_number() {
        let mut model = Model::new(7, Scale::SHORT);
        for n in 1..=60 {
            let transaction = model.next();
            assert_eq!((transaction.number, model.last), (n, n));
            let again = Model::after(7, Scale::SHORT, n);
            assert_eq!(model.facts(), again.facts());
        }
        assert_ne!(model.facts(), Model::after(8, Scale::SHORT, 60).facts());
        assert_ne!(model.facts(), Model::after(7, Scale::SHORT, 59).facts());
    }

    #[test]
    fn every_kind_of_work_comes_up() {
        let mut model = Model::new(1, Scale::SHORT);
        let mut all = String::new();
        for _ in 0..200 {
            for statement in model.next().statements() {
                all.push_str(&statement.sql);
                all.push('\n');
            }
            all.push_str(&model.maintenance().join("\n"));
        }
        for part in [
            "UPDATE account",
            "DELETE FROM account",
            "INTO document",
            "INTO batch",
            "DELETE FROM batch",
            "CREATE TABLE scratch",
            "DROP TABLE",
            "CREATE INDEX account_extra",
            "ROLLBACK TO s",
            "TRUNCATE",
            "REINDEX TABLE",
            "VACUUM FULL",
            "CHECKPOINT",
            "pg_switch_wal",
        ] {
            assert!(all.contains(part), "{part}");
        }
    }

    #[test]
    fn large_values_are_large() {
        let document = document(1, Scale::LONG, 1, 1);
        assert!(document.len() >= 100 * 1024);
    }
}
