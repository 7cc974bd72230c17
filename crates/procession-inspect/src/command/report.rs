//! `procession report`: writes the page.

use super::{Arguments, Outcome, Subject, observers};
use crate::error::Result;
use crate::page::{self, Seen};
use crate::visible::visible;
use crate::{Extras, Observer, diagnose, output, stacks, text, units};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Longest time for the stacks of one family.
const LONGEST_FOR_STACKS: Duration = Duration::from_secs(5);

pub(super) fn report(arguments: &Arguments) -> Result<Outcome> {
    let (observers, _) = observers(&arguments.subject)?;
    let mut seen = Vec::new();
    for observer in &observers {
        match look(observer) {
            Ok(one) => seen.push(one),
            // Another family may have ended, or be of another version.
            Err(_) if arguments.subject == Subject::All => {}
            Err(error) => return Err(error),
        }
    }
    let of_dump = matches!(arguments.subject, Subject::File(_) | Subject::Stdin);
    let page = page::report(&seen, SystemTime::now(), of_dump);
    let path = match (&arguments.output, &arguments.subject) {
        (Some(path), _) => path.clone(),
        (None, Subject::Pid(pid)) => PathBuf::from(format!("procession-{pid}.html")),
        (None, Subject::File(file)) => file.with_extension("html"),
        (None, _) => PathBuf::from("procession.html"),
    };
    if path.as_os_str() == "-" {
        return Ok(Outcome::printed(page));
    }
    output::create_text(&path, &page)?;
    let (problems, warnings) = seen
        .iter()
        .map(Seen::counts)
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    Ok(Outcome::printed(format!(
        "{}: {} written, {}, {}\n",
        visible(&path.display().to_string()),
        units::bytes(page.len() as u64),
        text::why::count(problems, "problem", "problems"),
        text::why::count(warnings, "warning", "warnings"),
    )))
}

/// A look with all that the page shows.
pub(crate) fn look(observer: &Observer) -> Result<Seen> {
    let extras = Extras {
        process_memory: true,
        uses: true,
        tasks: true,
    };
    let (family, mut findings) = diagnose::why(observer, extras)?;
    let until = Instant::now() + diagnose::LONGEST_FOR_PLACES;
    stacks::add_places(observer, &family, &mut findings, until);
    let stacks = stacks::stacks(observer, &family, &[], LONGEST_FOR_STACKS);
    Ok(Seen {
        family,
        findings,
        stacks,
    })
}
