//! Work for later: tasks with a time, each done by a thread that has nothing else to do. It owns the order and the thread; what a task is, is its user's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is done when its time has come. Others wait while it runs.
pub trait Task: Send + 'static {
    fn run(self);
}

/// Tasks by their time.
#[derive(Debug)]
pub struct Schedule<T> {
    tasks: Mutex<BinaryHeap<Reverse<Entry<T>>>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Entry<T> {
    when: Instant,
    task: T,
}

impl<T: Task> Schedule<T> {
    /// Starts the thread; `None` if there can be none. It stays as long as the process does.
    pub fn start(thread: &str) -> Option<Arc<Self>> {
        let schedule = Arc::new(Self { tasks: Mutex::default(), changed: Condvar::new() });
        let runner = schedule.clone();
        let thread = std::thread::Builder::new().name(thread.to_string()).spawn(move || runner.run());
        thread.ok().map(|_| schedule)
    }

    /// Adds a task.
    pub fn add(&self, when: Instant, task: T) {
        self.lock().push(Reverse(Entry { when, task }));
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut tasks = self.lock();
        loop {
            let left = tasks.peek().map(|next| next.0.when.saturating_duration_since(Instant::now()));
            tasks = match left {
                None => self.changed.wait(tasks).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let next = tasks.pop();
                    drop(tasks);
                    if let Some(Reverse(entry)) = next {
                        entry.task.run();
                    }
                    self.lock()
                }
                Some(left) => self.changed.wait_timeout(tasks, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Entry<T>>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.when.cmp(&other.when)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Say(Sender<u32>, u32);

    impl Task for Say {
        fn run(self) {
            self.0.send(self.1).unwrap();
        }
    }

    #[test]
    fn tasks_are_done_in_the_order_of_their_times() {
        let schedule = Schedule::start("schedule").unwrap();
        let (said, say) = channel();
        let now = Instant::now();
        for later in [30, 10, 20] {
            schedule.add(now + Duration::from_millis(later.into()), Say(said.clone(), later));
        }
        assert_eq!([(); 3].map(|()| say.recv().unwrap()), [10, 20, 30]);
        assert!(now.elapsed() >= Duration::from_millis(30));
    }
}
