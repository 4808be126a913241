//! From what observers are told to spans as OTLP has them.

use std::fmt;
use std::time::{Duration, SystemTime};

use machine_runtime::observe::{Event, HandlerRun, Span, SpanKind, Traced, Transitioned};
use machine_runtime::{DynState, Reason, Schema, TraceContext};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind as Kind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as Sent, Status};

/// The most called states that a span names.
const MOST_CALLED: usize = 16;

/// The most handlers of a transition that have spans: a remove of all states can run thousands.
const MOST_HANDLERS: usize = 128;

/// What is a number to whoever reads it.
const NUMBERS: [&str; 1] = ["http.response.status_code"];

/// Whether the flags say where the parent is, and that it is elsewhere.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// Appends the spans of an event, if it is part of a trace that is kept.
pub(super) fn append(event: &Event, schema: &Schema, spans: &mut Vec<Sent>) {
    match event {
        Event::Span(span) if span.traced.context.sampled => spans.push(work(span)),
        Event::Transition(transition) => {
            if let Some(traced) = transition.trace.filter(|traced| traced.context.sampled) {
                append_transition(transition, traced, schema, spans);
            }
        }
        _ => {}
    }
}

/// Work that was told as a span.
fn work(span: &Span) -> Sent {
    let error = |message: &String| Status {
        message: message.clone(),
        code: StatusCode::Error.into(),
    };
    let attribute = |(name, value): &(&'static str, String)| {
        let number = value.parse().ok().filter(|_| NUMBERS.contains(name));
        let text = || Value::StringValue(value.clone());
        attribute(name, number.map_or_else(text, Value::IntValue))
    };
    Sent {
        kind: kind(span.kind).into(),
        attributes: span.attributes.iter().map(attribute).collect(),
        links: span.links.iter().copied().map(link).collect(),
        status: span.error.as_ref().map(error),
        ..sent(span.traced, span.kind, span.name, span.began, span.took)
    }
}

/// A transition, and within it each run of a handler.
fn append_transition(
    transition: &Transitioned,
    traced: Traced,
    schema: &Schema,
    spans: &mut Vec<Sent>,
) {
    let timing = transition.timing;
    let began = before(transition.at, timing.total());
    let total = timing.total();
    let name = |state: DynState| schema.name_of(state.0 as usize);
    let called = transition.called.iter().take(MOST_CALLED);
    let called = called.map(|state| AnyValue {
        value: Some(Value::StringValue(name(*state).to_owned())),
    });
    let called = ArrayValue {
        values: called.collect(),
    };
    let outcome = match transition.canceled {
        None => "executed",
        Some(_) => "canceled",
    };
    let mut attributes = vec![
        text("machine.position", transition.position.to_string()),
        text("machine.op", transition.op.name()),
        attribute("machine.called", Value::ArrayValue(called)),
        text("machine.cause", transition.cause.name()),
        text("machine.outcome", outcome),
        number("machine.changed", transition.changes.iter().len()),
    ];
    let mut status = None;
    if let Some(reason) = &transition.canceled {
        let message = reason.clone().map(|state| Name(name(state))).to_string();
        attributes.push(text("machine.reason", reason.code()));
        if matches!(reason, Reason::Panicked { .. } | Reason::TimedOut { .. }) {
            let code = StatusCode::Error.into();
            status = Some(Status { message, code });
        } else {
            // The status of what went as it should has no words of its own.
            attributes.push(text("machine.reason.message", message));
        }
    }
    let handlers = &transition.handlers;
    if handlers.len() > MOST_HANDLERS {
        attributes.push(number("machine.handlers", handlers.len()));
    }
    spans.push(Sent {
        attributes,
        status,
        ..sent(traced, SpanKind::Internal, "transition", began, total)
    });
    let parts = handlers.iter().take(MOST_HANDLERS).map(|run| {
        let after = run.began.saturating_sub(timing.began);
        handler(run, traced.context, began + after, schema)
    });
    spans.extend(parts);
}

/// A run of a handler within the transition that `parent` is the span of.
fn handler(run: &HandlerRun, parent: TraceContext, began: SystemTime, schema: &Schema) -> Sent {
    let mut attributes = vec![text("machine.phase", run.phase.name())];
    if let Some(state) = run.state {
        attributes.push(text("machine.state", schema.name_of(state.0 as usize)));
    }
    let traced = Traced::within(parent);
    Sent {
        attributes,
        ..sent(traced, SpanKind::Internal, "handler", began, run.took)
    }
}

/// What every span has.
fn sent(
    traced: Traced,
    of: SpanKind,
    name: &'static str,
    began: SystemTime,
    took: Duration,
) -> Sent {
    let parent = traced.parent.map(|parent| parent.to_be_bytes().to_vec());
    let from_elsewhere = matches!(of, SpanKind::Server | SpanKind::Consumer);
    let remote = if parent.is_some() && from_elsewhere {
        PARENT_REMOTE
    } else {
        0
    };
    Sent {
        trace_id: traced.context.trace.to_be_bytes().to_vec(),
        span_id: traced.context.span.to_be_bytes().to_vec(),
        parent_span_id: parent.unwrap_or_default(),
        flags: PARENT_KNOWN | remote | u32::from(traced.context.sampled),
        name: name.to_owned(),
        kind: kind(of).into(),
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(began + took),
        ..Sent::default()
    }
}

fn link(to: TraceContext) -> Link {
    Link {
        trace_id: to.trace.to_be_bytes().to_vec(),
        span_id: to.span.to_be_bytes().to_vec(),
        flags: u32::from(to.sampled),
        ..Link::default()
    }
}

fn kind(kind: SpanKind) -> Kind {
    match kind {
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
        SpanKind::Consumer => Kind::Consumer,
        SpanKind::Internal => Kind::Internal,
    }
}

/// An attribute that is text.
pub(super) fn text(key: &str, text: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

fn number(key: &str, number: usize) -> KeyValue {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    attribute(key, Value::IntValue(number))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Nanoseconds since 1970, as far as they fit.
fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn before(at: SystemTime, time: Duration) -> SystemTime {
    at.checked_sub(time).unwrap_or(at)
}

/// A state as people call it.
struct Name<'a>(&'a str);

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests;
