//! How a replicant reaches a parent.

use std::future::Future;
use std::io;

use machine_runtime::replica::Connect;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::stream::Stream;
use crate::tls::{Tls, host_of};

/// Connects to one parent, over TLS where the node has that. A link whose certificates are not the node's
/// any more is dropped, and made again with those that are.
#[derive(Clone, Debug)]
pub struct Dial {
    addr: String,
    tls: Option<Tls>,
    /// What the last connection was made with has changed if this has.
    made: Option<watch::Receiver<u64>>,
}

impl Dial {
    /// Connects to `addr`, a host and a port. A host name is looked up anew for each connection.
    pub fn new(addr: impl Into<String>, tls: Option<Tls>) -> Self {
        Self {
            addr: addr.into(),
            tls,
            made: None,
        }
    }
}

impl Connect for Dial {
    type Io = Stream;

    async fn connect(&mut self) -> io::Result<Stream> {
        // What changes while it is made has changed as well.
        self.made = self.tls.as_ref().map(Tls::changes);
        let stream = TcpStream::connect(&self.addr).await?;
        // A delta is one small write that somebody waits for.
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => tls.connect(host_of(&self.addr), stream).await,
            None => Ok(stream.into()),
        }
    }

    fn changed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let made = self.made.clone();
        async move {
            if let Some(mut made) = made
                && made.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        }
    }
}
