//! The machines: a tree of processes, roots and replicas, each where it was at the time of the cursor.

use ratatui::text::{Line, Span};

use super::super::super::store::{Connection, History, MachineId, Process, Store};
use super::super::action::Pane;
use super::super::layout::inner;
use super::super::list::{Row, Target};
use super::super::marks::Trouble;
use super::super::theme::Tone;
use super::super::words;
use super::super::{App, Source};
use super::{apart, shorten};
use crate::debug::frame::Role;

/// Whether two streams are of one program on one computer: recordings have a stream for each node.
fn is_same(a: &Process, b: &Process) -> bool {
    (a.hello().pid, &a.hello().host) == (b.hello().pid, &b.hello().host)
}

impl App {
    /// All machines that are listed, each behind its parent, and how deep below one without.
    fn machine_tree(&self, store: &Store) -> Vec<(MachineId, usize)> {
        let mut order = store.forest();
        let needle = self.machine_search.to_lowercase();
        order.retain(|(id, _)| {
            let history = store.machine(*id);
            let gone = *store.connection(*id) != Connection::Connected;
            let found = history.name().to_lowercase().contains(&needle);
            found && !(gone && self.hide_gone)
        });
        order
    }

    /// The machines from top to bottom.
    pub(in super::super) fn machine_order(&self, store: &Store) -> Vec<MachineId> {
        let tree = self.machine_tree(store).into_iter();
        tree.map(|(id, _)| id).collect()
    }

    pub(in super::super) fn machine_rows(&self, store: &Store) -> Vec<Row> {
        let area = self.area_of(Pane::Machines);
        let width = area.map_or(24, |area| usize::from(inner(area).width));
        let tree = self.machine_tree(store);
        let symbols = self.theme.symbols();
        let mut rows = Vec::new();
        let mut above: Option<&Process> = None;
        // Whether more follows at each depth: then its line goes on.
        let mut goes_on: Vec<bool> = Vec::new();
        for (n, (id, depth)) in tree.iter().enumerate() {
            let history = store.machine(*id);
            let process = store.process(history.process());
            if *depth == 0 && above.is_none_or(|above| !is_same(above, process)) {
                rows.push(self.process_row(process, width));
                above = Some(process);
            }
            let next = tree[n + 1..].iter().find(|(_, other)| other <= depth);
            goes_on.resize(depth + 1, false);
            goes_on[*depth] = next.is_some_and(|(_, other)| other == depth);
            let mut indent = String::new();
            for on in goes_on.iter().take(*depth).skip(1) {
                indent.push_str(if *on { symbols.trunk } else { "  " });
            }
            if *depth > 0 {
                indent.push_str(if goes_on[*depth] {
                    symbols.branch
                } else {
                    symbols.last_branch
                });
            }
            let far = above.is_none_or(|above| !is_same(above, process));
            let far = far.then(|| process.hello().pid);
            rows.push(self.machine_row(store, history, indent, far, width));
        }
        rows
    }

    fn process_row(&self, process: &Process, width: usize) -> Row {
        let hello = process.hello();
        let ellipsis = self.theme.symbols().ellipsis;
        let text = format!("{} {}@{}", hello.program, hello.pid, hello.host);
        if process.lost() == 0 {
            return Row::new(self.span(Tone::Dim, shorten(&text, width, ellipsis)));
        }
        let lost = format!(" {} dropped", words::count(process.lost()));
        let text = shorten(&text, width.saturating_sub(lost.len()), ellipsis);
        let spans = vec![self.span(Tone::Dim, text), self.span(Tone::Error, lost)];
        Row::new(Line::from(spans))
    }

    fn machine_row(
        &self,
        store: &Store,
        history: &History,
        indent: String,
        far: Option<u32>,
        width: usize,
    ) -> Row {
        let symbols = self.theme.symbols();
        let id = history.id();
        let is_selected = self.machine == Some(id);
        let at = self.index_at(history);
        let trouble = at
            .and_then(|at| Some(self.marks.get(&id)?.trouble(at)))
            .unwrap_or(Trouble::None);
        let (sign, tone) = match trouble {
            Trouble::Now => (symbols.error, Tone::Error),
            Trouble::Recent => (symbols.past, Tone::Past),
            Trouble::None => (" ", Tone::Plain),
        };
        let mut right = Vec::new();
        match at {
            None => right.push(self.span(Tone::Dim, "-")),
            Some(at) => {
                let position = history.position(at);
                right.push(Span::raw(words::count(position.revision)));
                let behind = self.behind(store, history, at);
                if let Some(behind) = behind.filter(|behind| *behind > 0) {
                    right.push(self.span(Tone::Refused, format!(" -{}", words::count(behind))));
                }
            }
        }
        let more = match (at, history.last()) {
            (None, Some(_)) => true,
            (Some(at), Some(last)) => at < last,
            _ => false,
        };
        right.push(self.span(Tone::Dim, if more { symbols.more } else { " " }));
        let mut name = history.name().to_owned();
        if let Some(pid) = far {
            name = format!("{name} ({pid})");
        }
        let taken: usize = right.iter().map(Span::width).sum();
        let room = width.saturating_sub(taken + 3 + indent.chars().count());
        let name = shorten(&name, room, symbols.ellipsis);
        // All of a recording has ended: that says nothing of the moment.
        let is_gone = matches!(self.source, Source::Listening(_))
            && *store.connection(id) != Connection::Connected;
        let name = if is_gone {
            self.span(Tone::Gone, name)
        } else if is_selected {
            self.span(Tone::Selected, name)
        } else {
            self.span(tone, name)
        };
        let here = if is_selected { symbols.here } else { " " };
        let left = vec![
            self.span(Tone::Accent, here),
            self.span(tone, sign),
            self.span(Tone::Dim, indent),
            name,
        ];
        Row::to(apart(left, right, width), Target::Machine(id))
    }

    /// The entry of a machine at the time of the cursor.
    pub(in super::super) fn index_at(&self, history: &History) -> Option<usize> {
        if self.machine == Some(history.id()) {
            self.cursor
        } else {
            history.last_at(self.wall)
        }
    }

    /// How many revisions a replica is behind its root, both at the time of the cursor.
    pub(in super::super) fn behind(
        &self,
        store: &Store,
        history: &History,
        at: usize,
    ) -> Option<u64> {
        if history.role() == Role::Root {
            return None;
        }
        let position = history.position(at);
        let root = store.machine(store.root_of(position.epoch)?);
        let roots = root.position(self.index_at(root)?);
        let same = roots.epoch == position.epoch;
        same.then(|| roots.revision.saturating_sub(position.revision))
    }

    /// The machine that is looked at, in a line.
    pub(in super::super) fn machine_in_words(&self, store: &Store) -> Line<'static> {
        let Some(machine) = self.machine else {
            return Line::default();
        };
        let history = store.machine(machine);
        let mut spans = vec![self.span(Tone::Head, history.name().to_owned())];
        let role = match history.role() {
            Role::Root => ": root",
            Role::Replicant => ": replica",
        };
        spans.push(Span::raw(role));
        if let Some(addr) = history.addr() {
            spans.push(Span::raw(format!(" at {addr}")));
        }
        match store.connection(machine) {
            Connection::Connected => {}
            Connection::Gone => spans.push(self.span(Tone::Refused, ", ended")),
            Connection::Lost(why) => {
                spans.push(self.span(Tone::Error, format!(", disconnected: {why}")));
            }
        }
        if history.dropped() > 0 {
            let text = format!(", {} dropped", words::count(history.dropped()));
            spans.push(self.span(Tone::Refused, text));
        }
        if let (Some(state), Some(moment)) = (self.state, &self.moment) {
            let name = words::name(history.schema(), state).to_owned();
            let tick = moment.ticks.get(state as usize).copied().unwrap_or(0);
            spans.push(Span::raw("  "));
            spans.push(self.activity(state));
            spans.push(Span::raw(" "));
            spans.push(self.span(Tone::Selected, name));
            spans.push(Span::raw(format!(" #{state}, tick {}", words::count(tick))));
        }
        if self.moment.as_ref().is_some_and(|moment| !moment.is_sure) {
            let text = "  ticks may be too low: something was lost before this";
            spans.push(self.span(Tone::Refused, text));
        }
        Line::from(spans)
    }
}
