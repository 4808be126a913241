//! A reader's connection: served for as long as it is read, and ended when the server says so.
//!
//! Nothing here sets a timer or asks another task for anything per request: the server looks at
//! its connections now and then instead, and sees in their [`Control`] how far each is.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::problem::Problem;
use super::traffic::{Route, Traffic};
use crate::limits::{Limit, Limited, Limits};
use crate::stream::Stream;

/// The shortest buffer that hyper takes.
const LEAST_BUFFER: usize = 8 * 1024;

/// The connection ends after the first request.
const AFTER_FIRST: u8 = 1;

/// The connection ends after what it is answering.
const NOW: u8 = 2;

/// How long whoever is told what was wrong with its request may take to read it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How much more of such a request is read in that time: where something is left unread, the answer may be
/// lost.
const LAST_BYTES: u64 = 256 * 1024;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing is asked, or the answer is on its way.
    Between,
    /// A head has begun.
    Head,
    /// A request is thought about.
    Answering,
    /// A mutation is read and carried out.
    Writing,
    /// What comes is not told apart until the next request: an answer without end, or a body that nobody wants.
    Open,
}

impl Phase {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Between,
            1 => Self::Head,
            2 => Self::Answering,
            3 => Self::Writing,
            _ => Self::Open,
        }
    }
}

/// What the server and one of its connections tell each other. Only the connection's own task notes how it
/// does, so nothing is ever added up from two sides.
#[derive(Debug, Default)]
pub(super) struct Control {
    ended: AtomicU8,
    late: AtomicBool,
    waker: AtomicWaker,
    activity: AtomicU64,
    phase: AtomicU8,
}

impl Control {
    /// Has the connection end after what it is answering.
    pub(super) fn end(&self) {
        self.ended.store(NOW, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Has the connection end because its head has not come in time.
    pub(super) fn too_late(&self) {
        self.late.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Likewise; one on which nothing was asked yet, after what is asked first.
    pub(super) fn end_after_first(&self) {
        // One that is to end now does so all the same.
        self.ended.fetch_max(AFTER_FIRST, Ordering::Relaxed);
        self.waker.wake();
    }

    fn is_to_end(&self) -> bool {
        match self.ended.load(Ordering::Relaxed) {
            NOW => true,
            AFTER_FIRST => self.activity() > 0,
            _ => false,
        }
    }

    /// How often so far the connection has brought a request or taken bytes.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// How far it is.
    pub(super) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Relaxed))
    }

    /// Notes that a request has come.
    pub(super) fn asked(&self, phase: Phase) {
        self.note();
        self.set(phase);
    }

    /// Notes how far it is now.
    pub(super) fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn note(&self) {
        let activity = self.activity() + 1;
        self.activity.store(activity, Ordering::Relaxed);
    }
}

/// What a connection has to keep to, and where it is counted if it does not.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) limits: Limits,
    pub(super) limited: Limited,
    pub(super) traffic: Arc<Traffic>,
}

/// Why what came is no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Line,
    Head,
    Late,
    Malformed,
}

impl Bounds {
    /// Counts what is wrong, and says what the sender is told.
    fn problem(&self, wrong: Wrong) -> Problem {
        let limits = &self.limits;
        let (limit, problem) = match wrong {
            Wrong::Line => {
                let problem = Problem::line_too_long(limits.line_bytes);
                (Some(Limit::Line), problem)
            }
            Wrong::Head => {
                let problem = Problem::head_too_large(limits.head_bytes);
                (Some(Limit::Head), problem)
            }
            Wrong::Late => {
                let problem = Problem::head_late(limits.head_time);
                (Some(Limit::HeadTime), problem)
            }
            Wrong::Malformed => (None, Problem::bad_request()),
        };
        if let Some(limit) = limit {
            self.limited.count(limit);
        }
        problem
    }
}

/// Answers what comes over `stream` until either side ends it.
pub(super) async fn serve<S, B>(stream: Stream, service: S, control: Arc<Control>, bounds: &Bounds)
where
    S: Service<Request<Incoming>, Response = hyper::Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = Noted {
        stream,
        control: Arc::clone(&control),
        line_bytes: bounds.limits.line_bytes,
        head: 0,
        is_line_whole: false,
        is_stuck: false,
        wrong: None,
    };
    let mut connection = http1::Builder::new()
        .max_buf_size(bounds.limits.head_bytes.max(LEAST_BUFFER))
        .serve_connection(TokioIo::new(stream), service);
    let (mut known, mut ending) = (false, false);
    let ended = poll_fn(|cx| {
        // This is a task of its own: its waker stays the same.
        if !known {
            known = true;
            control.waker.register(cx.waker());
        }
        // What has arrived is answered first.
        let polled = Pin::new(&mut connection).poll(cx);
        if polled.is_ready() {
            return polled;
        }
        if control.late.load(Ordering::Relaxed) && control.phase() == Phase::Head {
            return Poll::Ready(Ok(()));
        }
        if ending || !control.is_to_end() {
            return polled;
        }
        ending = true;
        Pin::new(&mut connection).graceful_shutdown();
        Pin::new(&mut connection).poll(cx)
    });
    let ended = ended.await;
    let Noted { stream, wrong, .. } = connection.into_parts().io.into_inner();
    let is_late = control.late.load(Ordering::Relaxed) && control.phase() == Phase::Head;
    if let Some(wrong) = wrong.or(is_late.then_some(Wrong::Late)) {
        let problem = bounds.problem(wrong);
        bounds.traffic.count(Route::Other, problem.status());
        refuse(stream, &problem).await;
    } else if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Tells the sender of what is no request why there is no answer, and closes.
async fn refuse(mut stream: Stream, problem: &Problem) {
    // Who does not read it does not get it.
    let _ = timeout(LAST_WORD, async {
        stream.write_all(&problem.to_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(LAST_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    })
    .await;
}

/// A stream that notes how far its connection is. It looks at the first line of each request, as far as that
/// comes on its own.
struct Noted {
    stream: Stream,
    control: Arc<Control>,
    line_bytes: usize,
    /// How many bytes of a head have come.
    head: usize,
    /// Whether its first line has.
    is_line_whole: bool,
    /// Whether bytes wait to be taken.
    is_stuck: bool,
    /// What is wrong with what came.
    wrong: Option<Wrong>,
}

impl Noted {
    /// Notes bytes that came in.
    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.control.phase() {
            Phase::Between if !self.is_stuck && !bytes.is_empty() => {
                self.control.set(Phase::Head);
                (self.head, self.is_line_whole) = (0, false);
            }
            Phase::Head => {}
            _ => return Ok(()),
        }
        if !self.is_line_whole {
            // Empty lines before it are none.
            let empty = bytes
                .iter()
                .take_while(|byte| self.head == 0 && b"\r\n".contains(byte));
            let bytes = &bytes[empty.count()..];
            let left = self.line_bytes.saturating_sub(self.head);
            self.head += bytes.len();
            let line = bytes.iter().position(|byte| *byte == b'\n');
            match line {
                Some(end) if end <= left => self.is_line_whole = true,
                None if bytes.len() <= left => {}
                _ => {
                    self.wrong = Some(Wrong::Line);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    }

    /// Whether bytes that are to go out are hyper's word that what came is no request, which is put in better
    /// ones.
    fn is_refusal(&mut self, bytes: &[u8]) -> bool {
        if self.control.phase() != Phase::Head {
            return false;
        }
        let status = bytes
            .get(9..12)
            .and_then(|code| StatusCode::from_bytes(code).ok());
        self.wrong = Some(match status {
            Some(StatusCode::URI_TOO_LONG) => Wrong::Line,
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => Wrong::Head,
            _ => Wrong::Malformed,
        });
        true
    }

    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(1..)) => {
                self.is_stuck = false;
                self.control.note();
            }
            Poll::Ready(_) => {}
            Poll::Pending => self.is_stuck = true,
        }
        if self.control.phase() == Phase::Answering {
            self.control.set(Phase::Between);
        }
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = read {
            self.came(&buffer.filled()[before..])?;
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bytes.iter().find(|bytes| !bytes.is_empty());
        if first.is_some_and(|first| self.is_refusal(first)) {
            let all = bytes.iter().map(|bytes| bytes.len()).sum();
            return Poll::Ready(Ok(all));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Nothing without TLS: the stream is closed right after it, which says as much. Within TLS that could be
    /// anybody's doing.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.is_tls() {
            return Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        Poll::Ready(Ok(()))
    }
}
