//! Asking a node for a mutation, and saying what came of it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use machine_runtime::{Key, Op, TraceContext};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Answer, PATIENCE, Target, connect, ended, late, print, said, whole};

/// A mutation to ask a node for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// What to do.
    pub op: Op,
    /// The states to do it with.
    pub states: &'a [String],
    /// JSON for the one of them that takes a payload.
    pub payload: Option<&'a str>,
    /// What makes it harmless to ask again; without one it is made up.
    pub key: Option<&'a str>,
    /// How long the node may try, 1 to 60 s.
    pub within: Duration,
    /// The span that it is part of.
    pub trace: Option<TraceContext>,
}

/// The root refused the mutation, as has been printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the mutation was canceled")]
pub struct Canceled;

/// The node has no link to the root; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRoot(String);

/// Nobody knows whether the mutation was run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}; whether it was run is unknown, the same with --key {key} is safe to try")]
pub struct Unknown {
    why: String,
    key: String,
}

/// Has `node` pass a mutation on to the root and prints what came of it; `json`: as the
/// node writes it.
///
/// # Errors
///
/// [`Canceled`], [`NoRoot`], [`Unknown`], [`Unreachable`](super::Unreachable), or what the node said.
pub async fn mutate(node: &Target, wanted: Wanted<'_>, json: bool) -> anyhow::Result<()> {
    let made_up = wanted.key.is_none().then(made_up);
    let key = made_up.as_deref().or(wanted.key).unwrap_or_default();
    let body = body(&wanted, key)?;
    let within = wanted.within.as_secs_f64();
    let path = format!("/v1/mutations?wait={within:.3}");
    let unknown = |error: &dyn std::fmt::Display| Unknown {
        why: error.to_string(),
        key: key.to_owned(),
    };
    let (mut sender, _connection) = connect(node).await?;
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    let mut request = node.request(request);
    if let Some(trace) = wanted.trace {
        request = request.header("traceparent", trace.to_string());
    }
    let request = request.body(Full::from(body))?;
    let patience = wanted.within + PATIENCE;
    let answer = timeout(patience, async {
        whole(sender.send_request(request).await?).await
    });
    let answer = answer
        .await
        .map_err(|_elapsed| unknown(&late(node, patience)))?;
    let answer = answer.map_err(|error| unknown(&format_args!("{error:#}")))?;
    let text = String::from_utf8_lossy(&answer.body);
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if !answer.head.status().is_success() {
        return Err(failure(&answer, &value, key));
    }
    let outcome = value["outcome"]
        .as_str()
        .context("the node's answer is no JSON")?;
    let position = value["position"].as_str().unwrap_or_default();
    let reason = value["reason"]["message"].as_str().unwrap_or_default();
    print(&match outcome {
        _ if json => ended(&text),
        "executed" => format!("executed at {position}\n"),
        other => format!("{other}: {reason}\n"),
    })?;
    anyhow::ensure!(outcome == "executed", Canceled);
    Ok(())
}

/// What an answer that is an error means to the writer.
fn failure(answer: &Answer, value: &Value, key: &str) -> anyhow::Error {
    let why = said(answer);
    let error = &value["error"];
    if error["may_have_run"] == true {
        let key = key.to_owned();
        Unknown { why, key }.into()
    } else if error["code"] == "unreachable" {
        NoRoot(why).into()
    } else {
        anyhow::Error::msg(why)
    }
}

fn made_up() -> String {
    let bytes = Key::random();
    bytes
        .as_bytes()
        .iter()
        .fold(String::new(), |mut key, byte| {
            // Writing to a string cannot fail.
            let _ = write!(key, "{byte:02x}");
            key
        })
}

fn body(wanted: &Wanted<'_>, key: &str) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Body<'a> {
        op: &'static str,
        states: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a RawValue>,
        key: &'a str,
    }
    let payload = wanted.payload.map(serde_json::from_str).transpose();
    let body = Body {
        op: wanted.op.name(),
        states: wanted.states,
        payload: payload.context("the payload is no JSON")?,
        key,
    };
    Ok(serde_json::to_string(&body)?)
}
