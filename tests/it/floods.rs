//! Strangers in a process of their own who take all that they can get of a real node, while others go on. That
//! takes no time that is asserted; `flights bench strangers` measures the same.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::limits::{Served, node};
use crate::support::{Folder, PATIENCE, command};

/// How many strangers there are, and from how many addresses they come.
const STRANGERS: usize = 300;
const ADDRESSES: usize = 10;

/// How many connections somebody may hold who says nothing, where that many files may be open.
const IDLE: usize = 10_000;

/// How much a node may grow while it is attacked, beside what its connections take, in bytes.
const GROWS: u64 = 64 << 20;

/// What a connection may take, in bytes.
const CONNECTION: u64 = 24 << 10;

/// Each attack, and the limits that it comes to.
const ATTACKS: [(&str, &[&str]); 11] = [
    ("heads", &["head_time"]),
    ("bodies", &["body_time"]),
    ("lines", &["line"]),
    ("unread", &["idle_time"]),
    ("mutations", &["writes_per_client", "write_rate"]),
    ("waits", &["waits_per_client"]),
    ("streams", &["streams_per_client"]),
    ("handshakes", &[]),
    ("followers", &["followers"]),
    ("silent", &["handshake_time"]),
    ("garbage", &["garbage"]),
];

/// Strangers while they attack. They end with it.
struct Strangers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Strangers {
    fn start(node: &Served, attack: &str, count: usize, addresses: usize) -> Self {
        let mut child = command(&["bench-part", "strangers", attack])
            .args([
                format!("--http={}", node.http),
                format!("--rpc={}", node.rpc),
            ])
            .args([
                format!("--strangers={count}"),
                format!("--addresses={addresses}"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    fn doing(&mut self) -> Value {
        writeln!(self.input, "how").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until they are as far as that.
    #[track_caller]
    fn wait(&mut self, what: &str, count: u64) {
        let began = Instant::now();
        loop {
            let doing = self.doing();
            if doing[what].as_u64().unwrap() >= count {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what} is not {count}: {doing}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
        let scene = Self {
            root,
            follower,
            log,
            _folder: folder,
        };
        scene.goes_on("the start").await;
        scene
    }

    /// Both are ready, answer honestly, and the follower is where the root is.
    async fn goes_on(&self, meanwhile: &str) {
        let name = format!("meanwhile {meanwhile}");
        for served in [&self.root, &self.follower] {
            let began = Instant::now();
            // A busy computer may make it late, never wrong.
            while !served.text("/readyz").await.contains(r#""ready":true"#) {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{name}: {} is not ready",
                    served.http
                );
            }
        }
        let at = self.root.json("/v1/links").await["position"].clone();
        let at = at.as_str().unwrap().to_owned();
        let path = format!("/v1/states?min_rev={at}&wait=30");
        let seen = self.follower.json(&path).await;
        assert!(seen.get("error").is_none(), "{name}: {seen}");
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(!log.contains("panicked"), "{name}: {log}");
        assert_eq!(
            self.root.text("/").await,
            self.follower.text("/").await,
            "{name}"
        );
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
        "--max-waits-per-client=20",
        "--max-streams-per-client=20",
        "--max-writes-per-client=2",
        "--write-rate=50",
        "--max-followers=20",
    ];
    let scene = Scene::start("floods", &flags).await;
    let pid = scene.root.program.pid();
    for (attack, limits) in ATTACKS {
        let before = resident(pid);
        let mut counts = Vec::new();
        for limit in limits {
            counts.push(scene.root.limited(limit).await);
        }
        let mut strangers = Strangers::start(&scene.root, attack, STRANGERS, ADDRESSES);
        strangers.wait("opened", STRANGERS as u64);
        scene.goes_on(attack).await;
        for (limit, count) in limits.iter().zip(counts) {
            scene.root.limits(limit, count).await;
        }
        if attack == "handshakes" {
            // Each is one more than there ever are at a time.
            strangers.wait("served", 5 * STRANGERS as u64);
        }
        scene.goes_on(attack).await;
        let during = resident(pid);
        let doing = strangers.doing();
        drop(strangers);
        scene.deserted().await;
        let after = resident(pid);
        println!("{attack}: {doing}; {before} bytes before, {during} during, {after} after");
        let most = before + GROWS + STRANGERS as u64 * CONNECTION;
        assert!(
            during < most && after < most,
            "{attack}: {before}, {during}, {after}"
        );
    }
    scene.goes_on("the end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_who_say_nothing_are_let_in_and_sent_away() {
    let scene = Scene::start(
        "idle",
        &["--idle-time=20s", "--max-connections-per-address=8192"],
    )
    .await;
    let pid = scene.root.program.pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let files: Vec<_> = files.unwrap().split_whitespace().take(2).collect();
    assert_eq!(files[0], files[1], "the soft limit is not raised");
    let files = files[0].parse().unwrap_or(usize::MAX);
    let count = IDLE.min(files / 2);
    println!("{count} idle connections, of {files} files");
    let before = resident(pid);
    let mut strangers = Strangers::start(&scene.root, "idle", count, 100);
    strangers.wait("opened", count as u64);
    scene.goes_on("ten thousand idle connections").await;
    let during = resident(pid);
    scene.root.limits("idle_time", count as u64 - 1).await;
    scene.goes_on("their end").await;
    drop(strangers);
    scene.deserted().await;
    let after = resident(pid);
    println!("{before} bytes before, {during} during, {after} after");
    let most = before + GROWS + count as u64 * CONNECTION;
    assert!(during < most && after < most, "{before}, {during}, {after}");
}
