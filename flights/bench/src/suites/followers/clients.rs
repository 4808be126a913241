//! The process of the followers: real ones over TCP, of which some read slowly, and some not at all
//! once they are let in.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use clap::Args;
use machine_node::shutdown::Tasks;
use machine_runtime::replica::{
    Connect, Follower, FollowerOptions, Granularity, Link, LinkState, Resync, Tcp,
};
use machine_runtime::{DynState, States};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::marks::{Mark, now_ns};
use crate::samples::Samples;
use crate::states::Published148;
use crate::talk;

/// For how long a stalled follower does not read before it connects anew: a little longer than a
/// parent bears it.
const STALL: Duration = Duration::from_secs(65);

/// How much a slow follower reads at once.
const SIP: usize = 64;

/// How long it waits in between.
const REST: Duration = Duration::from_millis(100);

/// How long those that do not read as they should wait for an answer.
const PATIENCE: Duration = Duration::from_hours(1);

/// Options of the process of the followers.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientsArgs {
    /// The parent's address
    #[arg(long)]
    parent: String,
    /// Where the parent tells when it wrote what
    #[arg(long)]
    marks: PathBuf,
    /// How many read all that there is
    #[arg(long)]
    healthy: usize,
    /// How many read slowly
    #[arg(long)]
    slow: usize,
    /// How many do not read
    #[arg(long)]
    stalled: usize,
}

/// How the followers are, and what happened since they were asked last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// How many are let in now.
    pub(crate) following: usize,
    /// How often one was let in so far.
    pub(crate) connects: u64,
    /// The deltas that healthy ones took so far.
    pub(crate) deltas: u64,
    /// The snapshots that healthy ones took so far, less their first.
    pub(crate) snapshots: u64,
    /// How long after it was sent healthy ones showed a write, in ms: the median and the 99th of a
    /// hundred. None if nothing was written.
    pub(crate) lag_ms: Option<[f64; 2]>,
}

/// How a follower reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Healthy,
    Slow,
    Stalled,
}

/// What a follower showed, and when. Nothing awaits under it.
type Shown = Arc<Mutex<Vec<(u64, u64)>>>;

struct Client {
    manner: Manner,
    link: Link,
    shown: Shown,
}

/// Follows until its standard input ends. Whatever it is asked, it answers with what it has [`Seen`].
pub(crate) async fn run(args: ClientsArgs) -> anyhow::Result<()> {
    talk::raise_files();
    let tasks = Tasks::default();
    let manners = [
        (args.healthy, Manner::Healthy),
        (args.slow, Manner::Slow),
        (args.stalled, Manner::Stalled),
    ];
    let manners = manners.into_iter();
    let clients: Vec<_> = manners
        .flat_map(|(count, manner)| std::iter::repeat_n(manner, count))
        .enumerate()
        .map(|(i, manner)| follow(i, manner, &args.parent, &tasks))
        .collect();
    let mut asked = talk::questions();
    while asked.recv().await.is_some() {
        let marks = fs::read(&args.marks)?;
        let marks: Vec<_> = Mark::all(&marks).collect();
        talk::answer(&seen(&clients, &marks))?;
    }
    Ok(())
}

fn follow(i: usize, manner: Manner, parent: &str, tasks: &Tasks) -> Client {
    let mut options = FollowerOptions::new(format!("client-{i}"));
    if manner != Manner::Healthy {
        options.heartbeat = PATIENCE;
    }
    if manner == Manner::Slow && i.is_multiple_of(2) {
        options.granularity = Granularity::Every;
    }
    let schema = Arc::clone(Published148::schema());
    let (view, follower) = Follower::new::<DynState>(schema, options);
    let link = follower.link().clone();
    let connect = Dial {
        tcp: Tcp {
            addr: parent.to_owned(),
        },
        manner,
        link: link.clone(),
    };
    tasks.spawn_until_stopped(follower.run(vec![connect], std::future::pending()));
    let shown = Shown::default();
    if manner == Manner::Healthy {
        let shown = Arc::clone(&shown);
        let mut positions = view.positions();
        tasks.spawn_until_stopped(async move {
            while positions.changed().await.is_ok() {
                let at = positions.borrow_and_update().map_or(0, |at| at.revision);
                lock(&shown).push((at, now_ns()));
            }
        });
    }
    Client {
        manner,
        link,
        shown,
    }
}

fn lock(shown: &Shown) -> std::sync::MutexGuard<'_, Vec<(u64, u64)>> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seen(clients: &[Client], marks: &[Mark]) -> Seen {
    let mut seen = Seen {
        following: 0,
        connects: 0,
        deltas: 0,
        snapshots: 0,
        lag_ms: None,
    };
    let mut lags = Vec::new();
    for client in clients {
        let is_in = matches!(*client.link.state(), LinkState::Following { .. });
        seen.following += usize::from(is_in);
        seen.connects += client.link.connects();
        if client.manner != Manner::Healthy {
            continue;
        }
        seen.deltas += client.link.deltas();
        let again = [Resync::Epoch, Resync::Compacted, Resync::Digest];
        let again = again.map(|reason| client.link.resyncs(reason));
        seen.snapshots += again.iter().sum::<u64>();
        let shown = std::mem::take(&mut *lock(&client.shown));
        lags.extend(lags_ms(&shown, marks));
    }
    if !lags.is_empty() {
        let lags = Samples::new(lags);
        seen.lag_ms = Some([lags.median(), lags.quantile(0.99)]);
    }
    seen
}

/// How long after they were sent marked writes were first shown, in ms, of those among them that were
/// shown later than the first of `shown`, which may have been shown before.
fn lags_ms(shown: &[(u64, u64)], marks: &[Mark]) -> impl Iterator<Item = f64> {
    let before = shown.first().map_or(u64::MAX, |(revision, _)| *revision);
    let start = marks.partition_point(|mark| mark.revision <= before);
    marks[start..].iter().map_while(|mark| {
        let place = shown.partition_point(|(revision, _)| *revision < mark.revision);
        let (_, at) = shown.get(place)?;
        let ns = u32::try_from(at.saturating_sub(mark.sent) / 1000).unwrap_or(u32::MAX);
        Some(f64::from(ns) / 1e3)
    })
}

/// Connects and reads in some manner.
struct Dial {
    tcp: Tcp,
    manner: Manner,
    link: Link,
}

impl Connect for Dial {
    type Io = Reader;

    async fn connect(&mut self) -> io::Result<Reader> {
        Ok(Reader {
            stream: self.tcp.connect().await?,
            manner: self.manner,
            connects: self.link.connects(),
            link: self.link.clone(),
            rest: Box::pin(sleep(Duration::ZERO)),
            stalls: false,
        })
    }
}

/// A connection that is read in some manner.
struct Reader {
    stream: TcpStream,
    manner: Manner,
    link: Link,
    /// How often the follower was let in before.
    connects: u64,
    rest: Pin<Box<Sleep>>,
    stalls: bool,
}

impl Reader {
    fn read_slowly(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.rest.as_mut().poll(cx));
        let sip = SIP.min(buffer.remaining());
        let mut sip = ReadBuf::new(buffer.initialize_unfilled_to(sip));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut sip))?;
        let read = sip.filled().len();
        buffer.advance(read);
        self.rest.as_mut().reset(Instant::now() + REST);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // All read the snapshot that they are let in with.
        if self.manner == Manner::Healthy || self.link.connects() == self.connects {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        if self.manner == Manner::Slow {
            return self.read_slowly(cx, buffer);
        }
        if !self.stalls {
            self.stalls = true;
            self.rest.as_mut().reset(Instant::now() + STALL);
        }
        ready!(self.rest.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Reader {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_from_when_it_was_sent_until_it_was_first_shown() {
        let marks = [(5, 0), (10, 1_000_000), (20, 4_000_000), (90, 0)];
        let marks = marks.map(|(revision, sent)| Mark { revision, sent });
        let shown = [
            (7, 500_000),
            (12, 3_000_000),
            (13, 3_500_000),
            (20, 4_500_000),
        ];
        assert!(lags_ms(&shown, &marks).eq([2.0, 0.5]));
        assert_eq!(lags_ms(&[], &marks).count(), 0);
    }
}
