//! Spares: children of the fork server that were forked ahead, and wait to be told who they are.
//!
//! Each is connected to the server by a socket pair of its own. To start a child from a spare is to send it the
//! request (slot, generation, descriptors) over that socket, which costs a message instead of a fork; everything else is
//! as with a child that was forked on request, and the server is its parent just the same.
//!
//! # Who dies when
//!
//! | killed | then |
//! |---|---|
//! | spare, and dead before it is sent a request | the sending fails, and the next spare or a fork takes the request |
//! | spare, after it was sent one, before it takes the seat | as a child that dies early: the server records how it ended |
//! | server | the socket ends, and the spare with it, without a word |

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

    /// To be called before the fork.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.unborn = Some(fdpass::pair()?);
        Ok(())
    }

    /// In the server, after the fork.
    pub(super) fn add(&mut self, pid: u32) {
        if let Some((ours, _theirs)) = self.unborn.take() {
            self.waiting.push_back((pid, ours));
        }
    }

    /// In the spare, after the fork.
    pub(super) fn become_one(&mut self) -> Option<Spare> {
        self.waiting.clear();
        let (_servers, socket) = self.unborn.take()?;
        Some(Spare { socket })
    }

    /// Has a spare take the request; its pid. None if there is none that lives.
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

    /// Sends all of them away; their pids, to be waited for.
    pub(super) fn dismiss(&mut self) -> Vec<u32> {
        self.waiting.drain(..).map(|(pid, _)| pid).collect()
    }
}

/// A spare's own side.
#[derive(Debug)]
pub struct Spare {
    socket: OwnedFd,
}

/// What a spare is told.
#[derive(Debug)]
#[must_use]
pub enum Told {
    /// It is the child for this seat.
    Be {
        /// The seat's slot.
        slot: u32,
        /// The seat's generation.
        generation: u32,
        /// The descriptors for the child.
        fds: Vec<OwnedFd>,
    },
    /// The server has gone, and so is nobody left to need it.
    End,
    /// A signal came first.
    Interrupted,
}

impl Spare {
    /// Waits for a request.
    ///
    /// # Errors
    /// No descriptor is free for those that came.
    pub fn wait(&self) -> io::Result<Told> {
        let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
        if pidfd::ready(&mut socket, Deadline::NEVER)? == pidfd::PollOutcome::Interrupted {
            return Ok(Told::Interrupted);
        }
        let mut bytes = [0; HEAD];
        match fdpass::recv_now(&self.socket, &mut bytes) {
            Ok(packet) if packet.len == HEAD => {
                let [_, slot, generation, _] = numbers(&bytes);
                Ok(Told::Be {
                    slot,
                    generation,
                    fds: packet.fds,
                })
            }
            Ok(_) => Ok(Told::End),
            Err(PassError::Os(e)) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Told::End),
            Err(e) => Err(e.into()),
        }
    }
}
