//! One connection to a debugger.

use std::io;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::FramedRead;

use super::{PATIENCE, Shared};
use crate::debug::codec::{self, CodecError, MAX_ASK, PREAMBLE, check_preamble, preamble};
use crate::debug::frame::{Ask, Body, Frame, PROCESS};

/// The least time between two questions that are answered; what is asked sooner waits in the socket.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// Tells a debugger until it has gone. Fails if it is none; `is_debugger` is set as soon as it is one.
pub(super) async fn run(
    shared: &Shared,
    mut socket: TcpStream,
    is_debugger: &mut bool,
) -> Result<(), CodecError> {
    // It only costs speed if it cannot be set.
    let _ = socket.set_nodelay(true);
    let (read, write) = socket.split();
    // Seen also behind questions that were not read yet.
    let has_hung_up = |read: &ReadHalf<'_>| {
        let ready = read.ready(Interest::READABLE).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(Ready::is_read_closed))
    };
    talk(shared, read, write, is_debugger, has_hung_up).await
}

async fn talk<R: AsyncRead + Unpin>(
    shared: &Shared,
    mut read: R,
    mut write: impl AsyncWrite + Unpin,
    is_debugger: &mut bool,
    has_hung_up: impl Fn(&R) -> bool,
) -> Result<(), CodecError> {
    let stall = shared.options.stall;
    let Ok(began) = begin(shared, &mut read, &mut write).await else {
        return Ok(());
    };
    check_preamble(began)?;
    let mut asks = FramedRead::new(read, codec::frames(MAX_ASK));
    let Ok(Some(Ok(first))) = timeout(PATIENCE, asks.next()).await else {
        return Ok(());
    };
    let Ask::Hello { process, last, .. } = codec::decode(&first)? else {
        let why = "it asked before it said who it is".to_owned();
        return Err(CodecError::Malformed { why });
    };
    let known = process == shared.hello.process && last > 0;
    *is_debugger = true;
    shared.stream.connect(known.then_some(last));
    let _gone = Gone(shared);
    let mut next_ask = Instant::now();
    loop {
        tokio::select! {
            bytes = shared.stream.next() => {
                if write_all(&mut write, &bytes, stall).await.is_err() {
                    return Ok(());
                }
                shared.stream.written();
            }
            ask = async {
                sleep_until(next_ask).await;
                // Answers wait for room like all else.
                shared.stream.has_room().await;
                asks.next().await
            } => {
                next_ask = Instant::now() + ASK_PAUSE;
                let Some(Ok(ask)) = ask.filter(|_| !has_hung_up(asks.get_ref())) else {
                    return Ok(());
                };
                if let Ask::Waiters { machine } = codec::decode(&ask)? {
                    answer(shared, machine);
                }
            }
        }
    }
}

/// Says who we are, and hears how the other side begins.
async fn begin(
    shared: &Shared,
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> io::Result<[u8; PREAMBLE]> {
    let now = shared.stream.clocks().now();
    let hello = Frame {
        number: 0,
        wall: now.wall,
        mono: now.mono,
        machine: PROCESS,
        body: Body::Hello(shared.hello.clone()),
    };
    let mut first = preamble().to_vec();
    codec::append(&hello, &mut first).map_err(io::Error::other)?;
    write_all(write, &first, shared.options.stall).await?;
    let mut began = [0; PREAMBLE];
    timeout(PATIENCE, read.read_exact(&mut began)).await??;
    Ok(began)
}

/// Writes all of it, as long as some of it is taken now and then.
async fn write_all(
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    stall: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(stall, to.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

fn answer(shared: &Shared, machine: u32) {
    let subjects = shared.subjects.lock();
    let subjects = subjects.unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = (machine as usize).checked_sub(1);
    let subject = place.and_then(|place| subjects.get(place)).cloned();
    drop(subjects);
    if let Some(subject) = subject {
        shared.stream.push_now(machine, subject.waiters());
    }
}

/// Notes that the connection is over, however it ends.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.stream.disconnect();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::debug::frame::VERSION;
    use crate::debug::link::{DialOptions, Reporter};
    use crate::debug::samples::Node;

    #[tokio::test(start_paused = true)]
    async fn questions_are_answered_at_the_pace() {
        let node = Node::new();
        let reporter = Reporter::new("tests 1", "", DialOptions::default());
        let shared = &reporter.shared;
        let subject = node.subject("root");
        reporter.add(subject.clone());
        let (here, there) = duplex(1 << 20);
        let (read, write) = tokio::io::split(here);
        let mut is_debugger = false;
        let link = talk(shared, read, write, &mut is_debugger, |_| false);
        let debugger = async move {
            let (read, mut write) = tokio::io::split(there);
            let mut says = preamble().to_vec();
            let hello = Ask::Hello {
                version: VERSION,
                process: 0,
                last: 0,
            };
            codec::append(&hello, &mut says).unwrap();
            write.write_all(&says).await.unwrap();
            let mut life = shared.stream.life();
            let life = life.wait_for(Option::is_some).await.unwrap().unwrap();
            assert!(shared.stream.declare(life, 1, &subject));
            let mut questions = Vec::new();
            for _ in 0..5 {
                codec::append(&Ask::Waiters { machine: 1 }, &mut questions).unwrap();
            }
            write.write_all(&questions).await.unwrap();
            let mut read = read;
            read.read_exact(&mut [0; PREAMBLE]).await.unwrap();
            let mut frames = FramedRead::new(read, codec::frames(codec::MAX_FRAME));
            let mut answers = Vec::new();
            while answers.len() < 5 {
                let frame: Frame = codec::decode(&frames.next().await.unwrap().unwrap()).unwrap();
                if matches!(frame.body, Body::Waiters(_)) {
                    answers.push(Instant::now());
                }
            }
            answers
        };
        let answers = tokio::select! {
            ended = link => panic!("{ended:?}"),
            answers = debugger => answers,
        };
        let pauses = answers.array_windows().map(|[one, next]| *next - *one);
        assert!(
            pauses.clone().all(|pause| pause >= ASK_PAUSE),
            "{answers:?}"
        );
        assert!(
            *answers.last().unwrap() - answers[0] < ASK_PAUSE * 5,
            "{answers:?}"
        );
    }
}
