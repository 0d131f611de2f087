//! Handles Ctrl-C while a container runs. The container's parent is the daemon, not this process,
//! so the container must be removed before this process ends. When all containers are removed, the
//! signal has its usual effect, as it has at any other time: the run ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Context, Error, Result};

/// Signals that end a run, with their names in messages.
const SIGNALS: [(i32, &str); 3] = [(1, "SIGHUP"), (2, "SIGINT (Ctrl-C)"), (15, "SIGTERM")];

/// Whether there is no listener. Only then does a signal have its own effect, the end of the
/// process.
static IDLE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));
static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners { count: 0, installed: false, received: None });

/// The listeners of this process.
#[derive(Debug)]
struct Listeners {
    count: usize,
    /// Whether the signals' conditional own effect is installed.
    installed: bool,
    /// The signal that ends this run.
    received: Option<(i32, &'static str)>,
}

/// Intercepts the terminating signals while it exists.
#[derive(Debug)]
pub(super) struct Interrupt {
    signals: Vec<(Signal, i32, &'static str)>,
}

impl Interrupt {
    /// Starts listening. Called inside the runtime that waits. Fails if the run is ending already.
    pub(super) fn listen() -> Result<Self> {
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, name)) = listeners.received {
            return Err(Error::new(format!("the run was ended by {name}")));
        }
        let mut signals = Vec::new();
        for (number, name) in SIGNALS {
            let failed = || format!("cannot listen to {name}");
            if !listeners.installed {
                signal_hook::flag::register_conditional_default(number, Arc::clone(&IDLE)).context(failed)?;
            }
            signals.push((signal(SignalKind::from_raw(number)).context(failed)?, number, name));
        }
        listeners.installed = true;
        listeners.count += 1;
        IDLE.store(false, Ordering::SeqCst);
        Ok(Self { signals })
    }

    /// Waits for one of the signals and gives its name. The process ends when the last listener is
    /// dropped after this.
    pub(super) async fn received(&mut self) -> &'static str {
        let (number, name) = std::future::poll_fn(|context| {
            let ready = self
                .signals
                .iter_mut()
                .find_map(|(signal, number, name)| signal.poll_recv(context).is_ready().then_some((*number, *name)));
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await;
        LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).received = Some((number, name));
        name
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.count = listeners.count.saturating_sub(1);
        IDLE.store(listeners.count == 0, Ordering::SeqCst);
        if let (0, Some((number, name))) = (listeners.count, listeners.received) {
            eprintln!("error: the run was ended by {name}");
            // It can fail only for a signal that does not exist; the run ends with the job's error
            // then.
            let _ = signal_hook::low_level::emulate_default_handler(number);
        }
    }
}
