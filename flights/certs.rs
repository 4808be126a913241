//! `flights certs`: certificates for a tree, of an authority of its own.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use machine_node::tls::check_issued;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::cli::Usage;

/// What authorities are called, before what tells them apart.
const AUTHORITY: &str = "flights certs";

/// How long an authority holds.
const AUTHORITY_DAYS: u64 = 3650;

/// The longest that any certificate holds, as the authority does.
const MOST_DAYS: u64 = AUTHORITY_DAYS;

/// Clocks of nodes may differ by so much.
const SKEW: Duration = Duration::from_hours(1);

/// A node is reached by these on its own computer.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The names that are not a client's to have; nor are those of keys.
const TAKEN: [&str; 2] = ["ca", "node"];

/// Options of `flights certs`.
#[derive(Args, Clone, Debug)]
pub struct CertsArgs {
    /// The folder for the files; it is made if it is missing
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Host names and addresses by which nodes are reached, besides those of this computer's loopback
    #[arg(long, value_delimiter = ',', value_name = "HOST,…", value_parser = host)]
    pub name: Vec<String>,

    /// Also makes certificates for clients of these names, by which nodes tell who may do what
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", value_parser = client_name)]
    pub client: Vec<String>,

    /// How many days certificates hold; the authority holds for ten years
    #[arg(long, value_name = "N", default_value_t = 365,
        value_parser = clap::value_parser!(u64).range(1..=MOST_DAYS))]
    pub days: u64,
}

/// A host name or an IP address.
fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_err() {
        labels(text)?;
    }
    Ok(text.to_owned())
}

fn client_name(text: &str) -> Result<String, String> {
    labels(text)?;
    if TAKEN.contains(&text) || text.ends_with("-key") {
        return Err("another file here is called so".to_owned());
    }
    Ok(text.to_owned())
}

/// Whether these are the labels of a DNS name.
fn labels(text: &str) -> Result<(), String> {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(());
    }
    Err("it is no name such as rep-1 or node.example: letters, digits and hyphens, with dots between".to_owned())
}

/// Makes the certificates, and says what it made and what to do with it.
///
/// # Errors
///
/// [`Usage`] if there is an authority without its key, or of another key; if a file cannot be written.
pub fn make(args: &CertsArgs) -> anyhow::Result<()> {
    let folder = &args.dir;
    let show = |name: &str| folder.join(name).display().to_string();
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut out = String::new();
    let mut say = |line: String| {
        out += &line;
        out.push('\n');
    };
    let (issuer, is_new) = authority(folder)?;
    let ca = show("ca.pem");
    say(if is_new {
        format!("{ca}: a new authority, which nodes and clients trust")
    } else {
        format!("{ca}: the authority that was there, kept as it is")
    });
    let names = LOCAL.iter().map(|name| (*name).to_owned());
    let names: Vec<String> = names.chain(args.name.iter().cloned()).collect();
    let for_node = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let list = names.join(", ");
    issue(folder, "node", names, &for_node, args.days, &issuer)?;
    say(format!(
        "{}: for nodes at {list}, {} days",
        show("node.pem"),
        args.days
    ));
    for client in &args.client {
        let usage = [ExtendedKeyUsagePurpose::ClientAuth];
        issue(
            folder,
            client,
            vec![client.clone()],
            &usage,
            args.days,
            &issuer,
        )?;
        let file = show(&format!("{client}.pem"));
        say(format!(
            "{file}: for the client {client}, {} days",
            args.days
        ));
    }
    let tls = |name: &str| {
        let (cert, key) = (
            show(&format!("{name}.pem")),
            show(&format!("{name}-key.pem")),
        );
        format!("--tls-ca {ca} --tls-cert {cert} --tls-key {key}")
    };
    say("next:".to_owned());
    say(format!("  flights tree {}", tls("node")));
    let asks = args.client.first().map_or("node", String::as_str);
    say(format!(
        "  flights get --node localhost:18700 {}",
        tls(asks)
    ));
    say("run it again before they expire: nodes read them while they run".to_owned());
    Ok(io::stdout().write_all(out.as_bytes())?)
}

/// The authority in a folder, and whether it was made now.
fn authority(folder: &Path) -> anyhow::Result<(Issuer<'static, KeyPair>, bool)> {
    let (cert, key) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
    let has = |path: &Path| {
        path.try_exists()
            .with_context(|| format!("cannot look at {}", path.display()))
    };
    match (has(&cert)?, has(&key)?) {
        (true, true) => {
            let text = fs::read_to_string(&key);
            let text = text.with_context(|| format!("cannot read {}", key.display()))?;
            let pair = KeyPair::from_pem(&text);
            let pair = pair.map_err(|error| Usage(format!("{}: {error}", key.display())))?;
            Ok((Issuer::new(authority_params(&pair), pair), false))
        }
        (false, false) => {
            let pair = KeyPair::generate()?;
            let params = authority_params(&pair);
            let made = params.self_signed(&pair)?;
            write(&key, &pair.serialize_pem(), 0o600)?;
            write(&cert, &made.pem(), 0o644)?;
            Ok((Issuer::new(params, pair), true))
        }
        (has_cert, _) => {
            let (there, missing) = if has_cert {
                (&cert, &key)
            } else {
                (&key, &cert)
            };
            let (there, missing) = (there.display(), missing.display());
            let why = format!(
                "{there} is there and {missing} is not: an authority is never overwritten, as all that it \
                 made would end; bring {missing} back, or choose another folder"
            );
            Err(Usage(why).into())
        }
    }
}

/// What the authority with this key is like. Of two, one is not taken for the other.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id = params.key_identifier(key).into_iter().take(4);
    let name = id.fold(format!("{AUTHORITY} "), |name, byte| {
        name + &format!("{byte:02x}")
    });
    params.distinguished_name = called(&name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    hold(&mut params, AUTHORITY_DAYS);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn hold(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SKEW);
    params.not_after = epoch + (now + Duration::from_hours(24 * days));
}

/// Makes a certificate and its key, whatever was there.
fn issue(
    folder: &Path,
    file: &str,
    names: Vec<String>,
    usages: &[ExtendedKeyUsagePurpose],
    days: u64,
    issuer: &Issuer<'_, KeyPair>,
) -> anyhow::Result<()> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = called(file);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    hold(&mut params, days);
    let pair = KeyPair::generate()?;
    let made: Certificate = params.signed_by(&pair, issuer)?;
    // What others would not trust is not written.
    check_issued(&folder.join("ca.pem"), made.der())?;
    let key = Written::new(
        folder.join(format!("{file}-key.pem")),
        &pair.serialize_pem(),
        0o600,
    )?;
    let cert = Written::new(folder.join(format!("{file}.pem")), &made.pem(), 0o644)?;
    // At once, as they are read together.
    key.put()?;
    cert.put()
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    Written::new(path.to_owned(), text, mode)?.put()
}

/// A file that is written, and not yet where it belongs: so nobody sees half of it.
struct Written {
    path: PathBuf,
    temporary: PathBuf,
}

impl Written {
    fn new(path: PathBuf, text: &str, mode: u32) -> anyhow::Result<Self> {
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let to = || format!("cannot write {}", temporary.display());
        // What another run has left may be open to others.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(to);
            }
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary);
        let mut file = file.with_context(to)?;
        file.write_all(text.as_bytes()).with_context(to)?;
        file.sync_all().with_context(to)?;
        Ok(Self { path, temporary })
    }

    fn put(self) -> anyhow::Result<()> {
        let to = || format!("cannot write {}", self.path.display());
        fs::rename(&self.temporary, &self.path).with_context(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_name_that_can_be_in_a_certificate() {
        for name in ["rep-1", "a", "ops.example", "my_name"] {
            assert_eq!(client_name(name).as_deref(), Ok(name));
        }
        for wrong in [
            "", "a b", "../a", "-a", "a..b", "ca", "node", "*.a", "ü", "node-key",
        ] {
            assert!(client_name(wrong).is_err(), "{wrong}");
        }
        assert!(host("::1").is_ok() && host("10.0.0.1").is_ok());
    }
}
