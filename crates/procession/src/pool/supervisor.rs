//! The thread that starts a pool's workers and notices when they end.

use super::worker::{self, PoolHandle, Start};
use super::{Plan, Shared};
use crate::error::{FamilyError, ProcessError, StartError};
use crate::process::Process;
use procession_core::pool::Event;
use procession_core::sys::clock::Deadline;
use std::collections::HashMap;
use std::sync::PoisonError;

type Worker = Process<Result<(), String>>;

/// Runs the thread until the pool has ended.
pub(super) fn run(shared: &Shared, plan: Plan) {
    let mut workers: HashMap<u32, Worker> = HashMap::new();
    loop {
        match shared.engine.next_event(Deadline::NEVER) {
            Event::Start(worker_slot) => match start(shared, &plan, worker_slot) {
                Ok(process) => {
                    let pidfd = process.sentinel().and_then(|fd| fd.try_clone_to_owned()).ok();
                    let pid = process.pid();
                    workers.insert(worker_slot, process);
                    shared.engine.started(worker_slot, pid, pidfd);
                }
                Err(e) => {
                    note(shared, format!("a worker cannot be started: {e}"));
                    shared.engine.start_failed(worker_slot);
                }
            },
            Event::Exited(worker_slot) => {
                let (code, why) = workers.remove(&worker_slot).map_or((None, None), ended);
                if let Some(why) = why {
                    note(shared, why);
                }
                let _ = shared.engine.ended(worker_slot, code, false);
            }
            Event::Reports(reports) => shared.awaited.wake(&reports),
            Event::TimedOut => {}
            Event::Ended => break,
        }
    }
    shared.awaited.wake_all();
    for (_, process) in workers {
        let _ = process.join();
    }
}

fn start(shared: &Shared, plan: &Plan, worker_slot: u32) -> Result<Worker, StartError> {
    let start = Start {
        pool: PoolHandle::new(&shared.engine).map_err(FamilyError)?,
        worker_slot,
        initializer: plan.initializer.clone(),
        tasks: plan.tasks_per_worker,
    };
    let mut builder = plan.process.try_clone()?.name(format!("worker-{worker_slot}"));
    if !plan.pins.is_empty() {
        builder = builder.affinity([plan.pins[worker_slot as usize % plan.pins.len()]]);
    }
    builder.daemon(true).spawn(worker::work, start)
}

/// Returns the exit code of a worker that has ended, and the reason if the worker did not end as planned.
fn ended(process: Worker) -> (Option<i32>, Option<String>) {
    match process.join() {
        Ok(Ok(())) => (Some(0), None),
        Ok(Err(why)) => (Some(1), Some(why)),
        Err(ProcessError::Signaled { signal, process }) => {
            let why = format!(
                "{process} was killed by {}",
                procession_core::sys::signal::name(signal)
            );
            (Some(-signal), Some(why))
        }
        Err(ref e @ (ProcessError::Exited { code, .. } | ProcessError::NotRun { code, .. })) => {
            (Some(code), Some(e.to_string()))
        }
        Err(e) => (Some(1), Some(e.to_string())),
    }
}

fn note(shared: &Shared, why: String) {
    *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
}
