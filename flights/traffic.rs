//! What flows through a root: a replay of departures, random load, or nothing.

use std::time::Duration;

use anyhow::Context;
use machine_runtime::{Handle, MutateError, Outcome};
use tokio::time::{Instant, sleep_until};

use crate::cli::{FeedArgs, SHIPPED};
use crate::feed::{Replay, Timetable};
use crate::states::Flights;
use machine_node::random::RandomTraffic;
use machine_node::status::Lines;

/// How the line begins that accounts for a replay.
pub const OVER: &str = "the replay is over: ";

/// What a tree is at after a replay.
pub const SERVES_ON: &str = "the replay is over, the tree serves on until it is interrupted";

/// What is to flow.
#[derive(Debug)]
pub struct Traffic {
    replay: Option<Replay>,
    random: Option<(RandomTraffic<Flights>, Duration)>,
}

impl Traffic {
    /// What `args` ask for; departures are read and checked here.
    ///
    /// # Errors
    ///
    /// If the departures cannot be read.
    pub fn new(args: &FeedArgs) -> anyhow::Result<Self> {
        let replay = args.replay.as_ref().map(|file| {
            let timetable = if file.as_os_str() == SHIPPED {
                Timetable::shipped()
            } else {
                Timetable::read(file).context("cannot replay")?
            };
            anyhow::Ok(Replay::new(timetable, args.seed).at(args.speed))
        });
        let random = args
            .random
            .map(|period| (RandomTraffic::new(args.seed), period));
        Ok(Self {
            replay: replay.transpose()?,
            random,
        })
    }

    /// Lets it flow into `root` until the replay is over, if there is one, and else for ever.
    /// `tells`: whether a replay says each of its steps.
    ///
    /// # Errors
    ///
    /// [`MutateError`] if the root ended.
    pub async fn run(
        self,
        root: &Handle<Flights>,
        lines: &Lines,
        tells: bool,
    ) -> Result<(), MutateError> {
        let random = async {
            match self.random {
                Some((traffic, period)) => traffic.run(root, period).await,
                None => std::future::pending().await,
            }
        };
        let replay = async {
            match self.replay {
                Some(steps) => replay(root, steps, lines, tells).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = random => ended,
            ended = replay => ended,
        }
    }
}

async fn replay(
    root: &Handle<Flights>,
    mut steps: Replay,
    lines: &Lines,
    tells: bool,
) -> Result<(), MutateError> {
    let (start, speed) = (Instant::now(), steps.speed());
    let mut first = None;
    let (mut executed, mut refused) = (0_u64, 0_u64);
    for step in steps.by_ref() {
        let first = *first.get_or_insert(step.at);
        sleep_until(start + speed.wait(first, step.at)).await;
        lines.set_title(format!("replaying {} at {speed}", step.at));
        for receipt in root.mutate_all(step.mutations).await? {
            if let Outcome::Canceled(reason) = receipt.outcome {
                refused += 1;
                lines.push(format!("refused: {reason}"));
            } else {
                executed += 1;
            }
        }
        if tells {
            lines.push(format!("{}  {}", step.at, step.words));
        }
    }
    lines.set_title(SERVES_ON.to_owned());
    lines.push(format!(
        "{OVER}{}; {executed} mutations executed, {refused} refused, in {:.1} s",
        steps.account(),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}
