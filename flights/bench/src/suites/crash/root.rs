//! The process of the root: its history is in a folder, and goes on from there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use machine_node::shutdown::{PATIENCE, Tasks, input_ends};
use machine_runtime::durable::{Durability, Store, StoreOptions};
use machine_runtime::replica::{Source, SourceOptions};
use machine_runtime::{Mutation, Owner, States, ViewOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::states::Published148;

/// Options of the process of the root.
#[derive(Args, Clone, Debug)]
pub(crate) struct RootArgs {
    /// Where it serves followers
    #[arg(long)]
    addr: SocketAddr,
    /// Where its history is
    #[arg(long)]
    state_dir: PathBuf,
    /// Acknowledges what is not on disk yet
    #[arg(long)]
    relaxed: bool,
}

/// How late what is acknowledged may be on disk then.
const LATE: Duration = Duration::from_secs(1);

/// Serves followers until its standard input ends, or the process does.
pub(crate) async fn run(args: RootArgs) -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let listener = TcpListener::bind(args.addr).await?;
    let schema = Published148::schema();
    let mut options = StoreOptions::default();
    if args.relaxed {
        options.durability = Durability::Relaxed(LATE);
    }
    let (store, recovered) = Store::open(&args.state_dir, schema, options)?;
    let machine = recovered.machine::<Published148>();
    let (root, owner) = Owner::durable(machine, recovered, store, ViewOptions::default());
    let (tell, ended) = oneshot::channel();
    let stopped = tasks.stopped();
    tasks.spawn(async move {
        let ended = owner.run_durable(stopped).await.map(|_machine| ());
        // Whoever waits for it may have ended.
        let _ = tell.send(ended);
    });
    let start = [Published148::Start, Published148::Ready];
    let started = root.mutate(Mutation::add(start)).await?;
    anyhow::ensure!(
        started.outcome.is_executed(),
        "the machine refuses to start"
    );
    let source = Source::new(root.view(), SourceOptions::new("root")).with_writes(&root);
    let stopped = tasks.stopped();
    tasks.spawn(async move { source.serve(listener, stopped).await });
    tokio::select! {
        ended = ended => ended??,
        () = input_ends() => {}
        () = tasks.panicked() => anyhow::bail!("a task panicked"),
    }
    tasks.finish(PATIENCE).await;
    Ok(())
}
