//! What keeps strangers out of a node.

use machine_runtime::replica::Bearer;

use crate::access::Access;
use crate::files::Reloads;
use crate::http::Origins;
use crate::tls::Tls;

/// What keeps strangers out of a node. Nothing does, unless told otherwise.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Security {
    /// TLS on both ports, and towards parents.
    pub tls: Option<Tls>,
    /// Who may do what on it.
    pub access: Access,
    /// The token that it shows its parents.
    pub token: Bearer,
    /// Whose pages may read it from within a browser.
    pub origins: Origins,
    /// How often files of these were read again.
    pub reloads: Vec<Reloads>,
}
