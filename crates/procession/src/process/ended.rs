//! Waiting for the end of a process without a thread.

use super::{ExitStatus, Process};
use crate::error::ProcessError;
use crate::message::Message;
use crate::startup;
use crate::waits::{Descriptor, wake_soon};
use procession_core::family::loop_waits::LoopWait;
use procession_core::process::{Child, ChildStatus};
use procession_core::sys::clock::Deadline;
use procession_core::sys::pidfd::{self, PollOutcome};
use rustix::event::{PollFd, PollFlags};
use std::task::{Context, Poll};

impl<R: Message> Process<R> {
    /// Lets other tasks run until the process has ended, and does not take the value. It needs no runtime: any executor can
    /// poll it. Dropping the future ends only the wait.
    ///
    /// ```
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let child = procession::Process::spawn(|()| -> u32 { std::process::exit(3) }, ())?;
    ///     let status = futures::executor::block_on(child.wait_async());
    ///     assert_eq!(status.code(), Some(3));
    ///     Ok(())
    /// }
    /// ```
    pub async fn wait_async(&self) -> ExitStatus {
        let mut end = End::default();
        ExitStatus(std::future::poll_fn(|cx| end.poll(self.child(), cx)).await)
    }

    /// Lets other tasks run until the process has ended. Returns the value that its function returned.
    ///
    /// If the future is dropped, so is the handle; the process goes on. In a `select!`, use
    /// [`wait_async`](Process::wait_async), and then [`join`](Process::join), which returns at once.
    ///
    /// # Errors
    /// Those of [`join`](Process::join).
    ///
    /// ```
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let child = procession::Process::spawn(|n: u64| n * n, 12)?;
    ///     assert_eq!(futures::executor::block_on(child.join_async())?, 144);
    ///     Ok(())
    /// }
    /// ```
    pub async fn join_async(self) -> Result<R, ProcessError> {
        let ExitStatus(code) = self.wait_async().await;
        self.result(code)
    }
}

/// The wait of one task for the end of a process.
#[derive(Default)]
struct End {
    /// From the first time when it has to wait.
    descriptor: Option<Descriptor>,
    /// From then on, for observers.
    recorded: Option<LoopWait>,
}

impl End {
    fn poll(&mut self, child: &Child, cx: &mut Context<'_>) -> Poll<i32> {
        if let ChildStatus::Ended(code) = child.status() {
            return Poll::Ready(code);
        }
        if self.descriptor.is_none() {
            self.descriptor = startup::sentinel(child).and_then(Descriptor::readable).ok();
            self.recorded = child.wait_in_loop();
        }
        match &mut self.descriptor {
            Some(descriptor) if !reports_the_end(child) => descriptor.wake_when_ready(cx.waker()),
            // The exit code is still to be recorded, a debugger must release the process, or there is no descriptor.
            _ => wake_soon(cx.waker()),
        }
        match child.status() {
            ChildStatus::Ended(code) => Poll::Ready(code),
            _ => Poll::Pending,
        }
    }
}

fn reports_the_end(child: &Child) -> bool {
    let Ok(sentinel) = startup::sentinel(child) else {
        return false;
    };
    let mut fds = [PollFd::from_borrowed_fd(sentinel, PollFlags::IN)];
    matches!(pidfd::ready(&mut fds, Deadline::PAST), Ok(PollOutcome::Ready))
}
