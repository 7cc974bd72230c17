//! What a task reports of its own progress, for observers: in spare words of its worker's history.
//!
//! The report names its task, so the end of a task need not clear it: observers show a report only beside the task that it
//! names. The worker takes the name away while it writes. If it dies meanwhile, there is no report.

use super::layout::{HistoryObject, MARKED_FOR_KILL, WorkerSlot};
use core::cell::Cell;
use core::sync::atomic::{Ordering, fence};

/// Number of bytes of a text that a report has room for.
const LONGEST_TEXT: usize = 32;

/// Where the worker that runs in this thread reports. A process that it has forked does not report there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) slot: &'static WorkerSlot,
    pub(super) history: &'static HistoryObject,
    pub(super) process: u32,
}

thread_local! {
    static HERE: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Sets where this thread reports, as long as the worker exists, which keeps the memory of its slot.
pub(super) fn set_place(place: Option<Place>) {
    if let Some(place) = place {
        // A task that is tried again has its old id.
        place.history.reported.store(0, Ordering::Relaxed);
    }
    HERE.set(place);
}

/// Reports the progress of the task that the worker in this thread runs: how much is done, how much there is to do if that
/// is known, and a text, of which observers see the first 32 bytes. Does nothing if this thread runs no task of a pool.
pub fn report(done: f64, total: Option<f64>, text: &str) {
    let Some(place) = HERE.get() else { return };
    let task = place.slot.task.load(Ordering::Relaxed) & !MARKED_FOR_KILL;
    if task == 0 || place.process != std::process::id() {
        return;
    }
    let history = place.history;
    history.reported.store(0, Ordering::Relaxed);
    // An observer that reads a new word below reads the 0 as well, or the name that is stored at the end.
    fence(Ordering::Release);
    let mut bytes = [0; LONGEST_TEXT];
    let end = (0..=text.len().min(LONGEST_TEXT))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    let end = end.unwrap_or(0);
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    history.report_done.store(done.to_bits(), Ordering::Relaxed);
    crash_point!("worker.report half written");
    let total = total.unwrap_or(f64::NAN);
    history.report_total.store(total.to_bits(), Ordering::Relaxed);
    for (word, eight) in history.report_text.iter().zip(bytes.chunks_exact(8)) {
        let eight = u64::from_le_bytes(eight.try_into().unwrap_or_default());
        word.store(eight, Ordering::Relaxed);
    }
    history.reported.store(task, Ordering::Release);
}
