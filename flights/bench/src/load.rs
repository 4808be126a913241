//! Readers: connections that ask for the same page again and again, as wrk does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use machine_node::stream::Stream;
use machine_node::tls::TlsClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What readers ask for: the active states, as text.
pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// The most header fields that an answer has.
const FIELDS: usize = 32;

/// What readers got in a time.
#[derive(Debug)]
pub(crate) struct Load<T> {
    /// How many answers were 200.
    pub(crate) answered: u64,
    /// How many were anything else.
    pub(crate) failed: u64,
    /// What was sampled at the start and at the end.
    pub(crate) samples: [T; 2],
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Keeps `connections` busy for `warm_up` and then for `time`, and calls `sample` at the start and
/// at the end of that.
///
/// # Errors
///
/// If a connection cannot be opened or breaks.
pub(crate) fn load<T>(
    addr: SocketAddr,
    connections: usize,
    warm_up: Duration,
    time: Duration,
    sample: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<Load<T>> {
    load_with(None, REQUEST, addr, connections, warm_up, time, sample)
}

/// The same with another request, and over TLS if there is any.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn load_with<T>(
    tls: Option<&TlsClient>,
    request: &[u8],
    addr: SocketAddr,
    connections: usize,
    warm_up: Duration,
    time: Duration,
    sample: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<Load<T>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let request: Arc<[u8]> = request.into();
    runtime.block_on(async {
        let counts = Arc::new(Counts::default());
        let mut readers = JoinSet::new();
        for _ in 0..connections {
            let (tls, request) = (tls.cloned(), Arc::clone(&request));
            readers.spawn(read(tls, request, addr, Arc::clone(&counts)));
        }
        let measured = async {
            sleep(warm_up).await;
            counts.answered.store(0, Ordering::Relaxed);
            counts.failed.store(0, Ordering::Relaxed);
            let start = sample()?;
            sleep(time).await;
            Ok(Load {
                answered: counts.answered.load(Ordering::Relaxed),
                failed: counts.failed.load(Ordering::Relaxed),
                samples: [start, sample()?],
            })
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

/// Opens a connection, over TLS if there is any.
async fn open(tls: Option<&TlsClient>, addr: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => tls.connect(&addr.ip().to_string(), stream).await,
        None => Ok(stream.into()),
    }
}

/// Asks once, on a connection of its own.
///
/// # Errors
///
/// If it cannot be opened or breaks, or the answer is not 200.
pub(crate) async fn ask_once(tls: Option<&TlsClient>, addr: SocketAddr) -> anyhow::Result<()> {
    let mut stream = open(tls, addr).await?;
    let mut buffer = vec![0; 64 * 1024];
    let answer = ask(&mut stream, REQUEST, &mut buffer).await?;
    ensure!(answer.code == 200, "it answered {}", answer.code);
    Ok(())
}

/// One reader: asks, reads the whole answer, asks again.
async fn read(
    tls: Option<TlsClient>,
    request: Arc<[u8]>,
    addr: SocketAddr,
    counts: Arc<Counts>,
) -> anyhow::Result<()> {
    let mut stream = open(tls.as_ref(), addr).await?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let answer = ask(&mut stream, &request, &mut buffer).await?;
        let count = match answer.code {
            200 => &counts.answered,
            _ => &counts.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ask(stream: &mut Stream, request: &[u8], buffer: &mut [u8]) -> anyhow::Result<Answer> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut filled = 0;
    let answer = loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the connection was closed");
        filled += read;
        if let Some(answer) = whole_answer(&buffer[..filled])? {
            break answer;
        }
        ensure!(
            filled < buffer.len(),
            "an answer of more than {filled} bytes"
        );
    };
    let rest = filled - answer.len;
    ensure!(rest == 0, "{rest} bytes after the answer");
    Ok(answer)
}

/// An answer among bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Where its body begins.
    pub(crate) head: usize,
    /// Where that ends.
    pub(crate) len: usize,
}

/// The answer at the start of `bytes`, once all of it is there.
pub(crate) fn whole_answer(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else {
        return Ok(None);
    };
    let length = answer
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without a length")?;
    let length: usize = std::str::from_utf8(length.value)?.parse()?;
    let answer = Answer {
        code: answer.code.unwrap_or_default(),
        head,
        len: head + length,
    };
    Ok((bytes.len() >= answer.len).then_some(answer))
}

/// The body of a page, once.
///
/// # Errors
///
/// If the node cannot be reached.
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
        let (code, len) = (200, text.len());
        let head = len - 3;
        let answer = Answer { code, head, len };
        assert_eq!(whole_answer(text).ok(), Some(Some(answer)));
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(whole_answer(b"SSH-2.0\r\n").is_err());
    }
}
