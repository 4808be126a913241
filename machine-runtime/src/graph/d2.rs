//! The language of D2.

use std::iter;

use super::outline::{self, Outline, Text, lines, shown};
use super::sequence::{Kind, Sequence};
use super::{Graph, Node, look};
use crate::schema::Relation;

/// A text within a string in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars().map(shown) {
        // A dollar sign would begin a substitution.
        if matches!(letter, '"' | '\\' | '$') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

struct Containers;

impl Outline for Containers {
    fn node(&self, text: &mut Text, place: usize, node: &Node) {
        let label = lines(node, escape, "\\n");
        let (fill, border, width) = look(node);
        let dashes = if node.neighbour {
            "; style.stroke-dash: 3"
        } else {
            ""
        };
        let several = if node.states > 1 {
            "; style.multiple: true"
        } else {
            ""
        };
        text.line(format_args!(
            "n{place}: \"{label}\" {{style.fill: \"{fill}\"; style.stroke: \"{border}\"; \
             style.stroke-width: {width}; style.font-color: \"#212529\"; style.border-radius: 8\
             {dashes}{several}}}"
        ));
    }

    fn begin(&self, text: &mut Text, place: usize, label: &str) {
        text.line(format_args!("c{place}: \"{}\" {{", escape(label)));
    }

    fn end(&self, text: &mut Text) {
        text.line("}");
    }
}

/// Where a node is, from the outermost frame.
fn path(graph: &Graph, node: usize) -> String {
    let parents = iter::successors(graph.nodes[node].cluster, |place| {
        graph.clusters[*place].parent
    });
    let mut parts: Vec<String> = parents.map(|place| format!("c{place}")).collect();
    parts.reverse();
    parts.push(format!("n{node}"));
    parts.join(".")
}

pub(super) fn graph(graph: &Graph) -> String {
    let mut text = Text::default();
    text.line("direction: right");
    text.line(format_args!(
        "title: \"{}\" {{shape: text; near: top-center; style.font-size: 20}}",
        escape(&graph.title)
    ));
    outline::write(graph, &Containers, &mut text);
    for edge in &graph.edges {
        let (from, to) = (path(graph, edge.from), path(graph, edge.to));
        let (label, colour) = (edge.label(), edge.colour());
        let arrow = if edge.mutual { "<->" } else { "->" };
        let style = match edge.relation {
            Relation::Require => "",
            Relation::Add => "; style.stroke-width: 4",
            Relation::Remove => "; style.stroke-dash: 5; target-arrowhead.shape: cross",
            Relation::After => "; style.stroke-dash: 2",
        };
        let back = if edge.mutual {
            "; source-arrowhead.shape: cross"
        } else {
            ""
        };
        text.line(format_args!(
            "{from} {arrow} {to}: \"{label}\" {{style.stroke: \"{colour}\"; style.font-color: \
             \"{colour}\"{style}{back}}}"
        ));
    }
    text.finish()
}

pub(super) fn sequence(sequence: &Sequence) -> String {
    let mut text = Text::default();
    text.line(format_args!("sequence: \"{}\" {{", escape(&sequence.title)));
    text.indented(|text| {
        text.line("shape: sequence_diagram");
        let participant = |place, name: &str| format!("p{place}: \"{}\"", escape(name));
        sequence.write(text, participant, |said| {
            let style = match said.kind {
                Kind::Call => "",
                Kind::Answer => " {style.stroke-dash: 3}",
                Kind::Refusal => " {style.stroke: \"#c92a2a\"}",
            };
            let (from, to, what) = (said.from, said.to, escape(&said.text));
            format!("p{from} -> p{to}: \"{what}\"{style}")
        });
    });
    text.line("}");
    text.finish()
}
