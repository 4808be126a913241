//! Those who write, each over a connection that it keeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use machine_runtime::Position;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Shared, Stop};
use crate::load::whole_answer;

/// What they add: each add ticks, as it is multi, and nothing else happens with it.
pub(super) const STATE: &str = "Healthcheck";

/// For how long a node tries to reach the root.
const WAIT_S: u32 = 4;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long whoever has no answer waits before it asks again.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest answer, in bytes.
const LONGEST: usize = 4096;

/// A write that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ack {
    pub(super) writer: u32,
    pub(super) write: u32,
    pub(super) position: Position,
}

/// One of those who write.
pub(super) struct Writer {
    i: u32,
    addr: String,
    shared: Arc<Shared>,
    stream: Option<TcpStream>,
}

impl Writer {
    pub(super) fn new(i: u32, addr: String, shared: Arc<Shared>) -> Self {
        Self {
            i,
            addr,
            shared,
            stream: None,
        }
    }

    /// Writes until it is told to stop, then asks for its last write once more.
    pub(super) async fn run(mut self) -> Vec<Ack> {
        let shared = Arc::clone(&self.shared);
        let mut stop = shared.stop.subscribe();
        let mut acks: Vec<Ack> = Vec::new();
        // Not all at once.
        let mut pause = shared.pause.mul_f64(fastrand::f64());
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop != Stop::No), if !acks.is_empty() => break,
                () = sleep(pause) => {}
            }
            let write = u32::try_from(acks.len()).unwrap_or(u32::MAX);
            let position = self.acknowledged(write).await;
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            let before = acks
                .last()
                .map_or(shared.start.position, |ack| ack.position);
            if !position.has_reached(before) || position == before {
                shared.step_back(&format!("writer {}", self.i), before, position);
            }
            let writer = self.i;
            acks.push(Ack {
                writer,
                write,
                position,
            });
            pause = shared.pause.mul_f64(2.0 * fastrand::f64());
        }
        shared.idle.fetch_add(1, Ordering::Relaxed);
        // That nobody tells any more is an end as well.
        let _ = stop.wait_for(|stop| *stop == Stop::Everything).await;
        if let Some(last) = acks.last() {
            let again = self.acknowledged(last.write).await;
            if again != last.position {
                let what = "was answered with one position and then with another";
                shared.tell(format!("{last:?} {what}: {again}"));
                shared.steps_back.fetch_add(1, Ordering::Relaxed);
            }
        }
        acks
    }

    /// Asks for a write until it is acknowledged, and returns where.
    async fn acknowledged(&mut self, write: u32) -> Position {
        let key = format!("writer-{}-{write}", self.i);
        loop {
            match self.ask(&key).await {
                Ok(Answer::Position(position)) => return position,
                Ok(Answer::Later) => {}
                Ok(Answer::Never(what)) => {
                    self.shared.tell(format!("{key} was answered {what}"));
                }
                Err(_broken) => self.stream = None,
            }
            self.shared.retries.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    }

    async fn ask(&mut self, key: &str) -> anyhow::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(&self.addr).await?),
        };
        // One that comes late would be taken for that of the next question.
        let answer = timeout(PATIENCE, ask(stream, &self.addr, key)).await;
        answer.context("no answer in time")?
    }
}

/// What a writer is told.
enum Answer {
    Position(Position),
    /// To ask again.
    Later,
    /// Something that must not be.
    Never(String),
}

async fn connect(addr: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn ask(stream: &mut TcpStream, addr: &str, key: &str) -> anyhow::Result<Answer> {
    let body = format!(r#"{{"op":"add","states":["{STATE}"],"key":"{key}"}}"#);
    let request = format!(
        "POST /v1/mutations?wait={WAIT_S} HTTP/1.1\r\nHost: {addr}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(512);
    let answer = loop {
        let read = stream.read_buf(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the connection was closed");
        if let Some(answer) = whole_answer(&buffer)? {
            break answer;
        }
        anyhow::ensure!(buffer.len() < LONGEST, "an answer that does not end");
    };
    let text = String::from_utf8_lossy(&buffer[answer.head..answer.len]).into_owned();
    Ok(match answer.code {
        200 => {
            let body: Value = serde_json::from_str(&text)?;
            let position = body["position"].as_str().and_then(|at| at.parse().ok());
            match (body["outcome"].as_str(), position) {
                (Some("executed"), Some(position)) => Answer::Position(position),
                _ => Answer::Never(text),
            }
        }
        503 | 504 => Answer::Later,
        code => Answer::Never(format!("{code} {text}")),
    })
}

/// Writes once, and returns where.
///
/// # Errors
///
/// If it is not acknowledged.
pub(super) async fn post(addr: &str, key: &str) -> anyhow::Result<Position> {
    match ask(&mut connect(addr).await?, addr, key).await? {
        Answer::Position(position) => Ok(position),
        Answer::Later => anyhow::bail!("{addr} does not reach the root"),
        Answer::Never(what) => anyhow::bail!("{addr} answers {what}"),
    }
}
