//! Runs the world of a seed.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::checks::{Check, Checks, Failure};
use crate::clients::{Client, Ledger};
use crate::disk::Wear;
use crate::log::{Log, Note};
use crate::net::{Host, Net, WINDOW, Weather};
use crate::nodes::Nodes;
use crate::planted::Planted;
use crate::world::{Plan, ROOT, Trouble};

/// How often all nodes are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The longest frame that is written at once into a window that has room.
const FRAME: usize = 64 * 1024;

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What did not hold, if anything.
    pub failure: Option<Failure>,
    /// Says what happened: two runs of a seed have the same.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// How often something was looked at.
    pub looks: u64,
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// How many milliseconds of the world it took.
    pub took: u64,
    /// How many of them until all nodes were together once all was well, and how many there could be.
    pub healed: (u64, u64),
    /// What happened last; all of it, if that was asked for.
    pub notes: Vec<Note>,
}

/// Runs the world of a seed to its end, on this thread. With `trace` all that happens is kept.
///
/// # Panics
///
/// If there is no runtime to be had.
pub fn run(seed: u64, planted: Option<Planted>, trace: bool) -> Report {
    // What the code under test draws at random is drawn from here.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.expect("a runtime without a network takes nothing but memory");
    // All of it within the runtime, whose clock is not that of the thread.
    runtime.block_on(async { World::new(seed, planted, trace).run().await })
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Begin(Trouble),
    End(Trouble),
}

struct World {
    plan: Arc<Plan>,
    log: Log,
    net: Net,
    checks: Checks,
    nodes: Nodes,
    ledger: Ledger,
    /// Nodes that are being stopped in order.
    stopping: JoinSet<()>,
}

impl World {
    fn new(seed: u64, planted: Option<Planted>, trace: bool) -> Self {
        let mut plan = Plan::of(seed);
        if let Some(planted) = planted {
            planted.adapt(&mut plan);
        }
        let plan = Arc::new(plan);
        let log = Log::new(trace);
        let net = Net::new(plan.nodes.len(), seed, log.clone());
        if let Some(tamper) = planted.and_then(|planted| planted.tamper(seed, plan.schema.len())) {
            net.plant(tamper);
        }
        let checks = Checks::new(plan.clients.len(), log.clone());
        let nodes = Nodes::new(
            Arc::clone(&plan),
            net.clone(),
            checks.clone(),
            log.clone(),
            planted,
        );
        Self {
            plan,
            log,
            net,
            checks,
            nodes,
            ledger: Ledger::default(),
            stopping: JoinSet::new(),
        }
    }

    async fn run(mut self) -> Report {
        for (from, to, weather) in &self.plan.weather {
            self.net.set_weather(*from, *to, *weather);
        }
        self.nodes.start_all();
        let mut carrier = JoinSet::new();
        carrier.spawn(self.net.clone().carry());
        let mut clients = JoinSet::new();
        for place in self.plan.clients.iter().copied().enumerate() {
            let client = Client::new(
                place,
                self.plan.seed,
                self.nodes.clone(),
                self.checks.clone(),
                self.log.clone(),
                self.ledger.clone(),
            );
            clients.spawn(client.run());
        }
        let checks = self.checks.clone();
        let healed = tokio::select! {
            biased;
            () = checks.failed() => {
                // To the end of the millisecond, in which others may fail.
                sleep(Duration::from_millis(1)).await;
                None
            }
            healed = self.story(&mut clients) => Some(healed),
        };
        self.panics(&mut clients);
        let bound = self.plan.bound();
        Report {
            seed: self.plan.seed,
            failure: self.checks.failure(),
            hash: self.log.hash(),
            events: self.log.count(),
            looks: self.checks.looks(),
            acknowledged: self.ledger.acknowledged().len(),
            took: self.log.now(),
            healed: (healed.unwrap_or(0), bound),
            notes: self.log.told(),
        }
    }

    /// Trouble, then none; returns how long it took until all was well, in milliseconds.
    async fn story(&mut self, clients: &mut JoinSet<()>) -> u64 {
        let mut acts: Vec<(u64, Act)> = Vec::new();
        for fault in &self.plan.faults {
            acts.push((fault.from, Act::Begin(fault.trouble)));
            acts.push((fault.until, Act::End(fault.trouble)));
        }
        acts.sort_by_key(|(at, _)| *at);
        let mut acts = acts.into_iter().peekable();
        let mut look = LOOK;
        while let Some(next) = acts.peek().map(|(at, _)| *at) {
            tokio::select! {
                biased;
                () = sleep_until(self.log.at(next)) => {
                    if let Some((_, act)) = acts.next() {
                        self.act(act);
                    }
                }
                () = sleep_until(self.log.at(u64::try_from(look.as_millis()).unwrap_or(u64::MAX))) => {
                    look += LOOK;
                    self.look();
                }
            }
        }
        self.heal().await;
        let began = self.log.now();
        // Who has written so far reads now.
        self.panics(clients);
        clients.abort_all();
        loop {
            sleep(LOOK).await;
            self.nodes.start(ROOT);
            self.look();
            let took = self.log.now() - began;
            let Some(apart) = self.nodes.apart() else {
                self.checks.still_there(&self.ledger.acknowledged());
                return took;
            };
            if took > self.plan.bound() {
                let why = format!("after {took} ms: {apart}");
                self.checks.fail(Check::Converge, why);
                return took;
            }
        }
    }

    fn act(&mut self, act: Act) {
        let (net, nodes) = (&self.net, &self.nodes);
        match act {
            Act::Begin(trouble) => self.log.note(ROOT, kind(trouble), (1, 0)),
            Act::End(trouble) => self.log.note(ROOT, kind(trouble), (0, 0)),
        }
        let others = |host: Host| (0..self.plan.nodes.len()).filter(move |other| *other != host);
        match act {
            Act::Begin(trouble) => match trouble {
                Trouble::Cut(from, to) => net.cut(from, to),
                Trouble::Part(one, other) => {
                    net.cut(one, other);
                    net.cut(other, one);
                }
                Trouble::Isolate(host) => others(host).for_each(|other| {
                    net.cut(host, other);
                    net.cut(other, host);
                }),
                Trouble::Weather(one, other, weather) => {
                    net.set_weather(one, other, weather);
                    net.set_weather(other, one, weather);
                }
                Trouble::Crash { host, power } => nodes.crash(host, power),
                Trouble::Stop(host) => {
                    let nodes = nodes.clone();
                    self.stopping.spawn(async move { nodes.stop(host).await });
                }
                Trouble::Reset(one, other) => net.reset(one, other),
                Trouble::Silence(one, other) => net.silence(one, other),
                Trouble::Stall(host) => net.stall(host, 3_600_000),
                Trouble::Disk(wear) => nodes.disk().wear(wear),
                Trouble::Wrong(host, wrong) => {
                    let states = self.plan.schema.len();
                    net.set_tamper(host, Some(wrong.tamper(self.plan.seed, states)));
                }
            },
            Act::End(trouble) => match trouble {
                Trouble::Cut(from, to) => net.mend(from, to),
                Trouble::Part(one, other) => {
                    net.mend(one, other);
                    net.mend(other, one);
                }
                Trouble::Isolate(host) => others(host).for_each(|other| {
                    net.mend(host, other);
                    net.mend(other, host);
                }),
                Trouble::Weather(one, other, _) => {
                    net.set_weather(one, other, Weather::default());
                    net.set_weather(other, one, Weather::default());
                }
                Trouble::Crash { host, .. } | Trouble::Stop(host) => nodes.start(host),
                Trouble::Reset(..) | Trouble::Silence(..) => {}
                Trouble::Stall(host) => net.stall(host, 0),
                Trouble::Disk(_) => nodes.disk().wear(Wear::default()),
                Trouble::Wrong(host, _) => net.set_tamper(host, None),
            },
        }
    }

    async fn heal(&mut self) {
        self.log.note(ROOT, "all is well", (0, 0));
        while self.stopping.join_next().await.is_some() {}
        self.net.heal();
        self.nodes.disk().wear(Wear::default());
        self.nodes.start_all();
    }

    fn look(&mut self) {
        self.nodes.look();
        if self.net.fullest() > WINDOW + FRAME {
            let why = format!("a stream held {} bytes", self.net.fullest());
            self.checks.fail(Check::Bounded, why);
        }
    }

    fn panics(&self, tasks: &mut JoinSet<()>) {
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                self.checks.fail(Check::Panic, error.to_string());
            }
        }
    }
}

fn kind(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Cut(..) => "trouble: cut",
        Trouble::Part(..) => "trouble: part",
        Trouble::Isolate(_) => "trouble: isolate",
        Trouble::Weather(..) => "trouble: weather",
        Trouble::Crash { .. } => "trouble: crash",
        Trouble::Stop(_) => "trouble: stop",
        Trouble::Reset(..) => "trouble: reset",
        Trouble::Silence(..) => "trouble: silence",
        Trouble::Stall(_) => "trouble: stall",
        Trouble::Disk(_) => "trouble: disk",
        Trouble::Wrong(..) => "trouble: wrong",
    }
}
