//! Handles Ctrl-C while a container runs. The container's parent is the daemon, not this process,
//! so the container must be removed before this process ends. At any other time the signals keep
//! their usual effect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Context, Result};

/// Signals that end a run, with their names in messages.
const SIGNALS: [(i32, &str); 3] = [(1, "SIGHUP"), (2, "SIGINT (Ctrl-C)"), (15, "SIGTERM")];

/// Whether there is no listener. Only then does a signal have its own effect, the end of the
/// process.
static IDLE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));
/// Number of listeners, and whether the signals' conditional own effect is installed.
static LISTENERS: Mutex<(usize, bool)> = Mutex::new((0, false));

/// Intercepts the terminating signals while it exists.
#[derive(Debug)]
pub(super) struct Interrupt {
    signals: Vec<(Signal, &'static str)>,
}

impl Interrupt {
    /// Starts listening. Called inside the runtime that waits.
    pub(super) fn listen() -> Result<Self> {
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut signals = Vec::new();
        for (number, name) in SIGNALS {
            let failed = || format!("cannot listen to {name}");
            if !listeners.1 {
                signal_hook::flag::register_conditional_default(number, Arc::clone(&IDLE)).context(failed)?;
            }
            signals.push((signal(SignalKind::from_raw(number)).context(failed)?, name));
        }
        *listeners = (listeners.0 + 1, true);
        IDLE.store(false, Ordering::SeqCst);
        Ok(Self { signals })
    }

    /// Waits for one of the signals and gives its name.
    pub(super) async fn received(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            let ready = self
                .signals
                .iter_mut()
                .find_map(|(signal, name)| signal.poll_recv(context).is_ready().then_some(*name));
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.0 = listeners.0.saturating_sub(1);
        IDLE.store(listeners.0 == 0, Ordering::SeqCst);
    }
}
