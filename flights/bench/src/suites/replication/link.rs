//! Bytes on a link: those of the handshake with the first snapshot, and those of random traffic.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use machine_node::node::start_machine;
use machine_node::random::RandomTraffic;
use machine_node::shutdown::Tasks;
use machine_runtime::observe::Observers;
use machine_runtime::replica::{
    Connect, Follower, FollowerOptions, Selection, Source, SourceOptions, Tcp,
};
use machine_runtime::{DynState, Handle, Machine, States, View};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use super::{ROUNDS, one_thread};
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::states::{Published148, Published1394};

/// How often a mutation is called: 200 times a second.
const PERIOD: Duration = Duration::from_millis(5);

pub(super) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let calls = report.effort(150, 1000);
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        report.progress(&format!("replication: bytes, round {round} of {ROUNDS}"));
        rounds.push(one_thread()?.block_on(follow(calls, None))?);
    }
    let samples = |pick: fn(&Bytes) -> f64| Samples::new(rounds.iter().map(pick));
    let ticks = Baseline::new("changes and digest", samples(|b| b.down_floor).median());
    report.row("link.bytes_down", "B", samples(|b| b.down), ticks);
    let snapshot = Baseline::new("ticks and digest", samples(|b| b.handshake_floor).median());
    report.row("link.handshake", "B", samples(|b| b.handshake), snapshot);
    let all = Baseline::new("all states", samples(|b| b.down).median());
    report.progress("replication: bytes of a selection");
    let selected = (0..ROUNDS).map(|_| one_thread()?.block_on(follow(calls, Some(SELECTED))));
    let selected = selected.collect::<anyhow::Result<Vec<_>>>()?;
    let selected = Samples::new(selected.iter().map(|bytes| bytes.down));
    report.row("link.selected.bytes", "B", selected, all);
    report.progress("replication: bytes of a large snapshot");
    let large =
        |compress| (0..ROUNDS).map(move |_| one_thread()?.block_on(large_handshake(compress)));
    let plain = large(false).collect::<anyhow::Result<Vec<_>>>()?;
    let plain = Baseline::new("as it is", Samples::new(plain).median());
    let compressed = Samples::new(large(true).collect::<anyhow::Result<Vec<_>>>()?);
    report.row("link.snapshot.compressed", "B", compressed, plain);
    Ok(())
}

/// A tenth of the states of the flights.
const SELECTED: &str = "flight=1";

/// The bytes of the handshake with a root of 1,394 states that has seen some traffic.
async fn large_handshake(compress: bool) -> anyhow::Result<f64> {
    let tasks = Tasks::default();
    let root: Handle<Published1394> =
        start_machine(Machine::new(), &Observers::new(), &tasks).await?;
    let mut traffic = RandomTraffic::new(fastrand::u64(..));
    root.mutate_all((0..5000).map(|_| traffic.next(false)).collect())
        .await?;
    let mut options = FollowerOptions::new("rep-1");
    options.compress = compress;
    let (view, counts) = start(&root, options, &tasks).await?;
    reach(&view, &root).await?;
    let bytes = counts.down() + counts.up();
    tasks.finish(Duration::from_secs(1)).await;
    Ok(bytes)
}

/// Starts a replica of `root`, and counts its bytes.
async fn start<S: States>(
    root: &Handle<S>,
    options: FollowerOptions,
    tasks: &Tasks,
) -> anyhow::Result<(View<DynState>, Arc<Counts>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let counts = Arc::new(Counts::default());
    let parent = Counted {
        tcp: Tcp {
            addr: listener.local_addr()?.to_string(),
        },
        counts: Arc::clone(&counts),
    };
    let source = Source::new(root.view(), SourceOptions::new("root"));
    tasks.spawn_until_stopped(async move { source.serve(listener, std::future::pending()).await });
    let (view, follower) = Follower::new::<DynState>(root.view().schema().clone(), options);
    tasks.spawn(follower.run(vec![parent], tasks.stopped()));
    Ok((view, counts))
}

struct Bytes {
    handshake: f64,
    handshake_floor: f64,
    down: f64,
    down_floor: f64,
}

/// Follows a root that has seen some traffic already, through `calls` more; with all of its states, or
/// these.
async fn follow(calls: u32, selected: Option<&str>) -> anyhow::Result<Bytes> {
    let tasks = Tasks::default();
    let root: Handle<Published148> =
        start_machine(Machine::new(), &Observers::new(), &tasks).await?;
    let mut traffic = RandomTraffic::new(fastrand::u64(..));
    let before: Vec<_> = (0..calls).map(|_| traffic.next(false)).collect();
    // A machine beside it, for what its traffic changes.
    let mut machine = Machine::<Published148>::new();
    let _ = machine.add([Published148::Start, Published148::Ready]);
    for mutation in &before {
        let _ = machine.mutate(mutation);
    }
    root.mutate_all(before).await?;
    let mut options = FollowerOptions::new("rep-1");
    let selection = selected.map(|list| Selection::parse(Published148::schema(), list));
    options.selection = selection.transpose()?;
    let (view, counts) = start(&root, options, &tasks).await?;
    reach(&view, &root).await?;
    let handshake = counts.down() + counts.up();
    let now = root.view().snapshot();
    // A byte for a small tick, as any compact form has; digest and position.
    let handshake_floor = now.map_or(0.0, |now| {
        now.ticks().iter().map(|tick| varint(*tick)).sum::<f64>()
    }) + 8.0
        + 16.0
        + 8.0;

    let mut down_floor = 0.0;
    let start = counts.down();
    let mut timer = interval(PERIOD);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..calls {
        timer.tick().await;
        let mutation = traffic.next(root.view().is_active(Published148::Exception));
        // An index for each change, and a digest.
        let _ = machine.mutate(&mutation);
        let changes: usize = machine.last_run().map(|t| t.changes().len()).sum();
        if changes > 0 {
            down_floor += f64::from(u32::try_from(changes)?) + 8.0;
        }
        let _ = root.mutate(mutation).await?;
        reach(&view, &root).await?;
    }
    let calls = f64::from(calls);
    let down = (counts.down() - start) / calls;
    tasks.finish(Duration::from_secs(1)).await;
    Ok(Bytes {
        handshake,
        handshake_floor,
        down,
        down_floor: down_floor / calls,
    })
}

/// The bytes of an integer in seven-bit groups.
fn varint(value: u64) -> f64 {
    f64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// Waits until `view` shows what the root shows.
async fn reach<S: States>(view: &View<DynState>, root: &Handle<S>) -> anyhow::Result<()> {
    let newest = root.view().position();
    view.positions().wait_for(|at| *at == newest).await?;
    Ok(())
}

/// Bytes above TCP.
#[derive(Debug, Default)]
struct Counts {
    down: AtomicU64,
    up: AtomicU64,
}

#[expect(clippy::cast_precision_loss, reason = "bytes of one connection")]
impl Counts {
    fn down(&self) -> f64 {
        self.down.load(Ordering::Relaxed) as f64
    }

    fn up(&self) -> f64 {
        self.up.load(Ordering::Relaxed) as f64
    }
}

/// Connects over TCP and counts what passes.
struct Counted {
    tcp: Tcp,
    counts: Arc<Counts>,
}

impl Connect for Counted {
    type Io = CountedStream;

    async fn connect(&mut self) -> io::Result<CountedStream> {
        Ok(CountedStream {
            stream: self.tcp.connect().await?,
            counts: Arc::clone(&self.counts),
        })
    }
}

struct CountedStream {
    stream: TcpStream,
    counts: Arc<Counts>,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        self.counts.down.fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.counts.up.fetch_add(written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
