//! Log lines to a Loki: collected here without waiting for anything, sent by [`push`].
//!
//! What waits is bounded; what finds no room is dropped and counted. Nothing that is logged on the way of a line to Loki goes there: it would never end.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::Role;
use super::line::{self, Object};
use crate::outbound::{self, Export, Exporter, Exports, InvalidServer, Server};
use crate::shutdown::Tasks;

mod batch;
mod push;

/// How many lines wait at most.
const LINES: usize = 10_000;

/// How many bytes of lines wait at most.
const BYTES: usize = 8 << 20;

/// Where a Loki takes lines.
const PATH: &str = "/loki/api/v1/push";

/// Such an address.
const EXAMPLE: &str = "http://localhost:3100";

/// Who has a part in sending a line: this module, and what it stands on.
const SENDERS: [&str; 6] = [
    module_path!(),
    "reqwest",
    "hyper",
    "hyper_util",
    "rustls",
    "h2",
];

/// No address of a Loki.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidLoki(InvalidServer);

/// Where a Loki takes lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LokiAddr {
    server: Server,
}

impl FromStr for LokiAddr {
    type Err = InvalidLoki;

    /// Reads `host:port`, or a URL with or without the path, which may have a user and a password.
    fn from_str(addr: &str) -> Result<Self, InvalidLoki> {
        let server = Server::parse(addr, EXAMPLE).map_err(InvalidLoki)?;
        let path = server.url().path().trim_end_matches('/');
        let more = if path.ends_with(PATH) { "" } else { PATH };
        let server = server.at(more);
        Ok(Self { server })
    }
}

impl fmt::Display for LokiAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

/// A line on its way.
#[derive(Debug)]
struct Line {
    /// In nanoseconds since 1970.
    at: u64,
    level: Level,
    node: Option<String>,
    role: Option<String>,
    /// The event as a JSON object, which once more is a JSON string.
    text: String,
}

/// Lines that wait, and what is known of those who they are of. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Loki {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// How many lines wait or are being sent, and how many bytes: what bounds the channel.
    lines: AtomicUsize,
    bytes: AtomicUsize,
    // Held for as long as a name is looked up.
    nodes: Mutex<BTreeMap<String, Role>>,
    /// Until there is a task that takes them.
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Line>>>,
    exports: Exports,
}

/// A layer that collects, and what it collects.
pub(super) fn new(exports: &Exports) -> (Collector, Loki) {
    // Bounded by `LINES` and `BYTES`.
    let (lines, waiting) = mpsc::unbounded_channel();
    let loki = Loki {
        shared: Arc::new(Shared {
            lines: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            nodes: Mutex::default(),
            waiting: Mutex::new(Some(waiting)),
            exports: exports.clone(),
        }),
    };
    let collector = Collector {
        loki: loki.clone(),
        lines,
    };
    (collector, loki)
}

impl Loki {
    pub(super) fn add_node(&self, name: &str, role: Role) {
        self.nodes().insert(name.to_owned(), role);
    }

    /// Begins to send lines, those first that wait already.
    pub(super) fn push(
        &self,
        addr: &LokiAddr,
        service: &str,
        node: Option<&str>,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let client = outbound::client()?;
        let waiting = self.shared.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            let batches = batch::Batches::new(self.clone(), waiting, service, node);
            let pusher = push::Pusher::new(client, addr.clone(), batches);
            let stopped = tasks.stopped();
            tasks.spawn(pusher.run(stopped));
        }
        Ok(())
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Role>> {
        let nodes = self.shared.nodes.lock();
        nodes.unwrap_or_else(PoisonError::into_inner)
    }

    fn role_of(&self, name: &str) -> Option<Role> {
        self.nodes().get(name).copied()
    }

    /// What was sent and what was not.
    fn export(&self) -> &Export {
        self.shared.exports.of(Exporter::Loki)
    }

    /// Whether there is room for a line of so many bytes, which it has then.
    fn reserve(&self, bytes: usize) -> bool {
        let all = self.shared.lines.fetch_add(1, Ordering::Relaxed);
        let before = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = all < LINES && before + bytes <= BYTES;
        if !fits {
            self.release(1, bytes);
        }
        fits
    }

    fn release(&self, lines: usize, bytes: usize) {
        self.shared.lines.fetch_sub(lines, Ordering::Relaxed);
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Collects lines; it never waits.
pub(super) struct Collector {
    loki: Loki,
    lines: mpsc::UnboundedSender<Line>,
}

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if is_of_sender(event.metadata().target()) {
            return;
        }
        let mut object = Object::labelled(event);
        let (node, role) = (object.node.take(), object.role.take());
        let text = line::quoted(&object.into_json());
        if text.len() > batch::BYTES || !self.loki.reserve(text.len()) {
            return self.loki.export().dropped(1);
        }
        let line = Line {
            at: now(),
            level: *event.metadata().level(),
            node,
            role,
            text,
        };
        if let Err(lost) = self.lines.send(line) {
            // The program ends.
            self.loki.release(1, lost.0.text.len());
            self.loki.export().dropped(1);
        }
    }
}

fn is_of_sender(target: &str) -> bool {
    SENDERS.iter().any(|sender| {
        let rest = target.strip_prefix(sender);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_or_a_url() {
        #[track_caller]
        fn check(addr: &str, url: &str) {
            assert_eq!(addr.parse::<LokiAddr>().unwrap().to_string(), url);
        }
        check("localhost:3100", "http://localhost:3100/loki/api/v1/push");
        check("http://[::1]:3100/", "http://[::1]:3100/loki/api/v1/push");
        check("https://x/a", "https://x/a/loki/api/v1/push");
        check("https://x/loki/api/v1/push", "https://x/loki/api/v1/push");
        let with: LokiAddr = "https://me:p%40ss@x".parse().unwrap();
        assert_eq!(with.to_string(), "https://x/loki/api/v1/push");
        assert_eq!(with.server.login(), Some(("me", Some("p@ss"))));
        assert!(!format!("{with:?}").contains("p@ss"));
        for wrong in ["ftp://x", "http://", "http://x:port", "a b"] {
            let error = wrong.parse::<LokiAddr>().unwrap_err().to_string();
            assert!(error.contains("localhost:3100"), "{error}");
        }
        let error = "http://me:secret@x:port".parse::<LokiAddr>().unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    /// What is collected of what `log` logs.
    fn collected(log: impl FnOnce()) -> Loki {
        use tracing_subscriber::layer::SubscriberExt;

        let (collector, loki) = new(&Exports::default());
        let subscriber = tracing_subscriber::registry().with(collector);
        tracing::subscriber::with_default(subscriber, log);
        loki
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let loki = collected(|| {
            for _ in 0..LINES + 3 {
                tracing::info!(target: "any", "line");
            }
        });
        assert_eq!(loki.export().read()[1], ("dropped", 3));
        let loki = collected(|| {
            let long = "x".repeat(batch::BYTES / 2);
            for _ in 0..20 {
                tracing::info!(target: "any", long);
            }
            tracing::info!(target: "any", longer = long.repeat(3));
        });
        // Fifteen fit, with what is around them.
        assert_eq!(loki.export().read()[1], ("dropped", 6));
    }

    #[test]
    fn what_is_logged_on_the_way_does_not_go_there() {
        let loki = collected(|| {
            tracing::warn!("of this module");
            tracing::warn!(target: "hyper_util::client", "of what it stands on");
            tracing::warn!(target: "hyperspace", "of somebody else");
        });
        assert_eq!(loki.shared.lines.load(Ordering::Relaxed), 1);
    }
}
