//! What tasks of a pool of the Rust crate report of their progress, as the commands show it.

use procession::{Event, Pool};
use procession_inspect::command;
use procession_inspect::model::{Detail, Family, Progress};
use std::time::{Duration, Instant};

procession::init_before_main!();

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reports, says that it has, and waits until it may end.
fn load((reported, go, known): (Event, Event, bool)) {
    procession::report_progress(1.0, None, "is replaced");
    let text = "pages of a long book, of which the end is cut ä";
    procession::report_progress(2.0, known.then_some(8.0), text);
    reported.set();
    go.wait();
}

fn progress() -> Vec<Option<Progress>> {
    let family: Family = procession_inspect::look(std::process::id()).expect("a look");
    let workers = family
        .objects
        .into_iter()
        .filter_map(|object| match object.detail {
            Detail::Pool(pool) => Some(pool.workers),
            _ => None,
        });
    let tasks = workers.flatten().filter_map(|worker| worker.task);
    tasks.map(|task| task.progress).collect()
}

fn printed(words: &[&str]) -> String {
    let pid = std::process::id().to_string();
    let words: Vec<String> = words
        .iter()
        .chain([&pid.as_str()])
        .map(|word| (*word).to_owned())
        .collect();
    let outcome = command::run(&words);
    assert_eq!((outcome.status, outcome.errors.as_str()), (0, ""));
    outcome.output
}

#[test]
fn the_progress_of_a_task_in_rust_is_seen_from_outside() {
    let pool = Pool::builder().workers(1).build().expect("a pool");
    for known in [true, false] {
        let (reported, go) = (Event::new().expect("an event"), Event::new().expect("an event"));
        let task = pool
            .submit(load, (reported.clone(), go.clone(), known))
            .expect("a task");
        assert!(reported.wait_timeout(PATIENCE));
        let text = Some("pages of a long book, of which t".to_owned());
        let total = known.then_some(8.0);
        let wanted = Progress {
            done: 2.0,
            total,
            text,
        };
        assert_eq!(progress(), [Some(wanted)]);
        let line = if known { " 25%|" } else { "2 [" };
        let bars = printed(&["progress", "--once"]);
        assert!(
            bars.contains("pages of a long book") && bars.contains(line),
            "{bars}"
        );
        let page = printed(&["report", "-o", "-"]);
        assert!(page.contains("pages of a long book"), "{page}");
        go.set();
        task.join().expect("a result");
    }
    // The report goes with its task.
    let until = Instant::now() + PATIENCE;
    while !progress().is_empty() {
        assert!(Instant::now() < until, "the task does not end: {:?}", progress());
        std::thread::sleep(Duration::from_millis(5));
    }
    // Outside of a task it does nothing.
    procession::report_progress(f64::NAN, Some(f64::INFINITY), "");
}
