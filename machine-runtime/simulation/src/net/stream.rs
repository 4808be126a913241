//! One end of a stream.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::{Net, WINDOW};

/// One end of a stream between two hosts.
pub struct Stream {
    net: Net,
    id: u64,
    /// 0 at who dialled, 1 at the other.
    side: usize,
    /// When there is something to read next.
    next: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, side) = (self.id, self.side);
        write!(f, "Stream({id}.{side})")
    }
}

impl Stream {
    pub(super) fn new(net: Net, id: u64, side: usize) -> Self {
        Self {
            net,
            id,
            side,
            next: None,
        }
    }

    /// What can be read now; or when to look again, if that is known.
    fn look(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Result<io::Result<()>, Option<u64>> {
        let now = self.net.log.now();
        let mut inner = self.net.lock();
        let inner = &mut *inner;
        let hosts = inner.hosts.len();
        let broken = || Ok(Err(io::ErrorKind::ConnectionReset.into()));
        let Some(pair) = inner.streams.get_mut(&self.id) else {
            return broken();
        };
        let (reader, sender) = (pair.ends[self.side], pair.ends[1 - self.side]);
        if !pair.held[self.side] {
            return broken();
        }
        let pipe = &mut pair.pipes[1 - self.side];
        pipe.reader = Some(cx.waker().clone());
        if let Some(crashed) = pair.silent {
            // Whoever writes into it may learn of it.
            let reset = pipe.reset.filter(|_| crashed != usize::MAX);
            return match reset {
                Some(at) if at <= now => broken(),
                reset => Err(reset),
            };
        }
        if inner.lines[sender * hosts + reader].cut.is_some() {
            return Err(None);
        }
        if let Some(at) = pipe.reset.filter(|at| *at <= now) {
            let _ = at;
            return broken();
        }
        let stalled = inner.hosts[reader].stalled;
        if stalled > now {
            return Err(Some(stalled));
        }
        match pipe.segments.front_mut() {
            Some(segment) if segment.comes <= now => {
                let rest = &segment.bytes[segment.taken..];
                let count = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..count]);
                segment.taken += count;
                let transit = now - segment.sent;
                if segment.taken == segment.bytes.len() {
                    pipe.segments.pop_front();
                }
                if inner.lines[reader * hosts + sender].cut.is_some() {
                    pipe.untold += count;
                } else {
                    pipe.window -= count;
                    if let Some(writer) = pipe.writer.take() {
                        writer.wake();
                    }
                }
                inner.transit = inner.transit.max(transit);
                Ok(Ok(()))
            }
            None if pipe.closed && pipe.waiting == 0 && pipe.last <= now => Ok(Ok(())),
            front => {
                let comes = front.map(|segment| segment.comes);
                let comes =
                    comes.or_else(|| (pipe.closed && pipe.waiting == 0).then_some(pipe.last));
                Err([comes, pipe.reset].into_iter().flatten().min())
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.look(cx, buf) {
                Ok(done) => return Poll::Ready(done),
                Err(None) => return Poll::Pending,
                Err(Some(at)) => {
                    let at = self.net.log.at(at);
                    match &mut self.next {
                        Some(next) => next.as_mut().reset(at),
                        none => *none = Some(Box::pin(sleep_until(at))),
                    }
                    let next = self.next.as_mut().map(|next| next.as_mut().poll(cx));
                    if next.is_none_or(|next| next.is_pending()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.net.log.now();
        let mut inner = self.net.lock();
        let inner = &mut *inner;
        let hosts = inner.hosts.len();
        let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(pair) = inner.streams.get_mut(&self.id) else {
            return broken();
        };
        if !pair.held[self.side] {
            return broken();
        }
        let (writer, reader) = (pair.ends[self.side], pair.ends[1 - self.side]);
        let (there, back) = (writer * hosts + reader, reader * hosts + writer);
        let back_pipe = &mut pair.pipes[1 - self.side];
        if let Some(crashed) = pair.silent {
            let (there, back) = (inner.lines[there], inner.lines[back]);
            let up = crashed == reader && !inner.hosts[crashed].dark;
            if up && there.cut.is_none() && back.cut.is_none() && back_pipe.reset.is_none() {
                // Who came back does not know the stream, and says so.
                back_pipe.reset = Some(now + there.weather.latency + back.weather.latency);
                back_pipe.wake();
            }
        }
        if back_pipe.reset.is_some_and(|at| at <= now) && pair.silent.is_none() {
            return broken();
        }
        let pipe = &mut pair.pipes[self.side];
        if pipe.window >= WINDOW {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if pair.silent.is_some() {
            pipe.window += bytes.len();
        } else if pair.held[1 - self.side] {
            if inner.write(self.id, self.side, bytes) {
                self.net.written.notify_one();
            }
        } else {
            // The other side has closed, and answers so.
            let line = inner.lines[back].weather.latency + inner.lines[there].weather.latency;
            let pair = inner.streams.get_mut(&self.id);
            if let Some(pair) = pair {
                let back_pipe = &mut pair.pipes[1 - self.side];
                back_pipe.reset.get_or_insert(now + line);
                back_pipe.wake();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.net.lock();
        if let Some(pair) = inner.streams.get_mut(&self.id) {
            let pipe = &mut pair.pipes[self.side];
            pipe.closed = true;
            pipe.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = self.net.log.now();
        let mut inner = self.net.lock();
        let inner = &mut *inner;
        let hosts = inner.hosts.len();
        let Some(pair) = inner.streams.get_mut(&self.id) else {
            return;
        };
        if pair.held[self.side] {
            pair.held[self.side] = false;
            let (ours, theirs) = (pair.ends[self.side], pair.ends[1 - self.side]);
            let latency = inner.lines[ours * hosts + theirs].weather.latency;
            let pipe = &mut pair.pipes[self.side];
            pipe.closed = true;
            pipe.last = pipe.last.max(now + latency + 1);
            pipe.wake();
        }
        if pair.held == [false; 2] {
            inner.streams.remove(&self.id);
        }
    }
}
