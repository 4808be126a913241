//! Text in entries.

use std::cell::Cell;

use crate::handlers::Phase;
use crate::mutation::Reason;
use crate::schema::Schema;

use super::chunk::{Chunk, has, set, states_of};
use super::flags::Flags;

/// All words of a text, each with what it can be found in.
#[derive(Debug)]
pub(super) struct Search {
    words: Vec<Word>,
}

#[derive(Debug)]
struct Word {
    /// In lower case.
    text: String,
    /// The states whose names hold it.
    states: Vec<u64>,
    /// The phases and codes that hold it: a bit for each.
    phases: u16,
    codes: u16,
}

impl Search {
    /// What is to be found, unless `text` is empty.
    pub(super) fn new(schema: &Schema, text: &str) -> Option<Self> {
        let words: Vec<Word> = text
            .split_whitespace()
            .map(|word| Word::new(schema, word))
            .collect();
        (!words.is_empty()).then_some(Self { words })
    }

    /// Whether an entry of the chunk can have all of it.
    pub(super) fn may_be_in(&self, chunk: &Chunk) -> bool {
        self.words.iter().all(|word| word.may_be_in(chunk))
    }

    /// Whether an entry has all of it.
    pub(super) fn is_in(&self, chunk: &Chunk, place: usize) -> bool {
        self.words.iter().all(|word| word.is_in(chunk, place))
    }
}

impl Word {
    fn new(schema: &Schema, word: &str) -> Self {
        let text = word.to_lowercase();
        let mut states = vec![0; schema.len().div_ceil(64)];
        for (state, name) in (0..).zip(schema.names()) {
            if contains(name, &text) {
                set(&mut states, state);
            }
        }
        let bits = |names: &mut dyn Iterator<Item = &'static str>| {
            let mut bits = 0_u16;
            for (bit, name) in names.enumerate() {
                bits |= u16::from(name.contains(&text)) << bit;
            }
            bits
        };
        Self {
            states,
            phases: bits(&mut Phase::ALL.iter().map(|phase| phase.name())),
            codes: bits(&mut Reason::<u32>::CODES.into_iter()),
            text,
        }
    }

    fn may_be_in(&self, chunk: &Chunk) -> bool {
        chunk.any.contains(Flags::TEXT)
            || chunk.phases & self.phases != 0
            || chunk.codes & self.codes != 0
            || chunk.mentions(&self.states)
    }

    fn is_in(&self, chunk: &Chunk, place: usize) -> bool {
        let found = Cell::new(false);
        let look = |state: u32| {
            if has(&self.states, state) {
                found.set(true);
            }
        };
        chunk.scan(place, look, |state, _| look(state));
        if found.get() {
            return true;
        }
        let raw = chunk.raw_tail(place);
        if raw.is_empty() {
            return false;
        }
        let in_text = chunk.flags(place).contains(Flags::TEXT) && may_contain(raw, &self.text);
        let in_rest = chunk.mentions(&self.states)
            || chunk.phases & self.phases != 0
            || chunk.codes & self.codes != 0;
        (in_text || in_rest) && self.is_in_tail(chunk, place)
    }

    fn is_in_tail(&self, chunk: &Chunk, place: usize) -> bool {
        let tail = chunk.tail(place);
        let state = |state: u32| has(&self.states, state);
        let runs = tail
            .handlers
            .iter()
            .any(|run| self.phases >> run.phase as u16 & 1 == 1 || run.state.is_some_and(state));
        let payloads = tail.payloads.iter().any(|payload| {
            let mut texts = payload.text.iter();
            state(payload.state) || texts.any(|text| contains(text, &self.text))
        });
        let left_out = tail.left_out.iter().any(|left_out| state(*left_out));
        runs || payloads
            || left_out
            || tail
                .canceled
                .is_some_and(|reason| self.is_in_reason(&reason))
    }

    fn is_in_reason(&self, reason: &Reason<u32>) -> bool {
        let mut found = self.codes >> reason.place() & 1 == 1;
        states_of(reason, |state| found |= has(&self.states, state));
        if let Reason::Refused(refusal) = reason {
            found |= self.phases >> refusal.phase as u16 & 1 == 1;
            found |= refusal.why.iter().any(|why| contains(why, &self.text));
        }
        if let Reason::Panicked { phase, .. } | Reason::TimedOut { phase, .. } = reason {
            found |= self.phases >> *phase as u16 & 1 == 1;
        }
        found
    }
}

/// Whether bytes that hold texts among others can hold `needle`, which is in lower case.
fn may_contain(bytes: &[u8], needle: &str) -> bool {
    !needle.is_ascii() || contains_ascii(bytes, needle.as_bytes())
}

/// Whether `text` holds `needle`, which is in lower case.
pub(super) fn contains(text: &str, needle: &str) -> bool {
    if needle.is_ascii() {
        return contains_ascii(text.as_bytes(), needle.as_bytes());
    }
    text.to_lowercase().contains(needle)
}

fn contains_ascii(bytes: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return true;
    };
    let upper = first.to_ascii_uppercase();
    let last = bytes.len().saturating_sub(rest.len());
    bytes[..last].iter().enumerate().any(|(i, byte)| {
        (byte == first || *byte == upper)
            && bytes[i + 1..i + 1 + rest.len()].eq_ignore_ascii_case(rest)
    })
}
