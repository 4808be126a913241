//! The states and their relations as diagrams, with what is active.
//!
//! A diagram is laid out on a thread of its own, for a few readers at a time: nobody else waits for it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use machine_runtime::graph::{
    Format, Graph, MAX_NODES, NoPicture, Options, SelectError, Selection,
};
use machine_runtime::{Group, Schema, Snapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use warp::reply::Response;

use super::Site;
use super::accept::Representation;
use super::answer::{Answer, is_known};
use super::pages::Page;
use super::problem::Problem;
use super::query::hash_of;
use super::routes::Call;
use super::similar::similar;

/// How many diagrams are drawn at a time. A picture of the largest size takes a core for a tenth of a
/// second.
const MOST_DRAWN: usize = 2;

/// How many nodes a reader may ask for.
const MOST_NODES: usize = 2000;

/// Room for those who draw.
#[derive(Debug)]
pub(super) struct Drawers(Arc<Semaphore>);

impl Default for Drawers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_DRAWN)))
    }
}

/// What a reader asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    format: Format,
    selection: Selection,
    max_nodes: usize,
}

/// A diagram that is to be drawn.
pub(super) struct Drawing {
    call: Call,
    wanted: Wanted,
    now: Arc<Snapshot>,
    page: Page,
    permit: OwnedSemaphorePermit,
}

impl Wanted {
    fn parse(params: &[(String, String)], schema: &Schema) -> Result<Self, Problem> {
        let mut wanted = Self {
            format: Format::Mermaid,
            selection: Selection::all(),
            max_nodes: MAX_NODES,
        };
        for (i, (name, value)) in params.iter().enumerate() {
            let selection = std::mem::take(&mut wanted.selection);
            let selected = match name.as_str() {
                "format" => {
                    wanted.format = value.parse().map_err(|_unknown| bad_format())?;
                    Ok(selection)
                }
                "max_nodes" => {
                    wanted.max_nodes = max_nodes(value)?;
                    Ok(selection)
                }
                "group" => selection.group(schema, value),
                "state" => selection.around(schema, value),
                _ => selection.value(schema, name, value),
            };
            wanted.selection = selected.map_err(|error| refused(error, schema))?;
            if params[..i].iter().any(|(other, _)| other == name) {
                return Err(Problem::bad_query(format!("`{name}` is given twice")));
            }
        }
        Ok(wanted)
    }
}

fn bad_format() -> Problem {
    let message = "`format` is one of mermaid, dot, d2 and svg";
    Problem::bad_value(message).allowing(Format::ALL.map(Format::name))
}

fn max_nodes(value: &str) -> Result<usize, Problem> {
    let number = value.parse().ok();
    let number = number.filter(|number| (1..=MOST_NODES).contains(number));
    let message = || Problem::bad_value(format!("`max_nodes` is a number from 1 to {MOST_NODES}"));
    number.ok_or_else(message)
}

fn refused(error: SelectError, schema: &Schema) -> Problem {
    match error {
        SelectError::UnknownGroup { name, .. } => {
            let names = schema.groups().iter().map(Group::name);
            Problem::unknown_group(&name, similar(&name, names))
        }
        SelectError::UnknownState(error) => {
            let names = (0..schema.len()).map(|state| schema.name_of(state));
            Problem::unknown_called(&error.name, similar(&error.name, names))
        }
        SelectError::UnknownAxis { name, known } => {
            let mut allowed = vec!["format", "group", "state", "max_nodes"];
            allowed.extend(known.iter().map(String::as_str));
            Problem::unknown_parameter(&name, &allowed)
        }
        SelectError::NoValue { .. } => Problem::bad_value(error.to_string()),
        _ => Problem::bad_query(error.to_string()),
    }
}

impl Site {
    /// What is to be drawn for a call, or what it has already.
    pub(super) fn drawing(&self, call: Call) -> Result<Answer, Problem> {
        let params = &call.wishes().params;
        let wanted = Wanted::parse(params, self.view.schema())?;
        let now = self.now()?;
        let suffix = format!("-{:08x}", hash_of(&format!("{params:?}")));
        let text = Representation::Text;
        let mut page = Page::new(now.position(), text, &suffix, Bytes::new());
        let kind = HeaderValue::from_static(wanted.format.content_type());
        page.headers.insert(CONTENT_TYPE, kind);
        if wanted.format == Format::Svg {
            // Whatever a name might be: a picture does nothing.
            let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
            page.headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        if is_known(&page, &call) {
            return Ok(Answer::Now(self.send(&page, &call)));
        }
        let permit = Arc::clone(&self.drawers.0).try_acquire_owned();
        let permit = permit.map_err(|_none| Problem::drawing(MOST_DRAWN))?;
        Ok(Answer::Drawing(Box::new(Drawing {
            call,
            wanted,
            now,
            page,
            permit,
        })))
    }

    /// Draws.
    ///
    /// # Cancel safety
    ///
    /// A drawing that nobody waits for any more is ended, and keeps its place until then.
    pub(super) async fn draw(&self, drawing: Drawing) -> Result<Response, Problem> {
        let Drawing {
            call,
            wanted,
            now,
            mut page,
            permit,
        } = drawing;
        let schema = Arc::clone(self.view.schema());
        let drawn = spawn_blocking(move || {
            let _permit = permit;
            let options = Options {
                selection: wanted.selection,
                max_nodes: wanted.max_nodes,
                ticks: Some(now.ticks().to_vec()),
                highlighted: Vec::new(),
            };
            let graph = Graph::new(&schema, &options).map_err(|error| refused(error, &schema))?;
            graph.to(wanted.format).map_err(|error| match error {
                NoPicture::Failed => Problem::not_drawn(),
                _ => Problem::bad_query(error.to_string()),
            })
        });
        page.body = drawn
            .await
            .unwrap_or_else(|_panic| Err(Problem::not_drawn()))?
            .into();
        Ok(self.send(&page, &call))
    }
}
