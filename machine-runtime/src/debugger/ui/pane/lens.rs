//! The lens: every replica at the root's moment.

use ratatui::text::{Line, Span};

use super::super::super::store::{At, LensNode, Store};
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::{App, words};
use super::{apart, shorten};
use crate::debug::frame::{LinkChange, Role};

/// How many differing states of a node are listed.
const MOST: usize = 20;

impl App {
    pub(in super::super) fn lens_rows(&self, store: &Store, width: usize) -> Vec<Row> {
        let (Some(machine), Some(cursor)) = (self.machine, self.cursor) else {
            return vec![self.dim(self.nothing(store))];
        };
        let history = store.machine(machine);
        let position = history.position(cursor);
        let (root, at) = if history.role() == Role::Root {
            (machine, At::Index(cursor))
        } else if let Some(root) = store.root_of(position.epoch) {
            (root, At::Position(position))
        } else {
            let text = "the root of this replica has told nothing, so there is nothing to compare";
            return self.wrapped(Tone::Refused, text, width);
        };
        let Some(lens) = store.lens(root, at) else {
            let text = "what the root did then is not held";
            return self.wrapped(Tone::Refused, text, width);
        };
        let symbols = self.theme.symbols();
        let name = store.machine(root).name();
        let mut rows = vec![Row::to(
            Line::from(vec![
                self.span(
                    Tone::Head,
                    format!(
                        "{name} at revision {}",
                        words::count(lens.position.revision)
                    ),
                ),
                self.span(Tone::Dim, format!(", {}", words::clock(lens.wall))),
            ]),
            Target::Entry(root, lens.index),
        )];
        if lens.nodes.is_empty() {
            rows.push(self.dim("no replica of it has told anything"));
            return rows;
        }
        let reached = lens.nodes.iter().filter(|node| node.has_reached).count();
        let slowest = lens.nodes.iter().filter_map(|node| node.lag).max();
        let mut summary = format!("{reached} of {} reached it", lens.nodes.len());
        if let Some(slowest) = slowest {
            summary = format!("{summary}, the last {}", words::apart(slowest));
        }
        rows.push(Row::new(summary));
        let schema = store.machine(root).schema();
        for node in &lens.nodes {
            rows.push(self.lens_row(store, node, width));
            let differences = node.differences.iter().flatten();
            for difference in differences.clone().take(MOST) {
                let line = Line::from(vec![
                    Span::raw("      "),
                    self.state_name(schema, difference.state),
                    self.span(
                        Tone::Error,
                        format!(" tick {}, at the root {}", difference.node, difference.root),
                    ),
                ]);
                rows.push(Row::to(line, Target::State(difference.state)));
            }
            let more = differences.count().saturating_sub(MOST);
            if more > 0 {
                rows.push(self.dim(format!("      and {more} more")));
            }
        }
        let legend = format!(
            "{} same ticks as the root had, {} late, {} other ticks",
            symbols.active, symbols.touched, symbols.error
        );
        rows.extend(self.wrapped(Tone::Dim, &legend, width));
        rows
    }

    /// What the links of the machine went through, the last of it up to the cursor.
    pub(in super::super) fn link_rows(&self, store: &Store, width: usize) -> Vec<Row> {
        let Some(machine) = self.machine else {
            return Vec::new();
        };
        let history = store.machine(machine);
        let before = history.links().rev().filter(|told| told.wall <= self.wall);
        let mut rows = Vec::new();
        for told in before.take(MOST) {
            if rows.is_empty() {
                rows.push(self.heading(format!("Links of {}, the newest first", history.name())));
            }
            let (what, tone) = match &told.link.change {
                LinkChange::Connected => ("connected".to_owned(), Tone::Active),
                LinkChange::Lost(why) => (format!("lost: {why}"), Tone::Error),
                LinkChange::Refused(why) => (format!("refused: {why}"), Tone::Refused),
                LinkChange::Resynced(why) => (format!("took a snapshot: {why}"), Tone::Changed),
            };
            let to = if told.link.up { "parent" } else { "follower" };
            let peer = &told.link.peer;
            let text = format!("  {} {to} {peer} {what}", words::clock(told.wall));
            let wrapped = self.wrapped(tone, &text, width).into_iter();
            rows.extend(wrapped.map(|row| Row {
                target: Some(Target::Wall(told.wall)),
                ..row
            }));
        }
        rows
    }

    fn lens_row(&self, store: &Store, node: &LensNode, width: usize) -> Row {
        let symbols = self.theme.symbols();
        let history = store.machine(node.machine);
        let wrong = node.differences.as_ref().map(Vec::len);
        let (sign, tone, what) = match (wrong, node.has_reached) {
            (Some(1..), _) => (symbols.error, Tone::Error, "differs".to_owned()),
            (_, false) => (symbols.touched, Tone::Refused, "not there".to_owned()),
            (Some(0), true) => (symbols.active, Tone::Active, "same".to_owned()),
            (None, true) => ("?", Tone::Refused, "not sure".to_owned()),
        };
        let mut right = Vec::new();
        if let Some(behind) = node.behind.filter(|behind| *behind > 0) {
            let behind = words::count(behind);
            let text = if width >= 66 {
                format!("{behind} behind then  ")
            } else {
                format!("-{behind}  ")
            };
            right.push(self.span(Tone::Refused, text));
        }
        let lag = node.lag.map_or_else(|| "-".to_owned(), words::apart);
        right.push(Span::raw(format!("{lag:>9}  ")));
        let revision = node.position.map_or_else(
            || "-".to_owned(),
            |position| words::count(position.revision),
        );
        right.push(self.span(Tone::Dim, revision));
        let taken: usize = right.iter().map(Span::width).sum();
        let name = format!(
            "{}{}",
            "  ".repeat(node.depth.saturating_sub(1)),
            history.name()
        );
        let room = width.saturating_sub(taken + what.len() + 6);
        let left = vec![
            self.span(tone, format!("{sign} ")),
            Span::raw(shorten(&name, room, symbols.ellipsis)),
            self.span(tone, format!(" {what}")),
        ];
        let target = match node.index {
            Some(index) => Target::Entry(node.machine, index),
            None => Target::Machine(node.machine),
        };
        Row::to(apart(left, right, width), target)
    }
}
