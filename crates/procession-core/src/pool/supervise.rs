//! The supervising thread: starts workers, notices their end, decides what died with them, and enforces limits of
//! time and memory.

use super::layout::{self, COMING, LEAVING, MARKED_FOR_KILL, Totals};
use super::table::{Death, Outcome, Phase, Report, State};
use super::{MOST_FAILED_STARTS, Pool};
use crate::family::waits::{Reason, What};
use crate::sys::clock::{Deadline, now};
use crate::sys::descriptor::GuardedFd;
use crate::sys::pidfd;
use crate::sys::procfs;
use core::sync::atomic::Ordering;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// What the supervising thread must do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Start a worker for this slot, then call [`Pool::started`] or [`Pool::start_failed`].
    Start(u32),
    /// The worker of this slot has ended: find out how, and call [`Pool::ended`].
    Exited(u32),
    /// Outcomes whose report was requested.
    Reports(Vec<Report>),
    /// The pool has ended: no task is unsettled, and no worker is left. No other event follows.
    Ended,
    /// The deadline passed.
    TimedOut,
}

/// The judgement about the end of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Whether the worker had been ready for tasks.
    pub was_ready: bool,
    /// Whether the pool is broken from now on, because too many workers have failed to start.
    pub broken: bool,
    /// Whether this process had decided to end the worker: a time limit, a cancellation, a memory limit, the end of
    /// the pool.
    pub intended: bool,
}

/// Interval at which the supervisor checks the workers while it waits for results.
const GLANCE: Duration = Duration::from_millis(10);
/// Longest sleep of the supervisor when no other thread wakes it.
const UNCALLED: Duration = Duration::from_secs(1);
/// Time in nanoseconds after which workers of an ended pool that got SIGTERM are killed.
pub(super) const GRACE: u64 = 300_000_000;
/// Time in nanoseconds after which an idle worker of an ended pool gets SIGTERM, if it has not ended by itself.
const IDLE_GRACE: u64 = 2_000_000_000;
/// A worker that was killed (SIGKILL, although memory had not run out) before it was ready has probably not failed by
/// itself: this many of them count as much as one that failed.
const KILLS_PER_FAILURE: u32 = 8;
/// Delay in nanoseconds before a worker is started after one that could not become ready, multiplied by their number.
const BACKOFF: u64 = 50_000_000;

impl Pool {
    /// Waits for the next event. One thread calls this in a loop.
    pub fn next_event(&self, deadline: Deadline) -> Event {
        // Since when it has had nothing to do.
        let mut since = 0;
        loop {
            let mut state = self.lock();
            state.supervisor_sleeps = false;
            self.drain(&mut state);
            if !state.reports.is_empty() {
                return Event::Reports(core::mem::take(&mut state.reports));
            }
            if !state.to_retry.is_empty() {
                let to_retry = core::mem::take(&mut state.to_retry);
                drop(state);
                self.run_again(&to_retry);
                continue;
            }
            if let Some(number) = state.exited.pop() {
                return Event::Exited(number);
            }
            if let Some(event) = self.next_start(&mut state) {
                return event;
            }
            let mut next = self.police(&mut state);
            if !state.line.is_empty() {
                self.refill(&mut state);
                next.look = Some(GLANCE);
            }
            if !state.reports.is_empty() {
                continue;
            }
            if state.phase == Phase::Closing && !state.has_work() && !self.tasks.is_shut_down() {
                drop(state);
                // An error means that no memory is left to release discarded messages, and none are discarded here.
                let _ = self.tasks.shut_down(false);
                continue;
            }
            if deadline.expired() {
                return Event::TimedOut;
            }
            let after =
                |span: Option<Duration>| span.map_or(deadline, |span| deadline.sooner(Deadline::after(span)));
            let soonest = next.act.into_iter().chain(next.look).min();
            if since == 0 {
                since = now();
            }
            self.sleep(state, after(soonest), (since, after(next.act)));
        }
    }

    /// Records that a worker was started for a slot. `pidfd`: a descriptor of the worker, if the system supports it.
    pub fn started(&self, slot: u32, pid: u32, pidfd: Option<OwnedFd>) {
        let mut state = self.lock();
        let ending = matches!(state.phase, Phase::Terminating | Phase::Broken);
        let worker = &mut state.workers[slot as usize];
        worker.pid = pid;
        worker.start_time = procfs::start_time(pid);
        worker.pidfd = pidfd.map(GuardedFd::new).map(Arc::new);
        worker.occupied = true;
        worker.asked = false;
        worker.due = None;
        if core::mem::take(&mut worker.replaces) {
            worker.restarts += 1;
            Totals::count(&self.object().totals.restarts);
        }
        // It may have been quick, and marked for the kill with its first task before this table had its pid.
        let marked = self.slot(slot).task.load(Ordering::Acquire) & MARKED_FOR_KILL != 0;
        if ending || marked {
            self.kill(&state, slot, libc::SIGKILL);
        }
        drop(state);
        self.wake_supervisor();
    }

    /// Records that no worker could be started for a slot. Returns whether the pool is broken now; otherwise it tries
    /// again shortly.
    pub fn start_failed(&self, slot: u32) -> bool {
        let mut state = self.lock();
        state.workers[slot as usize].asked = false;
        self.failed_to_start(&mut state, slot, KILLS_PER_FAILURE)
    }

    /// Records that the worker of a slot has ended with this exit code (-N: killed by signal N); `memory`: because
    /// memory had run out. Decides what died with it.
    pub fn ended(&self, number: u32, code: Option<i32>, memory: bool) -> Judged {
        let slot = self.slot(number);
        let mut state = self.lock();
        // In this order: see the module documentation of `pool`.
        let in_flight = slot.in_flight.load(Ordering::Acquire);
        let word = slot.task.load(Ordering::Acquire);
        let taken = self.tasks.taken_so_far();
        let taken_by_another = in_flight != 0 && self.another_took(number, in_flight);
        self.drain(&mut state);
        let task = word & !MARKED_FOR_KILL;
        let died_with_it = in_flight != 0 && task != 0 && taken >= in_flight && !taken_by_another;
        let worker = &mut state.workers[number as usize];
        let death = Death {
            pid: worker.pid,
            code,
            item: slot.item.load(Ordering::Relaxed),
            deaths: 0,
            memory: memory || worker.over_memory,
            limit: None,
        };
        let intended = word & MARKED_FOR_KILL != 0 || worker.over_memory;
        if died_with_it {
            self.mourn(&mut state, task, death);
        }
        let phase = slot.phase.load(Ordering::Acquire);
        let worker = &mut state.workers[number as usize];
        worker.done_before += slot.done.load(Ordering::Relaxed);
        worker.pid = 0;
        worker.pidfd = None;
        worker.occupied = false;
        worker.asked = false;
        worker.over_memory = false;
        slot.reset();
        let open = matches!(state.phase, Phase::Open | Phase::Closing);
        let mut judged = Judged {
            was_ready: phase != COMING,
            broken: false,
            intended: intended || phase == LEAVING || !open,
        };
        if open && number < state.wanted {
            let worker = &mut state.workers[number as usize];
            worker.replaces = true;
            if judged.was_ready {
                worker.failed = 0;
                worker.due = Some(0);
                state.failed_starts = 0;
            } else {
                let killed = code == Some(-libc::SIGKILL) && !memory;
                let weight = if killed { 1 } else { KILLS_PER_FAILURE };
                judged.broken = self.failed_to_start(&mut state, number, weight);
            }
        }
        drop(state);
        self.wake_waiters();
        judged
    }

    /// Returns whether another worker had the same message in flight after this one. Workers that had it before are
    /// dead, because they left the mutex without a commit, and only the last one can have taken the message: their
    /// numbers in flight are cleared.
    fn another_took(&self, number: u32, in_flight: u64) -> bool {
        let began = |slot: &layout::WorkerSlot| slot.began.load(Ordering::Relaxed);
        let mine = began(self.slot(number));
        let mut later = false;
        for slot in (0..self.slots()).filter(|n| *n != number).map(|n| self.slot(n)) {
            if slot.in_flight.load(Ordering::Acquire) == in_flight {
                if began(slot) > mine {
                    later = true;
                } else {
                    slot.in_flight.store(0, Ordering::Release);
                }
            }
        }
        later
    }

    /// Closes the pool: it takes no more tasks, and ends when all are done.
    pub fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.note_phase(Phase::Closing);
        }
        drop(state);
        self.wake_supervisor();
    }

    /// Ends the pool now: tasks are abandoned. A worker without a task ends by itself, because the queue of tasks is
    /// shut down, and so flushes its output. A worker with a task gets SIGTERM and is killed a moment later.
    pub fn terminate(&self) {
        let mut state = self.lock();
        if state.phase != Phase::Terminating {
            // Under the lock, so that a worker that ends because of this is not replaced. False or an error: a
            // stopped worker holds the queue's mutex, or no memory is left. Then all workers get a signal.
            // The phase comes first: a worker that finds the queue shut down reads it.
            self.note_phase(Phase::Terminating);
            let emptied = self.tasks.shut_down(true).is_ok_and(|emptied| emptied);
            self.drain(&mut state);
            let idle: Vec<bool> = (0..self.slots())
                .map(|number| emptied && self.is_idle(&mut state, number))
                .collect();
            self.end(&mut state, Phase::Terminating, libc::SIGTERM, &idle);
        }
        drop(state);
        self.wake_waiters();
    }

    /// Returns whether a worker is ready and has no task, or has handed back the result of its task. There are no
    /// more tasks in the queue, so it stays idle.
    fn is_idle(&self, state: &mut State, number: u32) -> bool {
        let slot = self.slot(number);
        if slot.phase.load(Ordering::Acquire) == COMING {
            return false;
        }
        let in_flight = slot.in_flight.load(Ordering::Acquire);
        let task = slot.task.load(Ordering::Acquire);
        in_flight == 0 || !state.is_pending(task)
    }

    /// Kills the workers and with them their tasks; other workers replace them.
    pub fn kill_workers(&self, signal: i32) {
        let state = self.lock();
        for number in 0..self.slots() {
            self.kill(&state, number, signal);
        }
    }

    /// Wakes the supervising thread, if it sleeps.
    pub fn wake_supervisor(&self) {
        let mut state = self.lock();
        if state.supervisor_sleeps {
            state.supervisor_sleeps = false;
            drop(state);
            self.control.signal();
        }
    }

    /// Marks the worker that runs this task for the kill, and kills it; false if the worker has finished the task
    /// already.
    pub(super) fn mark_for_kill(&self, state: &State, number: u32, id: u64) -> bool {
        let word = &self.slot(number).task;
        let done = word.compare_exchange(id, id | MARKED_FOR_KILL, Ordering::AcqRel, Ordering::Acquire);
        if done.is_ok() {
            self.kill(state, number, libc::SIGKILL);
        }
        done.is_ok()
    }

    pub(super) fn kill(&self, state: &State, number: u32, signal: i32) {
        let worker = &state.workers[number as usize];
        if !worker.occupied {
            return;
        }
        // An error means that the worker has ended, which will be noticed.
        let by_pidfd = worker
            .pidfd
            .as_ref()
            .and_then(|fd| Some(pidfd::send_signal(fd.get()?, signal)));
        let unsupported = |e: &std::io::Error| e.kind() == std::io::ErrorKind::Unsupported;
        if by_pidfd.is_none_or(|sent| sent.is_err_and(|e| unsupported(&e)))
            && procfs::is_alive(worker.pid, worker.start_time)
        {
            let _ = pidfd::kill(worker.pid, signal);
        }
    }

    /// Records that a worker has died with this task: the task is run again, or settled.
    fn mourn(&self, state: &mut State, id: u64, mut death: Death) {
        let open = matches!(state.phase, Phase::Open | Phase::Closing);
        let Some(task) = state.task(id).filter(|task| task.pending) else {
            return;
        };
        task.deaths += 1;
        death.deaths = task.deaths;
        if open && task.deaths <= task.options.retries && task.retry_payload.is_some() {
            state.to_retry.push(id);
        } else {
            state.settle(id, Outcome::Died(death));
        }
    }

    fn run_again(&self, ids: &[u64]) {
        for id in ids {
            let put = self.put_again(*id);
            if matches!(put, Ok(true)) {
                let _state = self.lock();
                Totals::count(&self.object().totals.retried);
            }
            if put.is_err() {
                self.lock().settle(*id, Outcome::Abandoned);
                self.wake_waiters();
            }
        }
    }

    /// Counts a worker that failed to start. Returns whether the pool is broken now.
    fn failed_to_start(&self, state: &mut State, number: u32, weight: u32) -> bool {
        if !matches!(state.phase, Phase::Open | Phase::Closing) || number >= state.wanted {
            return false;
        }
        const MOST: u32 = MOST_FAILED_STARTS * KILLS_PER_FAILURE;
        state.failed_starts += weight;
        let worker = &mut state.workers[number as usize];
        worker.failed += weight;
        let failed = worker.failed;
        worker.due = Some(now() + BACKOFF * u64::from(failed) / u64::from(KILLS_PER_FAILURE));
        let none_is_ready = (0..self.slots()).all(|n| self.slot(n).phase.load(Ordering::Acquire) == COMING);
        let broken = failed >= MOST || (none_is_ready && state.failed_starts >= MOST);
        if broken {
            self.end(state, Phase::Broken, libc::SIGKILL, &[]);
        }
        broken
    }

    fn end(&self, state: &mut State, phase: Phase, signal: i32, idle: &[bool]) {
        let time = now();
        state.phase = phase;
        self.note_phase(phase);
        state.to_retry.clear();
        state.line.clear();
        for id in state.all_pending() {
            state.settle(id, Outcome::Abandoned);
        }
        for number in 0..self.slots() {
            state.workers[number as usize].due = None;
            if idle.get(number as usize) == Some(&true) {
                state.workers[number as usize].signal_at = Some((time + IDLE_GRACE, signal));
            } else {
                self.kill(state, number, signal);
                state.workers[number as usize].signal_at = Some((time + GRACE, libc::SIGKILL));
            }
        }
    }

    /// The next worker to start, or the end of the pool.
    fn next_start(&self, state: &mut State) -> Option<Event> {
        let time = now();
        // A closing pool replaces its workers while there are tasks to run.
        let wanted = match state.phase {
            Phase::Open => true,
            Phase::Closing => state.has_work(),
            Phase::Terminating | Phase::Broken => false,
        };
        let free = |worker: &super::table::WorkerState| !worker.occupied && !worker.asked;
        if wanted {
            let due = |worker: &super::table::WorkerState| {
                free(worker) && worker.due.is_some_and(|due| due <= time)
            };
            let number = state.workers.iter().position(due)?;
            state.workers[number].asked = true;
            return Some(Event::Start(number as u32));
        }
        let over = state.phase != Phase::Closing || !state.has_work();
        (over && state.workers.iter().all(free)).then_some(Event::Ended)
    }

    /// Sleeps until something happens to a worker or the pool, or until there are results for which no other thread
    /// waits. Observers are told that it has had nothing to do since `idle`, and will do nothing of its own accord
    /// before `acts`.
    fn sleep(
        &self,
        mut state: std::sync::MutexGuard<'_, State>,
        until: Deadline,
        (idle, acts): (u64, Deadline),
    ) {
        let leads = state.waiters == 0
            && (state.pending_reports > 0
                || !state.line.is_empty()
                || (state.phase == Phase::Closing && state.pending > 0));
        let since = self.results.put_so_far();
        for worker in &mut state.workers {
            // The program has closed the descriptor: open a new one, or poll the worker from time to time.
            if worker.occupied && worker.pidfd.as_ref().is_some_and(|fd| fd.get().is_none()) {
                let again = pidfd::open(worker.pid).ok();
                let again = again.filter(|_| procfs::is_alive(worker.pid, worker.start_time));
                worker.pidfd = again.map(GuardedFd::new).map(Arc::new);
            }
        }
        let watched: Vec<(u32, Arc<GuardedFd>)> = (0..)
            .zip(&state.workers)
            .filter(|(_, worker)| worker.occupied && !worker.asked)
            .filter_map(|(number, worker)| Some((number, worker.pidfd.clone()?)))
            .collect();
        state.supervisor_sleeps = !leads;
        drop(state);
        let reason = Reason::of(&self.hold, What::Supervise);
        let _recorded = self.family().record_wait(reason, idle, acts);
        // Limited, because the program may close the descriptor by which other threads wake this one.
        let mut limit = until.sooner(Deadline::after(UNCALLED));
        if leads {
            let _ = self.results.wait_for_more(
                since,
                until.sooner(Deadline::after(GLANCE)),
                Reason::of(&self.hold, What::Result),
            );
            limit = Deadline::PAST;
        }
        let mut fds: Vec<PollFd<'_>> = watched
            .iter()
            .filter_map(|(_, fd)| Some(PollFd::from_borrowed_fd(fd.get()?, PollFlags::IN)))
            .collect();
        if fds.len() < watched.len() {
            // The program has closed a descriptor just now.
            return;
        }
        if let Some(bell) = self.control.descriptor() {
            fds.push(PollFd::from_borrowed_fd(bell, PollFlags::IN));
        }
        // The result does not matter: the caller checks again.
        let _ = pidfd::ready(&mut fds, limit);
        let mut ready: Vec<bool> = fds
            .iter()
            .map(|fd| fd.revents().contains(PollFlags::IN))
            .collect();
        drop(fds);
        // The program may have closed a descriptor during the poll, and have a file of its own under the number: what the
        // poll says of it then does not count.
        for (ready, (_, fd)) in ready.iter_mut().zip(&watched) {
            *ready &= fd.get().is_some();
        }
        if ready.len() > watched.len() && ready.last() == Some(&true) {
            self.control.clear();
        }
        let mut state = self.lock();
        for ((number, _), _) in watched.iter().zip(&ready).filter(|(_, ready)| **ready) {
            state.workers[*number as usize].asked = true;
            state.exited.push(*number);
        }
        for number in 0..self.slots() {
            let worker = &mut state.workers[number as usize];
            let gone = || !procfs::is_alive(worker.pid, worker.start_time);
            if worker.occupied && !worker.asked && worker.pidfd.is_none() && gone() {
                worker.asked = true;
                state.exited.push(number);
            }
        }
    }
}

const _: () = assert!(layout::COMING == 0);
