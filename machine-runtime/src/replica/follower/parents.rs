//! The nodes that a follower can follow, and which of them it does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tarpc::client;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::Lost;
use super::session::{Opened, within};
use crate::observe::{Observers, Side};
use crate::position::Epoch;
use crate::replica::admission::{Bearer, Token};
use crate::replica::caller::Caller;
use crate::replica::codec::transport;
use crate::replica::connect::Connect;
use crate::replica::uplink::UPLINK;
use crate::replica::wire::Probe;

/// How long it may take to reach a parent.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a parent that is to be preferred may answer later than another.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a parent that shows our life of the root may answer later than one that shows another.
const OTHER_LIFE: Duration = Duration::from_secs(1);

/// For how long a parent that refuses us, or whose answers could not be used, comes last.
const REFUSED: Duration = Duration::from_mins(1);

/// For how long one that had nothing to give comes last.
const NOT_READY: Duration = Duration::from_secs(2);

/// A search for another parent.
pub(super) type Scouting = Pin<Box<dyn Future<Output = Option<Opened>> + Send>>;

/// What it takes to open a connection, and to judge who answers.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) max_frame: usize,
    /// What it shows to be told how a parent does.
    pub(super) token: Bearer,
    pub(super) observers: Option<Observers>,
    /// The age from which on a parent is not taken for fresh.
    pub(super) worry: Duration,
    /// When what we show was last known to be the root's newest, and when that was so long ago.
    pub(super) age: (Duration, Instant),
}

impl Dial {
    /// Whether a node that shows another life of the root, and was `age` old when it said so, can know it
    /// later than we know ours.
    fn is_later(&self, age: Duration) -> bool {
        let (ours, since) = self.age;
        age <= ours + since.elapsed()
    }
}

/// How good a parent would be, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// It is fresh, and shows the life of the root that we show.
    Same,
    /// It is fresh and shows another life.
    Other,
    /// It is cut off itself.
    Stale,
    /// It has nothing to give, or does not say how it does.
    Unknown,
    /// It did not do lately.
    Avoided,
}

/// A parent that answered.
struct Candidate {
    rank: Rank,
    index: usize,
    /// The connection, unless asking how it does has ended it.
    opened: Option<Opened>,
}

struct Parent<C> {
    // Only one search at a time dials.
    connect: Arc<Mutex<C>>,
    avoid: Option<Instant>,
}

/// The nodes that a follower can follow, the preferred first.
pub(super) struct Parents<C> {
    list: Vec<Parent<C>>,
}

impl<C: Connect> Parents<C> {
    pub(super) fn new(parents: Vec<C>) -> Self {
        let list = parents.into_iter().map(|connect| Parent {
            connect: Arc::new(Mutex::new(connect)),
            avoid: None,
        });
        Self {
            list: list.collect(),
        }
    }

    pub(super) fn has_others(&self) -> bool {
        self.list.len() > 1
    }

    /// Has a parent that was lost so come last for a while, or not.
    pub(super) fn avoid(&mut self, index: usize, lost: &Lost) {
        let time = match lost {
            Lost::Refused(_) | Lost::Untrusted(_) | Lost::Malformed(_) => Some(REFUSED),
            Lost::NotReady | Lost::Full | Lost::Closing | Lost::Timeout => Some(NOT_READY),
            Lost::Connect(_) | Lost::Rpc(_) => None,
        };
        self.list[index].avoid = time.map(|time| Instant::now() + time);
    }

    /// Opens a connection to the best of all parents: the first that is fresh and shows `epoch`, if that is
    /// given, or else the next best.
    pub(super) async fn choose(&self, dial: &Dial, epoch: Option<Epoch>) -> Result<Opened, Lost> {
        if let [only] = &self.list[..] {
            return open(Arc::clone(&only.connect), 0, dial).await;
        }
        let all = (0..self.list.len()).collect();
        let (candidate, error) = self.scout(dial, all, epoch).await;
        let Some(candidate) = candidate else {
            return Err(error.unwrap_or(Lost::Timeout));
        };
        if let Some(opened) = candidate.opened {
            return Ok(opened);
        }
        let connect = Arc::clone(&self.list[candidate.index].connect);
        open(connect, candidate.index, dial).await
    }

    /// Searches for a parent that is better than the one that we follow and that is cut off: one that is
    /// fresh, where `stale` also in another life of the root.
    pub(super) fn better(
        &self,
        dial: &Dial,
        index: usize,
        epoch: Option<Epoch>,
        stale: bool,
    ) -> Scouting {
        let others = (0..self.list.len()).filter(move |other| *other != index);
        let found = self.scout(dial, others.collect(), epoch);
        Box::pin(async move {
            let (found, _) = found.await;
            let enough = if stale { Rank::Other } else { Rank::Same };
            found.filter(|found| found.rank <= enough)?.opened
        })
    }

    /// Searches for a parent that is to be preferred to the one that we follow and does as well.
    pub(super) fn earlier(&self, dial: &Dial, index: usize, epoch: Option<Epoch>) -> Scouting {
        let found = self.scout(dial, (0..index).collect(), epoch);
        Box::pin(async move {
            let (found, _) = found.await;
            found.filter(|found| found.rank == Rank::Same)?.opened
        })
    }

    /// Asks some parents how they do. Returns the best, and an error of one that could not be reached.
    fn scout(
        &self,
        dial: &Dial,
        which: Vec<usize>,
        epoch: Option<Epoch>,
    ) -> impl Future<Output = (Option<Candidate>, Option<Lost>)> + Send + use<C> + 'static {
        let now = Instant::now();
        let mut pending = FuturesUnordered::new();
        let mut open = Vec::new();
        for index in which {
            let parent = &self.list[index];
            let (connect, dial) = (Arc::clone(&parent.connect), dial.clone());
            let avoided = parent.avoid.is_some_and(|until| until > now);
            open.push(index);
            pending.push(async move {
                let answer = look_at(connect, index, &dial, epoch, avoided).await;
                (index, answer)
            });
        }
        async move {
            let (mut best, mut error): (Option<Candidate>, _) = (None, None);
            let mut settle = None;
            loop {
                tokio::select! {
                    biased;
                    next = pending.next() => match next {
                        None => break,
                        Some((index, answer)) => {
                            open.retain(|other| *other != index);
                            match answer {
                                Err(lost) => error = Some(lost),
                                Ok(found) => {
                                    let place = |found: &Candidate| (found.rank, found.index);
                                    if best.as_ref().is_none_or(|best| place(&found) < place(best)) {
                                        best = Some(found);
                                    }
                                }
                            }
                        }
                    },
                    () = sleep_until(settle.unwrap_or(now)), if settle.is_some() => break,
                }
                match best.as_ref().map(|best| (best.rank, best.index)) {
                    Some((Rank::Same, index)) => {
                        if open.iter().all(|other| *other > index) {
                            break;
                        }
                        let soon = Instant::now() + HEAD_START;
                        settle = Some(settle.map_or(soon, |settle: Instant| settle.min(soon)));
                    }
                    Some((Rank::Other, _)) => {
                        settle = settle.or(Some(Instant::now() + OTHER_LIFE));
                    }
                    _ => {}
                }
            }
            (best, error)
        }
    }
}

/// Opens a connection and asks how the node does.
async fn look_at<C: Connect>(
    connect: Arc<Mutex<C>>,
    index: usize,
    dial: &Dial,
    epoch: Option<Epoch>,
    avoided: bool,
) -> Result<Candidate, Lost> {
    let mut opened = open(connect, index, dial).await?;
    let client = opened.client.clone();
    let probe = tokio::select! {
        biased;
        _ended = &mut opened.dispatch => None,
        probe = probe(&client, dial.token.token()) => Some(probe?),
    };
    let rank = match &probe {
        _ if avoided => Rank::Avoided,
        // A node of protocol 1 closes a connection on which it is asked what it does not know.
        None | Some(Probe { position: None, .. }) => Rank::Unknown,
        Some(probe) if Duration::from_millis(probe.age_ms.into()) > dial.worry => Rank::Stale,
        Some(probe) => {
            let position = probe.position;
            let theirs = position.map(|position| position.epoch);
            let age = Duration::from_millis(probe.age_ms.into());
            if epoch.is_none() || theirs == epoch {
                Rank::Same
            } else if dial.is_later(age) {
                Rank::Other
            } else {
                Rank::Unknown
            }
        }
    };
    let opened = probe.is_some().then_some(opened);
    Ok(Candidate {
        rank,
        index,
        opened,
    })
}

/// Asks how the node does, once it has seen our token.
async fn probe(client: &Caller, token: Option<Token>) -> Result<Probe, Lost> {
    if let Some(token) = token {
        // A parent that does not admit us has nothing to tell, and tells that.
        within(CONNECT, |ctx| client.show(ctx, &token)).await??;
    }
    Ok(within(CONNECT, |ctx| client.probe(ctx)).await??)
}

/// Opens a connection.
async fn open<C: Connect>(
    connect: Arc<Mutex<C>>,
    index: usize,
    dial: &Dial,
) -> Result<Opened, Lost> {
    let dialled = timeout(CONNECT, async {
        let mut connect = connect.lock().await;
        let io = connect.connect().await?;
        Ok((io, connect.changed()))
    });
    let (io, changed) = match dialled.await {
        Ok(Ok(dialled)) => dialled,
        Ok(Err(error)) => return Err(Lost::Connect(error)),
        Err(_elapsed) => return Err(Lost::Timeout),
    };
    let transport = transport(
        io,
        (dial.max_frame, dial.max_frame),
        Side::Up,
        dial.observers.clone(),
    );
    let mut config = client::Config::default();
    // Calls that were dropped count until that has been written. Our own question goes into the
    // same line, so it must not be full of writes.
    config.max_in_flight_requests = 2 * UPLINK;
    config.pending_request_buffer = UPLINK;
    let new = client::new(config, transport);
    let dispatch = new.dispatch;
    Ok(Opened {
        index,
        client: Caller::new(new.client),
        dispatch: Box::pin(async move {
            let ended = tokio::select! {
                biased;
                ended = dispatch => ended,
                () = changed => return "what it was made with has changed".to_owned(),
            };
            match ended {
                Ok(()) => "closed by the parent".to_owned(),
                Err(error) => error.to_string(),
            }
        }),
    })
}
