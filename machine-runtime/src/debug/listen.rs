//! The debugger's side of links: many processes dial it.
//!
//! Whoever dials is not believed: lengths, times, and how much is held are bounded, for all connections
//! together as well. While frames are not taken, sockets are not read; nodes drop then.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::codec::{self, CodecError, MAX_FRAME, MAX_HELLO, PREAMBLE, check_preamble, preamble};
use super::frame::{Ask, Body, Frame, VERSION};

/// How many processes are remembered, with how much of them there is.
const PROCESSES: usize = 10_000;

/// How long `accept` rests after an error, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How many bytes one permit stands for.
const PERMIT: usize = 1024;

/// A frame beyond so many bytes may be a schema.
const LARGE: usize = 64 << 10;

/// How many times as much a large one takes in memory, about.
const GROWTH: usize = 16;

/// How many questions to one process wait at most.
const ASKS: usize = 16;

/// What a debugger takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ListenOptions {
    /// How many connections there are at most.
    pub connections: usize,
    /// How many bytes of frames wait to be taken at most, those of all connections together.
    pub bytes: usize,
    /// How long a process may take to say who it is, and a frame to be there once it has begun.
    pub patience: Duration,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connections: 1000,
            bytes: 64 << 20,
            patience: Duration::from_secs(5),
        }
    }
}

/// One connection, never again another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What came.
#[derive(Debug)]
pub struct Heard {
    /// Over which connection.
    pub connection: ConnectionId,
    /// What.
    pub what: What,
    /// Its part of what may wait.
    _held: Option<OwnedSemaphorePermit>,
}

/// What came over a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum What {
    /// Somebody has said who they are: the first that is heard of a connection, unless it is closed
    /// before. The frame is a [`Body::Hello`].
    Opened {
        /// From where.
        peer: SocketAddr,
        /// Who they are.
        hello: Box<Frame>,
    },
    /// A frame.
    Frame(Box<Frame>),
    /// It is over; nothing comes after it.
    Closed {
        /// From where it was.
        peer: SocketAddr,
        /// Why we closed it; none if they have.
        why: Option<String>,
    },
}

/// Listens for nodes.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    heard: mpsc::Sender<Heard>,
}

/// Asks nodes, and says which frames there are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Asker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ListenOptions,
    room: Arc<Semaphore>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    next: u64,
    open: BTreeMap<ConnectionId, mpsc::Sender<Ask>>,
    /// The connection of each process: one that dials anew may have left another half read.
    current: BTreeMap<u128, ConnectionId>,
    /// The number of the last frame of each process, and when that was.
    last: BTreeMap<u128, (u64, u64)>,
}

impl Listener {
    /// Listens on `addr`. What comes is to be taken from the receiver.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub async fn bind(
        addr: impl ToSocketAddrs,
        options: ListenOptions,
    ) -> io::Result<(Self, mpsc::Receiver<Heard>)> {
        let socket = TcpListener::bind(addr).await?;
        let (heard, taken) = mpsc::channel(1024);
        let shared = Shared {
            options,
            room: Arc::new(Semaphore::new(options.bytes / PERMIT)),
            known: Mutex::default(),
        };
        let listener = Self {
            socket,
            shared: Arc::new(shared),
            heard,
        };
        Ok((listener, taken))
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// If the operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Asks those who have dialled.
    pub fn asker(&self) -> Asker {
        let shared = Arc::clone(&self.shared);
        Asker { shared }
    }

    /// Takes connections until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut connections = JoinSet::new();
        let most = self.shared.options.connections;
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((socket, peer)) if connections.len() < most => {
                        let connection = Connection::new(&self, peer);
                        connections.spawn(connection.run(socket));
                    }
                    // Whoever is one too many is told nothing, and dials again.
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(ACCEPT_REST).await,
                },
            }
        }
    }
}

impl Asker {
    /// Asks whoever is at the other end of a connection. False if it is gone, or was asked too much.
    pub fn ask(&self, connection: ConnectionId, ask: Ask) -> bool {
        let asks = self.shared.known().open.get(&connection).cloned();
        asks.is_some_and(|asks| asks.try_send(ask).is_ok())
    }

    /// Forgets which frames there are: a process that dials again begins anew.
    pub fn forget(&self) {
        self.shared.known().last.clear();
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Only an exhausted memory could panic under it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A process is there by this connection, and by no other any more. Returns the number of the last
    /// frame that there is of it, and when that came.
    fn opened(&mut self, process: u128, connection: ConnectionId) -> Option<(u64, u64)> {
        self.current.insert(process, connection);
        self.last.get(&process).copied()
    }

    fn has(&mut self, process: u128, number: u64) {
        self.next += 1;
        let now = self.next;
        self.last.insert(process, (number, now));
        if self.last.len() > PROCESSES {
            let oldest = self.last.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(process, _)| *process) {
                self.last.remove(&oldest);
            }
        }
    }
}

/// Why a connection is closed; none if the other side has closed it, or nobody listens any more.
struct Closed(Option<String>);

impl Closed {
    const GONE: Self = Self(None);

    fn by_us(why: impl Into<String>) -> Self {
        Self(Some(why.into()))
    }
}

/// One connection.
struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    shared: Arc<Shared>,
    heard: mpsc::Sender<Heard>,
    asks: mpsc::Receiver<Ask>,
}

impl Connection {
    fn new(listener: &Listener, peer: SocketAddr) -> Self {
        let (asker, asks) = mpsc::channel(ASKS);
        let mut known = listener.shared.known();
        known.next += 1;
        let id = ConnectionId(known.next);
        known.open.insert(id, asker);
        drop(known);
        Self {
            id,
            peer,
            shared: Arc::clone(&listener.shared),
            heard: listener.heard.clone(),
            asks,
        }
    }

    async fn run(mut self, socket: TcpStream) {
        let why = self.talk(socket).await.err().and_then(|closed| closed.0);
        let peer = self.peer;
        self.tell(What::Closed { peer, why }, None).await;
    }

    async fn talk(&mut self, mut socket: TcpStream) -> Result<(), Closed> {
        // It only costs speed if it cannot be set.
        let _ = socket.set_nodelay(true);
        let patience = self.shared.options.patience;
        let end = Instant::now() + patience;
        let late = |_| Closed::by_us(format!("it did not say who it is within {patience:?}"));
        let opened = timeout_at(end, open(&mut socket)).await.map_err(late)?;
        let hello = opened?;
        let Body::Hello(who) = &hello.body else {
            return Err(Closed::by_us("it did not say who it is first"));
        };
        let process = who.process;
        if who.version != VERSION {
            let theirs = who.version;
            return Err(CodecError::Version { theirs }.into());
        }
        let last = self.shared.known().opened(process, self.id);
        let ask = Ask::Hello {
            version: VERSION,
            process: last.map_or(0, |_| process),
            last: last.map_or(0, |(number, _)| number),
        };
        let (peer, hello) = (self.peer, Box::new(hello));
        self.tell(What::Opened { peer, hello }, None).await;
        let (mut read, mut write) = socket.split();
        let asked = write_ask(&mut write, &ask, patience);
        asked.await.map_err(|_gone| Closed::GONE)?;
        let heard = hear(&mut read, self.id, process, &self.shared, &self.heard);
        let mut heard = pin!(heard);
        loop {
            tokio::select! {
                ended = &mut heard => return ended,
                Some(ask) = self.asks.recv() => {
                    let asked = write_ask(&mut write, &ask, patience);
                    asked.await.map_err(|_gone| Closed::GONE)?;
                }
            }
        }
    }

    async fn tell(&self, what: What, held: Option<OwnedSemaphorePermit>) {
        let heard = Heard {
            connection: self.id,
            what,
            _held: held,
        };
        // Nobody may listen any more.
        let _ = self.heard.send(heard).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut known = self.shared.known();
        known.open.remove(&self.id);
        known.current.retain(|_, current| *current != self.id);
    }
}

/// Hears who it is.
async fn open(socket: &mut TcpStream) -> Result<Frame, Closed> {
    socket
        .write_all(&preamble())
        .await
        .map_err(|_gone| Closed::GONE)?;
    let mut began = [0; PREAMBLE];
    socket
        .read_exact(&mut began)
        .await
        .map_err(|_gone| Closed::GONE)?;
    check_preamble(began)?;
    let len = length(socket, MAX_HELLO).await?.ok_or(Closed::GONE)?;
    let mut bytes = vec![0; len];
    socket
        .read_exact(&mut bytes)
        .await
        .map_err(|_gone| Closed::GONE)?;
    Ok(codec::decode(&bytes)?)
}

/// Passes on what comes, until there is no more.
async fn hear(
    from: &mut (impl AsyncRead + Unpin),
    connection: ConnectionId,
    process: u128,
    shared: &Arc<Shared>,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), Closed> {
    let patience = shared.options.patience;
    while let Some(len) = length(from, MAX_FRAME).await? {
        let permits = weight(len, shared.options.bytes);
        let held = Arc::clone(&shared.room).acquire_many_owned(permits).await;
        let held = held.map_err(|_closed| Closed::GONE)?;
        let mut bytes = Vec::new();
        let mut part = (&mut *from).take(len as u64);
        let read = timeout(patience, part.read_to_end(&mut bytes)).await;
        let late = |_| {
            Closed::by_us(format!(
                "a frame of {len} bytes was not there within {patience:?}"
            ))
        };
        if read.map_err(late)?.map_err(|_gone| Closed::GONE)? < len {
            return Err(Closed::GONE);
        }
        let frame: Frame = codec::decode(&bytes)?;
        let number = frame.number;
        let heard_it = Heard {
            connection,
            what: What::Frame(Box::new(frame)),
            _held: Some(held),
        };
        let place = heard.reserve().await.map_err(|_closed| Closed::GONE)?;
        let mut known = shared.known();
        if known.current.get(&process) != Some(&connection) {
            return Err(Closed::by_us("the process has dialled anew"));
        }
        known.has(process, number);
        // Under the lock: whoever dials anew is told of just what has been passed on.
        place.send(heard_it);
    }
    Ok(())
}

/// How many permits a frame of so many bytes takes: lists of lists, as schemas have, take many times as
/// much once they are decoded.
fn weight(len: usize, all: usize) -> u32 {
    let bytes = if len > LARGE { len * GROWTH } else { len };
    u32::try_from(bytes.min(all) / PERMIT).unwrap_or(u32::MAX)
}

/// The length of the next frame; none at the end.
async fn length(from: &mut (impl AsyncRead + Unpin), most: usize) -> Result<Option<usize>, Closed> {
    let mut len = [0; 4];
    match from.read_exact(&mut len).await {
        Ok(_) => {}
        Err(_) => return Ok(None),
    }
    let len = u32::from_be_bytes(len) as usize;
    if len > most {
        return Err(CodecError::TooLong { len, most }.into());
    }
    Ok(Some(len))
}

async fn write_ask(
    to: &mut (impl AsyncWriteExt + Unpin),
    ask: &Ask,
    patience: Duration,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    codec::append(ask, &mut bytes).map_err(io::Error::other)?;
    timeout(patience, to.write_all(&bytes)).await?
}

impl From<CodecError> for Closed {
    fn from(error: CodecError) -> Self {
        Self::by_us(error.to_string())
    }
}
