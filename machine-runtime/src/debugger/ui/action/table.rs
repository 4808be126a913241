//! The table itself.

use ratatui::crossterm::event::KeyCode;

use super::{Action, Binding, Key, Pane, Scope, Topic};

const TIME: Scope = Scope::Everywhere(Topic::Time);
const SCREEN: Scope = Scope::Everywhere(Topic::Screen);
const MARKS: Scope = Scope::Everywhere(Topic::Marks);

const fn bind(
    action: Action,
    keys: &'static [Key],
    scope: Scope,
    short: &'static str,
    help: &'static str,
) -> Binding {
    Binding {
        action,
        keys,
        scope,
        short,
        help,
    }
}

const fn c(char: char) -> Key {
    Key::char(char)
}

const fn k(code: KeyCode) -> Key {
    Key::new(code)
}

/// Every key. Within a scope the order is that of the key bar and of the help.
#[rustfmt::skip]
pub static BINDINGS: &[Binding] = &[
    bind(Action::Previous, &[k(KeyCode::Left), c('h')], TIME, "", "one transition back"),
    bind(Action::Next, &[k(KeyCode::Right), c('l')], TIME, "step", "one transition ahead"),
    bind(Action::Back10, &[c('['), Key::ctrl('h')], TIME, "", "ten transitions back"),
    bind(Action::Forward10, &[c(']')], TIME, "", "ten transitions ahead"),
    bind(Action::Back100, &[c('{')], TIME, "", "a hundred transitions back"),
    bind(Action::Forward100, &[c('}')], TIME, "", "a hundred transitions ahead"),
    bind(Action::First, &[k(KeyCode::Home), c('g')], TIME, "", "to the first transition"),
    bind(Action::Last, &[k(KeyCode::End), c('G')], TIME, "", "to the last transition"),
    bind(Action::PreviousChange, &[c('p')], TIME, "", "to the previous change of the selected state"),
    bind(Action::NextChange, &[c('n')], TIME, "next change", "to the next change of the selected state"),
    bind(Action::PreviousTrouble, &[c('X')], TIME, "", "to the previous error or refusal"),
    bind(Action::NextTrouble, &[c('x')], TIME, "trouble", "to the next error or refusal"),
    bind(Action::Tail, &[c('T')], TIME, "tail", "follow what comes, or stop following"),
    bind(Action::Play, &[c(' ')], TIME, "play", "play from here, or pause"),
    bind(Action::Slower, &[c('<')], TIME, "", "play slower"),
    bind(Action::Faster, &[c('>')], TIME, "", "play faster"),
    bind(Action::Command, &[c(':')], TIME, "go to", "go to `12:03:04`, `rev 1234`, `m MACHINE`, `s STATE` or an address"),
    bind(Action::NextPane, &[k(KeyCode::Tab)], SCREEN, "pane", "next pane"),
    bind(Action::PreviousPane, &[k(KeyCode::BackTab)], SCREEN, "", "previous pane"),
    bind(Action::Show(Pane::Machines), &[c('1')], SCREEN, "", "the machines"),
    bind(Action::Show(Pane::Schema), &[c('2')], SCREEN, "", "the schema"),
    bind(Action::Show(Pane::Timeline), &[c('3')], SCREEN, "", "the timeline"),
    bind(Action::Show(Pane::Transition), &[c('4')], SCREEN, "", "the transition"),
    bind(Action::Show(Pane::Log), &[c('5')], SCREEN, "", "the log"),
    bind(Action::Show(Pane::Rain), &[c('6')], SCREEN, "", "the rain"),
    bind(Action::Show(Pane::Lens), &[c('7')], SCREEN, "", "the replica lens"),
    bind(Action::Show(Pane::Why), &[c('8')], SCREEN, "", "why a state is as it is"),
    bind(Action::Show(Pane::Diagram), &[c('9')], SCREEN, "", "the diagram"),
    bind(Action::Zoom, &[c('z')], SCREEN, "zoom", "the focused pane alone, or all again"),
    bind(Action::Up, &[k(KeyCode::Up), c('k')], SCREEN, "", "a row up"),
    bind(Action::Down, &[k(KeyCode::Down), c('j')], SCREEN, "", "a row down"),
    bind(Action::PageUp, &[k(KeyCode::PageUp), Key::ctrl('u')], SCREEN, "", "a page up"),
    bind(Action::PageDown, &[k(KeyCode::PageDown), Key::ctrl('d')], SCREEN, "", "a page down"),
    bind(Action::Open, &[k(KeyCode::Enter)], SCREEN, "", "open, fold or follow what the row names"),
    bind(Action::PreviousMachine, &[c('M')], SCREEN, "", "the machine above"),
    bind(Action::NextMachine, &[c('m')], SCREEN, "", "the machine below"),
    bind(Action::Close, &[k(KeyCode::Esc)], SCREEN, "", "close a list; end a search; cancel work; unselect the state"),
    bind(Action::Help, &[c('?')], SCREEN, "help", "the help, with the keys of the focused pane first"),
    bind(Action::Quit, &[c('q'), Key::ctrl('c')], SCREEN, "quit", "leave"),
    bind(Action::Filters, &[c('f')], MARKS, "filter", "what is hidden, with counts"),
    bind(Action::Search, &[c('/')], MARKS, "search", "search: states, machines, the log, or transitions by their text"),
    bind(Action::Bookmark, &[c('b')], MARKS, "", "set a bookmark at the cursor"),
    bind(Action::Breakpoint, &[c('!')], MARKS, "", "stop following when the selected state begins or ends, or no more"),
    bind(Action::Places, &[c('B')], MARKS, "", "list bookmarks and breakpoints"),
    bind(Action::Mark, &[c('d')], MARKS, "", "mark this moment as A"),
    bind(Action::Diff, &[c('D')], MARKS, "", "the states that differ between A and the cursor"),
    bind(Action::Export, &[c('e')], MARKS, "", "write what is shown to a file: `.amrec`, `.jsonl.gz` or `.txt`"),
    bind(Action::Copy, &[c('y')], MARKS, "", "copy the address of this moment"),
    bind(Action::Waiters, &[c('w')], MARKS, "", "ask the node who waits on the machine now"),
    bind(Action::Open, &[k(KeyCode::Enter)], Scope::In(Pane::Machines), "select", "look at this machine at the same time"),
    bind(Action::HideGone, &[c('c')], Scope::In(Pane::Machines), "hide gone", "hide machines that tell no more, or show them"),
    bind(Action::Open, &[k(KeyCode::Enter)], Scope::In(Pane::Schema), "open", "select the state and show its relations; on a relation, go to the other state"),
    bind(Action::ActiveFirst, &[c('a')], Scope::In(Pane::Schema), "active first", "active states first, or groups in their order"),
    bind(Action::FoldAll, &[c('*')], Scope::In(Pane::Schema), "fold", "unfold all groups, or fold all"),
    bind(Action::ZoomIn, &[c('+'), c('=')], Scope::In(Pane::Timeline), "nearer", "a shorter time around the cursor"),
    bind(Action::ZoomOut, &[c('-')], Scope::In(Pane::Timeline), "farther", "a longer time"),
    bind(Action::ZoomAll, &[c('0')], Scope::In(Pane::Timeline), "all", "the whole time"),
    bind(Action::Open, &[k(KeyCode::Enter)], Scope::In(Pane::Transition), "follow", "go to the cause, the effect or the state of the row"),
    bind(Action::Open, &[k(KeyCode::Enter)], Scope::In(Pane::Log), "go there", "go to the time of the line"),
    bind(Action::MoreLog, &[c('+'), c('=')], Scope::In(Pane::Log), "more", "one more level of lines"),
    bind(Action::LessLog, &[c('-')], Scope::In(Pane::Log), "less", "one level of lines less"),
    bind(Action::NextGroup, &[c('r')], Scope::In(Pane::Rain), "group", "columns for the next group of states"),
    bind(Action::Open, &[k(KeyCode::Enter)], Scope::In(Pane::Lens), "go there", "go to the replica at this moment, or to a state that differs"),
    bind(Action::Try, &[c('t')], Scope::In(Pane::Why), "try", "try a mutation as a dry run: `add A,B`"),
    bind(Action::Smallest, &[c('s')], Scope::In(Pane::Why), "smallest", "search the smallest mutations that would change the state"),
    bind(Action::NextView, &[c('v')], Scope::In(Pane::Diagram), "view", "the next kind of diagram"),
    bind(Action::Write, &[c('o')], Scope::In(Pane::Diagram), "write SVG", "write the diagram as SVG, and say where"),
    bind(Action::Toggle, &[c(' ')], Scope::Lists, "change", "change the row's setting"),
    bind(Action::Delete, &[c('x'), k(KeyCode::Delete)], Scope::Lists, "delete", "delete the row's mark"),
];
