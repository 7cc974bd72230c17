//! What the commands that go on have in common: `top`, `progress` and `metrics --listen`.
//!
//! They write to the terminal themselves, and end when a signal asks for it. That is how they are meant to end (no other
//! end is there for a server), so their exit status is 0 then: of all of them, for Ctrl-C as well as for the SIGTERM of a
//! service manager.

use crate::attach;
use crate::error::{Error, Result};
use crate::read::Observer;
use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The signals that end a command.
const SIGNALS: [i32; 3] = [
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGTERM,
    signal_hook::consts::SIGHUP,
];
/// Time between two looks at what a signal has asked for.
const BEAT: Duration = Duration::from_millis(50);

/// Returns the number of a signal that has come and ends the command.
type Asked = fn() -> Option<i32>;

thread_local! {
    /// Set where a command runs inside of a program, which handles signals itself.
    static ASK: Cell<Option<Asked>> = const { Cell::new(None) };
}

/// Runs `work`, in which a command leaves the program's signal handlers as they are, and calls `asked` now and then: the
/// number of a signal ends the command.
pub fn within_a_program<T>(asked: fn() -> Option<i32>, work: impl FnOnce() -> T) -> T {
    ASK.set(Some(asked));
    let done = work();
    ASK.set(None);
    done
}

/// Notes the signals that ask the command to end. As long as it exists, they do not end the process.
///
/// The handlers stay when it is dropped, and then ignore the signals: so they are for a process that is the command.
#[derive(Debug)]
pub(crate) struct Stop {
    /// What a program is asked in place of own handlers.
    program: Option<Asked>,
    asked: Arc<AtomicUsize>,
    registered: Vec<signal_hook::SigId>,
}

impl Stop {
    pub(crate) fn new() -> Result<Stop> {
        let asked = Arc::new(AtomicUsize::new(0));
        let register = |signal: &i32| {
            signal_hook::flag::register_usize(*signal, asked.clone(), *signal as usize)
                .map_err(|e| Error::file("signal handlers", e))
        };
        let program = ASK.get();
        let mut registered = Vec::new();
        if program.is_none() {
            registered = SIGNALS.iter().map(register).collect::<Result<_>>()?;
        }
        Ok(Stop {
            program,
            asked,
            registered,
        })
    }

    /// The number of the signal that has asked the command to end.
    pub(crate) fn signal(&self) -> Option<i32> {
        if let Some(signal) = self.program.and_then(|asked| asked()) {
            self.asked.store(signal as usize, Ordering::Relaxed);
        }
        match self.asked.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Whether the process is the command, and no program that handles signals itself.
    #[cfg_attr(not(feature = "top"), allow(dead_code))]
    pub(crate) fn is_of_command(&self) -> bool {
        self.program.is_none()
    }

    /// Sleeps, and returns false as soon as a signal asks the command to end.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        loop {
            if self.signal().is_some() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(BEAT));
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for id in &self.registered {
            signal_hook::low_level::unregister(*id);
        }
    }
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Characters other than ASCII.
    pub(crate) unicode: bool,
    /// Colours.
    pub(crate) colour: bool,
    /// Standard output is a terminal whose cursor can be moved.
    pub(crate) cursor: bool,
}

impl Abilities {
    pub(crate) fn of_environment() -> Abilities {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        Abilities::of(std::io::stdout().is_terminal(), variable)
    }

    fn of(terminal: bool, variable: impl Fn(&str) -> String) -> Abilities {
        let term = variable("TERM");
        let mono = matches!(term.as_str(), "" | "dumb") || term.starts_with("vt") || term.ends_with("-m");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(&variable);
        let locale = locale.iter().find(|locale| !locale.is_empty());
        // Where no locale is named, terminals of today show UTF-8. A locale that names no character set (C, POSIX, de_DE) has
        // another one.
        let is_utf8 = |locale: &String| {
            let charset = locale.split('.').next_back().unwrap_or_default();
            charset.to_lowercase().replace('-', "").starts_with("utf8")
        };
        Abilities {
            unicode: locale.is_none_or(is_utf8),
            colour: terminal && !mono && variable("NO_COLOR").is_empty(),
            cursor: terminal && term != "dumb",
        }
    }
}

/// Columns and lines of the terminal; 80 by 24 if there is none.
pub(crate) fn size() -> (usize, usize) {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (columns.filter(|columns| *columns > 0).unwrap_or(80), 24),
    }
}

/// The only family that this user can see, for a command without a PID.
pub(crate) fn only_family() -> Result<Observer> {
    let mut families = families();
    match families.len() {
        1 => Ok(families.remove(0)),
        0 => Err(Error::Cannot(
            "no Procession family runs here, as far as this user can see".to_owned(),
        )),
        n => Err(Error::Cannot(format!(
            "{n} families run here: name the pid of a process of one (`procession ps --all` shows them)"
        ))),
    }
}

/// The families that this user can see, in which a process lives.
pub(crate) fn families() -> Vec<Observer> {
    let (memories, _) = attach::all();
    let observers = memories
        .into_iter()
        .map(|memory| Observer::of(memory, Vec::new()));
    observers.filter(Observer::has_members).collect()
}

/// The time of day in UTC, as a clock shows it.
#[cfg_attr(not(feature = "top"), allow(dead_code))]
pub(crate) fn clock() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.unwrap_or_default().as_secs() % 86_400;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abilities(terminal: bool, variables: &[(&str, &str)]) -> Abilities {
        Abilities::of(terminal, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map_or_else(String::new, |(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn colour_needs_a_terminal_that_has_it_and_a_user_who_wants_it() {
        let xterm = ("TERM", "xterm-256color");
        assert!(abilities(true, &[xterm]).colour);
        assert!(!abilities(true, &[xterm, ("NO_COLOR", "1")]).colour);
        assert!(!abilities(true, &[("TERM", "dumb")]).colour);
        assert!(!abilities(true, &[("TERM", "vt220")]).colour);
        assert!(!abilities(false, &[xterm]).colour);
    }

    #[test]
    fn a_locale_of_another_character_set_gets_plain_characters() {
        let unicode = |locale: &str| abilities(true, &[("LANG", locale)]).unicode;
        assert!(unicode("") && unicode("C.UTF-8") && unicode("de_DE.utf8@euro") && unicode("UTF-8"));
        assert!(!unicode("de_DE.ISO-8859-1") && !unicode("C") && !unicode("POSIX") && !unicode("de_DE"));
        assert!(!abilities(true, &[("LC_ALL", "en_US.ISO-8859-15"), ("LANG", "C.UTF-8")]).unicode);
    }
}
