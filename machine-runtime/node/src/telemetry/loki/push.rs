//! Sends batches, again where that may help, until the program ends.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout_at};

use super::LokiAddr;
use super::batch::{Batch, Batches};
use crate::outbound::{read, told};

/// The first pause before a batch is sent again; it doubles up to `PAUSE_MOST`.
const PAUSE_LEAST: Duration = Duration::from_millis(500);

/// The longest pause, unless Loki says otherwise.
const PAUSE_MOST: Duration = Duration::from_secs(30);

/// The longest pause that Loki may ask for.
const PAUSE_ASKED: Duration = Duration::from_hours(1);

/// How long sending goes on once the program is told to end.
const FLUSH: Duration = Duration::from_millis(500);

/// How long the last words of others are waited for then, and the pause before a batch is sent again.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How many characters of what a refusal says are logged; no more than they take is read.
const EXCUSE: usize = 200;

/// Sends batches, one at a time.
pub(super) struct Pusher {
    client: Client,
    addr: LokiAddr,
    batches: Batches,
    /// Whether the last batch did not arrive, and that was told.
    complained: bool,
}

/// What came of sending a batch.
enum Told {
    Arrived,
    /// It may arrive later, after this pause if one was named.
    NotNow(String, Option<Duration>),
    Never(String),
}

impl Pusher {
    pub(super) fn new(client: Client, addr: LokiAddr, batches: Batches) -> Self {
        Self {
            client,
            addr,
            batches,
            complained: false,
        }
    }

    /// Sends what there is until `stopped` resolves, and for a moment longer.
    pub(super) async fn run(mut self, stopped: impl Future<Output = ()> + Send + 'static) {
        let mut end = End {
            stopped: Box::pin(stopped),
            at: None,
        };
        let mut lost = 0;
        let mut ending = false;
        loop {
            if end.unless_stopped(self.batches.fill()).await.is_none() && !ending {
                ending = true;
                sleep(LAST_WORDS).await;
            }
            let Some(batch) = self.batches.take() else {
                if ending {
                    break;
                }
                continue;
            };
            if !end.is_over() && self.deliver(&batch, &mut end).await {
                self.batches.settle(&batch, true);
            } else {
                lost += batch.lines();
                self.batches.settle(&batch, false);
            }
        }
        if lost > 0 && self.complained {
            tracing::warn!("{lost} lines did not reach Loki at {}", self.addr);
        }
    }

    /// Whether the batch arrived.
    async fn deliver(&mut self, batch: &Batch, end: &mut End) -> bool {
        let mut pause = PAUSE_LEAST;
        loop {
            let asked = match end.in_time(self.send(batch)).await {
                Some(Told::Arrived) => {
                    if std::mem::take(&mut self.complained) {
                        tracing::info!("Loki takes lines again");
                    }
                    return true;
                }
                Some(Told::Never(why)) => {
                    self.complain(&format!("refuses {} lines: {why}", batch.lines()));
                    return false;
                }
                Some(Told::NotNow(why, asked)) => {
                    self.complain(&format!("takes no lines for now, they wait: {why}"));
                    asked
                }
                None => {
                    self.complain("does not answer");
                    return false;
                }
            };
            // One that asks for no pause is not asked without one.
            let wait = asked.map_or(pause, |asked| asked.max(pause));
            pause = (pause * 2).min(PAUSE_MOST);
            // The end of the program is the last chance, and there is little time for it.
            if end.unless_stopped(sleep(wait)).await.is_none()
                && end.in_time(sleep(LAST_WORDS)).await.is_none()
            {
                return false;
            }
        }
    }

    /// Told once, until something arrives again.
    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("Loki at {} {what}", self.addr);
        }
    }

    async fn send(&self, batch: &Batch) -> Told {
        let request = self.addr.server.request(&self.client, Method::POST);
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(batch.body.clone());
        match request.send().await {
            Ok(response) if response.status().is_success() => Told::Arrived,
            Ok(response) => refused(response).await,
            Err(error) if error.is_builder() => Told::Never(told(error)),
            Err(error) => Told::NotNow(told(error), None),
        }
    }
}

async fn refused(response: Response) -> Told {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let after = after.map(|secs| Duration::from_secs(secs).min(PAUSE_ASKED));
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Told::NotNow(status.to_string(), after);
    }
    let excuse = read(response, 4 * EXCUSE).await.unwrap_or_default();
    let excuse: String = String::from_utf8_lossy(&excuse)
        .trim()
        .chars()
        .take(EXCUSE)
        .collect();
    Told::Never(format!("{status} {excuse}"))
}

/// When the program ends.
struct End {
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Until when there is time, once it was told to.
    at: Option<Instant>,
}

impl End {
    fn is_over(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// What `wait` comes to, unless the program is told to end before.
    async fn unless_stopped<T>(&mut self, wait: impl Future<Output = T>) -> Option<T> {
        if self.at.is_some() {
            return None;
        }
        tokio::select! {
            came = wait => Some(came),
            () = &mut self.stopped => {
                self.at = Some(Instant::now() + FLUSH);
                None
            }
        }
    }

    /// What `work` comes to, if it does while there is time.
    async fn in_time<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        if self.at.is_none()
            && let Some(came) = self.unless_stopped(&mut work).await
        {
            return Some(came);
        }
        timeout_at(self.at?, work).await.ok()
    }
}
