//! Which node is asked, and who asks.

use std::fmt;
use std::io;

use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::http::request::Builder;
use machine_runtime::replica::Token;
use tokio::net::TcpStream;

use crate::stream::Stream;
use crate::tls::{TlsClient, host_of};

/// A node to be asked, over TLS or not, and what it is shown of who asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Target {
    addr: String,
    tls: Option<TlsClient>,
    token: Option<Token>,
}

impl Target {
    /// The node at `addr`, a host and a port, without TLS.
    pub fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            tls: None,
            token: None,
        }
    }

    /// The same over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: impl Into<TlsClient>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// The same, shown this token.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// Its host and port.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Opens a connection.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(&self.addr).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => tls.connect(host_of(&self.addr), stream).await,
            None => Ok(stream.into()),
        }
    }

    /// What is to be said where it does not answer as HTTP does.
    pub(super) fn hint(&self) -> String {
        match self.tls {
            Some(_) => format!("{self} does not answer"),
            None => format!("{self} does not answer, it may want https://{self}"),
        }
    }

    /// A request with what each has.
    pub(super) fn request(&self, request: Builder) -> Builder {
        let request = request.header(HOST, &self.addr);
        let Some(token) = &self.token else {
            return request;
        };
        match HeaderValue::try_from(format!("Bearer {}", token.secret())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            // The request says then what is wrong with it.
            Err(_invalid) => request.header(AUTHORIZATION, "\n"),
        }
    }
}

impl From<&Self> for Target {
    fn from(target: &Self) -> Self {
        target.clone()
    }
}

/// By its host and port, without TLS.
impl From<&str> for Target {
    fn from(addr: &str) -> Self {
        Self::new(addr)
    }
}

/// By its host and port, without TLS.
impl From<&String> for Target {
    fn from(addr: &String) -> Self {
        Self::new(addr)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)
    }
}
