//! Random schemas and mutations, shaped so that relations meet.

use machine_runtime::{EXCEPTION, Op};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::vectors::{RawSchema, RawState};

/// A schema and what is done with it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) states: Vec<String>,
    pub(crate) schema: RawSchema,
    pub(crate) acts: Vec<Act>,
}

/// One call on a machine.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Mutate(Op, Vec<usize>),
    Enqueue(Op, Vec<usize>, bool),
    Run,
}

/// A part of a schema; numbers are states modulo their count.
#[derive(Clone, Debug)]
enum Piece {
    Auto(usize),
    Multi(usize),
    Require(usize, usize),
    Add(usize, usize),
    Remove(usize, usize),
    After(usize, usize),
    /// Two that remove each other.
    Rivals(usize, usize),
    /// One that adds a second that adds a third.
    TwoLevels(usize, usize, usize),
    /// As many in a row that remove each other.
    Exclusive(usize, usize),
    /// As many in a row, each requiring the next.
    Chain(usize, usize),
    /// As many in a row, each requiring the next, and the last the first.
    Cycle(usize, usize),
    /// As many auto states in a row.
    Autos(usize, usize),
}

/// How often each kind of piece is drawn, in the order of their declaration.
type Weights = [u32; 12];

/// Each schema leaves out some kinds and prefers others: so rare meetings of few kinds come up.
fn weights() -> impl Strategy<Value = Weights> {
    let seldom = |probability| prop::bool::weighted(probability);
    let weights = prop::array::uniform12(prop::sample::select(&[0, 1, 3, 8][..]));
    (weights, seldom(0.2), seldom(0.5), seldom(0.2)).prop_map(
        |([auto, multi, require, add, remove, after, rest @ ..], afters, levels, cycles)| {
            let [rivals, two_levels, exclusive, chain, cycle, autos] = rest;
            let [after, two_levels, cycle] = [
                after * u32::from(afters),
                two_levels * u32::from(levels),
                cycle * u32::from(cycles),
            ];
            [
                auto.max(1),
                multi,
                require,
                add,
                remove,
                after,
                rivals,
                two_levels,
                exclusive,
                chain,
                cycle,
                autos,
            ]
        },
    )
}

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    // Counts around 64 and 128 cross the borders of a bitset's words.
    let count = prop_oneof![
        4 => 1..=5_usize,
        8 => 5..=10_usize,
        6 => 10..=30_usize,
        2 => 60..=75_usize,
        1 => 120..=140_usize,
    ];
    plans_of(count)
}

/// Plans of so many states.
pub(crate) fn plans_of(count: impl Strategy<Value = usize>) -> impl Strategy<Value = Plan> {
    let shape = (count, weights(), 0..=3_usize);
    shape.prop_flat_map(|(count, weights, density)| {
        let most = count * density + 1;
        let pieces = vec(piece(&weights, count), most / 2..=most);
        let acts = vec(act(count), 1..=60);
        let exception = prop_oneof![Just(None), (0..count).prop_map(Some)];
        let health = prop::bool::weighted(0.3);
        (pieces, acts, exception, health).prop_map(move |(pieces, acts, exception, health)| {
            let (states, schema) = schema(count, &pieces, exception, health);
            Plan {
                states,
                schema,
                acts,
            }
        })
    })
}

fn piece(weights: &Weights, count: usize) -> impl Strategy<Value = Piece> + use<> {
    let one = 0..count;
    let two = (0..count, 0..count);
    let run = (0..count, 2..=6_usize);
    let pieces = [
        one.clone().prop_map(Piece::Auto).boxed(),
        one.prop_map(Piece::Multi).boxed(),
        two.clone().prop_map(|(a, b)| Piece::Require(a, b)).boxed(),
        two.clone().prop_map(|(a, b)| Piece::Add(a, b)).boxed(),
        two.clone().prop_map(|(a, b)| Piece::Remove(a, b)).boxed(),
        two.clone().prop_map(|(a, b)| Piece::After(a, b)).boxed(),
        two.prop_map(|(a, b)| Piece::Rivals(a, b)).boxed(),
        (0..count, 0..count, 0..count)
            .prop_map(|(a, b, c)| Piece::TwoLevels(a, b, c))
            .boxed(),
        run.clone()
            .prop_map(|(a, n)| Piece::Exclusive(a, n))
            .boxed(),
        run.clone().prop_map(|(a, n)| Piece::Chain(a, n)).boxed(),
        run.clone().prop_map(|(a, n)| Piece::Cycle(a, n)).boxed(),
        run.prop_map(|(a, n)| Piece::Autos(a, n)).boxed(),
    ];
    let drawn = weights
        .iter()
        .copied()
        .zip(pieces)
        .filter(|(weight, _)| *weight > 0);
    proptest::strategy::Union::new_weighted(drawn.collect())
}

fn act(count: usize) -> impl Strategy<Value = Act> {
    let op = prop_oneof![
        12 => Just(Op::Add),
        4 => Just(Op::Remove),
        2 => Just(Op::Set),
        2 => Just(Op::Toggle),
    ];
    let called = prop_oneof![
        20 => vec(0..count, 1..=3),
        4 => vec(0..count, 0..=6),
        1 => vec(0..count, 0..=count.min(40)),
    ];
    let call = (op, called);
    prop_oneof![
        16 => call.clone().prop_map(|(op, called)| Act::Mutate(op, called)),
        3 => (call, any::<bool>()).prop_map(|((op, called), p)| Act::Enqueue(op, called, p)),
        1 => Just(Act::Run),
    ]
}

/// State 0 is `Exception`, unless that is to be declared elsewhere.
fn schema(
    count: usize,
    pieces: &[Piece],
    exception: Option<usize>,
    health: bool,
) -> (Vec<String>, RawSchema) {
    let mut states: Vec<String> = (0..count).map(|i| format!("S{i}")).collect();
    if health {
        for (name, place) in ["Healthcheck", "Heartbeat"].into_iter().zip(1..count) {
            name.clone_into(&mut states[place]);
        }
    }
    EXCEPTION.clone_into(&mut states[exception.unwrap_or(0)]);
    let mut raw = vec![RawState::default(); count];
    for piece in pieces {
        piece.add_to(&mut raw, &states);
    }
    let mut schema: RawSchema = states.iter().cloned().zip(raw).collect();
    if exception.is_none() {
        schema.remove(EXCEPTION);
    }
    (states, schema)
}

impl Piece {
    fn add_to(&self, raw: &mut [RawState], states: &[String]) {
        let count = raw.len();
        let row =
            |start: usize, len: usize| (start..start + len.min(count)).map(move |i| i % count);
        match *self {
            Self::Auto(a) => raw[a].auto = true,
            Self::Multi(a) => raw[a].multi = true,
            Self::Require(a, b) => require(&mut raw[a], &states[b]),
            Self::Add(a, b) => push(&mut raw[a].add, &states[b]),
            Self::Remove(a, b) => remove(&mut raw[a], &states[b]),
            Self::After(a, b) => push(&mut raw[a].after, &states[b]),
            Self::Rivals(a, b) => {
                remove(&mut raw[a], &states[b]);
                remove(&mut raw[b], &states[a]);
            }
            Self::TwoLevels(a, b, c) => {
                push(&mut raw[a].add, &states[b]);
                push(&mut raw[b].add, &states[c]);
            }
            Self::Exclusive(start, len) => {
                for a in row(start, len) {
                    row(start, len).for_each(|b| remove(&mut raw[a], &states[b]));
                }
            }
            Self::Chain(start, len) => {
                for (a, b) in row(start, len).zip(row(start, len).skip(1)) {
                    require(&mut raw[a], &states[b]);
                }
            }
            Self::Cycle(start, len) => {
                for (a, b) in row(start, len).zip(row(start, len).cycle().skip(1)) {
                    require(&mut raw[a], &states[b]);
                }
            }
            Self::Autos(start, len) => row(start, len).for_each(|a| raw[a].auto = true),
        }
    }
}

/// To require what one removes is an error.
fn require(state: &mut RawState, other: &str) {
    if !state.remove.iter().any(|name| name == other) {
        push(&mut state.require, other);
    }
}

fn remove(state: &mut RawState, other: &str) {
    if !state.require.iter().any(|name| name == other) {
        push(&mut state.remove, other);
    }
}

fn push(list: &mut Vec<String>, name: &str) {
    if !list.iter().any(|other| other == name) {
        list.push(name.to_owned());
    }
}
