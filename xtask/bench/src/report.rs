//! The result of a benchmark, as JSON and as tables. It owns the formats; it measures nothing.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::error::{Context as _, Error, Result};
use crate::machine::Machine;
use crate::stats::Summary;

/// The results of a run and its conditions.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) benchmark: &'static str,
    /// Small data and few rounds: not a result to quote.
    pub(crate) quick: bool,
    pub(crate) rounds: u32,
    pub(crate) machine: Machine,
    /// Descriptions of the sides.
    pub(crate) versions: Vec<String>,
    /// Conditions of the run, one sentence each.
    pub(crate) conditions: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Cases of one kind. The first column is the embedded side; the others are compared with it.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) unit: Unit,
    /// One for each column; `None` if the side cannot do it.
    pub(crate) cells: Vec<Option<Summary>>,
    /// The embedded side divided by each other column.
    pub(crate) ratios: Vec<Option<Summary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// The unit of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "µs")]
    Microseconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "KiB")]
    Kibibytes,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "calls")]
    Calls,
}

/// A case that was not measured, and why.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) case: String,
    pub(crate) why: String,
}

impl Row {
    /// A row from the samples of each column.
    pub(crate) fn new(case: &str, unit: Unit, samples: &[Option<Vec<f64>>]) -> Self {
        let cells: Vec<_> = samples.iter().map(|s| s.as_deref().and_then(Summary::of)).collect();
        let ours = cells.first().cloned().flatten();
        let ratio = |theirs: &Option<Summary>| ours.as_ref()?.ratio(theirs.as_ref()?);
        let ratios = cells.iter().skip(1).map(ratio).collect();
        Self { case: case.to_owned(), unit, cells, ratios, note: None }
    }

    /// Adds a note to this row.
    pub(crate) fn note(self, note: &str) -> Self {
        Self { note: Some(note.to_owned()), ..self }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
            Self::Calls => "calls",
        }
    }
}

impl Report {
    /// Writes the file atomically.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(directory).map_err(|e| Error::io("make the directory", directory, e))?;
        let text = serde_json::to_vec_pretty(self).context(|| "cannot write the result as JSON".into())?;
        let mut file =
            tempfile::NamedTempFile::new_in(directory).map_err(|e| Error::io("create a file in", directory, e))?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io("write", path, e))?;
        file.persist(path).map_err(|e| Error::io("replace", path, e.error))?;
        Ok(())
    }

    /// The tables as text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let mut line = |line: String| text.push_str(&(line + "\n"));
        line(format!("perf {}: {} rounds, interleaved, after one that is not counted", self.benchmark, self.rounds));
        line(format!(
            "machine: {}, {} cores, {:.0} GiB, Linux {}; load {:.1} before, {:.1} after; files on {}",
            machine.cpu,
            machine.cores,
            machine.memory_gib,
            machine.kernel,
            machine.load_before,
            machine.load_after,
            machine.file_system
        ));
        for statement in self.versions.iter().chain(&self.conditions) {
            line(format!("- {statement}"));
        }
        if self.quick {
            line("- QUICK: small data, short rounds; this shows that the benchmark works and is no result".into());
        }
        for table in &self.tables {
            line(format!("\n{}\n{}", table.title, table.render()));
        }
        if !self.left_out.is_empty() {
            line("\nleft out:".into());
        }
        for left_out in &self.left_out {
            line(format!("- {}: {}", left_out.case, left_out.why));
        }
        text
    }
}

impl Table {
    fn render(&self) -> String {
        let mut rows = vec![self.head()];
        rows.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| {
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a String cannot fail.
                let _ = match index {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let notes = self.rows.iter().filter_map(|row| Some((&row.case, row.note.as_ref()?)));
        for (case, note) in notes {
            let _ = writeln!(text, "  {case}: {note}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn head(&self) -> Vec<String> {
        let mut head = vec!["case".to_owned(), "unit".to_owned()];
        head.extend(self.columns.iter().cloned());
        head.extend(self.columns.iter().skip(1).map(|column| format!("ours / {column}")));
        head
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let spread = |summary: &Option<Summary>| match summary {
            Some(s) if s.min == s.max => number(s.median),
            Some(s) => format!("{} ({}…{})", number(s.median), number(s.min), number(s.max)),
            None => "–".to_owned(),
        };
        let mut cells = vec![self.case.clone(), self.unit.name().to_owned()];
        cells.extend(self.cells.iter().chain(&self.ratios).map(spread));
        cells
    }
}

/// Rounds to the significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let columns = ["ours", "native"].map(String::from).to_vec();
        let rows = vec![
            Row::new("SELECT 1", Unit::Microseconds, &[Some(vec![8.0, 9.5, 8.25]), Some(vec![16.0, 20.0, 16.5])]),
            Row::new("only theirs", Unit::Milliseconds, &[None, Some(vec![123.4])]).note("ours has no such thing"),
            Row::new("depth", Unit::Calls, &[Some(vec![1500.0]), Some(vec![1000.0])]),
        ];
        Report {
            benchmark: "query",
            quick: true,
            rounds: 3,
            machine: Machine {
                cpu: "A processor".into(),
                cores: 2,
                kernel: "6.1".into(),
                memory_gib: 23.4,
                file_system: "ext4".into(),
                load_before: 0.5,
                load_after: 1.25,
            },
            versions: vec!["ours: 1".into()],
            conditions: vec!["native: fsync = off".into()],
            tables: vec![Table { title: "Chatty".into(), columns, rows }],
            left_out: vec![LeftOut { case: "COPY".into(), why: "ours cannot do it yet".into() }],
        }
    }

    #[test]
    fn a_reader_gets_a_table() {
        insta::assert_snapshot!(report().render(), @r"
        perf query: 3 rounds, interleaved, after one that is not counted
        machine: A processor, 2 cores, 23 GiB, Linux 6.1; load 0.5 before, 1.2 after; files on ext4
        - ours: 1
        - native: fsync = off
        - QUICK: small data, short rounds; this shows that the benchmark works and is no result

        Chatty
        case          unit              ours            native     ours / native
        SELECT 1        µs  8.25 (8.00…9.50)  16.5 (16.0…20.0)  0.50 (0.47…0.50)
        only theirs     ms                 –               123                 –
        depth        calls              1500              1000              1.50
          only theirs: ours has no such thing

        left out:
        - COPY: ours cannot do it yet
        ");
    }

    #[test]
    fn a_program_gets_every_sample() {
        let value = serde_json::to_value(report()).unwrap();
        let row = &value["tables"][0]["rows"][0];
        assert_eq!(row["unit"], "µs");
        assert_eq!(row["cells"][0]["samples"], serde_json::json!([8.0, 9.5, 8.25]));
        assert_eq!(row["cells"][1]["median"], 16.5);
        assert_eq!(row["ratios"][0]["median"], 0.5);
        assert_eq!(value["tables"][0]["rows"][1]["cells"][0], serde_json::Value::Null);
        assert_eq!(value["machine"]["cores"], 2);
        assert_eq!(value["left_out"][0]["case"], "COPY");
    }

    #[test]
    fn the_file_is_written_into_a_new_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("perf/query.json");
        report().write(&path).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["benchmark"], "query");
    }
}
