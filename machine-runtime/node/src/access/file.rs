//! The file that says who may do what.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine_runtime::Schema;
use machine_runtime::replica::{Changes, Selection};
use serde::Deserialize;
use toml::Spanned;

use super::token::{self, Fingerprint};
use super::{ANONYMOUS, Client, Role, Roles};
use crate::http::similar;

/// The longest name of a client.
const NAME: usize = 64;

/// Others may write to it.
const OTHERS_WRITE: u32 = 0o002;

/// Why a file does not say who may do what.
#[derive(Debug, thiserror::Error)]
pub enum WrongAccess {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Whoever is on this computer could let themselves in.
    #[error("{} can be written by everybody on this computer: chmod o-w {}", path.display(), path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
        /// What is wrong, and what would be right. No secret is in it.
        why: String,
    },
}

/// Everybody who is known.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// How many there have been before.
    pub(super) generation: u64,
    pub(super) anonymous: Option<Arc<Client>>,
    pub(super) tokens: Vec<(Fingerprint, Arc<Client>)>,
    /// By name, in lower case.
    pub(super) certificates: BTreeMap<String, Arc<Client>>,
}

/// Reads the file at `path`, for a machine with this schema.
pub(super) fn read(path: &Path, schema: &Schema) -> Result<Book, WrongAccess> {
    let unreadable = |error| WrongAccess::Unreadable {
        path: path.to_owned(),
        error,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & OTHERS_WRITE != 0 {
        return Err(WrongAccess::Writable {
            path: path.to_owned(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, schema).map_err(|Wrong { at, why }| {
        let before = text.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        WrongAccess::Content {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            why,
        }
    })
}

/// What is wrong, from which byte on.
#[derive(PartialEq, Eq, Debug)]
struct Wrong {
    at: usize,
    why: String,
}

impl Wrong {
    fn new(span: Range<usize>, why: impl fmt::Display) -> Self {
        Self {
            at: span.start,
            why: why.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    anonymous: Option<Anonymous>,
    #[serde(default)]
    client: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Anonymous {
    roles: Vec<Spanned<String>>,
    states: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    roles: Vec<Spanned<String>>,
    states: Option<Spanned<String>>,
    #[serde(default)]
    tokens: Vec<Spanned<String>>,
    #[serde(default)]
    certificates: Vec<Spanned<String>>,
}

fn parse(text: &str, schema: &Schema) -> Result<Book, Wrong> {
    let page: Page = toml::from_str(text).map_err(|error| {
        Wrong::new(
            error.span().unwrap_or_default(),
            without_values(error.message()),
        )
    })?;
    let mut book = Book::default();
    if let Some(Anonymous { roles, states }) = page.anonymous {
        let (granted, changes) = grants(&roles, states.as_ref(), schema)?;
        if let Some(admin) = roles
            .iter()
            .find(|role| role.as_ref() == Role::Admin.name())
        {
            let why = "`admin` is not for everybody: give it to a client";
            return Err(Wrong::new(admin.span(), why));
        }
        book.anonymous = Some(Arc::new(Client {
            name: ANONYMOUS.into(),
            roles: granted,
            changes,
            is_anonymous: true,
        }));
    }
    let mut names: Vec<String> = Vec::new();
    for entry in page.client {
        let span = entry.span();
        let Entry {
            name,
            roles,
            states,
            tokens,
            certificates,
        } = entry.into_inner();
        check_name(&name, &names)?;
        names.push(name.as_ref().clone());
        let (granted, changes) = grants(&roles, states.as_ref(), schema)?;
        if tokens.is_empty() && certificates.is_empty() {
            let why = format!(
                "nobody can be `{}`: it has neither `tokens` nor `certificates`",
                name.as_ref()
            );
            return Err(Wrong::new(span, why));
        }
        let client = Arc::new(Client {
            name: name.as_ref().as_str().into(),
            roles: granted,
            changes,
            is_anonymous: false,
        });
        for token in tokens {
            let fingerprint = fingerprint(&token)?;
            if let Some((_, other)) = book.tokens.iter().find(|(known, _)| *known == fingerprint) {
                let why = format!("the token of this hash is also that of `{}`", other.name);
                return Err(Wrong::new(token.span(), why));
            }
            book.tokens.push((fingerprint, Arc::clone(&client)));
        }
        for certificate in certificates {
            let span = certificate.span();
            let given = certificate.into_inner();
            if token::is_within(&given) || given.is_empty() || given.contains(char::is_whitespace) {
                let why =
                    "a certificate is told by a DNS name in it, such as `rep-1` or `rep-1.example`";
                return Err(Wrong::new(span, why));
            }
            let name = given.to_ascii_lowercase();
            if let Some(other) = book.certificates.insert(name.clone(), Arc::clone(&client)) {
                let why = format!(
                    "a certificate for `{name}` is also that of `{}`",
                    other.name
                );
                return Err(Wrong::new(span, why));
            }
        }
    }
    Ok(book)
}

fn check_name(name: &Spanned<String>, others: &[String]) -> Result<(), Wrong> {
    let text = name.as_ref();
    let why = if text.is_empty() || text.chars().count() > NAME || text.contains(char::is_control) {
        format!("a name has 1 to {NAME} printable characters")
    } else if token::is_within(text) {
        "a token is no name; whoever can read this file knows it now".to_owned()
    } else if text == ANONYMOUS {
        format!(
            "`{ANONYMOUS}` is who shows nothing that is known: [{ANONYMOUS}] says what they may do"
        )
    } else if others.contains(text) {
        format!("there is another client called `{text}`")
    } else {
        return Ok(());
    };
    Err(Wrong::new(name.span(), why))
}

/// What these roles grant, and which changes.
fn grants(
    names: &[Spanned<String>],
    states: Option<&Spanned<String>>,
    schema: &Schema,
) -> Result<(Roles, Changes), Wrong> {
    let mut roles = Roles::default();
    for name in names {
        let role = Role::named(name.as_ref()).ok_or_else(|| unknown_role(name))?;
        roles = roles.and(role);
    }
    let Some(states) = states else {
        let changes = if roles.contains(Role::Mutate) {
            Changes::Everything
        } else {
            Changes::Nothing
        };
        return Ok((roles, changes));
    };
    let why = if roles.contains(Role::Admin) {
        "`states` is of `mutate`, but `admin` may change everything"
    } else if !roles.contains(Role::Mutate) {
        "`states` is of `mutate`, which is not among the roles"
    } else {
        if token::is_within(states.as_ref()) {
            let why = "a token is no state; whoever can read this file knows it now";
            return Err(Wrong::new(states.span(), why));
        }
        let mask = Selection::parse(schema, states.as_ref());
        let mask = mask.map_err(|error| Wrong::new(states.span(), error))?;
        return Ok((roles, Changes::Only(mask)));
    };
    Err(Wrong::new(states.span(), why))
}

fn unknown_role(name: &Spanned<String>) -> Wrong {
    let text = name.as_ref();
    let names = Role::ALL.map(Role::name);
    let why = if token::is_within(text) {
        "a token is no role; whoever can read this file knows it now".to_owned()
    } else {
        let hint = similar(text, names.into_iter());
        let hint = hint.first().copied().unwrap_or_default();
        format!(
            "unknown role `{text}`, did you mean `{hint}`? There is {}",
            names.join(", ")
        )
    };
    Wrong::new(name.span(), why)
}

fn fingerprint(token: &Spanned<String>) -> Result<Fingerprint, Wrong> {
    let text = token.as_ref();
    Fingerprint::read(text).ok_or_else(|| {
        let why = if text.starts_with(token::PREFIX) || token::is_within(text) {
            "this is a token, where its hash belongs; whoever can read this file knows it now: make another \
             with `flights token`, which prints its hash"
        } else {
            "this is no hash of a token, which is `sha256:` and 64 hexadecimal digits: `flights token` prints it"
        };
        Wrong::new(token.span(), why)
    })
}

/// What the parser says, without what stands in the file: that may be a secret in the wrong place.
fn without_values(message: &str) -> String {
    let start = "string \"";
    let message = match (message.find(start), message.rfind('"')) {
        (Some(from), Some(to)) if to >= from + start.len() => {
            format!("{}string{}", &message[..from], &message[to + 1..])
        }
        _ => message.to_owned(),
    };
    if token::is_within(&message) {
        return "a token stands where none belongs; whoever can read this file knows it now"
            .to_owned();
    }
    message.lines().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
