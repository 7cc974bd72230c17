//! The reactor: the thread that wakes the futures of this process, and what is registered with it.
//!
//! The thread sleeps in `epoll_wait(2)` on the mailbox and on the descriptors that are awaited, at most until it looks at
//! everything ([`FIRST_LOOK`], later [`Bell::LONGEST_SLEEP`]). When nothing has been registered for as long, it parks until
//! something is registered. One mutex guards the registrations. It is held for a few memory operations, and for none of
//! the program's code: wakers are called, and dropped, after it is released.
//!
//! The reactor survives a program that closes descriptors which it did not open. The thread checks the identity of its own
//! before each sleep, and replaces those that are lost.

use super::Source;
use super::descriptor::without_reactor;
use super::watched::{Entry, WatchedBell};
use procession_core::sync::bell::Bell;
use procession_core::sync::wakers::Mailbox;
use procession_core::sys::clock::Deadline;
use procession_core::sys::descriptor::{GuardedFd, clear_of_streams};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::collections::HashMap;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread::{self, Thread};
use std::time::Duration;

/// How long the thread sleeps before it first looks at everything without having been told to.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How long it sleeps while an object has no place for the mailbox.
const UNCALLED_LOOK: Duration = Duration::from_millis(20);
/// How many objects it has look for dead processes at a time.
const MOST_LOOKS: usize = 4;
/// How long it sleeps before it wakes a task that wants to be woken soon.
const SOON: Duration = Duration::from_millis(1);
/// Names the mailbox in epoll's events; the descriptors have other numbers.
const MAILBOX: u64 = 0;

/// The reactors of this process and of the processes that it was forked from, in a list. At most one is this process's.
static FIRST: OnceLock<&'static Reactor> = OnceLock::new();

/// See the module documentation.
pub(super) struct Reactor {
    /// The process whose reactor it is.
    pid: u32,
    state: Mutex<State>,
    epoll: GuardedFd,
    thread: OnceLock<Thread>,
    /// The reactor that a forked child has made.
    next: OnceLock<&'static Reactor>,
}

#[derive(Default)]
struct State {
    /// None if the system has no descriptor for it: then the reactor looks at the objects from time to time.
    mailbox: Option<Mailbox>,
    /// By address.
    bells: HashMap<usize, WatchedBell>,
    descriptors: HashMap<u64, WatchedFd>,
    /// Number of the last registration. Greater than [`MAILBOX`].
    last: u64,
    /// Tasks to be woken in a moment.
    soon: Vec<Waker>,
    /// Whether a bell may have had no place for the mailbox.
    uncalled: bool,
    /// Whether the thread sleeps until it is unparked.
    parked: bool,
}

/// A descriptor, and the task that waits for it.
pub(super) struct WatchedFd {
    pub(super) fd: Arc<GuardedFd>,
    pub(super) events: EventFlags,
    pub(super) waker: Option<Waker>,
    /// Whether epoll reports its next event.
    pub(super) armed: bool,
}

/// The registration of a future at a bell. Dropping it ends it.
pub(crate) struct Registration {
    reactor: &'static Reactor,
    bell: usize,
    number: u64,
}

/// Has an observer woken, once, when the source's bell rings and a waiter could go on. The caller looks at the source
/// afterwards.
pub(super) fn observe(registration: &mut Option<Registration>, source: &Arc<dyn Source>, waker: &Waker) {
    register_by(Reactor::observe, registration, source, waker);
}

/// Registers a task that waits for a source, or registers it again after it was polled. The caller then attempts its
/// operation once more.
pub(super) fn register(registration: &mut Option<Registration>, source: &Arc<dyn Source>, waker: &Waker) {
    register_by(Reactor::enter, registration, source, waker);
}

fn register_by(
    enter: impl Fn(&Reactor, usize, Option<u64>, &Arc<dyn Source>, &Waker) -> u64,
    registration: &mut Option<Registration>,
    source: &Arc<dyn Source>,
    waker: &Waker,
) {
    let Some(reactor) = Reactor::current() else {
        return without_reactor(waker);
    };
    let bell = std::ptr::from_ref(source.bell()).addr();
    let number = match registration {
        Some(known) if known.reactor.pid == reactor.pid => Some(known.number),
        _ => None,
    };
    let number = enter(reactor, bell, number, source, waker);
    if let Some(known) = registration
        && known.reactor.pid == reactor.pid
    {
        known.number = number;
    } else {
        *registration = Some(Registration {
            reactor,
            bell,
            number,
        });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // In a forked child it is a copy of the parent's.
        if self.reactor.pid == std::process::id() {
            self.reactor.leave(self.bell, self.number);
        }
    }
}

impl Reactor {
    /// The reactor of this process; None if it has none, and no thread can be started.
    pub(super) fn current() -> Option<&'static Reactor> {
        let pid = std::process::id();
        let mut place = &FIRST;
        while let Some(reactor) = place.get() {
            if reactor.pid == pid {
                return Some(reactor);
            }
            place = &reactor.next;
        }
        Reactor::start(pid)
    }

    #[cold]
    fn start(pid: u32) -> Option<&'static Reactor> {
        let (send, receive) = std::sync::mpsc::channel::<&'static Reactor>();
        let thread = move || {
            if let Ok(reactor) = receive.recv() {
                reactor.run();
            }
        };
        thread::Builder::new()
            .name("procession waits".into())
            .spawn(thread)
            .ok()?;
        // It lives until the process ends. If another thread is faster, this one is left without descriptors.
        let new: &'static Reactor = Box::leak(Box::new(Reactor {
            pid,
            state: Mutex::default(),
            epoll: GuardedFd::empty(),
            thread: OnceLock::new(),
            next: OnceLock::new(),
        }));
        let mut place = &FIRST;
        let reactor = loop {
            match place.set(new) {
                Ok(()) => {
                    let _ = send.send(new);
                    break new;
                }
                Err(_) => match place.get() {
                    Some(first) if first.pid == pid => break first,
                    Some(first) => {
                        first.abandon();
                        place = &first.next;
                    }
                    None => {}
                },
            }
        };
        reactor.maintain();
        Some(reactor)
    }

    /// Closes the descriptors of a reactor that this process has copied in a fork.
    fn abandon(&self) {
        drop(self.epoll.take());
        // A thread of the parent may have held the lock, and there is no such thread here.
        if let Ok(mut state) = self.state.try_lock() {
            state.mailbox = None;
        }
    }

    pub(super) fn is_of_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the program runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a task that waits, or enters it again. Returns its number.
    fn enter(&self, bell: usize, number: Option<u64>, source: &Arc<dyn Source>, waker: &Waker) -> u64 {
        let mut state = self.lock();
        let number = number.unwrap_or(state.last + 1);
        state.last = state.last.max(number);
        let State { mailbox, bells, .. } = &mut *state;
        let watched = bells.entry(bell).or_default();
        let entry = watched.take_woken(number);
        let mut entry = entry
            .or_else(|| watched.waiting.remove(&number))
            .unwrap_or_else(|| Entry {
                source: source.clone(),
                waker: None,
            });
        let old = match &entry.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => entry.waker.replace(waker.clone()),
        };
        watched.waiting.insert(number, entry);
        let uncalled = watched.listen(source.bell(), mailbox.as_ref());
        state.uncalled |= uncalled;
        self.stir(state, uncalled);
        drop(old);
        number
    }

    /// Enters an observer, or has one that was woken listen again. Returns its number.
    fn observe(&self, bell: usize, number: Option<u64>, source: &Arc<dyn Source>, waker: &Waker) -> u64 {
        let mut state = self.lock();
        let number = number.unwrap_or(state.last + 1);
        state.last = state.last.max(number);
        let State { mailbox, bells, .. } = &mut *state;
        let watched = bells.entry(bell).or_default();
        let entry = watched.observers.entry(number).or_insert_with(|| Entry {
            source: source.clone(),
            waker: None,
        });
        let old = entry.waker.replace(waker.clone());
        let uncalled = watched.listen(source.bell(), mailbox.as_ref());
        state.uncalled |= uncalled;
        self.stir(state, uncalled);
        drop(old);
        number
    }

    /// Removes a task. If it was woken, another one may have to be woken in its place.
    fn leave(&self, bell: usize, number: u64) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let State { mailbox, bells, .. } = &mut *state;
        let Some(watched) = bells.get_mut(&bell) else {
            return;
        };
        let gone = match watched.take_woken(number) {
            Some(entry) => {
                watched.distribute(watched.woken.len(), &mut wakers);
                Some(entry)
            }
            None => watched
                .waiting
                .remove(&number)
                .or_else(|| watched.observers.remove(&number)),
        };
        if let Some(entry) = &gone {
            watched.mute_if_none_listens(entry.source.bell(), mailbox.as_ref());
        }
        if watched.is_empty() {
            bells.remove(&bell);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Watches a descriptor, which a task waits for later. Returns its number.
    pub(super) fn watch(&self, fd: &Arc<GuardedFd>, events: EventFlags) -> u64 {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.descriptors.insert(
            number,
            WatchedFd {
                fd: fd.clone(),
                events,
                waker: None,
                armed: false,
            },
        );
        self.add(number, fd, EventFlags::ONESHOT);
        number
    }

    /// Has the task woken when the descriptor is ready.
    pub(super) fn arm(&self, number: u64, waker: &Waker) {
        let mut state = self.lock();
        let Some(watched) = state.descriptors.get_mut(&number) else {
            return;
        };
        let old = match &watched.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => watched.waker.replace(waker.clone()),
        };
        if !watched.armed {
            watched.armed = true;
            let (epoll, fd) = (self.epoll.get(), watched.fd.get());
            if let (Some(epoll), Some(fd)) = (epoll, fd) {
                let events = watched.events | EventFlags::ONESHOT;
                let _ = epoll::modify(epoll, fd, EventData::new_u64(number), events);
            }
        }
        self.stir(state, false);
        drop(old);
    }

    /// Has a task woken in a moment: it waits for what no bell and no descriptor reports.
    pub(super) fn wake_soon(&self, waker: &Waker) {
        let mut state = self.lock();
        state.soon.push(waker.clone());
        self.stir(state, true);
    }

    /// Forgets a descriptor.
    pub(super) fn unwatch(&self, number: u64) {
        let mut state = self.lock();
        let gone = state.descriptors.remove(&number);
        drop(state);
        if let Some(gone) = gone
            && let (Some(epoll), Some(fd)) = (self.epoll.get(), gone.fd.get())
        {
            // Closing is not enough if a forked child has a copy of the descriptor.
            let _ = epoll::delete(epoll, fd);
        }
    }

    fn add(&self, number: u64, fd: &GuardedFd, events: EventFlags) {
        if let (Some(epoll), Some(fd)) = (self.epoll.get(), fd.get()) {
            let _ = epoll::add(epoll, fd, EventData::new_u64(number), events);
        }
    }

    /// Unparks the thread. `at_once`: also ends its sleep in epoll.
    fn stir(&self, mut state: MutexGuard<'_, State>, at_once: bool) {
        if take(&mut state.parked) {
            drop(state);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        } else if at_once && let Some(mailbox) = &state.mailbox {
            mailbox.notify();
        }
    }

    /// The thread's loop.
    fn run(&self) {
        let _ = self.thread.set(thread::current());
        let mut span = FIRST_LOOK;
        let mut look = Deadline::after(span);
        let mut events = Vec::with_capacity(64);
        loop {
            if look.expired() {
                span = if self.look_at_all() {
                    (span * 2).min(Bell::LONGEST_SLEEP)
                } else {
                    FIRST_LOOK
                };
                look = Deadline::after(span);
            }
            let (soon, uncalled) = self.maintain();
            if uncalled {
                look = look.sooner(Deadline::after(UNCALLED_LOOK));
            }
            let until = if soon {
                look.sooner(Deadline::after(SOON))
            } else {
                look
            };
            events.clear();
            self.sleep(&mut events, until);
            self.deliver(&events, soon);
        }
    }

    /// Replaces descriptors that the program has closed. Returns whether a task is to be woken soon, and whether a bell has
    /// no place for the mailbox.
    fn maintain(&self) -> (bool, bool) {
        let mut state = self.lock();
        let whole =
            self.epoll.get().is_some() && state.mailbox.as_ref().is_some_and(|m| m.socket().is_some());
        if !whole {
            self.repair(&mut state);
        }
        (!state.soon.is_empty(), state.uncalled)
    }

    #[cold]
    fn repair(&self, state: &mut State) {
        let State {
            mailbox,
            bells,
            descriptors,
            uncalled,
            ..
        } = state;
        drop(self.epoll.take());
        if let Ok(epoll) = epoll::create(CreateFlags::CLOEXEC)
            && let Ok(epoll) = clear_of_streams(epoll)
        {
            let _ = self.epoll.put(epoll);
        }
        if mailbox.as_ref().is_none_or(|m| m.socket().is_none()) {
            bells.values_mut().for_each(|bell| bell.mute(mailbox.as_ref()));
            *mailbox = Mailbox::new().ok();
            for bell in bells.values_mut() {
                if let Some(source) = bell.source() {
                    *uncalled |= bell.listen(source.bell(), mailbox.as_ref());
                }
            }
        }
        if let (Some(epoll), Some(socket)) = (self.epoll.get(), mailbox.as_ref().and_then(Mailbox::socket)) {
            let _ = epoll::add(epoll, socket, EventData::new_u64(MAILBOX), EventFlags::IN);
        }
        for (number, watched) in descriptors {
            let events = if watched.armed {
                watched.events | EventFlags::ONESHOT
            } else {
                EventFlags::ONESHOT
            };
            self.add(*number, &watched.fd, events);
        }
    }

    fn sleep(&self, events: &mut Vec<Event>, until: Deadline) {
        let left = until.left().unwrap_or(Bell::LONGEST_SLEEP);
        match self.epoll.get() {
            Some(epoll) => {
                let left = left.try_into().ok();
                // An error is an interruption, or the program has closed the descriptor: the next round finds out.
                let _ = epoll::wait(epoll, rustix::buffer::spare_capacity(events), left.as_ref());
            }
            None => thread::sleep(left.min(UNCALLED_LOOK)),
        }
    }

    /// Wakes the tasks for which something has happened.
    fn deliver(&self, events: &[Event], soon: bool) {
        if events.is_empty() && !soon {
            return;
        }
        let mut state = self.lock();
        let mut wakers = take(&mut state.soon);
        let State {
            mailbox,
            bells,
            descriptors,
            ..
        } = &mut *state;
        for event in events {
            match event.data.u64() {
                MAILBOX => {
                    // First: a ring after this comes with another datagram.
                    if let Some(mailbox) = mailbox {
                        mailbox.empty();
                    }
                    for bell in bells.values_mut() {
                        bell.look_if_it_rang(mailbox.as_ref(), &mut wakers);
                    }
                }
                number => {
                    if let Some(watched) = descriptors.get_mut(&number) {
                        watched.armed = false;
                        wakers.extend(watched.waker.take());
                    }
                }
            }
        }
        drop(state);
        wake(wakers);
    }

    /// Looks at everything that is registered. If nothing is, sleeps until something is and returns false.
    fn look_at_all(&self) -> bool {
        let mut state = self.lock();
        if state.bells.values().all(|bell| bell.source().is_none())
            && state.soon.is_empty()
            && state.descriptors.values().all(|watched| watched.waker.is_none())
        {
            state.parked = true;
            while state.parked {
                drop(state);
                thread::park();
                state = self.lock();
            }
            return false;
        }
        // The reaper rings bells, so the lock is not held meanwhile: a ring may send a datagram to this very mailbox.
        let sources: Vec<_> = state.bells.values().filter_map(WatchedBell::source).collect();
        drop(state);
        // Each looks at some members of its family, and the next at others.
        let looked = sources.iter().filter(|source| source.look_for_deaths());
        let _ = looked.take(MOST_LOOKS).count();
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let State {
            mailbox,
            bells,
            descriptors,
            ..
        } = &mut *state;
        for bell in bells.values_mut() {
            bell.look(mailbox.as_ref(), &mut wakers);
        }
        let uncalled = bells.values().any(|bell| bell.listening && !bell.called);
        wakers.extend(
            descriptors
                .values_mut()
                .filter_map(|watched| watched.waker.take()),
        );
        state.uncalled = uncalled;
        drop(state);
        drop(sources);
        wake(wakers);
        true
    }
}

/// Wakes tasks on a thread of this crate, which must outlive a waker that panics.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
    }
}
