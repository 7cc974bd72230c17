//! A page in HTML with all that is known of some families: findings first, then processes, pools with the timeline of their
//! tasks, queues, locks, memory and stacks.
//!
//! The page is one file. It asks no host for anything, needs no script, and forbids both in its Content Security Policy, so
//! that markup in a name could do nothing even if it were not escaped.
//!
//! # References
//!  - [Content Security Policy Level 3](https://www.w3.org/TR/CSP3/)
//!  - [prefers-color-scheme](https://www.w3.org/TR/mediaqueries-5/#prefers-color-scheme), by which the page is light or dark

mod findings;
mod html;
mod sections;
mod timeline;
mod when;

use crate::error::Result;
use crate::findings::{Finding, Level};
use crate::model::{Family, Stacks};
use crate::read::{Extras, Observer};
use crate::units::count;
use crate::{diagnose, stacks, text};
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

/// Longest time for the stacks of one family.
const LONGEST_FOR_STACKS: Duration = Duration::from_secs(5);
const STYLE: &str = include_str!("style.css");

/// A family that was looked at, with what was found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The family. For the timeline it should have its tasks ([`crate::Extras::tasks`]).
    pub family: Family,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The stacks that were read.
    pub stacks: Vec<Stacks>,
}

impl Seen {
    /// Looks at all that the page shows. It takes up to five seconds for the stacks.
    ///
    /// # Errors
    /// As [`Observer::look`].
    pub fn look(observer: &Observer) -> Result<Seen> {
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

    /// Number of problems, and of warnings.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let is_problem = |finding: &&Finding| finding.level == Level::Problem;
        let problems = self.findings.iter().filter(is_problem).count();
        (problems, self.findings.len() - problems)
    }
}

/// The page of these families, as they were at `time`. `of_dump`: they come from a dump, whose time is not known.
#[must_use]
pub fn report(seen: &[Seen], time: SystemTime, of_dump: bool) -> String {
    let title = match seen {
        [one] => text::heading(&one.family),
        all => count(all.len(), "family", "families"),
    };
    let written = format!(
        "<p class=when>Written by procession {} at {}{}",
        env!("CARGO_PKG_VERSION"),
        when::utc(time),
        if of_dump {
            ", from a dump: all times are up to the dump."
        } else {
            ": all times are up to then."
        }
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let head = format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n");
    document(&title, &head, &format!("{written}\n{}", families(seen)))
}

/// A document around the contents of a page.
pub(crate) fn document(title: &str, head: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n{head}\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n\
         <meta name=referrer content=no-referrer>\n\
         <title>procession: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main id=state>\n{body}</main>\n</body>\n\
         </html>\n",
        html::text(title)
    )
}

/// The contents of the page: all families, one after the other.
pub(crate) fn families(seen: &[Seen]) -> String {
    let mut out = String::new();
    if seen.is_empty() {
        out += "<p>No Procession family runs here, as far as this user can see.\n";
    }
    for (number, one) in seen.iter().enumerate() {
        family(number, one, &mut out);
    }
    out
}

fn family(number: usize, seen: &Seen, out: &mut String) {
    let (problems, warnings) = seen.counts();
    let _ = writeln!(
        out,
        "<article id=f{number}>\n<h1>{}</h1>",
        html::text(&text::heading(&seen.family))
    );
    let state = match (problems, warnings) {
        (0, 0) => "<p class=well>Nothing wrong was found: each wait could still end.".to_owned(),
        _ => format!(
            "<p class=badly>{}",
            [
                (problems > 0).then(|| count(problems, "problem", "problems")),
                (warnings > 0).then(|| count(warnings, "warning", "warnings")),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<String>>()
            .join(", ")
        ),
    };
    let _ = writeln!(out, "{state}");
    out.push_str(&findings::findings(&seen.findings));
    let sections = sections::sections(seen);
    let _ = write!(out, "<nav aria-label=\"parts of this page\">");
    for section in &sections {
        let _ = write!(out, "<a href=\"#f{number}-{0}\">{0}</a> ", section.name);
    }
    out.push_str("</nav>\n");
    for section in &sections {
        let _ = writeln!(
            out,
            "<section id=f{number}-{0} aria-labelledby=f{number}-{0}-h>\n<h2 id=f{number}-{0}-h>{1}</h2>\n{2}</section>",
            section.name, section.title, section.body
        );
    }
    for unseen in &seen.family.unseen {
        let _ = writeln!(
            out,
            "<p class=unseen>Not seen: {}; it needs {}.",
            html::text(&unseen.what),
            html::text(&unseen.needs)
        );
    }
    out.push_str("</article>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Member, SeatState};

    #[test]
    fn a_name_that_is_markup_is_text_wherever_it_stands() {
        let trap = "<img src=x onerror=alert(1)>";
        let member = Member {
            name: trap.to_owned(),
            state: SeatState::Alive,
            pid: Some(7),
            ..Member::default()
        };
        let family = Family {
            program: trap.to_owned(),
            members: vec![member],
            ..Family::default()
        };
        let seen = Seen {
            family,
            ..Seen::default()
        };
        let page = report(&[seen], SystemTime::UNIX_EPOCH, false);
        assert!(!page.contains("<img"), "{page}");
        assert!(
            page.matches("&lt;img src=x onerror=alert(1)&gt;").count() >= 3,
            "{page}"
        );
        assert!(page.contains("1970-01-01 00:00:00 UTC"), "{page}");
    }

    #[test]
    fn a_long_table_says_how_much_of_it_is_left_out() {
        let member = |seat| Member {
            seat,
            name: format!("worker-{seat}"),
            state: SeatState::Alive,
            ..Member::default()
        };
        let family = Family {
            members: (0..1500).map(member).collect(),
            ..Family::default()
        };
        let seen = Seen {
            family,
            ..Seen::default()
        };
        let page = report(&[seen], SystemTime::UNIX_EPOCH, false);
        assert!(page.contains("worker-999") && !page.contains("worker-1000"));
        assert!(page.contains("500 more rows are left out here"));
    }
}
