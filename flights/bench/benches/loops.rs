//! What the inner loops cost, whatever the machine's mood: instructions, counted by valgrind, and
//! allocations of the steady state. A loop that costs more or less than it did fails, and the new
//! figure is written here if it is meant to.
//!
//! `cargo bench -p flights-bench --bench loops`

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use flights_bench::states::Published148;
use machine_node::node::{Node, NodeConfig, Origin, Sockets, start_machine};
use machine_node::observe::ObserveConfig;
use machine_node::random::RandomTraffic;
use machine_node::shutdown::Tasks;
use machine_runtime::observe::Observers;
use machine_runtime::{DynState, Handle, Machine, Mutation, States, View};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// A loop and what one turn of it costs.
struct Loop {
    name: &'static str,
    /// Instructions on `x86_64`, with the compiler that `rust-toolchain.toml` names.
    instructions: f64,
    allocations: f64,
    /// How far off both may be, as a part of them: time enters into what an event loop does.
    tolerance: f64,
    /// How many turns are enough to tell.
    turns: u32,
    run: fn(&mut Counter) -> anyhow::Result<()>,
}

const LOOPS: [Loop; 3] = [
    Loop {
        name: "core.add3",
        instructions: 1611.0,
        allocations: 0.0,
        tolerance: 0.02,
        turns: 20_000,
        run: core,
    },
    Loop {
        name: "http.get",
        instructions: 12_230.0,
        allocations: 3.0,
        tolerance: 0.05,
        turns: 500,
        run: http,
    },
    Loop {
        name: "link.delta",
        instructions: 45_800.0,
        allocations: 18.35,
        tolerance: 0.05,
        turns: 500,
        run: link,
    },
];

/// Where the traffic starts, the same each time.
const SEED: u64 = 3;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "this is a program")]
            {
                eprintln!("loops: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn measure() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    // As valgrind runs it, see `instructions`.
    if let [_, flag, name, turns] = &args[..]
        && flag == "--run"
    {
        let find = LOOPS.iter().find(|a_loop| a_loop.name == name);
        let mut counter = Counter::new(turns.parse()?);
        return (find.context("no such loop")?.run)(&mut counter);
    }
    let mut wrong = 0;
    for a_loop in &LOOPS {
        let mut counter = Counter::new(a_loop.turns);
        (a_loop.run)(&mut counter)?;
        wrong += check(
            a_loop,
            "allocations",
            counter.allocations()?,
            a_loop.allocations,
        );
        // Elsewhere they are others.
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            if let Some(is) = instructions(a_loop)? {
                wrong += check(a_loop, "instructions", is, a_loop.instructions);
            } else {
                tell(&format!(
                    "{:10}  instructions are not counted: no valgrind",
                    a_loop.name
                ));
            }
        }
    }
    ensure!(wrong == 0, "{wrong} figures are not what they were");
    Ok(())
}

/// Prints a figure; 1 if it is not as it was.
fn check(a_loop: &Loop, what: &str, is: f64, was: f64) -> u32 {
    let off = (is - was).abs() > was * a_loop.tolerance;
    let verdict = if off { "NOT AS IT WAS" } else { "as it was" };
    tell(&format!(
        "{:10}  {is:9.2} {what:12}  {verdict}: {was}",
        a_loop.name
    ));
    u32::from(off)
}

#[expect(clippy::print_stdout, reason = "this is a program")]
fn tell(line: &str) {
    println!("{line}");
}

/// The instructions of one turn: of a long run less those of a short one, so that what comes before
/// and after the turns does not count. None without valgrind.
fn instructions(a_loop: &Loop) -> anyhow::Result<Option<f64>> {
    let [short, long] = [1, 2].map(|times| collected(a_loop.name, times * a_loop.turns));
    // A run takes its turns twice, see `Counter::count`.
    let of_one = |of_all: f64| of_all / f64::from(2 * a_loop.turns);
    Ok(short?.zip(long?).map(|(short, long)| of_one(long - short)))
}

/// The instructions of a run.
fn collected(name: &str, turns: u32) -> anyhow::Result<Option<f64>> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--run", name, &turns.to_string()])
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.context("cannot run valgrind")?,
    };
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name} failed under valgrind: {text}"
    );
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.with_context(|| format!("valgrind counted nothing: {text}"))?;
    Ok(Some(count.trim().parse()?))
}

/// Counts what the turns of a loop allocate, after as many turns that are not counted.
struct Counter {
    turns: u32,
    allocations: Option<u64>,
}

impl Counter {
    fn new(turns: u32) -> Self {
        Self {
            turns,
            allocations: None,
        }
    }

    /// Runs `turns` with the number of turns, twice, and counts what the second time allocates.
    fn count(&mut self, mut turns: impl FnMut(u32)) {
        turns(self.turns);
        let counted = allocation_counter::measure(|| turns(self.turns));
        self.allocations = Some(counted.count_total);
    }

    /// The allocations of one turn.
    #[expect(clippy::cast_precision_loss, reason = "a count of thousands")]
    fn allocations(&self) -> anyhow::Result<f64> {
        let counted = self.allocations.context("nothing was counted")?;
        Ok(counted as f64 / f64::from(self.turns))
    }
}

/// A random add of three states, and the removal of `Exception` where it brings that up.
#[expect(clippy::unnecessary_wraps, reason = "a loop as the others are")]
fn core(counter: &mut Counter) -> anyhow::Result<()> {
    let mut machine = Machine::<Published148>::new();
    let mut random = fastrand::Rng::with_seed(SEED);
    let drawn = &Published148::ALL[1..];
    counter.count(|turns| {
        for _ in 0..turns {
            let call = [(); 3].map(|()| drawn[random.usize(..drawn.len())]);
            // Whether it is accepted is part of what is random.
            let _ = black_box(machine.add(call));
            if machine.is_active(Published148::Exception) {
                let _ = black_box(machine.remove(Published148::Exception));
            }
        }
    });
    Ok(())
}

/// A GET of the active states of a root, on one connection, asked from the same thread.
fn http(counter: &mut Counter) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = Tasks::default();
    let mut reader = runtime.block_on(async {
        let observers = Observers::new();
        let root: Handle<Published148> = start_machine(Machine::new(), &observers, &tasks).await?;
        let (addr, _node) = start(Origin::Machine(root.untyped(), observers), &tasks).await?;
        anyhow::Ok(TcpStream::connect(addr.http).await?)
    })?;
    let mut answer = vec![0; 4096];
    let mut failed = 0;
    counter.count(|turns| {
        runtime.block_on(async {
            for _ in 0..turns {
                let asked = reader.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
                // Small enough to come at once.
                let read = reader.read(&mut answer).await;
                let whole = asked.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200");
                failed += u32::from(!whole);
            }
        });
    });
    ensure!(failed == 0, "{failed} requests were not answered");
    Ok(())
}

/// A mutation of a root until a replicant on the same thread shows it: the delta, the question and
/// the answer.
fn link(counter: &mut Counter) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = Tasks::default();
    let (root, view) = runtime.block_on(async {
        let observers = Observers::new();
        let root: Handle<Published148> = start_machine(Machine::new(), &observers, &tasks).await?;
        let (addr, _root) = start(Origin::Machine(root.untyped(), observers), &tasks).await?;
        let schema = Published148::schema().clone();
        let (_, replicant) =
            start(Origin::Parents(schema, vec![addr.rpc.to_string()]), &tasks).await?;
        anyhow::Ok((root, replicant.view().clone()))
    })?;
    let mut traffic = RandomTraffic::new(SEED);
    let mut failed = 0;
    counter.count(|turns| {
        runtime.block_on(async {
            for _ in 0..turns {
                let exception = root.view().is_active(Published148::Exception);
                let shown = show(&root, &view, traffic.next(exception)).await;
                failed += u32::from(shown.is_err());
            }
        });
    });
    ensure!(failed == 0, "{failed} mutations were not shown");
    Ok(())
}

async fn show(
    root: &Handle<Published148>,
    view: &View<DynState>,
    mutation: Mutation<Published148>,
) -> anyhow::Result<()> {
    let position = root.mutate(mutation).await?.position;
    view.positions()
        .wait_for(|at| *at == Some(position))
        .await?;
    Ok(())
}

/// Where a node listens.
struct Addrs {
    rpc: SocketAddr,
    http: SocketAddr,
}

async fn start(origin: Origin, tasks: &Tasks) -> anyhow::Result<(Addrs, Node)> {
    let rpc = TcpListener::bind("127.0.0.1:0").await?;
    let http = TcpListener::bind("127.0.0.1:0").await?;
    let addrs = Addrs {
        rpc: rpc.local_addr()?,
        http: http.local_addr()?,
    };
    let config = NodeConfig::new("node", "1.0.0", origin, ObserveConfig::new("bench"));
    let http = Some(http);
    Ok((addrs, Node::start(config, Sockets { rpc, http }, tasks)?))
}
