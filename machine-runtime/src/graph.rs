//! Diagrams of any schema and of single transitions.
//!
//! A [`Graph`] is what is drawn of a schema: all of it, a group, one flight, a state with its
//! neighbours; with the activity of a moment, if that is given. What would be too much is folded: states
//! that differ in a loop variable become one node, or whole groups do, and the relations between are
//! counted. A [`Sequence`] is what happened in one transition. Both become text of Mermaid, Graphviz or
//! D2, or a picture.
//!
//! ```
//! use machine_runtime::{Schema, StateDef};
//! use machine_runtime::graph::{Format, Graph, Options};
//!
//! let schema = Schema::builder("Door")
//!     .state(StateDef::new("Shut"))
//!     .state(StateDef::new("Locked").require(["Shut"]))
//!     .build()?;
//! let graph = Graph::new(&schema, &Options::default())?;
//! assert!(graph.to(Format::Mermaid)?.contains("n2 -->|require| n1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use crate::schema::{Relation, Schema};

mod build;
mod d2;
mod dot;
mod family;
mod mermaid;
mod outline;
mod select;
mod sequence;
mod svg;

pub use self::select::{SelectError, Selection};
pub use self::sequence::{Changed, Ran, Sequence, Step};

/// How many nodes there are at most unless told.
pub const MAX_NODES: usize = 120;

/// The most nodes, and participants with messages, that a picture is laid out for.
pub const MAX_PICTURE: usize = 250;

/// The most relations that a picture is laid out for.
pub const MAX_LINES: usize = 600;

/// What is drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Which states.
    pub selection: Selection,
    /// How many nodes at most. What has more is folded until it has few enough.
    pub max_nodes: usize,
    /// The ticks of all states at one moment, to show which are active.
    pub ticks: Option<Vec<u64>>,
    /// States that stand out.
    pub highlighted: Vec<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            selection: Selection::all(),
            max_nodes: MAX_NODES,
            ticks: None,
            highlighted: Vec::new(),
        }
    }
}

/// States and their relations, as they are drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph {
    /// What it shows, in a line.
    pub title: String,
    /// States, or what they were folded into.
    pub nodes: Vec<Node>,
    /// Frames around nodes. A parent comes before its children.
    pub clusters: Vec<Cluster>,
    /// Relations.
    pub edges: Vec<Edge>,
}

/// A state, or several that were folded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// The state's name, or one that stands for all.
    pub label: String,
    /// What else there is to say, a line each.
    pub notes: Vec<String>,
    /// How many states.
    pub states: usize,
    /// How many of them are active; 0 where nobody told.
    pub active: usize,
    /// Whether it is to stand out.
    pub highlighted: bool,
    /// Whether it is only there as a neighbour.
    pub neighbour: bool,
    /// The frame that it is in, as a place in [`Graph::clusters`].
    pub cluster: Option<usize>,
}

/// A frame around nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// What it says.
    pub label: String,
    /// The frame that it is in.
    pub parent: Option<usize>,
}

/// Relations of one kind from the states of a node to those of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// The node whose states have the relation.
    pub from: usize,
    /// The node whose states it lists.
    pub to: usize,
    /// Which.
    pub relation: Relation,
    /// How many.
    pub count: usize,
    /// Whether each has it with the other.
    pub mutual: bool,
}

impl Edge {
    /// What is written beside it.
    pub fn label(&self) -> String {
        match self.count {
            1 => self.relation.name().to_owned(),
            count => format!("{} ×{count}", self.relation),
        }
    }

    /// The colour that it is drawn in.
    fn colour(&self) -> &'static str {
        match self.relation {
            Relation::Require => "#1864ab",
            Relation::Add => "#2b8a3e",
            Relation::Remove => "#c92a2a",
            Relation::After => "#868e96",
        }
    }
}

/// How a node looks: fill, border, and how thick that is.
fn look(node: &Node) -> (&'static str, &'static str, u8) {
    let fill = match (node.active, node.states) {
        (0, _) if node.neighbour => "#ffffff",
        (0, _) => "#f1f3f5",
        (1, 1) => "#8ce99a",
        _ => "#d3f9d8",
    };
    if node.highlighted {
        (fill, "#e8590c", 4)
    } else if node.active > 0 {
        (fill, "#2b8a3e", 2)
    } else {
        (fill, "#495057", 1)
    }
}

/// What a diagram is written as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Mermaid: what Git forges and wikis draw.
    Mermaid,
    /// The language of Graphviz.
    Dot,
    /// The language of D2.
    D2,
    /// A picture.
    Svg,
}

impl Format {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Mermaid, Self::Dot, Self::D2, Self::Svg];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mermaid => "mermaid",
            Self::Dot => "dot",
            Self::D2 => "d2",
            Self::Svg => "svg",
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Mermaid => "text/vnd.mermaid; charset=utf-8",
            Self::Dot => "text/vnd.graphviz; charset=utf-8",
            // There is none of its own.
            Self::D2 => "text/plain; charset=utf-8",
            Self::Svg => "image/svg+xml",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a format is one of mermaid, dot, d2 and svg")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let format = Self::ALL.into_iter().find(|format| format.name() == text);
        format.ok_or(UnknownFormat)
    }
}

/// Why there is no picture. The other formats always work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoPicture {
    /// It would be too large.
    #[error(
        "a picture has at most {MAX_PICTURE} nodes and {MAX_LINES} relations, this would have \
         {nodes} and {edges}; show less, or take another format"
    )]
    TooLarge {
        /// How many nodes it would have.
        nodes: usize,
        /// How many relations.
        edges: usize,
    },
    /// The layout gave up.
    #[error("the layout of the picture failed; take another format")]
    Failed,
}

impl Graph {
    /// What `options` asks for of a schema.
    ///
    /// # Errors
    ///
    /// [`SelectError::Nothing`] if no state is selected.
    pub fn new(schema: &Schema, options: &Options) -> Result<Self, SelectError> {
        build::graph(schema, options)
    }

    /// It in the given format. A picture takes milliseconds, the largest some hundred of them.
    ///
    /// # Errors
    ///
    /// [`NoPicture`], for [`Format::Svg`] only.
    pub fn to(&self, format: Format) -> Result<String, NoPicture> {
        match format {
            Format::Mermaid => Ok(mermaid::graph(self)),
            Format::Dot => Ok(dot::graph(self)),
            Format::D2 => Ok(d2::graph(self)),
            Format::Svg => svg::graph(self),
        }
    }

    /// How many of its states are active.
    pub fn active(&self) -> usize {
        self.nodes.iter().map(|node| node.active).sum()
    }
}

#[cfg(test)]
mod tests;
