//! A line that is typed: commands, searches, names.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::store::Store;
use super::action::Pane;
use super::{App, words};

/// What a line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Where to go.
    Command,
    /// What to search in a pane, as one types.
    Search(Pane),
    /// A bookmark's name.
    Bookmark,
    /// Where to write what is shown.
    Export,
    /// A mutation to try.
    Try,
}

/// A line that is typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Prompt {
    pub(super) purpose: Purpose,
    pub(super) text: String,
    /// The byte that the cursor is at.
    pub(super) at: usize,
}

/// The longest line.
const MAX: usize = 1000;

impl Purpose {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Command => "go to (time, rev N, m MACHINE, s STATE, address): ",
            Self::Search(Pane::Machines) => "search machines: ",
            Self::Search(Pane::Schema) => "search states: ",
            Self::Search(Pane::Log) => "search the log: ",
            Self::Search(_) => "show transitions with: ",
            Self::Bookmark => "name of the bookmark: ",
            Self::Export => "write to (.amrec, .jsonl.gz or .txt): ",
            Self::Try => "try (add, remove, set or toggle, and states): ",
        }
    }
}

impl Prompt {
    pub(super) fn new(purpose: Purpose, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            purpose,
            at: text.len(),
            text,
        }
    }

    fn before(&self) -> Option<usize> {
        let before = self.text[..self.at].chars().next_back()?;
        Some(self.at - before.len_utf8())
    }

    fn edit(&mut self, key: &KeyEvent) -> bool {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('u') if ctrl => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('a') if ctrl => self.at = 0,
            KeyCode::Char('e') if ctrl => self.at = self.text.len(),
            KeyCode::Char(char) if !ctrl && self.text.len() < MAX && !char.is_control() => {
                self.text.insert(self.at, char);
                self.at += char.len_utf8();
            }
            KeyCode::Backspace => {
                if let Some(before) = self.before() {
                    self.text.remove(before);
                    self.at = before;
                }
            }
            KeyCode::Delete if self.at < self.text.len() => {
                self.text.remove(self.at);
            }
            KeyCode::Left => self.at = self.before().unwrap_or(0),
            KeyCode::Right => {
                let next = self.text[self.at..].chars().next();
                self.at += next.map_or(0, char::len_utf8);
            }
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            _ => return false,
        }
        true
    }
}

impl App {
    pub(super) fn ask(&mut self, purpose: Purpose, text: impl Into<String>) {
        self.prompt = Some(Prompt::new(purpose, text));
        self.notice = super::Notice::default();
    }

    /// A key while a line is typed.
    pub(super) fn type_key(&mut self, store: &Store, key: &KeyEvent) {
        let Some(mut prompt) = self.prompt.take() else {
            return;
        };
        match key.code {
            KeyCode::Esc => self.search(prompt.purpose, ""),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.search(prompt.purpose, "");
            }
            KeyCode::Enter => self.typed(store, &prompt),
            KeyCode::Tab => {
                self.complete(store, &mut prompt);
                self.prompt = Some(prompt);
            }
            _ => {
                if prompt.edit(key) {
                    let is_slow = !matches!(
                        prompt.purpose,
                        Purpose::Search(Pane::Machines | Pane::Schema)
                    );
                    if !is_slow {
                        self.search(prompt.purpose, &prompt.text);
                    }
                }
                self.prompt = Some(prompt);
            }
        }
    }

    /// Applies a search as far as it was typed.
    fn search(&mut self, purpose: Purpose, text: &str) {
        match purpose {
            Purpose::Search(Pane::Machines) => text.clone_into(&mut self.machine_search),
            Purpose::Search(Pane::Schema) => {
                text.clone_into(&mut self.folding.search);
                self.lists[Pane::Schema.place()].cursor = 0;
            }
            Purpose::Search(Pane::Log) => text.clone_into(&mut self.log.search),
            Purpose::Search(_) => {
                self.filter.text = (!text.trim().is_empty()).then(|| text.to_owned());
            }
            _ => {}
        }
    }

    fn typed(&mut self, store: &Store, prompt: &Prompt) {
        let text = prompt.text.trim();
        match prompt.purpose {
            Purpose::Command => self.go_to_text(store, text),
            Purpose::Search(pane) => {
                self.search(prompt.purpose, text);
                // What was searched is found at once: Enter again selects it.
                if pane == Pane::Schema {
                    let found = self.schema_rows(store).into_iter().next();
                    if let Some(super::list::Target::State(state)) =
                        found.and_then(|row| row.target)
                        && !text.is_empty()
                    {
                        self.state = Some(state);
                        self.is_stale = true;
                    }
                }
            }
            Purpose::Bookmark => self.set_bookmark(text),
            Purpose::Export => self.export(store, text),
            Purpose::Try => self.try_text(store, text),
        }
    }

    /// Completes the state name that the line ends with.
    fn complete(&mut self, store: &Store, prompt: &mut Prompt) {
        if !matches!(prompt.purpose, Purpose::Try | Purpose::Command) {
            return;
        }
        let Some(machine) = self.machine else {
            return;
        };
        let schema = store.machine(machine).schema();
        let start = prompt.text[..prompt.at]
            .rfind([' ', ','])
            .map_or(0, |i| i + 1);
        let word = prompt.text[start..prompt.at].to_lowercase();
        let names = schema.names();
        let found: Vec<&str> = names
            .filter(|name| name.to_lowercase().starts_with(&word))
            .collect();
        let Some(first) = found.first() else {
            return;
        };
        let mut common = first.len();
        for name in &found {
            let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b);
            common = common.min(same.count());
        }
        while !first.is_char_boundary(common) {
            common -= 1;
        }
        if found.len() > 1 {
            let some: Vec<&str> = found.iter().copied().take(8).collect();
            let more = found.len().saturating_sub(8);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            self.say(format!("{}{more}", some.join("  ")));
        }
        if common >= word.len() {
            prompt
                .text
                .replace_range(start..prompt.at, &first[..common]);
            prompt.at = start + common;
        }
    }

    /// A name that no file has had yet is likely: the machine and the time.
    pub(super) fn file_name(&self, store: &Store, extension: &str) -> String {
        let name = self.machine.map_or("debug", |id| store.machine(id).name());
        let name: String = name
            .chars()
            .map(|char| if char.is_alphanumeric() { char } else { '-' })
            .collect();
        let time = words::date(self.wall).replace([' ', ':'], "-");
        let time = time.split('.').next().unwrap_or_default();
        format!("{name}-{time}.{extension}")
    }
}
