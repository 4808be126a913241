//! Bearer tokens: made of 256 random bits, and known by their hash.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use machine_runtime::replica::{Bearer, Token};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::sync::watch;

use crate::files::{Reloads, Watch};
use crate::shutdown::Tasks;

/// What every token begins with, so that one is known where it should not be.
pub const PREFIX: &str = "fl_";

/// What stands before a hash in a file.
const HASH: &str = "sha256:";

/// How many random bytes a token has.
const BYTES: usize = 32;

/// Others may read it.
const OTHERS_READ: u32 = 0o004;

/// How many characters these are.
const CHARACTERS: usize = 43;

/// A new token.
///
/// # Errors
///
/// If the operating system has no random numbers to give.
pub fn make() -> io::Result<Token> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_unspecified| io::Error::other("there are no random numbers to be had"))?;
    let text = PREFIX.to_owned() + &URL_SAFE_NO_PAD.encode(bytes);
    Ok(Token::new(text))
}

/// Whether a text could be a token. What could not is never looked up: a secret that somebody has thought of
/// can be guessed from its hash.
pub fn is_well_formed(text: &str) -> bool {
    let rest = text.strip_prefix(PREFIX);
    rest.is_some_and(|rest| {
        rest.len() == CHARACTERS && URL_SAFE_NO_PAD.decode(rest).is_ok_and(|b| b.len() == BYTES)
    })
}

/// Whether a token could be in a text.
pub fn is_within(text: &str) -> bool {
    let starts = text.match_indices(PREFIX);
    let candidate = |(start, _)| text.get(start..start + PREFIX.len() + CHARACTERS);
    starts.filter_map(candidate).any(is_well_formed)
}

/// Why a file has no token.
#[derive(Debug, thiserror::Error)]
pub enum WrongToken {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is something else in it, or more.
    #[error("{} has no token in it, which is one line that `flights token` makes", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

/// The token in the file at `path`. Where everybody on this computer can read that it is said so.
///
/// # Errors
///
/// [`WrongToken`], which has nothing in it of what is in the file.
pub fn read(path: &Path) -> Result<Token, WrongToken> {
    let unreadable = |error| WrongToken::Unreadable {
        path: path.to_owned(),
        error,
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let text = text.trim();
    if !is_well_formed(text) {
        return Err(WrongToken::Content {
            path: path.to_owned(),
        });
    }
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & OTHERS_READ != 0 {
        let file = path.display();
        tracing::warn!(%file, "everybody on this computer can read this token: chmod o-r");
    }
    Ok(Token::new(text))
}

/// As [`read`], and whenever the file changes what is in it then, until `tasks` are stopped.
///
/// # Errors
///
/// As [`read`].
pub fn watch(path: impl Into<PathBuf>, tasks: &Tasks) -> Result<(Bearer, Reloads), WrongToken> {
    let path = path.into();
    let files = Watch::new("token", vec![path.clone()]);
    let tokens = watch::Sender::new(Some(read(&path)?));
    let bearer = Bearer::new(tokens.subscribe());
    let reloads = files.run_on(tasks, move || {
        tokens.send_replace(Some(read(&path)?));
        Ok(())
    });
    Ok((bearer, reloads))
}

/// Writes a token to a new file that nobody else may read.
///
/// # Errors
///
/// If there is such a file, or it cannot be written.
pub fn write(token: &Token, path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", token.secret())?;
    file.sync_all()
}

/// What stands in a file of who may do what for a client of this name that has this token. Its roles are those
/// of a reader.
///
/// None if it is no token.
pub fn entry(name: &str, token: &Token) -> Option<String> {
    let hash = Fingerprint::of(token)?;
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!(
        "[[client]]\nname = \"{name}\"\nroles = [\"observe\"]\ntokens = [\"{hash}\"]\n"
    ))
}

/// The SHA-256 of a token: of 256 random bits nothing slower is needed, and nobody gets back from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a token; None if it is none.
    pub fn of(token: &Token) -> Option<Self> {
        let secret = token.secret();
        if !is_well_formed(secret) {
            return None;
        }
        let hash = digest(&SHA256, secret.as_bytes());
        hash.as_ref().try_into().ok().map(Self)
    }

    /// That which [`Fingerprint`]'s `Display` writes.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, place) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(place..place + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Whether both are the same; how long that takes says nothing of where they differ.
    pub(super) fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// As it stands in a file.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_random_and_known_by_its_hash() {
        let (token, other) = (make().unwrap(), make().unwrap());
        assert_ne!(token, other);
        assert!(is_well_formed(token.secret()) && is_within(&format!("a={}&", token.secret())));
        let fingerprint = Fingerprint::of(&token).unwrap();
        assert_eq!(
            Fingerprint::read(&fingerprint.to_string()),
            Some(fingerprint)
        );
        let differs = Fingerprint::of(&other).unwrap().matches(&fingerprint);
        assert!(bool::from(fingerprint.matches(&fingerprint)) && !bool::from(differs));
        assert_eq!(format!("{token:?} {fingerprint:?}"), "Token Fingerprint");
    }

    #[test]
    fn the_hash_is_the_sha_256_of_the_text() {
        let token = Token::new(format!("fl_{}", "A".repeat(43)));
        let known = "sha256:7ab38cb5b149b5b63f9e2681a4784cfaa60908a541014c391ccb748681377872";
        assert_eq!(Fingerprint::of(&token).unwrap().to_string(), known);
    }

    #[test]
    fn what_somebody_thought_of_is_no_token() {
        let whole = format!("fl_{}", "A".repeat(43));
        for text in [
            "",
            "secret",
            "fl_",
            &whole[1..],
            &whole[..45],
            &format!("{whole}A"),
            &format!("fl_{}", "A".repeat(42) + "B"),
            &format!("fl_{}", "+".repeat(43)),
            &format!("{whole} "),
        ] {
            assert!(Fingerprint::of(&Token::new(text)).is_none(), "{text}");
        }
        for text in [
            "",
            "sha256:",
            "sha256:12",
            &"0".repeat(64),
            &format!("sha256:{}", "g".repeat(64)),
        ] {
            assert!(Fingerprint::read(text).is_none(), "{text}");
        }
        assert!(!is_within("fl_ fl_fl_"));
    }
}
