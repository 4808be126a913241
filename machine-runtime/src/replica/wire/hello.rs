//! The bodies of `hello` and of its answer, by version.

use serde::{Deserialize, Serialize};

use super::{Blob, Malformed, News};
use crate::position::Position;
use crate::replica::admission::Token;

/// The longest token that is read.
const TOKEN: usize = 1024;

/// What a follower says of itself and wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::replica) struct Hello {
    /// The follower's schema.
    pub(in crate::replica) fingerprint: u128,
    /// The follower's name.
    pub(in crate::replica) node: String,
    /// Where to go on from.
    pub(in crate::replica) position: Option<Position>,
    /// The rest, of which version 1 knows nothing.
    pub(in crate::replica) wishes: Wishes,
    /// Its token, which stands behind all else where there is one. From version 2 on.
    #[serde(skip)]
    pub(in crate::replica) token: Option<Token>,
}

/// What a follower can wish for from version 2 on. By default what one of version 1 gets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in crate::replica) struct Wishes {
    /// The states that it wants, if not all, as bits.
    pub(in crate::replica) selection: Option<Blob>,
    /// The hash of the selection that it has, if that is not all.
    pub(in crate::replica) has: Option<u64>,
    /// The least time between two deltas, in milliseconds.
    pub(in crate::replica) push_interval_ms: u32,
    /// How long the parent may be silent, in milliseconds.
    pub(in crate::replica) heartbeat_ms: u32,
    /// Whether it wants each delta.
    pub(in crate::replica) every: bool,
    /// Whether it reads what is compressed.
    pub(in crate::replica) compress: bool,
}

/// What a parent gives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::replica) struct Welcome {
    /// The parent's name.
    pub(in crate::replica) node: String,
    /// How many links the parent is from the root.
    pub(in crate::replica) tier: u32,
    /// What came after the follower's position.
    pub(in crate::replica) news: News,
    /// The rest, which is not in version 1.
    pub(in crate::replica) terms: Terms,
}

/// What holds on a link from version 2 on. By default what holds in version 1.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in crate::replica) struct Terms {
    /// The states that travel, if not all, as bits.
    pub(in crate::replica) selection: Option<Blob>,
    /// The least time between two deltas, in milliseconds.
    pub(in crate::replica) push_interval_ms: u32,
}

/// The body of `hello` in version 1: without wishes.
type Hello1 = (u128, String, Option<Position>);

/// That of its answer.
type Welcome1 = (String, u32, News);

impl Hello {
    /// The body in a version that is spoken.
    pub(in crate::replica) fn encode(&self, protocol: u16) -> Vec<u8> {
        if protocol == 1 {
            encode(&(self.fingerprint, &self.node, self.position))
        } else {
            let mut body = encode(self);
            if let Some(token) = &self.token {
                body.extend(encode(&Some(token.secret())));
            }
            body
        }
    }

    /// Reads the body of a version that is spoken.
    pub(in crate::replica) fn decode(body: &[u8], protocol: u16) -> Result<Self, Malformed> {
        if protocol == 1 {
            let ((fingerprint, node, position), _): (Hello1, _) = decode(body, "hello")?;
            let wishes = Wishes::default();
            return Ok(Self {
                fingerprint,
                node,
                position,
                wishes,
                token: None,
            });
        }
        let (mut hello, behind): (Self, _) = decode(body, "hello")?;
        if !behind.is_empty() {
            let (token, _later): (Option<&str>, _) = decode(behind, "token")?;
            if token.is_some_and(|token| token.len() > TOKEN) {
                return Err(Malformed("token"));
            }
            hello.token = token.map(Token::new);
        }
        Ok(hello)
    }
}

impl Welcome {
    /// The body in a version that is spoken.
    pub(in crate::replica) fn encode(&self, protocol: u16) -> Vec<u8> {
        if protocol == 1 {
            encode(&(&self.node, self.tier, &self.news))
        } else {
            encode(self)
        }
    }

    /// Reads the body of a version that is spoken.
    pub(in crate::replica) fn decode(body: &[u8], protocol: u16) -> Result<Self, Malformed> {
        if protocol == 1 {
            let ((node, tier, news), _): (Welcome1, _) = decode(body, "welcome")?;
            let terms = Terms::default();
            return Ok(Self {
                node,
                tier,
                news,
                terms,
            });
        }
        let (welcome, _later) = decode(body, "welcome")?;
        Ok(welcome)
    }
}

fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    postcard::to_stdvec(body).expect("numbers and bytes can always be encoded")
}

/// What is read, and what stands behind it: that of a later release is left.
fn decode<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    what: &'static str,
) -> Result<(T, &'a [u8]), Malformed> {
    postcard::take_from_bytes(body).map_err(|_malformed| Malformed(what))
}
