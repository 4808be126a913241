//! The schema around the selected state, as a tree or as the source of a drawing.

use std::collections::BTreeSet;

use ratatui::text::{Line, Span};

use super::super::super::store::Store;
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::{App, words};
use crate::schema::{Relation, Schema};

/// How a diagram is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in super::super) enum View {
    /// Relations of the selected state, two links far.
    #[default]
    Tree,
}

impl View {
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
        }
    }

    pub(in super::super) fn next(self) -> Self {
        match self {
            Self::Tree => Self::Tree,
        }
    }
}

impl App {
    pub(in super::super) fn diagram_rows(&self, store: &Store, width: usize) -> Vec<Row> {
        let Some(machine) = self.machine else {
            return Vec::new();
        };
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
