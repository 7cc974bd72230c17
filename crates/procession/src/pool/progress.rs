//! What a task reports of its own progress.

use procession_core::pool as core;

/// Reports how far the task of a [`Pool`](crate::Pool) that calls it has come: `done` of `total`, in any unit, with a text.
///
/// The commands `procession top`, `procession progress`, `procession report` and `procession serve` show it beside the task
/// while the task runs. A `total` of `None` is unknown. Of `text` they show the first 32 bytes, cut between characters. A
/// report replaces the one before it. It is a few stores into shared memory, so a task may report in each round of a loop.
///
/// It does nothing in a thread that runs no task of a pool: in the program that made the pool, in a
/// [`Process`](crate::Process), and in further threads and children of a task. It does not fail. What a number that is not
/// finite means is unknown: such a `done` is not shown, and such a `total` counts as `None`.
///
/// If the worker dies, its report goes with the task; a task that is run again has none before it reports anew. The
/// progress of a whole map is another matter: [`Map::on_progress`](crate::Map::on_progress).
///
/// The Python function `procession.report_progress` is the same, with a bar of tqdm in addition.
///
/// ```
/// fn load(pages: u32) -> u32 {
///     for page in 0..pages {
///         procession::report_progress(page.into(), Some(pages.into()), "pages");
///     }
///     pages
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let pool = procession::Pool::new(2)?;
///     assert_eq!(pool.submit(load, 3)?.join()?, 3);
///     Ok(())
/// }
/// ```
pub fn report_progress(done: f64, total: Option<f64>, text: &str) {
    core::report(done, total, text);
}
