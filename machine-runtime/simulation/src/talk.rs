//! Follows what a follower and its parent say to each other, to change it.

use std::collections::BTreeMap;

use machine_runtime::Position;
use machine_runtime::replica::Selection;
use machine_runtime::replica::tamper::{Answer, Question, Said, Told, read_answer, read_request};

/// What was said on a stream so far.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    protocol: u16,
    /// The states that travel, if not all.
    pub(crate) selection: Option<Selection>,
    /// What has no answer yet, by its number.
    asked: BTreeMap<u64, Said>,
}

/// An answer, and what it answers.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) asked: Said,
    pub(crate) told: Told,
}

impl Talk {
    /// Reads what the follower says, if it is a question.
    pub(crate) fn asks(&mut self, frame: &[u8]) -> Option<(Question, Said)> {
        let mut question = read_request(frame)?;
        let said = question.said();
        if let Said::Hello { protocol, .. } = said {
            self.protocol = protocol;
        }
        self.asked.insert(question.id(), said.clone());
        Some((question, said))
    }

    /// Reads what the parent answers, of a schema of so many states.
    pub(crate) fn answers(&mut self, frame: &[u8], states: usize) -> Option<Answered> {
        let answer = read_answer(frame, self.protocol)?;
        let asked = self.asked.remove(&answer.id())?;
        if answer.is_welcome() {
            self.selection = answer.selection(states);
        }
        let base = position(&asked).map_or(0, |position| position.revision);
        let told = answer.told(base, states, self.selection.as_ref());
        Some(Answered {
            answer,
            asked,
            told,
        })
    }
}

/// Where the follower says that it is.
pub(crate) fn position(said: &Said) -> Option<Position> {
    match said {
        Said::Hello { position, .. } => *position,
        Said::Watch { after, .. } => Some(*after),
        Said::Write(_) | Said::Other => None,
    }
}
