//! A Loki as its push API is published, and what the program sends it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;

use super::{Logged, PAIR, object};
use crate::support::{PATIENCE, command};

/// How a request is answered; those beyond the list are taken.
#[derive(Clone, Copy)]
enum Answer {
    Takes,
    Refuses(u16),
    /// Too many requests, with so many seconds to wait.
    Asks(u64),
    /// That this one takes them.
    Sends(SocketAddr),
    /// With a refusal that has more to say than anybody reads.
    Raves,
    /// Not at all.
    Hangs,
}

/// What a push is, and nothing besides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    stream: BTreeMap<String, String>,
    values: Vec<(String, String)>,
}

/// A line that arrived.
#[derive(Clone, Debug)]
struct Line {
    labels: BTreeMap<String, String>,
    text: String,
}

/// How many parts of 64 KiB a refusal has: more than wait on their way.
const MOST_READ: usize = 1024;

struct Loki {
    addr: SocketAddr,
    /// Each request, or what is wrong with it; when it came.
    requests: Receiver<(Instant, Result<Vec<Line>, String>)>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    listening: Arc<Mutex<bool>>,
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// The last time in each stream.
    last: Arc<Mutex<BTreeMap<BTreeMap<String, String>, u64>>>,
    requests: Sender<(Instant, Result<Vec<Line>, String>)>,
}

impl Loki {
    fn start(answers: &[Answer]) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), answers)
    }

    fn at(addr: SocketAddr, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let shared = Shared {
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
            last: Arc::default(),
            requests: sender,
        };
        let connections = Arc::new(Mutex::new(Vec::new()));
        let listening = Arc::new(Mutex::new(true));
        let (kept, listens) = (Arc::clone(&connections), Arc::clone(&listening));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !*listens.lock().unwrap() {
                    return;
                }
                kept.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self {
            addr,
            requests,
            connections,
            listening,
        }
    }

    /// Ends: whoever connects is refused.
    fn stop(self) -> SocketAddr {
        *self.listening.lock().unwrap() = false;
        // Wakes the listener up.
        let _ = TcpStream::connect(self.addr);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        while TcpStream::connect(self.addr).is_ok() {}
        self.addr
    }

    /// The lines of the next request, and when it came.
    #[track_caller]
    fn request(&self) -> (Instant, Vec<Line>) {
        let (at, lines) = self.requests.recv_timeout(PATIENCE).unwrap();
        (at, lines.unwrap())
    }

    /// Lines until `last` holds of one.
    #[track_caller]
    fn lines_until(&self, last: impl Fn(&Line) -> bool) -> Vec<Line> {
        let mut lines = Vec::new();
        while !lines.iter().any(&last) {
            lines.extend(self.request().1);
        }
        lines
    }

    /// The lines that came since, of a program that has ended.
    #[track_caller]
    fn rest(&self) -> Vec<Line> {
        let rest = self.requests.try_iter();
        rest.flat_map(|(_, lines)| lines.unwrap()).collect()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some((head, body)) = request(&mut reader) {
            let answer = self.answers.lock().unwrap().pop_front();
            let answer = answer.unwrap_or(Answer::Takes);
            let taken = matches!(answer, Answer::Takes);
            let lines = self.check(&head, &body, taken);
            let told = match answer {
                _ if lines.is_err() => "400 Bad Request".to_owned(),
                Answer::Takes => "204 No Content".to_owned(),
                Answer::Refuses(code) => format!("{code} No"),
                Answer::Asks(secs) => format!("429 Later\r\nRetry-After: {secs}"),
                Answer::Sends(addr) => {
                    format!("307 There\r\nLocation: http://{addr}/loki/api/v1/push")
                }
                Answer::Raves => return self.rave(reader.get_mut()),
                Answer::Hangs => String::new(),
            };
            let lines = lines.map(|lines| if taken { lines } else { Vec::new() });
            // Nobody may be looking any more.
            let _ = self.requests.send((Instant::now(), lines));
            if told.is_empty() {
                // Until the other side goes.
                let _ = reader.read(&mut [0]);
                return;
            }
            let length = if told.starts_with("204") {
                ""
            } else {
                "Content-Length: 0\r\n"
            };
            let answer = format!("HTTP/1.1 {told}\r\n{length}\r\n");
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Refuses at length; it is wrong to read it all.
    fn rave(&self, stream: &mut TcpStream) {
        let words = vec![b'x'; 1 << 16];
        let length = MOST_READ * words.len();
        let head = format!("HTTP/1.1 400 No\r\nContent-Length: {length}\r\n\r\n");
        let begun = stream.write_all(head.as_bytes());
        let all = begun.and_then(|()| (0..MOST_READ).try_for_each(|_| stream.write_all(&words)));
        if all.is_ok() {
            let wrong = Err("it was read to its end".to_owned());
            let _ = self.requests.send((Instant::now(), wrong));
        }
    }

    /// What is published of a push, strictly.
    fn check(&self, head: &[String], body: &[u8], taken: bool) -> Result<Vec<Line>, String> {
        let first = head.first().map(String::as_str);
        if first != Some("POST /loki/api/v1/push HTTP/1.1") {
            return Err(format!("{head:?}"));
        }
        if !head
            .iter()
            .any(|line| line == "content-type: application/json")
        {
            return Err(format!("{head:?}"));
        }
        let push: Push = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let count: usize = push.streams.iter().map(|stream| stream.values.len()).sum();
        if count == 0 || count > 1000 || body.len() > 2 << 20 {
            return Err(format!("{count} lines, {} bytes", body.len()));
        }
        let mut lines = Vec::new();
        let mut last = self.last.lock().unwrap().clone();
        for Stream { stream, values } in push.streams {
            let names: Vec<_> = stream.keys().map(String::as_str).collect();
            let known = ["level", "machine", "role", "service"];
            if names != known && names != ["level", "service"] {
                return Err(format!("labels {stream:?}"));
            }
            for (at, text) in values {
                let at: u64 = at.parse().map_err(|_wrong| at)?;
                let before = last.insert(stream.clone(), at);
                if before.is_some_and(|before| before >= at) {
                    return Err(format!("{at} after {before:?} in {stream:?}"));
                }
                let labels = stream.clone();
                lines.push(Line { labels, text });
            }
        }
        if taken {
            *self.last.lock().unwrap() = last;
        }
        Ok(lines)
    }
}

/// The head and the body of the next request.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut lengths = head
        .iter()
        .filter_map(|line| line.strip_prefix("content-length: "));
    let length = lengths.next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Two nodes that log to standard error as JSON what they send to the Loki at `addr`.
fn pair(addr: SocketAddr, flags: &[&str]) -> Logged {
    let args: Vec<_> = PAIR.iter().chain(flags).copied().collect();
    let environment = [("RUST_LOG", "info"), ("AM_LOG_FORMAT", "json")];
    Logged::start(
        command(&args)
            .envs(environment)
            .env("LOKI_ADDR", addr.to_string()),
    )
}

/// What of a logged line a Loki gets, but for lines on Loki itself.
fn as_sent(line: &str) -> Option<String> {
    let mut fields = object(line);
    let about_loki = fields["target"].as_str()?.contains("::loki");
    for label in ["timestamp", "level", "role"] {
        fields.remove(label);
    }
    (!about_loki).then(|| Value::Object(fields).to_string())
}

/// Lines as sets: what was logged has to be there, whatever the order of fields.
#[track_caller]
fn assert_all_there(logged: &[String], sent: &[Line]) {
    let logged: BTreeSet<_> = logged.iter().filter_map(|line| as_sent(line)).collect();
    let sent = sent.iter().map(|line| Value::Object(object(&line.text)));
    let sent: BTreeSet<_> = sent.map(|line| line.to_string()).collect();
    assert!(!logged.is_empty());
    let missing: Vec<_> = logged.difference(&sent).collect();
    assert!(missing.is_empty(), "{missing:#?} of {sent:#?}");
}

fn follows(line: &Line) -> bool {
    line.text.contains("\"message\":\"following\"")
}

#[test]
fn lines_arrive_with_their_four_labels() {
    for processes in [&[][..], &["--processes"]] {
        let loki = Loki::start(&[]);
        let mut tree = pair(loki.addr, processes);
        let mut lines = loki.lines_until(follows);
        let following = lines.iter().find(|line| follows(line)).unwrap();
        let labels = [
            ("level", "info"),
            ("machine", "rep-1"),
            ("role", "replicant"),
            ("service", "flights"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(following.labels, BTreeMap::from(labels));
        assert_eq!(object(&following.text)["node"], "rep-1");
        tree.line("2 nodes are ready");
        let (status, logged) = tree.interrupt();
        assert!(status.success(), "{logged:#?}");
        lines.extend(loki.rest());
        assert_all_there(&logged, &lines);
    }
}

/// With the filter that a terminal has by default.
#[tokio::test]
async fn replicas_send_what_their_states_do_and_the_terminal_stays_quiet() {
    let loki = Loki::start(&[]);
    let mut tree = Logged::start(command(&PAIR).env("LOKI_ADDR", loki.addr.to_string()));
    let line = tree.line("rep-1: http://");
    let addr = line
        .trim_start_matches("rep-1: http://")
        .trim_end_matches('/');
    let ended = crate::support::run(&["mutate", "remove", "Ready", "--node", addr]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let of = |line: &Line, machine: &str| {
        line.labels.get("machine").map(String::as_str) == Some(machine)
            && object(&line.text)
                .get("removed")
                .is_some_and(|removed| removed == "Ready")
    };
    // The sides of a link send what they have at the same time, in whatever order.
    let mut lines = loki.lines_until(|line| of(line, "rep-1"));
    if !lines.iter().any(|line| of(line, "root")) {
        lines.extend(loki.lines_until(|line| of(line, "root")));
    }
    let at = |machine: &str| {
        let line = lines.iter().find(|line| of(line, machine)).unwrap();
        let fields = object(&line.text);
        assert_eq!(fields["target"], "machine::state");
        assert_eq!(line.labels["level"], "info");
        fields["position"].clone()
    };
    assert_eq!(at("root"), at("rep-1"));
    let exported = machine_node::client::get(addr, "/metrics", "text/plain").await;
    let exported = String::from_utf8(exported.unwrap().body.to_vec()).unwrap();
    let sent = exported.lines().find(|line| {
        line.starts_with("machine_exported_total{")
            && line.contains("\"loki\"")
            && line.contains("\"sent\"")
    });
    let sent: u64 = sent.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    // The last answer may not have been seen yet.
    assert!(sent <= lines.len() as u64, "{sent}");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    assert!(logged.is_empty(), "{logged:#?}");
}

#[test]
fn a_loki_that_asks_to_wait_or_fails_gets_the_lines_later() {
    let loki = Loki::start(&[Answer::Asks(1), Answer::Refuses(500), Answer::Refuses(503)]);
    let mut tree = pair(loki.addr, &[]);
    let (asked, _) = loki.request();
    let (again, _) = loki.request();
    assert!(again.duration_since(asked).as_millis() >= 950);
    let mut lines = loki.lines_until(follows);
    tree.line("Loki takes lines again");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    lines.extend(loki.rest());
    assert_all_there(&logged, &lines);
    let complaints = logged.iter().filter(|line| line.contains("for now"));
    assert_eq!(complaints.count(), 1, "{logged:#?}");
}

#[test]
fn a_batch_that_is_refused_for_good_is_told_here_and_not_sent_again() {
    let loki = Loki::start(&[Answer::Refuses(400)]);
    let mut tree = pair(loki.addr, &[]);
    let told = tree.line("refuses");
    assert!(told.contains("400"), "{told}");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    let lines: Vec<_> = loki.rest();
    assert!(!lines.iter().any(follows), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.text.contains("Loki at")));
    let refusals = logged.iter().filter(|line| line.contains("refuses"));
    assert_eq!(refusals.count(), 1, "{logged:#?}");
}

#[test]
fn a_loki_that_asks_for_no_pause_is_not_asked_without_one() {
    let loki = Loki::start(&[Answer::Asks(0), Answer::Asks(0)]);
    let _tree = pair(loki.addr, &[]);
    let times = [loki.request().0, loki.request().0, loki.request().0];
    assert!(times[1].duration_since(times[0]).as_millis() >= 450);
    assert!(times[2].duration_since(times[1]).as_millis() >= 900);
}

#[test]
fn a_loki_that_sends_us_elsewhere_refuses() {
    let other = Loki::start(&[]);
    let loki = Loki::start(&[Answer::Sends(other.addr)]);
    let mut tree = pair(loki.addr, &[]);
    let told = tree.line("refuses");
    assert!(told.contains("307"), "{told}");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    assert!(other.requests.try_recv().is_err());
}

#[test]
fn of_a_long_refusal_the_beginning_is_told() {
    let loki = Loki::start(&[Answer::Raves]);
    let mut tree = pair(loki.addr, &[]);
    let told = tree.line("refuses");
    assert!(
        told.contains("400 No xxx") || told.contains("400 Bad Request xxx"),
        "{told}"
    );
    assert!(told.len() < 1000, "{told}");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    loki.rest();
}

#[test]
fn a_loki_that_hangs_hinders_nobody() {
    let loki = Loki::start(&[Answer::Hangs; 100]);
    let args = ["tree", "--speed=max", "--http-port=0", "--rpc-port=0"];
    let mut tree = Logged::start(command(&args).env("LOKI_ADDR", format!("http://{}/", loki.addr)));
    tree.line("all 9 nodes are at ");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
}

#[test]
fn a_loki_that_comes_back_gets_what_was_logged_meanwhile() {
    let loki = Loki::start(&[]);
    let addr = loki.stop();
    let mut tree = pair(addr, &[]);
    tree.line("takes no lines for now");
    let loki = Loki::at(addr, &[]);
    let mut lines = loki.lines_until(follows);
    tree.line("Loki takes lines again");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    lines.extend(loki.rest());
    assert_all_there(&logged, &lines);
}

#[test]
fn a_loki_that_never_comes_is_told_at_the_end() {
    let loki = Loki::start(&[]);
    let mut tree = pair(loki.stop(), &[]);
    tree.line("takes no lines for now");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    let last = logged.last().unwrap();
    assert!(last.contains("lines did not reach Loki"), "{logged:#?}");
}

#[test]
fn a_name_and_a_password_are_for_loki_only() {
    let loki = Loki::start(&[Answer::Refuses(500)]);
    let url = format!("http://me:secret@{}/loki/api/v1/push", loki.addr);
    let environment = [("RUST_LOG", "info"), ("LOKI_ADDR", &url)];
    let mut tree = Logged::start(command(&PAIR).envs(environment));
    tree.line("takes no lines for now");
    loki.lines_until(follows);
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    assert!(!logged.iter().any(|line| line.contains("secret")));
}

/// Against the real one that the environment names, if it names any.
#[tokio::test]
async fn the_loki_that_is_named_has_the_lines() {
    // Without one that is named, one of the test's own.
    let own = Loki::start(&[]);
    let real = std::env::var("LOKI_ADDR").ok();
    let real = real.filter(|addr| !addr.is_empty());
    let addr = real.clone().unwrap_or_else(|| own.addr.to_string());
    let service = format!("flights-test-{}", std::process::id());
    let args: Vec<_> = PAIR
        .iter()
        .chain(&["--service", &service])
        .copied()
        .collect();
    let environment = [("RUST_LOG", "info"), ("LOKI_ADDR", &addr)];
    let mut tree = Logged::start(command(&args).envs(environment));
    tree.line("2 nodes are ready");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    assert!(
        !logged.iter().any(|line| line.contains("Loki")),
        "{logged:#?}"
    );
    if real.is_none() {
        let is_there = |line: &Line| {
            line.labels.get("service") == Some(&service)
                && line
                    .labels
                    .get("machine")
                    .is_some_and(|name| name == "rep-1")
                && line.text.contains("following")
        };
        let lines = own.rest();
        assert!(lines.iter().any(is_there), "{lines:#?}");
        return;
    }
    let addr = addr.trim_start_matches("http://").trim_end_matches('/');
    let query = format!(
        "%7Bservice%3D%22{service}%22%2Cmachine%3D%22rep-1%22%2Crole%3D%22replicant%22%7D\
         %7C%3D%22following%22"
    );
    let path = format!("/loki/api/v1/query_range?since=1h&query={query}");
    let end = Instant::now() + PATIENCE;
    loop {
        let found = crate::support::json(addr, &path).await;
        let results = found["data"]["result"].as_array().unwrap().clone();
        if !results.is_empty() {
            let line = results[0]["values"][0][1].as_str().unwrap();
            assert_eq!(object(line)["node"], "rep-1");
            return;
        }
        assert!(Instant::now() < end, "{found}");
    }
}
