//! Damaged and hostile dumps: any bytes. For fuzzing.
//!
//! [`exercise`] is the complete fuzz target: it takes any input and panics if a guarantee is broken. `fuzz/` runs it
//! under libFuzzer, and `tests/hostile_dump.rs` runs it with mutations of its own on any toolchain.

use procession_inspect::findings::Finding;
use procession_inspect::model::{Family, Stacks};
use procession_inspect::page::{self, Seen};
use procession_inspect::watch::Watch;
use procession_inspect::{Extras, command, dump, findings, stacks, text};
use std::time::{Duration, Instant, SystemTime};

/// The elements that the page may have.
const ELEMENTS: &str = "!doctype a article body caption details div figcaption figure h1 h2 h3 h4 head html li link main meta \
     nav p path pre progress rect section span strong style summary svg table td text th title tr ul";

/// Opens the input as a dump, looks at it, and shows everything. Returns whether it was accepted.
pub fn exercise(input: &[u8]) -> bool {
    let Ok(observer) = dump::open_bytes(input.to_vec()) else {
        return false;
    };
    let extras = Extras {
        process_memory: true,
        uses: true,
        tasks: true,
    };
    let Ok(family) = observer.look(extras) else {
        return false;
    };
    if let Ok(observer) = dump::open_bytes(input.to_vec()) {
        let mut watch = Watch::of(observer, Extras::default());
        assert!(watch.look().is_ok());
        watch.read_tasks();
        assert!(watch.look().is_ok());
    }
    let mut findings = findings::find(&family);
    let stacks = stacks::stacks(&observer, &family, &[], Duration::ZERO);
    stacks::add_places(&observer, &family, &mut findings, Instant::now());
    assert!(command::json(&family, &findings).is_ok());
    for screen in [
        text::why(&family, &findings),
        text::ps(&family),
        text::locks(&family, true),
        text::queues(&family),
        text::pools(&family),
        text::memory(&family, true),
        text::stacks(&family, &stacks),
        of_page(&family, &findings, &stacks),
    ] {
        let of_direction = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let unsafe_for_a_terminal = |c: char| c.is_control() && c != '\n' || of_direction(c);
        assert!(!screen.contains(unsafe_for_a_terminal), "{screen:?}");
    }
    true
}

/// The page, whose markup is its own alone: no name became an element.
fn of_page(family: &Family, findings: &[Finding], stacks: &[Stacks]) -> String {
    let seen = Seen {
        family: family.clone(),
        findings: findings.to_vec(),
        stacks: stacks.to_vec(),
    };
    let page = page::report(&[seen], SystemTime::UNIX_EPOCH, true);
    for (at, _) in page.match_indices('<') {
        let name = page[at + 1..].trim_start_matches('/');
        let end = name.find([' ', '>', '\n', '/']).unwrap_or(name.len());
        let name = &name[..end];
        assert!(
            ELEMENTS.split_whitespace().any(|known| known == name),
            "an element {name:?}"
        );
    }
    page
}
