//! Looks at a family until what is found is sure to have been so.

use crate::error::Result;
use crate::findings::{self, Finding};
use crate::model::Family;
use crate::read::{Extras, Observer};
use std::time::Duration;

/// Time between a look that finds something and the next one.
const SECOND_LOOK: Duration = Duration::from_millis(10);

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
