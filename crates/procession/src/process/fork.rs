//! Starting a process by forking this one.
#![allow(unsafe_code)]

use super::Process;
use super::builder::{Builder, Plan};
use super::capture;
use super::scope::{Scope, ScopedProcess};
use crate::error::{FamilyError, StartError};
use crate::message::{Encoded, Message};
use crate::outcome::{self, Outcome};
use crate::process::child;
use crate::startup;
use procession_core::family::{self, Family};
use procession_core::process::Child;
use procession_core::process::lifeline;
use procession_core::sys::fork;
use std::ffi::CString;
use std::io::Write;

impl Builder {
    /// Starts a process as a copy of this one, which calls `function`. The function may be a closure with captured values.
    ///
    /// This is the fastest way to start a process, and the only one in which the child has all that the parent has:
    /// memory, open files, and every shared object, to which the child then has references of its own. It does not need
    /// [`init`](crate::init). The child ends when the function returns. The function's destructors run, but no exit
    /// handlers and no code of other threads. The child can use standard output and error, even if another thread was
    /// writing to them at the instant of the fork.
    ///
    /// # Errors
    /// Those of [`spawn`](Builder::spawn), except [`StartError::NotInitialised`] and [`StartError::Function`].
    ///
    /// # Safety
    /// Of this process's threads only the calling one exists in the child. What another thread was doing at the instant
    /// of the fork is never finished there: a lock that it held (a mutex, the environment's lock, a lock inside of a
    /// library) stays locked for ever, and a value that it was changing stays half changed. So, unless this process has
    /// one thread, the child may use only what no other thread may have been using: its own values, memory allocation,
    /// standard output and error, and this crate.
    ///
    /// In any case, the child must not use a [`LockGuard`](crate::LockGuard) or a [`BlockMut`](crate::BlockMut) from
    /// before the fork: its copy is a second mutable reference to the same memory. If one was moved into `function`,
    /// the parent must not use it either. The child must not drop or join handles of threads and thread pools that it
    /// has inherited. It must not use shared objects that other threads were cloning or dropping at the instant of the
    /// fork.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let text = String::from("captured");
    /// // SAFETY: the child only uses what this thread has made.
    /// let child = unsafe { procession::Process::builder().fork(move || text.len() as u32)? };
    /// assert_eq!(child.join()?, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn fork<R: Message>(self, function: impl FnOnce() -> R) -> Result<Process<R>, StartError> {
        super::forgotten::look_after_all();
        let plan = self.plan(false)?;
        let environment = match plan.environment.differs() {
            true => Some(plan.environment.lines()?),
            false => None,
        };
        let family = Family::home().map_err(FamilyError)?;
        family.seat().map_err(FamilyError)?;
        if plan.bound {
            lifeline::reader()?;
        }
        outcome::note_panics();
        // These are this crate's locks, in the order in which they are taken elsewhere. The child must find them free.
        let server = super::forkserver::hold_still();
        let still = (
            super::forgotten::hold_still(),
            crate::transit::hold_still(),
            server,
        );
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        // Otherwise both processes would write the contents of the buffers.
        let _ = out.flush().and_then(|()| err.flush());
        // SAFETY: the caller promises that the child uses only what is sound in a forked copy (the contract above).
        let forked = family::fork::expecting(|| unsafe { fork::fork() }, Result::is_err);
        let Some(pid) = forked? else {
            drop((out, err, still));
            let _never = NeverBack;
            live(plan, environment, function)
        };
        drop((out, err, still));
        let seat = family::fork::forked(pid);
        if let Some(seat) = seat {
            seat.slot().set_name(&plan.name);
        }
        Ok(Process::new(Child::new(pid, seat, true), seat, plan))
    }

    /// Forks this process in a [`scope`](crate::scope()), with these options. It is daemonic. The function may borrow: the child has a
    /// copy of everything.
    ///
    /// # Errors
    /// Those of [`fork`](Builder::fork).
    ///
    /// # Safety
    /// That of [`fork`](Builder::fork).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let words = vec!["one", "two"];
    /// let length = procession::scope(|scope| -> procession::Result<_> {
    ///     // SAFETY: the child only uses what this thread has made.
    ///     let child = unsafe { procession::Process::builder().fork_scoped(scope, || words.concat().len()) };
    ///     Ok(child?.join()?)
    /// })?;
    /// assert_eq!(length, 6);
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn fork_scoped<R: Message>(
        self,
        scope: &Scope,
        function: impl FnOnce() -> R,
    ) -> Result<ScopedProcess<'_, R>, StartError> {
        // SAFETY: the caller keeps the contract of `fork`, which is that of this function.
        Ok(scope.add(unsafe { self.daemon(true).fork(function) }?))
    }
}

/// Ends a child whose function panics out of `live`: the panic must not unwind into the parent's program.
struct NeverBack;

impl Drop for NeverBack {
    fn drop(&mut self) {
        fork::exit_at_once(outcome::PANICKED);
    }
}

/// Forks a process that has one thread: the fork server.
///
/// # Errors
/// The system cannot fork; or there is more than one thread.
pub(super) fn fork_alone() -> std::io::Result<Option<u32>> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(std::io::Error::other(
            "something has started a thread in the fork server",
        ));
    }
    // SAFETY: this process has one thread (checked above), so a fork of it can do all that it can do.
    unsafe { fork::fork() }
}

/// Runs the life of a forked child. `environment` is its environment, if it is not that of the parent.
fn live<R: Message>(mut plan: Plan, environment: Option<Vec<CString>>, function: impl FnOnce() -> R) -> ! {
    super::forgotten::forget_inherited();
    lifeline::after_fork(plan.bound);
    if plan.bound {
        child::is_bound_from_now_on();
    }
    if let Some(seat) = Family::home_if_any().and_then(Family::current_seat) {
        seat.slot().set_name(&plan.name);
    }
    let settings = child::Settings {
        own: std::mem::take(&mut plan.own),
        stdio: plan.stdio_places(0),
        interrupt_blocked: fork::interrupt_is_blocked(),
        ..child::Settings::default()
    };
    let descriptors = plan.descriptors.into_iter().map(Some).collect();
    let prepared = child::prepare(&settings, descriptors, environment);
    // The test harness of the parent captures what this thread prints, into a buffer that no code reads here.
    let in_a_test = startup::output_is_captured();
    startup::output_is_captured_from_now_on(false);
    let outcome = match prepared {
        Ok(()) if in_a_test && capture::is_captured() => {
            let outcome = capture::uncaptured(|| Outcome::run(function, Encoded::plainly));
            outcome.unwrap_or_else(|| Outcome::NotRun("the standard library has not called it".into()))
        }
        Ok(()) => Outcome::run(function, Encoded::plainly),
        Err(why) => Outcome::NotRun(why),
    };
    let code = outcome.leave();
    let _ = std::io::stdout().flush();
    if let Some(seat) = Family::home_if_any().and_then(Family::current_seat) {
        seat.slot().declare(code);
    }
    fork::exit_at_once(code)
}
