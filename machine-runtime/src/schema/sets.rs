//! What the sets of a group's family are called, and the other way round.

use super::{Axis, Group, Schema};

impl Schema {
    /// What set `set` of a group's family is called: `Flight3Status` for `Status` in the loop over
    /// `flight`.
    pub fn set_name(&self, group: &Group, set: usize) -> String {
        let mut rest = set;
        let mut values = Vec::new();
        // The last loop variable counts fastest.
        for axis in group.axes().iter().rev() {
            let (first, last) = self.axes()[*axis].bounds();
            let len = last - first + 1;
            values.push(first + rest % len);
            rest /= len;
        }
        let mut name = String::new();
        for (axis, value) in group.axes().iter().zip(values.iter().rev()) {
            name.push_str(&self.axes()[*axis].word());
            name.push_str(&value.to_string());
        }
        name.push_str(group.name());
        name
    }

    /// The group called `name`, as a place in [`Schema::groups`]. Where that is the name of one set
    /// of its family, also the loop variables, as places in [`Schema::axes`], and their values.
    pub fn find_group(&self, name: &str) -> Option<(usize, Vec<(usize, usize)>)> {
        let groups = self.groups();
        if let Some(place) = groups.iter().position(|group| group.name() == name) {
            return Some((place, Vec::new()));
        }
        let mut sets = groups.iter().enumerate();
        sets.find_map(|(place, group)| Some((place, self.set_values(group, name)?)))
    }

    /// The loop variables and their values, if `name` is what a set of this group's family is called.
    fn set_values(&self, group: &Group, name: &str) -> Option<Vec<(usize, usize)>> {
        let mut rest = name.strip_suffix(group.name())?;
        let mut values = Vec::new();
        for place in group.axes() {
            let axis = &self.axes()[*place];
            rest = rest.strip_prefix(axis.word().as_str())?;
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let (first, last) = axis.bounds();
            let value = number
                .parse()
                .ok()
                .filter(|value| (first..=last).contains(value))?;
            if number.starts_with('0') && digits > 1 {
                return None;
            }
            values.push((*place, value));
            rest = after;
        }
        rest.is_empty().then_some(values)
    }
}

impl Axis {
    /// The variable as states and sets have it in their names: `boarding_gate` is `BoardingGate`.
    pub(crate) fn word(&self) -> String {
        let words = self.name.split('_').map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .into_iter()
                .flat_map(char::to_uppercase)
                .chain(letters)
        });
        words.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::state::States as _;
    use crate::{Basic, states};

    states! {
        counts = { flights = 3, gates = 2 };

        enum Flights: Basic {
            for flight in 1..=flights {
                exclusive Status { Flight{flight}OnTime, Flight{flight}Delayed }
                for boarding_gate in 1..=gates {
                    exclusive Door {
                        Flight{flight}BoardingGate{boarding_gate}Open,
                        Flight{flight}BoardingGate{boarding_gate}Shut,
                    }
                }
            }
        }
    }

    #[test]
    fn every_set_is_found_by_its_name() {
        let schema = Flights::schema();
        for (place, group) in schema.groups().iter().enumerate() {
            assert_eq!(schema.find_group(group.name()), Some((place, Vec::new())));
            for set in 0..group.family_len() {
                let name = schema.set_name(group, set);
                let (found, values) = schema.find_group(&name).unwrap();
                assert_eq!((found, values.len()), (place, group.axes().len()), "{name}");
                for state in group.members(set) {
                    for (axis, value) in &values {
                        let declared = schema.axes()[*axis].value(*state as usize);
                        assert_eq!(declared, Some(*value), "{name}");
                    }
                }
            }
        }
        let last = schema.set_name(&schema.groups()[1], 5);
        assert_eq!(last, "Flight3BoardingGate2Door");
        for wrong in ["Flight0Status", "Flight01Status", "Flight4Status", "Statu"] {
            assert_eq!(schema.find_group(wrong), None, "{wrong}");
        }
    }
}
