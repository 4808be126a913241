//! Frames that no node sends.

use fastrand::Rng;

use super::told::{EPOCH, Teller, followed, hello, schema};
use super::*;
use crate::debug::frame::{
    Change, Failure, HandlerRun, Key, Line, Link, LinkChange, Payload, Transition, Waiting,
};
use crate::handlers::Phase;
use crate::mutation::Reason;
use crate::position::Position;

const STATES: usize = 20;

struct Peer {
    store: Store,
    stream: StreamId,
    teller: Teller,
}

impl Peer {
    fn new(states: usize, limits: StoreLimits) -> Self {
        let mut store = Store::new(limits);
        let stream = store.connect(&hello(1)).unwrap().stream;
        let teller = Teller::new(schema(states, &mut Rng::with_seed(1)), 1);
        Self {
            store,
            stream,
            teller,
        }
    }

    fn declared(states: usize) -> Self {
        let mut peer = Self::new(states, StoreLimits::default());
        let declared = peer.teller.declared("a", None);
        peer.store.apply(peer.stream, declared).unwrap();
        let key = peer.teller.key();
        peer.store.apply(peer.stream, key).unwrap();
        peer
    }

    fn tell(&mut self, body: Body) -> Result<(), Malformed> {
        self.teller.number += 1;
        let frame = self.teller.frame(body);
        self.store.apply(self.stream, frame)
    }

    /// The error, after a look that nothing is held of it.
    #[track_caller]
    fn refused(&mut self, body: Body) -> String {
        let before = (self.store.bytes(), self.store.machines().len());
        let entries: Vec<usize> = self.store.machines().iter().map(History::end).collect();
        let error = self.tell(body).unwrap_err();
        assert_eq!(before, (self.store.bytes(), self.store.machines().len()));
        let after = self.store.machines().iter().map(History::end);
        assert!(after.eq(entries));
        error.to_string()
    }
}

fn transition() -> Transition {
    let mut teller = Teller::new(schema(STATES, &mut Rng::with_seed(1)), 3);
    teller.key();
    match teller.mutate().remove(0).body {
        Body::Transition(told) => Transition {
            called: vec![3],
            changes: vec![Change { state: 3, ticks: 1 }],
            canceled: None,
            handlers: Vec::new(),
            payloads: Vec::new(),
            ..*told
        },
        other => panic!("{other:?}"),
    }
}

fn key(ticks: Vec<u64>, order: Vec<u32>) -> Body {
    let position = Position {
        epoch: EPOCH,
        revision: 3,
    };
    Body::Key(Box::new(Key {
        position,
        sequence: 3,
        ticks,
        order,
        queue_tick: 1,
        queue: Vec::new(),
    }))
}

#[test]
fn states_that_there_are_not_are_named() {
    type Spoil = fn(&mut Transition);
    let mut peer = Peer::declared(STATES);
    let wrong: [(&str, Spoil); 6] = [
        ("a transition", |told| told.called.push(20)),
        ("a change", |told| told.changes[0].state = 20),
        ("a handler", |told| {
            told.handlers = vec![HandlerRun {
                phase: Phase::Enter,
                state: Some(20),
                after: 0,
                took: 0,
            }];
        }),
        ("a payload", |told| {
            told.payloads = vec![Payload {
                state: 20,
                len: 1,
                text: None,
            }];
        }),
        ("a reason", |told| {
            told.canceled = Some(Reason::Blocked { state: 1, by: 20 });
        }),
        ("a reason", |told| {
            told.canceled = Some(Reason::PayloadUnwanted { state: 20 });
        }),
    ];
    for (place, spoil) in wrong {
        let mut told = transition();
        spoil(&mut told);
        let error = peer.refused(Body::Transition(Box::new(told)));
        assert_eq!(error, format!("{place} names state 20, of 20 states"));
    }
    let changes = vec![Change {
        state: u32::MAX,
        ticks: 1,
    }];
    let error = peer.refused(followed(0, 1, changes));
    assert_eq!(error, "a change names state 4294967295, of 20 states");
    let waiting = Waiting {
        what: "all".to_owned(),
        states: vec![20],
        count: 1,
    };
    let error = peer.refused(Body::Waiters(vec![waiting]));
    assert_eq!(error, "a waiter names state 20, of 20 states");
    // And a right one is still taken.
    peer.tell(Body::Transition(Box::new(transition()))).unwrap();
    assert_eq!(peer.store.machine(MachineId(0)).end(), 2);
}

#[test]
fn keys_fit_their_schema() {
    let mut peer = Peer::declared(STATES);
    let error = peer.refused(key(vec![0; 19], Vec::new()));
    assert_eq!(error, "a key with 19 ticks, of 20 states");
    let error = peer.refused(key(vec![0; 20], vec![99]));
    assert_eq!(
        error,
        "the active list of a key names state 99, of 20 states"
    );
    for order in [vec![4], vec![3, 3], vec![3, 4]] {
        let mut ticks = vec![0; 20];
        ticks[3] = 1;
        assert!(peer.refused(key(ticks, order)).contains("active list"));
    }
}

#[test]
fn counts_never_overflow() {
    let mut peer = Peer::declared(STATES);
    let mut told = transition();
    told.changes = vec![
        Change {
            state: 3,
            ticks: u64::MAX / 2,
        };
        3
    ];
    let error = peer.refused(Body::Transition(Box::new(told)));
    assert_eq!(error, "the tick of state 3 overflows");
    peer.tell(key(vec![u64::MAX; 20], Vec::new())).unwrap();
    let error = peer.refused(Body::Transition(Box::new(transition())));
    assert_eq!(error, "the tick of state 3 overflows");
    let mut told = transition();
    told.changes.clear();
    (told.sequence, told.revision, told.queue_tick) = (u64::MAX, u64::MAX, u64::MAX);
    for _ in 0..2 {
        peer.tell(Body::Transition(Box::new(told.clone()))).unwrap();
        peer.tell(Body::Dropped(u64::MAX)).unwrap();
    }
    let history = peer.store.machine(MachineId(0));
    assert_eq!(history.entry(2).body, Body::Transition(Box::new(told)));
    assert_eq!(history.dropped(), u64::MAX);
    let error = peer.refused(followed(5, 4, Vec::new()));
    assert_eq!(error, "a replica comes from revision 5 to 4");
}

#[test]
fn streams_begin_as_they_have_to() {
    let mut store = Store::new(StoreLimits::default());
    let other = Hello {
        version: VERSION + 1,
        ..hello(1)
    };
    let error = store.connect(&other).unwrap_err().to_string();
    assert!(error.contains("version"), "{error}");
    let mut peer = Peer::new(STATES, StoreLimits::default());
    assert_eq!(
        peer.refused(Body::Transition(Box::new(transition()))),
        "machine 1 was not declared"
    );
    let error = peer.refused(Body::Hello(hello(2)));
    assert!(error.contains("is of"), "{error}");
    peer.teller.machine = PROCESS;
    let error = peer.refused(Body::Transition(Box::new(transition())));
    assert_eq!(error, "a transition is of a machine, and this is of none");
    peer.store.disconnect(peer.stream, "bye");
    let why = Connection::Lost("bye".to_owned());
    assert_eq!(*peer.store.process(ProcessId(0)).connection(), why);
    assert_eq!(peer.tell(Body::Gone), Err(Malformed::NotConnected));
    peer.store.disconnect(peer.stream, "again");
    assert_eq!(*peer.store.process(ProcessId(0)).connection(), why);
}

#[test]
fn schemas_are_what_they_say() {
    let mut peer = Peer::new(STATES, StoreLimits::default());
    let declared = |peer: &Peer| match peer.teller.declared("a", None).body {
        Body::Machine(declared) => declared,
        other => panic!("{other:?}"),
    };
    let mut none = declared(&peer);
    none.schema = None;
    assert!(peer.refused(Body::Machine(none)).starts_with("no schema"));
    let mut wrong = declared(&peer);
    wrong.fingerprint = 1;
    assert!(peer.refused(Body::Machine(wrong)).contains("declared as"));
    let mut wrong = declared(&peer);
    wrong.schema.as_mut().unwrap().states[3].relations[0].push(77);
    assert!(
        peer.refused(Body::Machine(wrong))
            .starts_with("the schema `Random` cannot be")
    );
    let mut wrong = declared(&peer);
    wrong.schema.as_mut().unwrap().states.clear();
    assert!(
        peer.refused(Body::Machine(wrong))
            .starts_with("the schema `Random` cannot be")
    );
    let mut wrong = declared(&peer);
    wrong.schema.as_mut().unwrap().states[3].name = "Exception".to_owned();
    assert!(
        peer.refused(Body::Machine(wrong))
            .starts_with("the schema `Random` cannot be")
    );
    let mut long = declared(&peer);
    long.name = "x".repeat(MAX_TEXT + 1);
    assert!(peer.refused(Body::Machine(long)).contains("at most 65536"));
}

#[test]
fn memory_is_bounded_whatever_is_told() {
    let limits = StoreLimits { bytes: 2_000_000 };
    let mut peer = Peer::new(STATES, limits);
    let declared = peer.teller.declared("a", None).body;
    peer.tell(declared).unwrap();
    let text = "x".repeat(MAX_TEXT);
    let mut rng = Rng::with_seed(4);
    let mut most = 0;
    for n in 0..20_000_u64 {
        let body = match rng.u8(..8) {
            0 => Body::Log(Line {
                level: 3,
                target: "t".to_owned(),
                text: text[..rng.usize(..text.len())].to_owned(),
            }),
            1 => Body::Error(Failure {
                kind: "k".to_owned(),
                message: text[..rng.usize(..1_000)].to_owned(),
                revision: n,
            }),
            2 => Body::Link(Link {
                up: true,
                peer: "p".to_owned(),
                change: LinkChange::Lost(text[..rng.usize(..100)].to_owned()),
            }),
            3 => key(vec![n % 7; STATES], Vec::new()),
            4 => Body::Dropped(n),
            _ => {
                let mut told = transition();
                told.payloads = vec![Payload {
                    state: 1,
                    len: 1,
                    text: Some(text[..rng.usize(..9_000)].to_owned()),
                }];
                Body::Transition(Box::new(told))
            }
        };
        peer.tell(body).unwrap();
        most = most.max(peer.store.bytes());
    }
    assert!(most <= limits.bytes, "{most}");
    let history = peer.store.machine(MachineId(0));
    assert!(history.start() > 5_000 && !history.is_empty());
    assert!(peer.store.process(ProcessId(0)).forgotten_lines() > 1_000);
    assert!((100..=KEPT).contains(&history.errors().len()));
}

#[test]
fn machines_are_refused_when_nothing_can_be_forgotten_for_them() {
    let limits = StoreLimits { bytes: 500_000 };
    let mut peer = Peer::new(400, limits);
    let mut refused = None;
    for n in 1..10_000 {
        peer.teller.machine = n;
        let declared = peer.teller.declared(&format!("m{n}"), None).body;
        if let Err(error) = peer.tell(declared) {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused.unwrap().to_string(), "no room for one more machine");
    assert!(peer.store.bytes() <= limits.bytes);
    assert!(peer.store.machines().len() > 20);
}

#[test]
fn a_schema_of_60_000_states_takes_little_more_than_what_changes() {
    let states = 60_000;
    let mut builder = Schema::builder("Large");
    for i in 1..states {
        builder = builder.state(crate::schema::StateDef::new(format!("S{i}")));
    }
    let mut peer = Peer::new(STATES, StoreLimits::default());
    peer.teller = Teller::new(Arc::new(builder.build().unwrap()), 2);
    let declared = peer.teller.declared("large", None).body;
    peer.tell(declared).unwrap();
    let start = peer.teller.key();
    peer.store.apply(peer.stream, start).unwrap();
    let before = peer.store.bytes();
    for n in 0..5_000_u64 {
        let mut told = transition();
        let state = u32::try_from(n * 7 % 60_000).unwrap();
        (told.sequence, told.revision) = (n + 1, n + 1);
        told.called = vec![state];
        told.changes = vec![Change { state, ticks: 1 }];
        peer.tell(Body::Transition(Box::new(told))).unwrap();
    }
    let each = (peer.store.bytes() - before) / 5_000;
    assert!(each < 80, "{each} bytes each");
    let history = peer.store.machine(MachineId(0));
    assert_eq!(history.ticks_after(5_000).ticks.iter().sum::<u64>(), 5_000);
    let filter = Filter {
        text: Some("s34993".to_owned()),
        ..Filter::default()
    };
    let visible = Visible::new(&peer.store, MachineId(0), filter);
    assert_eq!(visible.iter().collect::<Vec<_>>(), [5_000]);
}

#[test]
fn what_was_lost_shows_in_the_next_key() {
    let mut peer = Peer::declared(STATES);
    let before: Vec<u64> = peer.store.machines()[0].now().ticks;
    let mut after = before.clone();
    after[3] += 2;
    after[4] += 1;
    peer.tell(Body::Dropped(3)).unwrap();
    peer.tell(key(after, Vec::new())).unwrap();
    let history = &peer.store.machines()[0];
    let last = history.last().unwrap();
    let found = |state| history.next_change(state, 0, true, None);
    assert_eq!(
        (found(3), found(4), found(5)),
        (Some(last), Some(last), None)
    );
    assert_eq!(history.next_change(4, last, false, None), None);
    assert!(history.has_turned(last, 4));
    assert!(!history.has_turned(last, 3) && !history.has_turned(0, 4));
}

#[test]
fn errors_of_many_machines_stay_within_an_eighth() {
    let limits = StoreLimits { bytes: 1 << 20 };
    let mut peer = Peer::new(STATES, limits);
    for machine in 1..=20 {
        peer.teller.machine = machine;
        let declared = peer.teller.declared("a", None);
        peer.store.apply(peer.stream, declared).unwrap();
        let key = peer.teller.key();
        peer.store.apply(peer.stream, key).unwrap();
    }
    let before = peer.store.bytes();
    for n in 0..2_000 {
        peer.teller.machine = n % 20 + 1;
        let failure = Failure {
            kind: "ErrGate".to_owned(),
            message: "x".repeat(1_000),
            revision: 0,
        };
        peer.tell(Body::Error(failure)).unwrap();
        assert!(peer.store.bytes() <= before + limits.bytes / 8);
    }
    let errors = peer.store.machines().iter().map(|one| one.errors().len());
    assert!(errors.clone().sum::<usize>() > 50 && errors.min() > Some(0));
    // And no machine loses an entry to one that does not fit anyway.
    let entries = |store: &Store| -> usize { store.machines().iter().map(History::len).sum() };
    let held = entries(&peer.store);
    assert!(!peer.store.shrink(limits.bytes));
    assert_eq!(entries(&peer.store), held);
}
