//! What keeps strangers out of nodes, and who asks them.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;
use machine_node::access::{Access, token};
use machine_node::client::Target;
use machine_node::http::{Origin, Origins};
use machine_node::security::Security;
use machine_node::shutdown::Tasks;
use machine_node::tls::{Tls, TlsClient, TlsFiles, host_of};
use machine_runtime::States as _;

use super::values::NodeAddr;
use super::{Addr, Usage};
use crate::states::Flights;

/// It would be open to strangers; what is said is which flag makes it so, and the ways out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Open(pub String);

/// What keeps strangers out of the nodes that a program runs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {
    /// The certificate of the node, PEM: both ports speak TLS then, and so do its parents have to. It is read
    /// again when it changes, as are the other files here
    #[arg(
        long,
        env = "TST_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key",
        hide_env_values = true
    )]
    pub tls_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM
    #[arg(
        long,
        env = "TST_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert",
        hide_env_values = true
    )]
    pub tls_key: Option<PathBuf>,

    /// The authorities that certificates are trusted of, PEM: of parents, and of clients, who are asked for
    /// one then
    #[arg(
        long,
        env = "TST_TLS_CA",
        value_name = "FILE",
        requires = "tls_cert",
        hide_env_values = true
    )]
    pub tls_ca: Option<PathBuf>,

    /// The file that says who may do what, TOML; without it whoever has a certificate of `--tls-ca` may do
    /// everything
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

    /// Allows plain text beyond this computer: whoever is on the way can read and change all of it
    #[arg(long, env = "TST_INSECURE_PLAINTEXT", value_parser = FalseyValueParser::new(),
        hide_env_values = true)]
    pub insecure_plaintext: bool,
}

impl SecurityArgs {
    fn files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            cert: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
            ca: self.tls_ca.clone(),
        })
    }

    /// Whether the nodes speak TLS.
    pub fn has_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Checks that nothing is open to strangers where `uses` are what nodes listen on and dial, each behind
    /// its flag, and `never` is what is plain text in any case.
    ///
    /// # Errors
    ///
    /// [`Open`] says what is, and what to do about it.
    pub fn check<'a>(
        &self,
        uses: impl IntoIterator<Item = (&'a str, &'a str)>,
        never: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Open> {
        if self.has_tls() && self.tls_ca.is_none() && self.access.is_none() {
            let why = "--tls-cert without --tls-ca and --access lets everybody in, with all rights: \
                --tls-ca FILE lets in who has a certificate of that authority (`flights certs DIR` makes \
                one), --access FILE says who may do what";
            return Err(Open(why.to_owned()));
        }
        if self.insecure_plaintext {
            return Ok(());
        }
        if !self.has_tls() {
            let ways =
                "`flights certs DIR` makes certificates for --tls-cert, --tls-key and --tls-ca";
            plain(uses, ways)?;
        }
        plain(
            never,
            "there is no TLS for it: a tunnel such as `ssh -L` leads to it",
        )
    }

    /// As nodes take it: reads the files, and again whenever they change, until `tasks` are stopped.
    ///
    /// # Errors
    ///
    /// If one of them cannot be used.
    pub fn start(&self, tasks: &Tasks) -> anyhow::Result<Security> {
        let mut security = Security::default();
        security.origins = Origins::new(self.cors_origin.clone());
        if let Some(files) = self.files() {
            let (tls, reloads) = Tls::watch(files, tasks)?;
            security.tls = Some(tls);
            security.reloads.push(reloads);
        }
        if let Some(file) = &self.access {
            let access = Access::watch(file, Flights::schema(), tasks);
            let (access, reloads) = access.map_err(|error| Usage(format!("--access: {error}")))?;
            security.access = access;
            security.reloads.push(reloads);
        } else if self.tls_ca.is_some() {
            security.access = Access::by_certificates();
        }
        if let Some(file) = &self.token_file {
            let token = token::watch(file, tasks);
            let (token, reloads) =
                token.map_err(|error| Usage(format!("--token-file: {error}")))?;
            security.token = token;
            security.reloads.push(reloads);
        }
        Ok(security)
    }

    /// The flags of a node that is secured so.
    pub fn args(&self) -> Vec<OsString> {
        let files = [
            ("--tls-cert", &self.tls_cert),
            ("--tls-key", &self.tls_key),
            ("--tls-ca", &self.tls_ca),
            ("--access", &self.access),
            ("--token-file", &self.token_file),
        ];
        let given = files
            .into_iter()
            .filter_map(|(flag, file)| Some((flag, file.as_ref()?)));
        let mut list: Vec<OsString> = given
            .flat_map(|(flag, file)| [flag.into(), file.into()])
            .collect();
        let origins: Vec<_> = self.cors_origin.iter().map(ToString::to_string).collect();
        if !origins.is_empty() {
            list.push(format!("--cors-origin={}", origins.join(",")).into());
        }
        if self.insecure_plaintext {
            list.push("--insecure-plaintext".into());
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

/// Who asks nodes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Security")]
pub struct ClientArgs {
    /// The authorities that the node's certificate is trusted of, PEM; with it the node is asked over TLS.
    /// Without it `https://HOST:PORT` is trusted as this computer trusts servers
    #[arg(long, env = "TST_TLS_CA", value_name = "FILE", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,

    /// The certificate to show, PEM
    #[arg(
        long,
        env = "TST_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key",
        hide_env_values = true
    )]
    pub tls_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM
    #[arg(
        long,
        env = "TST_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert",
        hide_env_values = true
    )]
    pub tls_key: Option<PathBuf>,

    /// The file with the token to show
    #[arg(
        long,
        env = "TST_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub token_file: Option<PathBuf>,

    /// Shows the token in plain text beyond this computer as well
    #[arg(long, env = "TST_INSECURE_PLAINTEXT", value_parser = FalseyValueParser::new(),
        hide_env_values = true)]
    pub insecure_plaintext: bool,
}

impl ClientArgs {
    /// The `node` as it is asked.
    ///
    /// # Errors
    ///
    /// If one of the files cannot be used, or [`Open`] if anybody could see the token.
    pub fn target(&self, node: &NodeAddr) -> anyhow::Result<Target> {
        let [target] = self
            .targets([node])?
            .try_into()
            .map_err(|_never| Usage("one node is asked".to_owned()))?;
        Ok(target)
    }

    /// Several likewise.
    ///
    /// # Errors
    ///
    /// As [`ClientArgs::target`].
    pub fn targets<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a NodeAddr>,
    ) -> anyhow::Result<Vec<Target>> {
        let token = self.token_file.as_deref().map(token::read).transpose();
        let token = token.map_err(|error| Usage(format!("--token-file: {error}")))?;
        let usual = self.tls_ca.is_some() || self.tls_cert.is_some();
        let mut tls: Option<TlsClient> = None;
        let mut targets = Vec::new();
        for node in nodes {
            let mut target = Target::new(node.addr.as_str());
            if node.tls.unwrap_or(usual) {
                let client = match &tls {
                    Some(client) => client.clone(),
                    None => self.tls()?,
                };
                target = target.with_tls(client.clone());
                tls = Some(client);
            } else if token.is_some() && !self.insecure_plaintext {
                let ways = "--tls-ca or https:// asks it over TLS";
                plain([("--token-file with --node", node.addr.as_str())], ways)?;
            }
            targets.push(target.with_token(token.clone()));
        }
        Ok(targets)
    }

    fn tls(&self) -> anyhow::Result<TlsClient> {
        let identity = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
        Ok(TlsClient::load(self.tls_ca.as_deref(), identity)?)
    }
}

/// Checks that what is plain text stays within this computer.
fn plain<'a>(uses: impl IntoIterator<Item = (&'a str, &'a str)>, ways: &str) -> Result<(), Open> {
    let open = uses.into_iter().find(|(_, addr)| !is_loopback(addr));
    match open {
        None => Ok(()),
        Some((flag, addr)) => Err(Open(format!(
            "{flag} {addr}: plain text beyond this computer, which whoever is on the way can read and \
             change; {ways}, --insecure-plaintext does it all the same"
        ))),
    }
}

/// Checks that what a program listens on in plain text, each behind its flag, stays within this computer.
///
/// # Errors
///
/// [`Open`] if it does not.
pub fn check_listeners<'a>(
    listeners: impl IntoIterator<Item = (&'a str, &'a Addr)>,
) -> Result<(), Open> {
    let listeners = listeners.into_iter();
    plain(
        listeners.map(|(flag, addr)| (flag, addr.as_str())),
        "there is no TLS for it: a tunnel such as `ssh -L` leads to it",
    )
}

/// Whether an address stays within this computer. Of names only one is known to.
fn is_loopback(addr: &str) -> bool {
    let host = host_of(addr);
    let ip = host.parse::<IpAddr>();
    ip.map_or_else(
        |_name| host.eq_ignore_ascii_case("localhost"),
        |ip| ip.to_canonical().is_loopback(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_within_this_computer_is_known_by_its_address() {
        for addr in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "localhost:1",
            "LOCALHOST:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(addr), "{addr}");
        }
        for addr in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "localhost.example:1",
            "127.0.0.1.example:1",
            "[::2]:1",
        ] {
            assert!(!is_loopback(addr), "{addr}");
        }
    }

    #[test]
    fn a_child_is_secured_as_it_was_told() {
        use clap::Parser as _;

        let words = ["flights", "node", "--addr=:0"];
        let all = SecurityArgs {
            tls_cert: Some("c".into()),
            tls_key: Some("k".into()),
            tls_ca: Some("a".into()),
            access: Some("x".into()),
            token_file: Some("t".into()),
            cors_origin: vec!["https://a.example".parse().unwrap()],
            insecure_plaintext: true,
        };
        for args in [SecurityArgs::default(), all] {
            let list = words.iter().map(OsString::from).chain(args.args());
            let cli = crate::cli::Cli::try_parse_from(list).unwrap();
            let Some(crate::cli::Command::Node(node)) = cli.command else {
                panic!("no node");
            };
            assert_eq!(format!("{:?}", node.security), format!("{args:?}"));
        }
    }
}
