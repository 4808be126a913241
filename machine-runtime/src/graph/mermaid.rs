//! Mermaid.

use std::fmt::Write as _;

use super::outline::{self, Outline, Text, lines, shown};
use super::sequence::Sequence;
use super::{Graph, Node, look};
use crate::schema::Relation;

/// A name or a note as data. Whatever could mean something to Mermaid is a number of Unicode.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars().map(shown) {
        if letter.is_alphanumeric() || " _-.,…×/()+'→—".contains(letter) {
            escaped.push(letter);
        } else {
            let _ = write!(escaped, "#{};", u32::from(letter));
        }
    }
    // The word alone would end a block.
    if escaped.trim().eq_ignore_ascii_case("end") {
        escaped = escaped.replacen(['e', 'E'], "#101;", 1);
    }
    escaped
}

/// A quoted string of YAML, which is one of JSON.
fn title(text: &str) -> String {
    let mut quoted = String::from("---\ntitle: \"");
    for letter in text.chars().map(shown) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push_str("\"\n---");
    quoted
}

struct Flowchart;

impl Outline for Flowchart {
    fn node(&self, text: &mut Text, place: usize, node: &Node) {
        let label = lines(node, escape, "<br/>");
        let (open, close) = if node.states > 1 {
            ("[[", "]]")
        } else {
            ("([", "])")
        };
        text.line(format_args!("n{place}{open}\"{label}\"{close}"));
    }

    fn begin(&self, text: &mut Text, place: usize, label: &str) {
        text.line(format_args!("subgraph c{place}[\"{}\"]", escape(label)));
    }

    fn end(&self, text: &mut Text) {
        text.line("end");
    }
}

pub(super) fn graph(graph: &Graph) -> String {
    let mut text = Text::default();
    text.line(title(&graph.title));
    text.line("flowchart LR");
    text.indented(|text| {
        outline::write(graph, &Flowchart, text);
        for edge in &graph.edges {
            let (from, to, label) = (edge.from, edge.to, edge.label());
            let arrow = match (edge.relation, edge.mutual) {
                (Relation::Require, _) => "-->",
                (Relation::Add, _) => "==>",
                (Relation::Remove, false) => "--x",
                (Relation::Remove, true) => "x--x",
                (Relation::After, _) => "-.->",
            };
            text.line(format_args!("n{from} {arrow}|{label}| n{to}"));
        }
        for relation in Relation::ALL {
            let edges = graph.edges.iter().enumerate();
            let edges = edges.filter(|(_, edge)| edge.relation == relation);
            let places: Vec<String> = edges.clone().map(|(place, _)| place.to_string()).collect();
            if let Some((_, edge)) = edges.clone().next() {
                let colour = edge.colour();
                text.line(format_args!(
                    "linkStyle {} stroke:{colour},color:{colour}",
                    places.join(",")
                ));
            }
        }
        let mut looks: Vec<(String, Vec<String>)> = Vec::new();
        for (place, node) in graph.nodes.iter().enumerate() {
            let (fill, border, width) = look(node);
            let dashes = if node.neighbour {
                ",stroke-dasharray:4 3"
            } else {
                ""
            };
            let look =
                format!("fill:{fill},stroke:{border},stroke-width:{width}px,color:#212529{dashes}");
            let name = format!("n{place}");
            match looks.iter_mut().find(|(known, _)| *known == look) {
                Some((_, nodes)) => nodes.push(name),
                None => looks.push((look, vec![name])),
            }
        }
        for (place, (look, nodes)) in looks.iter().enumerate() {
            text.line(format_args!("classDef s{place} {look}"));
            text.line(format_args!("class {} s{place}", nodes.join(",")));
        }
    });
    text.finish()
}

pub(super) fn sequence(sequence: &Sequence) -> String {
    let mut text = Text::default();
    text.line(title(&sequence.title));
    text.line("sequenceDiagram");
    text.indented(|text| {
        let participant = |place, name: &str| format!("participant p{place} as {}", escape(name));
        sequence.write(text, participant, |said| {
            let (from, arrow, to) = (said.from, said.kind.mermaid(), said.to);
            format!("p{from}{arrow}p{to}: {}", escape(&said.text))
        });
    });
    text.finish()
}
