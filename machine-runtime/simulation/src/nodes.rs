//! The processes of a world: a root and its replicas, which run the real code.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine_runtime::durable::{Durability, Recovered, Store, StoreOptions};
use machine_runtime::replica::{Follower, Link, Source};
use machine_runtime::{DynState, Epoch, Handle, Owner, View};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::checks::{Been, Check, Checks};
use crate::disk::Disk;
use crate::journal::Recorder;
use crate::log::Log;
use crate::net::{Host, Net};
use crate::planted::{Planted, RootBug};
use crate::world::{Keeping, Plan, ROOT};

/// How long a node that is stopped in order gives its followers to leave.
const DRAIN: Duration = Duration::from_millis(300);

/// A process that runs.
struct Process {
    tasks: JoinSet<()>,
    handle: Handle<DynState>,
    source: Source,
    /// That of a replica to its parent.
    link: Option<Link>,
    /// Tells the machine or the follower to end.
    stop: Option<oneshot::Sender<()>>,
    stopping: bool,
    /// Whether it is to start again once it has stopped.
    again: bool,
}

/// The nodes of a world. Cheap to clone.
#[derive(Clone)]
pub struct Nodes {
    inner: Arc<Mutex<Inner>>,
    plan: Arc<Plan>,
    net: Net,
    checks: Checks,
    log: Log,
    planted: Option<Planted>,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes").finish_non_exhaustive()
    }
}

struct Inner {
    running: Vec<Option<Process>>,
    disk: Disk,
    /// The epoch that was last found on it.
    epoch: Option<Epoch>,
    /// How many epochs there were.
    epochs: u128,
}

impl Nodes {
    /// The nodes of a plan, of which none runs yet.
    pub fn new(
        plan: Arc<Plan>,
        net: Net,
        checks: Checks,
        log: Log,
        planted: Option<Planted>,
    ) -> Self {
        let inner = Inner {
            running: plan.nodes.iter().map(|_| None).collect(),
            disk: Disk::new(plan.seed),
            epoch: None,
            epochs: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            plan,
            net,
            checks,
            log,
            planted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.plan.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The root's disk.
    pub fn disk(&self) -> Disk {
        self.lock().disk.clone()
    }

    /// What goes to a node's machine, if it runs.
    pub fn handle(&self, host: Host) -> Option<Handle<DynState>> {
        let inner = self.lock();
        let process = inner.running[host].as_ref();
        process.map(|process| process.handle.clone())
    }

    /// What a node shows, if it runs.
    pub fn view(&self, host: Host) -> Option<View<DynState>> {
        self.handle(host).map(|handle| handle.view().clone())
    }

    /// Starts a node unless it runs.
    pub fn start(&self, host: Host) {
        if let Some(process) = &mut self.lock().running[host] {
            process.again = process.stopping;
            return;
        }
        self.log.note(host, "starts", (0, 0));
        let started = if host == ROOT {
            self.root()
        } else {
            Some(self.replica(host))
        };
        self.lock().running[host] = started;
    }

    /// Starts whatever does not run.
    pub fn start_all(&self) {
        for host in 0..self.len() {
            self.start(host);
        }
    }

    /// Opens what the root has, if it has anything.
    fn open(&self) -> Option<(Recovered, Option<(Store, Disk)>)> {
        let epoch = {
            let mut inner = self.lock();
            if inner.epochs == 0 || self.planted != Some(Planted::Root(RootBug::SameEpoch)) {
                inner.epochs += 1;
            }
            Epoch(1 << 127 | u128::from(self.plan.seed) << 32 | inner.epochs)
        };
        let durability = match self.plan.keeping {
            Keeping::Memory => return Some((Recovered::nothing(&self.plan.schema, epoch), None)),
            Keeping::Disk => Durability::Sync,
            Keeping::Late(within) => Durability::Relaxed(within),
        };
        let mut options = StoreOptions::default();
        options.durability = durability;
        options.checkpoint_bytes = self.plan.checkpoint_bytes;
        options.new_epoch = Some(epoch);
        let disk = self.disk();
        match Store::on(disk.clone(), &self.plan.schema, options) {
            Ok((store, mut recovered)) => {
                let mut inner = self.lock();
                let before = inner.epoch.replace(recovered.epoch);
                if let (Some(before), Some(Planted::Root(RootBug::KeepsEpoch))) =
                    (before, self.planted)
                {
                    recovered.epoch = before;
                    inner.epoch = Some(before);
                }
                Some((recovered, Some((store, disk))))
            }
            // It starts again later.
            Err(error) if error.is_full() => None,
            Err(error) => {
                let why = format!("the root cannot open its history: {error}");
                self.checks.fail(Check::Kept, why);
                None
            }
        }
    }

    fn root(&self) -> Option<Process> {
        let Some((recovered, store)) = self.open() else {
            self.log.note(ROOT, "cannot start", (0, 0));
            return None;
        };
        let machine = recovered.machine_with(Arc::clone(&self.plan.schema));
        let durable = store.is_some();
        let lossy = matches!(self.plan.keeping, Keeping::Late(_));
        self.checks.begin(recovered.epoch, &machine, durable, lossy);
        self.log
            .note(ROOT, "goes on at", (machine.revision(), machine.digest()));
        let plan = &self.plan.nodes[ROOT];
        let fault = self
            .planted
            .and_then(|planted| planted.store_fault(self.plan.seed));
        let journal = Recorder::new(self.checks.clone(), store, fault);
        let view = plan.follower.view.clone();
        let (handle, owner) = Owner::durable(machine, recovered, journal, view);
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let (checks, log) = (self.checks.clone(), self.log.clone());
        tasks.spawn(async move {
            let mut stopping = false;
            let ended = owner.run_durable(async {
                // That nobody can say so any more is no reason to stop.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
                stopping = true;
            });
            if let Err(error) = ended.await {
                log.note(ROOT, "ends with an error", (stopping.into(), 0));
                // A root that is to stop does not wait for a full disk for ever.
                if !stopping {
                    checks.fail(Check::Kept, format!("the root ended: {error}"));
                }
            }
        });
        Some(self.process(ROOT, tasks, handle, None, stop))
    }

    fn replica(&self, host: Host) -> Process {
        let plan = &self.plan.nodes[host];
        let schema = Arc::clone(&self.plan.schema);
        let (_, follower) = Follower::new::<DynState>(schema, plan.follower.clone());
        let (handle, link) = (follower.handle(), follower.link().clone());
        let (stop, stopped) = oneshot::channel();
        let parents = plan.parents.iter();
        let parents = parents.map(|parent| self.net.dial(host, *parent)).collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run(parents, async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        self.process(host, tasks, handle, Some(link), stop)
    }

    /// Serves followers, and looks at what is shown.
    fn process(
        &self,
        host: Host,
        mut tasks: JoinSet<()>,
        handle: Handle<DynState>,
        link: Option<Link>,
        stop: oneshot::Sender<()>,
    ) -> Process {
        let view = handle.view().clone();
        let mut positions = view.positions();
        let (checks, log) = (self.checks.clone(), self.log.clone());
        tasks.spawn(async move {
            let mut been = Been::default();
            loop {
                let position = *positions.borrow_and_update();
                if let Some(position) = position {
                    let digest = view.snapshot().map_or(0, |snapshot| snapshot.digest());
                    log.note(host, "shows", (position.revision, digest));
                    if host == ROOT {
                        checks.root_shows(position);
                    }
                    checks.shows(host, &view, &mut been);
                }
                if positions.changed().await.is_err() {
                    return;
                }
            }
        });
        let options = self.plan.nodes[host].source.clone();
        let source = Source::new(handle.view(), options).with_writes(&handle);
        let mut streams = self.net.listen(host);
        let serving = source.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    stream = streams.recv() => {
                        let Some((_, stream)) = stream else {
                            return;
                        };
                        let source = serving.clone();
                        connections.spawn(async move { source.serve_connection(stream).await });
                    }
                    Some(ended) = connections.join_next() => {
                        if let Err(error) = ended
                            && error.is_panic()
                        {
                            std::panic::resume_unwind(error.into_panic());
                        }
                    }
                }
            }
        });
        Process {
            tasks,
            handle,
            source,
            link,
            stop: Some(stop),
            stopping: false,
            again: false,
        }
    }

    /// Ends a node at once.
    pub fn crash(&self, host: Host, power: bool) {
        let process = {
            let mut inner = self.lock();
            if host == ROOT && power {
                inner.disk.lose_power();
            }
            inner.running[host].take()
        };
        self.net.crash(host, power);
        self.log.note(host, "crashes", (power.into(), 0));
        if let Some(mut process) = process {
            self.look_for_panics(host, &mut process);
            process.tasks.abort_all();
        }
    }

    /// Ends a node in order: its followers are sent away first. Whoever starts it meanwhile starts it
    /// afterwards.
    pub async fn stop(&self, host: Host) {
        let source = {
            let mut inner = self.lock();
            inner.running[host].as_mut().and_then(|process| {
                let first = !std::mem::replace(&mut process.stopping, true);
                first.then(|| process.source.clone())
            })
        };
        let Some(source) = source else {
            return;
        };
        self.log.note(host, "is stopped", (0, 0));
        source.drain(DRAIN).await;
        let stop = {
            let mut inner = self.lock();
            let process = inner.running[host]
                .as_mut()
                .filter(|process| process.stopping);
            process.and_then(|process| process.stop.take())
        };
        // It may have crashed in between.
        let Some(stop) = stop else {
            return;
        };
        let _ = stop.send(());
        // The machine ends what was sent before.
        sleep(DRAIN).await;
        let mut process = {
            let mut inner = self.lock();
            let process = inner.running[host].take_if(|process| process.stopping);
            let Some(mut process) = process else {
                return;
            };
            self.look_for_panics(host, &mut process);
            process
        };
        // It is gone, and its file closed, before it is started again.
        process.tasks.shutdown().await;
        self.net.crash(host, false);
        self.log.note(host, "has stopped", (0, 0));
        if process.again {
            self.start(host);
        }
    }

    fn look_for_panics(&self, host: Host, process: &mut Process) {
        while let Some(ended) = process.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                self.checks.fail(Check::Panic, format!("n{host}: {error}"));
            }
        }
    }

    /// Looks at all nodes: whether any of their tasks has panicked, and whether what they show is as new as
    /// they say.
    pub fn look(&self) {
        let slack = self.slack();
        let mut inner = self.lock();
        for (host, process) in inner.running.iter_mut().enumerate() {
            let Some(process) = process else {
                continue;
            };
            self.look_for_panics(host, process);
            let view = process.handle.view();
            self.checks.age(host, view, slack[host]);
            let options = &self.plan.nodes[host].follower.view;
            let (deltas, bytes) = view.ring_size();
            if deltas > options.ring_deltas || bytes > options.ring_bytes {
                let why = format!("n{host} keeps {deltas} deltas, {bytes} bytes");
                self.checks.fail(Check::Bounded, why);
            }
        }
    }

    /// By how much the age of each node may be too small, in milliseconds: on each link up to the root by
    /// what an answer was on its way, as long as that is less than a question may be held, and what
    /// milliseconds leave out.
    fn slack(&self) -> Vec<u64> {
        /// Half of the heartbeat, and at most this, a question may be held longer than that.
        const RELAY: Duration = Duration::from_secs(1);
        /// A millisecond that is left out at either end, and one at each of the carrier's turns.
        const ROUNDING: u64 = 5;
        let transit = self.net.longest_transit();
        let mut slack = Vec::with_capacity(self.len());
        for node in &self.plan.nodes {
            let heartbeat = node.follower.heartbeat;
            let held = heartbeat + (heartbeat / 2).min(RELAY);
            let held = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            let above = node.parents.iter().map(|parent| slack[*parent]);
            slack.push(
                above
                    .max()
                    .map_or(0, |above| above + held.min(transit) + ROUNDING),
            );
        }
        slack
    }

    /// Whether all nodes run and show what the root does, and none is stale. If not, who is not there.
    pub fn apart(&self) -> Option<String> {
        let inner = self.lock();
        let Some(root) = &inner.running[ROOT] else {
            return Some("the root does not run".to_owned());
        };
        let newest = root.handle.view().position();
        for (host, process) in inner.running.iter().enumerate() {
            let Some(process) = process else {
                return Some(format!("n{host} does not run"));
            };
            let view = process.handle.view();
            let link = process.link.as_ref();
            let link = link.map_or_else(String::new, |link| link.state().to_string());
            if view.position() != newest {
                let (shows, newest) = (view.position(), newest);
                return Some(format!(
                    "n{host} shows {shows:?}, the root {newest:?}, {link}"
                ));
            }
            if view.is_stale() {
                return Some(format!("n{host} is stale, {link}"));
            }
        }
        None
    }
}
