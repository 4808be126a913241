//! What a client asks to be changed: the body of `POST /v1/mutations`.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use machine_runtime::{DynState, Epoch, Key, Mutation, Op, Schema, WriteOptions};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::problem::Problem;
use super::similar::similar;

/// What there is to do.
const OPS: [Op; 4] = [Op::Add, Op::Remove, Op::Set, Op::Toggle];

/// The fields that a body can have.
const FIELDS: [&str; 6] = ["op", "states", "payload", "payloads", "key", "epoch"];

/// A mutation that a client asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) mutation: Mutation<DynState>,
    pub(super) options: WriteOptions,
}

impl Ask {
    /// Reads a body.
    pub(super) fn parse(body: &[u8], schema: &Schema) -> Result<Self, Problem> {
        let fields: Fields = serde_json::from_slice(body)
            .map_err(|error| Problem::bad_body(format!("the body is no JSON object: {error}")))?;
        let fields = fields.once()?;
        if let Some((name, _)) = fields.iter().find(|(name, _)| !FIELDS.contains(&&**name)) {
            return Err(Problem::unknown_field(name, &FIELDS));
        }
        // A field that is null is one that is not there.
        let field = |wanted: &str| {
            let given = fields.iter().find(|(name, _)| name == wanted);
            given
                .map(|(_, value)| value.get())
                .filter(|value| *value != "null")
        };
        let called = called(field("states"), schema)?;
        let mut mutation = Mutation::new(op(field("op"))?, called.clone());
        if let Some(payloads) = field("payloads") {
            let message = "`payloads` is an object of states and what each is given";
            for (name, payload) in read::<Fields>(payloads, message)?.once()? {
                mutation = mutation.with_payload(state(&name, schema)?, bytes(&payload));
            }
        }
        if let Some(payload) = field("payload") {
            let taker = taker(&called, schema)?;
            if mutation.payloads().iter().any(|(state, _)| *state == taker) {
                let message = "`payload` and `payloads` are for the same state";
                return Err(Problem::bad_body(message));
            }
            mutation = mutation.with_payload(taker, payload.to_owned());
        }
        let mut options = WriteOptions::new();
        if let Some(text) = field("key") {
            let message = "`key` is a string of 1 to 64 bytes";
            let key = Key::new(read::<String>(text, message)?);
            options = options.with_key(key.map_err(|_invalid| Problem::bad_value(message))?);
        }
        if let Some(text) = field("epoch") {
            options = options.with_epoch(epoch(text)?);
        }
        Ok(Self { mutation, options })
    }
}

fn op(field: Option<&str>) -> Result<Op, Problem> {
    let message = "`op` is one of add, remove, set and toggle";
    let wrong = || Problem::bad_value(message).allowing(OPS.map(Op::name));
    let name: String = read(field.ok_or_else(wrong)?, message).map_err(|_no_text| wrong())?;
    let op = OPS.into_iter().find(|op| op.name() == name);
    op.ok_or_else(wrong)
}

fn called(field: Option<&str>, schema: &Schema) -> Result<Vec<DynState>, Problem> {
    let message = "`states` is a list of the names of states";
    let names = field.ok_or_else(|| Problem::bad_value(message))?;
    let names: Vec<String> = read(names, message)?;
    names.iter().map(|name| state(name, schema)).collect()
}

fn state(name: &str, schema: &Schema) -> Result<DynState, Problem> {
    let index = schema
        .find(name)
        .and_then(|index| u32::try_from(index).ok());
    index.map(DynState).ok_or_else(|| {
        let names = (0..schema.len()).map(|i| schema.name_of(i));
        Problem::unknown_called(name, similar(name, names))
    })
}

/// The only called state that takes a payload.
fn taker(called: &[DynState], schema: &Schema) -> Result<DynState, Problem> {
    let mut takers: Vec<DynState> = Vec::new();
    for state in called {
        if schema.takes_payload(state.0 as usize) && !takers.contains(state) {
            takers.push(*state);
        }
    }
    match takers[..] {
        [taker] => Ok(taker),
        [] => Err(Problem::bad_value(
            "`payload` is for the called state that takes one, and none does",
        )),
        [..] => {
            let message = "`payload` is for the only called state that takes one, and several do: \
                           say it in `payloads`";
            let names = takers.iter().map(|state| schema.name_of(state.0 as usize));
            Err(Problem::bad_value(message).allowing(names))
        }
    }
}

fn epoch(text: &str) -> Result<Epoch, Problem> {
    let message = "`epoch` is 32 hexadecimal digits, as in front of a position's dot";
    let text: String = read(text, message)?;
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let epoch = u128::from_str_radix(&text, 16).ok().filter(|_| digits);
    epoch.map(Epoch).ok_or_else(|| Problem::bad_value(message))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str, message: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|_other| Problem::bad_value(message))
}

/// A payload is kept as it was written: numbers stay as long as they are.
fn bytes(payload: &RawValue) -> Bytes {
    payload.get().to_owned().into()
}

/// The fields of an object, as they were written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// The fields, none of which is there twice.
    fn once(self) -> Result<Vec<(String, Box<RawValue>)>, Problem> {
        let mut names = BTreeSet::new();
        match self.0.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(Problem::given_twice(name)),
            None => Ok(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
