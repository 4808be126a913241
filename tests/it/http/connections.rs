use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use machine_runtime::replica::SourceStats;
use machine_runtime::{Epoch, Machine, Owner, ViewOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::support::PATIENCE;

use super::events::Events;
use super::{House, Node, Root, at};

/// Sends bytes on a connection of their own, and reads what the node says until it closes it.
async fn talk(node: &Node, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_hurts_nobody_else() {
    let root = Root::with_a_door_open().await;
    let stream = TcpStream::connect(root.node.addr).await.unwrap();
    let (mut other, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    root.node.tasks.spawn(async move {
        let _ = connection.await;
    });
    let too_long = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(16 * 1024 - 19));
    for (bytes, status) in [
        (
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
            400,
        ),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        // All that the node reads, so that nothing is left that would reset the connection.
        (too_long.as_bytes(), 431),
    ] {
        let answer = talk(&root.node, bytes).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let request = hyper::Request::get("/").header("host", "node");
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new());
        let served = other.send_request(request.unwrap()).await.unwrap();
        assert_eq!(served.status(), 200, "on an older connection");
        assert_eq!(root.node.get("/").await.status(), 200, "on a new one");
    }
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_does_no_harm() {
    let root = Root::with_a_door_open().await;
    let body = "host: x\r\ncontent-length: 5\r\n\r\nhello";
    let requests = format!(
        "GET /healthz HTTP/1.1\r\n{body}POST /healthz HTTP/1.1\r\n{body}\
         GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    let answers = talk(&root.node, requests.as_bytes()).await;
    let starts = answers.match_indices("HTTP/1.1 ");
    let statuses: Vec<_> = starts.map(|(i, _)| &answers[i + 9..i + 12]).collect();
    assert_eq!(statuses, ["200", "405", "404"], "{answers}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_answered_is_closed() {
    let root = Root::with_a_door_open().await;
    let silent = &b""[..];
    let half = &b"GET / HTTP/1.1\r\nhost: x\r\n"[..];
    let idle = &b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"[..];
    let (soon, late) = (10.0..=15.0, 75.0..=80.0);
    for (bytes, within) in [(silent, late.clone()), (half, soon), (idle, late)] {
        let mut stream = TcpStream::connect(root.node.addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let start = Instant::now();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        // The clock is the test's: it jumps to the next look, and may do so before the node has
        // seen what was sent.
        let held = start.elapsed().as_secs_f64();
        assert!(within.contains(&held), "{held} is not within {within:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_begins_after_a_pause_is_not_cut_off() {
    let root = Root::with_a_door_open().await;
    let mut stream = TcpStream::connect(root.node.addr).await.unwrap();
    // The clock is the test's: nothing really waits.
    tokio::time::sleep(std::time::Duration::from_secs(50)).await;
    let position = at(root.handle.view().position().unwrap().revision);
    let wait = format!(
        "GET /v1/states?after={position}&wait=60 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(wait.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 304 "), "{answer:?}");
}

#[tokio::test]
async fn a_slow_reader_gets_what_piled_up_as_one_delta() {
    // Small buffers, so that there soon is no room for more.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let root = Root::on(socket.listen(8).unwrap(), ViewOptions::default());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(root.node.addr).await.unwrap();
    let mut events = Events::over(&root.node, stream, "", &[]).await;
    for _ in 0..1500 {
        root.add(House::Door1Open).await;
        root.add(House::Door1Closed).await;
    }
    root.add(House::Door2Open).await;
    let newest = root.handle.view().position().unwrap().revision;
    let (mut last, mut most, mut door) = (0, 0, "");
    while last < newest {
        let event = events.next().await.unwrap();
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        let revision = data["revision"].as_u64().unwrap();
        assert_eq!(event.id, at(revision));
        most = most.max(revision - last);
        last = revision;
        // Whatever was left out, what is told follows from what was told before.
        for name in ["Door1Open", "Door1Closed"] {
            if event.name == "delta" && event.data.split("\"off\"").next().unwrap().contains(name) {
                assert_ne!(door, name, "{event:?}");
                door = name;
            }
        }
    }
    assert!(
        most > 1000,
        "{most} of {newest} positions at most in one event"
    );
    assert_eq!(door, "Door1Closed");
}

#[tokio::test]
async fn who_sends_half_a_request_or_reads_nothing_does_not_hold_up_a_stop() {
    let root = Root::with_a_door_open().await;
    let mut half = TcpStream::connect(root.node.addr).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut deaf = TcpStream::connect(root.node.addr).await.unwrap();
    let request = "GET /v1/schema HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10_000);
    // More than the buffers between us hold; the rest is never sent.
    let writing = deaf.write_all(request.as_bytes());
    tokio::select! {
        written = writing => written.unwrap(),
        () = root.node.until_metric("machine_http_connections", 3) => {}
    }
    assert_eq!(root.node.tasks.finish(PATIENCE).await, 0);
}

#[tokio::test]
async fn a_wait_ends_with_its_machine() {
    let (handle, owner) = Owner::new(
        Machine::<House>::new(),
        Epoch(0xabc),
        ViewOptions::default(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::on(listener, &handle, None, SourceStats::default());
    let path = format!("/v1/states?after={}&wait=60", at(0));
    let end = async {
        node.until_metric("machine_http_waiting", 1).await;
        drop(owner);
    };
    let (answer, ()) = tokio::join!(node.get(&path), end);
    answer.check_error(503, "stopping", "this node is stopping", "[]");
}
