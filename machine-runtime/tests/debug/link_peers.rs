//! What neither a node nor a debugger can do to the other, and nodes of which nobody wants to be told.

use std::net::SocketAddr;
use std::time::Duration;

use machine_runtime::debug::codec::{self, PREAMBLE, preamble};
use machine_runtime::debug::frame::{Ask, Body, Frame, Hello, Line, VERSION};
use machine_runtime::debug::listen::ListenOptions;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::debugger::Debugger;
use crate::fixtures::{PATIENCE, Reserved, dials, eventually, report, root};

/// What a debugger begins with that knows nothing.
fn greets() -> Vec<u8> {
    let mut says = preamble().to_vec();
    let (version, process, last) = (VERSION, 0, 0);
    let hello = Ask::Hello {
        version,
        process,
        last,
    };
    codec::append(&hello, &mut says).unwrap();
    says
}

fn frame(number: u64, body: Body) -> Frame {
    Frame {
        number,
        wall: 0,
        mono: 0,
        machine: 0,
        body,
    }
}

/// The next that the other side says.
async fn heard<T: DeserializeOwned>(socket: &mut TcpStream) -> T {
    let len = socket.read_u32().await.unwrap();
    let mut bytes = vec![0; len as usize];
    socket.read_exact(&mut bytes).await.unwrap();
    codec::decode(&bytes).unwrap()
}

/// What a process begins with.
fn hello() -> Frame {
    let hello = Hello {
        version: VERSION,
        program: String::new(),
        host: String::new(),
        pid: 1,
        process: 5,
    };
    frame(0, Body::Hello(hello))
}

#[tokio::test]
async fn nobody_observes_while_nobody_is_there_and_a_while_after() {
    let root = root();
    let reserved = Reserved::new();
    let mut options = dials();
    options.grace = Duration::from_millis(50);
    let (reporter, _reporting) = report(reserved.addr, options, [root.subject()]);
    root.work(1, 100).await;
    assert!(!root.is_observed() && !reporter.is_on());
    let mut debugger = Debugger::at(reserved.addr, ListenOptions::default()).await;
    debugger.has_reached(1, &root).await;
    assert!(root.is_observed() && reporter.is_on());
    debugger.hang_up().await;
    eventually(|| !root.is_observed() && !reporter.is_on()).await;
    root.work(2, 100).await;
    let mut again = Debugger::at(reserved.addr, ListenOptions::default()).await;
    again.has_reached(1, &root).await;
    assert_eq!(root.observers.lost(), [("debugger", 0)]);
}

#[tokio::test]
async fn nobody_observes_for_whoever_else_accepts_at_the_port_of_a_debugger_that_has_gone() {
    let root = root();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = dials();
    options.grace = Duration::from_millis(200);
    let addr = listener.local_addr().unwrap();
    let (reporter, mut reporting) = report(addr, options, [root.subject()]);
    let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    socket.write_all(&greets()).await.unwrap();
    eventually(|| root.is_observed()).await;
    drop(socket);
    let mut others = JoinSet::new();
    others.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    eventually(|| !root.is_observed() && !reporter.is_on()).await;
    reporting.stop().await;
}

#[tokio::test]
async fn a_debugger_that_asked_much_and_has_gone_is_not_waited_for() {
    let root = root();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = dials();
    options.grace = Duration::from_millis(20);
    let addr = listener.local_addr().unwrap();
    let (_, mut reporting) = report(addr, options, [root.subject()]);
    let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    drop(listener);
    let mut says = greets();
    for _ in 0..2000 {
        codec::append(&Ask::Waiters { machine: 77 }, &mut says).unwrap();
    }
    socket.write_all(&says).await.unwrap();
    // All is told, so nothing is written by which it would be noticed.
    socket.read_exact(&mut [0; PREAMBLE]).await.unwrap();
    while !matches!(heard::<Frame>(&mut socket).await.body, Body::Key(_)) {}
    assert!(root.is_observed());
    drop(socket);
    eventually(|| !root.is_observed()).await;
    reporting.stop().await;
}

/// What a debugger may do that it should not: each is done to each connection, again and again.
#[tokio::test]
async fn no_debugger_disturbs_a_node() {
    let hello = greets();
    let mut flood = hello.clone();
    for machine in 0..200_000 {
        codec::append(&Ask::Waiters { machine }, &mut flood).unwrap();
    }
    let with = |more: &[u8]| [hello.as_slice(), more].concat();
    let mut other = preamble();
    other[7] = 99;
    // What is said, and whether the connection is held for a while then, without reading.
    let deeds: Vec<(Vec<u8>, bool)> = vec![
        (Vec::new(), false),
        (Vec::new(), true),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false),
        (other.to_vec(), true),
        (preamble().to_vec(), true),
        (hello.clone(), false),
        (hello.clone(), true),
        (with(&[0xff; 64]), true),
        (with(&[0, 0, 0, 3, 9, 9, 9]), true),
        (with(&[0, 0, 0x10, 0, 1]), true),
        (flood, true),
    ];
    let root = root();
    let reserved = Reserved::new();
    let liar = TcpListener::bind(reserved.addr).await.unwrap();
    let mut options = dials();
    options.every = Duration::from_millis(2);
    options.grace = Duration::from_millis(5);
    options.stall = Duration::from_millis(50);
    let (_, mut reporting) = report(reserved.addr, options, [root.subject()]);
    for (seed, (says, holds)) in (100..).zip(deeds) {
        let (mut socket, _) = timeout(PATIENCE, liar.accept()).await.unwrap().unwrap();
        // It may hang up before it has heard all.
        let said = timeout(Duration::from_millis(100), socket.write_all(&says)).await;
        drop(said);
        let socket = holds.then_some(socket);
        let before = root.handle.checkpoint().await.unwrap().sequence;
        root.work(seed, 300).await;
        let after = root.handle.checkpoint().await.unwrap().sequence;
        assert!(after >= before + 300);
        drop(socket);
    }
    // A debugger that is one is told all the same.
    drop(liar);
    let mut debugger = Debugger::at(reserved.addr, ListenOptions::default()).await;
    debugger.has_reached(1, &root).await;
    root.work(7, 100).await;
    debugger.has_reached(1, &root).await;
    reporting.stop().await;
}

/// What came of a connection on which these bytes are sent.
async fn closed_for(debugger: &mut Debugger, says: &[u8]) -> Option<String> {
    let mut socket = TcpStream::connect(debugger.addr).await.unwrap();
    let before = debugger.closed.len();
    // It may be closed before all is said.
    let _ = socket.write_all(says).await;
    let closed = async {
        while debugger.closed.len() == before {
            debugger.hear().await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
    debugger.closed[before].clone()
}

#[tokio::test]
async fn no_node_disturbs_a_debugger() {
    let mut options = ListenOptions::default();
    options.patience = Duration::from_millis(200);
    options.connections = 4;
    options.bytes = 1 << 20;
    let mut debugger = Debugger::at("127.0.0.1:0".parse().unwrap(), options).await;
    let mut other = preamble();
    other[7] = 99;
    let said = |why: Option<String>, what: &str| {
        let why = why.expect("a reason");
        assert!(why.contains(what), "{why}");
    };
    said(
        closed_for(&mut debugger, b"GET / HTTP/1.1\r\n\r\n").await,
        "GET / HT",
    );
    said(closed_for(&mut debugger, &other).await, "version 99");
    said(
        closed_for(&mut debugger, b"").await,
        "did not say who it is",
    );
    let with = |more: &[u8]| [&preamble(), more].concat();
    said(
        closed_for(&mut debugger, &with(&[0, 1, 0, 0])).await,
        "65536 bytes",
    );
    said(
        closed_for(&mut debugger, &with(&[0, 0, 0, 2, 1, 1])).await,
        "not a frame",
    );
    let mut bytes = Vec::new();
    codec::append(&frame(1, Body::Gone), &mut bytes).unwrap();
    said(closed_for(&mut debugger, &with(&bytes)).await, "first");
    let mut bytes = Vec::new();
    codec::append(&hello(), &mut bytes).unwrap();
    let opened = |more: &[u8]| [preamble().as_slice(), &bytes, more].concat();
    said(
        closed_for(&mut debugger, &opened(&[0xff; 4])).await,
        "4294967295 bytes",
    );
    said(
        closed_for(&mut debugger, &opened(&[0, 0, 1, 0, 7])).await,
        "was not there within",
    );
    said(
        closed_for(&mut debugger, &opened(&[0, 0, 0, 1, 0])).await,
        "not a frame",
    );
    // More than there is room for are not taken, and a node gets in once they have gone.
    let mut many = Vec::new();
    for _ in 0..8 {
        many.push(TcpStream::connect(debugger.addr).await.unwrap());
    }
    let root = root();
    let _reporting = report(debugger.addr, dials(), [root.subject()]);
    debugger.has_reached(1, &root).await;
    root.work(1, 1000).await;
    debugger.has_reached(1, &root).await;
    drop(many);
}

/// The frames that a process says to have sent over a connection of its own, and what it was asked first.
async fn dial_as(addr: SocketAddr, frames: &[Frame]) -> (TcpStream, Ask) {
    let mut bytes = preamble().to_vec();
    for frame in frames {
        codec::append(frame, &mut bytes).unwrap();
    }
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    socket.read_exact(&mut [0; PREAMBLE]).await.unwrap();
    let ask = heard(&mut socket).await;
    (socket, ask)
}

#[tokio::test]
async fn a_process_that_dials_anew_is_not_heard_twice() {
    let mut debugger = Debugger::new().await;
    let line = Line {
        level: 3,
        target: String::new(),
        text: "x".repeat(1000),
    };
    // More than is passed on while nobody takes anything; the rest of it waits in the socket.
    let all: Vec<_> = (1..=3000)
        .map(|number| frame(number, Body::Log(line.clone())))
        .collect();
    let mut sent = vec![hello()];
    sent.extend_from_slice(&all);
    let addr = debugger.addr;
    let mut dials = JoinSet::new();
    dials.spawn(async move { dial_as(addr, &sent).await });
    let (_old, first) = loop {
        tokio::select! {
            Some(dialled) = dials.join_next() => break dialled.unwrap(),
            // Just enough for it to go on.
            () = debugger.hear(), if debugger.book.lines.len() < 1500 => {}
        }
    };
    assert_eq!(
        first,
        Ask::Hello {
            version: VERSION,
            process: 0,
            last: 0
        }
    );
    let (mut new, second) = dial_as(addr, &[hello()]).await;
    let Ask::Hello {
        process: 5, last, ..
    } = second
    else {
        panic!("{second:?}");
    };
    let mut rest = Vec::new();
    for frame in &all[usize::try_from(last).unwrap()..] {
        codec::append(frame, &mut rest).unwrap();
    }
    dials.spawn(async move {
        new.write_all(&rest).await.unwrap();
        (new, first)
    });
    debugger.until(|book| book.lines.len() == 3000).await;
    let numbers = debugger.book.frames.iter().map(|frame| frame.number);
    assert!(numbers.eq(1..=3000));
}
