//! Progress of downloads: a bar on a terminal, a plain line at intervals elsewhere. It decides
//! nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines when there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one set of downloads, shared by the threads that make it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    files: usize,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes present of each file that was begun; a continued transfer starts above zero and one
    /// may fall back to it.
    present: HashMap<String, u64>,
    finished: usize,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new(files: usize, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        let now = Instant::now();
        let state = State { present: HashMap::new(), finished: 0, started: now, last_line: now };
        Self { bar, files, bytes, state: Mutex::new(state) }
    }

    /// A file, identified by its hash, has this many bytes now.
    pub(crate) fn file_at(&self, sha256: &str, bytes: u64) {
        let mut state = self.state();
        state.present.insert(sha256.to_owned(), bytes);
        let total = state.present.values().sum();
        self.bar.set_position(total);
        if self.bar.is_hidden() && state.last_line.elapsed() >= LINE_INTERVAL {
            state.last_line = Instant::now();
            self.line(&state, total);
        }
    }

    /// A file is complete and verified.
    pub(crate) fn file_done(&self, name: &str) {
        let mut state = self.state();
        state.finished += 1;
        self.bar.set_message(format!("{}/{} {name}", state.finished, self.files));
    }

    /// Everything is complete.
    pub(crate) fn finish(&self) {
        let state = self.state();
        self.bar.finish_and_clear();
        self.line(&state, self.bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn line(&self, state: &State, present: u64) {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        eprintln!(
            "sources: {}/{} files, {:.1}/{:.1} MB, {:.0} s",
            state.finished,
            self.files,
            megabytes(present),
            megabytes(self.bytes),
            state.started.elapsed().as_secs_f64()
        );
    }
}
