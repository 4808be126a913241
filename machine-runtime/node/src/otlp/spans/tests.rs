use machine_runtime::observe::Observers;
use machine_runtime::{
    Binder, Cause, Epoch, Handlers, Machine, Mutation, Owner, States as _, Verdict, ViewOptions,
    WriteOptions,
};

use super::*;
use crate::fixture::Flights;
use crate::shutdown::Tasks;

/// The text or number of an attribute.
fn value(span: &Sent, key: &str) -> Option<Value> {
    let attribute = span.attributes.iter().find(|one| one.key == key)?;
    attribute.value.clone()?.value
}

fn spans_of(event: &Event) -> Vec<Sent> {
    let mut spans = Vec::new();
    append(event, Flights::schema(), &mut spans);
    spans
}

#[test]
fn work_keeps_its_ids_times_links_and_attributes() {
    let (trace, span) = (0x0102 << 96 | 7, 0x0304_0000_0000_0005);
    let sampled = true;
    let context = TraceContext {
        trace,
        span,
        sampled,
    };
    let traced = Traced {
        context,
        parent: Some(6),
    };
    let began = SystemTime::UNIX_EPOCH + Duration::new(3, 4);
    let mut work = Span::ended(traced, SpanKind::Server, "mutate", began);
    work.took = Duration::from_nanos(10);
    work.attributes = vec![
        ("http.response.status_code", "503".to_owned()),
        ("machine.position", "8.5".to_owned()),
    ];
    work.error = Some("no".to_owned());
    work.links = vec![TraceContext {
        trace,
        span: 9,
        sampled,
    }];
    let spans = spans_of(&Event::Span(work));
    let [sent] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(sent.trace_id, trace.to_be_bytes());
    assert_eq!(sent.trace_id[..3], [0, 0, 1]);
    assert_eq!(sent.span_id, [3, 4, 0, 0, 0, 0, 0, 5]);
    assert_eq!(sent.parent_span_id, [0, 0, 0, 0, 0, 0, 0, 6]);
    assert_eq!(sent.flags, 0x301);
    assert_eq!((sent.name.as_str(), sent.kind), ("mutate", 2));
    let times = (sent.start_time_unix_nano, sent.end_time_unix_nano);
    assert_eq!(times, (3_000_000_004, 3_000_000_014));
    let status = value(sent, "http.response.status_code");
    assert_eq!(status, Some(Value::IntValue(503)));
    let position = Value::StringValue("8.5".to_owned());
    assert_eq!(value(sent, "machine.position"), Some(position));
    let status = sent.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "no"));
    let [link] = &sent.links[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(link.span_id, [0, 0, 0, 0, 0, 0, 0, 9]);
}

#[test]
fn a_root_has_no_parent_and_each_kind_is_its_own() {
    for (of, kind, flags) in [
        (SpanKind::Internal, 1, 0x101),
        (SpanKind::Server, 2, 0x101),
        (SpanKind::Client, 3, 0x101),
        (SpanKind::Consumer, 5, 0x101),
    ] {
        let context = TraceContext::root(true);
        let traced = Traced {
            context,
            parent: None,
        };
        let span = Span::ended(traced, of, "x", SystemTime::now());
        let sent = &spans_of(&Event::Span(span))[0];
        assert_eq!((sent.kind, sent.flags), (kind, flags));
        assert!(sent.parent_span_id.is_empty() && sent.status.is_none());
    }
}

#[test]
fn what_is_not_sampled_is_not_sent() {
    let traced = Traced::within(TraceContext::root(false));
    let span = Span::ended(traced, SpanKind::Client, "x", SystemTime::now());
    assert_eq!(spans_of(&Event::Span(span)), []);
}

/// Accepts a delay, and panics when it has come to a departure.
struct Watch;

impl Handlers<Flights> for Watch {
    fn bind(&self, binder: &mut Binder<Self, Flights>) {
        binder.enter(Flights::Flight1Delayed, &[], |_, _, _| Verdict::Accept);
        binder.state(Flights::Flight1Delayed, &[], |_, _, _| ().into());
        binder.state(Flights::Flight1Departed, &[], |_, _, _| panic!("no runway"));
    }
}

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The spans of a mutation that is part of a trace.
async fn spans_of_mutation(mutation: Mutation<Flights>) -> Vec<Sent> {
    let observers = Observers::new();
    let mut told = observers.attach("test", machine_runtime::observe::Interest::TRACES, 8);
    let mut view = ViewOptions::default();
    view.observers = Some(observers);
    let (handle, owner) = Owner::new(Machine::new().with(Watch), Epoch(1), view);
    let tasks = Tasks::default();
    let stopped = tasks.stopped();
    tasks.spawn(async move {
        owner.run(stopped).await;
    });
    let options = WriteOptions::new().with_trace(CLIENT.parse().unwrap());
    let _ = handle.mutate_with(mutation, options).await.unwrap();
    loop {
        let event = told.next().await;
        if let Event::Transition(transition) = &*event
            && transition.cause == Cause::Call
        {
            tasks.stop();
            return spans_of(&event);
        }
    }
}

#[tokio::test]
async fn a_transition_has_a_span_and_each_handler_one_within() {
    let spans = spans_of_mutation(Mutation::add(Flights::Flight1Delayed)).await;
    let [transition, enter, state] = &spans[..] else {
        panic!("{spans:#?}")
    };
    let client: TraceContext = CLIENT.parse().unwrap();
    assert_eq!(transition.name, "transition");
    assert_eq!(transition.parent_span_id, client.span.to_be_bytes());
    assert_eq!(transition.status, None);
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    let called = AnyValue {
        value: text("Flight1Delayed"),
    };
    let called = Value::ArrayValue(ArrayValue {
        values: vec![called],
    });
    for (key, expected) in [
        ("machine.position", text(&format!("{:032x}.1", 1))),
        ("machine.op", text("add")),
        ("machine.called", Some(called)),
        ("machine.cause", text("call")),
        ("machine.outcome", text("executed")),
        ("machine.changed", Some(Value::IntValue(1))),
        ("machine.reason", None),
        ("machine.handlers", None),
    ] {
        assert_eq!(value(transition, key), expected, "{key}");
    }
    let mut before = transition.start_time_unix_nano;
    for (run, phase) in [(enter, "enter"), (state, "state")] {
        assert_eq!(run.name, "handler");
        assert_eq!(run.trace_id, client.trace.to_be_bytes());
        assert_eq!(run.parent_span_id, transition.span_id);
        assert_ne!(run.span_id, transition.span_id);
        assert_eq!(value(run, "machine.phase"), text(phase));
        assert_eq!(value(run, "machine.state"), text("Flight1Delayed"));
        assert!(before <= run.start_time_unix_nano, "{spans:#?}");
        before = run.end_time_unix_nano;
    }
    assert!(before <= transition.end_time_unix_nano, "{spans:#?}");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_a_panic_is_an_error() {
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    let spans = spans_of_mutation(Mutation::add(Flights::Flight1GoToGate)).await;
    let refused = &spans[0];
    assert_eq!(value(refused, "machine.outcome"), text("canceled"));
    assert_eq!(value(refused, "machine.reason"), text("missing"));
    let Some(Value::StringValue(message)) = value(refused, "machine.reason.message") else {
        panic!("{refused:#?}")
    };
    assert!(message.contains("Flight1Outbound"), "{message}");
    assert_eq!(refused.status, None);
    let spans = spans_of_mutation(Mutation::add(Flights::Flight1Departed)).await;
    let panicked = &spans[0];
    assert_eq!(value(panicked, "machine.reason"), text("panicked"));
    assert_eq!(value(panicked, "machine.reason.message"), None);
    let status = panicked.status.as_ref().unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    assert!(status.message.contains("Flight1Departed"), "{status:?}");
}
