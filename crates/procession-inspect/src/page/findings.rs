//! The findings, each as a box; of a deadlock also its circle.

use super::html;
use crate::findings::{Finding, Kind, Level, Step};
use crate::text;
use std::fmt::Write;

pub(super) fn findings(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Problem => "problem",
            Level::Warning => "warning",
        };
        let _ = writeln!(
            out,
            "<section class=\"finding {level}\">\n<h2><strong>{}</strong> {}</h2>",
            finding.heading(),
            html::text(&finding.title)
        );
        if finding.kind == Kind::Deadlock {
            out.push_str(&circle(&finding.steps));
        }
        out.push_str("<ul>\n");
        for line in text::why::lines(finding) {
            let class = if line.starts_with('→') {
                " class=advice"
            } else {
                ""
            };
            let _ = writeln!(out, "<li{class}>{}", html::text(&line));
        }
        out.push_str("</ul>\n</section>\n");
    }
    out
}

/// The circle of a deadlock: each process, and what it waits for, which leads to the next process.
fn circle(steps: &[Step]) -> String {
    let Some(first) = steps.first() else {
        return String::new();
    };
    let mut out = "<p class=circle aria-label=\"the circle\">".to_owned();
    for (number, step) in steps.iter().enumerate() {
        let next = steps.get(number + 1).unwrap_or(first);
        let _ = write!(
            out,
            "<span class=who>{}</span> ",
            html::text(&step.who.to_string())
        );
        match &step.object {
            Some(object) => {
                let held = if next.holds.contains(object) {
                    "held by"
                } else {
                    "needs"
                };
                let _ = write!(
                    out,
                    "waits for → <span class=what>{}</span> {held} → ",
                    html::text(&object.to_string())
                );
            }
            None => out.push_str("waits for → "),
        }
    }
    let _ = writeln!(
        out,
        "<span class=who>{}</span>",
        html::text(&first.who.to_string())
    );
    out
}
