//! A reader's connection: served for as long as it is read, and ended when the server says so.
//!
//! Nothing here sets a timer or asks another task for anything per request: the server looks at
//! its connections now and then instead.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long the head of a request may be: far more than any of ours needs.
const HEAD_BYTES: usize = 16 * 1024;

/// What the server and one of its connections tell each other.
#[derive(Debug, Default)]
pub(super) struct Control {
    ended: AtomicBool,
    waker: AtomicWaker,
    activity: AtomicU64,
}

impl Control {
    /// Has the connection end after what it is answering.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// How often so far the connection has brought a request or taken bytes.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// Notes that it does. Only the connection's own task may.
    pub(super) fn note(&self) {
        let activity = self.activity() + 1;
        self.activity.store(activity, Ordering::Relaxed);
    }
}

/// Answers what comes over `stream` until either side ends it.
pub(super) async fn serve<S, B>(stream: TcpStream, service: S, control: Arc<Control>)
where
    S: Service<Request<Incoming>, Response = hyper::Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = Noted {
        stream,
        control: Arc::clone(&control),
    };
    let connection = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let (mut known, mut ending) = (false, false);
    let ended = poll_fn(|cx| {
        // This is a task of its own: its waker stays the same.
        if !known {
            known = true;
            control.waker.register(cx.waker());
        }
        // What has arrived is answered first.
        let polled = connection.as_mut().poll(cx);
        if polled.is_ready() || ending || !control.ended.load(Ordering::Relaxed) {
            return polled;
        }
        ending = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection broke");
    }
}

/// A stream that notes when it takes bytes.
struct Noted {
    stream: TcpStream,
    control: Arc<Control>,
}

impl Noted {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.control.note();
        }
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

    /// Nothing: the stream is closed right after it, which says as much.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
