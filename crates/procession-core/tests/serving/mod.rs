//! A pool without a supervising thread, and what its workers do, step by step.
#![allow(dead_code, unreachable_pub)]

use procession_core::pool::layout::Head;
use procession_core::pool::{Finished, Options, Outgoing, Pool, Submission, Taken, TaskOptions, Worker};
use procession_core::queue::LockPolicy;

pub fn pool(workers: u32) -> Pool {
    let options = Options {
        workers,
        ..Options::default()
    };
    Pool::new(options).unwrap()
}

pub fn submit_with(pool: &Pool, bytes: &[u8], options: TaskOptions) -> u64 {
    let task = Submission {
        options,
        ..Submission::default()
    };
    let outgoing = Outgoing {
        parts: [bytes, &[]],
        ..Outgoing::default()
    };
    pool.submit(task, outgoing).unwrap()
}

/// Takes one task, if there is one and the worker may take it, and hands back its payload as the result. Returns the
/// payload, and what the worker may do next.
pub fn serve_one(worker: &Worker) -> Option<(Vec<u8>, Finished)> {
    let mut scratch = Vec::new();
    let task = loop {
        match worker.try_take(&mut scratch, LockPolicy::Bounded).unwrap() {
            Taken::Task(task) => break task,
            Taken::Again => {}
            Taken::None | Taken::Closed => return None,
        }
    };
    let head = Head {
        task: task.head.task,
        ..Head::default()
    };
    let head = head.to_bytes();
    let payload = task.into_bytes();
    let mut parcel = worker.pack([&head, &payload], 0, Vec::new(), 0).unwrap();
    worker.deliver(&mut parcel).unwrap();
    Some((payload, worker.finish()))
}
