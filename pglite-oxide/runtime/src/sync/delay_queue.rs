//! The delay queue: tasks with a time, run by a thread of the queue. It owns the order, the thread
//! and the handling of a task that panics.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// What is done when its time has come. Others wait while it runs. One that panics ends alone: the
/// panic has been reported by the process's panic hook, and the next task is done in its time.
pub trait Task: Send + 'static {
    fn run(self);
}

/// Tasks by their time, and the thread that does them. Dropping it ends the thread after the task
/// that it is doing; tasks that are left are not done.
#[derive(Debug)]
pub struct DelayQueue<T>(Arc<Shared<T>>);

/// A delay queue whose thread starts with the first task.
#[derive(Debug)]
pub struct LazyDelayQueue<T> {
    thread: &'static str,
    queue: Mutex<Option<DelayQueue<T>>>,
}

/// A task that is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    when: Instant,
    number: u64,
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Queue<T> {
    tasks: BTreeMap<Key, T>,
    next: u64,
    ended: bool,
}

impl<T: Task> DelayQueue<T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, if a thread cannot be spawned.
    pub fn start(thread: &str) -> io::Result<Self> {
        let queue = Mutex::new(Queue { tasks: BTreeMap::new(), next: 0, ended: false });
        let shared = Arc::new(Shared { queue, changed: Condvar::new() });
        let runner = shared.clone();
        std::thread::Builder::new().name(thread.to_string()).spawn(move || runner.run())?;
        Ok(Self(shared))
    }

    /// Adds a task.
    pub fn add(&self, when: Instant, task: T) -> Key {
        let mut queue = self.0.lock();
        let key = Key { when, number: queue.next };
        queue.next += 1;
        queue.tasks.insert(key, task);
        if queue.tasks.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.0.changed.notify_all();
        }
        key
    }

    /// Removes a task that is not to be done any more. Nothing happens if it is done, or being
    /// done.
    pub fn remove(&self, key: Key) {
        self.0.lock().tasks.remove(&key);
    }

    /// How many tasks wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().tasks.len()
    }
}

impl<T: Task> LazyDelayQueue<T> {
    /// A queue without tasks, whose thread will have this name.
    pub const fn new(thread: &'static str) -> Self {
        Self { thread, queue: Mutex::new(None) }
    }

    /// Adds a task.
    ///
    /// # Errors
    /// The system's, if the thread does not run yet and cannot be spawned. The next task tries
    /// again.
    pub fn add(&self, when: Instant, task: T) -> io::Result<Key> {
        let mut queue = lock(&self.queue);
        let queue = match &mut *queue {
            Some(queue) => queue,
            none => none.insert(DelayQueue::start(self.thread)?),
        };
        Ok(queue.add(when, task))
    }

    /// As [`DelayQueue::remove`].
    pub fn remove(&self, key: Key) {
        if let Some(queue) = &*lock(&self.queue) {
            queue.remove(key);
        }
    }

    /// How many tasks wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).as_ref().map_or(0, DelayQueue::len)
    }
}

impl<T> Drop for DelayQueue<T> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        lock(&self.queue)
    }
}

impl<T: Task> Shared<T> {
    fn run(&self) {
        let mut queue = self.lock();
        while !queue.ended {
            let left =
                queue.tasks.first_key_value().map(|(next, _)| next.when.saturating_duration_since(Instant::now()));
            queue = match left {
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let next = queue.tasks.pop_first();
                    drop(queue);
                    if let Some((_, task)) = next {
                        // A task owns what it works on, so that nothing half-done is left for
                        // others to see but what has locks of its own.
                        let _ = catch_unwind(AssertUnwindSafe(|| task.run()));
                    }
                    self.lock()
                }
                Some(left) => self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

    use super::*;

    enum Work {
        Say(Sender<u32>, u32),
        Panic,
    }

    impl Task for Work {
        fn run(self) {
            match self {
                Self::Say(to, what) => to.send(what).unwrap(),
                Self::Panic => panic!("a task that panics"),
            }
        }
    }

    #[test]
    fn tasks_are_done_in_the_order_of_their_times() {
        let schedule = DelayQueue::start("schedule").unwrap();
        let (said, say) = channel();
        let now = Instant::now();
        for later in [30, 10, 20] {
            schedule.add(now + Duration::from_millis(later.into()), Work::Say(said.clone(), later));
        }
        assert_eq!([(); 3].map(|()| say.recv().unwrap()), [10, 20, 30]);
    }

    #[test]
    fn a_task_that_panics_does_not_end_the_others() {
        let schedule = DelayQueue::start("schedule").unwrap();
        let (said, say) = channel();
        schedule.add(Instant::now(), Work::Panic);
        schedule.add(Instant::now(), Work::Say(said, 1));
        assert_eq!(say.recv(), Ok(1));
    }

    #[test]
    fn a_removed_task_is_neither_done_nor_kept() {
        let schedule = DelayQueue::start("schedule").unwrap();
        let (said, say) = channel();
        let far = Instant::now() + Duration::from_secs(3600);
        for number in 0..1000 {
            let key = schedule.add(far, Work::Say(said.clone(), number));
            schedule.remove(key);
        }
        assert_eq!(schedule.len(), 0);
        schedule.add(Instant::now(), Work::Say(said, 1000));
        assert_eq!(say.recv(), Ok(1000));
    }

    #[test]
    fn the_thread_ends_with_its_schedule() {
        let schedule = DelayQueue::start("schedule").unwrap();
        let (said, say) = channel();
        schedule.add(Instant::now() + Duration::from_secs(3600), Work::Say(said, 1));
        drop(schedule);
        // The task, and with it the sender, goes with the thread.
        assert_eq!(say.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }
}
