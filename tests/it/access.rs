//! Who may do what, of the program: files, tokens, and what must be nowhere.
//!
//! Every role and every path is a table of the package of nodes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::{Ended, Folder, PATIENCE, Program, command, run, signal};

// What is shown to nodes is in nothing that they show.
mod secrets;

/// Makes a token; returns it, and what stands in a file of who may do what for it, with these roles.
fn token(name: &str, roles: &str) -> (String, String) {
    let Ended {
        code,
        stdout,
        stderr,
    } = run(&["token", name]);
    assert_eq!(code, Some(0), "{stderr}");
    let entry = stderr.replace("[\"observe\"]", roles);
    (stdout.trim_end().to_owned(), entry)
}

/// The head and the body of an answer.
fn ask(addr: &str, request: &str, headers: &[String], body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers = headers
        .iter()
        .fold(String::new(), |all, header| all + header + "\r\n");
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
         content-type: application/json\r\n{headers}\r\n{body}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The status of a GET by who has this token, or none.
fn status(addr: &str, path: &str, token: Option<&str>) -> u16 {
    let header = token.map(bearer);
    let (head, _) = ask(addr, &format!("GET {path}"), header.as_slice(), "");
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// Looks again and again until it is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "not so: {what}");
        std::thread::yield_now();
    }
}

/// A node, where it is, and the file with what it logs.
struct Node {
    program: Program,
    rpc: String,
    http: String,
    log: PathBuf,
}

impl Node {
    fn start(folder: &Folder, name: &str, args: &[&str]) -> Self {
        let log = folder.path().join(format!("{name}.log"));
        let usual = ["node", "--name", name, "--addr=:0", "--http-addr=:0"];
        let mut command = command(&[&usual[..], args].concat());
        command.env("RUST_LOG", "trace");
        command.stderr(std::fs::File::create(&log).unwrap());
        let program = Program::start_command(&mut command);
        let rpc = program.line_after(&format!("{name}: tarpc "));
        let http = program.line_after(&format!("{name}: http"));
        let http = http.trim_start_matches('s').trim_start_matches("://");
        let http = http.trim_end_matches('/').to_owned();
        Self {
            program,
            rpc,
            http,
            log,
        }
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

fn write(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_token_is_printed_or_kept_from_others_and_its_hash_is_told() {
    let (first, entry) = token("tow\"er", "[\"mutate\"]");
    assert!(first.starts_with("fl_") && first.len() == 46, "{first}");
    assert!(
        entry.contains("name = \"tow\\\"er\"\nroles = [\"mutate\"]\ntokens = [\"sha256:"),
        "{entry}"
    );
    assert!(!entry.contains(&first[3..]), "{entry}");
    let folder = Folder::new("token");
    let file = folder.path().join("tower.token");
    let out = file.to_str().unwrap();
    let made = run(&["token", "tower", "--out", out]);
    assert_eq!((made.code, &*made.stdout), (Some(0), ""));
    assert_eq!(mode(&file), 0o600);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.len() == 47 && !made.stderr.contains(&kept[3..46]));
    let again = run(&["token", "tower", "--out", out]);
    assert_eq!(again.code, Some(1));
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        kept,
        "a token is not overwritten"
    );
    for name in ["", "anonymous", "a\nb"] {
        assert_eq!(run(&["token", name]).code, Some(2), "{name:?}");
    }
}

#[test]
fn what_is_wrong_in_a_file_is_said_before_anything_is_started() {
    let folder = Folder::new("wrong-access");
    let (secret, entry) = token("a", "[\"obsrve\"]");
    let file = write(&folder, "access.toml", &entry);
    let start = |args: &[&str]| {
        let ended = run(&[&["node", "--addr=:0"], args].concat());
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(!ended.stderr.contains(&secret[3..]));
        ended.stderr
    };
    let said = start(&["--access", &file]);
    assert!(
        said.contains(&format!(
            "--access: {file}:3:10: unknown role `obsrve`, did you mean `observe`?"
        )),
        "{said}"
    );
    std::fs::write(
        &file,
        format!("[[client]]\nname = \"a\"\nroles = []\ntokens = [\"{secret}\"]"),
    )
    .unwrap();
    let said = start(&["--access", &file]);
    assert!(
        said.contains(":4:11: this is a token, where its hash belongs"),
        "{said}"
    );
    let said = start(&["--access", "/nowhere/access.toml"]);
    assert!(said.contains("cannot read /nowhere/access.toml"), "{said}");
    let said = start(&["--token-file", &file]);
    assert!(said.contains("has no token in it"), "{said}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let said = start(&["--access", &file]);
    assert!(said.contains("chmod o-w"), "{said}");
    let said = start(&["--cors-origin", "*"]);
    assert!(said.contains("name those that are"), "{said}");
}

#[test]
fn a_file_that_changes_holds_and_one_that_breaks_does_not() {
    let folder = Folder::new("access-changes");
    let (first, first_entry) = token("reader", "[\"observe\"]");
    let (second, second_entry) = token("reader", "[\"observe\"]");
    let file = write(&folder, "access.toml", &first_entry);
    let node = Node::start(&folder, "root", &["--access", &file]);
    assert_eq!(status(&node.http, "/", Some(&first)), 200);
    assert_eq!(status(&node.http, "/", Some(&second)), 401);
    assert_eq!(status(&node.http, "/", None), 401);
    write(&folder, "access.toml", "[[client]]\nname = 1\n");
    signal("HUP", node.program.pid());
    until("the broken file is told", || {
        node.logged().contains("access.toml:2:8: ")
    });
    assert_eq!(
        status(&node.http, "/", Some(&first)),
        200,
        "what was before holds"
    );
    write(&folder, "access.toml", &second_entry);
    until("the next file holds", || {
        status(&node.http, "/", Some(&second)) == 200
    });
    assert_eq!(status(&node.http, "/", Some(&first)), 401);
    let denied = "denied\"";
    let lines = node.logged().matches(denied).count();
    assert!(lines <= 11, "{lines} lines of denials");
}

#[test]
fn a_tree_follows_with_its_token_and_writes_within_what_each_may() {
    let folder = Folder::new("access-tree");
    let (rep, rep_entry) = token(
        "rep",
        "[\"follow\", \"mutate\"]\nstates = \"Flight*Delayed\"",
    );
    let (tower, tower_entry) = token(
        "tower",
        "[\"mutate\"]\nstates = \"Flight1Delayed,Flight1Arrived\"",
    );
    let (boss, boss_entry) = token("boss", "[\"admin\"]");
    let (stranger, _) = token("stranger", "[]");
    let file = write(
        &folder,
        "access.toml",
        &[rep_entry, tower_entry, boss_entry].concat(),
    );
    let root = Node::start(&folder, "root", &["--access", &file]);
    let kept = write(&folder, "rep.token", &rep);
    let parent = format!("--parent={}", root.rpc);
    let node = Node::start(
        &folder,
        "rep-1",
        &["--access", &file, "--token-file", &kept, &parent],
    );
    let wrong = write(&folder, "wrong.token", &stranger);
    let other = Node::start(&folder, "rep-2", &["--token-file", &wrong, &parent]);
    until("the replicant shows something", || {
        status(&node.http, "/", Some(&boss)) == 200
    });
    let post = |token: &str, state: &str| {
        let body = format!("{{\"op\":\"add\",\"states\":[\"{state}\"]}}");
        ask(&node.http, "POST /v1/mutations", &[bearer(token)], &body)
    };
    let (head, body) = post(&tower, "Flight1Delayed");
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
    let (head, body) = post(&tower, "Flight2Delayed");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(
        body.contains("tower may not change Flight2Delayed"),
        "{body}"
    );
    // The entry lets it in, but the root holds the link against what the link may.
    let (head, body) = post(&tower, "Flight1Arrived");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(
        body.contains("does not let this one change Flight1Arrived"),
        "{body}"
    );
    assert!(body.contains("\"may_have_run\":false"), "{body}");
    // The root says whom it knows the follower as, and the other one why it is none.
    let (_, links) = ask(&root.http, "GET /v1/links", &[bearer(&boss)], "");
    assert!(
        links.contains("\"name\":\"rep-1\",\"who\":\"rep\""),
        "{links}"
    );
    until("the other is refused", || {
        let (_, ready) = ask(&other.http, "GET /readyz", &[], "");
        ready.contains("does not admit this node")
    });
}
