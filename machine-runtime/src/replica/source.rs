//! The side that is followed.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tarpc::ChannelError;
use tarpc::server::{BaseChannel, Channel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::handle::Handle;
use crate::observe::{LinkChange, Side};
use crate::state::{DynState, State};
use crate::view::{Shared, View};

use super::admission::{Admission, Credentials};
use super::codec::{frame, frame_of_followers, transport};
use super::seldom::Seldom;
use super::uplink::UPLINK;
use super::wire::Replication;

pub(super) use self::answer::relay;
pub(super) use self::peer::millis;
use self::peer::{Peer, Quiet};
use self::room::Room;
pub use self::stats::{Served, SourceStats};

mod answer;
mod gate;
mod peer;
mod room;
mod stats;

/// What the lines of all its parts are logged under.
const TARGET: &str = module_path!();

/// How many calls of one connection are worked on at a time: more than a follower that keeps to its
/// own bound has under way, those included that it has just dropped. Any beyond that is refused at
/// once, so a question never waits behind writes.
const CALLS: usize = 2 * UPLINK;

/// How many answers wait to be written on a connection.
const ANSWERS: usize = 16;

/// How long `accept` rests after an error, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// After how long without a word from a follower its connection is closed, unless told otherwise: three
/// times as long as a question is held at most.
pub const IDLE: Duration = Duration::from_mins(1);

/// How long a follower may take to say hello, unless told otherwise.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How many followers are served at a time, unless told otherwise.
pub const FOLLOWERS: usize = 4096;

/// How often at most a line says that connections are closed for what comes over them, each kind.
static GARBAGE: Seldom = Seldom::new();
static GREEDY: Seldom = Seldom::new();
static SILENT: Seldom = Seldom::new();

/// How a node serves its followers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SourceOptions {
    /// The node's name.
    pub name: String,
    /// The least time between two deltas to one follower; what happens in between is one delta.
    /// Zero sends each at once. A follower can ask for a longer one.
    pub push_interval: Duration,
    /// The longest frame in bytes; by default what a snapshot of the schema can take.
    pub max_frame: Option<usize>,
    /// After how long without a word from a follower its connection is closed.
    pub idle: Duration,
    /// How many followers are served at a time. Who says hello beyond that is refused.
    pub followers: usize,
    /// How long a follower may take to say hello before its connection is closed.
    pub hello_within: Duration,
}

impl SourceOptions {
    /// The defaults, for a node of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            push_interval: Duration::ZERO,
            max_frame: None,
            idle: IDLE,
            followers: FOLLOWERS,
            hello_within: HELLO_WITHIN,
        }
    }
}

/// Serves the moments of a view to followers.
#[derive(Clone)]
pub struct Source {
    shared: Arc<Shared>,
    options: Arc<SourceOptions>,
    stats: SourceStats,
    writes: Option<Handle<DynState>>,
    admission: Option<Arc<dyn Admission>>,
    /// Whether followers are sent away.
    draining: Arc<watch::Sender<bool>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// A source of what `view` shows, which takes no writes.
    pub fn new<S: State>(view: &View<S>, options: SourceOptions) -> Self {
        Self {
            shared: Arc::clone(view.shared()),
            options: Arc::new(options),
            stats: SourceStats::default(),
            writes: None,
            admission: None,
            draining: Arc::default(),
        }
    }

    /// Has followers' writes go to `handle`, which has to be that of the view.
    #[must_use]
    pub fn with_writes<S: State>(mut self, handle: &Handle<S>) -> Self {
        self.writes = Some(handle.untyped());
        self
    }

    /// Has `admission` say who may follow, and what followers may change; without it that is everybody and
    /// all.
    #[must_use]
    pub fn with_admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission = Some(admission);
        self
    }

    /// What the source has done so far.
    pub fn stats(&self) -> &SourceStats {
        &self.stats
    }

    /// Sends all followers away, and does not take new ones from now on: they go to another parent if
    /// they have one. Resolves when none is left, or after `within`.
    ///
    /// # Cancel safety
    ///
    /// If dropped, followers are sent away all the same.
    pub async fn drain(&self, within: Duration) {
        self.draining.send_replace(true);
        // Whoever is left then is closed with its connection.
        let _ = timeout(within, self.stats.deserted()).await;
    }

    /// Whether followers are sent away.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Serves whoever connects to `listener`, until `stop` resolves.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        // Aborts what is left when it drops; a question under way is asked again elsewhere.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted
                .and_then(|(stream, from)| stream.set_nodelay(true).map(|()| (stream, from)))
            {
                Ok((stream, from)) => {
                    let source = self.clone();
                    let shown = Credentials::default().at(from.ip());
                    connections.spawn(async move { source.serve_peer(stream, shown).await });
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept followers");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Serves one follower over `io`, until either side closes it, nothing was heard of it for too long, it
    /// does not say hello in time, it sends what cannot be read, or it asks on and on and does not take its
    /// answers.
    pub async fn serve_connection<T: AsyncRead + AsyncWrite + Send + 'static>(&self, io: T) {
        self.serve_peer(io, Credentials::default()).await;
    }

    /// As [`Source::serve_connection`], of a follower that has shown these `credentials`, to which it may add
    /// its token. It ends as well once the follower is not admitted any more, or may do something else.
    pub async fn serve_peer<T>(&self, io: T, credentials: Credentials)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let peer = Peer::new(self, credentials);
        let (quiet, revoked) = (peer.quiet(), peer.revoked());
        let config = tarpc::server::Config {
            // Bounds what a follower that does not read makes us keep.
            pending_response_buffer: ANSWERS,
        };
        let max_frame = self.options.max_frame;
        let max_frame = max_frame.unwrap_or_else(|| frame(self.shared.schema()));
        let max_in = max_frame.min(frame_of_followers(self.shared.schema()));
        let observers = self.shared.observers().cloned();
        let transport = transport(io, (max_in, max_frame), Side::Down, observers);
        let channel = BaseChannel::new(config, transport);
        let room = Room::new();
        let served = channel
            .max_concurrent_requests(CALLS)
            .requests()
            .map(|request| {
                let request = request.map_err(|error| Ended::of(&error))?;
                let taken = room.take(&request.get().message);
                taken.map(|room| (request, room)).ok_or(Ended::Greedy)
            })
            .try_for_each_concurrent(None, |(request, room)| {
                // Not an async block, which would hold the future twice over.
                let answer = request.execute(peer.clone().serve());
                answer.map(move |()| {
                    drop(room);
                    Ok(())
                })
            });
        tokio::select! {
            biased;
            () = revoked => self.stats.count_revoked(),
            ended = served => match ended {
                Ok(()) | Err(Ended::Broken) => {}
                Err(Ended::Garbage(why)) => {
                    self.stats.count_garbage();
                    GARBAGE.say(|more| tracing::warn!(
                        node = self.options.name, why, more, "closed a link over which came what cannot be read"
                    ));
                }
                Err(Ended::Greedy) => {
                    self.stats.count_dropped();
                    GREEDY.say(|more| tracing::warn!(
                        node = self.options.name, more, "dropped a follower that does not take its answers"
                    ));
                }
            },
            quiet = quiet => match quiet {
                Quiet::Silent => {
                    self.stats.count_dropped();
                    tracing::info!(node = self.options.name, "dropped a follower that says nothing");
                }
                Quiet::NoHello => {
                    self.stats.count_no_hello();
                    SILENT.say(|more| tracing::info!(
                        node = self.options.name, more, "closed a link on which nobody said hello"
                    ));
                }
            },
        }
    }

    fn tell(&self, peer: String, change: LinkChange) {
        if let Some(observers) = self.shared.observers() {
            observers.tell_link(Side::Down, peer, change);
        }
    }
}

/// Why a follower is served no more.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Ended {
    /// The connection broke.
    Broken,
    /// What it sends cannot be read, and why.
    Garbage(String),
    /// It asks for more than it takes.
    Greedy,
}

impl Ended {
    fn of(error: &ChannelError<io::Error>) -> Self {
        match error {
            ChannelError::Read(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Garbage(error.to_string())
            }
            _ => Self::Broken,
        }
    }
}

/// Whether an error of `accept` concerns the one connection only.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}
