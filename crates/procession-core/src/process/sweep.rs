//! Which of many children may have ended: one system call for all of them, where asking each takes one for each.

use super::child::Child;
use crate::sys::clock::Deadline;
use crate::sys::pidfd::{self, InUse};
use rustix::event::{PollFd, PollFlags};

/// For each of these children, whether it may have ended. It runs if the answer is false.
///
/// A child without a pidfd may have ended; so may each if there are more descriptors than the system polls at once.
///
/// # References
///  - [ppoll(2)](https://man7.org/linux/man-pages/man2/poll.2.html)
#[must_use]
pub fn may_have_ended(children: &[&Child]) -> Vec<bool> {
    let held: Vec<Option<InUse<'_>>> = children.iter().map(|child| child.running_pidfd()).collect();
    let mut polled: Vec<PollFd<'_>> = held
        .iter()
        .flatten()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    if !polled.is_empty() && pidfd::ready(&mut polled, Deadline::PAST).is_err() {
        return vec![true; children.len()];
    }
    let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
    held.iter()
        .map(|fd| fd.is_none() || ready.next().unwrap_or(true))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sleeping() -> (std::process::Child, Child) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let watched = Child::new(child.id(), None, true);
        (child, watched)
    }

    #[test]
    fn those_that_run_are_told_from_those_that_have_ended_and_those_without_a_pidfd() {
        let mut started: Vec<_> = (0..5).map(|_| sleeping()).collect();
        started[1].0.kill().unwrap();
        while started[1].1.poll().is_none() {
            std::thread::yield_now();
        }
        started[3].1.close();
        let answers = may_have_ended(&started.iter().map(|(_, child)| child).collect::<Vec<_>>());
        assert_eq!(answers, [false, true, false, true, false]);
        started[4].0.kill().unwrap();
        while !may_have_ended(&[&started[4].1])[0] {
            std::thread::yield_now();
        }
        for (child, _) in &mut started {
            let _ = child.kill();
            let _ = child.wait();
        }
        assert!(may_have_ended(&[]).is_empty());
    }
}
