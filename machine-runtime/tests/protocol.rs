//! Recorded conversations of each version of the protocol that is spoken, held against both sides.
//!
//! `WRITE_PROTOCOL=1` records them anew; that is for a new version only.
#![cfg(feature = "wire")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine_runtime::replica::tamper::{self, PREFIX, Said};
use machine_runtime::replica::{
    Admission, Bearer, Changes, Connect, Credentials, Denied, Follower, FollowerOptions, Grant,
    LinkState, OLDEST_PROTOCOL, PROTOCOL, Source, SourceOptions, Token,
};
use machine_runtime::{
    DynState, Epoch, Handle, Key, Machine, Mutation, Owner, Position, Schema, StateDef, View,
    ViewOptions, WriteOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What the root does in between, and the follower's writer.
const LIT: &str = "* the root lights lamp 1";
const WRITES: &str = "* the follower writes lamp 2";

fn schema() -> Arc<Schema> {
    let lamps = (1..=3).map(|i| StateDef::new(format!("Lamp{i}")).retain());
    let builder = lamps.fold(
        Schema::builder("Lamps"),
        machine_runtime::SchemaBuilder::state,
    );
    builder.build().unwrap().into()
}

/// A conversation that is recorded: in which version, and whether the parent asks who the follower is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Talk {
    version: u16,
    asks: bool,
}

const TALKS: [Talk; 3] = [
    Talk {
        version: OLDEST_PROTOCOL,
        asks: false,
    },
    Talk {
        version: PROTOCOL,
        asks: false,
    },
    Talk {
        version: PROTOCOL,
        asks: true,
    },
];

const TOKEN: &str = "a token";

/// Admits whoever has the token, who may change everything.
#[derive(Debug)]
struct Known;

impl Admission for Known {
    fn admit(&self, peer: &Credentials) -> Result<Grant, Denied> {
        let known = peer.token == Some(Token::new(TOKEN));
        let grant = Grant::new("leaf", Changes::Everything);
        known.then_some(grant).ok_or(Denied::Unknown)
    }

    fn generation(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
}

fn follower(talk: Talk) -> (View<DynState>, Follower) {
    let mut options = FollowerOptions::new("leaf");
    if talk.asks {
        options.token = Bearer::new(watch::Sender::new(Some(Token::new(TOKEN))).subscribe());
    }
    Follower::new::<DynState>(schema(), options)
}

fn root(tasks: &mut JoinSet<()>, talk: Talk) -> (Handle<DynState>, Source) {
    let machine = Machine::with_schema(schema());
    let (handle, owner) = Owner::new(machine, Epoch(7), ViewOptions::default());
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    let options = SourceOptions::new("root");
    let mut source = Source::new(handle.view(), options).with_writes(&handle);
    if talk.asks {
        source = source.with_admission(Arc::new(Known));
    }
    (handle, source)
}

async fn light(root: &Handle<DynState>) {
    let mutation = Mutation::add(DynState(1)).with_payload(DynState(1), "bright");
    let receipt = root.mutate(mutation).await.unwrap();
    assert!(receipt.outcome.is_executed());
}

async fn write(leaf: &Handle<DynState>) -> Position {
    let options = WriteOptions::new().with_key(Key::new("key").unwrap());
    let written = leaf.mutate_with(Mutation::add(DynState(2)), options).await;
    let receipt = written.unwrap();
    assert!(receipt.outcome.is_executed());
    receipt.position
}

async fn reach(view: &View<DynState>, revision: u64) {
    let mut positions = view.positions();
    let reached = positions.wait_for(|now| now.is_some_and(|now| now.revision >= revision));
    let reached = timeout(Duration::from_mins(1), reached).await;
    assert!(
        reached.is_ok_and(|reached| reached.is_ok()),
        "revision {revision} is not reached"
    );
}

/// The one connection that there is.
struct Once(Option<DuplexStream>);

impl Connect for Once {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        match self.0.take() {
            Some(io) => Ok(io),
            None => pending().await,
        }
    }
}

async fn read_frame(io: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let mut prefix = [0; PREFIX];
    io.read_exact(&mut prefix).await.ok()?;
    let len = prefix
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte));
    let mut frame = vec![0; len];
    io.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write_frame(io: &mut (impl AsyncWriteExt + Unpin), frame: &[u8]) {
    let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
    io.write_all(&[&len[4 - PREFIX..], frame].concat())
        .await
        .unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}");
        all
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let bytes = (0..text.len()).step_by(2);
    bytes
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn file(talk: Talk) -> PathBuf {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let Talk { version, asks } = talk;
    let token = if asks { "-token" } else { "" };
    data.join(format!("protocol-{version}{token}.txt"))
}

/// What was said, a line each: `>` by the follower, `<` by the parent, `*` what made them.
fn recorded(talk: Talk) -> Vec<String> {
    let text = std::fs::read_to_string(file(talk)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Has both sides talk, the follower in an older version if told, and writes it down.
async fn record(talk: Talk) -> Vec<String> {
    let version = talk.version;
    let mut tasks = JoinSet::new();
    let (root, source) = root(&mut tasks, talk);
    let (ours, near) = duplex(1 << 16);
    let (far, theirs) = duplex(1 << 16);
    tasks.spawn(async move { source.serve_connection(theirs).await });
    let lines = Arc::new(Mutex::new(Vec::new()));
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (split(near), split(far));
    let told = Arc::clone(&lines);
    tasks.spawn(async move {
        while let Some(frame) = read_frame(&mut near_in).await {
            let Some(mut question) = tamper::read_request(&frame) else {
                continue;
            };
            question.speak(version);
            if version == 1 {
                question.mutate();
            }
            let frame = question.frame();
            told.lock().unwrap().push(format!("> {}", hex(&frame)));
            write_frame(&mut far_out, &frame).await;
        }
    });
    let told = Arc::clone(&lines);
    tasks.spawn(async move {
        while let Some(frame) = read_frame(&mut far_in).await {
            told.lock().unwrap().push(format!("< {}", hex(&frame)));
            let mut answer = tamper::read_answer(&frame, version).unwrap();
            answer.speak(PROTOCOL);
            write_frame(&mut near_out, &answer.frame()).await;
        }
    });
    let (view, follower) = follower(talk);
    let leaf = follower.handle();
    tasks.spawn(follower.run(vec![Once(Some(ours))], pending()));
    reach(&view, 0).await;
    settle().await;
    lines.lock().unwrap().push(LIT.to_owned());
    light(&root).await;
    reach(&view, 1).await;
    settle().await;
    lines.lock().unwrap().push(WRITES.to_owned());
    write(&leaf).await;
    reach(&view, 2).await;
    settle().await;
    let mut lines = lines.lock().unwrap();
    std::mem::take(&mut *lines)
}

/// Lets everybody say what there is to say. On a paused clock that is when nobody has anything to do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn each_version_that_is_spoken_is_recorded() {
    for talk in TALKS {
        let lines = record(talk).await;
        if std::env::var_os("WRITE_PROTOCOL").is_some() {
            std::fs::create_dir_all(file(talk).parent().unwrap()).unwrap();
            std::fs::write(file(talk), lines.join("\n") + "\n").unwrap();
        }
        // What a follower says has a time and a trace in it, which differ.
        let of_parent = |lines: &[String]| -> Vec<String> {
            let told = lines.iter().filter(|line| !line.starts_with('>'));
            told.cloned().collect()
        };
        assert_eq!(of_parent(&recorded(talk)), of_parent(&lines));
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_answers_what_was_recorded_of_each_version() {
    for talk in TALKS {
        let version = talk.version;
        let mut tasks = JoinSet::new();
        let (root, source) = root(&mut tasks, talk);
        let (mut ours, theirs) = duplex(1 << 16);
        tasks.spawn(async move { source.serve_connection(theirs).await });
        let mut answers = 0;
        for line in recorded(talk) {
            match line.split_once(' ').unwrap() {
                (">", frame) => write_frame(&mut ours, &unhex(frame)).await,
                ("<", frame) => {
                    answers += 1;
                    let answer = timeout(Duration::from_mins(1), read_frame(&mut ours)).await;
                    assert_eq!(hex(&answer.unwrap().unwrap()), frame, "version {version}");
                }
                _ if line == LIT => light(&root).await,
                _ => assert_eq!(line, WRITES),
            }
        }
        assert!(answers >= 4, "a welcome, two deltas, a receipt");
        assert_eq!(root.view().position().unwrap().revision, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_follows_a_recorded_parent_of_each_version() {
    for talk in TALKS {
        let version = talk.version;
        let mut tasks = JoinSet::new();
        let (ours, mut theirs) = duplex(1 << 16);
        let (view, follower) = follower(talk);
        let (leaf, link) = (follower.handle(), follower.link().clone());
        tasks.spawn(follower.run(vec![Once(Some(ours))], pending()));
        let (wrote, mut receipts) = mpsc::unbounded_channel();
        let mut ids = BTreeMap::new();
        if version < PROTOCOL {
            let hello = read_frame(&mut theirs).await.unwrap();
            let id = tamper::read_request(&hello).unwrap().id();
            write_frame(&mut theirs, &tamper::refused(id, version)).await;
        }
        for line in recorded(talk) {
            match line.split_once(' ').unwrap() {
                (">", frame) => {
                    let said = timeout(Duration::from_mins(1), read_frame(&mut theirs)).await;
                    let mut said = tamper::read_request(&said.unwrap().unwrap()).unwrap();
                    let mut before = tamper::read_request(&unhex(frame)).unwrap();
                    ids.insert(before.id(), said.id());
                    assert_eq!(said.said(), before.said(), "version {version}");
                    if let Said::Hello { protocol, .. } = said.said() {
                        assert_eq!(protocol, version);
                    }
                }
                ("<", frame) => {
                    let mut answer = tamper::read_answer(&unhex(frame), version).unwrap();
                    answer.set_id(ids[&answer.id()]);
                    write_frame(&mut theirs, &answer.frame()).await;
                }
                _ if line == WRITES => {
                    let (leaf, wrote) = (leaf.clone(), wrote.clone());
                    tasks.spawn(async move {
                        let _ = wrote.send(write(&leaf).await);
                    });
                }
                _ => assert_eq!(line, LIT),
            }
        }
        reach(&view, 2).await;
        assert_eq!(receipts.recv().await.unwrap().revision, 2);
        assert_eq!(link.edge().unwrap().protocol, version);
        let shown = view.snapshot().unwrap();
        assert_eq!(shown.ticks(), [0, 1, 1, 0]);
        assert_eq!(shown.retained()[&1][..], *b"bright");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_answers_another_question_is_left() {
    let mut tasks = JoinSet::new();
    let (ours, mut theirs) = duplex(1 << 16);
    let (_view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("leaf"));
    let link = follower.link().clone();
    tasks.spawn(follower.run(vec![Once(Some(ours))], pending()));
    let hello = read_frame(&mut theirs).await.unwrap();
    let id = tamper::read_request(&hello).unwrap().id();
    let position = Position {
        epoch: Epoch(7),
        revision: 1,
    };
    write_frame(&mut theirs, &tamper::executed(id, 1, position)).await;
    assert!(read_frame(&mut theirs).await.is_none(), "it leaves");
    settle().await;
    assert!(
        link.state().to_string().contains("another question"),
        "{}",
        link.state()
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_further_away_is_refused_and_both_sides_are_named() {
    let mut tasks = JoinSet::new();
    let (ours, mut theirs) = duplex(1 << 16);
    let (_view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("leaf"));
    let link = follower.link().clone();
    tasks.spawn(follower.run(vec![Once(Some(ours))], pending()));
    let hello = read_frame(&mut theirs).await.unwrap();
    let id = tamper::read_request(&hello).unwrap().id();
    write_frame(&mut theirs, &tamper::refused(id, PROTOCOL + 1)).await;
    assert!(read_frame(&mut theirs).await.is_none(), "it leaves");
    settle().await;
    let LinkState::Refused { why } = &*link.state() else {
        panic!("{}", link.state());
    };
    let versions = format!("{OLDEST_PROTOCOL} to {PROTOCOL}");
    assert!(
        why.contains(&versions) && why.contains(&(PROTOCOL + 1).to_string()),
        "{why}"
    );

    // One that is newer by one is told what we speak, and speaks that.
    let (_root, source) = root(&mut tasks, TALKS[0]);
    let (mut ours, theirs) = duplex(1 << 16);
    tasks.spawn(async move { source.serve_connection(theirs).await });
    let mut newer = tamper::read_request(&hello).unwrap();
    newer.speak(PROTOCOL + 1);
    write_frame(&mut ours, &newer.frame()).await;
    let answer = read_frame(&mut ours).await.unwrap();
    assert_eq!(answer, tamper::refused(id, PROTOCOL));
}
