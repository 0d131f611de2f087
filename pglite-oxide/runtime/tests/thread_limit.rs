//! A queue whose thread the system refuses. The limit is the whole process's, so this is the only
//! test in its program.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use pglite_oxide_runtime::sync::delay_queue::{LazyDelayQueue, Task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct Report(Sender<u32>, u32);

impl Task for Report {
    fn run(self) {
        self.0.send(self.1).unwrap();
    }
}

#[test]
fn a_queue_whose_thread_could_not_be_spawned_tries_again() {
    static QUEUE: LazyDelayQueue<Report> = LazyDelayQueue::new("queue");
    let (reports, reported) = channel();
    let usual = getrlimit(Resource::As);
    // No more address space: the thread would need some for its stack.
    setrlimit(Resource::As, Rlimit { current: Some(1), ..usual }).unwrap();
    let refused = QUEUE.add(Instant::now(), Report(reports.clone(), 1)).is_err();
    setrlimit(Resource::As, usual).unwrap();
    assert!(refused);
    QUEUE.add(Instant::now(), Report(reports, 2)).unwrap();
    assert_eq!(reported.recv_timeout(Duration::from_secs(60)), Ok(2));
}
