//! How long a mutation takes to a leaf, on an idle tree and on a saturated one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use machine_node::node::{self, Node, NodeConfig, Origin, Sockets};
use machine_node::observe::ObserveConfig;
use machine_node::places::places;
use machine_node::random::RandomTraffic;
use machine_node::shutdown::Tasks;
use machine_runtime::observe::Observers;
use machine_runtime::{DynState, Handle, Machine, Mutation, States};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{FANOUT, ROUNDS, one_thread, ready};
use crate::cpu::{Cpus, Side};
use crate::part::Process;
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::states::Published148;

/// How many mutations go to the root at once, where it is saturated: they are run in a row and
/// published together.
const BATCH: usize = 1024;

/// The pause before a mutation on an idle tree.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a leaf may take to show something.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn measure(report: &mut Report) -> anyhow::Result<()> {
    one_thread()?.block_on(async {
        let mut tree = Tree::start().await?;
        report.progress("replication: idle tree");
        tree.idle(report).await?;
        report.progress("replication: writes from a leaf");
        tree.writes(report).await?;
        report.progress("replication: saturated tree");
        tree.saturated(report).await
    })
}

/// A tree of nine nodes; its root is on this thread.
struct Tree {
    root: Handle<Published148>,
    leaf: Leaf,
    traffic: RandomTraffic<Published148>,
    _processes: Vec<Process>,
    _tasks: Tasks,
}

impl Tree {
    async fn start() -> anyhow::Result<Self> {
        let tasks = Tasks::default();
        let observers = Observers::new();
        let root = node::start_machine(Machine::<Published148>::new(), &observers, &tasks).await?;
        let rpc = TcpListener::bind("127.0.0.1:0").await?;
        let addr = rpc.local_addr()?;
        let origin = Origin::Machine(root.untyped(), observers);
        start_node("root", origin, rpc, &tasks)?;
        let mut rpcs = vec![addr];
        let mut processes = Vec::new();
        let places = places(&FANOUT)?;
        // The root is here, and the last of the lowest tier.
        for place in &places[1..places.len() - 1] {
            let process = Process::node(&place.name, place.parent.map(|parent| rpcs[parent]))?;
            rpcs.push(process.at.rpc);
            processes.push(process);
        }
        let place = &places[places.len() - 1];
        let parent = place.parent.context("a leaf without a parent")?;
        let leaf = Leaf::start(place.name.clone(), rpcs[parent]);
        for process in &processes {
            ready(process.at.http).await?;
        }
        let mut tree = Self {
            root,
            leaf,
            traffic: RandomTraffic::new(fastrand::u64(..)),
            _processes: processes,
            _tasks: tasks,
        };
        tree.leaf.shows(tree.revision()).await?;
        Ok(tree)
    }

    fn revision(&self) -> u64 {
        self.root.view().position().map_or(0, |at| at.revision)
    }

    async fn idle(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let count = report.effort(150, 500);
        let mut p50 = Vec::new();
        let mut floor = Vec::new();
        for _ in 0..ROUNDS {
            floor.push(round_trip_us(count)?);
            let mut latencies = Vec::new();
            while latencies.len() < count {
                sleep(PAUSE).await;
                let exception = self.root.view().is_active(Published148::Exception);
                let mutation = self.traffic.next(exception);
                let before = self.revision();
                let start = Instant::now();
                let receipt = self.root.mutate(mutation).await?;
                if receipt.position.revision == before {
                    continue;
                }
                let shown = self.leaf.shows(receipt.position.revision).await?;
                latencies.push(us(shown.saturating_duration_since(start)));
            }
            p50.push(Samples::new(latencies).median());
        }
        let floor = Baseline::new("raw TCP round trip", Samples::new(floor).median());
        report.row("replication.l2.idle.p50", "us", Samples::new(p50), floor);
        Ok(())
    }

    /// Mutations that the leaf is asked for, which come back with what the root says. The leaf's thread
    /// times them: the root's only answers.
    async fn writes(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let count = report.effort(150, 500);
        let (mut p50, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floor.push(round_trip_us(count)?);
            let exception = self.root.view().is_active(Published148::Exception);
            let mutations = (0..count).map(|_| self.traffic.next(exception)).collect();
            p50.push(Samples::new(self.leaf.write(mutations).await?).median());
        }
        let floor = Baseline::new("raw TCP round trip", Samples::new(floor).median());
        report.row("replication.l2.mutate.p50", "us", Samples::new(p50), floor);
        Ok(())
    }

    async fn saturated(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let time = report.effort(Duration::from_millis(500), Duration::from_secs(2));
        let (mut rates, mut floor) = (Vec::new(), Vec::new());
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        let mut trip = Vec::new();
        for _ in 0..ROUNDS {
            floor.push(self.core_alone(time / 4));
            trip.push(round_trip_us(100)? / 1e3);
            let written = self.write(time).await?;
            rates.push(written.rate);
            let lags = Samples::new(self.leaf.lags_ms(&written.batches).await?);
            p50.push(lags.median());
            p99.push(lags.quantile(0.99));
        }
        let core = Baseline::new("the core alone", Samples::new(floor).median());
        report.row(
            "replication.saturated.rate",
            "1/s",
            Samples::new(rates),
            core,
        );
        let trip = Baseline::new("raw TCP round trip", Samples::new(trip).median());
        let name = "replication.saturated.l2_lag";
        report.row(format!("{name}.p50"), "ms", Samples::new(p50), trip.clone());
        report.row(format!("{name}.p99"), "ms", Samples::new(p99), trip);
        Ok(())
    }

    /// One writer that keeps the root busy for `time`. It is on the root's thread: while one of them
    /// works the other has to wait.
    async fn write(&mut self, time: Duration) -> anyhow::Result<Written> {
        let (mut count, mut batches) = (0.0, Vec::new());
        let start = Instant::now();
        while start.elapsed() < time {
            let batch = (0..BATCH).map(|_| self.traffic.next(false)).collect();
            let sent = Instant::now();
            let receipts = self.root.mutate_all(batch).await?;
            count += f64::from(u32::try_from(receipts.len())?);
            batches.push((receipts[receipts.len() - 1].position.revision, sent));
        }
        Ok(Written {
            rate: count / start.elapsed().as_secs_f64(),
            batches,
        })
    }

    /// The floor: the same traffic into a machine that nobody looks at, mutations a second.
    fn core_alone(&mut self, time: Duration) -> f64 {
        let mut machine = Machine::<Published148>::new();
        let mut count = 0.0;
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..BATCH {
                // Whether it is accepted is part of what is random.
                let _ = machine.mutate(&self.traffic.next(false));
                count += 1.0;
            }
        }
        count / start.elapsed().as_secs_f64()
    }
}

/// What a writer has done.
struct Written {
    /// Mutations a second.
    rate: f64,
    /// The revision that each batch led to, and when the batch was sent.
    batches: Vec<(u64, Instant)>,
}

/// A node of the lowest tier, on a thread of its own, which tells what it shows and when.
struct Leaf {
    shown: UnboundedReceiver<(u64, Instant)>,
    writes: UnboundedSender<Writes>,
    latest: (u64, Instant),
    _thread: JoinHandle<anyhow::Result<()>>,
}

impl Leaf {
    fn start(name: String, parent: SocketAddr) -> Self {
        let (tell, shown) = unbounded_channel();
        let (writes, asked) = unbounded_channel();
        let thread =
            thread::spawn(move || one_thread()?.block_on(leaf(&name, parent, tell, asked)));
        Self {
            shown,
            writes,
            latest: (0, Instant::now()),
            _thread: thread,
        }
    }

    /// Waits until it shows `revision`, and says since when.
    async fn shows(&mut self, revision: u64) -> anyhow::Result<Instant> {
        while self.latest.0 < revision {
            let next = tokio::time::timeout(PATIENCE, self.shown.recv());
            let next = next.await.context("the leaf does not follow")?;
            self.latest = next.context("the leaf has ended")?;
        }
        Ok(self.latest.1)
    }

    /// Has it write, one after the other; how long each took, in us.
    async fn write(&self, mutations: Vec<Mutation<Published148>>) -> anyhow::Result<Vec<f64>> {
        let (tell, told) = oneshot::channel();
        let sent = self.writes.send(Writes { mutations, tell });
        sent.ok().context("the leaf has ended")?;
        let times = told.await.context("the leaf cannot write")?;
        Ok(times.into_iter().map(us).collect())
    }

    /// How long after it was sent each batch was shown, in ms.
    async fn lags_ms(&mut self, batches: &[(u64, Instant)]) -> anyhow::Result<Vec<f64>> {
        let mut lags = Vec::new();
        for (revision, sent) in batches {
            let shown = self.shows(*revision).await?;
            lags.push(us(shown.saturating_duration_since(*sent)) / 1e3);
        }
        Ok(lags)
    }
}

/// Mutations for the leaf to write.
struct Writes {
    mutations: Vec<Mutation<Published148>>,
    tell: oneshot::Sender<Vec<Duration>>,
}

impl Writes {
    async fn run(self, handle: &Handle<DynState>) -> anyhow::Result<()> {
        let mut times = Vec::new();
        for mutation in self.mutations {
            sleep(PAUSE).await;
            let states = mutation.states().iter();
            let states = states.map(|state| u32::try_from(state.index()).map(DynState));
            let states: Vec<_> = states.collect::<Result<_, _>>()?;
            let mutation = Mutation::new(mutation.op(), states);
            let start = Instant::now();
            // Whether it is accepted is part of what is random.
            let _ = handle.mutate(mutation).await?;
            times.push(start.elapsed());
        }
        // Whoever asked may have given up.
        let _ = self.tell.send(times);
        Ok(())
    }
}

async fn leaf(
    name: &str,
    parent: SocketAddr,
    tell: UnboundedSender<(u64, Instant)>,
    mut asked: UnboundedReceiver<Writes>,
) -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let rpc = TcpListener::bind("127.0.0.1:0").await?;
    let origin = Origin::Parents(Published148::schema().clone(), vec![parent.to_string()]);
    let node = start_node(name, origin, rpc, &tasks)?;
    let mut positions = node.view().positions();
    loop {
        // Neither holds anything that is lost with it.
        tokio::select! {
            biased;
            changed = positions.changed() => changed?,
            Some(writes) = asked.recv() => writes.run(node.handle()).await?,
            () = tell.closed() => return Ok(()),
        }
        let revision = positions.borrow_and_update().map_or(0, |at| at.revision);
        // Whoever no longer listens has closed it.
        let _ = tell.send((revision, Instant::now()));
    }
}

fn start_node(name: &str, origin: Origin, rpc: TcpListener, tasks: &Tasks) -> anyhow::Result<Node> {
    let config = NodeConfig::new(
        name,
        env!("CARGO_PKG_VERSION"),
        origin,
        ObserveConfig::new("bench"),
    );
    Node::start(config, Sockets { rpc, http: None }, tasks)
}

/// The floor of anything that goes out and comes back: 64 bytes over loopback between threads on
/// two processors that wait in `read`.
fn round_trip_us(count: usize) -> anyhow::Result<f64> {
    let cpus = Cpus::allowed();
    let near = thread::spawn(move || round_trips(count, cpus));
    let trips = near
        .join()
        .map_err(|_panic| anyhow::anyhow!("the round trips failed"))??;
    Ok(Samples::new(trips).median())
}

fn round_trips(count: usize, cpus: Cpus) -> anyhow::Result<Vec<f64>> {
    cpus.pin(Side::Load);
    let listener = StdListener::bind("127.0.0.1:0")?;
    let mut near = StdStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        cpus.pin(Side::Measured);
        let mut bytes = [0; 64];
        while far.read_exact(&mut bytes).is_ok() && far.write_all(&bytes).is_ok() {}
    });
    let mut trips = Vec::new();
    let mut bytes = [0; 64];
    for _ in 0..count {
        let start = Instant::now();
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
        trips.push(us(start.elapsed()));
    }
    drop(near);
    echo.join()
        .map_err(|_panic| anyhow::anyhow!("the echo failed"))?;
    Ok(trips)
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
