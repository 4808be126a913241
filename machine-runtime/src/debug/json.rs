//! Frames as JSON, one a line, with states by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::codec::CodecError;
use super::frame::{Body, Frame, VERSION};

/// What holds one state.
const STATE: [&str; 3] = ["state", "by", "requires"];

/// What holds several.
const STATES: [&str; 4] = ["called", "left_out", "order", "states"];

/// What holds a number for each state.
const TICKS: &str = "ticks";

/// What is left as it is: there states are declared.
const SCHEMA: &str = "schema";

/// Writes, or reads, the lines of one stream, whose schemas it remembers.
#[derive(Debug, Default)]
pub struct JsonLines {
    schemas: BTreeMap<u128, Arc<Names>>,
    machines: BTreeMap<u32, Arc<Names>>,
}

/// The states of a schema.
#[derive(Debug, Default)]
struct Names {
    names: Vec<String>,
    indices: BTreeMap<String, u32>,
}

impl JsonLines {
    /// A stream of which nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame as a line, without its end. States of a machine that was not declared are numbers.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON.
    pub fn write(&mut self, frame: &Frame) -> Result<String, CodecError> {
        self.note(frame);
        let mut value = serde_json::to_value(frame).map_err(malformed)?;
        if let Some(names) = self.machines.get(&frame.machine) {
            name(&mut value, names);
        }
        Ok(value.to_string())
    }

    /// The frame of a line.
    ///
    /// # Errors
    ///
    /// If it is none, or of another version.
    pub fn read(&mut self, line: &str) -> Result<Frame, CodecError> {
        let mut value: Value = serde_json::from_str(line).map_err(malformed)?;
        let version = value.pointer("/body/Hello/version").and_then(Value::as_u64);
        if let Some(theirs) = version.filter(|theirs| *theirs != u64::from(VERSION)) {
            let theirs = u16::try_from(theirs).unwrap_or(u16::MAX);
            return Err(CodecError::Version { theirs });
        }
        let machine = value.get("machine").and_then(Value::as_u64);
        let machine = machine.and_then(|machine| u32::try_from(machine).ok());
        if let Some(names) = machine.and_then(|machine| self.machines.get(&machine)) {
            index(&mut value, names)?;
        }
        let frame = serde_json::from_value(value).map_err(malformed)?;
        self.note(&frame);
        Ok(frame)
    }

    fn note(&mut self, frame: &Frame) {
        match &frame.body {
            Body::Hello(_) => *self = Self::default(),
            Body::Machine(declared) => {
                if let Some(schema) = &declared.schema {
                    let names: Vec<_> = schema.states.iter().map(|s| s.name.clone()).collect();
                    let indices = names.iter().cloned().zip(0..).collect();
                    let names = Arc::new(Names { names, indices });
                    self.schemas.insert(declared.fingerprint, names);
                }
                if let Some(names) = self.schemas.get(&declared.fingerprint) {
                    self.machines.insert(frame.machine, Arc::clone(names));
                }
            }
            _ => {}
        }
    }
}

/// Puts names where indices are.
fn name(value: &mut Value, names: &Names) {
    let name_of = |value: &mut Value| {
        let known = value.as_u64().and_then(|i| usize::try_from(i).ok());
        if let Some(known) = known.and_then(|i| names.names.get(i)) {
            *value = Value::from(known.as_str());
        }
    };
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| name(value, names)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), &mut *value) {
                    (SCHEMA, _) => {}
                    (key, value) if STATE.contains(&key) => name_of(value),
                    (key, Value::Array(values)) if STATES.contains(&key) => {
                        values.iter_mut().for_each(name_of);
                    }
                    (TICKS, Value::Array(ticks)) if ticks.len() == names.names.len() => {
                        let ticks = names.names.iter().cloned().zip(std::mem::take(ticks));
                        let ticked = ticks.filter(|(_, tick)| tick.as_u64() != Some(0));
                        *value = Value::Object(ticked.collect::<Map<_, _>>());
                    }
                    (_, value) => name(value, names),
                }
            }
        }
        _ => {}
    }
}

/// Puts indices where names are.
fn index(value: &mut Value, names: &Names) -> Result<(), CodecError> {
    let index_of = |value: &mut Value| {
        if let Value::String(name) = value {
            let known = names.indices.get(name);
            let unknown = || malformed(format!("the machine has no state `{name}`"));
            *value = Value::from(*known.ok_or_else(unknown)?);
        }
        Ok(())
    };
    match value {
        Value::Array(values) => values.iter_mut().try_for_each(|value| index(value, names)),
        Value::Object(fields) => {
            fields
                .iter_mut()
                .try_for_each(|(key, value)| match (key.as_str(), &mut *value) {
                    (SCHEMA, _) => Ok(()),
                    (key, value) if STATE.contains(&key) => index_of(value),
                    (key, Value::Array(values)) if STATES.contains(&key) => {
                        values.iter_mut().try_for_each(index_of)
                    }
                    (TICKS, Value::Object(ticked)) => {
                        let mut ticks = vec![Value::from(0); names.names.len()];
                        for (name, tick) in std::mem::take(ticked) {
                            let known = names.indices.get(&name);
                            let unknown =
                                || malformed(format!("the machine has no state `{name}`"));
                            ticks[*known.ok_or_else(unknown)? as usize] = tick;
                        }
                        *value = Value::Array(ticks);
                        Ok(())
                    }
                    (_, value) => index(value, names),
                })
        }
        _ => Ok(()),
    }
}

fn malformed(why: impl Into<Box<dyn std::error::Error>>) -> CodecError {
    let why = why.into().to_string();
    CodecError::Malformed { why }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn frames_become_lines_and_lines_frames() {
        let (mut writer, mut reader) = (JsonLines::new(), JsonLines::new());
        for frame in samples::frames() {
            let line = writer.write(&frame).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(reader.read(&line).unwrap(), frame, "{line}");
        }
    }

    #[test]
    fn states_are_named_and_large_numbers_are_texts() {
        let mut writer = JsonLines::new();
        let lines: Vec<Value> = samples::frames()
            .iter()
            .map(|frame| serde_json::from_str(&writer.write(frame).unwrap()).unwrap())
            .collect();
        let key = &lines[2]["body"]["Key"];
        assert_eq!(
            key["ticks"],
            serde_json::json!({"Open": 1, "Shut": 200, "Locked": 3})
        );
        assert_eq!(key["order"], serde_json::json!(["Locked", "Open"]));
        let position = "0102030405060708090a0b0c0d0e0f10.300";
        assert_eq!(key["position"], position);
        let transition = &lines[4]["body"]["Transition"];
        assert_eq!(transition["called"], serde_json::json!(["Open", "Locked"]));
        assert_eq!(transition["canceled"]["Refused"]["state"], "Open");
        assert_eq!(transition["trace"]["trace"], "f".repeat(32));
        assert_eq!(
            lines[3]["body"]["Transition"]["canceled"]["Blocked"]["by"],
            "Open"
        );
    }

    #[test]
    fn what_a_line_lacks_is_said() {
        let mut writer = JsonLines::new();
        let lines: Vec<_> = samples::frames()
            .iter()
            .map(|frame| writer.write(frame).unwrap())
            .collect();
        let mut reader = JsonLines::new();
        let other = lines[0].replace("\"version\":1", "\"version\":7");
        let error = reader.read(&other).unwrap_err();
        assert_eq!(error, CodecError::Version { theirs: 7 });
        reader.read(&lines[1]).unwrap();
        let other = lines[3].replace("\"Locked\"", "\"Looked\"");
        let error = reader.read(&other).unwrap_err().to_string();
        assert!(error.contains("no state `Looked`"), "{error}");
        assert!(reader.read(&lines[3][1..]).is_err());
    }
}
