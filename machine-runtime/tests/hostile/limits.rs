//! Who is one too many, is no longer let in, or keeps a follower waiting.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine_runtime::observe::{Event, Interest, LinkChange};
use machine_runtime::replica::{
    Admission, Changes, Connect, Credentials, Denied, Follower, FollowerOptions, Grant, Token,
};
use machine_runtime::{DynState, Mutation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch::{self, Receiver};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::frames::{Question, Request, hello, hello_with};
use crate::scene::{QUIET, Scene, schema};

#[test]
fn a_follower_too_many_is_refused_until_another_leaves() {
    let mut scene = Scene::with(|options| options.followers = 3);
    let mut streams = Vec::new();
    for i in 0..4 {
        let mut stream = scene.connect();
        scene.runtime.block_on(async {
            let frame = hello(1, &format!("f{i}"), None).frame();
            stream.write_all(&frame).await.unwrap();
            // The first byte of an answer.
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).await.unwrap();
        });
        streams.push(stream);
    }
    let stats = scene.source.stats().clone();
    assert_eq!((stats.followers(), stats.full()), (3, 2));
    scene.follows_on();
    streams.clear();
    scene.settles();
    assert_eq!(stats.followers(), 1);
    let mut stream = scene.connect();
    scene.runtime.block_on(async {
        let frame = hello(1, "next", None).frame();
        stream.write_all(&frame).await.unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.unwrap();
    });
    assert_eq!((stats.followers(), stats.full()), (2, 2));
    drop(stream);
    scene.settles();
}

/// A recording that loses nothing would grow, and the root wait for it.
#[test]
fn refusals_are_told_to_observers_now_and_then() {
    let mut scene = Scene::new();
    let mut observer = scene.observers.attach("test", Interest::LINKS, 10_000);
    let before = scene.source.stats().refusals();
    let unknown = |id| {
        let (protocol, body) = (0, Vec::new());
        Request::new(id, Question::Hello { protocol, body }).frame()
    };
    let hellos: Vec<_> = (0..500).map(unknown).collect();
    let _ = scene.attack("hellos of no protocol", &hellos);
    let refused = scene.source.stats().refusals() - before;
    let events = std::iter::from_fn(|| observer.try_next());
    let told = events.filter(|event| {
        matches!(&**event, Event::Link(link) if matches!(link.change, LinkChange::Refused { .. }))
    });
    let told = told.count() as u64;
    assert!(told < refused / 4, "{told} of {refused} are told");
}

#[test]
fn a_parent_that_takes_no_byte_is_left_and_keeps_no_writer() {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (_view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("honest"));
        let handle = follower.handle();
        let (dial, mut dialled) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run(vec![Stuck(dial)], std::future::pending()));
        let writes = (0..10_000).map(|_| handle.mutate(Mutation::add(DynState(1))));
        let writes: Vec<_> = writes.collect();
        let mut held = Vec::new();
        let again = async {
            while held.len() < 3 {
                held.push(dialled.recv().await.unwrap());
            }
        };
        let again = timeout(Duration::from_mins(1), again).await;
        assert!(again.is_ok(), "it waits for the first for ever");
        for write in writes {
            let written = timeout(Duration::from_mins(1), write).await;
            assert!(written.is_ok_and(|written| written.is_err()));
        }
        assert!(tasks.try_join_next().is_none());
    });
}

/// Dials parents that accept and never read.
pub(crate) struct Stuck(UnboundedSender<DuplexStream>);

impl Connect for Stuck {
    type Io = DuplexStream;

    async fn connect(&mut self) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = duplex(16);
        let sent = self.0.send(theirs);
        sent.map_err(|_gone| std::io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}
/// Those who are let in: who has one of these tokens.
#[derive(Debug)]
pub(crate) struct Guests {
    tokens: Mutex<Vec<Token>>,
    generation: watch::Sender<u64>,
}

impl Guests {
    pub(crate) fn set(&self, tokens: &[&Token]) {
        *self.tokens.lock().unwrap() = tokens.iter().copied().cloned().collect();
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Admission for Guests {
    fn admit(&self, peer: &Credentials) -> Result<Grant, Denied> {
        let tokens = self.tokens.lock().unwrap();
        let known = peer
            .token
            .as_ref()
            .is_some_and(|token| tokens.contains(token));
        let grant = known.then(|| Grant::new("guest", Changes::Nothing));
        grant.ok_or(Denied::Unknown)
    }

    fn generation(&self) -> Receiver<u64> {
        self.generation.subscribe()
    }
}

/// How the answer to the question 1, a hello, begins: well, and the hello is welcome, or not.
pub(crate) const WELCOME: [u8; 4] = [1, 0, 0, 0];
pub(crate) const REFUSED: [u8; 4] = [1, 0, 0, 1];

#[test]
fn a_hello_that_somebody_recorded_is_worth_what_its_token_is() {
    let (honest, stolen) = (Token::new("honest"), Token::new("stolen"));
    let guests = Arc::new(Guests {
        tokens: Mutex::default(),
        generation: watch::Sender::new(0),
    });
    guests.set(&[&honest, &stolen]);
    let mut scene = Scene::guarded(Arc::clone(&guests), &honest);
    let stats = scene.source.stats().clone();
    let recorded = hello_with(1, "recorded", None, Some(stolen.secret())).frame();
    let says = |scene: &mut Scene| {
        let mut stream = scene.connect();
        let mut answer = [0; 7];
        scene.runtime.block_on(async {
            stream.write_all(&recorded).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
        });
        (stream, <[u8; 4]>::try_from(&answer[3..]).unwrap())
    };
    // It says who it is of, and not over which connection: the second is as welcome as the first.
    let mut streams = Vec::new();
    for followers in [2, 3] {
        let (stream, answer) = says(&mut scene);
        assert_eq!(answer, WELCOME);
        assert_eq!(stats.followers(), followers);
        streams.push(stream);
    }
    assert_eq!((stats.denials(), stats.revoked()), (0, 0));
    scene.follows_on();
    // Without its token both end at once, and nobody else does.
    let began = scene.now();
    guests.set(&[&honest]);
    for mut stream in streams {
        let mut rest = Vec::new();
        scene.runtime.block_on(async {
            let ended = timeout(QUIET, stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "the connection is not closed");
        });
    }
    assert!(scene.now() - began < Duration::from_secs(5));
    assert_eq!((stats.followers(), stats.revoked()), (1, 2));
    scene.follows_on();
    let (stream, answer) = says(&mut scene);
    assert_eq!(answer, REFUSED);
    assert_eq!((stats.followers(), stats.denials()), (1, 1));
    drop(stream);
    // And what is shown again is again what it was.
    guests.set(&[&honest, &stolen]);
    let (stream, answer) = says(&mut scene);
    assert_eq!(answer, WELCOME);
    drop(stream);
    scene
        .runtime
        .block_on(async { while scene.links.join_next().await.is_some() {} });
    scene.follows_on();
}
