//! Somebody honest, who asks from an address of their own while strangers attack from others.

use std::time::{Duration, Instant};

use machine_node::client::{self, Target};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often the honest ask at least while an attack is at its height.
pub(super) const SAMPLES: usize = 25;

/// How often they ask.
const PACE: Duration = Duration::from_millis(20);

/// An honest reader of nodes, who asks each in turn whether it is ready and what it has. Nothing but the right
/// answer will do, the first time and each time.
pub(super) struct Honest {
    name: String,
    times: watch::Receiver<Vec<Duration>>,
    _asking: JoinSet<()>,
}

impl Honest {
    /// Has one ask for what is `right` during an attack of this name.
    pub(super) fn start(name: &str, nodes: &[Target], right: &str) -> Self {
        let (sender, times) = watch::channel(Vec::new());
        let (name, nodes, right) = (name.to_owned(), nodes.to_vec(), right.to_owned());
        let mut asking = JoinSet::new();
        asking.spawn({
            let name = name.clone();
            async move {
                let mut pace = tokio::time::interval(PACE);
                loop {
                    for node in &nodes {
                        pace.tick().await;
                        let took = ask(&name, node, &right).await;
                        sender.send_modify(|times| times.push(took));
                    }
                }
            }
        });
        Self {
            name,
            times,
            _asking: asking,
        }
    }

    /// Waits until they have asked enough times more.
    pub(super) async fn asks(&mut self) {
        let enough = self.times.borrow().len() + SAMPLES;
        let asked = self.times.wait_for(|times| times.len() >= enough).await;
        assert!(
            asked.is_ok(),
            "{}: who is honest got a wrong answer",
            self.name
        );
    }

    /// Waits until they have asked enough times more, and says how long they waited for answers.
    pub(super) async fn ends(mut self) -> String {
        self.asks().await;
        let mut times = self.times.borrow().clone();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        format!(
            "{}: {} honest reads, p50 {:?}, p99 {:?}",
            self.name,
            times.len(),
            at(50),
            at(99)
        )
    }
}

/// Asks once, and returns how long the read took.
async fn ask(name: &str, node: &Target, right: &str) -> Duration {
    let get = async |path: &str| {
        let answer = client::get(node, path, "*/*").await;
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {path} of {node}: {error:#}"));
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(answer.head.status().as_u16(), 200, "{name}: {path}: {body}");
        body
    };
    let ready = get("/readyz").await;
    assert_eq!(ready.trim(), r#"{"ready":true}"#, "{name}");
    let began = Instant::now();
    let read = get("/").await;
    let took = began.elapsed();
    assert_eq!(read, right, "{name}");
    took
}
