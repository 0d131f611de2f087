//! Progress of a run: the number of each step, its time, the last line of its log. On a terminal it
//! is an updated line for each running step, elsewhere plain lines. It reads logs and prints; it
//! runs and decides nothing.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Interval between two lines without a terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Interval between two updates on a terminal.
const REFRESH: Duration = Duration::from_millis(200);
/// Lines of the log in the error of a failed step.
const TAIL_LINES: usize = 40;
/// Bytes at the end of a log that are read.
const TAIL_BYTES: u64 = 64 * 1024;

/// Characters of a log's last line in a plain line.
const LINE_CHARS: usize = 120;

/// Where progress goes.
#[derive(Clone)]
pub(crate) struct Progress {
    mode: Mode,
}

#[derive(Clone)]
enum Mode {
    /// An updated line for each running step.
    Terminal(MultiProgress),
    Lines {
        sink: Arc<Mutex<dyn Write + Send>>,
        heartbeat: Duration,
    },
}

impl Progress {
    /// Standard error: an updated line for each running step on a terminal, plain lines otherwise.
    pub(crate) fn stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self { mode: Mode::Terminal(MultiProgress::new()) }
        } else {
            Self::lines(Arc::new(Mutex::new(std::io::stderr())), HEARTBEAT)
        }
    }

    /// Plain lines into the caller's sink.
    pub(crate) fn lines(sink: Arc<Mutex<dyn Write + Send>>, heartbeat: Duration) -> Self {
        Self { mode: Mode::Lines { sink, heartbeat } }
    }

    /// Prints one line outside of a step.
    pub(crate) fn say(&self, line: &str) {
        match &self.mode {
            Mode::Terminal(lines) => lines.suspend(|| eprintln!("{line}")),
            Mode::Lines { sink, .. } => write_line(sink, line),
        }
    }

    /// Announces the start of a step. `label` is its place and name: `[3/11] guest/postgresql`;
    /// `expected` is its estimated time.
    pub(crate) fn begin(&self, label: &str, title: &str, expected: Option<Duration>, log: &Path) -> Running {
        let began = Instant::now();
        let of = expected.map_or_else(String::new, |expected| format!(" of about {}", elapsed(expected)));
        let (stop, stopped) = mpsc::channel::<()>();
        let log = log.to_path_buf();
        let label = label.to_owned();
        let thread = match &self.mode {
            Mode::Terminal(lines) => {
                let bar = lines.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}") {
                    bar.set_style(style);
                }
                let prefix = format!("{label}: {title}");
                let log = log.clone();
                thread::spawn(move || {
                    while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                        bar.set_prefix(format!("{prefix}  {}{of}", elapsed(began.elapsed())));
                        bar.set_message(tail(&log, 1).concat());
                        bar.tick();
                    }
                    bar.finish_and_clear();
                })
            }
            Mode::Lines { sink, heartbeat } => {
                write_line(sink, &format!("{label}: {title}"));
                let (sink, heartbeat, label, log) = (Arc::clone(sink), *heartbeat, label.clone(), log.clone());
                thread::spawn(move || {
                    while stopped.recv_timeout(heartbeat) == Err(RecvTimeoutError::Timeout) {
                        let line: String = tail(&log, 1).concat().chars().take(LINE_CHARS).collect();
                        write_line(&sink, &format!("{label}: {}{of}  {line}", elapsed(began.elapsed())));
                    }
                })
            }
        };
        Running { progress: self.clone(), label, log, began, ticker: Some((stop, thread)) }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.mode {
            Mode::Terminal(_) => "Progress(terminal)",
            Mode::Lines { .. } => "Progress(lines)",
        })
    }
}

/// A step that is running.
#[derive(Debug)]
pub(crate) struct Running {
    progress: Progress,
    label: String,
    log: PathBuf,
    began: Instant,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Running {
    /// How long it has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends the step.
    pub(crate) fn done(mut self) {
        self.stop();
        self.progress.say(&format!("{}: done in {}", self.label, elapsed(self.began.elapsed())));
    }

    /// Ends the step as failed. Returns the end of its log.
    pub(crate) fn failed(mut self) -> String {
        self.stop();
        self.progress.say(&format!("{}: failed after {}", self.label, elapsed(self.began.elapsed())));
        tail(&self.log, TAIL_LINES).join("\n")
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // A panic of the ticker does not matter to the step.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A duration in short form: `45s`, `1m12s`, `2h05m`.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// The last lines of a log that are not blank. A log that cannot be read has none.
fn tail(log: &Path, lines: usize) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut found: Vec<String> =
        text.lines().rev().map(printable).filter(|line| !line.is_empty()).take(lines).collect();
    found.reverse();
    found
}

/// A log line for display: the part after the last carriage return, without control characters.
fn printable(line: &str) -> String {
    let line = line.trim_end();
    let last = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::with_capacity(last.len());
    let mut chars = last.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // An escape sequence of a colorful tool: skip to the letter that ends it.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else if char == '\t' {
            text.push(' ');
        } else if !char.is_control() {
            text.push(char);
        }
    }
    text
}

fn write_line(sink: &Mutex<dyn Write + Send>, line: &str) {
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    // The reader may be gone; the run goes on.
    let _ = writeln!(sink, "{line}");
    let _ = sink.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink that reports each line it got.
    struct Lines(Sender<String>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_are_start_heartbeat_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        std::fs::write(&log, "configure\ncompiling xlog.c\n\n").unwrap();
        let (sender, receiver) = mpsc::channel();
        let progress = Progress::lines(Arc::new(Mutex::new(Lines(sender))), Duration::from_millis(1));
        let running = progress.begin("[1/2] guest", "building", Some(Duration::from_secs(72)), &log);
        let mut text = String::new();
        while !text.contains("compiling xlog.c\n") {
            text += &receiver.recv().unwrap();
        }
        assert!(
            text.starts_with("[1/2] guest: building\n[1/2] guest: 0s of about 1m12s  compiling xlog.c\n"),
            "{text}"
        );
        running.done();
        drop(progress);
        text.extend(receiver);
        assert!(text.ends_with("[1/2] guest: done in 0s\n"), "{text}");
    }

    #[test]
    fn a_tail_is_the_last_printable_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert!(tail(&log, 3).is_empty(), "no log yet");
        let many = "x\n".repeat(1 << 20);
        std::fs::write(&log, format!("{many}first\n10%\r99%\r\n\u{1b}[31mred\u{1b}[0m\tand plain\n  \n\u{ff}last"))
            .unwrap();
        assert_eq!(tail(&log, 4), ["first", "99%", "red and plain", "\u{ff}last"]);
        assert_eq!(tail(&log, 1), ["\u{ff}last"]);
    }

    #[test]
    fn durations_are_short() {
        let said = [0, 59, 60, 72, 3599, 3600, 7500].map(|seconds| elapsed(Duration::from_secs(seconds)));
        assert_eq!(said, ["0s", "59s", "1m00s", "1m12s", "59m59s", "1h00m", "2h05m"]);
    }
}
