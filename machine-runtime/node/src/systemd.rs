//! Telling a service manager how a node is: systemd's protocol, to whoever is at `NOTIFY_SOCKET`.
//!
//! `READY=1` comes once the node is ready for the first time, `STATUS=` says how it is whenever that
//! changes, `STOPPING=1` comes when it begins to leave. Where the manager wants signs of life
//! (`WATCHDOG_USEC`), they come twice in that time for as long as the node is alive.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::files;
use crate::node::Node;
use crate::shutdown::Tasks;

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(1);

/// How often until the node is ready, which somebody waits for.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// The variable that says where the service manager is.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The variables that a process of ours must not inherit: they are about this one.
pub(crate) const VARIABLES: [&str; 3] = [SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Tells the service manager how `node` is until `tasks` are stopped, if there is one.
pub fn tell(node: &Node, tasks: &Tasks) {
    if !is_there() {
        return;
    }
    let manager = Manager {
        node: node.clone(),
        watchdog: sd_notify::watchdog_enabled(),
        ready: false,
        fed: None,
        told: String::new(),
    };
    tasks.spawn(manager.run(tasks.stopped()));
}

/// Has a reload by a service manager, if there is one, be no end, also where there is nothing to be read
/// again.
pub fn outlive_reloads() {
    if is_there() {
        files::outlive_hangups();
    }
}

fn is_there() -> bool {
    std::env::var_os(SOCKET).is_some_and(|socket| !socket.is_empty())
}

/// What the service manager has been told.
struct Manager {
    node: Node,
    watchdog: Option<Duration>,
    ready: bool,
    /// When it was last told that the node lives.
    fed: Option<Instant>,
    told: String,
}

impl Manager {
    async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut look = interval(FIRST_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.node.vitals().leaving().cancelled() => break,
                () = &mut stopped => break,
            }
            let before = self.ready;
            self.look().await;
            if self.ready && !before {
                let often = self.watchdog.map_or(LOOK, |within| (within / 2).min(LOOK));
                look = interval(often.max(FIRST_LOOK));
                look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            }
        }
        send(vec!["STOPPING=1".to_owned(), status("about to stop")]).await;
    }

    async fn look(&mut self) {
        let (dead, unready) = (self.node.vitals().why_dead(), self.node.why_not_ready());
        let mut news = Vec::new();
        if !self.ready && unready.is_none() {
            self.ready = true;
            news.push("READY=1".to_owned());
        }
        // Until the node is ready it is looked more often than that.
        let often = self.watchdog.map(|within| (within / 2).min(LOOK));
        let hungry =
            often.is_some_and(|often| self.fed.is_none_or(|fed| fed.elapsed() >= often / 2));
        if hungry && dead.is_none() {
            self.fed = Some(Instant::now());
            news.push("WATCHDOG=1".to_owned());
        }
        let told = dead.or(unready).unwrap_or_else(|| "ready".to_owned());
        // How long something has been so changes all the time.
        let same = |text: &str| {
            text.chars()
                .filter(|c| !c.is_ascii_digit())
                .collect::<String>()
        };
        if same(&told) != same(&self.told) {
            news.push(status(&told));
            self.told = told;
        }
        if !news.is_empty() {
            send(news).await;
        }
    }
}

/// How the node is, on one line.
fn status(text: &str) -> String {
    format!("STATUS={}", text.replace(['\n', '\r'], " "))
}

/// Tells it, on a thread of its own: the service manager may be busy.
async fn send(news: Vec<String>) {
    let sent = spawn_blocking(move || {
        let news: Vec<_> = news.iter().map(|line| NotifyState::Custom(line)).collect();
        sd_notify::notify(&news)
    });
    let sent = sent
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot tell the service manager how this node is");
    }
}
