//! What all texts have in common: names for nodes and frames, and the order in which they are written.

use std::fmt::Write as _;

use super::{Graph, Node};

/// Text of lines that are set in.
#[derive(Default)]
pub(super) struct Text {
    text: String,
    depth: usize,
}

impl Text {
    pub(super) fn line(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{:1$}{line}", "", self.depth * 2);
    }

    pub(super) fn indented(&mut self, write: impl FnOnce(&mut Self)) {
        self.depth += 1;
        write(self);
        self.depth -= 1;
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// How nodes and frames are written.
pub(super) trait Outline {
    fn node(&self, text: &mut Text, place: usize, node: &Node);
    fn begin(&self, text: &mut Text, place: usize, label: &str);
    fn end(&self, text: &mut Text);
}

/// Writes all nodes, each in its frame.
pub(super) fn write(graph: &Graph, outline: &impl Outline, text: &mut Text) {
    within(graph, None, outline, text);
}

fn within(graph: &Graph, frame: Option<usize>, outline: &impl Outline, text: &mut Text) {
    for (place, node) in graph.nodes.iter().enumerate() {
        if node.cluster == frame {
            outline.node(text, place, node);
        }
    }
    for (place, cluster) in graph.clusters.iter().enumerate() {
        if cluster.parent == frame {
            outline.begin(text, place, &cluster.label);
            text.indented(|text| within(graph, Some(place), outline, text));
            outline.end(text);
        }
    }
}

/// A letter as it may be shown: what steers a terminal or the direction of writing is none.
pub(super) fn shown(letter: char) -> char {
    let is_direction = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if letter.is_control() || is_direction || matches!(letter, '\u{fffe}' | '\u{ffff}') {
        '\u{fffd}'
    } else {
        letter
    }
}

/// A node's label and its notes, the lines of each as `escape` has them.
pub(super) fn lines(node: &Node, escape: fn(&str) -> String, between: &str) -> String {
    let mut text = escape(&node.label);
    for note in &node.notes {
        text.push_str(between);
        text.push_str(&escape(note));
    }
    text
}
