//! The machine: its description, and binding processes to its cores.

use std::fs;
use std::path::Path;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::error::{Context as _, Error, Result};

/// The description of a machine in a result.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_gib: f64,
    /// File system of the native server's data directory.
    pub(crate) file_system: String,
    /// Load average of the last minute before the run; other processes disturb the measurements.
    pub(crate) load_before: f64,
    /// The same after the run, which is part of it.
    pub(crate) load_after: f64,
}

impl Machine {
    /// Describes this machine. `files` is the directory of the native server's files.
    pub(crate) fn describe(files: &Path) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = field(&memory, "MemTotal:").unwrap_or(0.0);
        let load = load();
        Self {
            cpu: model.map_or("unknown processor", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_gib: kib / f64::from(1 << 20),
            file_system: file_system(files),
            load_before: load,
            load_after: load,
        }
    }
}

/// Average load of the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// The cores this process may use.
pub(crate) fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context(|| "cannot ask which cores may be used".into())?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Binds the calling thread, and what it will start, to a core.
pub(crate) fn pin_this_thread(core: usize) -> Result<()> {
    pin(None, core)
}

/// Binds another process to a core.
pub(crate) fn pin_process(pid: i32, core: usize) -> Result<()> {
    let pid = Pid::from_raw(pid).ok_or_else(|| Error::new(format!("{pid} is no process")))?;
    pin(Some(pid), core)
}

/// The largest memory this process ever had at once, in KiB.
pub(crate) fn peak_memory_kib() -> f64 {
    field(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:").unwrap_or(0.0)
}

/// Time that this process has spent on a core, in milliseconds. Other processes add nothing to it
/// but what they take from the caches.
pub(crate) fn own_milliseconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Memory in KiB that this process has to itself: what it has written. Pages of files that it has
/// only read are not part of it, because other processes would have the same ones.
pub(crate) fn private_memory_kib() -> Result<f64> {
    let path = Path::new("/proc/self/smaps_rollup");
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    field(&text, "Private_Dirty:").ok_or_else(|| Error::new(format!("{} has no private memory", path.display())))
}

/// Memory of a process and its children in KiB; pages that they share are counted once.
pub(crate) fn memory_of_family_kib(parent: u32) -> f64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0.0 };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let belongs = |pid: &u32| *pid == parent || parent_of(*pid) == Some(parent);
    let share = |pid: u32| field(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:");
    numbers.filter(belongs).filter_map(share).sum()
}

fn pin(process: Option<Pid>, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(process, &set).context(|| format!("cannot bind to core {core}"))
}

/// The fourth field of its status line; the second may hold blanks and ends with the last
/// parenthesis.
fn parent_of(pid: u32) -> Option<u32> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = line.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Type of the file system by the longest mount point above the path.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then_some((point.len(), kind))
    });
    above.max_by_key(|(length, _)| *length).map_or("an unknown file system", |(_, kind)| kind).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::describe(Path::new("/proc"));
        assert!(machine.cores >= 1 && machine.memory_gib > 0.0, "{machine:?}");
        assert!(!machine.cpu.is_empty() && !machine.kernel.is_empty(), "{machine:?}");
        assert_eq!(machine.file_system, "proc");
        assert!(!cores().unwrap().is_empty());
        assert!(peak_memory_kib() > 100.0);
    }

    #[test]
    fn only_work_takes_time_of_a_process() {
        let before = own_milliseconds();
        let mut sum = 0u64;
        while own_milliseconds() < before + 5.0 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(own_milliseconds() - before >= 5.0, "{sum}");
    }

    #[test]
    fn memory_is_private_when_it_is_written() {
        let before = private_memory_kib().unwrap();
        // The optimizer would leave out what nobody reads.
        let written = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = private_memory_kib().unwrap();
        assert!(after > before + 30_000.0, "{before} KiB before, {after} after {} bytes", written.len());
    }

    #[test]
    fn the_memory_of_a_process_includes_that_of_its_children() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "x=$(head -c 48000000 /dev/zero | tr '\\0' x); echo ready; read y"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(parent_of(child.id()), Some(std::process::id()));
        let (own, all) = (memory_of_family_kib(child.id()), memory_of_family_kib(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own > 40_000.0 && all > own, "{own} KiB of {all} KiB");
    }
}
