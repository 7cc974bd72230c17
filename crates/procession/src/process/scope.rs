//! Processes that do not outlive a part of the program.

use super::{Builder, Process};
use crate::error::{ProcessError, StartError};
use crate::message::Message;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Calls `body` with a [`Scope`] in which it can start processes. When this function returns or panics, all of them have
/// ended.
///
/// It is for processes what [`std::thread::scope`] is for threads. Processes do not borrow memory: arguments are sent, as
/// to any process. What the scope bounds is the life of the processes.
///
/// | if `body` | then the processes that were not joined | and `scope` |
/// |---|---|---|
/// | returns `Ok` | are waited for | returns the value; or the error of the first of them (in the order of their starts) that failed |
/// | returns `Err` | are killed (SIGKILL) and waited for | returns the error |
/// | panics | are killed and waited for | panics with the same payload |
///
/// A process that fails does not end the others: they are waited for. If they would wait for it for ever, join it, or
/// watch its [`exit_status`](Process::exit_status), and return the error. The failure of a process that was joined is
/// reported by `join` alone. The value of a process that was not joined is dropped.
///
/// The processes are [daemonic](Builder::daemon). So they end also if this process is killed or calls
/// [`std::process::exit`] in the scope, and the same holds for the processes that they start themselves.
///
/// The error can be any type that is made from a [`ProcessError`]: that of this crate, `Box<dyn Error>`, or your own.
/// If `?` follows the call, the compiler must be told which: write it as the return type of the closure, as below.
///
/// # Errors
/// Those of `body`; or the [`ProcessError`] of a process that failed and that was not joined.
///
/// # Panics
/// If `body` panics. A panic in a process is an error here.
///
/// ```
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let sum = procession::scope(|scope| -> procession::Result<_> {
///         let halves = [(0..50), (50..100)].map(|half| scope.spawn(|half: std::ops::Range<u32>| half.sum::<u32>(), half));
///         let mut sum = 0;
///         for half in halves {
///             sum += half?.join()?;
///         }
///         Ok(sum)
///     })?;
///     assert_eq!(sum, 4950);
///     Ok(())
/// }
/// ```
pub fn scope<T, E: From<ProcessError>>(body: impl FnOnce(&Scope) -> Result<T, E>) -> Result<T, E> {
    let scope = Scope {
        children: Mutex::new(Vec::new()),
        creator: std::process::id(),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| body(&scope)));
    let failed = scope.end(matches!(ended, Ok(Ok(_))));
    match (ended, failed) {
        (Err(payload), _) => resume_unwind(payload),
        (Ok(Ok(_)), Some(error)) => Err(error.into()),
        (Ok(result), _) => result,
    }
}

/// The processes of a call of [`scope`]. Threads can share it, such as those of a [`std::thread::scope`] inside.
pub struct Scope {
    children: Mutex<Vec<Arc<dyn Scoped>>>,
    /// The pid of the process whose children these are: a fork copies this.
    creator: u32,
}

/// A process of a scope, whatever its value is.
trait Scoped: Send + Sync {
    fn kill(&self);
    /// Waits for the end. The error is that of the process.
    fn wait(&self) -> Result<(), ProcessError>;
}

impl<R: Message> Scoped for Process<R> {
    fn kill(&self) {
        // It fails only for a process that has become another user's.
        let _ = Process::kill(self);
    }

    fn wait(&self) -> Result<(), ProcessError> {
        self.wait_for_value().map(drop)
    }
}

impl Scope {
    /// Starts a process that calls `function` with `arguments`, with the default options. See [`Builder::spawn`].
    ///
    /// # Errors
    /// [`StartError`] gives the reason; there is then no process.
    pub fn spawn<A: Message, R: Message>(
        &self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<ScopedProcess<'_, R>, StartError> {
        Builder::default().spawn_scoped(self, function, arguments)
    }

    pub(super) fn add<R: Message>(&self, process: Process<R>) -> ScopedProcess<'_, R> {
        let process = Arc::new(process);
        self.children().push(process.clone());
        ScopedProcess { process, scope: self }
    }

    /// Forgets a process that is being joined.
    fn forget<R: Message>(&self, joined: &Arc<Process<R>>) {
        let it = Arc::as_ptr(joined).cast::<()>();
        self.children()
            .retain(|child| Arc::as_ptr(child).cast::<()>() != it);
    }

    fn children(&self) -> MutexGuard<'_, Vec<Arc<dyn Scoped>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all processes that were not joined. Kills them first, unless all went `well`. Returns the first failure.
    fn end(&self, well: bool) -> Option<ProcessError> {
        if self.creator != std::process::id() {
            // A fork has copied the scope, and the processes are those of the parent.
            return None;
        }
        let children = std::mem::take(&mut *self.children());
        if !well {
            children.iter().for_each(|child| child.kill());
        }
        let ends: Vec<_> = children.iter().map(|child| child.wait()).collect();
        ends.into_iter().find_map(Result::err)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("children", &self.children().len())
            .finish_non_exhaustive()
    }
}

/// A process of a [`scope`]. It has the methods of [`Process`], and cannot leave the scope:
///
/// ```compile_fail
/// # fn main() -> procession::Result<()> {
/// let child = procession::scope(|scope| -> procession::Result<_> { Ok(scope.spawn(|n: u32| n, 1)?) })?;
/// # Ok(())
/// # }
/// ```
///
/// Dropping it does nothing: the scope waits for the process.
pub struct ScopedProcess<'scope, R: Message = ()> {
    process: Arc<Process<R>>,
    scope: &'scope Scope,
}

impl<R: Message> ScopedProcess<'_, R> {
    /// Waits until the process has ended. Returns the value that its function returned.
    ///
    /// # Errors
    /// [`ProcessError`] says how the process ended without returning a value. The scope does not report it again.
    pub fn join(self) -> Result<R, ProcessError> {
        self.scope.forget(&self.process);
        self.process.wait_for_value()
    }

    /// Waits at most `limit` until the process has ended. Returns the value that its function returned.
    ///
    /// # Errors
    /// The handle itself: the process is still running.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<R, ProcessError>, Self> {
        match self.process.wait_timeout(limit) {
            Some(_) => Ok(self.join()),
            None => Err(self),
        }
    }

    /// Lets other tasks run until the process has ended. Returns the value that its function returned. If the future is
    /// dropped, the process goes on, and the scope waits for it.
    ///
    /// # Errors
    /// Those of [`join`](ScopedProcess::join).
    pub async fn join_async(self) -> Result<R, ProcessError> {
        let _ = self.process.wait_async().await;
        self.join()
    }
}

impl<R: Message> Deref for ScopedProcess<'_, R> {
    type Target = Process<R>;

    fn deref(&self) -> &Process<R> {
        &self.process
    }
}

impl<R: Message> fmt::Debug for ScopedProcess<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedProcess").field(&self.process).finish()
    }
}

impl Builder {
    /// Starts a process in a [`scope`], with these options. It is daemonic.
    ///
    /// # Errors
    /// Those of [`spawn`](Builder::spawn).
    ///
    /// ```
    /// use procession::{Process, StartMethod, Stdio};
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     procession::scope(|scope| {
    ///         let builder = Process::builder().method(StartMethod::ForkServer).stdout(Stdio::Null);
    ///         let child = builder.spawn_scoped(scope, |n: u32| println!("{n}"), 5)?;
    ///         println!("{} runs", child.name());
    ///         Ok(()) // the scope waits for it
    ///     })
    /// }
    /// ```
    pub fn spawn_scoped<'scope, A: Message, R: Message>(
        self,
        scope: &'scope Scope,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<ScopedProcess<'scope, R>, StartError> {
        Ok(scope.add(self.daemon(true).spawn(function, arguments)?))
    }
}
