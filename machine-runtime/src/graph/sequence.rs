//! What happened in one transition, as messages between those who took part.

use std::time::Duration;

use super::outline::Text;
use super::{Format, MAX_PICTURE, NoPicture, d2, dot, mermaid, svg};
use crate::schema::Relation;

/// The longest text of a message that is shown whole, in letters.
const LONGEST: usize = 160;

/// One transition, in words. Who has it from where fills it in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sequence {
    /// What it is, in a line.
    pub title: String,
    /// Who asked for it.
    pub caller: String,
    /// The machine.
    pub machine: String,
    /// What was asked for: `add Flight1Delayed`.
    pub called: String,
    /// What the relations made of it, in order.
    pub steps: Vec<Step>,
    /// The handlers that ran, in order.
    pub handlers: Vec<Ran>,
    /// The states that ticked.
    pub changes: Vec<Changed>,
    /// What came of it.
    pub outcome: String,
    /// Whether it was canceled.
    pub canceled: bool,
}

/// One step of relations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The relation that was at work, if one was.
    pub relation: Option<Relation>,
    /// What it did: `Flight1Delayed removes Flight1OnTime`.
    pub text: String,
    /// Whether the transition was canceled here.
    pub refused: bool,
}

/// A handler that ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ran {
    /// Which: `enter of Flight1Gate2`.
    pub name: String,
    /// How long it took, where that was measured.
    pub took: Option<Duration>,
    /// Why it refused, if it did.
    pub refused: Option<String>,
}

/// A state that ticked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// Its name.
    pub state: String,
    /// Its tick afterwards.
    pub tick: u64,
}

/// A message from one participant to another, or to itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// How a message is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Call,
    Answer,
    Refusal,
}

impl Kind {
    pub(super) fn mermaid(self) -> &'static str {
        match self {
            Self::Call => "->>",
            Self::Answer => "-->>",
            Self::Refusal => "--x",
        }
    }
}

const CALLER: usize = 0;
const MACHINE: usize = 1;
const RELATIONS: usize = 2;
const HANDLERS: usize = 3;
const STATES: usize = 4;

impl Sequence {
    /// It in the given format.
    ///
    /// # Errors
    ///
    /// [`NoPicture`], for [`Format::Svg`] only.
    pub fn to(&self, format: Format) -> Result<String, NoPicture> {
        match format {
            Format::Mermaid => Ok(mermaid::sequence(self)),
            Format::Dot => Ok(dot::sequence(self)),
            Format::D2 => Ok(d2::sequence(self)),
            Format::Svg => Ok(svg::sequence(self)),
        }
    }

    /// Writes who takes part and what they say to each other, a line each.
    pub(super) fn write(
        &self,
        text: &mut Text,
        participant: impl Fn(usize, &str) -> String,
        message: impl Fn(&Message) -> String,
    ) {
        for (place, name) in self.participants().iter().enumerate() {
            text.line(participant(place, name));
        }
        for said in &self.messages() {
            text.line(message(said));
        }
    }

    /// Who takes part, in order.
    pub(super) fn participants(&self) -> [String; 5] {
        let or = |name: &str, other: &str| {
            let name = if name.trim().is_empty() { other } else { name };
            shortened(name)
        };
        [
            or(&self.caller, "caller"),
            or(&self.machine, "machine"),
            "relations".to_owned(),
            "handlers".to_owned(),
            "states".to_owned(),
        ]
    }

    /// What they say to each other. Of very many of a kind the first ones.
    pub(super) fn messages(&self) -> Vec<Message> {
        // Three kinds share what a picture has room for.
        let most = MAX_PICTURE / 4;
        let mut messages = Vec::new();
        let mut say = |from, to, text: &str, kind| {
            let text = match text.trim() {
                "" => "—".to_owned(),
                text => shortened(text),
            };
            messages.push(Message {
                from,
                to,
                text,
                kind,
            });
        };
        say(CALLER, MACHINE, &self.called, Kind::Call);
        for step in self.steps.iter().take(most) {
            let text = match step.relation {
                Some(relation) => format!("{relation}: {}", step.text),
                None => step.text.clone(),
            };
            if step.refused {
                say(RELATIONS, MACHINE, &text, Kind::Refusal);
            } else {
                say(MACHINE, RELATIONS, &text, Kind::Call);
            }
        }
        if let Some(more) = left(self.steps.len(), most) {
            say(MACHINE, RELATIONS, &more, Kind::Call);
        }
        for ran in self.handlers.iter().take(most) {
            let took = ran.took.map(|took| format!(" ({took:.1?})"));
            let text = format!("{}{}", ran.name, took.unwrap_or_default());
            say(MACHINE, HANDLERS, &text, Kind::Call);
            if let Some(why) = &ran.refused {
                say(HANDLERS, MACHINE, why, Kind::Refusal);
            }
        }
        if let Some(more) = left(self.handlers.len(), most) {
            say(MACHINE, HANDLERS, &more, Kind::Call);
        }
        for Changed { state, tick } in self.changes.iter().take(most) {
            let active = if tick % 2 == 1 { "active" } else { "inactive" };
            let text = format!("{state} {active}, tick {tick}");
            say(MACHINE, STATES, &text, Kind::Call);
        }
        if let Some(more) = left(self.changes.len(), most) {
            say(MACHINE, STATES, &more, Kind::Call);
        }
        let kind = if self.canceled {
            Kind::Refusal
        } else {
            Kind::Answer
        };
        say(MACHINE, CALLER, &self.outcome, kind);
        messages
    }
}

fn left(all: usize, most: usize) -> Option<String> {
    let more = all.checked_sub(most).filter(|more| *more > 0)?;
    Some(format!("… and {more} more"))
}

fn shortened(text: &str) -> String {
    if text.chars().nth(LONGEST).is_none() {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
