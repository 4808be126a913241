//! The language of Graphviz.

use super::outline::{self, Outline, Text, lines, shown};
use super::sequence::{Kind, Message, Sequence};
use super::{Graph, Node, look};
use crate::schema::Relation;

/// A text within a quoted string.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars().map(shown) {
        match letter {
            '"' | '\\' => escaped.extend(['\\', letter]),
            // Graphviz knows the entities of HTML everywhere.
            '&' => escaped.push_str("&amp;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

struct Digraph;

impl Outline for Digraph {
    fn node(&self, text: &mut Text, place: usize, node: &Node) {
        let label = lines(node, escape, "\\n");
        let (fill, border, width) = look(node);
        let dashed = if node.neighbour { ",dashed" } else { "" };
        let several = if node.states > 1 {
            " peripheries=2"
        } else {
            ""
        };
        text.line(format_args!(
            "n{place} [label=\"{label}\" fillcolor=\"{fill}\" color=\"{border}\" penwidth={width} \
             style=\"filled,rounded{dashed}\"{several}];"
        ));
    }

    fn begin(&self, text: &mut Text, place: usize, label: &str) {
        text.line(format_args!("subgraph cluster_{place} {{"));
        text.indented(|text| text.line(format_args!("label=\"{}\";", escape(label))));
    }

    fn end(&self, text: &mut Text) {
        text.line("}");
    }
}

pub(super) fn graph(graph: &Graph) -> String {
    let mut text = Text::default();
    text.line("digraph {");
    text.indented(|text| {
        text.line(format_args!(
            "graph [label=\"{}\" labelloc=t rankdir=LR fontname=\"sans-serif\" color=\"#adb5bd\"];",
            escape(&graph.title)
        ));
        text.line("node [shape=box fontname=\"sans-serif\" fontcolor=\"#212529\"];");
        text.line("edge [fontname=\"sans-serif\" fontsize=10];");
        outline::write(graph, &Digraph, text);
        for edge in &graph.edges {
            let (from, to, label, colour) = (edge.from, edge.to, edge.label(), edge.colour());
            let style = match (edge.relation, edge.mutual) {
                (Relation::Require, _) => "",
                (Relation::Add, _) => " style=bold",
                (Relation::Remove, false) => " style=dashed arrowhead=tee",
                (Relation::Remove, true) => " style=dashed arrowhead=tee arrowtail=tee dir=both",
                (Relation::After, _) => " style=dotted",
            };
            text.line(format_args!(
                "n{from} -> n{to} [label=\"{label}\" color=\"{colour}\" fontcolor=\"{colour}\"{style}];"
            ));
        }
    });
    text.line("}");
    text.finish()
}

/// Graphviz has no sequences: the messages are drawn one below the other, each between its two.
pub(super) fn sequence(sequence: &Sequence) -> String {
    let participants = sequence.participants();
    let mut text = Text::default();
    text.line("digraph {");
    text.indented(|text| {
        text.line(format_args!(
            "graph [label=\"{}\" labelloc=t fontname=\"sans-serif\"];",
            escape(&sequence.title)
        ));
        text.line("node [shape=box style=rounded fontname=\"sans-serif\"];");
        let messages = sequence.messages();
        for (place, message) in messages.iter().enumerate() {
            let Message {
                from,
                to,
                text: what,
                kind,
            } = message;
            let colour = match kind {
                Kind::Refusal => "#c92a2a",
                Kind::Call | Kind::Answer => "#495057",
            };
            text.line(format_args!(
                "m{place} [label=\"{}. {} → {}\\n{}\" color=\"{colour}\"];",
                place + 1,
                escape(&participants[*from]),
                escape(&participants[*to]),
                escape(what)
            ));
        }
        for place in 1..messages.len() {
            text.line(format_args!("m{} -> m{place};", place - 1));
        }
    });
    text.line("}");
    text.finish()
}
