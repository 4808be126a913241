//! The debugger as a person sees it: what is shown, what keys do to it, and how it is drawn.
//!
//! An [`App`] is a value: [`App::update`] takes a key, a click or the word that the store holds more, and
//! says what the program has to do; [`App::draw`] draws it. Neither waits for anything. Work that can
//! take long is a [`Job`] that the program runs on another thread and brings back as [`Message::Done`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use super::store::{Entry, Filter, MachineId, Moment, Store, ToldSteps, Visible, WhyNot};

pub mod action;
mod goto;
mod job;
mod keys;
mod layout;
mod list;
mod marks;
mod mouse;
mod navigate;
mod overlay;
mod pane;
mod prompt;
mod render;
mod settle;
mod theme;
mod update;
mod words;

use self::action::Pane;
pub use self::job::{Done, Job, JobId};
pub use self::keys::{InvalidKeys, parse_keys};
use self::list::List;
use self::marks::{Bookmark, Breakpoint, Marks};
use self::overlay::Overlay;
pub use self::pane::diagram::Drawing;
use self::pane::diagram::{Text, View};
use self::pane::log::Lines;
use self::pane::schema::Folding;
use self::pane::timeline::Strip;
use self::prompt::Prompt;
pub use self::render::text_of;
pub use self::theme::{InvalidPalette, Palette, Theme};

/// A store that the program fills and the screen reads. The program writes only where nobody reads, so
/// that the screen never waits.
pub type Shared = Arc<RwLock<Store>>;

/// Where what is shown comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nodes that dial this address.
    Listening(String),
    /// Recordings.
    Opened(Vec<String>),
}

/// What happens to an [`App`].
#[derive(Debug)]
pub enum Message {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was used.
    Mouse(MouseEvent),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
    /// The store holds more.
    Told,
    /// So much time has passed, see [`App::tick`].
    Tick,
    /// A job has ended.
    Done(JobId, Done),
    /// Something to tell the person.
    Say(String),
    /// Something went wrong.
    Trouble(String),
}

/// What the program has to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Run a job on another thread.
    Run(JobId, Job),
    /// Nobody waits for the job any more.
    Cancel(JobId),
    /// Ask the node who waits on a machine.
    Ask(MachineId),
    /// Copy a text to the clipboard of the terminal.
    Copy(String),
}

/// Whether time goes on by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Follow {
    /// The cursor stays.
    Paused,
    /// It is always at the end.
    #[default]
    Tail,
    /// It goes from transition to transition.
    Playing,
}

/// Transitions a second.
const SPEEDS: [u32; 8] = [1, 2, 5, 10, 25, 50, 100, 250];

/// What the person is told in the line above the keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Notice {
    text: String,
    is_trouble: bool,
}

/// All that the screen shows, see the [module](self).
#[derive(Debug)]
pub struct App {
    store: Shared,
    source: Source,
    theme: Theme,
    size: (u16, u16),

    focus: Pane,
    /// The panes that had the focus, the last one first: where not all fit these are shown.
    recent: Vec<Pane>,
    is_zoomed: bool,
    lists: [List; 9],
    overlay: Option<Overlay>,
    prompt: Option<Prompt>,
    notice: Notice,
    effects: Vec<Effect>,

    /// The machine that the cursor is in, its entry there, and when that was: the same for all machines.
    machine: Option<MachineId>,
    cursor: Option<usize>,
    wall: u64,
    follow: Follow,
    speed: usize,
    /// The selected state, of the schema of the machine.
    state: Option<u32>,

    filter: Filter,
    /// The place of the filter's group among those of the schema, or all that the selected state is in.
    group: Option<usize>,
    rain_group: Option<usize>,
    hide_gone: bool,
    machine_search: String,
    folding: Folding,
    log: Lines,
    view: View,
    diagram: Text,
    zoom: Option<u64>,

    bookmarks: Vec<Bookmark>,
    breakpoints: Vec<Breakpoint>,
    mark: Option<(MachineId, usize)>,
    answers: Answers,

    /// What runs on another thread.
    work: Option<(JobId, String)>,
    next_job: u64,
    spin: usize,

    // Made of the above by `settle`.
    visible: Option<Visible>,
    marks: BTreeMap<MachineId, Marks>,
    moment: Option<Moment>,
    entry: Option<Entry>,
    /// What relations made of the entry, if it is a transition.
    steps: Option<Result<ToldSteps, WhyNot>>,
    strip: Strip,
    /// How many entries of the machine are held.
    held: usize,
    is_stale: bool,
}

/// What jobs found out, as long as it is about what is shown.
#[derive(Debug, Default)]
struct Answers {
    /// Of which machine, entry and state.
    of: Option<(MachineId, usize, Option<u32>)>,
    smallest: Vec<String>,
    tried: Vec<String>,
}

impl App {
    /// What `store` holds, on a screen of 80 columns and 24 rows until [`Message::Resize`].
    pub fn new(store: Shared, source: Source, theme: Theme) -> Self {
        let follow = match source {
            Source::Listening(_) => Follow::Tail,
            Source::Opened(_) => Follow::Paused,
        };
        let mut app = Self {
            store,
            source,
            theme,
            size: (80, 24),
            focus: Pane::Machines,
            recent: vec![Pane::Machines, Pane::Schema, Pane::Transition, Pane::Rain],
            is_zoomed: false,
            lists: Default::default(),
            overlay: None,
            prompt: None,
            notice: Notice::default(),
            effects: Vec::new(),
            machine: None,
            cursor: None,
            wall: 0,
            follow,
            speed: 2,
            state: None,
            filter: Filter::default(),
            group: None,
            rain_group: None,
            hide_gone: false,
            machine_search: String::new(),
            folding: Folding::default(),
            log: Lines::default(),
            view: View::default(),
            diagram: Text::default(),
            zoom: None,
            bookmarks: Vec::new(),
            breakpoints: Vec::new(),
            mark: None,
            answers: Answers::default(),
            work: None,
            next_job: 1,
            spin: 0,
            visible: None,
            marks: BTreeMap::new(),
            moment: None,
            entry: None,
            steps: None,
            strip: Strip::default(),
            held: 0,
            is_stale: true,
        };
        app.settle();
        app
    }

    /// After how long a [`Message::Tick`] is due, if one is.
    pub fn tick(&self) -> Option<Duration> {
        if self.follow == Follow::Playing {
            return Some(Duration::from_secs(1) / SPEEDS[self.speed]);
        }
        self.work.is_some().then_some(Duration::from_millis(150))
    }

    /// Whether anything that it waited for is still missing.
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// The store to read, which nobody holds for writing for longer than some frames take.
    fn read(store: &Shared) -> RwLockReadGuard<'_, Store> {
        store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&mut self, text: impl Into<String>) {
        self.notice = Notice {
            text: text.into(),
            is_trouble: false,
        };
    }

    fn trouble(&mut self, text: impl Into<String>) {
        self.notice = Notice {
            text: text.into(),
            is_trouble: true,
        };
    }

    /// Has a job run; one that ran before is given up.
    fn run(&mut self, what: impl Into<String>, job: Job) {
        self.cancel();
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.work = Some((id, what.into()));
        self.effects.push(Effect::Run(id, job));
    }

    fn cancel(&mut self) -> bool {
        let Some((id, _)) = self.work.take() else {
            return false;
        };
        self.effects.push(Effect::Cancel(id));
        true
    }
}

/// States, as filters have them.
type States = BTreeSet<u32>;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(in crate::debugger) use self::tests::sample;
