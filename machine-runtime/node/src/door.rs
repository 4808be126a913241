//! Who is let in at a port: one loop for readers and followers alike.
//!
//! A door counts connections, in all and of each address, and shakes hands beside the loop, so that who takes
//! long over it keeps nobody waiting. Few handshakes run at a time, and few of them of one address; who
//! would be one too many of his address waits behind those, and where all are taken the oldest has to go.
//! So whoever is not at a flood's address shakes hands as if there were none, while there is room.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_nodelay};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::limits::Limits;
use crate::stream::Stream;
use crate::tls::Tls;

/// How long `accept` rests after an error, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How many handshakes run at a time.
const HANDSHAKES: usize = 64;

/// How many of them with clients of one address.
const HANDSHAKES_PER_ADDRESS: usize = 16;

/// How many more of one address wait for theirs.
const WAITING_PER_ADDRESS: usize = 256;

/// The kernel takes twice as much as it is told, for what it keeps beside the bytes.
const KERNEL_DOUBLES: usize = 2;

/// How often it is said at most that somebody was not let in.
const TELL: Duration = Duration::from_secs(10);

/// What a door lets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DoorLimits {
    /// Connections at a time.
    pub connections: usize,
    /// The same of one address: of IPv6, of one /64.
    pub per_address: usize,
    /// How long a handshake may take, the wait for it included.
    pub handshake_time: Duration,
    /// The most bytes that wait in the kernel for one who does not read them; what the kernel thinks right if
    /// there is none.
    pub unread_bytes: Option<usize>,
}

/// How much waits in the kernel for a reader: as much as the longest pages are, and so little that who asks
/// on and on and reads nothing keeps a node busy for a moment only.
const UNREAD_BYTES: usize = 256 * 1024;

impl DoorLimits {
    /// Those of readers.
    pub fn of_readers(limits: &Limits) -> Self {
        Self {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            handshake_time: limits.handshake_time,
            unread_bytes: Some(UNREAD_BYTES),
        }
    }

    /// Those of followers.
    pub fn of_followers(limits: &Limits) -> Self {
        Self {
            connections: limits.followers,
            per_address: limits.followers_per_address,
            handshake_time: limits.handshake_time,
            unread_bytes: None,
        }
    }
}

/// Why somebody was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shut {
    /// There are as many connections as there may be.
    Full,
    /// There are as many of that address.
    Address,
    /// The handshake went wrong: no TLS, or a certificate that is not to be trusted.
    Handshake,
    /// The handshake took too long.
    Late,
    /// There were too many handshakes under way.
    Flood,
}

impl Shut {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::Address,
        Self::Handshake,
        Self::Late,
        Self::Flood,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Handshake => "handshake",
            Self::Late => "late",
            Self::Flood => "flood",
        }
    }
}

/// How many were not let in. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DoorStats {
    shut: Arc<[AtomicU64; Shut::ALL.len()]>,
}

impl DoorStats {
    /// How many were not let in for this reason.
    pub fn shut(&self, why: Shut) -> u64 {
        self.shut[why as usize].load(Ordering::Relaxed)
    }

    fn count(&self, why: Shut) {
        self.shut[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Somebody who was let in.
#[derive(Debug)]
pub struct Visitor {
    /// The connection.
    pub stream: Stream,
    /// Where it comes from.
    pub addr: IpAddr,
    /// The DNS names in the certificate that was shown; none without one.
    pub names: Arc<[String]>,
    /// Of which generation the certificates were that it came in by; zero without TLS.
    pub generation: u64,
    /// Counts it for as long as it is held.
    pub room: Room,
}

/// Who comes to a door.
#[derive(Debug)]
pub enum Arrival {
    /// Somebody who is let in.
    Visitor(Visitor),
    /// Somebody for whom there is no room, and why. Over TLS they are closed without a word.
    TooMany(TcpStream, Shut),
}

/// A port and who may come in there.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    limits: DoorLimits,
    tls: Option<Tls>,
    stats: DoorStats,
    /// Who comes here, as logs call them.
    who: &'static str,
    counts: Arc<Mutex<Counts>>,
    handshakes: Handshakes,
    resting: Option<Instant>,
    told: Told,
}

impl Door {
    /// A door at `listener` for `who`, such as `readers`.
    pub fn new(
        listener: TcpListener,
        who: &'static str,
        limits: DoorLimits,
        tls: Option<Tls>,
        stats: DoorStats,
    ) -> Self {
        // Without it a small answer may wait for the client's acknowledgement of the one before. What
        // is accepted inherits it.
        if let Err(error) = set_tcp_nodelay(&listener, true) {
            tracing::warn!(%error, who, "answers may be late");
        }
        if let Some(bytes) = limits.unread_bytes
            && let Err(error) = set_socket_send_buffer_size(&listener, bytes / KERNEL_DOUBLES)
        {
            tracing::warn!(%error, who, "who does not read may keep the node busy");
        }
        Self {
            listener,
            limits,
            tls,
            stats,
            who,
            counts: Arc::default(),
            handshakes: Handshakes::default(),
            resting: None,
            told: Told::default(),
        }
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// If the socket has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it lets in.
    pub fn limits(&self) -> &DoorLimits {
        &self.limits
    }

    /// The TLS that is spoken here.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Waits for the next one who comes.
    ///
    /// # Cancel safety
    ///
    /// Nobody is lost: handshakes go on with the next call.
    pub async fn next(&mut self) -> Arrival {
        loop {
            let rest = self.resting;
            let accepted = tokio::select! {
                accepted = self.listener.accept(), if rest.is_none() => accepted,
                Some(ended) = self.handshakes.tasks.join_next_with_id() => {
                    match self.shaken(ended) {
                        Some(visitor) => return Arrival::Visitor(visitor),
                        None => continue,
                    }
                }
                () = sleep_until(rest.unwrap_or_else(Instant::now)), if rest.is_some() => {
                    self.resting = None;
                    continue;
                }
            };
            match accepted {
                Ok((stream, addr)) => {
                    if let Some(arrival) = self.arrived(stream, addr.ip().to_canonical()) {
                        return arrival;
                    }
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept {}", self.who);
                    self.resting = Some(Instant::now() + ACCEPT_REST);
                }
            }
        }
    }

    fn arrived(&mut self, stream: TcpStream, addr: IpAddr) -> Option<Arrival> {
        let room = match Room::take(&self.counts, addr, &self.limits) {
            Ok(room) => room,
            Err(why) => {
                self.shut(why, addr);
                let is_told = self.tls.is_none();
                return is_told.then_some(Arrival::TooMany(stream, why));
            }
        };
        let Some(tls) = &self.tls else {
            return Some(Arrival::Visitor(Visitor {
                stream: stream.into(),
                addr,
                names: Arc::default(),
                generation: 0,
                room,
            }));
        };
        let waiting = Waiting {
            stream,
            addr,
            room,
            until: Instant::now() + self.limits.handshake_time,
        };
        match self.handshakes.add(tls, waiting) {
            Ok(()) => {}
            Err(addr) => self.shut(Shut::Flood, addr),
        }
        None
    }

    /// What has become of a handshake. Whoever waited for its end begins.
    fn shaken(&mut self, ended: Result<(Id, Shaken), JoinError>) -> Option<Visitor> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        if let Some(tls) = &self.tls {
            for late in self.handshakes.ended(tls, id) {
                self.shut(Shut::Late, late);
            }
        }
        match ended.ok()?.1 {
            Ok(visitor) => Some(*visitor),
            Err((addr, why, error)) => {
                if let Some(error) = error {
                    tracing::debug!(%addr, %error, "a handshake failed");
                }
                self.shut(why, addr);
                None
            }
        }
    }

    fn shut(&mut self, why: Shut, addr: IpAddr) {
        self.stats.count(why);
        if let Some(others) = self.told.is_time() {
            let (who, why) = (self.who, why.name());
            tracing::warn!(why, %addr, others, "some {who} were not let in");
        }
    }
}

/// What is said of those who are not let in: not of each.
#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    others: u64,
}

impl Told {
    /// Whether something is to be said now, and of how many nothing was since the last time.
    fn is_time(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < TELL) {
            self.others += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.others))
    }
}

/// What an address counts as: whoever has one of IPv6 has all of its /64.
pub(crate) fn counted(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        addr @ IpAddr::V4(_) => addr,
    }
}

/// How many there are. Nothing awaits under its lock.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_addr: HashMap<IpAddr, usize>,
}

/// Counts a connection for as long as it is held.
#[derive(Debug)]
pub struct Room {
    counts: Arc<Mutex<Counts>>,
    addr: IpAddr,
}

impl Room {
    fn take(counts: &Arc<Mutex<Counts>>, addr: IpAddr, limits: &DoorLimits) -> Result<Self, Shut> {
        let addr = counted(addr);
        let mut held = lock(counts);
        if held.all >= limits.connections {
            return Err(Shut::Full);
        }
        let of_addr = held.by_addr.get(&addr).copied().unwrap_or(0);
        if of_addr >= limits.per_address {
            return Err(Shut::Address);
        }
        held.all += 1;
        held.by_addr.insert(addr, of_addr + 1);
        drop(held);
        let counts = Arc::clone(counts);
        Ok(Self { counts, addr })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = lock(&self.counts);
        held.all -= 1;
        if let Some(count) = held.by_addr.get_mut(&self.addr) {
            *count -= 1;
            if *count == 0 {
                held.by_addr.remove(&self.addr);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who has not shaken hands yet.
#[derive(Debug)]
struct Waiting {
    stream: TcpStream,
    addr: IpAddr,
    room: Room,
    until: Instant,
}

/// What a handshake came to: a visitor, or who was not let in, why, and what went wrong.
type Shaken = Result<Box<Visitor>, (IpAddr, Shut, Option<io::Error>)>;

/// The handshakes under way, and who waits for one.
#[derive(Debug, Default)]
struct Handshakes {
    tasks: JoinSet<Shaken>,
    /// Those that run, the oldest first, with what their addresses count as. One that was let go is not
    /// among them.
    running: VecDeque<(AbortHandle, IpAddr)>,
    by_addr: HashMap<IpAddr, Queue>,
}

/// The handshakes of one address.
#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<Waiting>,
}

impl Handshakes {
    /// Begins a handshake, or has it wait.
    ///
    /// # Errors
    ///
    /// The address of one that is let go for it: this or the oldest.
    fn add(&mut self, tls: &Tls, new: Waiting) -> Result<(), IpAddr> {
        let queue = self.by_addr.entry(counted(new.addr)).or_default();
        if queue.running >= HANDSHAKES_PER_ADDRESS {
            if queue.waiting.len() >= WAITING_PER_ADDRESS {
                return Err(new.addr);
            }
            queue.waiting.push_back(new);
            return Ok(());
        }
        // Whoever means it shakes hands within a moment.
        let is_full = self.running.len() >= HANDSHAKES;
        let oldest = is_full
            .then(|| self.strike_off(self.oldest_of_most()))
            .flatten();
        self.begin(tls, new);
        match oldest {
            Some((task, addr)) => {
                task.abort();
                Err(addr)
            }
            None => Ok(()),
        }
    }

    /// The place of the oldest of the address that has most.
    fn oldest_of_most(&self) -> usize {
        let running = |addr: &IpAddr| self.by_addr.get(addr).map_or(0, |queue| queue.running);
        let most = self.running.iter().map(|(_, addr)| running(addr)).max();
        let oldest = self.running.iter();
        let oldest = oldest
            .map(|(_, addr)| running(addr))
            .position(|count| Some(count) == most);
        oldest.unwrap_or(0)
    }

    fn begin(&mut self, tls: &Tls, new: Waiting) {
        let addr = counted(new.addr);
        self.by_addr.entry(addr).or_default().running += 1;
        let task = self.tasks.spawn(shake(tls.clone(), new));
        self.running.push_back((task, addr));
    }

    fn strike_off(&mut self, place: usize) -> Option<(AbortHandle, IpAddr)> {
        let (task, addr) = self.running.remove(place)?;
        if let Some(queue) = self.by_addr.get_mut(&addr) {
            queue.running -= 1;
            if queue.running == 0 && queue.waiting.is_empty() {
                self.by_addr.remove(&addr);
            }
        }
        Some((task, addr))
    }

    /// Strikes off one that has ended, and begins those that waited for that. Returns the addresses of
    /// those that have waited too long.
    fn ended(&mut self, tls: &Tls, id: Id) -> Vec<IpAddr> {
        let place = self.running.iter().position(|(task, _)| task.id() == id);
        place.and_then(|place| self.strike_off(place));
        let mut late = Vec::new();
        let now = Instant::now();
        self.by_addr.retain(|_, queue| {
            // They have waited in the order in which they came.
            while let Some(next) = queue.waiting.pop_front_if(|next| next.until <= now) {
                late.push(next.addr);
            }
            queue.running > 0 || !queue.waiting.is_empty()
        });
        while self.running.len() < HANDSHAKES
            && let Some(next) = self.next_waiting()
        {
            if next.until > now {
                self.begin(tls, next);
            } else {
                late.push(next.addr);
            }
        }
        late
    }

    fn next_waiting(&mut self) -> Option<Waiting> {
        let mut queues = self.by_addr.iter_mut();
        let found = queues.find_map(|(addr, queue)| {
            let may = queue.running < HANDSHAKES_PER_ADDRESS;
            let next = queue.waiting.pop_front_if(|_| may)?;
            let is_over = queue.running == 0 && queue.waiting.is_empty();
            Some((next, is_over.then_some(*addr)))
        });
        let (next, over) = found?;
        if let Some(addr) = over {
            self.by_addr.remove(&addr);
        }
        Some(next)
    }
}

async fn shake(tls: Tls, waiting: Waiting) -> Shaken {
    let Waiting {
        stream,
        addr,
        room,
        until,
    } = waiting;
    match timeout_at(until, tls.accept(stream)).await {
        Ok(Ok(accepted)) => Ok(Box::new(Visitor {
            stream: accepted.stream,
            addr,
            names: accepted.names,
            generation: accepted.generation,
            room,
        })),
        Ok(Err(error)) => Err((addr, Shut::Handshake, Some(error))),
        Err(_elapsed) => Err((addr, Shut::Late, None)),
    }
}

/// Resolves once the certificates that somebody came in by are not those of `tls` any more.
pub(crate) fn outdated(
    tls: Option<&Tls>,
    generation: u64,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    let outdated = tls.map(|tls| tls.outdated(generation));
    async move {
        match outdated {
            Some(outdated) => outdated.await,
            None => std::future::pending().await,
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

#[cfg(test)]
mod tests;
