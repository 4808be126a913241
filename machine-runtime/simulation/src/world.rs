//! What a seed makes of a world: its nodes and how they are set, and what happens to them.

use std::sync::Arc;
use std::time::Duration;

use machine_runtime::replica::{FollowerOptions, Granularity, Selection, SourceOptions};
use machine_runtime::{Schema, StateDef};

use crate::disk::Wear;
use crate::net::{Host, Weather};
use crate::wrong::Wrong;

/// The host of the root.
pub const ROOT: Host = 0;

/// The most replicas of a world.
const MOST: usize = 12;

/// The most links that a replica is from the root.
const TIERS: usize = 3;

/// How a node is set.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// How many links it is from the root, over its first parent.
    pub tier: usize,
    /// Whom it follows, the preferred first.
    pub parents: Vec<Host>,
    /// How it follows.
    pub follower: FollowerOptions,
    /// How it serves.
    pub source: SourceOptions,
}

/// Where the root keeps its history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeping {
    /// Nowhere: it begins anew whenever it starts.
    Memory,
    /// On a disk, before anything is told.
    Disk,
    /// On a disk, at most so much later.
    Late(Duration),
}

/// Something that goes wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Trouble {
    /// Nothing comes through from the first to the second.
    Cut(Host, Host),
    /// Nothing comes through either way.
    Part(Host, Host),
    /// Nothing comes through to or from a host.
    Isolate(Host),
    /// The line between two hosts is bad, both ways.
    Weather(Host, Host, Weather),
    /// A node's process dies; with `power` its machine does, so that nobody is told.
    Crash {
        /// Which.
        host: Host,
        /// Whether the machine dies with it.
        power: bool,
    },
    /// A node is stopped in order.
    Stop(Host),
    /// All streams between two hosts break.
    Reset(Host, Host),
    /// All streams between two hosts are silent from now on.
    Silence(Host, Host),
    /// A node does not read.
    Stall(Host),
    /// The root's disk is slow, full, or both.
    Disk(Wear),
    /// What a node says to its followers is wrong.
    Wrong(Host, Wrong),
}

/// A trouble and its time, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fault {
    /// When it begins.
    pub from: u64,
    /// When it ends.
    pub until: u64,
    /// What it is.
    pub trouble: Trouble,
}

/// How a client writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientPlan {
    /// The longest that it rests between two writes, in milliseconds.
    pub rest: u64,
    /// How long it gives a write.
    pub within: Duration,
    /// Whether it stays with one node as long as that runs.
    pub stays: bool,
}

/// All of a world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is made of.
    pub seed: u64,
    /// The machine's states.
    pub schema: Arc<Schema>,
    /// The nodes, the root first.
    pub nodes: Vec<NodePlan>,
    /// Where the root keeps its history.
    pub keeping: Keeping,
    /// After how many bytes of batches the root's disk has a checkpoint.
    pub checkpoint_bytes: u64,
    /// Who writes.
    pub clients: Vec<ClientPlan>,
    /// How the lines are at first.
    pub weather: Vec<(Host, Host, Weather)>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How long that takes, in milliseconds.
    pub trouble: u64,
}

impl Plan {
    /// The world of a seed.
    pub fn of(seed: u64) -> Self {
        let mut draw = Draw(fastrand::Rng::with_seed(seed ^ 0x00c0_ffee));
        let clients: Vec<_> = (0..draw.0.usize(1..=3)).map(|_| draw.client()).collect();
        let schema = draw.schema(clients.len());
        let replicas = match draw.0.u8(0..10) {
            0..6 => draw.0.usize(1..=4),
            6..9 => draw.0.usize(3..=7),
            _ => draw.0.usize(6..=MOST),
        };
        let mut nodes: Vec<NodePlan> = Vec::new();
        for host in 0..=replicas {
            let node = draw.node(host, &nodes, &schema);
            nodes.push(node);
        }
        let keeping = match draw.0.u8(0..10) {
            0..4 => Keeping::Memory,
            4..8 => Keeping::Disk,
            _ => Keeping::Late(draw.millis(1..=500)),
        };
        let checkpoint_bytes = draw.pick(&[500, 4_000, 1 << 20]);
        let trouble = draw.0.u64(8_000..=30_000);
        let mut weather = Vec::new();
        for from in 0..nodes.len() {
            for to in 0..nodes.len() {
                if from != to && draw.chance(30) {
                    weather.push((from, to, draw.fair_weather()));
                }
            }
        }
        let faults = (0..draw.0.usize(2..=10))
            .map(|_| draw.fault(&nodes, keeping, trouble))
            .collect();
        Self {
            seed,
            schema,
            nodes,
            keeping,
            checkpoint_bytes,
            clients,
            weather,
            faults,
            trouble,
        }
    }

    /// How long it may take, once all is well, until every node shows what the root does, in
    /// milliseconds. Per tier: the old connection has to be given up, the pause before the next has to
    /// end, parents that do not answer have to be given up, the handshake and the first answer have to
    /// come, held back by the longest interval.
    pub fn bound(&self) -> u64 {
        const CONNECT: Duration = Duration::from_secs(3);
        const PROBE: Duration = Duration::from_secs(3);
        const HANDSHAKE: Duration = Duration::from_secs(8);
        const GRACE: Duration = Duration::from_secs(2);
        let most = |of: fn(&NodePlan) -> Duration| {
            let all = self.nodes.iter().map(of);
            all.max().unwrap_or_default()
        };
        let heartbeat = most(|node| node.follower.heartbeat);
        let interval = most(|node| node.source.push_interval.max(node.follower.push_interval));
        let stale = most(|node| node.follower.view.stale_after);
        let retry = most(|node| node.follower.retry_most);
        let tier = 2 * heartbeat + GRACE + retry + CONNECT + PROBE + HANDSHAKE + interval + stale;
        let tiers = self.nodes.iter().map(|node| node.tier).max().unwrap_or(0);
        u64::try_from(tier.as_millis()).unwrap_or(u64::MAX) * tiers as u64
    }
}

/// Draws a world.
struct Draw(fastrand::Rng);

impl Draw {
    fn chance(&mut self, percent: u8) -> bool {
        self.0.u8(0..100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(0..of.len())]
    }

    fn millis(&mut self, of: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.0.u64(of))
    }

    fn client(&mut self) -> ClientPlan {
        ClientPlan {
            rest: self.pick(&[40, 200, 600]),
            within: self.millis(300..=4_000),
            stays: self.chance(50),
        }
    }

    /// A note for each client, which counts its writes; lamps with relations; and a few that depend
    /// on each other.
    fn schema(&mut self, clients: usize) -> Arc<Schema> {
        let mut builder = Schema::builder("World");
        for client in 0..clients {
            let note = StateDef::new(format!("Note{client}")).multi().retain();
            builder = builder.state(note);
        }
        for lamp in 0..self.0.usize(1..=4) {
            let colours = ["Red", "Green", "Off"].map(|colour| format!("Lamp{lamp}{colour}"));
            for (i, colour) in colours.iter().enumerate() {
                let others = colours.iter().filter(|other| *other != colour);
                let mut state = StateDef::new(colour).remove(others.cloned());
                if i == 2 {
                    state = state.auto();
                } else if self.chance(50) {
                    state = state.retain();
                }
                if lamp > 0 && i == 1 && self.chance(50) {
                    state = state.require([format!("Lamp{}Red", lamp - 1)]);
                }
                if lamp > 0 && i == 0 && self.chance(50) {
                    state = state.add([format!("Lamp{}Red", lamp - 1)]);
                }
                builder = builder.state(state);
            }
        }
        if self.chance(50) {
            builder = builder
                .state(StateDef::new("Bell").multi())
                .state(StateDef::new("Ringing").auto().require(["Bell"]));
        }
        let schema = builder.build();
        Arc::new(schema.expect("the relations of a world do not contradict each other"))
    }

    fn node(&mut self, host: Host, before: &[NodePlan], schema: &Schema) -> NodePlan {
        let (tier, parents) = self.parents(before);
        let mut follower = FollowerOptions::new(format!("n{host}"));
        follower.heartbeat = self.pick(&[200, 500, 1_000, 1_000]).into_millis();
        if self.chance(30) {
            follower.granularity = Granularity::Every;
        }
        if self.chance(20) {
            follower.push_interval = self.millis(5..=400);
        }
        follower.compress = self.chance(70);
        follower.prefer_every = self.millis(1_000..=10_000);
        follower.view.ring_deltas = self.pick(&[0, 1, 2, 3, 8, 64, 4_096, 4_096]);
        follower.view.ring_bytes = self.pick(&[200, 2_000, 1 << 20, 1 << 20]);
        follower.view.stale_after = self.millis(1_500..=4_000);
        follower.retry_most = self.millis(100..=2_000);
        if host != ROOT && self.chance(12) {
            // The first note is in all, so that what a parent has and a follower wants always meet.
            let states = (0..schema.len()).filter(|state| *state == 1 || self.chance(60));
            follower.selection = Some(Selection::of(schema, states));
        }
        let mut source = SourceOptions::new(format!("n{host}"));
        if self.chance(30) {
            source.push_interval = self.millis(5..=700);
        }
        NodePlan {
            tier,
            parents,
            follower,
            source,
        }
    }

    /// One to three parents, which are all nearer to the root.
    fn parents(&mut self, before: &[NodePlan]) -> (usize, Vec<Host>) {
        if before.is_empty() {
            return (0, Vec::new());
        }
        let possible = |node: &&NodePlan| node.tier < TIERS;
        let count = before.iter().filter(possible).count();
        let mut hosts = before.iter().enumerate();
        let first = self.0.usize(0..count);
        let first = hosts
            .by_ref()
            .filter(|(_, node)| node.tier < TIERS)
            .nth(first);
        let (first, tier) = first.map_or((ROOT, 0), |(host, node)| (host, node.tier));
        let mut parents = vec![first];
        for _ in 0..self.pick(&[0, 0, 1, 1, 2]) {
            let other = self.0.usize(0..before.len());
            if before[other].tier <= tier && !parents.contains(&other) {
                parents.push(other);
            }
        }
        (tier + 1, parents)
    }

    fn fair_weather(&mut self) -> Weather {
        Weather {
            latency: self.0.u64(1..=60),
            jitter: self.pick(&[0, 0, 5, 40]),
            rate: self.pick(&[0, 0, 0, 50]),
            loss: self.pick(&[0, 0, 0, 2]),
        }
    }

    fn foul_weather(&mut self) -> Weather {
        Weather {
            latency: self.0.u64(20..=900),
            jitter: self.0.u64(0..=400),
            rate: self.pick(&[0, 1, 2, 20]),
            loss: self.pick(&[0, 5, 20, 50]),
        }
    }

    /// A line that is used: from a replica to one of its parents.
    fn line(&mut self, nodes: &[NodePlan]) -> (Host, Host) {
        let host = self.0.usize(1..nodes.len());
        let parents = &nodes[host].parents;
        (host, parents[self.0.usize(0..parents.len())])
    }

    fn fault(&mut self, nodes: &[NodePlan], keeping: Keeping, end: u64) -> Fault {
        let from = self.0.u64(500..end);
        let longest = self.pick(&[300, 2_000, 6_000, 15_000]);
        let until = (from + self.0.u64(50..=longest)).min(end);
        let (child, parent) = self.line(nodes);
        let any = self.0.usize(0..nodes.len());
        let trouble = match self.0.u8(0..100) {
            0..9 => Trouble::Cut(child, parent),
            9..18 => Trouble::Cut(parent, child),
            18..28 => Trouble::Part(child, parent),
            28..33 => Trouble::Isolate(any),
            33..45 => Trouble::Weather(child, parent, self.foul_weather()),
            45..60 => Trouble::Crash {
                host: any,
                power: self.chance(50),
            },
            60..66 => Trouble::Stop(any),
            66..72 => Trouble::Reset(child, parent),
            72..77 => Trouble::Silence(child, parent),
            77..83 => Trouble::Stall(any),
            83..90 if keeping != Keeping::Memory => Trouble::Disk(Wear {
                slow: self.pick(&[0, 20, 300, 2_000]),
                full: self.chance(40),
            }),
            83..92 => Trouble::Crash {
                host: ROOT,
                power: self.chance(50),
            },
            _ => {
                let wrong = self.pick(&Wrong::ALL);
                Trouble::Wrong(parent, wrong)
            }
        };
        Fault {
            from,
            until,
            trouble,
        }
    }
}

trait IntoMillis {
    fn into_millis(self) -> Duration;
}

impl IntoMillis for u64 {
    fn into_millis(self) -> Duration {
        Duration::from_millis(self)
    }
}
