//! The node's side of the link to a debugger.
//!
//! The node dials. Nothing that a debugger does, or fails to do, keeps a machine or a replica waiting:
//! what finds no room is lost, and told as lost; so is what comes faster than is told. While no debugger is
//! there nobody observes anything.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::{Body, Hello, Line, VERSION};
use super::subject::{Subject, cut};
use super::teller::{Clocks, Teller, interest};
use crate::position::Epoch;
use pace::Pace;
use stream::Stream;

mod pace;
mod session;
mod stream;

/// The port that a debugger listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 6831;

/// Where a debugger on this computer listens unless told otherwise.
pub const DEFAULT_ADDR: &str = "localhost:6831";

/// How many events of one node wait at most.
pub const EVENTS: usize = 8192;

/// How many lines of a log wait at most.
pub const LINES: usize = 1024;

/// How long a connection may take to be made, and each side to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long what is left may take to be sent when the process ends.
const LAST: Duration = Duration::from_millis(300);

/// How a node dials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DialOptions {
    /// How long it waits between two attempts at most; half of it is the least.
    pub every: Duration,
    /// How long it goes on telling for a debugger that has gone, should that come back.
    pub grace: Duration,
    /// How long a debugger may take nothing of what is sent.
    pub stall: Duration,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(2),
            grace: Duration::from_secs(30),
            stall: Duration::from_secs(5),
        }
    }
}

/// A line, and the node that it is of.
type Named = (Option<String>, Line);

/// Tells a debugger of the nodes of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hello: Hello,
    addr: String,
    options: DialOptions,
    stream: Stream,
    subjects: Mutex<Vec<Subject>>,
    added: Notify,
    lines: mpsc::Sender<Named>,
    waiting: Mutex<Option<mpsc::Receiver<Named>>>,
    lines_lost: AtomicU64,
    ending: watch::Sender<bool>,
}

impl Shared {
    /// Resolves once the process is about to end.
    async fn ends(&self) {
        // We hold the sender.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }
}

impl Reporter {
    /// For the debugger at `addr`, a host and port. `program` says what runs here, and its version.
    pub fn new(program: impl Into<String>, addr: impl Into<String>, options: DialOptions) -> Self {
        let (lines, waiting) = mpsc::channel(LINES);
        Self {
            shared: Arc::new(Shared {
                hello: hello(program.into()),
                addr: addr.into(),
                options,
                stream: Stream::new(Clocks::new()),
                subjects: Mutex::default(),
                added: Notify::new(),
                lines,
                waiting: Mutex::new(Some(waiting)),
                lines_lost: AtomicU64::new(0),
                ending: watch::Sender::new(false),
            }),
        }
    }

    /// Where it dials.
    pub fn addr(&self) -> &str {
        &self.shared.addr
    }

    /// Tells of a node from now on, whenever a debugger is there.
    pub fn add(&self, subject: Subject) {
        let subjects = self.shared.subjects.lock();
        let mut subjects = subjects.unwrap_or_else(PoisonError::into_inner);
        subjects.push(subject);
        self.shared.added.notify_one();
    }

    /// Whether anybody is told anything.
    pub fn is_on(&self) -> bool {
        self.shared.stream.is_on()
    }

    /// Tells of a line that was logged, of the node of this name if it is of one. It never waits.
    pub fn log(&self, node: Option<&str>, line: Line) {
        if !self.is_on() {
            return;
        }
        let line = Line {
            text: cut(line.text),
            ..line
        };
        let line = (node.map(str::to_owned), line);
        if self.shared.lines.try_send(line).is_err() {
            self.shared.lines_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Dials until `stop` resolves, and tells whoever answers.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let shared = &self.shared;
        let waiting = shared.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).take();
        let mut tellers = JoinSet::new();
        if let Some(waiting) = waiting {
            tellers.spawn(tell_lines(Arc::clone(shared), waiting));
        }
        let mut told = 0;
        let mut link = pin!(dial(shared));
        loop {
            for subject in self.subjects().into_iter().skip(told) {
                told += 1;
                let number = u32::try_from(told).unwrap_or(u32::MAX);
                tellers.spawn(tell(Arc::clone(shared), number, subject));
            }
            tokio::select! {
                () = &mut stop => break,
                () = shared.added.notified() => {}
                () = &mut link => {}
                Some(ended) = tellers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("a node is not told of to the debugger any more: {error}");
                    }
                }
            }
        }
        shared.ending.send_replace(true);
        if shared.stream.is_on() {
            let rest = async {
                while tellers.join_next().await.is_some() {}
                shared.stream.drained().await;
            };
            // The link sends what is there.
            let sent = async {
                tokio::select! {
                    () = &mut link => {}
                    () = rest => {}
                }
            };
            // A debugger that does not take it in time is not told.
            let _ = timeout(LAST, sent).await;
        }
        shared.stream.end();
    }

    fn subjects(&self) -> Vec<Subject> {
        let subjects = self.shared.subjects.lock();
        subjects.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who tells.
pub(super) fn hello(program: String) -> Hello {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.ok().or_else(|| std::env::var("HOSTNAME").ok());
    Hello {
        version: VERSION,
        program,
        host: host.unwrap_or_default().trim().to_owned(),
        pid: std::process::id(),
        process: Epoch::random().0,
    }
}

/// Keeps up a link. It does not end.
async fn dial(shared: &Shared) {
    let Shared { options, .. } = shared;
    // Until when there is something to come back to.
    let mut grace = None::<Instant>;
    let mut complained = false;
    loop {
        let pause = options.every / 2 + options.every.mul_f64(fastrand::f64() / 2.0);
        let again = Instant::now() + pause;
        let connected = tokio::select! {
            connected = timeout(PATIENCE, TcpStream::connect(shared.addr.as_str())) => connected,
            () = until(grace) => {
                shared.stream.end();
                grace = None;
                continue;
            }
        };
        if let Ok(Ok(socket)) = connected {
            let mut is_debugger = false;
            match session::run(shared, socket, &mut is_debugger).await {
                Ok(()) => complained = false,
                // Whoever answers there is no debugger of ours, and will not be one soon.
                Err(error) if !complained => {
                    complained = true;
                    tracing::warn!("the debugger at {}: {error}", shared.addr);
                }
                Err(_) => {}
            }
            // Others that answer there do not keep up what is kept for it.
            if is_debugger {
                grace = Some(Instant::now() + options.grace);
            }
        }
        // Not at once, whoever hangs up: two connections are never nearer than that.
        let again = again.max(Instant::now() + options.every / 2);
        tokio::select! {
            () = sleep_until(again) => {}
            () = until(grace) => {
                shared.stream.end();
                grace = None;
                sleep_until(again).await;
            }
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Tells of one subject whenever somebody is told.
async fn tell(shared: Arc<Shared>, number: u32, subject: Subject) {
    let stream = &shared.stream;
    let mut life = stream.life();
    loop {
        let now = *life.borrow_and_update();
        let Some(now) = now else {
            tokio::select! {
                changed = life.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = shared.ends() => return,
            }
        };
        let observer = subject.observers().attach("debugger", interest(), EVENTS);
        if !stream.declare(now, number, &subject) {
            continue;
        }
        let mut positions = subject.handle().view().positions();
        let mut teller = Teller::new(subject.clone(), observer, stream.clocks(), EVENTS);
        let mut pace = Pace::new();
        loop {
            let next = async {
                stream.has_room().await;
                pace.turn().await;
                teller.next().await
            };
            let told = tokio::select! {
                told = next => told,
                () = shared.ends() => {
                    // What the node does while it ends is told too.
                    let ended = async { while positions.changed().await.is_ok() {} };
                    let _ = timeout(LAST / 2, ended).await;
                    for (at, body) in teller.rest() {
                        stream.push(now, at, number, body);
                    }
                    return stream.push_now(number, Body::Gone);
                }
                changed = life.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            };
            if !stream.push(now, told.0, number, told.1) {
                break;
            }
        }
    }
}

/// Tells of what is logged.
async fn tell_lines(shared: Arc<Shared>, mut lines: mpsc::Receiver<Named>) {
    let stream = &shared.stream;
    loop {
        let (node, line) = tokio::select! {
            line = lines.recv() => match line {
                Some(line) => line,
                None => return,
            },
            () = shared.ends() => return,
        };
        stream.has_room().await;
        let now = stream.clocks().now();
        stream.push_named(now, node.as_deref(), Body::Log(line));
        let lost = shared.lines_lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            stream.push_named(now, None, Body::Dropped(lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::codec;
    use crate::debug::frame::Frame;
    use crate::debug::samples::Node;
    use crate::mutation::Mutation;
    use crate::state::DynState;

    fn bodies(stream: &Stream) -> Vec<Body> {
        let mut bodies = Vec::new();
        while let Some(bytes) = stream.try_next() {
            let mut rest = bytes.as_slice();
            while let Some(frame) = codec::split(&mut rest).unwrap() {
                bodies.push(codec::decode::<Frame>(frame).unwrap().body);
            }
        }
        bodies
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_does_while_it_ends_is_told() {
        for ends in [true, false] {
            let node = Node::new();
            let reporter = Reporter::new("tests 1", "", DialOptions::default());
            let shared = Arc::clone(&reporter.shared);
            shared.stream.connect(None);
            let mut tellers = JoinSet::new();
            tellers.spawn(tell(Arc::clone(&shared), 1, node.subject("root")));
            let mut told = Vec::new();
            while !told.iter().any(|body| matches!(body, Body::Key(_))) {
                tokio::task::yield_now().await;
                told.extend(bodies(&shared.stream));
            }
            shared.ending.send_replace(true);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let open = Mutation::add(DynState(1));
            assert!(
                node.handle
                    .mutate(open)
                    .await
                    .unwrap()
                    .outcome
                    .is_executed()
            );
            // One that does not end is not waited for.
            let _others = if ends {
                node.end().await;
                None
            } else {
                Some(node)
            };
            while let Some(ended) = tellers.join_next().await {
                ended.unwrap();
            }
            let last = bodies(&shared.stream);
            assert!(
                matches!(last.as_slice(), [Body::Transition(_), .., Body::Gone]),
                "{last:?}"
            );
        }
    }
}
