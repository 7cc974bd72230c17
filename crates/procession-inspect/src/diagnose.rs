//! Looks at a family until what is found is sure to have been so.

use crate::error::Result;
use crate::findings::{self, Finding};
use crate::model::Family;
use crate::read::{Extras, Observer};
use crate::stacks;
use std::time::{Duration, Instant};

/// Time between a look that finds something and the next one.
const SECOND_LOOK: Duration = Duration::from_millis(10);

/// Longest time for the stacks of the threads of findings, in which the places of waits are found.
pub(crate) const LONGEST_FOR_PLACES: Duration = Duration::from_millis(500);

/// Looks, and finds what is wrong. If something seems to be, looks again a moment later and keeps what both looks show: see
/// [`findings::confirmed`]. A dump is looked at once.
///
/// # Errors
/// As [`Observer::look`].
pub fn why(observer: &Observer, extras: Extras) -> Result<(Family, Vec<Finding>)> {
    let first = observer.look(extras)?;
    let findings = findings::find(&first);
    if findings.is_empty() || observer.is_dump() {
        return Ok((first, findings));
    }
    std::thread::sleep(SECOND_LOOK);
    let second = observer.look(extras)?;
    let found = findings::confirmed((&first, &findings), &second, findings::find(&second));
    Ok((second, found))
}

/// As [`why`], with the places in the program where the threads of the findings wait, if this build reads stacks by itself:
/// a process that observes itself starts no other program.
///
/// # Errors
/// As [`Observer::look`].
pub fn why_and_where(observer: &Observer, extras: Extras) -> Result<(Family, Vec<Finding>)> {
    let (family, mut findings) = why(observer, extras)?;
    if stacks::BUILT_IN {
        let until = Instant::now() + LONGEST_FOR_PLACES;
        stacks::add_places(observer, &family, &mut findings, until);
    }
    Ok((family, findings))
}
