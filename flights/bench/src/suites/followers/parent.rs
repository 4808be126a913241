//! The process of the parent: a root that is written to as it is told, and serves followers.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use machine_node::node::start_machine;
use machine_node::random::RandomTraffic;
use machine_node::shutdown::Tasks;
use machine_runtime::observe::{Observers, Side};
use machine_runtime::replica::{Source, SourceOptions};
use machine_runtime::{Handle, Machine};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::marks::{Mark, now_ns};
use crate::states::Published148;
use crate::talk;

/// How many mutations are sent at once where the root is saturated.
const BATCH: usize = 1024;

/// How often what is written is marked, at most.
const MARKS: Duration = Duration::from_millis(100);

/// Options of the process of the parent.
#[derive(Args, Clone, Debug)]
pub(crate) struct ParentArgs {
    /// Where it tells when it wrote what
    #[arg(long)]
    marks: PathBuf,
}

/// What it has done so far.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) addr: SocketAddr,
    pub(crate) revision: u64,
    pub(crate) followers: usize,
    pub(crate) deltas: u64,
    pub(crate) snapshots: u64,
    pub(crate) bytes_out: u64,
}

/// How it is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    Rest,
    Every(Duration),
    Saturated,
}

impl Pace {
    fn told(question: &str) -> Option<Self> {
        match question.split_once(' ') {
            None if question == "rest" => Some(Self::Rest),
            None if question == "saturate" => Some(Self::Saturated),
            Some(("every", ms)) => ms.parse().ok().map(Duration::from_millis).map(Self::Every),
            _ => None,
        }
    }
}

/// Serves followers until its standard input ends. `rest`, `every MS` and `saturate` say how it is
/// written to from then on; whatever it is asked, it answers with what it has [`Done`].
pub(crate) async fn run(args: ParentArgs) -> anyhow::Result<()> {
    talk::raise_files();
    let tasks = Tasks::default();
    let observers = Observers::new();
    let machine = Machine::<Published148>::new();
    let root = start_machine(machine, &observers, &tasks).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let source = Source::new(root.view(), SourceOptions::new("parent")).with_writes(&root);
    let (serving, stopped) = (source.clone(), tasks.stopped());
    tasks.spawn(async move { serving.serve(listener, stopped).await });
    let (pace, paces) = watch::channel(Pace::Rest);
    let marks = File::create(&args.marks)?;
    let mut writer = std::pin::pin!(write(&root, paces, marks));
    let mut asked = talk::questions();
    loop {
        // Neither loses anything: the writer goes on where it was.
        let question = tokio::select! {
            ended = &mut writer => return ended,
            question = asked.recv() => question,
        };
        let Some(question) = question else {
            return Ok(());
        };
        if let Some(told) = Pace::told(&question) {
            pace.send_replace(told);
        }
        let stats = source.stats();
        talk::answer(&Done {
            addr,
            revision: root.view().position().map_or(0, |at| at.revision),
            followers: stats.followers(),
            deltas: stats.deltas(),
            snapshots: stats.snapshots(),
            bytes_out: observers.stats().bytes_out(Side::Down),
        })?;
    }
}

async fn write(
    root: &Handle<Published148>,
    mut paces: watch::Receiver<Pace>,
    mut marks: File,
) -> anyhow::Result<()> {
    let mut traffic = RandomTraffic::new(fastrand::u64(..));
    let mut marked = Instant::now();
    loop {
        let pace = *paces.borrow_and_update();
        let count = match pace {
            Pace::Rest => {
                paces.changed().await?;
                continue;
            }
            Pace::Every(period) => {
                sleep(period).await;
                1
            }
            Pace::Saturated => BATCH,
        };
        let exception = root.view().is_active(Published148::Exception);
        let batch = (0..count).map(|_| traffic.next(exception)).collect();
        let sent = now_ns();
        let receipts = root.mutate_all(batch).await?;
        if let Some(last) = receipts.last()
            && marked.elapsed() >= MARKS
        {
            let revision = last.position.revision;
            marks.write_all(&Mark { revision, sent }.bytes())?;
            marked = Instant::now();
        }
    }
}
