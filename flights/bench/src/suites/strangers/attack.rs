//! What strangers do to a node, from many addresses of this computer, in a process of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::hello::hello;
use crate::talk::{answer, questions, raise_files};

/// How often somebody slow says a byte.
const SLOWLY: Duration = Duration::from_millis(500);

/// How long somebody rests who was sent away.
const REST: Duration = Duration::from_millis(50);

/// How long somebody waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many strangers come in a batch at the start: more find no place to be accepted from.
const BATCH: usize = 100;

/// How many bytes of an answer are looked at.
const BUFFER: usize = 4096;

/// A request that changes nothing, though it costs as much as one that does.
const MUTATION: &str = r#"{"op":"remove","states":["Exception"]}"#;

/// What strangers do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Attack {
    /// Heads that never end
    Heads,
    /// Bodies that never end
    Bodies,
    /// Lines that never end
    Lines,
    /// Connections on which nothing is said
    Idle,
    /// Questions whose answers nobody takes
    Unread,
    /// Mutations as fast as they are answered
    Mutations,
    /// Waits for what does not come
    Waits,
    /// Event streams
    Streams,
    /// Handshakes of followers, one after the other
    Handshakes,
    /// Followers that stay
    Followers,
    /// Links on which nothing is said
    Silent,
    /// Links over which garbage comes
    Garbage,
    /// What begins as a TLS handshake of readers and is garbage
    Hellos,
}

impl Attack {
    /// Whether it takes what a node tells those who may read it.
    fn takes_knowledge(self) -> bool {
        !matches!(
            self,
            Self::Idle | Self::Silent | Self::Garbage | Self::Hellos
        )
    }
}

/// Options of the part that attacks.
#[derive(Args, Clone, Debug)]
pub(crate) struct AttackArgs {
    /// What strangers do
    #[arg(value_enum)]
    attack: Attack,
    /// The node's HTTP address
    #[arg(long)]
    http: SocketAddr,
    /// The node's tarpc address
    #[arg(long)]
    rpc: SocketAddr,
    /// How many there are
    #[arg(long, default_value_t = 100)]
    strangers: usize,
    /// From how many addresses of this computer they come
    #[arg(long, default_value_t = 50)]
    addresses: usize,
}

/// How the strangers do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Doing {
    /// How many connections are open.
    pub(crate) open: u64,
    /// How many were ever opened, and how often that failed.
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    /// How many answers had a status of success, and of anything else.
    pub(crate) served: u64,
    pub(crate) refused: u64,
    /// How many connections the node has closed.
    pub(crate) closed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    opened: AtomicU64,
    failed: AtomicU64,
    served: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
}

impl Counts {
    fn read(&self) -> Doing {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Doing {
            open: read(&self.open),
            opened: read(&self.opened),
            failed: read(&self.failed),
            served: read(&self.served),
            refused: read(&self.refused),
            closed: read(&self.closed),
        }
    }
}

fn more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// What all strangers know.
struct Plan {
    args: AttackArgs,
    /// The node's schema, as a hello names it.
    fingerprint: u128,
    /// Where the node is, as a wait names it.
    position: String,
    counts: Counts,
}

/// Attacks until the standard input ends; each line there is answered with how it goes.
pub(crate) async fn run(args: AttackArgs) -> anyhow::Result<()> {
    raise_files();
    let (fingerprint, position) = if args.attack.takes_knowledge() {
        knowledge(&args.http.to_string()).await?
    } else {
        Default::default()
    };
    let plan = Arc::new(Plan {
        fingerprint,
        position,
        counts: Counts::default(),
        args,
    });
    let mut strangers = JoinSet::new();
    let come = async {
        for number in 0..plan.args.strangers {
            strangers.spawn(stranger(Arc::clone(&plan), number));
            if number % BATCH == BATCH - 1 {
                // Those of a batch find a place first.
                while plan.counts.read().opened + plan.counts.read().failed <= number as u64 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let mut asked = questions();
    let tell = async {
        while asked.recv().await.is_some() {
            answer(&plan.counts.read())?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        told = tell => told,
        () = come => Ok(()),
    }
}

/// The fingerprint of a node's schema, and where it is.
async fn knowledge(http: &str) -> anyhow::Result<(u128, String)> {
    let schema = machine_node::client::get(http, "/v1/schema", "application/json").await?;
    let schema: serde_json::Value = serde_json::from_slice(&schema.body)?;
    let fingerprint = schema["fingerprint"].as_str().unwrap_or_default();
    let states = machine_node::client::get(http, "/v1/links", "application/json").await?;
    let states: serde_json::Value = serde_json::from_slice(&states.body)?;
    Ok((
        u128::from_str_radix(fingerprint, 16).context("a fingerprint")?,
        states["position"].as_str().unwrap_or_default().to_owned(),
    ))
}

/// One of them, which comes again whenever it is sent away.
async fn stranger(plan: Arc<Plan>, number: usize) {
    let counts = &plan.counts;
    loop {
        let Some(stream) = connect(&plan, number).await else {
            more(&counts.failed);
            sleep(REST).await;
            continue;
        };
        more(&counts.opened);
        more(&counts.open);
        // However it ends, the next is like it.
        let _ = attack(&plan, stream).await;
        counts.open.fetch_sub(1, Ordering::Relaxed);
        more(&counts.closed);
        sleep(REST).await;
    }
}

async fn connect(plan: &Plan, number: usize) -> Option<TcpStream> {
    let target = match plan.args.attack {
        Attack::Handshakes | Attack::Followers | Attack::Silent | Attack::Garbage => plan.args.rpc,
        _ => plan.args.http,
    };
    let address = u32::try_from(number % plan.args.addresses.max(1)).ok()?;
    // Nobody honest asks from there.
    let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + address);
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((from, 0).into()).ok()?;
    timeout(PATIENCE, socket.connect(target)).await.ok()?.ok()
}

async fn attack(plan: &Plan, mut stream: TcpStream) -> anyhow::Result<()> {
    let head = "host: localhost\r\ncontent-type: application/json\r\n";
    match plan.args.attack {
        Attack::Heads => {
            let start = format!("GET / HTTP/1.1\r\n{head}x-slow: ");
            slowly(stream, start.as_bytes(), b"x").await
        }
        Attack::Bodies => {
            let start =
                format!("POST /v1/mutations HTTP/1.1\r\n{head}content-length: 5000\r\n\r\n{{");
            slowly(stream, start.as_bytes(), b" ").await
        }
        Attack::Lines => {
            let start = format!("GET /?{}", "x".repeat(64 * 1024));
            slowly(stream, start.as_bytes(), b"x").await
        }
        Attack::Idle | Attack::Silent => until_closed(stream).await,
        Attack::Unread => {
            let request = format!("GET /v1/schema HTTP/1.1\r\n{head}\r\n");
            loop {
                stream.write_all(request.as_bytes()).await?;
            }
        }
        Attack::Mutations => {
            let length = MUTATION.len();
            let request = format!(
                "POST /v1/mutations HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{MUTATION}"
            );
            again(plan, stream, &request).await
        }
        Attack::Waits => {
            let (path, position) = ("/v1/states", &plan.position);
            // Far beyond where the node will be.
            let position = position.split('.').next().unwrap_or_default();
            let query = format!("min_rev={position}.99999999&wait=20");
            let request = format!("GET {path}?{query} HTTP/1.1\r\n{head}\r\n");
            again(plan, stream, &request).await
        }
        Attack::Streams => {
            let request = format!("GET /v1/events HTTP/1.1\r\n{head}\r\n");
            again(plan, stream, &request).await
        }
        Attack::Handshakes => {
            stream
                .write_all(&hello(plan.fingerprint, "stranger"))
                .await?;
            // Whoever is answered goes, and comes again.
            stream.read_u8().await?;
            more(&plan.counts.served);
            Ok(())
        }
        Attack::Followers => {
            stream
                .write_all(&hello(plan.fingerprint, "stranger"))
                .await?;
            until_closed(stream).await
        }
        Attack::Garbage => {
            let garbage: Vec<u8> = (0..BUFFER).map(|_| fastrand::u8(..)).collect();
            stream.write_all(&garbage).await?;
            until_closed(stream).await
        }
        Attack::Hellos => {
            // A record of 512 bytes, in which there is a client's hello of 508.
            let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252];
            hello.extend((0..508).map(|_| fastrand::u8(..)));
            stream.write_all(&hello).await?;
            until_closed(stream).await
        }
    }
}

/// Says `start`, and then one byte after the other, until the node has enough of it.
async fn slowly(mut stream: TcpStream, start: &[u8], byte: &[u8]) -> anyhow::Result<()> {
    stream.write_all(start).await?;
    let (mut read, mut write) = stream.split();
    let talk = async {
        loop {
            sleep(SLOWLY).await;
            if write.write_all(byte).await.is_err() {
                return;
            }
        }
    };
    let mut buffer = [0; BUFFER];
    let listen = async { while read.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {} };
    tokio::select! {
        () = talk => {}
        () = listen => {}
    }
    Ok(())
}

/// Asks the same again and again; what is answered is counted by its status.
async fn again(plan: &Plan, mut stream: TcpStream, request: &str) -> anyhow::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        stream.write_all(request.as_bytes()).await?;
        let mut answers = 0;
        // An event stream goes on; of all else an answer is one read, or nearly.
        while answers == 0 || plan.args.attack == Attack::Streams {
            let bytes = stream.read(&mut buffer).await?;
            anyhow::ensure!(bytes > 0, "closed");
            let Some(status) = buffer[..bytes].strip_prefix(b"HTTP/1.1 ") else {
                continue;
            };
            answers += 1;
            let is_served = status.starts_with(b"2");
            more(if is_served {
                &plan.counts.served
            } else {
                &plan.counts.refused
            });
            if !is_served {
                break;
            }
        }
        if plan.args.attack != Attack::Mutations {
            sleep(REST).await;
        }
    }
}

/// Takes what comes until the node closes.
async fn until_closed(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = [0; BUFFER];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
