//! Waiting for one of many things in a thread: see [`waits`](crate::waits) for how.

use crate::channel::{Duplex, Receiver, Sender};
use crate::connection::Listener;
use crate::message::Message;
use crate::process::Process;
use crate::queue::Queue;
use crate::sync::{Event, Semaphore};
use crate::waits::{Descriptor, Items, Observer, Parker, Permits, Room, Set};
use procession_core::family::Handle;
use procession_core::family::waits::{What, recorded};
use procession_core::queue as core;
use procession_core::sync::spin::Spin;
use procession_core::sys::clock::Deadline;
use procession_core::sys::pidfd;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Waits in one thread for several sources at once: messages and room in queues and channels, events, permits, ends of
/// processes, descriptors.
///
/// Each function that adds a source returns its number. [`ready`](Select::ready) waits until a source is ready and returns the
/// number. The caller then does the operation with the function that does not wait. That function can still find nothing,
/// because another thread or process has been faster; then select again. Nothing is taken from any source by the wait.
///
/// - If several sources are ready, they have turns, so none is left out.
/// - A source is also ready when its operation fails at once: the channel is closed, because the last process at its other end
///   was killed.
/// - A select is meant to be used again and again: from the second wait on, only the sources that were ready cost anything but
///   a look. There is no thread and no descriptor per queue.
/// - A select keeps no end of a channel alive, and holds duplicates of its descriptors.
///
/// In async programs use the async functions and the `select!` of the runtime instead.
///
/// ```
/// use procession::{GetError, Process, Select, Sender};
/// use std::time::Duration;
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (sender, receiver) = procession::channel()?;
///     let stop = procession::Event::new()?;
///     let child = Process::spawn(|sender: Sender<u32>| (0..3).all(|n| sender.send(&n).is_ok()), sender)?;
///
///     let mut select = Select::new();
///     let message = select.recv(&receiver);
///     let stopped = select.event(&stop);
///     let mut sum = 0;
///     loop {
///         match select.ready_timeout(Duration::from_secs(10)) {
///             None => println!("nothing for ten seconds"),
///             Some(source) if source == stopped => break,
///             Some(source) if source == message => match receiver.try_recv() {
///                 Ok(n) => sum += n,
///                 Err(GetError::Empty) => {} // another receiver was faster
///                 Err(GetError::Closed) => break,
///                 Err(e) => return Err(e.into()),
///             },
///             Some(_) => unreachable!(),
///         }
///     }
///     assert_eq!(sum, 3);
///     assert!(child.join()?);
///     Ok(())
/// }
/// ```
#[derive(Default)]
pub struct Select {
    sources: Vec<Option<Watched>>,
    /// How many sources are there: those that were not removed.
    count: usize,
    /// The source that is looked at first.
    turn: usize,
    parker: Parker,
    /// How well spinning worked so far.
    spin: Spin,
    /// The process whose parker is told of sources.
    process: u32,
}

struct Watched {
    kind: Kind,
    waker: Waker,
    /// Whether the parker is told when it becomes ready.
    listens: bool,
}

enum Kind {
    Object(Observer),
    Descriptor(Descriptor),
}

impl Select {
    /// Creates a select without sources.
    #[must_use]
    pub fn new() -> Select {
        Select::default()
    }

    /// Adds a receiver: ready when there is a message, or no sender is left in any process.
    pub fn recv<T: Message>(&mut self, receiver: &Receiver<T>) -> usize {
        self.items(&receiver.0.queue, Some(receiver.0.peer))
    }

    /// Adds an end of a conversation: ready when there is a message, or the other end is gone.
    pub fn recv_duplex<A: Message, B: Message>(&mut self, end: &Duplex<A, B>) -> usize {
        self.recv(end.receiver())
    }

    /// Adds a sender: ready when there is room for a message, or no receiver is left in any process.
    pub fn send<T: Message>(&mut self, sender: &Sender<T>) -> usize {
        self.room(&sender.0.queue, Some(sender.0.peer))
    }

    /// Adds a queue: ready when there is a message, or the queue is closed.
    pub fn get<T: Message>(&mut self, queue: &Queue<T>) -> usize {
        self.items(queue, None)
    }

    /// Adds a queue: ready when there is room for a message, or the queue is closed. In a queue that is bounded in bytes,
    /// there is room for an empty message; a longer one may still have to wait.
    pub fn put<T: Message>(&mut self, queue: &Queue<T>) -> usize {
        self.room(queue, None)
    }

    /// Adds an event: ready while it is set, and once after it was set and cleared again.
    pub fn event(&mut self, event: &Event) -> usize {
        self.add(Kind::Object(Observer::new(Set::new(&event.inner))))
    }

    /// Adds a semaphore: ready when there is a permit.
    pub fn acquire(&mut self, semaphore: &Semaphore) -> usize {
        self.add(Kind::Object(Observer::new(Permits(semaphore.inner.clone()))))
    }

    /// Adds a process: ready when it has ended. [`Process::exit_status`] then says how.
    ///
    /// # Errors
    /// Those of [`Process::sentinel`]; no descriptor is free.
    pub fn process<R: Message>(&mut self, process: &Process<R>) -> io::Result<usize> {
        self.readable(process.sentinel()?)
    }

    /// Adds a listener: ready when a program connects, and when a program that has connected answers in its handshake.
    /// [`Listener::try_accept`] then returns a connection if a handshake is complete. So a program that connects and says nothing
    /// keeps no other source waiting. A listener that is dropped is not ready any more.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn accept(&mut self, listener: &Listener) -> io::Result<usize> {
        self.readable(listener.news()?)
    }

    /// Adds a descriptor: ready when it is readable, or its other end is closed. [`Connection`](crate::Connection),
    /// [`Listener`] and the standard library's sockets and pipes have one.
    ///
    /// A message of a connection may arrive in pieces: `recv` then waits for the rest of it. The descriptor of a listener is
    /// ready when a program connects; [`Listener::accept`] then waits for its handshake. Use [`accept`](Select::accept) if the
    /// thread must not wait.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn readable(&mut self, descriptor: impl AsFd) -> io::Result<usize> {
        Ok(self.add(Kind::Descriptor(Descriptor::readable(descriptor)?)))
    }

    /// Adds a descriptor: ready when it can be written to, or its other end is closed.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn writable(&mut self, descriptor: impl AsFd) -> io::Result<usize> {
        Ok(self.add(Kind::Descriptor(Descriptor::writable(descriptor)?)))
    }

    /// Removes a source. The numbers of the others stay, and its own is not used again. Does nothing if there is no such source.
    pub fn remove(&mut self, source: usize) {
        if self.sources.get_mut(source).and_then(Option::take).is_some() {
            self.count -= 1;
        }
    }

    /// Waits until a source is ready. Returns its number.
    ///
    /// # Panics
    /// There are no sources, so the wait would never end.
    pub fn ready(&mut self) -> usize {
        assert!(self.count != 0, "this select has no sources");
        loop {
            if let Some(source) = self.ready_until(Deadline::NEVER) {
                return source;
            }
        }
    }

    /// Returns the number of a source that is ready now; None if none is.
    #[must_use]
    pub fn try_ready(&mut self) -> Option<usize> {
        self.ready_until(Deadline::PAST)
    }

    /// Waits at most `limit` until a source is ready. Returns its number; None if the time is up.
    #[must_use]
    pub fn ready_timeout(&mut self, limit: Duration) -> Option<usize> {
        self.ready_until(Deadline::after(limit))
    }

    /// Waits until a source is ready, or until `deadline`. Returns its number; None if the time is up.
    #[must_use]
    pub fn ready_deadline(&mut self, deadline: Instant) -> Option<usize> {
        self.ready_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    fn items<T: Message>(&mut self, queue: &Queue<T>, peer: Option<Handle>) -> usize {
        let queue: Arc<core::Queue> = queue.inner.clone();
        self.add(Kind::Object(Observer::new(Items { queue, peer })))
    }

    fn room<T: Message>(&mut self, queue: &Queue<T>, peer: Option<Handle>) -> usize {
        let (queue, weight) = (queue.inner.clone(), 0);
        self.add(Kind::Object(Observer::new(Room { queue, peer, weight })))
    }

    fn add(&mut self, kind: Kind) -> usize {
        let number = self.sources.len();
        let waker = self.parker.waker(number);
        self.sources.push(Some(Watched {
            kind,
            waker,
            listens: false,
        }));
        self.count += 1;
        number
    }

    fn ready_until(&mut self, deadline: Deadline) -> Option<usize> {
        let rung = self.parker.sleep(Deadline::PAST);
        self.note(&rung);
        if let Some(found) = self.find(deadline == Deadline::PAST) {
            return Some(found);
        }
        if deadline == Deadline::PAST {
            return None;
        }
        if self.spin.until(1, || self.ready_object().is_some())
            && let Some(found) = self.ready_object()
        {
            return Some(self.found(found));
        }
        loop {
            // What listens is looked at afterwards: a change after this look is reported.
            self.listen();
            if let Some(found) = self.find(false) {
                return Some(found);
            }
            let parker = &self.parker;
            let waits_for = (What::Any, self.count as u64);
            let rung = recorded(waits_for, deadline, |_| false, || parker.sleep(deadline));
            self.note(&rung);
            if let Some(found) = self.find(false) {
                return Some(found);
            }
            if deadline.expired() {
                return None;
            }
        }
    }

    /// Notes the sources that the parker was told of: it must be asked again to tell of them.
    fn note(&mut self, rung: &[usize]) {
        for source in rung {
            if let Some(source) = &mut self.sources[*source] {
                source.listens = false;
            }
        }
    }

    /// Has the parker told of those sources that it is not told of.
    fn listen(&mut self) {
        let here = std::process::id();
        // In a forked child, what listens is the copy of the parent's.
        let forked = std::mem::replace(&mut self.process, here) != here;
        for source in self.sources.iter_mut().flatten() {
            if source.listens && !forked {
                continue;
            }
            match &mut source.kind {
                Kind::Object(observer) => observer.wake_when_ready(&source.waker),
                Kind::Descriptor(descriptor) => descriptor.wake_when_ready(&source.waker),
            }
            source.listens = true;
        }
    }

    /// Returns a source that is ready. `all`: looks at all descriptors, also at those that
    /// the parker is told of.
    fn find(&mut self, all: bool) -> Option<usize> {
        let object = self.ready_object();
        let descriptor = self.ready_descriptor(all);
        // The one that comes first, from the turn on.
        let found = match (object, descriptor) {
            (Some(a), Some(b)) => Some(if self.place(a) < self.place(b) { a } else { b }),
            (a, b) => a.or(b),
        };
        found.map(|found| self.found(found))
    }

    /// How far a source is from the turn.
    fn place(&self, source: usize) -> usize {
        (source + self.sources.len() - self.turn) % self.sources.len()
    }

    fn found(&mut self, source: usize) -> usize {
        self.turn = (source + 1) % self.sources.len();
        if let Some(Watched {
            kind: Kind::Object(observer),
            ..
        }) = &self.sources[source]
        {
            observer.source.report();
        }
        source
    }

    /// The sources, with their numbers, from the turn on.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Watched)> {
        let (before, behind) = self.sources.split_at(self.turn.min(self.sources.len()));
        let behind = (self.turn..).zip(behind);
        let all = behind.chain((0..).zip(before));
        all.filter_map(|(number, source)| Some((number, source.as_ref()?)))
    }

    fn ready_object(&self) -> Option<usize> {
        let ready = |(_, source): &(usize, &Watched)| match &source.kind {
            Kind::Object(observer) => observer.source.available() != 0,
            Kind::Descriptor(_) => false,
        };
        self.in_turn().find(ready).map(|(number, _)| number)
    }

    /// One system call for all descriptors that are looked at.
    fn ready_descriptor(&self, all: bool) -> Option<usize> {
        let (mut numbers, mut fds) = (Vec::new(), Vec::new());
        for (number, source) in self.in_turn() {
            if let Kind::Descriptor(descriptor) = &source.kind
                && (all || !source.listens)
                && let Some(fd) = descriptor.to_poll()
            {
                numbers.push(number);
                fds.push(fd);
            }
        }
        if fds.is_empty() {
            return None;
        }
        // An error is an interruption: the descriptors are then looked at again.
        let _ = pidfd::ready(&mut fds, Deadline::PAST);
        let ready = fds.iter().position(|fd| !fd.revents().is_empty());
        ready.map(|place| numbers[place])
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("sources", &self.count)
            .finish_non_exhaustive()
    }
}
