//! The screen as text, what keys and the mouse do, and that nothing that is typed makes it panic.
//!
//! After a change of the screen that is meant: `UPDATE_SCREENS=1 cargo test -p machine-runtime
//! --features debugger`.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::super::store::{Store, StoreLimits};
use super::*;

mod acts;
mod growing;
pub(in crate::debugger) mod sample;
mod screens;

/// Where the screens that are compared with are.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/debugger/ui/tests/screens")
}

/// What a terminal would show.
fn screen(app: &App) -> String {
    let (width, height) = app.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    text_of(terminal.backend().buffer())
}

fn app(store: Store, size: (u16, u16)) -> App {
    let source = Source::Listening("127.0.0.1:6831".to_owned());
    let store = Arc::new(RwLock::new(store));
    let mut app = App::new(store, source, Theme::default());
    app.update(Message::Resize(size.0, size.1));
    app
}

fn sample_app(size: (u16, u16)) -> App {
    app(sample::store(), size)
}

/// Presses keys, and does at once what the program would do on another thread.
fn press(app: &mut App, keys: &str) -> Vec<Effect> {
    let mut all = Vec::new();
    for key in parse_keys(keys).unwrap() {
        all.extend(carry_out(app, Message::Key(key)));
    }
    all
}

fn carry_out(app: &mut App, message: Message) -> Vec<Effect> {
    let mut others = Vec::new();
    let mut open = app.update(message);
    while let Some(effect) = open.pop() {
        match effect {
            Effect::Run(id, job) => {
                let shared = Arc::clone(&app.store);
                let done = done(job, &shared);
                open.extend(app.update(Message::Done(id, done)));
            }
            other => others.push(other),
        }
    }
    others
}

/// What comes of a job. No files are written here, whatever was typed.
fn done(job: Job, shared: &Shared) -> Done {
    match job {
        Job::Export { path, .. } | Job::Draw { path, .. } => {
            Done::Wrote(path.display().to_string())
        }
        job => job.run(shared, &|| false),
    }
}

fn click(app: &mut App, column: u16, row: u16) {
    let event = MouseEvent {
        kind: MouseEventKind::Down(MouseButton::Left),
        column,
        row,
        modifiers: KeyModifiers::NONE,
    };
    carry_out(app, Message::Mouse(event));
}
