//! Signals that end a command which goes on: it then writes what it has.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals.
const SIGNALS: [i32; 3] = [
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGTERM,
    signal_hook::consts::SIGHUP,
];

/// Notes these signals. As long as it exists, they do not end the process.
#[derive(Debug)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    registered: Vec<signal_hook::SigId>,
}

impl Stop {
    /// Notes the signals from now on.
    pub(crate) fn new() -> Result<Stop> {
        let asked = Arc::new(AtomicBool::new(false));
        let mut stop = Stop {
            asked,
            registered: Vec::new(),
        };
        for signal in SIGNALS {
            let id = signal_hook::flag::register(signal, stop.asked.clone());
            stop.registered
                .push(id.map_err(|e| Error::file("signal handlers", e))?);
        }
        Ok(stop)
    }

    /// Whether a signal has come.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for id in &self.registered {
            signal_hook::low_level::unregister(*id);
        }
    }
}
