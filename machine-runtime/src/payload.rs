//! Payloads with a type: what a state takes, and its bytes.

use std::fmt;
use std::marker::PhantomData;

/// A state together with the type of its payload, as `#[payload(Type)]` declares it.
///
/// `states!` generates a function for each such state: for `#[payload(Plan)] Flight{flight}Inbound`
/// it is `Airport::inbound_payload(flight)`. So a payload of another type does not compile:
///
/// * [`Mutation::with`](crate::Mutation::with) attaches a value,
/// * `View::payload`, [`Machine::payload`](crate::Machine::payload) and
///   [`Ongoing::payload`](crate::Ongoing::payload) read one.
///
/// On the wire and in the digest a payload is compact JSON of at most
/// [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes: tools that do not know the type can show it.
pub struct PayloadOf<S, T> {
    state: S,
    value: PhantomData<fn(T) -> T>,
}

impl<S: Copy, T> PayloadOf<S, T> {
    /// Says that payloads of `state` are of type `T`. What `states!` generates says so already.
    pub const fn new(state: S) -> Self {
        Self {
            state,
            value: PhantomData,
        }
    }

    /// The state.
    pub fn state(self) -> S {
        self.state
    }
}

#[cfg(feature = "serde")]
impl<S: Copy, T: serde::Serialize> PayloadOf<S, T> {
    /// The bytes of a value.
    ///
    /// # Panics
    ///
    /// If `value` cannot be JSON, as a map whose keys are not texts.
    pub fn encode(self, value: &T) -> bytes::Bytes {
        let json = serde_json::to_vec(value);
        json.expect("a payload can be written as JSON").into()
    }
}

#[cfg(feature = "serde")]
impl<S: Copy, T: serde::de::DeserializeOwned> PayloadOf<S, T> {
    /// The value of bytes.
    ///
    /// # Errors
    ///
    /// If they are not JSON of the type: whoever sent them had another program, or wrote them by
    /// hand.
    pub fn decode(self, bytes: &[u8]) -> Result<T, InvalidPayload> {
        serde_json::from_slice(bytes).map_err(|error| InvalidPayload {
            why: error.to_string(),
        })
    }
}

/// Bytes that are no payload of the declared type.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a payload of the declared type: {why}")]
#[non_exhaustive]
pub struct InvalidPayload {
    /// What is wrong, and where.
    pub why: String,
}

impl<S: Copy, T> Clone for PayloadOf<S, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, T> Copy for PayloadOf<S, T> {}

impl<S: fmt::Debug, T> fmt::Debug for PayloadOf<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadOf({:?})", self.state)
    }
}
