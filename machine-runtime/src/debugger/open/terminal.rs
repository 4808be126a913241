//! The terminal: taken for as long as a [`Screen`] is there, and given back whatever happens.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::clipboard::CopyToClipboard;
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};

use super::super::ui::App;

/// Whether there is a terminal to draw on and to read keys from.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// The thread that draws, while a terminal is taken.
static DRAWS: Mutex<Option<ThreadId>> = Mutex::new(None);

/// A terminal that is taken.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn new(mouse: bool) -> io::Result<Self> {
        restore_on_panic();
        enable_raw_mode()?;
        // From here on it is given back, even if the rest fails.
        let screen = Self {
            terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?,
        };
        execute!(io::stdout(), EnterAlternateScreen)?;
        if mouse {
            execute!(io::stdout(), EnableMouseCapture)?;
        }
        Ok(screen)
    }

    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    pub(super) fn draw(&mut self, app: &App) -> io::Result<()> {
        self.terminal.draw(|frame| app.draw(frame))?;
        Ok(())
    }

    /// Has the terminal copy a text, if it can (OSC 52).
    pub(super) fn copy(&self, text: &str) -> io::Result<()> {
        let _ = self;
        execute!(io::stdout(), CopyToClipboard::to_clipboard_from(text))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves the terminal as it was, unless that was done. Nobody could be told of an error.
fn restore() {
    if draws().take().is_none() {
        return;
    }
    let mut out = io::stdout();
    // Cleared, as tmux shows what is left of it where the terminal has another size than before.
    let _ = execute!(
        out,
        DisableMouseCapture,
        Clear(ClearType::All),
        cursor::MoveTo(0, 0),
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = disable_raw_mode();
    let _ = out.flush();
}

fn draws() -> MutexGuard<'static, Option<ThreadId>> {
    DRAWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic of the thread that draws is told on a terminal on which it can be read. One of another
/// thread is caught, and what it was about says that it failed: told here, it would only be written
/// over the screen.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    *draws() = Some(thread::current().id());
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let drawn_by = *draws();
            if drawn_by.is_none_or(|id| id == thread::current().id()) {
                restore();
                before(info);
            }
        }));
    });
}
