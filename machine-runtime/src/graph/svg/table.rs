//! Frames as tables.

use layout::core::geometry::Point;

use super::paper::{LETTER, ROW, width};
use crate::graph::{Graph, Node};

/// How wide a box is at most; what is longer is cut off.
pub(super) const WIDEST: f64 = 480.0;

/// A table, or a box of one row.
pub(super) struct Table {
    pub(super) title: Option<String>,
    pub(super) nodes: Vec<usize>,
}

impl Table {
    pub(super) fn rows(&self) -> usize {
        self.nodes.len() + usize::from(self.title.is_some())
    }

    pub(super) fn size(&self, graph: &Graph) -> Point {
        let rows = self.nodes.iter().map(|node| row_text(&graph.nodes[*node]));
        let widths = rows.map(|(label, notes)| width(&label) + width(&notes) + LETTER);
        let title = self.title.as_deref().map_or(0.0, width);
        let widest = widths.fold(title, f64::max) + 24.0;
        let rows = u32::try_from(self.rows()).unwrap_or(u32::MAX);
        Point::new(widest.min(WIDEST), f64::from(rows) * ROW)
    }
}

/// The label of a row, and the notes behind it.
pub(super) fn row_text(node: &Node) -> (String, String) {
    (node.label.clone(), node.notes.join(", "))
}

/// What goes into which table.
pub(super) fn tables(graph: &Graph) -> Vec<Table> {
    let mut related = vec![false; graph.nodes.len()];
    for edge in &graph.edges {
        related[edge.from] = true;
        related[edge.to] = true;
    }
    let mut tables = Vec::new();
    let alone = |node: &usize| graph.nodes[*node].cluster.is_none() && !related[*node];
    let unrelated: Vec<usize> = (0..graph.nodes.len()).filter(alone).collect();
    for (node, _) in graph.nodes.iter().enumerate() {
        if graph.nodes[node].cluster.is_none() && related[node] {
            tables.push(Table {
                title: None,
                nodes: vec![node],
            });
        }
    }
    for place in 0..graph.clusters.len() {
        let nodes = graph.nodes.iter().enumerate();
        let nodes: Vec<usize> = nodes
            .filter(|(_, node)| node.cluster == Some(place))
            .map(|(node, _)| node)
            .collect();
        if !nodes.is_empty() {
            let title = Some(path(graph, place));
            tables.push(Table { title, nodes });
        }
    }
    if !unrelated.is_empty() {
        tables.push(Table {
            title: Some("no relations here".to_owned()),
            nodes: unrelated,
        });
    }
    tables
}

/// What a frame says, behind what those around it say.
pub(super) fn path(graph: &Graph, place: usize) -> String {
    let cluster = &graph.clusters[place];
    match cluster.parent {
        Some(parent) => format!("{} · {}", path(graph, parent), cluster.label),
        None => cluster.label.clone(),
    }
}
