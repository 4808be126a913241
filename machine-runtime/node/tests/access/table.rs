//! Every role, and every path and call that there is.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use machine_node::access::Access;
use machine_runtime::replica::Token;
use machine_runtime::replica::tamper::{self, Asks, PREFIX};
use machine_runtime::{DynState, Op};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{File, PATIENCE, Reader, Root, bearer, client, denied, schema};

/// What is asked for over HTTP, who asks, and the status of the answer. `anyone` is who shows nothing where that
/// is for everybody to read.
const READERS: &str = "
path                 none unknown anyone known observe follow mutate lamp-1 admin
GET /                 401     401    200   403     200    403    403    403   200
HEAD /                401     401    200   403     200    403    403    403   200
GET /v1/states        401     401    200   403     200    403    403    403   200
GET /v1/states/NAME   401     401    200   403     200    403    403    403   200
GET /v1/schema        401     401    200   403     200    403    403    403   200
GET /v1/graph         401     401    200   403     200    403    403    403   200
GET /v1/events        401     401    200   403     200    403    403    403   200
GET /v1/mutations     401     401    401   403     403    403    405    405   405
ADD Lamp1             401     401    401   403     403    403    200    200   200
ADD Lamp2             401     401    401   403     403    403    200    403   200
SET Lamp1             401     401    401   403     403    403    200    403   200
GET /v1/links         401     401    401   403     403    403    403    403   200
GET /healthz          200     200    200   200     200    200    200    200   200
GET /readyz           200     200    200   200     200    200    200    200   200
GET /metrics          401     401    200   403     200    403    403    403   200
GET /nope             401     401    404   403     404    404    404    404   404
DELETE /              401     401    405   403     405    403    403    403   405
";

/// What is asked over a link, by whom, and what comes of it: `hello` alone, the others behind it. `-` is asked
/// by nobody.
const FOLLOWERS: &str = "
call        none          unknown       observe      mutate       follow            all     lamp-1            admin
hello       Denied(false) Denied(false) Denied(true) Denied(true) welcome           welcome welcome           welcome
show        -             false         false        false        true              true    true              true
watch       closing       closing       closing      closing      news              news    news              news
schema      no-states     no-states     no-states    no-states    4-states          4-states 4-states         4-states
probe       nothing       nothing       nothing      nothing      told              told    told              told
write-1     Refused       Refused       Refused      Refused      Forbidden-1       done    done              done
write-2     Refused       Refused       Refused      Refused      Forbidden-2       done    Forbidden-2       done
set-1       Refused       Refused       Refused      Refused      Forbidden-1       done    Forbidden-0       done
mutate-1    Refused       Refused       Refused      Refused      Refused           done    done              done
mutate-2    Refused       Refused       Refused      Refused      Refused           done    Refused           done
";

/// A table's rows: what is asked, and what is expected by who asks.
fn rows(table: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut lines = table.trim().lines();
    let columns: Vec<_> = lines.next().unwrap().split_whitespace().skip(1).collect();
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (asked, cells) = words.split_at(words.len() - columns.len());
        let cells = columns.iter().zip(cells);
        let cells = cells.map(|(who, cell)| ((*who).to_owned(), (*cell).to_owned()));
        (asked.join(" "), cells.collect())
    };
    lines.map(row).collect()
}

/// Everybody, with their tokens; and the file that knows all but one.
fn everybody() -> (BTreeMap<&'static str, Token>, String) {
    let mut tokens = BTreeMap::new();
    let mut file = String::new();
    for (name, roles) in [
        ("known", "[]"),
        ("observe", "[\"observe\"]"),
        ("follow", "[\"follow\"]"),
        ("mutate", "[\"mutate\"]"),
        ("all", "[\"follow\", \"mutate\"]"),
        ("admin", "[\"admin\"]"),
    ] {
        let (token, entry) = client(name, roles);
        tokens.insert(name, token);
        file += &entry;
    }
    let (token, entry) = client("lamp-1", "[\"follow\", \"mutate\"]\nstates = \"Lamp1\"");
    tokens.insert("lamp-1", token);
    file += &entry;
    tokens.insert("unknown", client("unknown", "[]").0);
    (tokens, file)
}

#[tokio::test]
async fn every_role_asks_for_every_path() {
    let (tokens, text) = everybody();
    let file = File::new("table", &text);
    let root = Root::start(Access::load(file.path(), &schema()).unwrap(), |_| {}).await;
    let text = format!("[anonymous]\nroles = [\"observe\"]\n{text}");
    let open_file = File::new("table-anyone", &text);
    let open = Root::start(Access::load(open_file.path(), &schema()).unwrap(), |_| {}).await;
    let mut expected = BTreeMap::new();
    for (asked, cells) in rows(READERS) {
        for (who, cell) in cells {
            let root = if who == "anyone" { &open } else { &root };
            let token = tokens.get(who.as_str()).map(bearer);
            let (method, path, body) = request(&asked);
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(
                token
                    .as_ref()
                    .map(|token| ("authorization", token.as_str())),
            );
            let mut reader = Reader::new(root.http).await;
            let response = reader.send(&method, &path, &headers, &body).await;
            let status = response.status().as_u16();
            assert_eq!(status.to_string(), cell, "{asked} by {who}");
            let asks_for_token = response.headers().contains_key("www-authenticate");
            assert_eq!(asks_for_token, status == 401, "{asked} by {who}");
            let is_denial = [401, 403].contains(&status);
            let tells = response.headers().contains_key("machine-position");
            assert!(
                !(is_denial && tells),
                "{asked} tells {who} where the node is"
            );
            if method != Method::HEAD && is_denial {
                let text = super::text(response).await;
                let code = if status == 401 {
                    "unauthenticated"
                } else {
                    "forbidden"
                };
                assert!(text.contains(&format!("\"code\":\"{code}\"")), "{text}");
                let role = role(&asked);
                let masked = who == "lamp-1" && role == "mutate";
                assert!(
                    text.contains(if masked {
                        "lamp-1 may not change"
                    } else {
                        role
                    }),
                    "{text}"
                );
                if who != "anyone" {
                    let why = match status {
                        401 => "unknown",
                        _ if masked => "state",
                        _ => "not_allowed",
                    };
                    *expected.entry((role, why)).or_insert(0) += 1;
                }
            } else if is_denial {
                let why = if status == 401 {
                    "unknown"
                } else {
                    "not_allowed"
                };
                if who != "anyone" {
                    *expected.entry((role(&asked), why)).or_insert(0) += 1;
                }
            }
        }
    }
    for what in ["observe", "follow", "mutate", "admin"] {
        for why in ["unknown", "not_allowed", "state"] {
            let count = expected.get(&(what, why)).copied().unwrap_or(0);
            assert_eq!(denied(&root, what, why), count, "{what} {why}");
        }
    }
    // Whoever adds a path says here who may ask for it.
    let token = bearer(&tokens["admin"]);
    let missing = super::get(root.http, "/nope", &[("authorization", &token)]).await;
    let body: serde_json::Value = serde_json::from_str(&super::text(missing).await).unwrap();
    let asked: Vec<_> = rows(READERS).into_iter().map(|(asked, _)| asked).collect();
    for path in body["error"]["allowed"].as_array().unwrap() {
        let row = format!("GET {}", path.as_str().unwrap());
        assert!(asked.contains(&row), "{row} is in no row");
    }
}

/// The role that a row takes.
fn role(asked: &str) -> &'static str {
    match asked {
        "GET /v1/mutations" => "mutate",
        "GET /v1/links" => "admin",
        _ if asked.starts_with("ADD") || asked.starts_with("SET") => "mutate",
        _ => "observe",
    }
}

/// The method, the path and the body of a row.
fn request(asked: &str) -> (Method, String, String) {
    let (verb, rest) = asked.split_once(' ').unwrap();
    match verb {
        "ADD" | "SET" => {
            let op = verb.to_lowercase();
            let body = format!("{{\"op\":\"{op}\",\"states\":[\"{rest}\"]}}");
            (Method::POST, "/v1/mutations".to_owned(), body)
        }
        _ => (
            verb.parse().unwrap(),
            rest.replace("NAME", "Lamp1"),
            String::new(),
        ),
    }
}

#[tokio::test]
async fn every_role_makes_every_call_of_a_follower() {
    let (tokens, text) = everybody();
    let file = File::new("calls", &text);
    let root = Root::start(Access::load(file.path(), &schema()).unwrap(), |_| {}).await;
    for (call, cells) in rows(FOLLOWERS) {
        for (who, cell) in cells {
            let token = tokens
                .get(who.as_str())
                .map(|token| token.secret().to_owned());
            let mut link = Link::new(&root, 2).await;
            if call != "show" && call != "hello" && call != "probe" {
                link.hello(token.clone()).await;
            }
            let verdict = match (call.as_str(), token) {
                ("hello", token) => link.hello(token).await,
                ("show", None) => "-".to_owned(),
                ("show", Some(token)) => link.ask(Asks::Show(token)).await,
                ("watch", _) => {
                    let position = root.handle.view().position().unwrap();
                    link.ask(Asks::Watch(position)).await
                }
                ("schema", _) => link.ask(Asks::Schema).await,
                ("probe", token) => {
                    if let Some(token) = token {
                        link.ask(Asks::Show(token)).await;
                    }
                    link.ask(Asks::Probe).await
                }
                (write, _) => {
                    let (verb, state) = write.split_once('-').unwrap();
                    let called = vec![state.parse().unwrap()];
                    link.ask(match verb {
                        "write" => Asks::Write(Op::Add, called),
                        "set" => Asks::Write(Op::Set, called),
                        _ => Asks::Mutate(Op::Add, called),
                    })
                    .await
                }
            };
            assert_eq!(verdict, cell, "{call} by {who}");
        }
    }
    // By one who is unknown and one who shows nothing: a hello in each row but two; the one's token, shown twice; and
    // a probe of all who are not let in.
    assert_eq!(denied(&root, "follow", "unknown"), 2 * 8 + 2 + 4);
    // By two who are known and may not follow: a hello in each row but two, and a token twice.
    assert_eq!(denied(&root, "follow", "not_allowed"), 2 * 8 + 2 * 2);
    // Who follows and may not write, and who may write of lamp 1.
    assert_eq!(denied(&root, "mutate", "not_allowed"), 5);
    assert_eq!(denied(&root, "mutate", "state"), 3);
}

#[test]
fn there_is_no_call_without_a_row() {
    let rows = rows(FOLLOWERS);
    let called = rows.iter().map(|(call, _)| match call.split('-').next() {
        // Both are writes.
        Some("set") => "write",
        verb => verb.unwrap(),
    });
    let called: BTreeSet<_> = called.collect();
    // A probe says nothing but its number, which is its last byte. What others say can be all zeros.
    let probe = tamper::ask(1, Asks::Probe);
    let known = (0..=u8::MAX >> 1).filter(|number| {
        let mut frame = probe.clone();
        *frame.last_mut().unwrap() = *number;
        frame.extend([0; 64]);
        tamper::read_request(&frame).is_some()
    });
    let known: Vec<_> = known.collect();
    let all: Vec<_> = (0..).zip(&called).map(|(number, _)| number).collect();
    assert_eq!(known, all, "{called:?}");
}

#[tokio::test]
async fn who_has_not_said_hello_is_told_nothing() {
    let (tokens, text) = everybody();
    let file = File::new("silent", &text);
    let root = Root::start(Access::load(file.path(), &schema()).unwrap(), |_| {}).await;
    let before = root.handle.view().position().unwrap();
    let everything: [(Asks, &str); 6] = [
        (Asks::Watch(before), "closing"),
        (Asks::Schema, "no-states"),
        (Asks::Mutate(Op::Add, vec![1]), "Refused"),
        (Asks::Write(Op::Add, vec![1]), "Refused"),
        (Asks::Write(Op::Set, vec![]), "Refused"),
        (Asks::Probe, "nothing"),
    ];
    let mut silent = Link::new(&root, 2).await;
    // One who was admitted and then shows something else has nothing left of that.
    let mut fickle = Link::new(&root, 2).await;
    let admin = tokens["admin"].secret().to_owned();
    assert_eq!(fickle.hello(Some(admin)).await, "welcome");
    let unknown = tokens["unknown"].secret().to_owned();
    assert_eq!(fickle.hello(Some(unknown)).await, "Denied(false)");
    for (asks, verdict) in everything {
        assert_eq!(silent.ask(asks.clone()).await, verdict, "{asks:?}");
        assert_eq!(fickle.ask(asks.clone()).await, verdict, "{asks:?}");
    }
    assert_eq!(root.handle.view().position(), Some(before));
    // Version 1 has no token, and no word for this.
    assert_eq!(Link::new(&root, 1).await.hello(None).await, "Closing");
    assert!(!root.handle.view().is_active(DynState(1)));
}

/// A link on which anything can be asked in any order.
struct Link {
    stream: TcpStream,
    protocol: u16,
    id: u64,
}

impl Link {
    async fn new(root: &Root, protocol: u16) -> Self {
        let stream = TcpStream::connect(root.rpc).await.unwrap();
        Self {
            stream,
            protocol,
            id: u64::from(fastrand::u32(..)) << 8,
        }
    }

    async fn hello(&mut self, token: Option<String>) -> String {
        let (protocol, fingerprint) = (self.protocol, schema().fingerprint().0);
        self.ask(Asks::Hello {
            protocol,
            fingerprint,
            token,
        })
        .await
    }

    /// What comes of a question, in a word.
    async fn ask(&mut self, asks: Asks) -> String {
        self.id += 1;
        let frame = tamper::ask(self.id, asks);
        let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
        let framed = [&len[4 - PREFIX..], &frame[..]].concat();
        self.stream.write_all(&framed).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, async {
            let mut prefix = [0; PREFIX];
            self.stream.read_exact(&mut prefix).await.unwrap();
            let len = prefix
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            let mut frame = vec![0; len];
            self.stream.read_exact(&mut frame).await.unwrap();
            frame
        });
        let answer = tamper::read_answer(&answer.await.unwrap(), self.protocol).unwrap();
        assert_eq!(answer.id(), self.id);
        let verdict = answer.verdict();
        let verdict = verdict
            .strip_prefix("Forbidden { state: ")
            .map_or(verdict.clone(), |state| {
                format!("Forbidden-{}", state.trim_end_matches(" }"))
            });
        verdict.replace("0 states", "no-states").replace(' ', "-")
    }
}
