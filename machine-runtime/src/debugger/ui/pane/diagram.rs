//! The schema around the selected state, as a tree or as the source of a drawing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ratatui::text::{Line, Span};

use super::super::super::store::{MachineId, Store};
use super::super::job::Job;
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::{App, words};
use crate::graph::{Format, Graph, Options, Sequence};
use crate::schema::{Relation, Schema};

/// How a diagram is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in super::super) enum View {
    /// Relations of the selected state, two links far.
    #[default]
    Tree,
    /// The schema as Mermaid: around the selected state, or all of it.
    Schema,
    /// The transition as Mermaid: who asked whom, in order.
    Sequence,
}

impl View {
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Schema => "schema (Mermaid)",
            Self::Sequence => "transition (Mermaid)",
        }
    }

    pub(in super::super) fn next(self) -> Self {
        match self {
            Self::Tree => Self::Schema,
            Self::Schema => Self::Sequence,
            Self::Sequence => Self::Tree,
        }
    }
}

/// What can be drawn.
#[derive(Clone, PartialEq, Debug)]
pub enum Drawing {
    /// States and relations.
    Schema(Graph),
    /// What happened in a transition.
    Transition(Sequence),
}

impl Drawing {
    /// It in the given format.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub(in super::super) fn to(&self, format: Format) -> Result<String, String> {
        let drawn = match self {
            Self::Schema(graph) => graph.to(format),
            Self::Transition(sequence) => sequence.to(format),
        };
        drawn.map_err(|why| why.to_string())
    }
}

/// The text of a diagram, and of what it is.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in super::super) struct Text {
    of: Option<(View, MachineId, Option<usize>, Option<u32>)>,
    lines: Vec<String>,
}

impl App {
    /// What the view shows, as it is drawn.
    fn drawing(&self, store: &Store) -> Result<Drawing, String> {
        let nothing = || self.nothing(store);
        let history = store.machine(self.machine.ok_or_else(nothing)?);
        let schema = history.schema();
        if self.view == View::Sequence {
            let entry = self.entry.as_ref().ok_or_else(nothing)?;
            let sequence = super::super::super::words::sequence(store, history.id(), entry.index);
            let sequence = sequence.ok_or("what is under the cursor is no transition")?;
            return Ok(Drawing::Transition(sequence));
        }
        let mut options = Options {
            ticks: self.moment.as_ref().map(|moment| moment.ticks.clone()),
            ..Options::default()
        };
        if let Some(state) = self.state {
            options.highlighted.push(state);
            let around = options.selection.around(schema, words::name(schema, state));
            options.selection = around.map_err(|error| error.to_string())?;
        }
        let graph = Graph::new(schema, &options);
        graph
            .map(Drawing::Schema)
            .map_err(|error| error.to_string())
    }

    /// Has the diagram written as SVG.
    pub(in super::super) fn write_diagram(&mut self, store: &Store) {
        match self.drawing(store) {
            Ok(drawing) => {
                let path = PathBuf::from(self.file_name(store, "svg"));
                let drawing = Box::new(drawing);
                self.run("drawing", Job::Draw { drawing, path });
            }
            Err(why) => self.trouble(why),
        }
    }

    /// Makes the text of the diagram, unless it is there.
    pub(in super::super) fn make_diagram(&mut self, store: &Store) {
        let Some(machine) = self.machine.filter(|_| self.view != View::Tree) else {
            return;
        };
        let of = Some((self.view, machine, self.cursor, self.state));
        if self.diagram.of == of {
            return;
        }
        let text = self
            .drawing(store)
            .and_then(|drawing| drawing.to(Format::Mermaid))
            .unwrap_or_else(|why| why);
        let lines = text.lines().map(str::to_owned).collect();
        self.diagram = Text { of, lines };
    }

    pub(in super::super) fn diagram_rows(&self, store: &Store, width: usize) -> Vec<Row> {
        let Some(machine) = self.machine else {
            return Vec::new();
        };
        if self.view != View::Tree {
            let lines = self.diagram.lines.iter();
            return lines.map(|line| Row::new(line.clone())).collect();
        }
        let Some(state) = self.state else {
            let text = "select a state to see what it is related to: Enter on it in the schema";
            return self.wrapped(Tone::Dim, text, width);
        };
        let schema = store.machine(machine).schema();
        let mut rows = vec![self.state_row(schema, "", state)];
        let mut seen = BTreeSet::from([state]);
        self.branch(schema, state, "", 2, &mut seen, &mut rows);
        rows
    }

    fn branch(
        &self,
        schema: &Schema,
        state: u32,
        indent: &str,
        depth: usize,
        seen: &mut BTreeSet<u32>,
        rows: &mut Vec<Row>,
    ) {
        if depth == 0 || rows.len() > 500 {
            return;
        }
        let symbols = self.theme.symbols();
        let relations = Relation::ALL.into_iter().flat_map(|relation| {
            let related = schema.related(relation, state as usize).iter();
            related.map(move |other| (relation, *other))
        });
        let related: Vec<(Relation, u32)> = relations.collect();
        for (n, (relation, other)) in related.iter().enumerate() {
            let is_last = n + 1 == related.len();
            let sign = if is_last {
                symbols.last_branch
            } else {
                symbols.branch
            };
            let line = Line::from(vec![
                self.span(
                    Tone::Dim,
                    format!("{indent}{sign} {} ", relation.name().to_lowercase()),
                ),
                self.activity(*other),
                Span::raw(" "),
                Span::styled(
                    words::name(schema, *other).to_owned(),
                    self.state_name(schema, *other).style,
                ),
            ]);
            rows.push(Row::to(line, Target::State(*other)));
            if seen.insert(*other) {
                let deeper = if is_last { "   " } else { symbols.trunk };
                let indent = format!("{indent}{deeper} ");
                self.branch(schema, *other, &indent, depth - 1, seen, rows);
            }
        }
    }
}
