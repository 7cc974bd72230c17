//! A thread that waits for several sources at once.

use procession_core::sys::clock::Deadline;
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Puts a thread to sleep until one of several sources may be ready.
#[derive(Default)]
pub(crate) struct Parker(Arc<Rung>);

/// The sources that were reported since the thread looked last.
#[derive(Default)]
struct Rung {
    sources: Mutex<Vec<usize>>,
    news: Condvar,
}

struct Bellpull {
    rung: Arc<Rung>,
    source: usize,
}

impl Wake for Bellpull {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut sources = self.rung.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.push(self.source);
        drop(sources);
        self.rung.news.notify_all();
    }
}

impl Parker {
    /// Makes the waker of a source.
    pub(crate) fn waker(&self, source: usize) -> Waker {
        let rung = self.0.clone();
        Arc::new(Bellpull { rung, source }).into()
    }

    /// Sleeps until a source was reported, or the deadline. Returns the sources that were.
    pub(crate) fn sleep(&self, deadline: Deadline) -> Vec<usize> {
        let mut sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        while sources.is_empty() && !deadline.expired() {
            sources = match deadline.left() {
                None => self.0.news.wait(sources).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let woken = self.0.news.wait_timeout(sources, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        take(&mut sources)
    }
}
