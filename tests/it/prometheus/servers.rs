//! A real Prometheus and a real Pushgateway, a tree for them in a process each, and a link that can be cut.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use machine_node::client;
use machine_node::dashboard::{Options, rules};
use serde_json::Value;

use crate::support::{Folder, PATIENCE, Program};

/// How often Prometheus asks, and looks at its rules.
const INTERVAL: &str = "250ms";

/// How much shorter than usual the times of the rules are.
const HURRY: u32 = 20;

/// How often a server is started before it is given up.
const STARTS: usize = 5;

/// Asks again and again until there is an answer that counts; `what` says what is waited for.
pub(crate) async fn eventually<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        pause.tick().await;
        match ask().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < end, "{what} did not come about: {last}"),
        }
    }
}

/// A server in a process of its own, which ends with it.
#[derive(Debug)]
struct Server(Child);

impl Server {
    /// Starts one that listens where `args` say, and where that is. Somebody else may take the address
    /// before the server does, which then ends: it is started again with another.
    async fn start(program: &str, args: impl Fn(&str) -> Vec<String>) -> (String, Self) {
        for _ in 0..STARTS {
            let addr = free().to_string();
            let mut server = Self::spawn(program, &args(&addr));
            if server.is_ready(&addr).await {
                return (addr, server);
            }
        }
        panic!("{program} ended at once, {STARTS} times");
    }

    /// Waits until it answers; whether it did before it ended.
    async fn is_ready(&mut self, addr: &str) -> bool {
        eventually(&format!("a server at {addr}"), async || {
            let answer = client::get(addr, "/-/ready", "*/*").await;
            // Who answers may be who took the address.
            if self.0.try_wait().unwrap().is_some() {
                return Ok(false);
            }
            match answer {
                Ok(answer) if answer.head.status().is_success() => Ok(true),
                Ok(answer) => Err(answer.head.status().to_string()),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    fn spawn(program: &str, args: &[String]) -> Self {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("{program} cannot be started: {error}; tests/run installs it")
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens on.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A Pushgateway that keeps what it is told for as long as it runs.
#[derive(Debug)]
pub(crate) struct Pushgateway {
    pub(crate) addr: String,
    _server: Server,
}

impl Pushgateway {
    pub(crate) async fn start() -> Self {
        let args = |addr: &str| {
            vec![
                format!("--web.listen-address={addr}"),
                "--log.level=error".to_owned(),
            ]
        };
        let (addr, server) = Server::start("prometheus-pushgateway", args).await;
        Self {
            addr,
            _server: server,
        }
    }
}

/// A Prometheus that scrapes nodes, and looks at hurried rules.
#[derive(Debug)]
pub(crate) struct Prometheus {
    addr: String,
    _server: Server,
    _folder: Folder,
}

impl Prometheus {
    /// Scrapes `nodes` as the job `flights`, and a Pushgateway as the job `pushed`.
    pub(crate) async fn start(name: &str, nodes: &[&Node], pushed: Option<&Pushgateway>) -> Self {
        let folder = Folder::new(name);
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, configuration(nodes, pushed)).unwrap();
        let rules = rules(&Options::new("flights").hurried(HURRY));
        fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let data = folder.path().join("data");
        let args = |addr: &str| {
            vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", data.display()),
                format!("--web.listen-address={addr}"),
                "--enable-feature=exemplar-storage".to_owned(),
                "--log.level=error".to_owned(),
            ]
        };
        let (addr, server) = Server::start("prometheus", args).await;
        Self {
            addr,
            _server: server,
            _folder: folder,
        }
    }

    /// What the API answers to a question.
    pub(crate) async fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = client::get(&self.addr, &format!("/api/v1/{path}"), "application/json").await;
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if body["status"] == "success" {
            Ok(body["data"].take())
        } else {
            Err(format!("{}: {}", answer.head.status(), body["error"]))
        }
    }

    /// What a query has now.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        self.results(&format!("query?query={}", encoded(query)))
            .await
    }

    /// What a query had in the last minute.
    pub(crate) async fn query_range(&self, query: &str) -> Result<Vec<Value>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (start, end) = (now.as_secs() - 60, now.as_secs() + 1);
        let query = encoded(query);
        self.results(&format!(
            "query_range?query={query}&start={start}&end={end}&step=1"
        ))
        .await
    }

    async fn results(&self, path: &str) -> Result<Vec<Value>, String> {
        let data = self.ask(path).await?;
        let results = data["result"].as_array().cloned();
        results.ok_or_else(|| format!("no results: {data}"))
    }

    /// Waits until all targets are up and their last scrape was without an error.
    pub(crate) async fn until_scraped(&self, count: usize) {
        eventually("a scrape of all targets", async || {
            let targets = self.ask("targets?state=active").await?;
            let targets = targets["activeTargets"].as_array().unwrap().clone();
            let fine = targets
                .iter()
                .filter(|target| target["health"] == "up" && target["lastError"] == "")
                .count();
            if fine == count {
                Ok(())
            } else {
                Err(format!("{targets:#?}"))
            }
        })
        .await;
    }

    /// Which alerts fire, as `Alert machine`.
    async fn firing(&self) -> Result<Vec<String>, String> {
        let alerts = self.ask("alerts").await?;
        let alerts = alerts["alerts"].as_array().unwrap().clone();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let told = firing.map(|alert| {
            let labels = &alert["labels"];
            let text = |name: &str| labels[name].as_str().unwrap_or("-").to_owned();
            format!("{} {}", text("alertname"), text("machine"))
        });
        Ok(told.collect())
    }

    /// Waits until these alerts fire.
    pub(crate) async fn until_firing(&self, alerts: &[&str]) {
        eventually(&format!("{alerts:?}"), async || {
            let firing = self.firing().await?;
            let all = alerts
                .iter()
                .all(|alert| firing.iter().any(|it| it == alert));
            if all {
                Ok(())
            } else {
                Err(format!("{firing:?}"))
            }
        })
        .await;
    }

    /// Waits until none of these fires.
    pub(crate) async fn until_clear(&self, alerts: &[&str]) {
        eventually(&format!("an end of {alerts:?}"), async || {
            let firing = self.firing().await?;
            let any = alerts
                .iter()
                .any(|alert| firing.iter().any(|it| it == alert));
            if any {
                Err(format!("{firing:?}"))
            } else {
                Ok(())
            }
        })
        .await;
    }
}

/// As a query of a URL takes it.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn configuration(nodes: &[&Node], pushed: Option<&Pushgateway>) -> String {
    let mut out = format!(
        "global:\n  scrape_interval: {INTERVAL}\n  scrape_timeout: {INTERVAL}\n  \
         evaluation_interval: {INTERVAL}\nrule_files: [rules.yml]\nscrape_configs:\n\
         - job_name: flights\n  honor_labels: true\n  static_configs:\n"
    );
    for node in nodes {
        let (http, name) = (&node.http, node.name);
        let _ = writeln!(
            out,
            "  - targets: ['{http}']\n    labels: {{ service: flights, machine: {name} }}"
        );
    }
    if let Some(pushed) = pushed {
        let _ = writeln!(
            out,
            "- job_name: pushed\n  honor_labels: true\n  static_configs:\n  - targets: ['{}']",
            pushed.addr
        );
    }
    out
}

/// A node in a process of its own.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) http: String,
    pub(crate) rpc: String,
    args: Vec<String>,
    program: Option<Program>,
}

impl Node {
    /// Starts one on free ports.
    pub(crate) fn start(name: &'static str, args: &[&str]) -> Self {
        let mut node = Self {
            name,
            http: "127.0.0.1:0".to_owned(),
            rpc: "127.0.0.1:0".to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            program: None,
        };
        node.run();
        node
    }

    /// Starts it, again where it was.
    pub(crate) fn run(&mut self) {
        let place = [
            format!("--name={}", self.name),
            format!("--addr={}", self.rpc),
            format!("--http-addr={}", self.http),
        ];
        let args = ["node"]
            .into_iter()
            .chain(place.iter().map(String::as_str))
            .chain(self.args.iter().map(String::as_str));
        let program = Program::start(&args.collect::<Vec<_>>());
        self.rpc = program.line_after(&format!("{}: tarpc ", self.name));
        let http = program.line_after(&format!("{}: http://", self.name));
        http.trim_end_matches('/').clone_into(&mut self.http);
        self.program = Some(program);
    }

    /// Kills it: it cannot say good-bye.
    pub(crate) fn kill(&mut self) {
        self.program = None;
    }
}

/// A link of a tree: what connects to it gets to the other side, unless it is cut.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) addr: String,
    state: Arc<Mutex<Crossing>>,
}

#[derive(Debug, Default)]
struct Crossing {
    cut: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<Crossing>>::default();
        let (shared, target) = (Arc::clone(&state), target.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever comes while it is cut is sent away, or has a side that is gone.
                let _ = pass(stream, &target, &shared);
            }
        });
        Self { addr, state }
    }

    /// Breaks all connections, and lets nobody through.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = true;
        for stream in state.streams.drain(..) {
            // It may have been closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets everybody through again.
    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().cut = false;
    }
}

fn pass(near: TcpStream, target: &str, state: &Mutex<Crossing>) -> io::Result<()> {
    let mut state = state.lock().unwrap();
    if state.cut {
        return Ok(());
    }
    let far = TcpStream::connect(target)?;
    state.streams.extend([near.try_clone()?, far.try_clone()?]);
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    for (mut from, mut to) in [(near, far), (far_too, near_too)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

/// A file of the repository.
pub(crate) fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
