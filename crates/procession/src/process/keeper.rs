//! The keeper of descriptors in flight: an instance of this program that stops in `init` and does nothing else.
//!
//! What it does, and the protocol, are the core's (`procession_core::process::keeper`). A process starts one when it sends its
//! first descriptor and the family has none.

use super::builder::{Seated, start_program};
use super::child;
use super::environment::Environment;
use crate::error::StartError;
use crate::startup::{self, Inherited};
use procession_core::family::Family;
use procession_core::process::{Child, KeepError, Keeper, Ticket};
use rustix::pipe::PipeFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a sender starts a keeper before it gives up: each may end before the sender has found it.
const ATTEMPTS: u32 = 3;

/// Gives a copy of a descriptor to a keeper, and starts one if there is none or all are full. The error is the reason as text.
pub(crate) fn keep(fd: BorrowedFd<'_>) -> Result<Ticket, String> {
    let family = Family::home().map_err(|e| e.to_string())?;
    let mut refused = KeepError::NoKeeper;
    for _ in 0..ATTEMPTS {
        match Ticket::new(family, fd) {
            Err(e @ (KeepError::NoKeeper | KeepError::KeeperExhausted)) => {
                refused = e;
                start(family).map_err(why_not_started)?;
            }
            kept => return kept.map_err(|e| e.to_string()),
        }
    }
    Err(refused.to_string())
}

fn why_not_started(error: StartError) -> String {
    match error {
        StartError::NotInitialised => {
            "a program that sends descriptors must call procession::init() first in main, because a second instance of it \
             keeps them in flight"
                .into()
        }
        e => format!("the process that keeps descriptors in flight: {e}"),
    }
}

/// Starts a keeper, and waits until it can be asked.
fn start(family: &'static Family) -> Result<(), StartError> {
    if !startup::is_initialised() {
        return Err(StartError::NotInitialised);
    }
    super::forgotten::look_after_all();
    let (ready, signal) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let seated = Seated::reserve(family, "keeper")?;
    let pid = start_program(
        seated.seat,
        startup::KEEPER,
        None,
        &Environment::default(),
        &[signal.as_fd()],
    )?;
    let process = Child::new(pid, Some(seated.seat), true);
    seated.occupied_by(pid);
    drop(signal);
    // If the keeper ends without a word, the pipe ends, and the next attempt reports it.
    let _ = File::from(ready).read(&mut [0]);
    super::forgotten::forget(process);
    Ok(())
}

/// Runs the life of a keeper.
pub(crate) fn serve(memory: OwnedFd, mut inherited: Inherited, slot: u32, generation: u32) {
    let (Ok((seat, _)), Some(ready)) = (Family::adopt(Some(memory), slot, generation), inherited.next())
    else {
        std::process::exit(1)
    };
    // The streams of the process that has started it may be pipes whose readers wait for the end of the program.
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let null = OwnedFd::from(null);
        for place in 0..3 {
            let _ = startup::put_in_place(&null, place);
        }
    }
    let Ok(keeper) = Keeper::new(seat) else {
        child::end(1)
    };
    let _ = File::from(ready).write_all(b"!");
    keeper.serve();
    child::end(0)
}
