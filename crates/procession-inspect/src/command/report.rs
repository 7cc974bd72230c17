//! `procession report`: writes the page.

use super::arguments::{Arguments, Subject};
use super::{Outcome, observers};
use crate::error::Result;
use crate::page::{self, Seen};
use crate::visible::visible;
use crate::{output, units};
use std::path::PathBuf;
use std::time::SystemTime;

pub(super) fn report(arguments: &Arguments) -> Result<Outcome> {
    let path = match (&arguments.options.output, &arguments.subject) {
        (Some(path), _) => path.clone(),
        (None, Subject::Pid(pid)) => PathBuf::from(format!("procession-{pid}.html")),
        (None, Subject::File(file)) => file.with_extension("html"),
        (None, _) => PathBuf::from("procession.html"),
    };
    output::must_be_new(&path, "report")?;
    let (observers, _) = observers(&arguments.subject)?;
    let mut seen = Vec::new();
    for observer in &observers {
        match Seen::look(observer) {
            Ok(one) => seen.push(one),
            // Another family may have ended, or be of another version.
            Err(_) if arguments.subject == Subject::All => {}
            Err(error) => return Err(error),
        }
    }
    let of_dump = matches!(arguments.subject, Subject::File(_) | Subject::Stdin);
    let page = page::report(&seen, SystemTime::now(), of_dump);
    if path.as_os_str() == "-" {
        return Ok(Outcome::printed(page));
    }
    output::create_text(&path, &page, "report")?;
    let (problems, warnings) = seen
        .iter()
        .map(Seen::counts)
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    Ok(Outcome::printed(format!(
        "{}: {} written, {}, {}\n",
        visible(&path.display().to_string()),
        units::bytes(page.len() as u64),
        units::count(problems, "problem", "problems"),
        units::count(warnings, "warning", "warnings"),
    )))
}
