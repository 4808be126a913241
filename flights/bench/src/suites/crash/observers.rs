//! Those who are shown positions: readers of events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use machine_runtime::Position;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::Shared;

/// How long one whose stream broke waits.
const PAUSE: Duration = Duration::from_millis(20);

/// Reads the events of a node for ever, and notes each position that is not beyond the one before.
pub(super) async fn observe(addr: String, shared: Arc<Shared>) {
    let mut at = shared.start.position;
    loop {
        // A stream that breaks is begun anew, after what was seen.
        let _broken = read(&addr, &shared, &mut at).await;
        sleep(PAUSE).await;
    }
}

async fn read(addr: &str, shared: &Shared, at: &mut Position) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\n\
         Last-Event-ID: {at}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        // The lengths of chunks are lines of their own.
        let Some(id) = line.strip_prefix("id: ") else {
            continue;
        };
        let now: Position = id.parse()?;
        shared.events.fetch_add(1, Ordering::Relaxed);
        if !now.has_reached(*at) {
            shared.step_back(&format!("a reader of {addr}"), *at, now);
        }
        *at = now;
    }
    Ok(())
}
