//! Children whose handles were dropped while they were running. A process must wait for each of its children, or the child
//! stays as a zombie after its end.
//!
//! One thread waits for all of them. It begins with the first such child and ends when there is none left, so a program
//! that joins its processes has no thread more. The children's pidfds are in an epoll set: adding a child wakes the
//! thread, and closing a child's pidfd takes it out. A child without a pidfd, or a thread without a descriptor for the
//! set, costs looks at intervals.
//!
//! A child of the fork server is none of these: the server waits for it.
//!
//! # Forks
//!
//! A forked child has a copy of the list and not the thread. The children in the list are those of its parent, so it
//! forgets them ([`forget_inherited`]). A program may also fork without this crate; so the list notes whose it is.

use procession_core::process::Child;
use procession_core::sys::descriptor::{self, GuardedFd};
use procession_core::sys::fork::HeldSignals;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

static FORGOTTEN: Mutex<Forgotten> = Mutex::new(Forgotten::new());

/// The interval at which the thread looks for children that are not in the epoll set: the first and the longest.
const LOOKS: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];
/// The interval at which it looks in any case. If the program closes the set while the thread waits for it, the kernel
/// says nothing.
const LONG: Duration = Duration::from_secs(10);

struct Forgotten {
    children: Vec<Child>,
    /// The pid of the process whose children these are; 0: none yet.
    owner: u32,
    /// Whether the thread runs.
    watched: bool,
    /// Whether a child is not in the epoll set.
    unpolled: bool,
}

/// The epoll set. It stays open for the next thread.
static SET: GuardedFd = GuardedFd::empty();

impl Forgotten {
    const fn new() -> Forgotten {
        Forgotten {
            children: Vec::new(),
            owner: 0,
            watched: false,
            unpolled: false,
        }
    }

    /// Waits for the children that have ended, without blocking.
    fn look(&mut self) {
        self.children.retain(|child| child.poll().is_none());
    }
}

fn forgotten() -> MutexGuard<'static, Forgotten> {
    let mut all = FORGOTTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id();
    if all.owner != own {
        if all.owner != 0 {
            // A fork without this crate: see the module.
            forget_all(&mut all);
        }
        all.owner = own;
    }
    all
}

/// Takes over a child that has no handle any more and must still be waited for.
pub(crate) fn forget(child: Child) {
    if !child.is_direct() {
        return;
    }
    let mut all = forgotten();
    if !watch(&child) {
        all.unpolled = true;
    }
    all.children.push(child);
    if !all.watched {
        // No handler of the program runs in the thread.
        let held = HeldSignals::hold_all();
        let thread = thread::Builder::new().name("ended children".into());
        // If the system has no thread left, the next start of a process looks for the child.
        all.watched = thread.spawn(wait_for_all).is_ok();
        held.release();
    }
}

/// Waits for the children that have ended. Called before a process is started: there may be no thread.
pub(super) fn look_after_all() {
    if let Ok(mut all) = FORGOTTEN.try_lock()
        && all.owner == std::process::id()
    {
        all.look();
    }
}

/// Puts a child into the epoll set. Returns false if that cannot be done.
fn watch(child: &Child) -> bool {
    let Ok(pidfd) = crate::startup::sentinel(child) else {
        return false;
    };
    let add = || match SET.get() {
        Some(set) => epoll::add(set, pidfd, EventData::new_u64(0), EventFlags::IN | EventFlags::ET),
        None => Err(Errno::BADF),
    };
    let added = add();
    if added.is_ok() {
        return true;
    }
    // There is no set yet, or the program has closed it.
    let made = epoll::create(CreateFlags::CLOEXEC).map_err(Into::into);
    match made.and_then(descriptor::clear_of_streams) {
        Ok(set) => SET.put(set).is_ok() && add().is_ok(),
        Err(_) => false,
    }
}

/// Runs the thread.
fn wait_for_all() {
    let mut look = LOOKS[0];
    let mut notified = false;
    loop {
        let unpolled = {
            let mut all = forgotten();
            let before = all.children.len();
            all.look();
            if all.children.is_empty() {
                all.watched = false;
                all.unpolled = false;
                return;
            }
            if all.children.len() != before {
                look = LOOKS[0];
            } else if notified {
                // A debugger must release it first, and the set tells of each end once.
                all.unpolled = true;
            }
            all.unpolled
        };
        if unpolled {
            look = (look * 2).min(LOOKS[1]);
        }
        notified = wait(if unpolled { look } else { LONG });
    }
}

/// Waits until a child has ended, or for `limit`. Returns true for the end of a child.
fn wait(limit: Duration) -> bool {
    let mut room = [MaybeUninit::uninit(); 1];
    let waited = match SET.get() {
        Some(set) => {
            let limit = limit.try_into().ok();
            epoll::wait(set, &mut room, limit.as_ref()).map(|(events, _)| !events.is_empty())
        }
        None => Err(Errno::BADF),
    };
    match waited {
        Ok(notified) => notified,
        Err(Errno::INTR) => false,
        Err(_) => {
            // There is no set, or the program has closed it.
            forgotten().unpolled = true;
            thread::sleep(limit.min(LOOKS[1]));
            false
        }
    }
}

/// Returns a lock to be held across a fork, so that the mutex is free in the child.
pub(super) fn hold_still() -> impl Sized {
    FORGOTTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets the noted children, in a forked child: they are children of the parent.
pub(super) fn forget_inherited() {
    if let Ok(mut all) = FORGOTTEN.try_lock() {
        forget_all(&mut all);
        all.owner = std::process::id();
    }
}

fn forget_all(all: &mut Forgotten) {
    all.children.clear();
    all.watched = false;
    all.unpolled = false;
    drop(SET.take());
}
