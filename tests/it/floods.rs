//! Strangers in a process of their own who take all that they can get of a real node, while others go on. That
//! takes no time that is asserted; `flights bench strangers` measures the same.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use machine_node::client::Target;

use self::honest::Honest;
use self::strangers::Strangers;
use crate::limits::{Served, node, sum};
use crate::support::{Folder, PATIENCE};

// TLS handshakes that never end.
mod handshakes;
// Who asks meanwhile.
mod honest;
// Who attacks.
mod strangers;

/// How many strangers there are, and from how many addresses they come.
const STRANGERS: usize = 300;
const ADDRESSES: usize = 10;

/// How many connections somebody may hold who says nothing.
const IDLE: usize = 10_000;

/// How many more come: of those whom a node counts some are who asks it.
const MORE: usize = 10;

/// How often they come before memory is compared.
const WARM_UPS: usize = 2;

/// Where no more files than that may be open, there are fewer.
const ENOUGH_FILES: usize = 12_000;

/// How much a node may have grown after all attacks, in bytes.
const GROWS: u64 = 64 << 20;

/// What a connection may take while it is there, in bytes.
const CONNECTION: u64 = 24 << 10;

/// Counters of what is held back: a request, and a follower's connection.
const LIMITED: &str = "machine_limited_total";
const SHUT: &str = "machine_follower_connections_refused_total";

/// An attack, from how many addresses it comes, and the counters that it moves.
type Attack = (&'static str, usize, &'static [(&'static str, &'static str)]);

const ATTACKS: [Attack; 12] = [
    ("heads", ADDRESSES, &[(LIMITED, "head_time")]),
    ("bodies", ADDRESSES, &[(LIMITED, "body_time")]),
    ("lines", ADDRESSES, &[(LIMITED, "line")]),
    ("unread", ADDRESSES, &[(LIMITED, "idle_time")]),
    (
        "mutations",
        ADDRESSES,
        &[(LIMITED, "writes_per_client"), (LIMITED, "write_rate")],
    ),
    // All that each address may have is less than all may have; of more addresses it is more.
    ("waits", ADDRESSES, &[(LIMITED, "waits_per_client")]),
    ("waits", 3 * ADDRESSES, &[(LIMITED, "waits")]),
    ("streams", ADDRESSES, &[(LIMITED, "streams_per_client")]),
    ("handshakes", ADDRESSES, &[(SHUT, "full")]),
    ("followers", ADDRESSES, &[(SHUT, "full")]),
    ("silent", ADDRESSES, &[(LIMITED, "handshake_time")]),
    ("garbage", ADDRESSES, &[(LIMITED, "garbage")]),
];

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// A node and one that follows it, neither of which notices what strangers do.
struct Scene {
    root: Served,
    follower: Served,
    /// What both have, before and after all attacks.
    right: String,
    /// What the root says on standard error.
    log: PathBuf,
    _folder: Folder,
}

impl Scene {
    async fn start(name: &str, args: &[&str]) -> Self {
        let folder = Folder::new(name);
        let log = folder.path().join("log");
        let root = Served::start_command(node(args).stderr(File::create(&log).unwrap()));
        let parent = format!("--parent={}", root.rpc);
        let follower = Served::start(&[parent.as_str()]);
        let right = root.text("/").await;
        let scene = Self {
            right,
            root,
            follower,
            log,
            _folder: folder,
        };
        // It has to have come to where the root is before anybody may count on it.
        let began = Instant::now();
        while !scene.follower.text("/readyz").await.contains("true") {
            assert!(began.elapsed() < PATIENCE, "the follower is not ready");
        }
        scene.is_in_step("the start").await;
        scene
    }

    /// Has somebody honest ask both during an attack.
    fn honest(&self, attack: &str) -> Honest {
        let nodes = [&self.root, &self.follower].map(|served| Target::new(&served.http));
        Honest::start(attack, &nodes, &self.right)
    }

    fn strangers(&self, attack: &str, count: usize, addresses: usize) -> Strangers {
        Strangers::start(&self.root.http, &self.root.rpc, attack, count, addresses)
    }

    /// The follower comes to where the root is now, and the root says of nothing that it panicked.
    async fn is_in_step(&self, meanwhile: &str) {
        let at = self.root.json("/v1/links").await["position"].clone();
        let at = at.as_str().unwrap().to_owned();
        let path = format!("/v1/states?min_rev={at}&wait=30");
        let seen = self.follower.json(&path).await;
        assert_eq!(seen["active"], self.root.json("/v1/states").await["active"]);
        assert!(seen["active"].is_array(), "{meanwhile}: {seen}");
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(!log.contains("panicked"), "{meanwhile}: {log}");
    }

    async fn count(&self, name: &str, label: &str) -> u64 {
        sum(&self.root.text("/metrics").await, name, label)
    }

    /// Waits until as many strangers are connected at once.
    async fn open(&self, count: usize, files: usize) {
        let began = Instant::now();
        loop {
            let open = self.count("machine_http_connections", "").await;
            if open >= (count + MORE) as u64 {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{open} of {count} connections are open at once: the hard limit of open files is {files}, \
                 raise it (ulimit -Hn, LimitNOFILE=) to {ENOUGH_FILES} at least"
            );
        }
    }

    /// Attacks until each of its counters has moved and others have asked often enough, and returns the
    /// root's memory after that.
    async fn attack(&self, (attack, addresses, counters): Attack, most: u64) -> u64 {
        let pid = self.root.program.pid();
        let mut counts = Vec::new();
        for (name, value) in counters {
            counts.push(self.count(name, &format!("=\"{value}\"")).await);
        }
        let mut honest = self.honest(attack);
        let mut strangers = self.strangers(attack, STRANGERS, addresses);
        strangers.wait("opened", STRANGERS as u64);
        for ((name, value), before) in counters.iter().zip(counts) {
            let began = Instant::now();
            while self.count(name, &format!("=\"{value}\"")).await <= before {
                let patient = began.elapsed() < PATIENCE;
                assert!(patient, "{attack}: {value} is not counted in {name}");
            }
        }
        honest.asks().await;
        self.is_in_step(attack).await;
        let honest = honest.ends().await;
        let (during, doing) = (resident(pid), strangers.doing());
        drop(strangers);
        self.deserted().await;
        let after = resident(pid);
        println!("{honest}; {doing}; {during} bytes during, {after} after");
        let more = STRANGERS as u64 * CONNECTION;
        assert!(during < most.saturating_add(more), "{attack}: {during}");
        assert!(after < most, "{attack}: {after} bytes are more than {most}");
        after
    }

    /// Waits until nobody is connected but who asks, and the follower.
    async fn deserted(&self) {
        let began = Instant::now();
        loop {
            let metrics = self.root.text("/metrics").await;
            let of = |name: &str| -> u64 {
                let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
                line.rsplit(' ').next().unwrap().parse().unwrap()
            };
            let (readers, followers) = (of("machine_http_connections{"), of("machine_followers{"));
            if readers <= 1 && followers <= 1 {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{readers} readers and {followers} followers are left"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_strangers_do_others_go_on() {
    let flags = [
        "--head-time=1s",
        "--body-time=1s",
        "--idle-time=3s",
        "--handshake-time=1s",
        "--max-waits=250",
        "--max-waits-per-client=20",
        "--max-streams-per-client=20",
        "--max-writes-per-client=2",
        "--write-rate=10",
        "--max-followers=20",
    ];
    let scene = Scene::start("floods", &flags).await;
    // What is there once for all is there after the first.
    let first = scene.attack(ATTACKS[0], u64::MAX).await;
    for attack in ATTACKS {
        scene.attack(attack, first + GROWS).await;
    }
}

/// How many files a node may open, which it has raised as far as it may.
fn files(pid: u32) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let files: Vec<_> = line.unwrap().split_whitespace().take(2).collect();
    assert_eq!(files[0], files[1], "the soft limit is not raised");
    files[0].parse().unwrap_or(usize::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_who_say_nothing_are_let_in_and_sent_away() {
    let flags = [
        "--idle-time=30s",
        "--max-connections=11000",
        "--max-connections-per-address=1000",
        "--max-followers=20",
    ];
    let scene = Scene::start("idle", &flags).await;
    let pid = scene.root.program.pid();
    let files = files(pid);
    let count = if files < ENOUGH_FILES {
        let count = files / 2;
        println!(
            "ATTENTION: {count} idle connections, not {IDLE}: the hard limit of open files is {files}"
        );
        count
    } else {
        IDLE
    };
    // An allocator keeps for the next what others have given back, and finds less and less that does not fit.
    let start = resident(pid);
    for _ in 0..WARM_UPS {
        let warm = scene.strangers("idle", count + MORE, 100);
        scene.open(count, files).await;
        drop(warm);
        scene.deserted().await;
    }
    let first = resident(pid);
    let mut honest = scene.honest("idle");
    let mut strangers = scene.strangers("idle", count + MORE, 100);
    scene.open(count, files).await;
    honest.asks().await;
    scene.is_in_step("ten thousand idle connections").await;
    let during = resident(pid);
    scene.root.limits("idle_time", count as u64 - 1).await;
    let (honest, doing) = (honest.ends().await, strangers.doing());
    drop(strangers);
    scene.deserted().await;
    let after = resident(pid);
    println!(
        "{honest}; {doing}; {start} bytes at the start, {first} after warming up, {during} during, {after} after"
    );
    let most = first + GROWS;
    let held = start + GROWS + count as u64 * CONNECTION;
    assert!(first < held && during < held, "{start}, {first}, {during}");
    assert!(after < most, "{after} bytes are more than {most}");
}
