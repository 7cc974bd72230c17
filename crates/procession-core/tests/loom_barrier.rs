//! The model checker tries every interleaving of the steps of a barrier: run with `make loom`.
#![cfg(loom)]

mod common_loom;

use common_loom::check;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_core::sync::barrier_word::{BarrierWord, Outcome};
use procession_core::sync::bell::Bell;
use procession_core::sys::clock::Deadline;

struct Barrier {
    word: BarrierWord,
    bell: Bell,
    parties: u32,
}

impl Barrier {
    fn new(parties: u32) -> Arc<Self> {
        Arc::new(Barrier {
            word: BarrierWord::new(),
            bell: Bell::new(),
            parties,
        })
    }

    /// What `sync::barrier` does, without spinning and looking after the actor: the index and the round, or None where
    /// the barrier is broken.
    fn arrive(&self, actor: Option<u32>) -> Option<(u32, u32)> {
        loop {
            let step = |state: procession_core::sync::barrier_word::State| state.arrived(self.parties, actor);
            if let Some(before) = self.word.step(&self.bell, step) {
                return Some((before.count, before.round));
            }
            let state = self.word.load();
            if state.broken {
                return None;
            }
            if state.actor != 0 {
                let _ = self
                    .bell
                    .sleep(self.word.word(), state.low_half(), Deadline::NEVER);
            }
        }
    }

    fn pass(&self, round: u32) -> Outcome {
        loop {
            let state = self.word.load();
            if let Some(outcome) = state.outcome(round) {
                return outcome;
            }
            let _ = self
                .bell
                .sleep(self.word.word(), state.low_half(), Deadline::NEVER);
        }
    }

    fn give_up(&self, round: u32) -> Outcome {
        self.word
            .step(&self.bell, |state| (state.round == round).then(|| state.broken()));
        self.word.load().outcome(round).unwrap()
    }

    fn abort(&self) {
        self.word
            .step(&self.bell, |state| (!state.broken).then(|| state.broken()));
    }

    /// What the reaper does where the process that runs the action has died.
    fn actor_died(&self, actor: u32) {
        self.word
            .change(|state| (state.actor == actor).then(|| state.broken()));
        self.bell.alarm(self.word.word());
    }

    fn wait(&self) -> Option<(u32, Outcome)> {
        let (index, round) = self.arrive(None)?;
        Some((index, self.pass(round)))
    }
}

#[test]
fn all_parties_pass_together_round_after_round() {
    check(|| {
        let barrier = Barrier::new(2);
        let arrived = Arc::new(AtomicU32::new(0));
        let two_rounds = |barrier: &Barrier, arrived: &AtomicU32| {
            for round in 1..3 {
                arrived.fetch_add(1, Ordering::Relaxed);
                assert_eq!(barrier.wait().map(|(_, how)| how), Some(Outcome::Tripped));
                assert!(
                    arrived.load(Ordering::Relaxed) >= 2 * round,
                    "it has not waited for the other"
                );
            }
        };
        let other = {
            let (barrier, arrived) = (barrier.clone(), arrived.clone());
            thread::spawn(move || two_rounds(&barrier, &arrived))
        };
        two_rounds(&barrier, &arrived);
        other.join().unwrap();
        assert_eq!(barrier.word.load().round, 2);
    });
}

#[test]
fn each_party_has_an_index_of_its_own() {
    check(|| {
        let barrier = Barrier::new(3);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let barrier = barrier.clone();
                thread::spawn(move || barrier.wait().unwrap().0)
            })
            .collect();
        let mut seen = vec![barrier.wait().unwrap().0];
        seen.extend(others.into_iter().map(|other| other.join().unwrap()));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    });
}

#[test]
fn exactly_one_runs_the_action_and_the_others_wait_for_it() {
    check(|| {
        let barrier = Barrier::new(2);
        let actions = Arc::new(AtomicU32::new(0));
        let party = |barrier: &Barrier, actions: &AtomicU32, me: u32| {
            let (index, round) = barrier.arrive(Some(me)).unwrap();
            if index == 1 {
                actions.fetch_add(1, Ordering::Relaxed);
                assert!(
                    barrier
                        .word
                        .step(&barrier.bell, |state| state.tripped(round, me))
                        .is_some()
                );
            }
            assert_eq!(barrier.pass(round), Outcome::Tripped);
            assert_eq!(
                actions.load(Ordering::Relaxed),
                1,
                "it has not waited for the action"
            );
        };
        let other = {
            let (barrier, actions) = (barrier.clone(), actions.clone());
            thread::spawn(move || party(&barrier, &actions, 1))
        };
        party(&barrier, &actions, 2);
        other.join().unwrap();
    });
}

#[test]
fn the_death_of_the_process_that_runs_the_action_breaks_the_round() {
    check(|| {
        let barrier = Barrier::new(2);
        let other = {
            let barrier = barrier.clone();
            thread::spawn(move || {
                let (index, round) = barrier.arrive(Some(1)).unwrap();
                if index == 1 {
                    barrier.actor_died(1); // this one was killed in the action
                }
                barrier.pass(round)
            })
        };
        let (index, round) = barrier.arrive(Some(2)).unwrap();
        if index == 1 {
            barrier.actor_died(2);
        }
        assert_eq!(barrier.pass(round), Outcome::Broken);
        assert_eq!(other.join().unwrap(), Outcome::Broken);
        assert!(barrier.word.load().broken);
    });
}

/// One party gives up as the other arrives: both are told the same.
#[test]
fn a_round_that_is_given_up_has_one_outcome() {
    check(|| {
        let barrier = Barrier::new(2);
        let other = {
            let barrier = barrier.clone();
            thread::spawn(move || barrier.wait().map(|(_, how)| how))
        };
        let (_, round) = barrier.arrive(None).unwrap();
        let mine = barrier.give_up(round);
        let others = other.join().unwrap();
        // None: it came after the barrier was broken
        assert!(others == Some(mine) || (others.is_none() && mine == Outcome::Broken));
    });
}

#[test]
fn an_abort_is_told_to_all_who_wait() {
    check(|| {
        let barrier = Barrier::new(3);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let barrier = barrier.clone();
                thread::spawn(move || barrier.wait().map(|(_, how)| how))
            })
            .collect();
        barrier.abort();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), None | Some(Outcome::Broken)));
        }
    });
}
