//! The futures that wait for one bell, and which of them a ring wakes.

use super::Source;
use procession_core::sync::bell::Bell;
use procession_core::sync::wakers::Mailbox;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// A bell, and the futures that wait for it to ring.
#[derive(Default)]
pub(super) struct WatchedBell {
    /// Its epoch when the reactor looked at the object last.
    pub(super) epoch: u32,
    /// Whether the mailbox was registered with it: as long as a future waits.
    pub(super) listening: bool,
    /// Whether it had a place for the mailbox.
    pub(super) called: bool,
    /// Futures to be woken, by number: the one that has waited longest is first.
    pub(super) waiting: BTreeMap<u64, Entry>,
    /// Futures that were woken, and have not been polled since. Each counts as one that takes what is available.
    pub(super) woken: BTreeMap<u64, Entry>,
    /// Futures that were woken before the last look at everything, and have not been polled since. The program may keep
    /// such a future and never poll it again, so they count no more.
    pub(super) late: BTreeMap<u64, Entry>,
    /// Those that want to know of every change, and take no future's turn. Without a waker they do not listen now.
    pub(super) observers: BTreeMap<u64, Entry>,
}

pub(super) struct Entry {
    pub(super) source: Arc<dyn Source>,
    /// None after it was woken.
    pub(super) waker: Option<Waker>,
}

impl WatchedBell {
    /// Registers the mailbox with the bell, if it is not. Returns whether the bell turned out to have no place for it.
    pub(super) fn listen(&mut self, bell: &Bell, mailbox: Option<&Mailbox>) -> bool {
        if self.listening {
            return false;
        }
        self.listening = true;
        self.epoch = bell.epoch();
        self.called = mailbox.is_some_and(|mailbox| bell.register_waker(mailbox.address()));
        !self.called
    }

    /// The source of one that listens.
    pub(super) fn source(&self) -> Option<Arc<dyn Source>> {
        let observers = self.observers.values().filter(|entry| entry.waker.is_some());
        let mut entries = self.waiting.values().chain(observers);
        entries.next().map(|entry| entry.source.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        let futures = self.waiting.is_empty() && self.woken.is_empty() && self.late.is_empty();
        futures && self.observers.is_empty()
    }

    /// Removes a future that was woken.
    pub(super) fn take_woken(&mut self, number: u64) -> Option<Entry> {
        self.woken.remove(&number).or_else(|| self.late.remove(&number))
    }

    /// Removes the mailbox from the bell.
    pub(super) fn mute(&mut self, mailbox: Option<&Mailbox>) {
        let entries = self.waiting.values().chain(self.woken.values());
        let mut entries = entries.chain(self.late.values()).chain(self.observers.values());
        if let (Some(mailbox), Some(entry)) = (mailbox, entries.next()) {
            entry.source.bell().unregister_waker(mailbox.address());
        }
        self.listening = false;
    }

    pub(super) fn mute_if_none_listens(&mut self, bell: &Bell, mailbox: Option<&Mailbox>) {
        if self.listening && self.source().is_none() {
            if let Some(mailbox) = mailbox {
                bell.unregister_waker(mailbox.address());
            }
            self.listening = false;
        }
    }

    pub(super) fn look_if_it_rang(&mut self, mailbox: Option<&Mailbox>, wakers: &mut Vec<Waker>) {
        let Some(source) = self.source() else { return };
        let epoch = source.bell().epoch();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.distribute(self.woken.len(), wakers);
            self.mute_if_none_listens(source.bell(), mailbox);
        }
    }

    /// Looks at the object although its bell may not have rung. Tasks that were woken before, and have not been polled,
    /// do not keep others waiting from now on.
    pub(super) fn look(&mut self, mailbox: Option<&Mailbox>, wakers: &mut Vec<Waker>) {
        self.late.append(&mut self.woken);
        let Some(source) = self.source() else { return };
        if let Some(mailbox) = mailbox {
            // The address is gone if a process in another network namespace could not send to it.
            self.called = source.bell().register_waker(mailbox.address());
        }
        self.distribute(0, wakers);
        self.mute_if_none_listens(source.bell(), mailbox);
    }

    /// Wakes the observers if one could go on, and as many tasks as can go on, except for `ahead` tasks that were woken before
    /// them.
    pub(super) fn distribute(&mut self, ahead: usize, wakers: &mut Vec<Waker>) {
        let mut left = match self.waiting.values().next() {
            Some(first) if first.source.alike() => Some(without(first.source.available(), ahead)),
            _ => None,
        };
        for observer in self.observers.values_mut() {
            if observer.waker.is_some() && observer.source.available() != 0 {
                wakers.extend(observer.waker.take());
            }
        }
        let mut chosen = Vec::new();
        for (number, entry) in &self.waiting {
            match &mut left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None if without(entry.source.available(), ahead + chosen.len()) == 0 => continue,
                None => {}
            }
            chosen.push(*number);
        }
        for number in chosen {
            if let Some(mut entry) = self.waiting.remove(&number) {
                wakers.extend(entry.waker.take());
                self.woken.insert(number, entry);
            }
        }
    }
}

/// How many tasks can still be woken. `u64::MAX`: all.
fn without(available: u64, ahead: usize) -> u64 {
    if available == u64::MAX {
        return available;
    }
    available.saturating_sub(ahead as u64)
}
