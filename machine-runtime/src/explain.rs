//! Why a state is or is not active.

use std::fmt;

use crate::relations::WordMask;
use crate::schema::Schema;
use crate::set::StateSet;
use crate::state::State;

/// What the relations say of one state, given the active ones.
///
/// It needs no history, so it can be had on a replica as well.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Explanation<S> {
    /// The state.
    pub state: S,
    /// Its name.
    pub name: String,
    /// How often it changed; odd means active.
    pub tick: u64,
    /// Active states that remove it: while inactive it is blocked by them.
    pub blocked_by: Vec<S>,
    /// What it requires and is not active.
    pub missing: Vec<S>,
    /// Active states that require it and would go with it.
    pub required_by: Vec<S>,
    /// What adds it, active or not (rule R6): calling one of those can bring it along.
    pub added_by: Vec<S>,
    /// Whether the machine activates it by itself once it can (rule R19).
    pub auto: bool,
}

impl<S: State> Explanation<S> {
    pub(crate) fn new(schema: &Schema, active: &StateSet<S>, state: S, tick: u64) -> Self {
        let c = schema.compiled();
        let index = crate::schema::as_index(state.index());
        let pick = |masks: &[WordMask], want: bool| -> Vec<S> {
            let mut found = Vec::new();
            for entry in masks {
                crate::active::each(*entry, entry.mask, |other| {
                    let other = S::from_index(other as usize);
                    found.extend(other.filter(|other| active.contains(*other) == want));
                });
            }
            found
        };
        let adds = |other: &usize| c.add(crate::schema::as_index(*other)).contains(&index);
        let adders = (0..schema.len()).filter(adds);
        let dependents = c
            .required_by(index)
            .iter()
            .filter_map(|i| S::from_index(*i as usize));
        Self {
            state,
            name: schema.name_of(state.index()).to_owned(),
            tick,
            blocked_by: pick(c.removed_by(index), true),
            missing: pick(c.require(index), false),
            required_by: dependents.filter(|other| active.contains(*other)).collect(),
            added_by: adders.filter_map(S::from_index).collect(),
            auto: c.is_auto(index),
        }
    }

    /// Whether the state is active.
    pub fn is_active(&self) -> bool {
        self.tick % 2 == 1
    }
}

impl<S: fmt::Debug> fmt::Display for Explanation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let activity = if self.tick % 2 == 1 {
            "active"
        } else {
            "inactive"
        };
        write!(f, "{} is {activity} (tick {})", self.name, self.tick)?;
        let mut list = |intro: &str, states: &[S]| {
            if states.is_empty() {
                return Ok(());
            }
            f.write_str(intro)?;
            for (i, state) in states.iter().enumerate() {
                write!(f, "{}{state:?}", if i == 0 { " " } else { ", " })?;
            }
            Ok(())
        };
        if self.tick % 2 == 1 {
            return list("; required by", &self.required_by);
        }
        list("; blocked by", &self.blocked_by)?;
        list("; requires the inactive", &self.missing)?;
        match (
            self.blocked_by.is_empty() && self.missing.is_empty(),
            self.tick,
            self.auto,
        ) {
            (false, ..) => Ok(()),
            (true, _, true) => f.write_str("; nothing hinders it, the next change tries it"),
            (true, 0, false) => f.write_str("; nothing hinders it, nothing has called it yet"),
            (true, ..) => f.write_str("; nothing hinders it, it ended and was not called again"),
        }
    }
}
