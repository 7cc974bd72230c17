//! Spares: children of the fork server that were forked ahead, and wait until they are told which child to become.
//!
//! Each spare is connected to the server by a socket pair of its own. To start a child from a spare, the server sends
//! it the request (slot, generation, descriptors) over that socket, which takes the time of a message instead of that
//! of a fork. Everything else is the same as for a child that was forked on request: the server is its parent.
//!
//! # What happens when a process is killed
//!
//! | killed | then |
//! |---|---|
//! | spare, before a request is sent to it | the sending fails, and the next spare or a fork takes the request |
//! | spare, after it was sent a request and before it takes the seat | the same as a child that dies early: the server records its exit code |
//! | server | the socket ends, and the spare ends without a message |

use crate::family::Family;
use crate::family::registry::Role;
use crate::sys::fdpass::{self, PassError};
use crate::sys::pidfd;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::VecDeque;
use std::io;

use super::forkserver::{REQUEST, numbers};
use crate::sys::clock::Deadline;

const HEAD: usize = 16;

/// The server's side.
#[derive(Debug, Default)]
pub(super) struct Spares {
    waiting: VecDeque<(u32, OwnedFd)>,
    /// The socket pair of the spare that is about to be forked.
    unborn: Option<(OwnedFd, OwnedFd)>,
}

impl Spares {
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Before the fork: creates the socket pair of the next spare.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.unborn = Some(fdpass::pair()?);
        Ok(())
    }

    /// In the server, after the fork: records the new spare.
    pub(super) fn add(&mut self, pid: u32) {
        if let Some((ours, _theirs)) = self.unborn.take() {
            self.waiting.push_back((pid, ours));
        }
    }

    /// In the spare, after the fork: keeps only this spare's end of its socket pair.
    pub(super) fn become_one(&mut self) -> Option<Spare> {
        self.waiting.clear();
        let (_servers, socket) = self.unborn.take()?;
        Family::has_role(Role::Spare);
        Some(Spare { socket })
    }

    /// Sends the request to a spare and returns the spare's pid. None if no spare is alive.
    pub(super) fn send(&mut self, slot: u32, generation: u32, fds: &[OwnedFd]) -> Option<u32> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut packet = [0; HEAD];
        for (four, number) in packet
            .chunks_exact_mut(4)
            .zip([REQUEST, slot, generation, fds.len() as u32])
        {
            four.copy_from_slice(&number.to_ne_bytes());
        }
        while let Some((pid, socket)) = self.waiting.pop_front() {
            if fdpass::send_now(&socket, &packet, &borrowed).is_ok() {
                return Some(pid);
            }
        }
        None
    }

    pub(super) fn forget(&mut self, pid: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != pid);
    }

    /// Removes all spares and returns their pids, which the caller must wait for.
    pub(super) fn dismiss(&mut self) -> Vec<u32> {
        self.waiting.drain(..).map(|(pid, _)| pid).collect()
    }
}

/// A spare's own side.
#[derive(Debug)]
pub struct Spare {
    socket: OwnedFd,
}

/// What a spare is ordered to do.
#[derive(Debug)]
#[must_use]
pub enum SpareOrder {
    /// Become the child for this seat.
    Be {
        /// Slot of the seat.
        slot: u32,
        /// Generation of the seat.
        generation: u32,
        /// The descriptors for the child.
        fds: Vec<OwnedFd>,
    },
    /// The server has ended, and the spare must end too.
    End,
    /// A signal arrived first.
    Interrupted,
}

impl Spare {
    /// Waits for a request.
    ///
    /// # Errors
    /// No descriptor is free for those that arrived.
    pub fn wait(&self) -> io::Result<SpareOrder> {
        let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
        if pidfd::ready(&mut socket, Deadline::NEVER)? == pidfd::PollOutcome::Interrupted {
            return Ok(SpareOrder::Interrupted);
        }
        let mut bytes = [0; HEAD];
        match fdpass::recv_now(&self.socket, &mut bytes) {
            Ok(packet) if packet.len == HEAD => {
                let [_, slot, generation, _] = numbers(&bytes);
                Ok(SpareOrder::Be {
                    slot,
                    generation,
                    fds: packet.fds,
                })
            }
            Ok(_) => Ok(SpareOrder::End),
            Err(PassError::Os(e)) if e.kind() == io::ErrorKind::ConnectionReset => Ok(SpareOrder::End),
            Err(e) => Err(e.into()),
        }
    }
}
