//! The pages, asked for over real sockets.

use std::collections::HashMap;
use std::sync::PoisonError;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::*;
use crate::mutation::Op;

mod story;

use self::story::{HOSTILE, START, Story};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

struct Served {
    addr: SocketAddr,
    store: Arc<RwLock<Store>>,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(
            self.headers["content-type"], "application/json",
            "{}",
            self.body
        );
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Served {
    async fn of(store: Store) -> Self {
        let store = Arc::new(RwLock::new(store));
        let web = Web::bind("127.0.0.1:0", Arc::clone(&store)).await.unwrap();
        let addr = web.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(web.serve(async move {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        Self {
            addr,
            store,
            stop,
            tasks,
        }
    }

    async fn ask(&self, head: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("{head}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.parse().unwrap(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: {}", self.addr))
            .await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Finds the entry that an add of a state is.
    async fn entry_of(&self, state: &str, nth: usize) -> Value {
        let list = self.json("/api/list?machine=0&rows=100").await;
        let rows = list["rows"].as_array().unwrap().iter();
        let mut rows = rows.filter(|row| row["called"] == json!([state]) && row["cause"] == "call");
        rows.nth(nth).unwrap()["at"].clone()
    }
}

#[tokio::test]
async fn the_page_is_in_the_program_and_lets_nothing_else_in() {
    let served = Served::of(Store::default()).await;
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "<title>Debugger</title>"),
        (
            "/page.js",
            "text/javascript; charset=utf-8",
            "\"use strict\";",
        ),
        (
            "/page.css",
            "text/css; charset=utf-8",
            "prefers-color-scheme: dark",
        ),
    ] {
        let answer = served.get(path).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (200, kind)
        );
        assert!(answer.body.contains(part), "{path}");
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(
            answer.headers["cross-origin-resource-policy"],
            "same-origin"
        );
        // Nothing of it comes from elsewhere, and nothing that was told becomes markup.
        for foreign in [
            "://",
            "innerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            let allowed = foreign == "://" && answer.body.contains("http://www.w3.org/2000/svg");
            assert!(
                allowed || !answer.body.contains(foreign),
                "{path}: {foreign}"
            );
        }
    }
    let empty = served.json("/api/machines").await;
    assert_eq!(
        (&empty["machines"], &empty["first"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(served.get("/api/list?machine=0").await.status, 404);
}

#[tokio::test]
async fn it_is_for_reading_and_for_this_computer_only() {
    let served = Served::of(Story::whole().store).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/api/machines", "/api/entry?machine=0"] {
            let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0");
            let answer = served.ask(&head).await;
            assert_eq!(
                (answer.status, &*answer.headers["allow"]),
                (405, "GET, HEAD")
            );
        }
    }
    let status = async |host: &str| {
        let head = format!("GET /api/machines HTTP/1.1{host}");
        served.ask(&head).await.status
    };
    for host in [
        "localhost",
        "localhost:1",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]:6832",
        "LOCALHOST",
    ] {
        assert_eq!(status(&format!("\r\nhost: {host}")).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "127.0.0.1.evil.example:80",
    ] {
        assert_eq!(status(&format!("\r\nhost: {host}")).await, 421, "{host}");
    }
    assert_ne!(
        status("\r\nhost: localhost\r\nhost: evil.example").await,
        200
    );
    assert_ne!(status("").await, 200);
    let head = served.ask("HEAD / HTTP/1.1\r\nhost: localhost").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(served.get("/api").await.status, 404);
    assert_eq!(served.get("/page.html").await.status, 404);
}

#[tokio::test]
async fn machines_are_told_at_a_time() {
    let served = Served::of(Story::whole().store).await;
    let now = served.json("/api/machines").await;
    let [root, replica] = [0, 1].map(|place| &now["machines"][place]);
    assert_eq!(
        (&root["name"], &root["role"], &root["depth"]),
        (&json!("root"), &json!("root"), &json!(0))
    );
    assert_eq!(
        (&replica["name"], &replica["depth"]),
        (&json!("rep-1"), &json!(1))
    );
    assert_eq!(root["connection"], json!({ "state": "connected" }));
    assert_eq!((&root["errors"], &root["states"]), (&json!(1), &json!(5)));
    assert_eq!(
        (&replica["behind"], &replica["revision"]),
        (&json!(0), &root["revision"])
    );
    assert_eq!(now["first"], json!(START));
    // Between the root's first transition and the replica's step.
    let wall = START + 1_001_000;
    let then = served.json(&format!("/api/machines?wall={wall}")).await;
    assert_eq!(then["machines"][1]["revision"], json!(0));
    assert_eq!(then["machines"][1]["behind"], json!(1));
    assert_eq!(then["machines"][0]["active"], json!(1));
}

#[tokio::test]
async fn a_list_is_filtered_and_goes_on_from_the_cursor() {
    let served = Served::of(Story::whole().store).await;
    let all = served.json("/api/list?machine=0").await;
    let rows = all["rows"].as_array().unwrap();
    assert_eq!(
        (all["held"].as_u64().unwrap(), &all["shown"]),
        (rows.len() as u64, &all["held"])
    );
    assert_eq!((&all["at"], &all["next"]), (&all["last"], &Value::Null));
    let canceled: Vec<&Value> = rows.iter().filter(|row| row["accepted"] == false).collect();
    let refused = canceled[0]["at"].clone();
    let reason = canceled[0]["reason"].as_str().unwrap();
    assert!(reason.contains("Locked requires Shut"), "{reason}");
    assert_eq!(all["previous_trouble"], canceled[canceled.len() - 1]["at"]);
    let hidden = served.json("/api/list?machine=0&hide=canceled,auto").await;
    assert!(hidden["shown"].as_u64() < all["shown"].as_u64());
    assert_eq!(hidden["hidden"]["canceled"], json!(canceled.len()));
    let near = served
        .json(&format!("/api/list?machine=0&hide=canceled&at={refused}"))
        .await;
    assert_eq!((&near["place"], &near["at"]), (&Value::Null, &refused));
    assert!(
        near["previous"].as_u64() < refused.as_u64() && near["next"].as_u64() > refused.as_u64()
    );
    let few = served.json("/api/list?machine=0&rows=2&at=0").await;
    assert_eq!(
        (few["rows"].as_array().unwrap().len(), &few["next"]),
        (2, &json!(1))
    );
    let text = served.json("/api/list?machine=0&q=locked").await;
    assert!(text["shown"].as_u64() >= Some(2) && text["shown"].as_u64() < all["shown"].as_u64());
    let group = served.json("/api/list?machine=0&group=Leaf").await;
    assert!(group["shown"].as_u64() < all["shown"].as_u64());
    let line = served.json("/api/timeline?machine=0&columns=8").await;
    let sum = |name: &str| -> u64 {
        let counts = line[name].as_array().unwrap().iter();
        counts.map(|count| count.as_u64().unwrap()).sum()
    };
    assert_eq!(sum("shown"), all["held"].as_u64().unwrap());
    assert_eq!(sum("canceled"), canceled.len() as u64);
    assert_eq!(line["from"], json!(START));
    let ever = format!("/api/timeline?machine=0&columns=8&from=0&to={}", u64::MAX);
    let line = served.json(&ever).await;
    assert_eq!(line["shown"][0], all["held"], "{line}");
}

#[tokio::test]
async fn an_entry_is_told_with_steps_handlers_and_what_it_hangs_together_with() {
    let served = Served::of(Story::whole().store).await;
    let at = served.entry_of("Open", 0).await;
    let told = served.json(&format!("/api/entry?machine=0&at={at}")).await;
    assert_eq!(
        (&told["op"], &told["accepted"], &told["kind"]),
        (&json!("add"), &json!(true), &json!("transition"))
    );
    let changes = json!([
        { "state": "Open", "before": 0, "after": 1 },
        { "state": "Shut", "before": 1, "after": 2 },
        { "state": "Locked", "before": 1, "after": 2 },
    ]);
    let mut found = told["changes"].as_array().unwrap().clone();
    found.sort_by_key(|change| change["after"].as_u64());
    for change in changes.as_array().unwrap() {
        assert!(found.contains(change), "{change} in {found:?}");
    }
    let steps: Vec<&str> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["text"].as_str().unwrap())
        .collect();
    assert!(
        steps.contains(&"Open is called") && steps.contains(&"Open begins"),
        "{steps:?}"
    );
    let shut = told["steps"].as_array().unwrap().iter();
    assert!(
        shut.clone().any(|step| step["relation"] == "remove"),
        "{steps:?}"
    );
    assert_eq!(
        told["handlers"][0],
        json!({ "phase": "enter", "state": "Open", "after": 100, "took": 2500 })
    );
    assert_eq!(
        told["payloads"][0]["text"],
        json!(format!("{HOSTILE} payload"))
    );
    let effects = told["effects"].as_array().unwrap();
    let step = effects
        .iter()
        .find(|effect| effect["tie"] == "replicated")
        .unwrap();
    assert_eq!(
        (&step["machine"], &step["after"]),
        (&json!(1), &json!(2_000))
    );
    let followed = served
        .json(&format!("/api/entry?machine=1&at={}", step["from"]))
        .await;
    assert_eq!(followed["kind"], "followed");
    assert_eq!(followed["causes"][0]["machine"], json!(0));
    let lens = served.json(&format!("/api/lens?machine=0&at={at}")).await;
    let node = &lens["nodes"][0];
    assert_eq!(
        (&node["name"], &node["reached"], &node["wrong"]),
        (&json!("rep-1"), &json!(true), &json!(0))
    );
    let same = served
        .json(&format!("/api/lens?machine=1&at={}", step["from"]))
        .await;
    assert_eq!(same["root"], json!(0));
}

#[tokio::test]
async fn states_are_told_and_why_they_are_so() {
    let served = Served::of(Story::whole().store).await;
    let at = served.entry_of("Open", 0).await;
    let active = served.json(&format!("/api/states?machine=0&at={at}")).await;
    let names: Vec<&Value> = active["states"]
        .as_array()
        .unwrap()
        .iter()
        .map(|state| &state["name"])
        .collect();
    assert_eq!(names, [&json!("Open")]);
    assert_eq!(active["groups"][0]["name"], json!("Leaf"));
    let found = served
        .json(&format!("/api/states?machine=0&at={at}&q=LOCK"))
        .await;
    assert_eq!(
        found["states"],
        json!([{ "name": "Locked", "tick": 2, "active": false }])
    );
    let why = served
        .json(&format!("/api/why?machine=0&at={at}&state=Locked"))
        .await;
    assert_eq!(why["missing"], json!(["Shut"]));
    assert!(why["previous"].as_u64() < at.as_u64());
    let wrong = served.get("/api/why?machine=0&state=Lockd").await;
    assert_eq!(
        wrong.json()["error"],
        "unknown state `Lockd`, did you mean `Locked`?"
    );
    let log = served.json("/api/log?machine=0").await;
    assert_eq!(
        log["lines"][0]["text"],
        json!(format!("a door is {HOSTILE}"))
    );
    assert_eq!(
        served.json("/api/log?machine=0&level=1").await["lines"],
        json!([])
    );
}

#[tokio::test]
async fn pictures_are_pictures_and_names_in_them_are_text() {
    let served = Served::of(Story::whole().store).await;
    let at = served.entry_of(HOSTILE, 0).await;
    for path in [
        format!("/graph.svg?machine=0&at={at}"),
        format!("/graph.svg?machine=0&at={at}&group=Leaf"),
        format!("/graph.svg?machine=0&at={at}&state=Locked"),
        format!("/sequence.svg?machine=0&at={at}"),
    ] {
        let answer = served.get(&path).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (200, "image/svg+xml"),
            "{path}: {}",
            answer.body
        );
        roxmltree::Document::parse(&answer.body).unwrap();
        assert!(!answer.body.contains("<img"), "{}", answer.body);
        assert!(answer.headers["content-security-policy"].starts_with("default-src 'none'"));
    }
    for (path, part) in [
        ("/graph.svg?machine=0&group=Leav", "did you mean `Leaf`?"),
        (
            "/graph.svg?machine=0&only=flight=3",
            "unknown loop variable",
        ),
        ("/sequence.svg?machine=1", "no transition"),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(
            answer.json()["error"].as_str().unwrap().contains(part),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_told() {
    let served = Served::of(Story::whole().store).await;
    let long = format!("/api/list?machine=0&q={}", "x".repeat(300));
    for (path, status, part) in [
        ("/api/list", 400, "`machine` is missing"),
        ("/api/list?machine=x", 400, "`machine` is a number"),
        ("/api/list?machine=9", 404, "no such machine"),
        ("/api/list?machine=0&machine=1", 400, "given twice"),
        ("/api/list?machine=0&hide=all", 400, "`hide` is a list of"),
        ("/api/list?machine=0&group=None", 400, "no such group"),
        ("/api/list?machine=0&what=1", 400, "an unknown parameter"),
        (
            "/api/entry?machine=0&at=99999",
            404,
            "entry 99999 is not held",
        ),
        (&long, 400, "`q` is longer than"),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{path}: {error}");
    }
}

#[tokio::test]
async fn several_look_while_more_is_told_each_with_a_cursor_of_their_own() {
    let mut story = Story::whole();
    let served = Served::of(std::mem::take(&mut story.store)).await;
    let version = served.json("/api/machines").await["version"].clone();
    let (first, second) = tokio::join!(
        served.json("/api/list?machine=0&at=1&rows=3"),
        served.json("/api/list?machine=0&at=4&rows=3"),
    );
    assert_eq!((&first["at"], &second["at"]), (&json!(1), &json!(4)));
    {
        let mut held = served.store.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *held, &mut story.store);
        story.call(Op::Remove, "Open");
        std::mem::swap(&mut *held, &mut story.store);
    }
    assert_ne!(served.json("/api/machines").await["version"], version);
    let again = served.json("/api/list?machine=0&at=1&rows=3").await;
    assert_eq!(again["rows"], first["rows"]);
    assert!(again["held"].as_u64() > first["held"].as_u64());
    let live = served.json("/api/list?machine=0&rows=3").await;
    assert_eq!(live["at"], live["last"]);
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let mut served = Served::of(Store::default()).await;
    let idle = TcpStream::connect(served.addr).await.unwrap();
    assert_eq!(served.get("/").await.status, 200);
    drop(served.stop.take());
    timeout(PATIENCE, served.tasks.join_next()).await.unwrap();
    drop(idle);
    assert!(TcpStream::connect(served.addr).await.is_err());
}
