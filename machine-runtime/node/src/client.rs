//! A small HTTP client: what a node shows, once or as it changes, how it is, and what is to change.
#![expect(clippy::print_stderr, reason = "standard output is for states")]

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::ACCEPT;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod links;
mod target;
mod write;

pub use links::print_links;
pub use target::Target;
pub use write::{Canceled, NoRoot, Unknown, Wanted, mutate};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a stream may be silent: three of the node's comments.
const SILENCE: Duration = Duration::from_secs(45);

/// How long `watch` waits before it connects again.
const RETRY: Duration = Duration::from_millis(500);

/// A node could not be reached; the exit code tells it apart from an answer that is an error.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach {addr}")]
pub struct Unreachable {
    addr: String,
    #[source]
    source: io::Error,
}

/// An answer as a whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status line and the headers.
    pub head: Response<()>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The value of a header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name)?.to_str().ok()
    }
}

/// Asks a node for `path` and reads the whole answer.
///
/// # Errors
///
/// [`Unreachable`], or what went wrong on the way.
pub async fn get(node: impl Into<Target>, path: &str, accept: &str) -> anyhow::Result<Answer> {
    let node = &node.into();
    let whole = async {
        let (response, _connection) = open(node, path, accept, None).await?;
        whole(response).await
    };
    timeout(PATIENCE, whole)
        .await
        .with_context(|| late(node, PATIENCE))?
}

/// Reads the whole of an answer.
async fn whole(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?;
    Ok(Answer {
        head: Response::from_parts(head, ()),
        body: body.to_bytes(),
    })
}

/// Drives a connection for as long as somebody reads from it.
type Connection = JoinSet<hyper::Result<()>>;

fn late(node: &Target, patience: Duration) -> String {
    format!("{node} did not answer within {} s", patience.as_secs())
}

/// Connects to a node.
async fn connect<B>(node: &Target) -> anyhow::Result<(http1::SendRequest<B>, Connection)>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    let stream = timeout(PATIENCE, node.open())
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| Unreachable {
            addr: node.to_string(),
            source,
        })?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = Connection::new();
    driver.spawn(connection);
    Ok((sender, driver))
}

/// Asks a node for `path` and returns the answer while its body is still to come.
async fn open(
    node: &Target,
    path: &str,
    accept: &str,
    last_event: Option<&str>,
) -> anyhow::Result<(Response<Incoming>, Connection)> {
    let (mut sender, driver) = connect(node).await?;
    let mut request = node.request(Request::get(path).header(ACCEPT, accept));
    if let Some(id) = last_event {
        request = request.header("last-event-id", id);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let response = timeout(PATIENCE, sender.send_request(request)).await;
    let response = response.with_context(|| late(node, PATIENCE))?;
    Ok((response.with_context(|| node.hint())?, driver))
}

/// Prints the active states of a `node`, or how each of `states` is; `json`: as the node
/// writes it.
///
/// # Errors
///
/// [`Unreachable`], or what the node said.
pub async fn print_states(node: &Target, states: &[String], json: bool) -> anyhow::Result<()> {
    if states.is_empty() {
        let accept = if json {
            "application/json"
        } else {
            "text/plain"
        };
        let answer = checked(get(node, "/", accept).await?)?;
        print(&ended(&String::from_utf8_lossy(&answer.body)))?;
        return Ok(());
    }
    for state in states {
        let answer = get(node, &format!("/v1/states/{state}"), "application/json").await?;
        let answer = checked(answer)?;
        let text = String::from_utf8_lossy(&answer.body);
        if json {
            print(&ended(&text))?;
            continue;
        }
        let value: Value = serde_json::from_str(&text).context("the node's answer is no JSON")?;
        let activity = if value["active"] == true {
            "active"
        } else {
            "inactive"
        };
        let payload = match &value["payload"] {
            Value::Null => String::new(),
            payload => format!(", {payload}"),
        };
        let tick = &value["tick"];
        print(&format!("{state} is {activity}, tick {tick}{payload}\n"))?;
    }
    Ok(())
}

/// Prints the changes of a `node` until it is interrupted, and connects again when that
/// breaks.
///
/// # Errors
///
/// [`Unreachable`] until there was a stream, or what the node said then.
pub async fn watch(node: &Target, json: bool) -> anyhow::Result<()> {
    let mut events = Events::default();
    loop {
        match events.follow(node, json).await {
            Ok(()) => eprintln!("{node} ended the stream, connecting again"),
            Err(error) if !events.began || error.is::<io::Error>() => return Err(error),
            Err(error) => eprintln!("{error:#}, connecting again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A stream of server-sent events, and where to go on from.
#[derive(Debug, Default)]
struct Events {
    /// Whether there was a stream so far.
    began: bool,
    last: Option<String>,
    name: String,
    data: String,
}

impl Events {
    async fn follow(&mut self, node: &Target, json: bool) -> anyhow::Result<()> {
        let last = self.last.clone();
        let accept = "text/event-stream";
        let (response, _connection) = open(node, "/v1/events", accept, last.as_deref()).await?;
        if response.status() != StatusCode::OK {
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            checked(Answer {
                head: Response::from_parts(head, ()),
                body,
            })?;
            bail!("{node} has no events");
        }
        self.began = true;
        let mut body = response.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = timeout(SILENCE, body.frame())
            .await
            .with_context(|| format!("{node} has gone silent"))?
        {
            let frame = frame.context("the stream broke off")?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                self.line(String::from_utf8_lossy(&line).trim_end(), json)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, json: bool) -> io::Result<()> {
        if line.is_empty() {
            if !self.data.is_empty() {
                print(&self.told(json))?;
            }
            self.name.clear();
            self.data.clear();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push_str(value),
            "id" => self.last = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// The event as a line.
    fn told(&self, json: bool) -> String {
        if json {
            return format!("{{\"event\":\"{}\",\"data\":{}}}\n", self.name, self.data);
        }
        let data: Value = serde_json::from_str(&self.data).unwrap_or_default();
        let states = |key: &str, sign: &str| -> String {
            let names = data[key].as_array().into_iter().flatten();
            let names = names.filter_map(Value::as_str);
            names.fold(String::new(), |list, name| list + " " + sign + name)
        };
        let revision = &data["revision"];
        match self.name.as_str() {
            "delta" => format!("{revision}{}{}\n", states("off", "-"), states("on", "+")),
            "snapshot" => format!("{revision} ={}\n", states("active", "+")),
            other => format!("{other} {}\n", self.data),
        }
    }
}

/// Writes to standard output; whoever reads it may have gone.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The answer, unless it is the node's word that something is wrong.
fn checked(answer: Answer) -> anyhow::Result<Answer> {
    if answer.head.status().is_success() {
        return Ok(answer);
    }
    bail!("{}", said(&answer));
}

/// What a node said that is wrong.
fn said(answer: &Answer) -> String {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = value["error"]["message"].as_str();
    let status = answer.head.status();
    message.map_or_else(|| format!("the node answered {status}"), str::to_owned)
}

fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') {
        text.to_owned()
    } else {
        format!("{text}\n")
    }
}
