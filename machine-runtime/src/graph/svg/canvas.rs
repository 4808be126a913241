//! What the library draws, as we draw it.

use std::fmt::Write as _;

use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;

use super::paper::{LETTER, MARGIN, ROW, TOP, begin, cut, escape, width};
use super::table::{Table, row_text};
use crate::graph::{Edge, Graph, Node, look};
use crate::schema::Relation;

/// What marks the name of a row where the library hands it back: no label begins so.
pub(super) const MARK: char = '\u{1}';

/// Where a box is: its corner and its size.
#[derive(Clone, Copy)]
struct Place {
    corner: Point,
    size: Point,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            corner: Point::zero(),
            size: Point::zero(),
        }
    }
}

impl Place {
    fn middle(self) -> Point {
        self.corner.add(self.size.scale(0.5))
    }

    /// Where a line from or to `other` meets it: in the middle of a side, a little off it.
    fn side(self, other: Point) -> (Point, Point) {
        let (middle, half) = (self.middle(), self.size.x / 2.0);
        let direction = if other.x < middle.x { -1.0 } else { 1.0 };
        let meets = Point::new(middle.x + direction * half, middle.y);
        (meets, meets.add(Point::new(direction * 40.0, 0.0)))
    }
}

/// Takes what the library draws.
pub(super) struct Canvas<'a> {
    graph: &'a Graph,
    tables: &'a [Table],
    boxes: String,
    lines: String,
    labels: String,
    /// The box that was drawn last.
    last: Place,
    /// Where the nodes are.
    places: Vec<Place>,
    /// What is drawn farthest.
    end: Point,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(graph: &'a Graph, tables: &'a [Table]) -> Self {
        Self {
            graph,
            tables,
            boxes: String::new(),
            lines: String::new(),
            labels: String::new(),
            last: Place::default(),
            places: vec![Place::default(); graph.nodes.len()],
            end: Point::new(width(&graph.title), 0.0),
        }
    }

    fn reach(&mut self, point: Point) {
        self.end.x = self.end.x.max(point.x);
        self.end.y = self.end.y.max(point.y);
    }

    fn node(&mut self, node: &Node) {
        let Place { corner, size } = self.last;
        let (fill, border, thick) = look(node);
        let dashes = if node.neighbour {
            " stroke-dasharray=\"4 3\""
        } else {
            ""
        };
        let (label, notes) = row_text(node);
        let most = size.x - 20.0 - width(&notes) - LETTER;
        let label = cut(&label, most.max(8.0 * LETTER));
        let _ = writeln!(
            self.boxes,
            "<g><title>{}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"3\" \
             fill=\"{fill}\" stroke=\"{border}\" stroke-width=\"{thick}\"{dashes}/><text x=\"{:.1}\" \
             y=\"{:.1}\">{} <tspan class=\"note\">{}</tspan></text></g>",
            escape(&node.label),
            corner.x + 2.0,
            corner.y + 2.0,
            size.x - 4.0,
            size.y - 4.0,
            corner.x + 10.0,
            corner.y + size.y / 2.0 + 4.5,
            escape(&label),
            escape(&notes),
        );
    }

    fn title(&mut self, table: &Table) {
        let Place { corner, size } = self.last;
        let Some(title) = &table.title else { return };
        let rows = u32::try_from(table.rows()).unwrap_or(u32::MAX);
        let _ = writeln!(
            self.boxes,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"5\" fill=\"#e9ecef\" \
             stroke=\"#adb5bd\"/><text class=\"frame\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            corner.x,
            corner.y,
            size.x,
            f64::from(rows) * ROW,
            corner.x + 10.0,
            corner.y + size.y / 2.0 + 4.5,
            escape(&cut(title, size.x - 20.0)),
        );
    }

    /// A relation within a table.
    pub(super) fn arc(&mut self, edge: &Edge) {
        let [from, to] = [edge.from, edge.to].map(|node| self.places[node]);
        let x = from.corner.x + from.size.x;
        let [y, end] = [from, to].map(|place| place.middle().y);
        // One to itself leaves above where it arrives.
        let (y, end) = if edge.from == edge.to {
            (y - 6.0, end + 6.0)
        } else {
            (y, end)
        };
        let out = x + 16.0 + ((end - y).abs() / 3.0).min(60.0);
        let curve = format!("M{x:.1} {y:.1}C{out:.1} {y:.1} {out:.1} {end:.1} {x:.1} {end:.1}");
        let middle = Point::new(f64::midpoint(x, out) + 8.0, f64::midpoint(y, end));
        self.line(edge, &curve, (edge.mutual, true));
        let label = edge.label();
        let middle = middle.add(Point::new(width(&label) / 2.0, 0.0));
        self.label(edge, &label, middle);
    }

    /// A relation between tables that was too much for the layout.
    pub(super) fn direct(&mut self, edge: &Edge) {
        let [from, to] = [edge.from, edge.to].map(|node| self.places[node]);
        let (start, leave) = from.side(to.middle());
        let (stop, arrive) = to.side(from.middle());
        let curve = format!("M{}C{} {} {}", at(start), at(leave), at(arrive), at(stop));
        for point in [start, leave, arrive, stop] {
            self.reach(point);
        }
        self.line(edge, &curve, (edge.mutual, true));
        let middle = start.add(stop).scale(0.5);
        self.label(edge, &edge.label(), middle);
    }

    fn label(&mut self, edge: &Edge, label: &str, middle: Point) {
        let colour = edge.colour();
        self.reach(middle.add(Point::new(width(label) / 2.0, ROW)));
        let _ = writeln!(
            self.labels,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" \
             style=\"fill:{colour}\">{label}</text>",
            middle.x,
            middle.y + 4.0
        );
    }

    fn line(&mut self, edge: &Edge, curve: &str, head: (bool, bool)) {
        let name = edge.relation.name();
        let mut ends = String::new();
        for (is_there, end) in [(head.0, "start"), (head.1, "end")] {
            if is_there {
                let _ = write!(ends, " marker-{end}=\"url(#{name})\"");
            }
        }
        let look = match edge.relation {
            Relation::Require => "",
            Relation::Add => " style=\"stroke-width:3\"",
            Relation::Remove => " stroke-dasharray=\"6 3\"",
            Relation::After => " stroke-dasharray=\"2 3\"",
        };
        let colour = edge.colour();
        let _ = writeln!(
            self.lines,
            "<path class=\"line\" d=\"{curve}\" stroke=\"{colour}\"{look}{ends}/>"
        );
    }

    pub(super) fn finish(self) -> String {
        let title = escape(&self.graph.title);
        let (wide, high) = (self.end.x + 2.0 * MARGIN, self.end.y + TOP + MARGIN);
        let mut svg = begin(&title, wide, high);
        for relation in Relation::ALL {
            let edge = Edge {
                from: 0,
                to: 0,
                relation,
                count: 1,
                mutual: false,
            };
            let (name, colour) = (relation.name(), edge.colour());
            let shape = match relation {
                Relation::Remove => "M6 0L6 10M1 1L9 9M9 1L1 9",
                _ => "M0 0L10 5L0 10z",
            };
            let (fill, stroke) = match relation {
                Relation::Remove => ("none", colour),
                _ => (colour, "none"),
            };
            let _ = writeln!(
                svg,
                "<marker id=\"{name}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"9\" \
                 markerHeight=\"9\" markerUnits=\"userSpaceOnUse\" orient=\"auto-start-reverse\"><path \
                 d=\"{shape}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.5\"/></marker>"
            );
        }
        svg.push_str("</defs>\n");
        let _ = writeln!(svg, "<g transform=\"translate({MARGIN} {TOP})\">");
        svg.push_str(&self.boxes);
        svg.push_str(&self.lines);
        svg.push_str(&self.labels);
        svg.push_str("</g>\n</svg>\n");
        svg
    }
}

fn at(point: Point) -> String {
    format!("{:.1} {:.1}", point.x, point.y)
}

impl RenderBackend for Canvas<'_> {
    fn draw_rect(
        &mut self,
        xy: Point,
        size: Point,
        _look: &StyleAttr,
        _properties: Option<String>,
        _clip: Option<ClipHandle>,
    ) {
        self.last = Place { corner: xy, size };
        self.reach(xy.add(size));
    }

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_text(&mut self, xy: Point, text: &str, _look: &StyleAttr) {
        let Some(key) = text.strip_prefix(MARK) else {
            return;
        };
        let (kind, place) = key.split_at(1);
        let (place, label) = place.split_once(' ').unwrap_or((place, ""));
        let Ok(place) = place.parse::<usize>() else {
            return;
        };
        match kind {
            "t" => self.title(&self.tables[place]),
            "n" => {
                self.places[place] = self.last;
                self.node(&self.graph.nodes[place]);
            }
            _ => self.label(&self.graph.edges[place], label, xy),
        }
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        _dashed: bool,
        _head: (bool, bool),
        _look: &StyleAttr,
        properties: Option<String>,
        _text: &str,
    ) {
        let Some((turned, place)) = properties.as_deref().and_then(|told| told.split_once(' '))
        else {
            return;
        };
        let edge = place.parse().ok();
        let edge = edge.and_then(|place: usize| self.graph.edges.get(place));
        let (Some(edge), [_, second, ..]) = (edge, path) else {
            return;
        };
        let [from, to] = [edge.from, edge.to].map(|node| self.places[node]);
        let is_turned = turned == "1";
        let (begin, end) = if is_turned { (to, from) } else { (from, to) };
        let (start, leave) = begin.side(second.1);
        let (stop, arrive) = end.side(path[path.len() - 2].1);
        let mut passes = path[1..path.len() - 1].to_vec();
        passes.push((arrive, stop));
        let mut curve = format!("M{}C{}", at(start), at(leave));
        for (place, (control, point)) in passes.into_iter().enumerate() {
            let smooth = if place == 0 { " " } else { "S" };
            let _ = write!(curve, "{smooth}{} {}", at(control), at(point));
        }
        for (control, point) in path {
            self.reach(*control);
            self.reach(*point);
        }
        let head = if is_turned {
            (true, edge.mutual)
        } else {
            (edge.mutual, true)
        };
        self.line(edge, &curve, head);
    }

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}
