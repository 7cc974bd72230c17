//! Takes the terminal over, and gives it back: also when the view panics, and when a signal ends or stops it.
//!
//! Ctrl-Z and SIGTSTP stop the command as any other: the shell gets its terminal, and after `fg` the view is drawn anew.
//! SIGSTOP cannot be caught, so the terminal stays as it is until the view goes on.

use crate::live::Stop;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{CompletedFrame, Frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::tcgetattr;
use signal_hook::consts::{SIGCONT, SIGSTOP, SIGTSTP};
use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks at what a signal has asked for.
const BEAT: Duration = Duration::from_millis(100);

type Hook = dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send;

/// The terminal, as long as the view has it.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
    hook: Arc<Hook>,
    /// SIGTSTP has come.
    stopped: Arc<AtomicBool>,
    /// SIGCONT has come.
    continued: Arc<AtomicBool>,
    registered: Vec<signal_hook::SigId>,
}

/// What the user, or a signal, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Stop,
    Key(KeyCode),
}

impl Terminal {
    pub(super) fn take(stop: &Stop) -> io::Result<Terminal> {
        let (stopped, continued) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let mut registered = Vec::new();
        if stop.is_of_command() {
            for (signal, flag) in [(SIGTSTP, &stopped), (SIGCONT, &continued)] {
                registered.push(signal_hook::flag::register(signal, flag.clone())?);
            }
        }
        let hook: Arc<Hook> = Arc::from(panic::take_hook());
        let before = hook.clone();
        panic::set_hook(Box::new(move |info| {
            // The message would be lost on the screen of the view.
            give_back();
            before(info);
        }));
        enable_raw_mode()?;
        let taken = execute!(stdout(), EnterAlternateScreen, Hide)
            .and_then(|()| ratatui::Terminal::new(CrosstermBackend::new(stdout())));
        match taken {
            Ok(inner) => Ok(Terminal {
                inner,
                hook,
                stopped,
                continued,
                registered,
            }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<CompletedFrame<'_>> {
        self.inner.draw(draw)
    }

    /// Gives the terminal to the shell and stops this process, until the shell lets it go on.
    fn stop(&mut self) -> io::Result<()> {
        // The kernel ignores SIGTSTP if no shell could let the process go on: it has no parent in this session.
        let session = |pid| rustix::process::getsid(pid).ok();
        if session(rustix::process::getppid()) != session(None) {
            return Ok(());
        }
        give_back();
        signal_hook::low_level::raise(SIGSTOP)?;
        self.take_again()
    }

    /// Takes the terminal that another program may have changed, and draws all of it at the next time.
    fn take_again(&mut self) -> io::Result<()> {
        self.continued.store(false, Ordering::Relaxed);
        // It sets the modes only if it believes that they are not set.
        let _ = disable_raw_mode();
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        // Its own `clear` asks the terminal for the place of the cursor, and waits for the answer.
        self.inner = ratatui::Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }

    /// Waits for a key until `next`.
    pub(super) fn input(&mut self, stop: &Stop, next: Instant) -> io::Result<Input> {
        loop {
            if stop.signal().is_some() {
                return Ok(Input::Stop);
            }
            if self.stopped.swap(false, Ordering::Relaxed) {
                self.stop()?;
                return Ok(Input::Nothing);
            }
            if self.continued.load(Ordering::Relaxed) {
                self.take_again()?;
                return Ok(Input::Nothing);
            }
            let left = next.saturating_duration_since(Instant::now());
            let Some(rest) = wait_for_key(left.min(BEAT)) else {
                return Ok(Input::Stop);
            };
            match event::poll(rest) {
                Ok(true) => {}
                Ok(false) if left.is_zero() => return Ok(Input::Nothing),
                Ok(false) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Release => {}
                Event::Key(key) if is_ctrl_z(key) => self.stopped.store(true, Ordering::Relaxed),
                Event::Key(key) => return Ok(meaning(key)),
                // Another size: it is drawn anew.
                Event::Resize(..) => return Ok(Input::Nothing),
                _ => {}
            }
        }
    }
}

/// Waits up to `time` for a key. Returns how long crossterm is to wait; None if there is no terminal any more.
///
/// Without SIGHUP nothing else tells of that: a terminal that has gone is readable, and crossterm reads it for ever.
fn wait_for_key(time: Duration) -> Option<Duration> {
    let stdin = io::stdin();
    match tcgetattr(&stdin) {
        Ok(_) => {}
        Err(Errno::IO) => return None,
        // crossterm opens the terminal of the session.
        Err(_) => return Some(time),
    }
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let limit = Timespec::try_from(time).ok()?;
    // A signal ends the wait, and the caller looks for it.
    let _ = poll(&mut fds, Some(&limit));
    let gone = fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
    (!gone).then_some(Duration::ZERO)
}

fn is_ctrl_z(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('z') && key.modifiers.contains(KeyModifiers::CONTROL)
}

fn meaning(key: KeyEvent) -> Input {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => Input::Stop,
        KeyCode::Char(_) if control => Input::Nothing,
        code => Input::Key(code),
    }
}

fn give_back() {
    // There is nothing left to do if the terminal is gone.
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for id in &self.registered {
            signal_hook::low_level::unregister(*id);
        }
        give_back();
        if !std::thread::panicking() {
            let hook = self.hook.clone();
            panic::set_hook(Box::new(move |info| hook(info)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    #[ignore = "the test below runs it in a terminal of its own"]
    fn panics_while_it_has_the_terminal() {
        let stop = Stop::new().expect("signal handlers");
        let mut terminal = Terminal::take(&stop).expect("a terminal");
        terminal
            .draw(|_| panic!("in the middle of a screen"))
            .expect("a panic");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_its_message_is_written() {
        let mut master = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal"));
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let path = std::ffi::OsStr::from_bytes(name.as_bytes());
        let slave = File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("a terminal");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).expect("a size");
        let modes = |file: &File| format!("{:?}", tcgetattr(file).expect("modes"));
        let before = modes(&slave);
        let again = || slave.try_clone().expect("a descriptor");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("top::terminal::tests::panics_while_it_has_the_terminal")
            .env("RUST_BACKTRACE", "0")
            .stdin(again())
            .stdout(again())
            .stderr(again())
            .spawn()
            .expect("a process");
        assert!(!child.wait().expect("its end").success());
        assert_eq!(modes(&slave), before);
        drop(slave);
        let mut written = Vec::new();
        // It ends with an error: the terminal has no writer any more.
        let _ = master.read_to_end(&mut written);
        let written = String::from_utf8_lossy(&written);
        let at = |text: &str| {
            written
                .find(text)
                .unwrap_or_else(|| panic!("{text:?} is missing: {written:?}"))
        };
        let (taken, given) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(
            taken < given && given < at("in the middle of a screen"),
            "{written:?}"
        );
        assert!(
            written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l"),
            "{written:?}"
        );
    }
}
