//! Finds the memory of a family through any of its processes.
//!
//! | tried | permitted if |
//! |---|---|
//! | the process's descriptor of the memory (`/proc/PID/fd`) | the process belongs to the same user and is dumpable, or this one has CAP_SYS_PTRACE |
//! | if it has closed that: its mapping (`/proc/PID/map_files`) | this process has CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE |
//! | the descriptor of another process that has the same file mapped, or in whose family the process is a member | as above, for that process |
//! | its memory (`/proc/PID/mem`) | this process may trace it (ptrace scope) |

mod descriptors;
mod mapped;

use crate::error::{Error, Result};
use crate::memory::{Memory, Opened};
use crate::model::Unseen;
use crate::proc;
use crate::read::{self, Observer};
use descriptors::Identity;
use std::collections::HashSet;
use std::io;

/// The memory of a family that was found, and what was refused on the way.
#[derive(Debug)]
pub struct Attached {
    /// The memory.
    pub memory: Memory,
    /// What was refused.
    pub unseen: Vec<Unseen>,
}

/// Finds the memory of the family of the process `pid`.
///
/// # Errors
/// There is no such process, it belongs to no family, or this user may not look at it.
pub fn attach(pid: u32) -> Result<Attached> {
    if proc::stat(pid).is_err() {
        return Err(Error::NoProcess { pid });
    }
    let mut unseen = Vec::new();
    let mut other_version = None;
    match descriptors::open(pid) {
        Ok(files) => {
            let mut found = Vec::new();
            for (_, file) in files {
                match Memory::open(Box::new(Opened(file))) {
                    Ok(memory) => found.push(memory),
                    Err(Error::Damaged { .. }) => {}
                    Err(e) => other_version = Some(e),
                }
            }
            if let Some(memory) = home(found, pid) {
                return Ok(Attached { memory, unseen });
            }
            if let Some(error) = other_version {
                return Err(error);
            }
        }
        Err(error) => unseen.push(Unseen {
            what: format!("the descriptors of process {pid} ({error})"),
            needs: proc::permission(pid),
        }),
    }
    // It has closed the descriptor, or may not be looked at.
    let mappings = mapped::mappings(pid);
    if let Ok(Some(mapping)) = &mappings {
        if unseen.is_empty() {
            unseen.push(Unseen {
                what: format!("the descriptor of the family memory in process {pid}"),
                needs: "the program to leave it open: it has closed it".to_owned(),
            });
        }
        if let Ok(memory) = mapping.file().and_then(|file| open(file, &mut other_version)) {
            return Ok(Attached { memory, unseen });
        }
    }
    let identity = mappings
        .as_ref()
        .ok()
        .and_then(|m| m.as_ref())
        .map(|m| m.identity);
    if let Some(memory) = through_others(pid, identity) {
        return Ok(Attached { memory, unseen });
    }
    if let Ok(Some(mapping)) = mappings {
        match mapping.through_memory() {
            Ok(source) => {
                let memory = Memory::open(Box::new(source))?;
                return Ok(Attached { memory, unseen });
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::NotPermitted {
                    pid,
                    what: "reading its memory (its descriptors are closed)".to_owned(),
                    permission: proc::tracing(pid),
                });
            }
            Err(e) => return Err(Error::file(format!("/proc/{pid}/mem"), e)),
        }
    }
    match (other_version, unseen.pop()) {
        (Some(error), _) => Err(error),
        (None, Some(refused)) => Err(Error::NotPermitted {
            pid,
            what: refused.what,
            permission: refused.needs,
        }),
        (None, None) => Err(Error::NoFamily { pid }),
    }
}

impl Observer {
    /// Finds the family of the process `pid`.
    ///
    /// # Errors
    /// There is no such process, it belongs to no family, or this user may not look at it.
    pub fn attach(pid: u32) -> Result<Observer> {
        let found = attach(pid)?;
        Ok(Observer::of(found.memory, found.unseen))
    }
}

/// Finds all families on this machine, each once; and says which processes could not be looked at.
#[must_use]
pub fn all() -> (Vec<Memory>, Vec<Unseen>) {
    let mut seen = HashSet::new();
    let mut families = Vec::new();
    let mut refused = 0;
    for pid in proc::pids() {
        match descriptors::open(pid) {
            Ok(files) => {
                for (identity, file) in files {
                    if seen.insert(identity)
                        && let Ok(memory) = Memory::open(Box::new(Opened(file)))
                    {
                        families.push(memory);
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused += 1,
            Err(_) => {}
        }
    }
    let unseen = (refused > 0).then(|| Unseen {
        what: format!("{refused} processes of other users, or that are not dumpable"),
        needs: "CAP_SYS_PTRACE, as root has it".to_owned(),
    });
    (families, unseen.into_iter().collect())
}

fn open(file: std::fs::File, other_version: &mut Option<Error>) -> io::Result<Memory> {
    Memory::open(Box::new(Opened(file))).map_err(|e| {
        *other_version = Some(e);
        io::ErrorKind::InvalidData.into()
    })
}

/// Of the families whose memory a process has open, that in which it makes its objects. (If two of its threads made the first
/// object at the same time, it has founded two families, of which one stays empty.)
fn home(mut found: Vec<Memory>, pid: u32) -> Option<Memory> {
    let own_pid = own_pid(pid);
    let home = (0..found.len())
        .filter(|position| read::seat_of(&found[*position], own_pid) == Some(true))
        .max_by_key(|position| found[*position].sequence().unwrap_or(0))
        .or_else(|| {
            found
                .iter()
                .position(|memory| read::seat_of(memory, own_pid).is_some())
        });
    let position = home.or((!found.is_empty()).then_some(0))?;
    Some(found.swap_remove(position))
}

fn own_pid(pid: u32) -> u32 {
    proc::ids(&format!("/proc/{pid}")).last().copied().unwrap_or(pid)
}

/// Looks for a process that has the memory open, and that this user may look at: parents and children first.
fn through_others(pid: u32, identity: Option<Identity>) -> Option<Memory> {
    let own_pid = own_pid(pid);
    let mut seen = HashSet::new();
    for other in proc::pids() {
        if other == pid {
            continue;
        }
        for (this, file) in descriptors::open(other).unwrap_or_default() {
            if !seen.insert(this) || identity.is_some_and(|identity| identity != this) {
                continue;
            }
            if let Ok(memory) = Memory::open(Box::new(Opened(file)))
                && (identity.is_some() || read::seat_of(&memory, own_pid).is_some())
            {
                return Some(memory);
            }
        }
    }
    None
}
