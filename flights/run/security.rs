//! Who may do what on the nodes that run here.

use machine_node::access::{Access, token};
use machine_node::http::Origins;
use machine_node::node::NodeConfig;
use machine_node::shutdown::Tasks;
use machine_runtime::States;
use machine_runtime::replica::Bearer;

use crate::cli::{SecurityArgs, Usage};
use crate::states::Flights;

/// Who may do what, and what nodes show their parents.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    access: Access,
    token: Bearer,
    origins: Origins,
}

impl Security {
    /// As the files that `args` name say, also when they change, until `tasks` are stopped.
    ///
    /// # Errors
    ///
    /// [`Usage`] if one of them cannot be used.
    pub(crate) fn start(args: &SecurityArgs, tasks: &Tasks) -> Result<Self, Usage> {
        let access = match &args.access {
            None => Access::open(),
            Some(file) => {
                let access = Access::watch(file, Flights::schema(), tasks);
                let (access, _) = access.map_err(|error| Usage(format!("--access: {error}")))?;
                access
            }
        };
        let token = match &args.token_file {
            None => Bearer::default(),
            Some(file) => {
                let token = token::watch(file, tasks);
                let (token, _) = token.map_err(|error| Usage(format!("--token-file: {error}")))?;
                token
            }
        };
        let origins = Origins::new(args.cors_origin.clone());
        Ok(Self {
            access,
            token,
            origins,
        })
    }

    /// Has it hold for a node.
    pub(crate) fn apply(&self, config: &mut NodeConfig) {
        config.access = self.access.clone();
        config.token = self.token.clone();
        config.origins = self.origins.clone();
    }
}
