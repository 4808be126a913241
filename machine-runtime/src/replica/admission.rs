//! Who may follow a source, and what followers may change.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::selection::Selection;

/// What a peer shows of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Credentials {
    /// The names in the certificate that it has proved to hold; none without one.
    pub names: Arc<[String]>,
    /// Its bearer token.
    pub token: Option<Token>,
    /// Where it is, for those who read logs.
    pub address: Option<IpAddr>,
}

impl Credentials {
    /// Those of a peer whose certificate has these names.
    pub fn of_certificate(names: Arc<[String]>) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    /// The same of a peer at this address.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The same of a peer that shows this token besides.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }
}

/// A secret that whoever bears it shows. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The token that reads so.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: to be sent or hashed, and nothing else.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What a follower that was admitted may do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// Whom it was given to, as the source's operator calls them.
    pub who: Arc<str>,
    /// What they may change.
    pub changes: Changes,
}

impl Grant {
    /// What `who` may do.
    pub fn new(who: impl Into<Arc<str>>, changes: Changes) -> Self {
        Self {
            who: who.into(),
            changes,
        }
    }
}

/// Which states somebody may call in mutations. What else relations change in consequence is not asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changes {
    /// None.
    Nothing,
    /// These.
    Only(Selection),
    /// All.
    Everything,
}

impl Changes {
    /// The first of these `states` that may not be called.
    pub fn first_forbidden(&self, states: impl IntoIterator<Item = usize>) -> Option<usize> {
        let mut states = states.into_iter();
        match self {
            Self::Nothing => states.next(),
            Self::Only(mask) => states.find(|state| !mask.contains(*state)),
            Self::Everything => None,
        }
    }
}

/// Why a peer is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// Nobody is known by what it shows, or it shows nothing.
    Unknown,
    /// Who it is known as may not follow.
    NotAllowed,
}

/// What a source did not let a peer do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Forbidden {
    /// To follow.
    Follow(Denied),
    /// To change anything.
    Changes,
    /// To call the state with this index.
    State(usize),
}

/// Where a follower has its token from: it is looked at whenever one is to be shown, so it can be another
/// while the follower runs.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<watch::Receiver<Option<Token>>>);

impl Bearer {
    /// The token that `tokens` holds.
    pub fn new(tokens: watch::Receiver<Option<Token>>) -> Self {
        Self(Some(tokens))
    }

    /// The token, if there is one now.
    pub fn token(&self) -> Option<Token> {
        self.0.as_ref().and_then(|tokens| tokens.borrow().clone())
    }
}

/// Two are the same that have their token from the same place.
impl PartialEq for Bearer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => ours.same_channel(theirs),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Bearer {}

/// Decides who may follow.
pub trait Admission: fmt::Debug + Send + Sync + 'static {
    /// What a peer that shows this may do.
    ///
    /// # Errors
    ///
    /// [`Denied`] says why it may not even follow.
    fn admit(&self, peer: &Credentials) -> Result<Grant, Denied>;

    /// Counts the changes of what [`Admission::admit`] says: a source asks it again for each of its followers
    /// after every change, and closes those that are denied now or may do something else.
    fn generation(&self) -> watch::Receiver<u64>;

    /// Is told what was not let a peer that shows this do; `who` it is, where it was admitted.
    fn forbade(&self, peer: &Credentials, who: Option<&str>, what: Forbidden) {
        let _ = (peer, who, what);
    }
}
