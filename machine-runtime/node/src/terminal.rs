//! How the status reaches a person: redrawn in place on a terminal, as plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::cursor::{MoveTo, MoveToPreviousLine};
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{self, Clear, ClearType};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::status::{Lines, Row, render};

/// How often it is redrawn.
const FRAME: Duration = Duration::from_millis(200);

/// How long the last of it may take.
const LAST: Duration = Duration::from_millis(200);

/// How often plain lines are printed.
const FLUSH: Duration = Duration::from_millis(50);

/// Standard output, drawn on or written to.
#[derive(Debug)]
pub struct Terminal {
    live: bool,
    drawn: u16,
    size: (u16, u16),
}

impl Terminal {
    /// Standard output as it is.
    pub fn new() -> Self {
        Self {
            live: io::stdout().is_terminal(),
            drawn: 0,
            size: (0, 0),
        }
    }

    /// Standard output as a place for plain lines.
    pub fn plain() -> Self {
        Self {
            live: false,
            drawn: 0,
            size: (0, 0),
        }
    }

    /// Whether it is redrawn in place.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Shows how the nodes are and what happened, again and again.
    ///
    /// # Errors
    ///
    /// If nobody reads standard output any more.
    ///
    /// # Cancel safety
    ///
    /// If dropped, what was not shown yet is shown by [`Terminal::last`].
    pub async fn show(
        &mut self,
        rows: impl Fn() -> Vec<Row>,
        lines: &Lines,
        hints: &[String],
    ) -> io::Result<()> {
        loop {
            let frame = self.frame(&rows, lines, hints)?;
            write(frame).await?;
            tokio::time::sleep(if self.live { FRAME } else { FLUSH }).await;
        }
    }

    /// Shows what is left to be shown.
    ///
    /// # Errors
    ///
    /// If nobody reads standard output any more.
    pub async fn last(
        &mut self,
        rows: impl Fn() -> Vec<Row>,
        lines: &Lines,
        hints: &[String],
    ) -> io::Result<()> {
        let frame = self.frame(&rows, lines, hints)?;
        // Whoever has stopped reading does not keep us from ending.
        timeout(LAST, write(frame)).await.unwrap_or(Ok(()))
    }

    fn frame(
        &mut self,
        rows: &impl Fn() -> Vec<Row>,
        lines: &Lines,
        hints: &[String],
    ) -> io::Result<Vec<u8>> {
        if !self.live {
            let mut out = Vec::new();
            for line in lines.take() {
                writeln!(out, "{line}")?;
            }
            return Ok(out);
        }
        self.redrawn(|size| render(&rows(), lines, hints, size))
    }

    /// Draws a picture for a screen of so many columns and lines over the one before.
    ///
    /// # Errors
    ///
    /// If nobody reads standard output any more.
    pub(crate) async fn draw(
        &mut self,
        picture: impl FnOnce((usize, usize)) -> Vec<String>,
    ) -> io::Result<()> {
        let frame = self.redrawn(picture)?;
        write(frame).await
    }

    fn redrawn(
        &mut self,
        picture: impl FnOnce((usize, usize)) -> Vec<String>,
    ) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let (width, height) = terminal::size().unwrap_or((80, 24));
        // The last line of the terminal stays empty: that is where the cursor waits.
        let picture = picture((width.into(), usize::from(height.max(2) - 1)));
        if self.size != (width, height) {
            // Another size has put what was drawn somewhere else.
            if self.size != (0, 0) {
                queue!(out, Clear(ClearType::All), MoveTo(0, 0))?;
            }
            self.size = (width, height);
        } else if self.drawn > 0 {
            queue!(out, MoveToPreviousLine(self.drawn))?;
        }
        for line in &picture {
            queue!(
                out,
                Clear(ClearType::UntilNewLine),
                Print(line),
                Print("\r\n")
            )?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        self.drawn = u16::try_from(picture.len()).unwrap_or(u16::MAX);
        Ok(out)
    }
}

/// Writes on a thread of its own: a reader that has stopped reading must not stop the program.
async fn write(frame: Vec<u8>) -> io::Result<()> {
    if frame.is_empty() {
        return Ok(());
    }
    let written = spawn_blocking(move || {
        let mut out = io::stdout().lock();
        out.write_all(&frame)?;
        out.flush()
    });
    written
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}
