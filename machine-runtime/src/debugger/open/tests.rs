//! Recordings become screens, and nodes that dial are shown.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::debug::codec::{self, preamble};
use crate::debug::file::{self, Format};
use crate::debug::frame::{Body, Frame};
use crate::debugger::store::{ProcessId, Selection};
use crate::debugger::ui::{Job, sample};

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("machine-debugger-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(paths: Vec<PathBuf>) -> Options {
    Options {
        listen: "127.0.0.1:0".to_owned(),
        paths,
        palette: Palette::Auto,
        mouse: false,
        memory: 64 << 20,
        http: None,
    }
}

/// What each process of the sample told.
fn told() -> Vec<Vec<Frame>> {
    let store = sample::store();
    let processes = 0..store.processes().len();
    let all = Selection::default();
    processes
        .map(|process| store.export(ProcessId(process), &all).collect())
        .collect()
}

#[test]
fn a_recording_is_shown_as_text() {
    let folder = Folder::new("text");
    for (n, frames) in told().into_iter().enumerate() {
        let path = folder.0.join(format!("node-{n}.amrec"));
        file::write(&path, Format::Binary, frames).unwrap();
    }
    let options = options(vec![folder.0.clone()]);
    let shown = frame(&options, (100, 30), ":rev 6<enter>4").unwrap();
    assert_eq!(shown.trouble, None);
    let shown = shown.screen;
    for text in [
        "rep-1-1",
        "rep-2",
        "add Flight1Boarding",
        "Flight1Boarding = \"B2\"",
    ] {
        assert!(shown.contains(text), "{text} is missing:\n{shown}");
    }
    assert_eq!(shown.lines().count(), 30);
    // What is shown can be written, and be opened again.
    let out = folder.0.join("out.jsonl.gz");
    let keys = format!("e<c-u>{}<enter>", out.display());
    let shown = frame(&options, (200, 30), &keys).unwrap().screen;
    assert!(shown.contains("wrote "), "{shown}");
    let again = frame(&self::options(vec![out]), (100, 30), ":rev 6<enter>4").unwrap();
    let again = again.screen;
    assert!(again.contains("add Flight1Boarding"), "{again}");
}

#[test]
fn what_is_wrong_is_said() {
    let nowhere = options(vec![PathBuf::from("/nowhere/at/all.amrec")]);
    let error = frame(&nowhere, (80, 24), "").unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all.amrec"), "{error}");
    let error = frame(&options(Vec::new()), (80, 24), "<what>").unwrap_err();
    assert!(error.to_string().contains("`<what>` is no key"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_taken_says_what_to_do() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let Err(error) = feed::listen(&addr, &mut JoinSet::new()).await else {
        panic!("two listen on {addr}");
    };
    let error = error.to_string();
    assert!(
        error.contains(&addr) && error.contains("--listen"),
        "{error}"
    );
}

#[tokio::test]
async fn nodes_that_dial_are_shown() {
    // The port is the listener's own choice, so it is asked for.
    let mut tasks = JoinSet::new();
    let mut sources = feed::listen("127.0.0.1:0", &mut tasks).await.unwrap();
    let addr = sources.local_addr().unwrap();
    let mut node = TcpStream::connect(addr).await.unwrap();
    let mut bytes = preamble().to_vec();
    let frames = told().swap_remove(0);
    let count = frames.len();
    for frame in &frames {
        codec::append(frame, &mut bytes).unwrap();
    }
    node.write_all(&bytes).await.unwrap();
    // The debugger says who it is, too.
    let mut answer = [0; codec::PREAMBLE];
    node.read_exact(&mut answer).await.unwrap();

    let shared = options(Vec::new()).store();
    let mut feed = Feed::default();
    let mut taken = 0;
    while taken < count {
        for input in sources.recv().await.unwrap() {
            feed.apply(&mut shared.write().unwrap(), input).unwrap();
            taken += 1;
        }
    }
    drop(node);
    for input in sources.recv().await.unwrap() {
        feed.apply(&mut shared.write().unwrap(), input).unwrap();
    }
    let source = Source::Listening(addr.to_string());
    let mut app = App::new(Arc::clone(&shared), source, Theme::default());
    app.update(Message::Told);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    let shown = text_of(terminal.backend().buffer());
    assert!(shown.contains("rep-1-1"), "{shown}");
    assert!(shown.contains("disconnected"), "{shown}");
}

#[test]
fn what_is_written_as_text_steers_no_terminal_and_is_whole_or_not_there() {
    let shared: Shared = Arc::new(RwLock::new(sample::store()));
    {
        let mut store = shared.write().unwrap();
        let hello = store.processes()[0].hello().clone();
        let stream = store.connect(&hello).unwrap().stream;
        let line = crate::debug::frame::Line {
            level: 3,
            target: "here".to_owned(),
            text: "one\u{1b}[2J\ntwo".to_owned(),
        };
        let frame = Frame {
            number: 0,
            wall: 1_700_000_000_000_000,
            mono: 0,
            machine: crate::debug::frame::PROCESS,
            body: Body::Log(line),
        };
        store.apply(stream, frame).unwrap();
    }
    let folder = Folder::new("plain");
    let path = folder.0.join("told.txt");
    let job = |path: &PathBuf| Job::Export {
        process: ProcessId(0),
        selection: Box::default(),
        path: path.clone(),
    };
    let asked = std::cell::Cell::new(0);
    let later = || asked.replace(asked.get() + 1) > 0;
    assert!(matches!(job(&path).run(&shared, &later), Done::Failed(_)));
    assert!(!path.exists());
    assert!(matches!(job(&path).run(&shared, &|| false), Done::Wrote(_)));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("one\u{fffd}[2J\u{fffd}two"), "{text}");
    assert!(
        text.starts_with("- - flights") && !text.contains("1970"),
        "{text}"
    );
    // What was there stays.
    assert!(matches!(
        job(&path).run(&shared, &|| false),
        Done::Failed(_)
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn of_a_damaged_recording_the_rest_is_shown_and_what_is_wrong_is_told() {
    let folder = Folder::new("damaged");
    for (n, frames) in told().into_iter().enumerate() {
        let mut frames = frames;
        if n == 0 {
            // A frame of a machine that was never declared.
            let last = frames.last().unwrap().clone();
            let key = frames
                .iter()
                .find(|frame| matches!(frame.body, Body::Key(_)));
            let body = key.unwrap().body.clone();
            let machine = 99;
            let number = last.number + 1;
            let unknown = Frame {
                number,
                machine,
                body,
                ..last
            };
            frames.push(unknown);
        }
        let path = folder.0.join(format!("node-{n}.amrec"));
        file::write(&path, Format::Binary, frames).unwrap();
    }
    let shown = frame(&options(vec![folder.0.clone()]), (100, 30), "").unwrap();
    assert!(shown.screen.contains("rep-1-1"), "{}", shown.screen);
    let trouble = shown.trouble.unwrap();
    assert!(
        trouble.contains("node-0.amrec: ") && trouble.contains("99"),
        "{trouble}"
    );
}
