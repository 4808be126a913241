//! TLS on both ports of a node, towards its parents, and of who asks nodes.
//!
//! A node has one certificate: it shows it to whoever connects, and to its parents. Whom it trusts is said
//! by one file of certificate authorities. A client is asked for a certificate where there is one, but not
//! sent away without: what the names in it may do is decided later, by whoever is given them.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, InvalidMessage, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use webpki::EndEntityCert;

use crate::files::{Reloads, Watch};
use crate::shutdown::Tasks;
use crate::stream::Stream;

mod load;

use self::load::Identity;
pub use self::load::{TlsError, check_issued};

/// Where a node's certificate is, and whom it trusts. All are PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// Its certificate, and behind it those that lead from it to the authority.
    pub cert: PathBuf,
    /// The private key of it.
    pub key: PathBuf,
    /// The authorities whose certificates it trusts, of parents and of clients. Without it clients are not
    /// asked for any, and parents are trusted as this computer trusts servers.
    pub ca: Option<PathBuf>,
}

impl TlsFiles {
    fn paths(&self) -> Vec<PathBuf> {
        let files = [Some(&self.cert), Some(&self.key), self.ca.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }
}

/// The TLS of a node. Cheap to clone; all clones change together when the files are read again.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    now: ArcSwap<Loaded>,
    generation: watch::Sender<u64>,
}

/// What was made of the files: all of it is of the same moment.
struct Loaded {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    expires: SystemTime,
    generation: u64,
}

/// A client that has shaken hands.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// The DNS names in the certificate that it has proved to hold; none without one.
    pub names: Arc<[String]>,
    /// Of which [generation](Tls::changes) the files were that it was accepted with.
    pub generation: u64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] says which of them cannot be used, and why.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let now = Loaded::read(&files, 0)?;
        let inner = Inner {
            files,
            now: ArcSwap::from_pointee(now),
            generation: watch::Sender::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Reads the files, and again whenever they change, until `tasks` are stopped.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`]. Files that cannot be used later leave everything as it was.
    pub fn watch(files: TlsFiles, tasks: &Tasks) -> Result<(Self, Reloads), TlsError> {
        let watch = Watch::new("tls", files.paths());
        let tls = Self::load(files)?;
        let reloaded = tls.clone();
        let reloads = watch.run_on(tasks, move || Ok(reloaded.reload()?));
        Ok((tls, reloads))
    }

    /// Reads the files again. What is accepted and dialled from then on goes by them.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`]; then everything is as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let generation = *self.inner.generation.borrow() + 1;
        let now = Loaded::read(&self.inner.files, generation)?;
        self.inner.now.store(Arc::new(now));
        // Whoever hears of it finds what it speaks of.
        self.inner.generation.send_replace(generation);
        Ok(())
    }

    /// Counts how often the files were read again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.generation.subscribe()
    }

    /// Resolves once the files are of another generation than this.
    pub fn outdated(&self, generation: u64) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut changes = self.changes();
        async move {
            if changes.wait_for(|now| *now != generation).await.is_err() {
                // Nobody is left to read them again.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Until when the certificate holds.
    pub fn expires(&self) -> SystemTime {
        self.inner.now.load().expires
    }

    /// Whether clients are asked for certificates.
    pub fn asks_clients(&self) -> bool {
        self.inner.files.ca.is_some()
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    ///
    /// If it does not speak TLS, or shows a certificate that is not to be trusted.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the connection is closed.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let now = self.inner.now.load_full();
        let acceptor = TlsAcceptor::from(Arc::clone(&now.server));
        let stream = acceptor.accept(stream).await.map_err(told)?;
        let shown = stream.get_ref().1.peer_certificates();
        let names = shown.and_then(<[_]>::first).map(names);
        Ok(Accepted {
            stream: Stream::Tls(Box::new(stream.into())),
            names: names.unwrap_or_default(),
            generation: now.generation,
        })
    }

    /// Shakes hands with a server that is called `host`, a DNS name or an IP address.
    ///
    /// # Errors
    ///
    /// If that is neither, if the server does not speak TLS, or shows a certificate that is not to be
    /// trusted or not of that name.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the connection is closed.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let client = Arc::clone(&self.inner.now.load().client);
        connect(client, host, stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.inner.files)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    fn read(files: &TlsFiles, generation: u64) -> Result<Self, TlsError> {
        let identity = Identity::read(&files.cert, &files.key)?;
        let roots = files.ca.as_deref().map(load::roots).transpose()?;
        identity.warn(SystemTime::now());
        Ok(Self {
            expires: identity.expires,
            server: load::server(&identity, roots.clone())?,
            client: load::client(Some(&identity), roots)?,
            generation,
        })
    }
}

/// The TLS of somebody who asks nodes and is asked nothing. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    config: Config,
}

#[derive(Clone)]
enum Config {
    /// As a node does, whatever its files are.
    Node(Tls),
    /// As the files were.
    Files(Arc<ClientConfig>),
}

impl TlsClient {
    /// Trusts the authorities in the file `ca`, or servers as this computer does, and shows the certificate
    /// in the first file of `identity` whose key is in the second.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`].
    pub fn load(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let identity = identity.map(|(cert, key)| Identity::read(cert, key));
        let identity = identity.transpose()?;
        if let Some(identity) = &identity {
            identity.warn(SystemTime::now());
        }
        let roots = ca.map(load::roots).transpose()?;
        Ok(Self {
            config: Config::Files(load::client(identity.as_ref(), roots)?),
        })
    }

    /// Shakes hands as [`Tls::connect`] does.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the connection is closed.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        match &self.config {
            Config::Node(tls) => tls.connect(host, stream).await,
            Config::Files(config) => connect(Arc::clone(config), host, stream).await,
        }
    }
}

impl From<Tls> for TlsClient {
    fn from(tls: Tls) -> Self {
        Self {
            config: Config::Node(tls),
        }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

/// The host of an address such as `localhost:19700` or `[::1]:19700`.
pub fn host_of(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host)
}

async fn connect(config: Arc<ClientConfig>, host: &str, stream: TcpStream) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_invalid| {
        let why = format!("`{host}` is neither a DNS name nor an IP address");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    let connector = TlsConnector::from(config);
    let stream = connector.connect(name, stream).await.map_err(told)?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// An error of a handshake, in words that say what to look at.
fn told(error: io::Error) -> io::Error {
    let rustls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let why = match rustls {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the other side does not speak TLS".to_owned()
        }
        Some(error) => format!("TLS: {error}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "TLS: the other side closed the connection".to_owned()
        }
        None => return error,
    };
    io::Error::new(error.kind(), why)
}

/// The DNS names that a certificate is for.
fn names(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    // It was read to be verified.
    let certificate = EndEntityCert::try_from(certificate);
    let names = certificate.iter().flat_map(|read| read.valid_dns_names());
    names.map(str::to_owned).collect()
}

/// How long it is until `time`; nothing once that is over.
fn until(time: SystemTime, now: SystemTime) -> Option<Duration> {
    time.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (addr, host) in [
            ("localhost:1", "localhost"),
            ("[::1]:1", "::1"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("plain", "plain"),
        ] {
            assert_eq!(host_of(addr), host);
        }
    }
}
