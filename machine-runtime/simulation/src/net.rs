//! A network of hosts on tokio's clock. What it does to bytes is drawn from a seed.
//!
//! Which of several tasks runs first that wait for the same is drawn by tokio, and not from the seed. So
//! all that is written within a millisecond is sent after it, in an order of its own, and no two things
//! come to a host in the same millisecond: what each host is told, and when, is the same in each run.
//!
//! A stream keeps its order, as TCP does. What is lost comes later; what comes while a line is cut
//! comes some time after that has been mended; who crashes without a word leaves streams behind that
//! are silent. Reordering comes from streams that follow each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use machine_runtime::replica::Connect;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, sleep_until};

use crate::frames::{Frames, canonical};
use crate::log::Log;

mod stream;

pub use stream::Stream;

/// The number of a host.
pub type Host = usize;

/// How many bytes of a stream may be on their way or unread before a writer has to wait.
pub const WINDOW: usize = 64 * 1024;

/// How many arrivals are remembered before those that are over are forgotten.
const ARRIVALS: usize = 4096;

/// How a line is, in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// What a byte takes at least, in milliseconds.
    pub latency: u64,
    /// What it takes longer at most.
    pub jitter: u64,
    /// Bytes per millisecond; as many as wanted if 0.
    pub rate: u64,
    /// How many segments in a hundred are lost, and sent again.
    pub loss: u8,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency: 1,
            jitter: 0,
            rate: 0,
            loss: 0,
        }
    }
}

/// Which way a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From a follower to its parent.
    Up,
    /// From a parent to its follower.
    Down,
}

/// What goes on instead of a frame.
#[derive(Debug, Default)]
pub struct Passed {
    /// Frames to the parent.
    pub up: Vec<Vec<u8>>,
    /// Frames to the follower.
    pub down: Vec<Vec<u8>>,
}

/// A stream, and between whom it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// Who dialled.
    pub follower: Host,
    /// Whom.
    pub parent: Host,
    /// The number of the stream.
    pub id: u64,
}

/// Stands between parents and their followers, and does what it likes to their frames.
pub trait Tamper: Send {
    /// What goes on instead of `frame` (without its length).
    fn pass(&mut self, hop: Hop, way: Way, frame: Vec<u8>, passed: &mut Passed);
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Mutex<Inner>>,
    written: Arc<Notify>,
    log: Log,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

struct Inner {
    rng: fastrand::Rng,
    hosts: Vec<HostState>,
    /// Line from a host to another, at `from * hosts + to`.
    lines: Vec<Line>,
    streams: BTreeMap<u64, Pair>,
    /// How many streams there were from a host to another.
    opened: Vec<u64>,
    /// What was written and is not on its way yet.
    outbox: Vec<Written>,
    /// When something comes to a host.
    arrivals: BTreeSet<(Host, u64)>,
    /// Who stands between all nodes.
    planted: Option<Box<dyn Tamper>>,
    /// The longest that a byte was on its way and then came, in milliseconds.
    transit: u64,
    /// The most bytes that a stream held.
    fullest: usize,
}

#[derive(Default)]
struct HostState {
    listener: Option<mpsc::UnboundedSender<(Host, Stream)>>,
    /// There is no machine that could say that nobody listens.
    dark: bool,
    /// Until when whatever runs there does not read.
    stalled: u64,
    tamper: Option<Box<dyn Tamper>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    weather: Weather,
    /// Since when it is cut.
    cut: Option<u64>,
    /// When the last byte under way has left the sender.
    free: u64,
}

/// A frame that was written at one end of a stream.
struct Written {
    id: u64,
    side: usize,
    frame: Vec<u8>,
}

/// Both directions of a stream: from who dialled, and to it.
struct Pair {
    ends: [Host; 2],
    pipes: [Pipe; 2],
    /// Which ends are still held.
    held: [bool; 2],
    /// A host crashed without a word: nothing comes through any more.
    silent: Option<Host>,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    segments: VecDeque<Segment>,
    frames: Frames,
    /// How many frames are in the outbox.
    waiting: usize,
    /// When the last segment comes.
    last: u64,
    /// How many bytes were sent and not yet taken, as far as the sender knows.
    window: usize,
    /// How many were taken that the sender was not told of.
    untold: usize,
    /// The sender closed it; what is under way comes before.
    closed: bool,
    /// When the reader learns that the other side does not know the stream.
    reset: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Segment {
    sent: u64,
    comes: u64,
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Pipe {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Net {
    /// A network of so many hosts.
    pub fn new(hosts: usize, seed: u64, log: Log) -> Self {
        let inner = Inner {
            rng: fastrand::Rng::with_seed(seed),
            hosts: (0..hosts).map(|_| HostState::default()).collect(),
            lines: vec![Line::default(); hosts * hosts],
            streams: BTreeMap::new(),
            opened: vec![0; hosts * hosts],
            outbox: Vec::new(),
            arrivals: BTreeSet::new(),
            planted: None,
            transit: 0,
            fullest: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            written: Arc::new(Notify::new()),
            log,
        }
    }

    /// Carries what is written, until it is dropped.
    pub async fn carry(self) {
        loop {
            self.written.notified().await;
            sleep_until(self.log.at(self.log.now() + 1)).await;
            self.lock().carry(&self.log);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The streams that are opened to a host from now on, and who opened them, until it drops.
    pub fn listen(&self, host: Host) -> mpsc::UnboundedReceiver<(Host, Stream)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        inner.hosts[host].listener = Some(sender);
        inner.hosts[host].dark = false;
        receiver
    }

    /// Dials `to` from `from`.
    pub fn dial(&self, from: Host, to: Host) -> Dial {
        Dial {
            net: self.clone(),
            from,
            to,
        }
    }

    /// Sets how the line from a host to another is.
    pub fn set_weather(&self, from: Host, to: Host, weather: Weather) {
        self.lock().line(from, to).weather = weather;
    }

    /// Cuts the line from a host to another.
    pub fn cut(&self, from: Host, to: Host) {
        let now = self.log.now();
        let mut inner = self.lock();
        inner.line(from, to).cut.get_or_insert(now);
    }

    /// Mends the line from a host to another: what was held up comes, some time later.
    pub fn mend(&self, from: Host, to: Host) {
        let now = self.log.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        let line = inner.line(from, to);
        let Some(since) = line.cut.take() else {
            return;
        };
        line.free = now;
        let weather = line.weather;
        // A sender tries again with growing pauses; the longer the cut, the longer the last of them.
        let pause = (now - since).min(1500);
        for pair in inner.streams.values_mut() {
            for side in 0..2 {
                let (sender, reader) = (pair.ends[side], pair.ends[1 - side]);
                if (sender, reader) == (from, to) {
                    let pipe = &mut pair.pipes[side];
                    let mut comes = now + weather.latency + inner.rng.u64(0..=pause);
                    for segment in &mut pipe.segments {
                        comes = slot(&mut inner.arrivals, to, comes.max(segment.comes));
                        segment.comes = comes;
                    }
                    pipe.last = pipe.last.max(comes);
                    pipe.wake();
                }
                if (reader, sender) == (from, to) {
                    // What the reader took is known to the sender again.
                    let pipe = &mut pair.pipes[side];
                    pipe.window -= std::mem::take(&mut pipe.untold);
                    pipe.wake();
                }
            }
        }
    }

    /// Breaks all streams between two hosts: both sides are told.
    pub fn reset(&self, one: Host, other: Host) {
        let now = self.log.now();
        for pair in self.lock().streams.values_mut() {
            let ends = pair.ends;
            if ends == [one, other] || ends == [other, one] {
                for pipe in &mut pair.pipes {
                    pipe.reset = Some(now);
                    pipe.wake();
                }
            }
        }
    }

    /// Has all streams between two hosts fall silent: neither side is told.
    pub fn silence(&self, one: Host, other: Host) {
        for pair in self.lock().streams.values_mut() {
            let ends = pair.ends;
            if ends == [one, other] || ends == [other, one] {
                pair.silent = Some(usize::MAX);
            }
        }
    }

    /// Has whatever runs on a host not read for a while.
    pub fn stall(&self, host: Host, millis: u64) {
        let until = self.log.now() + millis;
        let mut inner = self.lock();
        inner.hosts[host].stalled = until;
    }

    /// Ends all streams of a host as its process dies: with `power` lost nobody is told.
    pub fn crash(&self, host: Host, power: bool) {
        let now = self.log.now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.hosts[host].listener = None;
        inner.hosts[host].dark = power;
        inner.hosts[host].tamper = None;
        let hosts = inner.hosts.len();
        let streams = &mut inner.streams;
        inner.outbox.retain(|written| {
            let pair = streams.get_mut(&written.id);
            pair.is_some_and(|pair| {
                let stays = pair.ends[written.side] != host;
                if !stays {
                    pair.pipes[written.side].waiting -= 1;
                }
                stays
            })
        });
        for pair in inner.streams.values_mut() {
            let Some(side) = pair.ends.iter().position(|end| *end == host) else {
                continue;
            };
            let line = inner.lines[host * hosts + pair.ends[1 - side]];
            if power || line.cut.is_some() {
                pair.silent.get_or_insert(host);
            } else {
                let pipe = &mut pair.pipes[side];
                pipe.segments.clear();
                pipe.reset.get_or_insert(now + line.weather.latency.max(1));
                pipe.wake();
            }
            pair.held[side] = false;
        }
        inner.streams.retain(|_, pair| pair.held != [false; 2]);
    }

    /// Who stands between a host and its followers from now on, if anybody.
    pub fn set_tamper(&self, host: Host, tamper: Option<Box<dyn Tamper>>) {
        self.lock().hosts[host].tamper = tamper;
    }

    /// Who stands between all nodes and their followers.
    pub fn plant(&self, tamper: Box<dyn Tamper>) {
        self.lock().planted = Some(tamper);
    }

    /// Mends all lines, and all is well from now on.
    pub fn heal(&self) {
        let hosts = self.lock().hosts.len();
        for from in 0..hosts {
            for to in 0..hosts {
                self.set_weather(from, to, Weather::default());
                self.mend(from, to);
            }
            self.lock().hosts[from].stalled = 0;
            self.set_tamper(from, None);
        }
        for pair in self.lock().streams.values_mut() {
            for pipe in &mut pair.pipes {
                pipe.wake();
            }
        }
    }

    /// The longest that any byte was on its way that came, in milliseconds.
    pub fn longest_transit(&self) -> u64 {
        self.lock().transit
    }

    /// The most bytes that a stream ever held.
    pub fn fullest(&self) -> usize {
        self.lock().fullest
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.lock().streams.len()
    }

    async fn connect(&self, from: Host, to: Host) -> io::Result<Stream> {
        let mut pause = 1000;
        loop {
            let (there, back) = {
                let mut inner = self.lock();
                let dark = inner.hosts[to].dark;
                let there = *inner.line(from, to);
                let back = *inner.line(to, from);
                let open = !dark && there.cut.is_none() && back.cut.is_none();
                (open.then_some(there), back)
            };
            let Some(there) = there else {
                sleep(Duration::from_millis(pause)).await;
                pause *= 2;
                continue;
            };
            let trip = there.weather.latency + back.weather.latency;
            sleep(Duration::from_millis(trip)).await;
            return self.open(from, to);
        }
    }

    fn open(&self, from: Host, to: Host) -> io::Result<Stream> {
        let mut inner = self.lock();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = inner.hosts[to].listener.clone().ok_or_else(refused)?;
        let line = from * inner.hosts.len() + to;
        inner.opened[line] += 1;
        let id = (line as u64) << 32 | inner.opened[line];
        let pair = Pair {
            ends: [from, to],
            pipes: Default::default(),
            held: [true; 2],
            silent: None,
        };
        inner.streams.insert(id, pair);
        drop(inner);
        self.log.note(from, "connected to", (to as u64, id));
        let near = Stream::new(self.clone(), id, 0);
        let far = Stream::new(self.clone(), id, 1);
        listener.send((from, far)).map_err(|_gone| refused())?;
        Ok(near)
    }
}

impl Inner {
    fn line(&mut self, from: Host, to: Host) -> &mut Line {
        let hosts = self.hosts.len();
        &mut self.lines[from * hosts + to]
    }

    /// Takes what was written at one end of a stream; whether a frame is whole.
    fn write(&mut self, id: u64, side: usize, bytes: &[u8]) -> bool {
        let Some(pair) = self.streams.get_mut(&id) else {
            return false;
        };
        let pipe = &mut pair.pipes[side];
        pipe.frames.put(bytes);
        let before = self.outbox.len();
        while let Some(frame) = pipe.frames.take() {
            pipe.waiting += 1;
            pipe.window += frame.len();
            self.outbox.push(Written { id, side, frame });
        }
        self.fullest = self.fullest.max(pipe.window);
        self.outbox.len() > before
    }

    /// Sends what was written.
    fn carry(&mut self, log: &Log) {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.sort_by_key(|written| (written.id, written.side));
        for Written { id, side, frame } in outbox {
            let Some(pair) = self.streams.get_mut(&id) else {
                continue;
            };
            pair.pipes[side].waiting -= 1;
            pair.pipes[side].window -= frame.len();
            let hop = Hop {
                follower: pair.ends[0],
                parent: pair.ends[1],
                id,
            };
            let way = if side == 0 { Way::Up } else { Way::Down };
            let mut passed = Passed::default();
            let one = &mut self.hosts[hop.parent].tamper;
            match self.planted.as_mut().or(one.as_mut()) {
                Some(tamper) => tamper.pass(hop, way, frame, &mut passed),
                None if way == Way::Up => passed.up.push(frame),
                None => passed.down.push(frame),
            }
            for frame in passed.up {
                self.send(log, id, 0, &canonical(frame));
            }
            for frame in passed.down {
                self.send(log, id, 1, &frame);
            }
        }
        let now = log.now();
        if self.arrivals.len() > ARRIVALS {
            self.arrivals.retain(|(_, at)| *at >= now);
        }
    }

    /// Sends a frame from one end of a stream, in one piece or several.
    fn send(&mut self, log: &Log, id: u64, side: usize, frame: &[u8]) {
        let now = log.now();
        let hosts = self.hosts.len();
        let Some(pair) = self.streams.get_mut(&id) else {
            return;
        };
        let (from, to) = (pair.ends[side], pair.ends[1 - side]);
        let hash = xxhash_rust::xxh3::xxh3_64(frame);
        log.note(
            from,
            "sends to",
            (to as u64 * 1_000_000 + frame.len() as u64, hash),
        );
        let line = &mut self.lines[from * hosts + to];
        let weather = line.weather;
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        let whole = [&length[1..], frame].concat();
        // Segments end anywhere.
        let torn = if self.rng.u8(0..8) == 0 {
            self.rng.usize(0..whole.len())
        } else {
            0
        };
        for piece in [&whole[..torn], &whole[torn..]] {
            if piece.is_empty() {
                continue;
            }
            let mut leaves = line.free.max(now);
            if let Some(takes) = (piece.len() as u64).checked_div(weather.rate) {
                leaves += takes;
            }
            line.free = leaves;
            let mut comes = leaves + weather.latency;
            if weather.jitter > 0 {
                comes += self.rng.u64(0..=weather.jitter);
            }
            let mut pause = 200 + 2 * weather.latency;
            while weather.loss > 0 && pause < 3000 && self.rng.u8(0..100) < weather.loss {
                comes += pause;
                pause *= 2;
            }
            let pipe = &mut pair.pipes[side];
            comes = slot(&mut self.arrivals, to, comes.max(pipe.last).max(now + 1));
            pipe.last = comes;
            pipe.window += piece.len();
            self.fullest = self.fullest.max(pipe.window);
            pipe.segments.push_back(Segment {
                sent: now,
                comes,
                bytes: piece.to_vec(),
                taken: 0,
            });
            if let Some(reader) = pipe.reader.take() {
                reader.wake();
            }
        }
    }
}

/// The first millisecond from `comes` on in which nothing else comes to a host.
fn slot(arrivals: &mut BTreeSet<(Host, u64)>, host: Host, mut comes: u64) -> u64 {
    while !arrivals.insert((host, comes)) {
        comes += 1;
    }
    comes
}

/// Dials one host from another.
#[derive(Clone, Debug)]
pub struct Dial {
    net: Net,
    from: Host,
    to: Host,
}

impl Connect for Dial {
    type Io = Stream;

    async fn connect(&mut self) -> io::Result<Stream> {
        self.net.connect(self.from, self.to).await
    }
}
