//! How a follower reaches its parent.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Opens connections to a parent: one at a time, and a new one whenever the last was lost.
pub trait Connect: Send + 'static {
    /// What a connection is.
    type Io: AsyncRead + AsyncWrite + Send + 'static;

    /// Opens a connection. It is dropped where that takes longer than the follower waits.
    fn connect(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Resolves once a new connection would be made otherwise than the last one: then that is dropped. It
    /// never does unless told otherwise.
    fn changed(&self) -> impl Future<Output = ()> + Send + 'static + use<Self> {
        std::future::pending()
    }
}

/// Connects over TCP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Host and port. A host name is looked up anew for each connection.
    pub addr: String,
}

impl Connect for Tcp {
    type Io = TcpStream;

    async fn connect(&mut self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.addr).await?;
        // A delta is one small write that somebody waits for.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
