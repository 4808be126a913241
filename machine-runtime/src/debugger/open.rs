//! The program: nodes that dial or recordings that are read, a store, and the screen.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use futures_util::StreamExt;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, EventStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::store::{Store, StoreLimits};
use super::ui::{
    App, Done, Effect, InvalidKeys, JobId, Message, Palette, Shared, Source, Theme, parse_keys,
    text_of,
};
use super::web::Web;
use crate::debug::recording::RecordingError;

mod feed;
mod terminal;

use self::feed::{Feed, Input};
use self::terminal::Screen;

/// At most so often the screen is drawn.
const DRAW: Duration = Duration::from_millis(16);

/// For so long frames are taken before keys are looked at again.
const TAKE: Duration = Duration::from_millis(8);

/// How long frames wait while something reads the store.
const RETRY: Duration = Duration::from_millis(5);

/// How often it is tried to have the store at once, before frames wait for it.
const TRIES: u32 = 8;

/// What is shown, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that nodes dial, where no recording is opened.
    pub listen: String,
    /// Recordings: files, and folders of them. They are read on while they are written.
    pub paths: Vec<PathBuf>,
    /// Colours.
    pub palette: Palette,
    /// Whether the mouse is taken: a terminal then selects text with Shift only.
    pub mouse: bool,
    /// How many bytes of what nodes told are held, about.
    pub memory: usize,
    /// The address at which browsers can read it, if they may.
    pub http: Option<String>,
}

/// Why the debugger does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another program listens there, likely another debugger.
    #[error(
        "{addr} is taken, likely by another debugger: end that one, or listen elsewhere with --listen \
         and have nodes dial there with --debug-addr"
    )]
    Taken {
        /// The address.
        addr: String,
    },
    /// It cannot listen.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// The address.
        addr: String,
        /// Why.
        error: io::Error,
    },
    /// Browsers cannot be answered there.
    #[error("cannot serve browsers at {addr}: {error}")]
    Http {
        /// The address.
        addr: String,
        /// Why.
        error: io::Error,
    },
    /// A recording cannot be opened.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Standard input or output is none.
    #[error(
        "the debugger needs a terminal to draw on; where there is none, --frame 120x40 prints the screen \
         once as text"
    )]
    NoTerminal,
    /// The terminal has failed.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// The keys of a script are none.
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
}

impl Options {
    fn source(&self) -> Source {
        if self.paths.is_empty() {
            return Source::Listening(self.listen.clone());
        }
        let paths = self.paths.iter();
        Source::Opened(paths.map(|path| path.display().to_string()).collect())
    }

    fn store(&self) -> Shared {
        let limits = StoreLimits { bytes: self.memory };
        Arc::new(RwLock::new(Store::new(limits)))
    }

    fn theme(&self) -> Theme {
        Theme::from_env(self.palette, |name| std::env::var(name).ok())
    }
}

/// A screen as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Printed {
    /// Its rows.
    pub screen: String,
    /// What was wrong with the recordings, of which the rest is shown.
    pub trouble: Option<String>,
}

/// The screen as text, after all of the recordings was read and `keys` were pressed: for scripts.
///
/// # Errors
///
/// If a recording cannot be read, or a key is none.
pub fn frame(options: &Options, size: (u16, u16), keys: &str) -> Result<Printed, OpenError> {
    let keys = parse_keys(keys)?;
    let shared = options.store();
    let mut trouble: Option<String> = None;
    let mut more = 0_u64;
    if !options.paths.is_empty() {
        let mut feed = Feed::default();
        for input in feed::read_all(&options.paths)? {
            let mut store = shared.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(why) = feed.apply(&mut store, input) {
                more += u64::from(trouble.is_some());
                trouble.get_or_insert(why);
            }
        }
    }
    // As on every computer: the environment has no say in it.
    let theme = Theme::new(options.palette, false);
    let mut app = App::new(Arc::clone(&shared), options.source(), theme);
    let mut effects = app.update(Message::Resize(size.0, size.1));
    for key in keys {
        effects.extend(app.update(Message::Key(key)));
        while let Some(effect) = effects.pop() {
            if let Effect::Run(id, job) = effect {
                let done = job.run(&shared, &|| false);
                effects.extend(app.update(Message::Done(id, done)));
            }
        }
    }
    let Ok(mut terminal) = Terminal::new(TestBackend::new(size.0, size.1));
    let Ok(_) = terminal.draw(|frame| app.draw(frame));
    if more > 0 {
        trouble = trouble.map(|first| format!("{first}; and {more} more like it"));
    }
    Ok(Printed {
        screen: text_of(terminal.backend().buffer()),
        trouble,
    })
}

/// Shows it until somebody leaves, or `stop` resolves. The terminal is then as it was.
///
/// # Errors
///
/// If there is no terminal, the address is taken, or a recording cannot be opened.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), OpenError> {
    if !terminal::is_there() {
        return Err(OpenError::NoTerminal);
    }
    let shared = options.store();
    let mut tasks = JoinSet::new();
    let sources = if options.paths.is_empty() {
        feed::listen(&options.listen, &mut tasks).await?
    } else {
        feed::follow(&options.paths, &mut tasks)?
    };
    let mut pages = None;
    if let Some(addr) = &options.http {
        let failed = |error| OpenError::Http {
            addr: addr.clone(),
            error,
        };
        let web = Web::bind(addr, Arc::clone(&shared)).await;
        let web = web.map_err(failed)?;
        pages = Some(format!(
            "browsers: http://{}/",
            web.local_addr().map_err(failed)?
        ));
        // Dropped with the tasks, at the end of the program.
        tasks.spawn(web.serve(std::future::pending()));
    }
    let screen = Screen::new(options.mouse)?;
    let source = match sources.local_addr() {
        Some(addr) => Source::Listening(addr.to_string()),
        None => options.source(),
    };
    let mut app = App::new(Arc::clone(&shared), source, options.theme());
    let size = screen.size()?;
    app.update(Message::Resize(size.0, size.1));
    if let Some(pages) = pages {
        app.update(Message::Say(pages));
    }
    let mut session = Session {
        app,
        shared,
        screen,
        sources,
        feed: Feed::default(),
        waiting: VecDeque::new(),
        tries: 0,
        jobs: JoinSet::new(),
        given_up: BTreeMap::new(),
        told: false,
        dirty: true,
    };
    session.run(stop).await
}

struct Session {
    app: App,
    shared: Shared,
    screen: Screen,
    sources: feed::Sources,
    feed: Feed,
    /// Frames that came and are not in the store yet.
    waiting: VecDeque<Input>,
    /// How often the store was not free for them.
    tries: u32,
    jobs: JoinSet<(JobId, Done)>,
    given_up: BTreeMap<JobId, Arc<AtomicBool>>,
    /// Whether the store holds what the screen was not told of.
    told: bool,
    dirty: bool,
}

impl Session {
    async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), OpenError> {
        let mut stop = pin!(stop);
        let mut events = EventStream::new();
        let mut drawn = Instant::now()
            .checked_sub(DRAW)
            .unwrap_or_else(Instant::now);
        let mut ticked = Instant::now();
        loop {
            let tick = self.app.tick();
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                event = events.next() => match event {
                    None => return Ok(()),
                    Some(event) => {
                        if self.event(&event?)? {
                            return Ok(());
                        }
                    }
                },
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    if let Ok((id, done)) = done {
                        self.given_up.remove(&id);
                        self.update(Message::Done(id, done))?;
                    }
                }
                () = sleep_until(ticked + tick.unwrap_or_default()), if tick.is_some() => {
                    ticked = Instant::now();
                    self.update(Message::Tick)?;
                }
                () = sleep_until(drawn + DRAW), if self.dirty || self.told => {
                    if std::mem::take(&mut self.told) {
                        self.update(Message::Told)?;
                    }
                    self.dirty = false;
                    self.screen.draw(&self.app)?;
                    drawn = Instant::now();
                }
                () = sleep_until(Instant::now() + RETRY), if !self.waiting.is_empty() => {
                    self.take();
                }
                input = self.sources.recv(), if self.waiting.is_empty() => match input {
                    Some(input) => {
                        self.waiting.extend(input);
                        self.take();
                    }
                    // A recording that nobody writes any more.
                    None => self.sources.end(),
                },
            }
            if tick.is_none() {
                ticked = Instant::now();
            }
        }
    }

    /// Whether it is time to leave.
    fn event(&mut self, event: &Event) -> Result<bool, OpenError> {
        let message = match *event {
            Event::Key(key) => Message::Key(key),
            Event::Mouse(mouse) => Message::Mouse(mouse),
            Event::Resize(width, height) => Message::Resize(width, height),
            _ => return Ok(false),
        };
        self.update(message)
    }

    fn update(&mut self, message: Message) -> Result<bool, OpenError> {
        self.dirty = true;
        let mut leave = false;
        for effect in self.app.update(message) {
            match effect {
                Effect::Quit => leave = true,
                Effect::Run(id, job) => {
                    let given_up = Arc::new(AtomicBool::new(false));
                    self.given_up.insert(id, Arc::clone(&given_up));
                    let shared = Arc::clone(&self.shared);
                    self.jobs.spawn_blocking(move || {
                        let is_given_up = || given_up.load(Ordering::Relaxed);
                        let run = AssertUnwindSafe(|| job.run(&shared, &is_given_up));
                        let broken =
                            |_panic| Done::Failed("that failed, by a mistake in here".into());
                        (id, catch_unwind(run).unwrap_or_else(broken))
                    });
                }
                Effect::Cancel(id) => {
                    if let Some(given_up) = self.given_up.remove(&id) {
                        given_up.store(true, Ordering::Relaxed);
                    }
                }
                Effect::Ask(machine) => {
                    let store = self.shared.read().unwrap_or_else(PoisonError::into_inner);
                    self.feed.ask(&store, &self.sources, machine);
                }
                Effect::Copy(text) => self.screen.copy(&text)?,
            }
        }
        Ok(leave)
    }

    /// Takes frames into the store, for as long as keys can wait.
    fn take(&mut self) {
        let shared = Arc::clone(&self.shared);
        // Who reads is not waited for at first, as keys cannot wait; but where readers follow each other
        // no moment is free until one waits, which has them wait. None holds the store for long.
        let mut store = match shared.try_write() {
            Ok(store) => store,
            Err(TryLockError::WouldBlock) if self.tries < TRIES => {
                self.tries += 1;
                return;
            }
            Err(_) => shared.write().unwrap_or_else(PoisonError::into_inner),
        };
        self.tries = 0;
        let until = Instant::now() + TAKE;
        while let Some(input) = self.waiting.pop_front() {
            if let Err(why) = self.feed.apply(&mut store, input) {
                drop(self.app.update(Message::Trouble(why)));
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.told = true;
    }
}

#[cfg(test)]
mod tests;
