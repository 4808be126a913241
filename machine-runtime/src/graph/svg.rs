//! Pictures. A library says where boxes and lines go; what they look like is ours.
//!
//! A frame is a table with a row for each of its nodes: states that exclude each other are read as
//! alternatives, and a large schema stays small.

use std::panic::{AssertUnwindSafe, catch_unwind};

use layout::core::base::Orientation;
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, RecordDef, ShapeKind};
use layout::topo::layout::VisualGraph;

mod canvas;
mod paper;
mod plan;
mod sequence;
mod table;

use self::canvas::{Canvas, MARK};
pub(super) use self::sequence::sequence;
use super::{Graph, MAX_LINES, MAX_PICTURE, NoPicture};

/// The size of labels of lines.
const SMALL: usize = 11;

pub(super) fn graph(graph: &Graph) -> Result<String, NoPicture> {
    let (nodes, edges) = (graph.nodes.len(), graph.edges.len());
    if nodes > MAX_PICTURE || edges > MAX_LINES {
        return Err(NoPicture::TooLarge { nodes, edges });
    }
    // The library asserts what it believes, more of it where it is to do its best.
    let draw = |thorough| catch_unwind(AssertUnwindSafe(|| draw(graph, thorough)));
    let drawn = draw(true).or_else(|_panic| draw(false));
    drawn.map_err(|_panic| NoPicture::Failed)
}

/// Lays out and draws; `thorough` as well as it goes.
fn draw(graph: &Graph, thorough: bool) -> String {
    let mut plan = VisualGraph::new(Orientation::LeftToRight);
    let mut home = vec![0; graph.nodes.len()];
    let mut handles = Vec::new();
    let tables = table::tables(graph);
    let mut style = StyleAttr::simple();
    style.font_size = SMALL;
    for (place, table) in tables.iter().enumerate() {
        let title = table.title.as_ref();
        let title = title.map(|_| RecordDef::new_text(&format!("{MARK}t{place}")));
        let rows = table.nodes.iter().map(|node| {
            RecordDef::new_text_with_port(&format!("{MARK}n{node}"), &node.to_string())
        });
        let rows = RecordDef::Array(title.into_iter().chain(rows).collect());
        // The outer one lies along the drawing, the inner one across.
        let shape = ShapeKind::Record(RecordDef::Array(vec![rows]));
        let size = table.size(graph);
        let element = Element::create(shape, style.clone(), Orientation::LeftToRight, size);
        let handle = plan.add_node(element);
        handles.push(handle);
        for node in &table.nodes {
            home[*node] = place;
        }
    }
    // The library would check again and again what we know.
    plan.dag.set_validate(false);
    let (across, lines): (Vec<usize>, Vec<(usize, usize)>) = graph
        .edges
        .iter()
        .enumerate()
        .filter(|(_, edge)| home[edge.from] != home[edge.to])
        .map(|(place, edge)| (place, (home[edge.from], home[edge.to])))
        .unzip();
    let mut is_routed = vec![false; graph.edges.len()];
    for routed in plan::plan(tables.len(), &lines) {
        let place = across[routed.line];
        let edge = &graph.edges[place];
        is_routed[place] = true;
        let arrow = Arrow::with_properties(
            LineEndKind::None,
            LineEndKind::None,
            LineStyleKind::Normal,
            &format!("{MARK}e{place} {}", edge.label()),
            &style,
            format!("{} {place}", u8::from(routed.turned)),
            &None,
            &None,
        );
        plan.add_edge(arrow, handles[routed.from], handles[routed.to]);
    }
    let mut canvas = Canvas::new(graph, &tables);
    plan.do_it(false, !thorough, false, &mut canvas);
    for (edge, is_routed) in graph.edges.iter().zip(is_routed) {
        if home[edge.from] == home[edge.to] {
            canvas.arc(edge);
        } else if !is_routed {
            canvas.direct(edge);
        }
    }
    canvas.finish()
}
