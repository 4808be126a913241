//! From files to what rustls takes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_platform_verifier::BuilderVerifierExt as _;
use webpki::{EndEntityCert, KeyUsage};

use super::until;

/// From how long before its end on a certificate is worth a warning.
const SOON: Duration = Duration::from_hours(7 * 24);

/// A file that TLS cannot be done with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub struct TlsError {
    path: PathBuf,
    why: String,
}

impl TlsError {
    fn new(path: &Path, why: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// A certificate and its key.
pub(super) struct Identity {
    cert: PathBuf,
    key_file: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    begins: SystemTime,
    pub(super) expires: SystemTime,
}

impl Identity {
    pub(super) fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let mut validities = chain.iter().map(validity);
        let own = validities.next().flatten();
        let own = own.ok_or_else(|| TlsError::new(cert, "its first certificate cannot be read"))?;
        // Those that vouch for it have to hold as well.
        let (begins, expires) = validities
            .flatten()
            .fold(own, |(begins, expires), (from, to)| {
                (begins.max(from), expires.min(to))
            });
        Ok(Self {
            chain,
            key: private_key(key)?,
            begins,
            expires,
            cert: cert.to_owned(),
            key_file: key.to_owned(),
        })
    }

    /// Says so if the certificate does not hold at `now`, or not for long.
    pub(super) fn warn(&self, now: SystemTime) {
        let file = self.cert.display();
        if until(self.begins, now).is_some_and(|time| !time.is_zero()) {
            tracing::warn!("{file}: the certificate does not hold yet, nobody will trust it");
        }
        match until(self.expires, now) {
            None => {
                tracing::warn!("{file}: the certificate has expired, nobody trusts it any more");
            }
            Some(time) if time < SOON => {
                let hours = time.as_secs() / 3600;
                tracing::warn!("{file}: the certificate expires in {hours} hours");
            }
            Some(_) => {}
        }
    }

    /// Why it is not taken.
    fn wrong(&self, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let cert = self.cert.display();
                let why = format!("the key does not belong to the certificate in {cert}");
                TlsError::new(&self.key_file, why)
            }
            rustls::Error::InvalidCertificate(why) => TlsError::new(&self.cert, format!("{why:?}")),
            error => TlsError::new(&self.key_file, error),
        }
    }
}

/// What a node is as a server. With `roots` it asks clients for certificates.
pub(super) fn server(
    identity: &Identity,
    roots: Option<Roots>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| identity.wrong(&error))?;
    let builder = match roots {
        Some(Roots { file, store }) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(store, provider());
            let verifier = verifier.allow_unauthenticated().build();
            let verifier = verifier.map_err(|error| TlsError::new(&file, error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
    let config = builder.with_single_cert(chain, key);
    Ok(Arc::new(config.map_err(|error| identity.wrong(&error))?))
}

/// What somebody is as a client. Without `roots` it trusts servers as this computer does.
pub(super) fn client(
    identity: Option<&Identity>,
    roots: Option<Roots>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let general = |error: rustls::Error| TlsError::new(Path::new("TLS"), error);
    let builder = || {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(general)
    };
    let builder = match roots {
        Some(Roots { file, store }) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(store, provider()).build();
            let verifier = verifier.map_err(|error| TlsError::new(&file, error))?;
            builder()?.with_webpki_verifier(verifier)
        }
        None => match builder()?.with_platform_verifier() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "this computer trusts no servers: --tls-ca says whom to trust");
                builder()?.with_root_certificates(RootCertStore::empty())
            }
        },
    };
    Ok(Arc::new(match identity {
        Some(identity) => {
            let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| identity.wrong(&error))?
        }
        None => builder.with_no_client_auth(),
    }))
}

/// Authorities, and the file that they are from.
#[derive(Clone)]
pub(super) struct Roots {
    file: PathBuf,
    store: Arc<RootCertStore>,
}

pub(super) fn roots(file: &Path) -> Result<Roots, TlsError> {
    let mut store = RootCertStore::empty();
    for (i, certificate) in (1..).zip(certificates(file)?) {
        let added = store.add(certificate);
        added.map_err(|error| {
            TlsError::new(
                file,
                format!("certificate {i} can be no authority: {error}"),
            )
        })?;
    }
    Ok(Roots {
        file: file.to_owned(),
        store: Arc::new(store),
    })
}

/// Checks that a certificate, as DER, is of an authority in the file `ca`, and that this holds today.
///
/// # Errors
///
/// [`TlsError`] says why it is not.
pub fn check_issued(ca: &Path, certificate: &[u8]) -> Result<(), TlsError> {
    let roots = roots(ca)?;
    let certificate = CertificateDer::from(certificate);
    let wrong = |error: webpki::Error| {
        let why = match error {
            webpki::Error::CertExpired { .. } => "the authority has expired".to_owned(),
            webpki::Error::UnknownIssuer => {
                "the authority is another than the key beside it belongs to".to_owned()
            }
            error => error.to_string(),
        };
        TlsError::new(ca, why)
    };
    let certificate = EndEntityCert::try_from(&certificate).map_err(wrong)?;
    let verified = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &roots.store.roots,
        &[],
        UnixTime::now(),
        KeyUsage::client_auth(),
        None,
        None,
    );
    verified.map(drop).map_err(wrong)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::new(file, format!("cannot read it: {error}")))
}

/// All certificates in a file, of which there is one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TlsError::new(file, said(&text, &error)))?;
    if all.is_empty() {
        let other = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(_) => ", but a private key",
            Err(_none) => "; it is PEM, with a line -----BEGIN CERTIFICATE-----",
        };
        return Err(TlsError::new(file, format!("no certificate in it{other}")));
    }
    Ok(all)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
        let has = |what: &str| String::from_utf8_lossy(&text).contains(what);
        let why = match error {
            pem::Error::NoItemsFound if has(encrypted) => {
                "the key needs a password, which nobody can be asked for: `openssl pkey` takes it away"
                    .to_owned()
            }
            pem::Error::NoItemsFound if has("-----BEGIN CERTIFICATE-----") => {
                "no private key in it, but a certificate".to_owned()
            }
            pem::Error::NoItemsFound => {
                "no private key in it; it is PEM, with a line -----BEGIN PRIVATE KEY-----".to_owned()
            }
            error => said(&text, &error),
        };
        TlsError::new(file, why)
    })
}

/// What is wrong in a file, and in which line as far as that is known.
fn said(text: &[u8], error: &pem::Error) -> String {
    let text = String::from_utf8_lossy(text);
    let line = |wanted: &[u8]| {
        let wanted = String::from_utf8_lossy(wanted);
        let wanted = wanted.trim_end();
        let found = text.lines().position(|line| line.trim_end() == wanted);
        found.map_or_else(String::new, |line| format!("line {}: ", line + 1))
    };
    match error {
        pem::Error::IllegalSectionStart { line: begin } => {
            let begin_text = String::from_utf8_lossy(begin);
            let begin_text = begin_text.trim_end();
            format!(
                "{}`{begin_text}` is no beginning of a PEM section",
                line(begin)
            )
        }
        pem::Error::MissingSectionEnd { end_marker } => {
            let label = String::from_utf8_lossy(end_marker);
            let label = label
                .trim_end()
                .trim_matches('-')
                .trim_start_matches("END ");
            let line = line(format!("-----BEGIN {label}-----").as_bytes());
            format!("{line}the section has no end -----END {label}-----")
        }
        pem::Error::Base64Decode(why) => format!("a section of it is not base64: {why}"),
        error => error.to_string(),
    }
}

/// From when until when a certificate holds, if it can be read.
fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::server_auth();
        let verified = certificate.verify_for_usage(&[], &[], &[], time, usage, None, None);
        verified.err()
    };
    let moment = |time: UnixTime| UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    // Whoever verifies it looks at that first, and nothing holds before 1970 or at the end of time.
    let begins = match at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => moment(not_before)?,
        _ => UNIX_EPOCH,
    };
    match at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Some((begins, moment(not_after)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_holds_as_long_as_those_that_vouch_for_it() {
        let dir = std::env::temp_dir().join(format!("tls-chain-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        let mut of_issuer = CertificateParams::default();
        of_issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        of_issuer.not_after = date_time_ymd(2030, 1, 1);
        let pair = KeyPair::generate().unwrap();
        let vouches = of_issuer.self_signed(&pair).unwrap().pem();
        let issuer = Issuer::new(of_issuer, pair);
        let mut own = CertificateParams::new(["localhost".to_owned()]).unwrap();
        own.not_after = date_time_ymd(2040, 1, 1);
        let pair = KeyPair::generate().unwrap();
        let own = own.signed_by(&pair, &issuer).unwrap().pem();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        for (chain, end) in [(own.clone(), 2040), (own + &vouches, 2030)] {
            std::fs::write(&cert, chain).unwrap();
            let identity = Identity::read(&cert, &key).unwrap();
            assert_eq!(identity.expires, SystemTime::from(date_time_ymd(end, 1, 1)));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
