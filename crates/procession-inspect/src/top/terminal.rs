//! Takes the terminal over, and gives it back: also when the view panics, and when a signal ends it.

use crate::live::Stop;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{CompletedFrame, Frame};
use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two looks at what a signal has asked for.
const BEAT: Duration = Duration::from_millis(100);

type Hook = dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send;

/// The terminal, as long as the view has it.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
    hook: Arc<Hook>,
}

/// What the user, or a signal, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Stop,
    Key(KeyCode),
}

impl Terminal {
    pub(super) fn take() -> io::Result<Terminal> {
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
            Ok(inner) => Ok(Terminal { inner, hook }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<CompletedFrame<'_>> {
        self.inner.draw(draw)
    }

    /// Waits for a key until `next`.
    pub(super) fn input(&self, stop: &Stop, next: Instant) -> io::Result<Input> {
        loop {
            if stop.signal().is_some() {
                return Ok(Input::Stop);
            }
            let left = next.saturating_duration_since(Instant::now());
            match event::poll(left.min(BEAT)) {
                Ok(true) => {}
                Ok(false) if left.is_zero() => return Ok(Input::Nothing),
                Ok(false) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => return Ok(meaning(key)),
                // Another size: it is drawn anew.
                Event::Resize(..) => return Ok(Input::Nothing),
                _ => {}
            }
        }
    }
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
        give_back();
        if !std::thread::panicking() {
            let hook = self.hook.clone();
            panic::set_hook(Box::new(move |info| hook(info)));
        }
    }
}
