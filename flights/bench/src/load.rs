//! Readers: connections that ask for the same page again and again, as wrk does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What readers ask for: the active states, as text.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// The most header fields that an answer has.
const FIELDS: usize = 32;

/// Keeps `connections` busy for `warm_up` and then for `time`. Returns how many requests were
/// answered in `time`, and what `sample` gave at its start and at its end.
///
/// # Errors
///
/// If the node cannot be reached or answers with anything but 200.
pub(crate) fn load<T>(
    addr: SocketAddr,
    connections: usize,
    warm_up: Duration,
    time: Duration,
    sample: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<(u64, [T; 2])> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answered = Arc::new(AtomicU64::new(0));
        let mut readers = JoinSet::new();
        for _ in 0..connections {
            readers.spawn(read(addr, Arc::clone(&answered)));
        }
        let measured = async {
            sleep(warm_up).await;
            answered.store(0, Ordering::Relaxed);
            let start = sample()?;
            sleep(time).await;
            let count = answered.load(Ordering::Relaxed);
            Ok((count, [start, sample()?]))
        };
        tokio::select! {
            measured = measured => measured,
            Some(ended) = readers.join_next() => {
                ended?.with_context(|| format!("cannot read from {addr}"))?;
                anyhow::bail!("a reader of {addr} ended")
            }
        }
    })
}

/// One reader: asks, reads the whole answer, asks again.
async fn read(addr: SocketAddr, answered: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        stream.write_all(REQUEST).await?;
        let mut filled = 0;
        let whole = loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "the connection was closed");
            filled += read;
            if let Some(len) = whole_answer(&buffer[..filled])? {
                break len;
            }
            ensure!(
                filled < buffer.len(),
                "an answer of more than {filled} bytes"
            );
        };
        ensure!(whole == filled, "{} bytes after the answer", filled - whole);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long the answer at the start of `bytes` is, once its head is there and all of it is.
fn whole_answer(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else {
        return Ok(None);
    };
    let code = answer.code.unwrap_or_default();
    ensure!(code == 200, "the answer is {code}");
    let length = answer
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without a length")?;
    let length: usize = std::str::from_utf8(length.value)?.parse()?;
    Ok((bytes.len() >= head + length).then_some(head + length))
}

/// The body of a page, once.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn body_len(addr: SocketAddr) -> anyhow::Result<usize> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(machine_node::client::get(&addr.to_string(), "/", "*/*"))?;
    Ok(answer.body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for part in 0..text.len() {
            assert_eq!(whole_answer(&text[..part]).ok(), Some(None), "{part}");
        }
        assert_eq!(whole_answer(text).ok(), Some(Some(text.len())));
        assert!(whole_answer(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
