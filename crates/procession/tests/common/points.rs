//! Runs an operation in children that are killed at each of its crash points.

use super::{Way, joined};
use procession::{Message, ProcessError};
use procession_core::crash;
use procession_core::family::Family;
use procession_core::family::waits::{What, recorded};
use procession_core::sys::clock::Deadline;

/// Runs `operation` in a new process once for every crash point in it, each time on the objects that `setup` has made
/// anew. Then `check` examines the objects; its argument `killed` says whether the process was killed. Afterwards as
/// many blocks are in use as before.
pub fn at_every_point<S: Message + Clone>(
    way: Way,
    setup: fn() -> S,
    operation: fn((u32, S)),
    check: impl Fn(&S, bool),
) -> u32 {
    let family = Family::home().unwrap();
    // The first sleep of this thread makes a block, which stays. On a busy machine that could be at any point.
    recorded((What::Any, 0), Deadline::PAST, |()| false, || ());
    let mut before = None;
    for point in 1..2000 {
        let state = setup();
        let child = way.start(operation, (point, state.clone()));
        let killed = match joined(child) {
            Ok(()) => false,
            Err(ProcessError::Signaled { signal: 9, .. }) => true,
            Err(e) => panic!("point {point}: {e}"),
        };
        family.sweep();
        check(&state, killed);
        drop(state);
        family.sweep();
        let blocks = family.blocks();
        // The first rounds leave pages that stay allocated, and a fork server.
        if point > 2 {
            let expected = *before.get_or_insert(blocks);
            assert_eq!(blocks, expected, "point {point} leaks");
        }
        if !killed {
            return point - 1;
        }
    }
    panic!("the operation does not end");
}

/// Sets the crash point at which this process dies, for the duration of the operation.
pub fn armed(point: u32, operation: impl FnOnce()) {
    crash::arm(point);
    operation();
    crash::disarm();
}

pub fn ways(test: impl Fn(Way)) {
    // Only one test at a time may count blocks. So the start methods are tried one after the other.
    [Way::Spawn, Way::ForkServer, Way::Fork]
        .into_iter()
        .for_each(test);
}
