//! What a stranger can send to the port for followers: whatever it is, the connection is closed or refused, no
//! task panics, nothing stays in memory, and who keeps to the protocol is served on.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![expect(
    clippy::print_stdout,
    reason = "what is counted is told beside its bound"
)]

#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/limits.rs"]
mod limits;
#[path = "hostile/scene.rs"]
mod scene;

use frames::{Question, Request, cancel, hello, number, prefixed, probe, watch};
use scene::{LONGEST, QUIET, STATES, Scene, schema};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

#[test]
fn lengths_that_lead_nowhere_end_the_connection() {
    let mut scene = Scene::new();
    scene.garbled("a frame of nothing", &[prefixed(&[])]);
    scene.garbled("a frame of one byte", &[prefixed(&[0])]);
    scene.garbled("the longest length", &[vec![0xff; 3]]);
    let prefix = |len: usize| u32::try_from(len).unwrap().to_be_bytes()[1..].to_vec();
    scene.garbled("a byte too long", &[prefix(LONGEST + 1)]);
    let _ = scene.attack("the longest of nothing", &[prefixed(&vec![0; LONGEST])]);
    scene.garbled("the longest of ones", &[prefixed(&vec![0xff; LONGEST])]);
    let before = scene.source.stats().no_hello();
    let _ = scene.attack("a length and nothing", &[prefix(LONGEST)]);
    let _ = scene.attack("a length and little", &[prefix(LONGEST), vec![0; 100]]);
    let _ = scene.attack("half a length", &[vec![0, 0]]);
    let _ = scene.attack("not a word", &[]);
    assert_eq!(scene.source.stats().no_hello(), before + 4);
}

#[test]
fn deadlines_that_no_clock_has_end_the_connection() {
    let mut scene = Scene::new();
    for (seconds, nanos) in [
        (u64::MAX, 0),
        (u64::MAX, 999_999_999),
        (u64::MAX, u32::MAX),
        (i64::MAX as u64, 0),
        (1 << 27, 0),
        // 2^36 milliseconds, and one less.
        (68_719_476, 736_000_000),
        (68_719_476, 735_000_000),
        (10, 1_000_000_000),
        (10, u32::MAX),
    ] {
        let mut first = hello(1, "late", None);
        (first.seconds, first.nanos) = (seconds, nanos);
        scene.garbled(
            &format!("a deadline of {seconds} s, {nanos} ns"),
            &[first.frame()],
        );
        let mut later = Request::new(2, Question::Probe {});
        (later.seconds, later.nanos) = (seconds, nanos);
        let frames = [hello(1, "late", None).frame(), later.frame()];
        scene.garbled(&format!("then one of {seconds} s, {nanos} ns"), &frames);
    }
    let mut at_once = hello(1, "now", None);
    at_once.seconds = 0;
    let _ = scene.attack("a deadline of now", &[at_once.frame()]);
}

#[test]
fn what_there_is_not_ends_the_connection() {
    let mut scene = Scene::new();
    for method in [7_u64, 127, 128, u64::from(u32::MAX), u64::MAX] {
        let mut frame = postcard::to_stdvec(&Request::new(1, ())).unwrap();
        frame.extend(number(method));
        scene.garbled(&format!("method {method}"), &[prefixed(&frame)]);
    }
    for variant in [2_u64, 128, u64::from(u32::MAX), u64::MAX] {
        let mut frame = number(variant);
        frame.extend([1; 40]);
        scene.garbled(&format!("message {variant}"), &[prefixed(&frame)]);
    }
    scene.garbled("an endless number", &[prefixed(&[0x80; 64])]);
    let good = hello(1, "good", None).frame();
    let after = [good.clone(), prefixed(&[0xde, 0xad, 0xbe, 0xef])];
    scene.garbled("garbage after a good frame", &after);
    let http = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    scene.garbled("another protocol", &[http]);
}

#[test]
fn lengths_within_a_frame_are_not_believed() {
    let mut scene = Scene::new();
    let head = postcard::to_stdvec(&Request::new(1, ())).unwrap();
    for promised in [1 << 20, 1 << 32, 1 << 40, u64::MAX] {
        let parts: [&[u8]; 3] = [&[0, 2], &[3], &[4]];
        for method in parts {
            let frame = [&head, method, &number(promised), &[1; 32][..]].concat();
            scene.garbled(&format!("{method:?} of {promised}"), &[prefixed(&frame)]);
        }
    }
    for promised in [1 << 20, 1 << 40, u64::MAX] {
        // The name of a node, and a selection, within the body of a hello that is as long as it says.
        let fingerprint = postcard::to_stdvec(&schema().fingerprint().0).unwrap();
        let name = [&fingerprint, &number(promised)[..], b"abc"].concat();
        let named = [&fingerprint, &[1, b'n', 0, 1][..]].concat();
        let selection = [&named, &number(promised)[..], &[0xff; 8]].concat();
        for body in [name, selection] {
            let question = Question::Hello { protocol: 2, body };
            let refused = scene.source.stats().refusals();
            let _ = scene.attack(
                "a hello that promises",
                &[Request::new(1, question).frame()],
            );
            assert_eq!(scene.source.stats().refusals(), refused + 1);
        }
    }
}

#[test]
fn a_frame_may_be_cut_anywhere() {
    let mut scene = Scene::new();
    let good = hello(1, "cut", None).frame();
    for end in 0..good.len() {
        let mut stream = scene.connect();
        let (links, runtime) = (&mut scene.links, &scene.runtime);
        runtime.block_on(async {
            stream.write_all(&good[..end]).await.unwrap();
            drop(stream);
            let ended = timeout(QUIET, links.join_next()).await.unwrap().unwrap();
            assert!(ended.is_ok(), "cut at {end}: {ended:?}");
        });
        // What it says is as long as it says, and ends too early all the same.
        if end > 3 {
            let _ = scene.send("a shortened hello", &[prefixed(&good[3..end])]);
        }
    }
    scene.follows_on();
}

#[test]
fn numbers_of_requests_are_the_senders_own_affair() {
    let mut scene = Scene::new();
    for id in [u64::MAX, u64::MAX - 1, 1 << 32, 0] {
        let answer = scene.attack("a giant number", &[hello(id, "giant", None).frame()]);
        assert!(answer.len() > 100, "no welcome");
    }
    let twice = [
        hello(1, "twice", None).frame(),
        watch(2, 5000),
        watch(2, 5000),
        watch(2, 1),
    ];
    let _ = scene.attack("one number for three", &twice);
    let mut cancels = vec![hello(1, "fickle", None).frame()];
    cancels.extend((0..20_000).map(|i| cancel(i * 0x1234_5678_9abc)));
    let _ = scene.attack("cancels of nothing", &cancels);
    let mut both = vec![hello(1, "fickle", None).frame()];
    both.extend((2..5000).flat_map(|id| [watch(id, 20_000), cancel(id)]));
    let _ = scene.attack("questions taken back", &both);
}

#[test]
fn hello_may_be_said_again_and_again() {
    let mut scene = Scene::new();
    let some = |byte| Some(vec![byte; STATES / 8]);
    let again: Vec<_> = (0..7)
        .map(|i| hello(i, &format!("name-{i}"), some(1 << i)).frame())
        .collect();
    let answer = scene.attack("seven names", &again);
    assert!(answer.len() > 100);
    let long = "n".repeat(LONGEST / 2);
    let _ = scene.attack("a long name", &[hello(1, &long, None).frame()]);
    let odd = "\u{1b}[2J\r\n\"\\{}\0\u{202e}";
    let _ = scene.attack("an odd name", &[hello(1, odd, None).frame()]);
    let refused = scene.source.stats().refusals();
    let lengths = [0, 1, STATES / 8 - 1, STATES / 8 + 1, 60_000];
    for length in lengths {
        let hello = hello(1, "wrong", Some(vec![0xff; length]));
        let _ = scene.attack("a selection of another length", &[hello.frame()]);
    }
    let _ = scene.attack(
        "a selection of nothing",
        &[hello(1, "none", some(0)).frame()],
    );
    assert_eq!(
        scene.source.stats().refusals(),
        refused + lengths.len() as u64 + 1
    );
    for protocol in [0, 3, u16::MAX] {
        let body = vec![1; 40];
        let question = Question::Hello { protocol, body };
        let _ = scene.attack("another version", &[Request::new(1, question).frame()]);
    }
}

#[test]
fn who_has_not_said_hello_gets_and_changes_nothing() {
    let mut scene = Scene::new();
    let before = scene.root.view().position();
    let write = |id, write| {
        let within_ms = 1000;
        Request::new(id, Question::Write { write, within_ms }).frame()
    };
    // A key, an epoch, an add of the first state: what else it is, it is not looked at.
    let mut scene_write = vec![write(1, vec![0; 40]), write(2, vec![1; 60_000])];
    scene_write.push(
        Request::new(
            3,
            Question::Mutate {
                write: vec![2; 300],
            },
        )
        .frame(),
    );
    let _ = scene.send("a write without hello", &scene_write);
    let _ = scene.send("a question without hello", &[watch(1, 20_000)]);
    assert_eq!(scene.root.view().position(), before);
    let pages = (0..8).map(|id| Request::new(id, Question::Schema { from: u32::MAX }).frame());
    let pages: Vec<_> = pages.collect();
    let _ = scene.attack("pages past the end", &pages);
}

#[test]
fn thousands_of_frames_cost_no_more_than_a_few() {
    let mut scene = Scene::new();
    let mut probes = vec![hello(0, "busy", None).frame()];
    probes.extend((1..10_000).map(probe));
    let _ = scene.attack("ten thousand probes", &probes);
    let hellos: Vec<_> = (0..500)
        .map(|id| hello(id, "again", None).frame())
        .collect();
    let _ = scene.attack("five hundred hellos", &hellos);
}
