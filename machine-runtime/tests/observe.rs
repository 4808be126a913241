//! What observers are told and what is counted, on roots and replicas.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use machine_runtime::observe::{
    Event, Followed, HandlerKind, Interest, LinkChange, Observer, Observers, Refused, Side, Span,
    SpanKind, TransitionKind, Transitioned,
};
use machine_runtime::replica::{Connect, Follower, FollowerOptions, Source, SourceOptions};
use machine_runtime::{
    Basic, Cause, Epoch, ErrorKind, Final, Handle, Machine, Mutation, Negotiation, Op, Outcome,
    Owner, Phase, Position, Reason, States, TraceContext, Verdict, ViewOptions, WriteOptions,
    handlers, states,
};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

states! {
    /// A light, and who knocks.
    pub enum Light: Basic {
        exclusive Lamp {
            Red,
            Green,
            #[auto]
            Dark,
        }
        #[multi]
        Knock,
        #[require(Green)]
        Go,
    }
}

type Tasks = JoinSet<()>;

fn options(observers: &Observers) -> ViewOptions {
    let mut options = ViewOptions::default();
    options.observers = Some(observers.clone());
    options
}

/// A running root that is observed.
fn root(machine: Machine<Light>, observers: &Observers, tasks: &mut Tasks) -> Handle<Light> {
    let (handle, owner) = Owner::new(machine, Epoch(7), options(observers));
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    handle
}

/// The connections that a replica is given, one after the other.
struct Given(mpsc::UnboundedReceiver<DuplexStream>);

impl Connect for Given {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(io) => Ok(io),
            None => pending().await,
        }
    }
}

/// A replica called `name` that is observed, and where it takes connections from.
fn replica(
    name: &str,
    observers: &Observers,
    tasks: &mut Tasks,
) -> (Handle<Light>, mpsc::UnboundedSender<DuplexStream>) {
    let mut follows = FollowerOptions::new(name);
    follows.view = options(observers);
    let (_, follower) = Follower::new::<Light>(Arc::clone(Light::schema()), follows);
    let handle = follower.handle();
    let (give, given) = mpsc::unbounded_channel();
    tasks.spawn(follower.run(vec![Given(given)], pending()));
    (handle, give)
}

/// Connects a replica to a parent of this name until what is returned is dropped.
fn link(parent: &Handle<Light>, name: &str, give: &mpsc::UnboundedSender<DuplexStream>) -> Tasks {
    let source = Source::new(parent.view(), SourceOptions::new(name)).with_writes(parent);
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut link = Tasks::new();
    link.spawn(async move { source.serve_connection(far).await });
    give.send(near).unwrap();
    link
}

/// Runs a mutation that is executed.
async fn run(light: &Handle<Light>, mutation: Mutation<Light>) {
    let receipt = light.mutate(mutation).await.unwrap();
    assert!(receipt.outcome.is_executed(), "{receipt:?}");
}

/// The next event, which comes in time.
async fn next(observer: &mut Observer) -> Arc<Event> {
    let patience = Duration::from_secs(20);
    let next = tokio::time::timeout(patience, observer.next()).await;
    next.expect("an event that does not come")
}

async fn transition(observer: &mut Observer) -> Transitioned {
    loop {
        if let Event::Transition(transition) = &*next(observer).await {
            return transition.clone();
        }
    }
}

async fn followed(observer: &mut Observer) -> Followed {
    loop {
        if let Event::Followed(followed) = &*next(observer).await {
            return followed.clone();
        }
    }
}

async fn span(observer: &mut Observer) -> Span {
    loop {
        if let Event::Span(span) = &*next(observer).await {
            return span.clone();
        }
    }
}

fn index(state: Light) -> u32 {
    u32::try_from(state.index()).unwrap()
}

fn indices(states: &[machine_runtime::DynState]) -> Vec<u32> {
    states.iter().map(|state| state.0).collect()
}

#[tokio::test]
async fn transitions_are_counted_by_kind_and_result_and_states_by_what_they_did() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let light = root(Machine::new(), &observers, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    run(&light, Mutation::add(Light::Green)).await;
    run(&light, Mutation::add([Light::Knock, Light::Red])).await;
    run(&light, Mutation::add(Light::Knock)).await;
    run(&light, Mutation::remove(Light::Red)).await;
    let canceled = light.add(Light::Go).await.unwrap().outcome;
    assert!(matches!(
        canceled,
        Outcome::Canceled(Reason::Missing { .. })
    ));

    let stats = observers.stats();
    let counts = TransitionKind::ALL.map(|kind| {
        let count = |executed| stats.transitions(kind, executed);
        (kind.name(), count(true), count(false))
    });
    let expected = [
        ("add", 4, 1),
        ("remove", 1, 0),
        ("set", 0, 0),
        // While a light is on there is nothing to try; Dark came when Red went.
        ("auto", 1, 0),
        ("exception", 0, 0),
    ];
    assert_eq!(counts, expected);
    let missing = stats.cancellations().find(|(code, _)| *code == "missing");
    assert_eq!(missing, Some(("missing", 1)));
    assert_eq!(
        stats.cancellations().map(|(_, count)| count).sum::<u64>(),
        1
    );
    // On: Red, Green, Red, Knock, Knock again, Dark. Off: Red, Green, Knock again, Red.
    assert_eq!((stats.began(), stats.ended()), (6, 4));
    assert_eq!(stats.transition_time().read().count, 7, "few are all timed");
    assert_eq!(stats.called(), 8);
}

struct Porter;

#[handlers(Light)]
impl Porter {
    #[enter(Go)]
    fn may_go(&self, _: &mut Negotiation<'_, Light>) -> Verdict {
        Verdict::refuse("not today")
    }

    #[state(Green)]
    fn green(&mut self, cx: &mut Final<'_, Light>) {
        cx.add(Light::Go);
    }

    #[state(Knock)]
    fn knock(&mut self, _: &mut Final<'_, Light>) {
        panic!("nobody is at home");
    }
}

#[tokio::test]
async fn a_transition_tells_what_it_did_and_why_not_and_which_handlers_ran() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut changes = observers.attach("test", Interest::CHANGES, 64);
    let light = root(Machine::new().with(Porter), &observers, &mut tasks);
    let before = std::time::SystemTime::now();
    run(&light, Mutation::add(Light::Green)).await;

    let green = transition(&mut changes).await;
    assert_eq!((green.op, green.cause), (Op::Add, Cause::Call));
    assert_eq!(indices(&green.called), [index(Light::Green)]);
    assert_eq!(
        indices(&green.changes.on().collect::<Vec<_>>()),
        [index(Light::Green)]
    );
    assert!(green.changes.off().count() == 0 && green.canceled.is_none() && green.trace.is_none());
    let [ran] = green.handlers[..] else {
        panic!("{green:?}");
    };
    assert_eq!(
        (ran.phase, ran.state),
        (Phase::State, Some(green.called[0]))
    );
    assert!(green.at >= before && green.timing.finals >= ran.took);
    assert!(ran.began >= green.timing.began + green.timing.negotiation);

    // What its handler appended.
    let go = transition(&mut changes).await;
    assert_eq!(go.cause, Cause::Handler);
    assert_eq!(go.canceled.as_ref().map(Reason::code), Some("refused"));
    assert_eq!(go.handlers[0].phase, Phase::Enter);
    assert!(go.changes.on().count() == 0 && go.queue_tick > green.queue_tick);

    let receipt = light.add(Light::Knock).await.unwrap();
    assert!(!receipt.outcome.is_executed(), "its handler panics");
    let knock = transition(&mut changes).await;
    assert_eq!(knock.canceled.as_ref().map(Reason::code), Some("panicked"));
    assert_eq!(
        indices(&knock.changes.again().collect::<Vec<_>>()),
        [index(Light::Knock)],
        "it began and was taken out"
    );
    // The machine's own.
    let exception = transition(&mut changes).await;
    assert_eq!(
        (exception.cause, exception.queue_tick),
        (Cause::Panic, None)
    );
    assert_eq!(
        indices(&exception.changes.on().collect::<Vec<_>>()),
        [0],
        "Exception is the first state"
    );

    let stats = observers.stats();
    assert_eq!(stats.errors(ErrorKind::Panic), 1);
    assert_eq!(stats.transitions(TransitionKind::Exception, true), 1);
    assert_eq!(stats.handlers(), 3);
    assert_eq!(stats.handler_time(HandlerKind::Final).read().count, 2);
    assert_eq!(stats.handler_time(HandlerKind::Negotiation).read().count, 1);
}

#[tokio::test]
async fn errors_are_told_to_who_wants_them() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut errors = observers.attach("test", Interest::ERRORS, 4);
    let light = root(Machine::new(), &observers, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    assert!(
        light
            .fail("the bulb is broken")
            .await
            .unwrap()
            .outcome
            .is_executed()
    );
    let event = errors.next().await;
    let Event::Error(told) = &*event else {
        panic!("{event:?}");
    };
    let error = &told.error;
    assert_eq!(
        (error.kind, &*error.message),
        (ErrorKind::Added, "the bulb is broken")
    );
    assert!(errors.try_next().is_none());
    assert_eq!(observers.stats().errors(ErrorKind::Added), 1);
}

#[tokio::test]
async fn who_does_not_take_its_events_loses_them_and_nothing_else_is_lost() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut hangs = observers.attach("hangs", Interest::CHANGES, 2);
    let mut works = observers.attach("works", Interest::CHANGES, 4096);
    let light = root(Machine::new(), &observers, &mut tasks);
    let knocks = vec![Mutation::add(Light::Knock); 1000];
    let receipts = light.mutate_all(knocks).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.outcome.is_executed()));
    assert_eq!(
        light.view().position().unwrap().revision,
        1001,
        "and one for Dark"
    );
    assert_eq!((hangs.lost(), works.lost()), (999, 0));
    assert!(transition(&mut hangs).await.position.revision < 3);
    for revision in 1..=1001 {
        assert_eq!(transition(&mut works).await.position.revision, revision);
    }
    // It has room again.
    assert!(hangs.try_next().is_some());
    run(&light, Mutation::add(Light::Knock)).await;
    assert_eq!(transition(&mut hangs).await.position.revision, 1002);
}

#[tokio::test]
async fn of_many_at_once_a_sample_is_timed() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let light = root(Machine::new(), &observers, &mut tasks);
    let knocks = vec![Mutation::add(Light::Knock); 1000];
    light.mutate_all(knocks).await.unwrap();
    let count = observers.stats().transition_time().read().count;
    // 128 and the auto of the first, and one of 32 of the rest.
    assert_eq!(count, 1 + 128 + 28);
    assert_eq!(
        observers.stats().transitions(TransitionKind::Add, true),
        1000
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_handle_is_counted() {
    let observers = Observers::new();
    let (light, _owner) = Owner::new(Machine::<Light>::new(), Epoch(1), options(&observers));
    let (waiting, limit) = light.queued().unwrap();
    assert_eq!((waiting, limit), (0, machine_runtime::CHANNEL));
    let mut waits = Tasks::new();
    for _ in 0..limit {
        let light = light.clone();
        waits.spawn(async move {
            let _ = light.add(Light::Knock).await;
        });
    }
    while light.queued().unwrap().0 < limit {
        tokio::task::yield_now().await;
    }
    assert!(light.try_mutate(Mutation::add(Light::Knock)).await.is_err());
    let soon = Duration::from_millis(5);
    assert!(
        light
            .mutate_within(Mutation::add(Light::Knock), soon)
            .await
            .is_err()
    );
    assert_eq!(observers.stats().refused(Refused::Busy), 2);
}

#[tokio::test]
async fn a_replica_tells_what_it_comes_to_show_and_of_its_links() {
    let (roots, mut tasks) = (Observers::new(), Tasks::new());
    let light = root(Machine::new(), &roots, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    let mut links_down = roots.attach("links", Interest::LINKS, 16);

    let ours = Observers::new();
    let mut changes = ours.attach("changes", Interest::CHANGES, 16);
    let mut links_up = ours.attach("links", Interest::LINKS, 16);
    let (_shown, give) = replica("child", &ours, &mut tasks);
    let connection = link(&light, "parent", &give);
    let snapshot = followed(&mut changes).await;
    assert_eq!((snapshot.cause, snapshot.from), (Cause::Snapshot, None));
    assert_eq!(
        indices(&snapshot.changes.on().collect::<Vec<_>>()),
        [index(Light::Red)]
    );
    run(&light, Mutation::add([Light::Green, Light::Knock])).await;
    run(&light, Mutation::add(Light::Knock)).await;
    let (mut on, mut off) = (Vec::new(), Vec::new());
    let mut at = snapshot.position;
    while at != light.view().position().unwrap() {
        let delta = followed(&mut changes).await;
        assert_eq!((delta.cause, delta.from), (Cause::Delta, Some(at)));
        at = delta.position;
        on.extend(indices(&delta.changes.on().collect::<Vec<_>>()));
        off.extend(indices(&delta.changes.off().collect::<Vec<_>>()));
    }
    assert_eq!(on, [Light::Green, Light::Knock].map(index));
    assert_eq!(off, [index(Light::Red)]);
    let stats = ours.stats();
    assert_eq!(
        (stats.began(), stats.ended()),
        (3, 2),
        "of deltas; Knock did both once more"
    );
    assert!(stats.bytes_in(Side::Up) > 100 && stats.bytes_out(Side::Up) > 30);
    let (sent, came) = (
        || stats.bytes_out(Side::Up),
        || roots.stats().bytes_in(Side::Down),
    );
    while came() != sent() {
        tokio::task::yield_now().await;
    }
    drop(connection);

    let change = async |observer: &mut Observer| match &*next(observer).await {
        Event::Link(event) => (event.side, event.peer.clone(), event.change.clone()),
        other => panic!("{other:?}"),
    };
    let reason = "first";
    let resynced = LinkChange::Resynced { reason };
    let (up, parent) = (Side::Up, || "parent".to_owned());
    assert_eq!(change(&mut links_up).await, (up, parent(), resynced));
    assert_eq!(
        change(&mut links_up).await,
        (up, parent(), LinkChange::Connected)
    );
    assert!(matches!(
        change(&mut links_up).await.2,
        LinkChange::Lost { .. }
    ));
    let child = || "child".to_owned();
    assert_eq!(
        change(&mut links_down).await,
        (Side::Down, child(), LinkChange::Connected)
    );
    let (side, peer, lost) = change(&mut links_down).await;
    assert_eq!((side, peer), (Side::Down, child()));
    assert!(matches!(lost, LinkChange::Lost { .. }));
}

#[tokio::test]
async fn the_trace_of_a_mutation_goes_up_to_the_root_and_down_to_every_tier() {
    let (mut tasks, at) = (Tasks::new(), || Observers::new());
    let [roots, l1s, l2s] = [at(), at(), at()];
    let mut told = [&roots, &l1s, &l2s].map(|at| at.attach("test", Interest::TRACES, 64));
    let light = root(Machine::new().with(Porter), &roots, &mut tasks);
    let (l1, give) = replica("l1", &l1s, &mut tasks);
    let _l1 = link(&light, "root", &give);
    let (l2, give) = replica("l2", &l2s, &mut tasks);
    let _l2 = link(&l1, "l1", &give);

    // What is not traced, or not kept, is not told.
    run(&light, Mutation::add(Light::Red)).await;
    let dropped = WriteOptions::new().with_trace(TraceContext::root(false));
    let _ = l2
        .mutate_with(Mutation::remove(Light::Red), dropped)
        .await
        .unwrap();

    let client = TraceContext::root(true);
    let options = WriteOptions::new().with_trace(client);
    let receipt = l2
        .mutate_with(Mutation::add(Light::Green), options)
        .await
        .unwrap();
    assert!(receipt.outcome.is_executed());

    let [at_root, at_l1, at_l2] = &mut told;
    let kinds = |span: &Span| (span.kind, span.name);
    let (client_kind, server_kind) = ((SpanKind::Client, "mutate"), (SpanKind::Server, "mutate"));
    let called = transition(at_root).await;
    let appended = transition(at_root).await;
    let server_root = span(at_root).await;
    let [one, two] = [span(at_l1).await, span(at_l1).await];
    // The answer may be on its way before or after what it led to is shown.
    let mut l1_spans = vec![one, two, span(at_l1).await];
    let mut l2_spans = vec![span(at_l2).await, span(at_l2).await];
    let take = |spans: &mut Vec<Span>, kind: (SpanKind, &str)| {
        let place = spans.iter().position(|span| kinds(span) == kind);
        spans.remove(place.unwrap_or_else(|| panic!("no {kind:?} in {spans:?}")))
    };
    let client_l2 = take(&mut l2_spans, client_kind);
    let server_l1 = take(&mut l1_spans, server_kind);
    let client_l1 = take(&mut l1_spans, client_kind);
    assert_eq!(kinds(&server_root), server_kind);
    let visible = (SpanKind::Consumer, "visible");
    let [visible_l1, visible_l2] = [take(&mut l1_spans, visible), take(&mut l2_spans, visible)];

    let traced = called.trace.unwrap();
    let chain = [
        client_l2.traced,
        server_l1.traced,
        client_l1.traced,
        server_root.traced,
        traced,
        visible_l1.traced,
        visible_l2.traced,
    ];
    let mut parent = client.span;
    for (place, traced) in chain.into_iter().enumerate() {
        assert_eq!(traced.context.trace, client.trace, "{place}");
        assert_eq!(traced.parent, Some(parent), "{place}");
        parent = traced.context.span;
    }
    let position = receipt.position.to_string();
    assert!(
        visible_l2
            .attributes
            .contains(&("machine.position", position))
    );
    for visible in [&visible_l1, &visible_l2] {
        let links: Vec<_> = visible.links.iter().map(|link| link.span).collect();
        assert_eq!(links, [traced.context.span]);
    }
    // What a handler appended is part of it, below the transition.
    assert_eq!(appended.cause, Cause::Handler);
    assert_eq!(appended.trace.unwrap().parent, Some(traced.context.span));
    let exemplars = roots.stats().transition_time().read().exemplars;
    assert!(
        exemplars
            .iter()
            .flatten()
            .any(|one| one.trace.trace == client.trace)
    );
}

/// A light whose handlers do more than they should.
struct Flicker;

#[handlers(Light)]
impl Flicker {
    #[state(Green)]
    fn green(&mut self, cx: &mut Final<'_, Light>) {
        cx.remove(Light::Green);
        cx.add(Light::Knock);
    }

    #[state(Red)]
    fn red(&mut self, cx: &mut Final<'_, Light>) {
        for i in 0..200 {
            cx.fail(format!("no {i}"));
        }
    }
}

#[tokio::test]
async fn a_state_that_changes_twice_in_a_run_began_and_ended() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let light = root(Machine::new().with(Flicker), &observers, &mut tasks);
    run(&light, Mutation::add(Light::Green)).await;
    // Green came and went; Knock and Dark came.
    let stats = observers.stats();
    assert_eq!((stats.began(), stats.ended()), (3, 1));
}

#[tokio::test]
async fn whatever_follows_from_a_mutation_is_below_its_own_transition() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut told = observers.attach("test", Interest::TRACES, 64);
    let light = root(Machine::new().with(Flicker), &observers, &mut tasks);
    let options = WriteOptions::new().with_trace(TraceContext::root(true));
    let green = Mutation::add(Light::Green);
    let receipt = light.mutate_with(green, options).await.unwrap();
    assert!(receipt.outcome.is_executed());
    let first = transition(&mut told).await.trace.unwrap().context.span;
    let mut causes = Vec::new();
    while let Some(event) = told.try_next() {
        if let Event::Transition(next) = &*event {
            assert_eq!(next.trace.unwrap().parent, Some(first), "{next:?}");
            causes.push(next.cause);
        }
    }
    assert_eq!(causes, [Cause::Handler, Cause::Auto, Cause::Handler]);
}

#[tokio::test]
async fn errors_that_the_machine_has_forgotten_again_are_counted_and_lost() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut told = observers.attach("test", Interest::ERRORS, 4096);
    let light = root(Machine::new().with(Flicker), &observers, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    let count = std::iter::from_fn(|| told.try_next()).count() as u64;
    assert_eq!((count, told.lost()), (64, 136));
    assert_eq!(observers.stats().errors(ErrorKind::Added), 200);
}

#[tokio::test]
async fn what_a_machine_did_before_it_had_an_owner_is_not_told() {
    let mut machine = Machine::<Light>::new();
    assert!(machine.fail("long ago").is_executed());
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut told = observers.attach("test", Interest::ERRORS, 4);
    let light = root(machine, &observers, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    assert!(told.try_next().is_none());
    assert_eq!(observers.stats().errors(ErrorKind::Added), 0);
}

#[tokio::test]
async fn what_is_refused_before_its_transition_is_counted_by_its_reason() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let light = root(Machine::new(), &observers, &mut tasks);
    let unwanted = Mutation::add(Light::Red).with_payload(Light::Red, "1");
    let receipt = light.mutate(unwanted).await.unwrap();
    assert!(!receipt.outcome.is_executed());
    let counts = observers.stats().cancellations();
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [("payload_unwanted", 1)]);
}

#[tokio::test]
async fn a_write_that_is_sent_again_and_a_dry_run_are_told_once_and_not_at_all() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut told = observers.attach("test", Interest::CHANGES, 16);
    let light = root(Machine::new(), &observers, &mut tasks);
    let key = machine_runtime::Key::new("once").unwrap();
    for _ in 0..2 {
        let options = WriteOptions::new().with_key(key.clone());
        let red = Mutation::add(Light::Red);
        assert!(
            light
                .mutate_with(red, options)
                .await
                .unwrap()
                .outcome
                .is_executed()
        );
    }
    assert!(
        light
            .can(Mutation::add(Light::Green))
            .await
            .unwrap()
            .is_executed()
    );
    assert_eq!(observers.stats().transitions(TransitionKind::Add, true), 1);
    assert_eq!(transition(&mut told).await.cause, Cause::Call);
    assert!(told.try_next().is_none());
}

#[tokio::test]
async fn a_root_that_tells_nobody_of_traces_leaves_no_gap_in_one() {
    let [roots, ours] = [Observers::new(), Observers::new()];
    let mut tasks = Tasks::new();
    let mut told = ours.attach("test", Interest::TRACES, 64);
    let light = root(Machine::new(), &roots, &mut tasks);
    let (shown, give) = replica("child", &ours, &mut tasks);
    let _link = link(&light, "root", &give);
    let mut positions = shown.view().positions();
    positions.wait_for(Option::is_some).await.unwrap();
    let client = TraceContext::root(true);
    let options = WriteOptions::new().with_trace(client);
    let red = light.mutate_with(Mutation::add(Light::Red), options).await;
    assert!(red.unwrap().outcome.is_executed());
    let visible = span(&mut told).await;
    assert_eq!(visible.traced.context.trace, client.trace);
    assert_eq!(
        visible.traced.parent,
        Some(client.span),
        "not a span that nobody was told of"
    );
    assert_eq!(visible.links, [client]);
}

#[tokio::test]
async fn a_delta_that_sums_up_traced_mutations_makes_each_visible() {
    let [roots, ours] = [Observers::new(), Observers::new()];
    let mut tasks = Tasks::new();
    let mut told = ours.attach("test", Interest::TRACES, 64);
    let light = root(Machine::new(), &roots, &mut tasks);
    let (shown, give) = replica("child", &ours, &mut tasks);
    let connection = link(&light, "root", &give);
    let mut positions = shown.view().positions();
    positions.wait_for(Option::is_some).await.unwrap();
    drop(connection);
    let mut traces = Vec::new();
    for state in [Light::Red, Light::Green] {
        let trace = TraceContext::root(true);
        let options = WriteOptions::new().with_trace(trace);
        let receipt = light
            .mutate_with(Mutation::add(state), options)
            .await
            .unwrap();
        traces.push((trace.trace, receipt.position));
    }
    // Both come at once.
    let _again = link(&light, "root", &give);
    for (trace, position) in traces {
        let visible = span(&mut told).await;
        assert_eq!(visible.traced.context.trace, trace);
        let at = ("machine.position", position.to_string());
        assert!(visible.attributes.contains(&at), "{visible:?}");
    }
    assert!(told.try_next().is_none());
}

#[tokio::test]
async fn traces_of_another_life_of_the_root_are_not_those_of_this() {
    let [roots, l1s, l2s] = [Observers::new(), Observers::new(), Observers::new()];
    let (mut tasks, mut old) = (Tasks::new(), Tasks::new());
    let mut told = l2s.attach("test", Interest::TRACES, 64);
    let (l1, give_l1) = replica("l1", &l1s, &mut tasks);
    let (l2, give_l2) = replica("l2", &l2s, &mut tasks);
    let light = root(Machine::new(), &roots, &mut old);
    let up = link(&light, "root", &give_l1);
    let _down = link(&l1, "l1", &give_l2);
    run(&light, Mutation::add(Light::Red)).await;
    let trace = WriteOptions::new().with_trace(TraceContext::root(true));
    let green = light
        .mutate_with(Mutation::add(Light::Green), trace)
        .await
        .unwrap();
    assert_eq!(green.position.revision, 2);
    let visible = span(&mut told).await;
    let at = ("machine.position", green.position.to_string());
    assert!(visible.attributes.contains(&at), "{visible:?}");
    drop((up, old));

    let (light, owner) = Owner::new(Machine::<Light>::new(), Epoch(8), ViewOptions::default());
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    let mut positions = l2.view().positions();
    let mut shows = async |revision| {
        let there = |at: &Option<Position>| {
            at.is_some_and(|at| at.epoch == Epoch(8) && at.revision >= revision)
        };
        positions.wait_for(there).await.unwrap();
    };
    run(&light, Mutation::add(Light::Red)).await;
    let _up = link(&light, "root", &give_l1);
    shows(1).await;
    run(&light, Mutation::add(Light::Knock)).await;
    shows(2).await;
    run(&light, Mutation::add(Light::Knock)).await;
    shows(3).await;
    let more = told.try_next();
    assert!(more.is_none(), "{more:?}");
}

/// What loses nothing holds back what it observes, and nobody else.
#[tokio::test]
async fn a_machine_waits_for_an_observer_that_loses_nothing_until_it_has_gone() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut all = observers.attach_lossless("recording", Interest::CHANGES, 4);
    let mut some = observers.attach("hung", Interest::CHANGES, 1);
    let light = root(Machine::new(), &observers, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    for _ in 0..3 {
        run(&light, Mutation::add(Light::Knock)).await;
    }
    // It is behind now: what is sent waits, and so long as nobody takes anything.
    let mut held = Tasks::new();
    held.spawn({
        let light = light.clone();
        async move { run(&light, Mutation::add(Light::Knock)).await }
    });
    let first = transition(&mut all).await;
    assert_eq!(first.sequence, 1);
    let mut sequence = first.sequence;
    while sequence < 5 {
        let next = transition(&mut all).await;
        assert_eq!(next.sequence, sequence + 1, "nothing is lost");
        sequence = next.sequence;
    }
    held.join_next().await.unwrap().unwrap();
    assert_eq!((all.lost(), some.lost()), (0, 4));
    assert_eq!(transition(&mut some).await.sequence, 1);
    // Once it has gone, nobody waits for it.
    for _ in 0..4 {
        run(&light, Mutation::add(Light::Knock)).await;
    }
    let mut held = std::pin::pin!(run(&light, Mutation::add(Light::Knock)));
    for _ in 0..64 {
        tokio::task::yield_now().await;
        let waits = futures_util::poll!(&mut held).is_pending();
        assert!(waits, "it went on although the observer is behind");
    }
    drop(all);
    held.await;
}

/// As a machine does, a replica waits; what it missed is one delta then, and the chain has no gap.
#[tokio::test]
async fn a_replica_waits_for_an_observer_that_loses_nothing() {
    let (roots, mut tasks) = (Observers::new(), Tasks::new());
    let light = root(Machine::new(), &roots, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    let ours = Observers::new();
    let mut all = ours.attach_lossless("recording", Interest::CHANGES, 2);
    let (shown, give) = replica("child", &ours, &mut tasks);
    let _connection = link(&light, "parent", &give);
    let shown = shown.view().clone();
    let mut positions = shown.positions();
    let snapshot = followed(&mut all).await;
    let mut at = snapshot.position;
    let here = || light.view().position().unwrap();
    let catch_up = async |positions: &mut watch::Receiver<Option<Position>>| {
        let is_here = |shown: &Option<Position>| *shown == Some(here());
        let patience = Duration::from_secs(20);
        let caught_up = tokio::time::timeout(patience, positions.wait_for(is_here)).await;
        caught_up
            .expect("a replica that does not catch up")
            .unwrap();
    };
    // While nobody takes anything, it goes on to as many events as may wait.
    for _ in 0..2 {
        run(&light, Mutation::add(Light::Knock)).await;
        catch_up(&mut positions).await;
    }
    let held = shown.position();
    for _ in 0..64 {
        run(&light, Mutation::add(Light::Knock)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(
        shown.position(),
        held,
        "it went on although the observer is behind"
    );
    while at != here() {
        let delta = followed(&mut all).await;
        assert_eq!((delta.cause, delta.from), (Cause::Delta, Some(at)));
        at = delta.position;
    }
    assert_eq!(all.lost(), 0);
    // Once the observer has gone, nobody waits for it.
    for _ in 0..2 {
        run(&light, Mutation::add(Light::Knock)).await;
        catch_up(&mut positions).await;
    }
    for _ in 0..8 {
        run(&light, Mutation::add(Light::Knock)).await;
    }
    drop(all);
    catch_up(&mut positions).await;
}

/// Batches that make more events than may wait, from several sides at once.
#[tokio::test]
async fn nothing_is_lost_under_load() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut all = observers.attach_lossless("recording", Interest::CHANGES, 8);
    let light = root(Machine::new(), &observers, &mut tasks);
    let mut load = Tasks::new();
    for _ in 0..8 {
        let light = light.clone();
        load.spawn(async move {
            for _ in 0..250 {
                let batch = vec![Mutation::add(Light::Knock); 4];
                let _ = light.mutate_all(batch).await.unwrap();
            }
        });
    }
    let mut told = 0;
    let drain = async {
        loop {
            let next = transition(&mut all).await;
            told += 1;
            assert_eq!(next.sequence, told);
        }
    };
    let done = async { while load.join_next().await.is_some() {} };
    tokio::select! {
        () = drain => {}
        () = done => {}
    }
    while let Some(event) = all.try_next() {
        told += u64::from(matches!(&*event, Event::Transition(_)));
    }
    let taken = light.checkpoint().await.unwrap();
    assert_eq!((told, all.lost()), (taken.sequence, 0));
    assert!(told >= 8 * 250 * 4);
}

#[tokio::test]
async fn a_checkpoint_says_which_transitions_it_includes() {
    let (observers, mut tasks) = (Observers::new(), Tasks::new());
    let mut changes = observers.attach("test", Interest::CHANGES, 64);
    let light = root(Machine::new(), &observers, &mut tasks);
    run(&light, Mutation::add(Light::Red)).await;
    let refused = light.add(Light::Go).await.unwrap();
    assert!(!refused.outcome.is_executed());
    let taken = light.untyped().checkpoint().await.unwrap();
    run(&light, Mutation::add(Light::Knock)).await;
    assert_eq!(taken.position.revision, 1);
    let mut later = Vec::new();
    while let Some(event) = changes.try_next() {
        if let Event::Transition(transition) = &*event
            && transition.sequence > taken.sequence
        {
            later.push(transition.clone());
        }
    }
    assert_eq!(indices(&later[0].called), [index(Light::Knock)]);
    let checkpoint = &taken.checkpoint;
    assert_eq!(checkpoint.order, [index(Light::Red)]);
    let mut restored = Machine::<Light>::restore(checkpoint).unwrap();
    assert!(restored.add(Light::Knock).is_executed());
    assert_eq!(restored.ticks(), light.view().snapshot().unwrap().ticks());
}
