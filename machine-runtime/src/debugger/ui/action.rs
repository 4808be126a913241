//! What a person can do, and with which key: one table, from which keys are looked up, and the key bar,
//! the help and the table of the documentation are made.

use std::fmt::{self, Write};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

mod table;

pub use table::BINDINGS;

/// A part of the screen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pane {
    /// Processes, roots and replicas.
    Machines,
    /// States and their relations.
    Schema,
    /// What happened when.
    Timeline,
    /// One transition.
    Transition,
    /// The log of the process.
    Log,
    /// A line a transition, a column a state.
    Rain,
    /// Every replica at one moment of the root.
    Lens,
    /// Why a state is or is not active.
    Why,
    /// The schema or the transition as a drawing.
    Diagram,
}

impl Pane {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Machines,
        Self::Schema,
        Self::Timeline,
        Self::Transition,
        Self::Log,
        Self::Rain,
        Self::Lens,
        Self::Why,
        Self::Diagram,
    ];

    /// The name in its title.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machines => "Machines",
            Self::Schema => "Schema",
            Self::Timeline => "Timeline",
            Self::Transition => "Transition",
            Self::Log => "Log",
            Self::Rain => "Rain",
            Self::Lens => "Lens",
            Self::Why => "Why",
            Self::Diagram => "Diagram",
        }
    }

    /// What it shows.
    pub fn about(self) -> &'static str {
        match self {
            Self::Machines => "every node at the time of the cursor: its revision, how far behind",
            Self::Schema => "the states: activity, tick, flags, relations",
            Self::Timeline => "what happened when; errors and refusals are marked",
            Self::Transition => {
                "the transition under the cursor: who, what, why, and what came of it"
            }
            Self::Log => "the log of the machine's process around the cursor",
            Self::Rain => "a line a transition, a column a state",
            Self::Lens => "every replica at the root's moment: reached, late or wrong",
            Self::Why => "why the selected state is as it is, and what would change it",
            Self::Diagram => "the schema around the selected state, to read or to write to a file",
        }
    }

    /// Its number key less one.
    pub fn place(self) -> usize {
        self as usize
    }
}

/// What a person can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each has its words in the table")]
pub enum Action {
    Quit,
    Help,
    Close,
    NextPane,
    PreviousPane,
    Show(Pane),
    Zoom,
    Up,
    Down,
    PageUp,
    PageDown,
    Open,
    Previous,
    Next,
    Back10,
    Forward10,
    Back100,
    Forward100,
    First,
    Last,
    PreviousChange,
    NextChange,
    PreviousTrouble,
    NextTrouble,
    PreviousMachine,
    NextMachine,
    Play,
    Faster,
    Slower,
    Tail,
    Command,
    Search,
    Filters,
    Bookmark,
    Places,
    Breakpoint,
    Mark,
    Diff,
    Export,
    Copy,
    Waiters,
    HideGone,
    ActiveFirst,
    FoldAll,
    ZoomIn,
    ZoomOut,
    ZoomAll,
    MoreLog,
    LessLog,
    NextGroup,
    Try,
    Smallest,
    NextView,
    Write,
    Toggle,
    Delete,
}

/// Where a key does what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// In every pane.
    Everywhere(Topic),
    /// In one pane, where it goes before what it does everywhere.
    In(Pane),
    /// In a list over the panes.
    Lists,
}

/// What keys that work everywhere are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Moving in time.
    Time,
    /// Moving on the screen.
    Screen,
    /// What is shown, and marked.
    Marks,
}

impl Scope {
    /// The heading that its keys are under.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Everywhere(Topic::Time) => "Moving in time",
            Self::Everywhere(Topic::Screen) => "Moving on the screen",
            Self::Everywhere(Topic::Marks) => "Filters, marks and files",
            Self::In(pane) => pane.name(),
            Self::Lists => "Lists over the panes",
        }
    }
}

/// A key with what is held down beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    code: KeyCode,
    ctrl: bool,
}

impl Key {
    /// A key by itself.
    pub const fn new(code: KeyCode) -> Self {
        Self { code, ctrl: false }
    }

    /// A letter or a sign.
    pub const fn char(char: char) -> Self {
        Self::new(KeyCode::Char(char))
    }

    /// A letter with Ctrl.
    pub const fn ctrl(char: char) -> Self {
        Self {
            code: KeyCode::Char(char),
            ctrl: true,
        }
    }

    /// Whether `event` is this key. Shift is in the sign that it makes.
    pub fn is(self, event: &KeyEvent) -> bool {
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        self.code == event.code && self.ctrl == ctrl
    }

    /// The event of pressing it.
    pub fn event(self) -> KeyEvent {
        let modifiers = if self.ctrl {
            KeyModifiers::CONTROL
        } else {
            KeyModifiers::NONE
        };
        KeyEvent::new(self.code, modifiers)
    }

    /// The key that a name in angle brackets stands for: `tab`, `enter`, `c-u`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(char) = name.strip_prefix("c-") {
            let mut chars = char.chars();
            return chars
                .next()
                .filter(|_| chars.as_str().is_empty())
                .map(Self::ctrl);
        }
        let found = NAMES.iter().find(|(_, of, _)| *of == name);
        found.map(|(code, ..)| Self::new(*code))
    }
}

/// Codes, how a script names them, and how a person reads them.
const NAMES: [(KeyCode, &str, &str); 16] = [
    (KeyCode::Char(' '), "space", "Space"),
    (KeyCode::Char('<'), "lt", "<"),
    (KeyCode::Enter, "enter", "Enter"),
    (KeyCode::Esc, "esc", "Esc"),
    (KeyCode::Tab, "tab", "Tab"),
    (KeyCode::BackTab, "backtab", "Shift-Tab"),
    (KeyCode::Left, "left", "Left"),
    (KeyCode::Right, "right", "Right"),
    (KeyCode::Up, "up", "Up"),
    (KeyCode::Down, "down", "Down"),
    (KeyCode::Home, "home", "Home"),
    (KeyCode::End, "end", "End"),
    (KeyCode::PageUp, "pgup", "PgUp"),
    (KeyCode::PageDown, "pgdn", "PgDn"),
    (KeyCode::Delete, "del", "Del"),
    (KeyCode::Backspace, "bs", "Backspace"),
];

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().find(|(code, ..)| *code == self.code);
        match (self.code, named) {
            (KeyCode::Char(char), _) if self.ctrl => {
                write!(f, "Ctrl-{}", char.to_ascii_uppercase())
            }
            (_, Some((.., name))) => f.write_str(name),
            (KeyCode::Char(char), None) => f.write_char(char),
            (code, None) => write!(f, "{code}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What is done.
    pub action: Action,
    /// With any of these keys.
    pub keys: &'static [Key],
    /// Where.
    pub scope: Scope,
    /// In a word or two, for the key bar; empty where it is not in there.
    pub short: &'static str,
    /// In a line, for the help.
    pub help: &'static str,
}

impl Binding {
    /// Its keys, as they are read.
    pub fn keys(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(Key::to_string).collect();
        keys.join(" ")
    }
}

/// What a key does in a pane, or in a list over the panes.
pub fn action_of(event: &KeyEvent, focus: Pane, in_list: bool) -> Option<Action> {
    let pressed = |binding: &&Binding| binding.keys.iter().any(|key| key.is(event));
    let within = |scope: Scope| {
        let mut all = BINDINGS.iter().filter(pressed);
        all.find(|binding| binding.scope == scope)
    };
    let here = if in_list {
        Scope::Lists
    } else {
        Scope::In(focus)
    };
    let everywhere = [Topic::Time, Topic::Screen, Topic::Marks].map(Scope::Everywhere);
    let found = within(here).or_else(|| everywhere.into_iter().find_map(within));
    found.map(|binding| binding.action)
}

/// The bindings under each heading, those of the focused pane first.
pub fn sections(focus: Pane) -> Vec<(Scope, Vec<&'static Binding>)> {
    let panes = Pane::ALL.into_iter().filter(|pane| *pane != focus);
    let everywhere = [Topic::Time, Topic::Screen, Topic::Marks].map(Scope::Everywhere);
    let mut scopes = vec![Scope::In(focus)];
    scopes.extend(everywhere);
    scopes.extend(panes.map(Scope::In));
    scopes.push(Scope::Lists);
    let of = |scope: Scope| {
        let all = BINDINGS.iter();
        (scope, all.filter(|one| one.scope == scope).collect())
    };
    let sections = scopes.into_iter().map(of);
    sections
        .filter(|(_, all): &(_, Vec<_>)| !all.is_empty())
        .collect()
}

/// The tables of the documentation.
pub fn markdown() -> String {
    let mut out = String::new();
    for (scope, bindings) in sections(Pane::Machines) {
        let _ = write!(out, "### {}\n\n", scope.heading());
        if let Scope::In(pane) = scope {
            let about = pane.about();
            let (first, rest) = about.split_at(1);
            let _ = write!(out, "{}{rest}.\n\n", first.to_uppercase());
        }
        out.push_str("| key | does |\n|---|---|\n");
        for binding in bindings {
            let keys: Vec<String> = binding.keys.iter().map(|key| code(*key)).collect();
            let _ = writeln!(out, "| {} | {} |", keys.join(" "), binding.help);
        }
        out.push('\n');
    }
    out
}

fn code(key: Key) -> String {
    match key.to_string().as_str() {
        "|" => "`\\|`".to_owned(),
        "`" => "`` ` ``".to_owned(),
        text => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests;
