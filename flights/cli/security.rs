//! Who may do what on nodes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use machine_node::http::Origin;

/// Options of whoever runs nodes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {
    /// The file that says who may do what; without one everybody may do everything
    #[arg(long, env = "TST_ACCESS", value_name = "FILE", hide_env_values = true)]
    pub access: Option<PathBuf>,

    /// The file with the token that a node shows its parents
    #[arg(
        long,
        env = "TST_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub token_file: Option<PathBuf>,

    /// The sites whose pages may read from within a browser, such as `https://a.example`
    #[arg(
        long,
        env = "TST_CORS_ORIGIN",
        value_name = "ORIGIN,…",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub cors_origin: Vec<Origin>,
}

impl SecurityArgs {
    /// The flags of a node of which the same holds.
    pub fn args(&self) -> Vec<OsString> {
        let mut list = Vec::new();
        for (name, file) in [
            ("--access", &self.access),
            ("--token-file", &self.token_file),
        ] {
            if let Some(file) = file {
                let mut flag = OsString::from(format!("{name}="));
                flag.push(file);
                list.push(flag);
            }
        }
        let origins: Vec<_> = self.cors_origin.iter().map(ToString::to_string).collect();
        if !origins.is_empty() {
            list.push(format!("--cors-origin={}", origins.join(",")).into());
        }
        list
    }
}

/// Options of `flights token`.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// Whose token it is to be, as logs and counters call them
    pub name: String,

    /// The file to write the token to, which nobody else can read; without it the token is printed
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
