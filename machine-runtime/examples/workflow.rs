//! A workflow: steps one after the other, each tried a few times with growing pauses; what fails for
//! good is kept as an error and resumed later, and canceling ends everything at once.
//!
//! `cargo run -p machine-runtime --example workflow`
//!
//! What to copy:
//!
//! * Calls and timers are work bound to a state. Whatever ends the state drops them, so that
//!   canceling is a relation (`Running` is over) and no code.
//! * `Failed` requires `Exception`, which keeps the error. Taking that out is what an operator does,
//!   and the next run goes on at the step that failed: `Done` of the steps before is still active.
//!
//! Tokio's clock is paused here, so that minutes pass at once; without `start_paused` they last.

use std::error::Error;
use std::future::pending;
use std::io::Write;
use std::time::Duration;

use machine_runtime::{
    Epoch, Final, Handle, InvalidPayload, Machine, Mutation, Owner, ViewOptions, handlers, states,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

states! {
    counts = { steps = 4 };

    /// An order on its way to a customer.
    enum Order {
        exclusive Course {
            /// It is being worked on.
            Running,
            /// A step failed for good; over once the error is taken out.
            #[require(Exception)]
            Failed,
            /// The customer does not want it any more.
            Canceled,
            /// All steps are done.
            Finished,
        }
        for step in 1..=steps {
            exclusive Step {
                /// Step {step} is being tried.
                #[require(Running)]
                Step{step}Trying,
                /// A try of step {step} failed, and why.
                #[require(Running)]
                #[payload(String)]
                Step{step}Pausing,
                /// Step {step} is done for good.
                Step{step}Done,
            }
        }
    }
}

/// How often a step is tried in one run.
const TRIES: u32 = 4;

/// The pause after the first try; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// What is done in each step, by whom, and in which seconds that service is down.
const STEPS: [(&str, &str, [u64; 2]); 4] = [
    ("reserve the goods", "warehouse", [0, 0]),
    ("charge the card", "bank", [0, 3]),
    ("book a courier", "courier", [0, 60]),
    ("send the invoice", "mail server", [300, 600]),
];

/// One step. A real one would call a service; it has to bear being dropped anywhere.
async fn call(step: usize, opened: Instant) -> Result<(), String> {
    sleep(Duration::from_millis(200)).await;
    let (_, service, [from, to]) = STEPS[step - 1];
    if (from..to).contains(&opened.elapsed().as_secs()) {
        return Err(format!("the {service} does not answer"));
    }
    Ok(())
}

struct Clerk {
    /// When the shop opened.
    opened: Instant,
    /// How often each step was tried in this run.
    tries: [u32; STEPS.len()],
    log: mpsc::UnboundedSender<String>,
}

#[handlers(Order)]
impl Clerk {
    #[state(Running)]
    fn run(&mut self, cx: &mut Final<'_, Order>) {
        self.tries = [0; STEPS.len()];
        go_on(cx);
    }

    #[state(trying)]
    fn attempt(&mut self, cx: &mut Final<'_, Order>, step: usize) {
        self.tries[step - 1] += 1;
        let opened = self.opened;
        cx.spawn(move |order: Handle<Order>| async move {
            let next = match call(step, opened).await {
                Ok(()) => Mutation::add(Order::done(step)),
                Err(why) => {
                    Mutation::add(Order::pausing(step)).with(Order::pausing_payload(step), &why)
                }
            };
            order.mutate(next).await.map(drop)
        });
    }

    #[state(pausing)]
    fn pause(&mut self, cx: &mut Final<'_, Order>, step: usize) -> Result<(), InvalidPayload> {
        let (tries, (what, ..)) = (self.tries[step - 1], STEPS[step - 1]);
        let why = cx
            .payload(Order::pausing_payload(step))?
            .unwrap_or_default();
        self.say(&format!("{what}, try {tries}: {why}"));
        if tries == TRIES {
            cx.fail_with(Order::Failed, format!("cannot {what}: {why}"));
            return Ok(());
        }
        cx.spawn(move |order: Handle<Order>| async move {
            sleep(PAUSE * 2_u32.pow(tries - 1)).await;
            order.add(Order::trying(step)).await.map(drop)
        });
        Ok(())
    }

    #[state(done)]
    fn done(&mut self, cx: &mut Final<'_, Order>, step: usize) {
        let (tries, (what, ..)) = (self.tries[step - 1], STEPS[step - 1]);
        self.say(&format!("{what}, try {tries}: done"));
        go_on(cx);
    }

    #[state(COURSE)]
    fn tell(&mut self, cx: &mut Final<'_, Order>) {
        self.say(cx.state().map_or("", Order::name));
    }

    fn say(&self, what: &str) {
        let seconds = self.opened.elapsed().as_secs_f64();
        // Nobody reads it any more once the example is over.
        let _ = self.log.send(format!("{seconds:7.1} s  {what}"));
    }
}

/// On to the first step that is not done.
fn go_on(cx: &mut Final<'_, Order>) {
    let next = Order::steps().find(|step| !cx.is_active(Order::done(*step)));
    cx.add(next.map_or(Order::Finished, Order::trying));
}

/// Everything that was logged so far.
fn print(out: &mut impl Write, log: &mut mpsc::UnboundedReceiver<String>) -> std::io::Result<()> {
    while let Ok(line) = log.try_recv() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

pub(crate) async fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let opened = Instant::now();
    let (sender, mut log) = mpsc::unbounded_channel();
    // What runs ends with this.
    let mut orders = JoinSet::new();
    let mut open = || {
        let clerk = Clerk {
            opened,
            tries: [0; STEPS.len()],
            log: sender.clone(),
        };
        let machine = Machine::new().with(clerk);
        let (order, owner) = Owner::new(machine, Epoch::random(), ViewOptions::default());
        orders.spawn(owner.run(pending()));
        order
    };

    writeln!(
        out,
        "An order that fails, and is resumed when the courier is back:"
    )?;
    let order = open();
    let failed = order.view().when_error();
    order.add(Order::Running).await?.outcome.into_result()?;
    let error = failed.await?.ok_or("an error without what it is")?;
    print(out, &mut log)?;
    writeln!(out, "           Exception: {}", error.message)?;
    sleep_until(opened + Duration::from_mins(2)).await;
    order
        .remove(Order::Exception)
        .await?
        .outcome
        .into_result()?;
    order.add(Order::Running).await?.outcome.into_result()?;
    order.view().when(Order::Finished).await?;
    print(out, &mut log)?;

    sleep_until(opened + Duration::from_mins(5)).await;
    writeln!(
        out,
        "An order that is canceled while it waits for its third try of a step:"
    )?;
    let order = open();
    let twice = order.view().when_ticks(Order::pausing(4), 3);
    order.add(Order::Running).await?.outcome.into_result()?;
    twice.await?;
    order.add(Order::Canceled).await?.outcome.into_result()?;
    print(out, &mut log)?;
    // The mail server is back long before, but nothing is left that would try.
    sleep(Duration::from_hours(1)).await;
    print(out, &mut log)?;
    writeln!(out, "An hour later: {}", names(&order))?;
    Ok(())
}

fn names(order: &Handle<Order>) -> String {
    let active = order.view().active();
    active
        .iter()
        .map(Order::name)
        .collect::<Vec<_>>()
        .join(", ")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout().lock()).await
}
