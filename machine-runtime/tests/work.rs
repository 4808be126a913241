//! Handlers on a machine with a task: work bound to states, tickets, errors, dry runs.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use machine_runtime::{
    Basic, Binder, Enqueued, Epoch, ErrorKind, Final, Handle, Handlers, Machine, Mutation, Outcome,
    Owner, Reason, Verdict, ViewOptions, states,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

states! {
    /// What a job goes through.
    pub enum Job: Basic {
        exclusive Status { Queued, Running, Done, #[add(Exception)] Failed }
        #[multi]
        Poke,
        Locked,
    }
}

/// What handlers tell the test.
type Told = mpsc::UnboundedSender<String>;

fn start(handlers: impl Handlers<Job>) -> (Handle<Job>, JoinSet<Machine<Job>>) {
    let machine = Machine::new().with(handlers);
    let (handle, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(owner.run(pending()));
    (handle, tasks)
}

async fn add(handle: &Handle<Job>, state: Job) {
    let receipt = handle.add(state).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Executed);
}

/// Tells when it drops.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does what its function says when `Running` begins.
struct OnRunning<F>(F);

impl<F> Handlers<Job> for OnRunning<F>
where
    F: Fn(&mut Final<'_, Job>) + Send + 'static,
{
    fn bind(&self, binder: &mut Binder<Self, Job>) {
        binder.state(Job::Running, &[], |this, cx, _| {
            (this.0)(cx);
            ().into()
        });
    }
}

fn on_running<F>(react: F) -> OnRunning<F>
where
    F: Fn(&mut Final<'_, Job>) + Send + 'static,
{
    OnRunning(react)
}

#[tokio::test]
async fn work_changes_the_machine_that_started_it() {
    let (handle, _tasks) = start(on_running(|cx| {
        cx.spawn(|job: Handle<Job>| async move { job.add(Job::Done).await });
    }));
    let done = handle.view().when(Job::Done);
    add(&handle, Job::Running).await;
    done.await.unwrap();
    assert!(!handle.view().is_active(Job::Running));
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_when_its_state_ticks() {
    let dropped = Arc::new(AtomicBool::new(false));
    let inner = Arc::clone(&dropped);
    let (started, mut has_started) = mpsc::unbounded_channel();
    let (handle, _tasks) = start(on_running(move |cx| {
        let (guard, started) = (Guard(Arc::clone(&inner)), started.clone());
        cx.spawn(|job: Handle<Job>| async move {
            let _guard = guard;
            started.send(()).unwrap();
            sleep(Duration::from_mins(1)).await;
            job.add(Job::Done).await.map(drop)
        });
    }));
    add(&handle, Job::Running).await;
    has_started.recv().await.unwrap();
    add(&handle, Job::Queued).await;
    advance(Duration::from_mins(2)).await;
    // The owner has run the task that the end of its context woke.
    add(&handle, Job::Locked).await;
    tokio::task::yield_now().await;
    assert!(dropped.load(Ordering::SeqCst));
    assert!(!handle.view().is_active(Job::Done));
}

#[tokio::test]
async fn an_error_of_work_is_one_of_the_machine() {
    let (handle, _tasks) = start(on_running(|cx| {
        cx.spawn(|_job| async { Err::<(), _>("the disk is full") });
    }));
    let failed = handle.view().when_error();
    add(&handle, Job::Running).await;
    let shown = failed.await.unwrap().unwrap();
    assert_eq!(
        shown.to_string(),
        "returned in work for Running: the disk is full"
    );
    let [error] = &handle.errors().await[..] else {
        panic!("one error")
    };
    assert_eq!(error.kind, ErrorKind::Returned);
}

/// Panics without a message on the terminal.
fn boom() {
    std::panic::resume_unwind(Box::new("boom"));
}

#[tokio::test]
async fn a_panic_of_work_is_an_error_and_the_machine_goes_on() {
    let (handle, _tasks) = start(on_running(|cx| {
        cx.spawn(|_job| async { boom() });
    }));
    let failed = handle.view().when_error();
    add(&handle, Job::Running).await;
    failed.await.unwrap();
    let errors = handle.errors().await;
    assert_eq!(errors[0].kind, ErrorKind::WorkPanic);
    assert_eq!(errors[0].message, "boom");
    add(&handle, Job::Done).await;
}

#[tokio::test]
async fn work_ends_with_the_machine() {
    let dropped = Arc::new(AtomicBool::new(false));
    let inner = Arc::clone(&dropped);
    let machine = Machine::new().with(on_running(move |cx| {
        let guard = Guard(Arc::clone(&inner));
        cx.spawn(|_job| async move {
            let _guard = guard;
            pending::<()>().await;
        });
    }));
    let (handle, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(owner.run(async move {
        let _ = stopped.await;
    }));
    add(&handle, Job::Running).await;
    drop(stop);
    tasks.join_next().await.unwrap().unwrap();
    tokio::task::yield_now().await;
    assert!(dropped.load(Ordering::SeqCst));
    assert!(handle.add(Job::Done).await.is_err());
}

/// Appends what the test asks for, and tells the tickets.
struct Appends(Told, Vec<Mutation<Job>>);

impl Handlers<Job> for Appends {
    fn bind(&self, binder: &mut Binder<Self, Job>) {
        binder.state(Job::Poke, &[], |this, cx, _| {
            for mutation in &this.1 {
                let enqueued = cx.mutate(mutation).unwrap();
                this.0.send(format!("{enqueued:?}")).unwrap();
            }
            ().into()
        });
        binder.enter(Job::Locked, &[], |_, _, _| Verdict::refuse("no key"));
    }
}

#[tokio::test]
async fn a_ticket_resolves_to_how_its_mutation_ended() {
    let (told, mut tickets) = mpsc::unbounded_channel();
    let mutations = vec![
        Mutation::add(Job::Running),
        Mutation::add(Job::Locked),
        Mutation::add(Job::Running),
        Mutation::remove(Job::Poke),
    ];
    let (handle, _tasks) = start(Appends(told, mutations));
    add(&handle, Job::Poke).await;
    // The first mutation of the machine takes queue tick 2.
    for expected in [
        Enqueued::Queued(3),
        Enqueued::Queued(4),
        Enqueued::Merged(3),
        Enqueued::Queued(5),
    ] {
        assert_eq!(tickets.recv().await.unwrap(), format!("{expected:?}"));
    }
    let executed = handle.when_queued(3).await.unwrap();
    assert_eq!(executed.outcome, Outcome::Executed);
    assert_eq!(executed.position.revision, 2);
    let refused = handle.when_queued(4).await.unwrap().outcome;
    let Outcome::Canceled(Reason::Refused(refusal)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(refusal.state, Some(Job::Locked));
    assert_eq!(refusal.why.as_deref(), Some("no key"));
    assert!(handle.when_queued(5).await.unwrap().outcome.is_executed());
    // One of somebody outside has no ticket.
    assert_eq!(handle.when_queued(2).await, None);
}

#[tokio::test]
async fn a_ticket_of_later_is_waited_for() {
    let (told, _tickets) = mpsc::unbounded_channel();
    let (handle, _tasks) = start(Appends(told, vec![Mutation::add(Job::Running)]));
    let later = handle.when_queued(3);
    let both = async {
        add(&handle, Job::Poke).await;
    };
    let (receipt, ()) = tokio::join!(later, both);
    assert_eq!(receipt.unwrap().outcome, Outcome::Executed);
}

#[tokio::test]
async fn a_dry_run_asks_handlers_on_the_root_and_relations_on_its_view() {
    let (told, _tickets) = mpsc::unbounded_channel();
    let (handle, _tasks) = start(Appends(told, Vec::new()));
    let position = handle.view().position();
    let locked = Mutation::add(Job::Locked);
    assert!(!handle.can(locked.clone()).await.unwrap().is_executed());
    assert!(handle.view().can(&locked).is_executed());
    let ready = handle.view().can(&Mutation::add(Job::Ready));
    let missing = Reason::Missing {
        state: Job::Ready,
        requires: Job::Start,
    };
    assert_eq!(ready, Outcome::Canceled(missing));
    assert_eq!(handle.view().position(), position);
}

#[tokio::test]
async fn an_error_from_outside_is_added_with_its_state() {
    let (handle, _tasks) = start(on_running(|_| {}));
    let receipt = handle.fail_with(Job::ErrNetwork, "no route").await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Executed);
    assert!(handle.view().is_active(Job::ErrNetwork));
    let [error] = &handle.errors().await[..] else {
        panic!("one error")
    };
    assert_eq!(
        (error.kind, &error.message[..]),
        (ErrorKind::Added, "no route")
    );
    // Whoever writes the payload by hand adds an error too.
    let exception = Job::Exception;
    let by_hand = Mutation::add(exception).with_payload(exception, "\"smoke\"");
    assert!(handle.mutate(by_hand).await.unwrap().outcome.is_executed());
    assert_eq!(handle.errors().await[1].message, "smoke");
}

/// An error that breaks whoever asks what it says.
#[derive(Debug)]
struct Mute;

impl std::fmt::Display for Mute {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        boom();
        Ok(())
    }
}

impl std::error::Error for Mute {}

#[tokio::test]
async fn an_error_that_panics_when_asked_what_it_says_is_a_panic_of_work() {
    let (handle, _tasks) = start(on_running(|cx| {
        cx.spawn(|_job| async { Err::<(), _>(Mute) });
    }));
    let failed = handle.view().when_error();
    add(&handle, Job::Running).await;
    assert_eq!(failed.await.unwrap().unwrap().kind, ErrorKind::WorkPanic);
    add(&handle, Job::Done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_sees_what_started_it() {
    let (tell, mut seen) = mpsc::unbounded_channel();
    let (handle, _tasks) = start(on_running(move |cx| {
        let tell = tell.clone();
        cx.spawn(|job: Handle<Job>| async move {
            tell.send(job.view().is_active(Job::Running)).unwrap();
        });
    }));
    for _ in 0..200 {
        let both = vec![Mutation::add(Job::Queued), Mutation::add(Job::Running)];
        handle.mutate_all(both).await.unwrap();
        assert_eq!(seen.recv().await, Some(true));
    }
}

#[tokio::test]
async fn a_ticket_that_never_was_one_is_told_so() {
    let (told, _tickets) = mpsc::unbounded_channel();
    let (handle, _tasks) = start(Appends(told, Vec::new()));
    assert_eq!(handle.when_queued(1).await, None);
    let later = handle.when_queued(3);
    let others = async {
        add(&handle, Job::Running).await;
        add(&handle, Job::Done).await;
    };
    let (receipt, ()) = tokio::join!(later, others);
    assert_eq!(receipt, None, "somebody outside took it");
}

#[tokio::test]
async fn a_long_refusal_is_cut() {
    struct Chatty;
    impl Handlers<Job> for Chatty {
        fn bind(&self, binder: &mut Binder<Self, Job>) {
            binder.enter(Job::Locked, &[], |_, _, _| {
                Verdict::refuse("no ".repeat(10_000))
            });
        }
    }
    let (handle, _tasks) = start(Chatty);
    let refused = handle.add(Job::Locked).await.unwrap().outcome;
    let Outcome::Canceled(Reason::Refused(refusal)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(refusal.why.unwrap().len(), 400);
}

#[tokio::test]
async fn a_refusal_that_work_ends_with_is_an_error() {
    let (handle, _tasks) = start(on_running(|cx| {
        cx.spawn(|job: Handle<Job>| async move { job.add(Job::Ready).await });
    }));
    let failed = handle.view().when_error();
    add(&handle, Job::Running).await;
    let message = failed.await.unwrap().unwrap().message;
    assert_eq!(message, "Ready requires Start, which is not active");
}
