//! `flights graph`: the states and their relations as a diagram.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use machine_node::client::{self, Target};
use machine_runtime::graph::{Format, Graph, MAX_NODES, Options, Selection};
use machine_runtime::{Schema, States};
use serde_json::Value;

use crate::cli::{ClientArgs, NodeAddr, Usage};
use crate::states::Flights;

/// Options of `flights graph`.
#[derive(Args, Clone, Debug)]
pub struct GraphArgs {
    /// What to write: `mermaid`, `dot` (Graphviz), `d2` or `svg` [default: as the file is called, else
    /// mermaid]
    #[arg(long)]
    pub format: Option<Format>,

    /// Only the states of this group: of all flights (`Status`) or of one (`Flight3Status`)
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,

    /// Only the states of one flight or gate, such as `flight=3`
    #[arg(long, value_name = "LOOP=VALUE", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Only these states, which stand out, and those that have relations with them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub state: Vec<String>,

    /// A node's HTTP address: what is active there is coloured, with ticks
    #[arg(long, value_name = "HOST:PORT")]
    pub node: Option<NodeAddr>,

    /// Who asks it.
    #[command(flatten)]
    pub client: ClientArgs,

    /// How many nodes the diagram has at most: what is more is folded, flights first
    #[arg(long, value_name = "N", default_value_t = MAX_NODES, conflicts_with = "all",
        value_parser = max_nodes)]
    pub max_nodes: usize,

    /// Folds nothing
    #[arg(long)]
    pub all: bool,

    /// The file to write to [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn max_nodes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "it is a number from 1".to_owned())
}

/// Draws the states.
///
/// # Errors
///
/// [`Usage`] if there is nothing of the kind to draw, [`client::Unreachable`], what the node said, or
/// what cannot be written.
pub async fn draw(args: GraphArgs) -> anyhow::Result<()> {
    let schema = Flights::schema();
    let usage = |error: &dyn std::error::Error| Usage(error.to_string());
    let options = Options {
        selection: selection(&args, schema)?,
        max_nodes: if args.all { usize::MAX } else { args.max_nodes },
        ticks: match &args.node {
            Some(node) => Some(ticks(&args.client.target(node)?, schema).await?),
            None => None,
        },
        highlighted: Vec::new(),
    };
    let graph = Graph::new(schema, &options).map_err(|error| usage(&error))?;
    let format = args.format.unwrap_or_else(|| guessed(args.out.as_deref()));
    let text = graph.to(format).map_err(|error| usage(&error))?;
    match &args.out {
        None => io::stdout().lock().write_all(text.as_bytes())?,
        Some(path) => {
            let to = || format!("cannot write {}", path.display());
            fs::write(path, text).with_context(to)?;
        }
    }
    Ok(())
}

/// The format that a file of this name has.
fn guessed(path: Option<&Path>) -> Format {
    match path.and_then(Path::extension).and_then(|end| end.to_str()) {
        Some("dot" | "gv") => Format::Dot,
        Some("d2") => Format::D2,
        Some("svg") => Format::Svg,
        _ => Format::Mermaid,
    }
}

fn selection(args: &GraphArgs, schema: &Schema) -> Result<Selection, Usage> {
    let wrong = |option: &str| {
        let option = option.to_owned();
        move |error| Usage(format!("--{option}: {error}"))
    };
    let mut selection = Selection::all();
    if let Some(group) = &args.group {
        selection = selection.group(schema, group).map_err(wrong("group"))?;
    }
    for only in &args.only {
        let Some((axis, value)) = only.split_once('=') else {
            return Err(Usage(format!("--only: `{only}` is not like flight=3")));
        };
        selection = selection
            .value(schema, axis, value)
            .map_err(wrong("only"))?;
    }
    for state in &args.state {
        selection = selection.around(schema, state).map_err(wrong("state"))?;
    }
    Ok(selection)
}

/// The ticks of a node's states.
async fn ticks(node: &Target, schema: &Schema) -> anyhow::Result<Vec<u64>> {
    let answer = client::get(node, "/v1/states?ticks=1", "application/json").await?;
    let body: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{node} did not answer with JSON"))?;
    let Some(told) = body["ticks"].as_object() else {
        let why = body["error"]["message"].as_str();
        anyhow::bail!("{node}: {}", why.unwrap_or("it tells no ticks"));
    };
    let mut ticks = vec![0; schema.len()];
    for (name, tick) in told {
        let Some(state) = schema.find(name) else {
            anyhow::bail!("{node} has other states than this program: `{name}`");
        };
        ticks[state] = tick.as_u64().unwrap_or(0);
    }
    Ok(ticks)
}
