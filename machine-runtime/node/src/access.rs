//! Who may do what on a node.
//!
//! Whoever comes shows a [`Token`](machine_runtime::replica::Token), the names of a certificate, or nothing.
//! [`Access::who`] says which [`Client`] that is: what they may do is a small set of [`Role`]s, and for
//! [`Role::Mutate`] a mask of states. A file says all of it; when that changes, [`Access::reload`] has it hold
//! for everybody at once, those included who are there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use machine_runtime::Schema;
use machine_runtime::replica::{Admission, Changes, Credentials, Denied, Forbidden, Grant};
use subtle::ConditionallySelectable as _;
use tokio::sync::watch;

mod denials;
mod file;
mod role;
pub mod token;

pub use self::denials::{Denial, Denials, Why};
use self::file::Book;
pub use self::file::WrongAccess;
pub use self::role::{Role, Roles};
use self::token::Fingerprint;
use crate::files::{Reloads, Watch};
use crate::shutdown::Tasks;

/// What those are called who show nothing that is known.
pub const ANONYMOUS: &str = "anonymous";

/// Somebody who is known, or all who are not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    name: Arc<str>,
    roles: Roles,
    changes: Changes,
    is_anonymous: bool,
}

impl Client {
    /// What logs and counters call them.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What they may do.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Which states they may call.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether they are nobody in particular: they may be more once they show who they are.
    pub fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// Somebody who may do everything.
    fn admin(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            roles: Roles::ALL,
            changes: Changes::Everything,
            is_anonymous: false,
        })
    }
}

/// Who may do what. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Access {
    rules: Arc<Rules>,
    denials: Denials,
}

struct Rules {
    by: By,
    book: ArcSwap<Book>,
    /// Counts the changes of the book, which has the same number.
    generation: watch::Sender<u64>,
}

/// What decides.
enum By {
    /// Nothing: everybody may do everything.
    Nobody,
    /// Whoever has a certificate may do everything, and nobody else anything.
    Certificates,
    /// The file at this path, of states of this schema.
    File(PathBuf, Arc<Schema>),
}

impl Access {
    /// Everybody may do everything.
    pub fn open() -> Self {
        Self::by(By::Nobody, Book::default())
    }

    /// Whoever has a certificate may do everything, and nobody else anything.
    pub fn by_certificates() -> Self {
        Self::by(By::Certificates, Book::default())
    }

    /// As the file at `path` says, which is of states of this schema.
    ///
    /// # Errors
    ///
    /// [`WrongAccess`] says what in it is wrong, and what would be right.
    pub fn load(path: impl Into<PathBuf>, schema: &Arc<Schema>) -> Result<Self, WrongAccess> {
        let path = path.into();
        let book = file::read(&path, schema)?;
        Ok(Self::by(By::File(path, Arc::clone(schema)), book))
    }

    /// As [`Access::load`], and whenever the file changes as it says then, until `tasks` are stopped.
    ///
    /// # Errors
    ///
    /// As [`Access::load`].
    pub fn watch(
        path: impl Into<PathBuf>,
        schema: &Arc<Schema>,
        tasks: &Tasks,
    ) -> Result<(Self, Reloads), WrongAccess> {
        let path = path.into();
        let watch = Watch::new("access", vec![path.clone()]);
        let access = Self::load(path, schema)?;
        let again = access.clone();
        let reloads = watch.run_on(tasks, move || Ok(again.reload()?));
        Ok((access, reloads))
    }

    fn by(by: By, book: Book) -> Self {
        let rules = Rules {
            by,
            book: ArcSwap::from_pointee(book),
            generation: watch::Sender::new(0),
        };
        Self {
            rules: Arc::new(rules),
            denials: Denials::default(),
        }
    }

    /// The same for the node of this name, with counts of its own.
    #[must_use]
    pub fn of_node(&self, name: &str) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            denials: Denials::of(name),
        }
    }

    /// The file that says so, if one does.
    pub fn path(&self) -> Option<&Path> {
        match &self.rules.by {
            By::File(path, _) => Some(path),
            _ => None,
        }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        matches!(self.rules.by, By::Nobody)
    }

    /// Reads the file again and has it hold from now on.
    ///
    /// # Errors
    ///
    /// As [`Access::load`]; then all stays as it was.
    pub fn reload(&self) -> Result<(), WrongAccess> {
        if let By::File(path, schema) = &self.rules.by {
            let book = file::read(path, schema)?;
            self.replace(book);
        }
        Ok(())
    }

    fn replace(&self, mut book: Book) {
        self.rules.generation.send_modify(|generation| {
            *generation += 1;
            book.generation = *generation;
            // Before anybody hears of it.
            self.rules.book.store(Arc::new(book));
        });
    }

    /// Who shows this; None if they are not known and nothing is for everybody.
    pub fn who(&self, shown: &Credentials) -> Option<Arc<Client>> {
        match &self.rules.by {
            By::Nobody => Some(Client::admin("everybody")),
            By::Certificates => shown.names.first().map(|name| Client::admin(name)),
            By::File(..) => self.rules.book.load().who(shown),
        }
    }

    /// Counts the changes of what [`Access::who`] says.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.rules.generation.subscribe()
    }

    /// How many changes there have been.
    pub fn generation(&self) -> u64 {
        self.rules.book.load().generation
    }

    /// What was denied.
    pub fn denials(&self) -> &Denials {
        &self.denials
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::open()
    }
}

impl Book {
    /// A token counts more than a certificate, which may be that of a whole host.
    fn who(&self, shown: &Credentials) -> Option<Arc<Client>> {
        let fingerprint = shown.token.as_ref().and_then(Fingerprint::of);
        let by_token = fingerprint.and_then(|fingerprint| self.by_token(&fingerprint));
        let by_name = || {
            let mut names = shown.names.iter();
            names.find_map(|name| self.certificates.get(&name.to_ascii_lowercase()))
        };
        let found = by_token.or_else(by_name).or(self.anonymous.as_ref());
        found.cloned()
    }

    /// Compares with all of them, whether one has been found or not.
    fn by_token(&self, fingerprint: &Fingerprint) -> Option<&Arc<Client>> {
        let mut place = u64::MAX;
        for (i, (known, _)) in (0..).zip(&self.tokens) {
            place.conditional_assign(&i, known.matches(fingerprint));
        }
        let place = usize::try_from(place).ok()?;
        self.tokens.get(place).map(|(_, client)| client)
    }
}

impl Admission for Access {
    fn admit(&self, peer: &Credentials) -> Result<Grant, Denied> {
        let client = self.who(peer).ok_or(Denied::Unknown)?;
        if client.roles.contains(Role::Follow) {
            return Ok(Grant::new(Arc::clone(&client.name), client.changes.clone()));
        }
        Err(if client.is_anonymous {
            Denied::Unknown
        } else {
            Denied::NotAllowed
        })
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.changes()
    }

    fn forbade(&self, peer: &Credentials, who: Option<&str>, what: Forbidden) {
        let (role, why) = match what {
            Forbidden::Follow(Denied::NotAllowed) => (Role::Follow, Why::NotAllowed),
            Forbidden::State(_) => (Role::Mutate, Why::State),
            Forbidden::Changes => (Role::Mutate, Why::NotAllowed),
            _ => (Role::Follow, Why::Unknown),
        };
        // Who may not follow is known all the same.
        let known = self.who(peer).filter(|client| !client.is_anonymous);
        let known = known.as_ref().map(|client| &*client.name);
        self.denials.add(&Denial {
            what: role,
            why,
            who: who.or(known),
            address: peer.address,
            place: "link",
        });
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by: &dyn fmt::Debug = match &self.rules.by {
            By::Nobody => &"nobody",
            By::Certificates => &"certificates",
            By::File(path, _) => path,
        };
        f.debug_struct("Access")
            .field("by", by)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
