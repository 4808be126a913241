//! No secret is in what a node prints, logs, answers, or is started with.

use std::path::Path;

use crate::support::{Folder, Program, command};

use super::{Node, ask, bearer, status, token, until, write};

/// Everything that somebody could have shown.
struct Secrets(Vec<String>);

impl Secrets {
    /// Looks for each of them, and for as much of each as would be of use.
    fn assert_none_in(&self, what: &str, text: &str) {
        for secret in &self.0 {
            let part = &secret[3..secret.len() - 8];
            let place = text.find(part);
            assert!(
                place.is_none(),
                "a secret is in {what}: {}",
                line_at(text, place.unwrap_or(0))
            );
        }
    }

    fn assert_none_in_process(&self, pid: &str) {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            self.assert_none_in(
                &format!("{file} of {pid}"),
                &String::from_utf8_lossy(&bytes),
            );
        }
    }
}

fn line_at(text: &str, place: usize) -> &str {
    let start = text[..place].rfind('\n').map_or(0, |end| end + 1);
    text[start..].lines().next().unwrap_or_default()
}

/// The processes that a process has started, as it is called.
fn children(pid: u32) -> Vec<String> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let mut found: Vec<String> = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
    {
        let children = std::fs::read_to_string(task.path().join("children"));
        let children = children.unwrap_or_default();
        found.extend(children.split_whitespace().map(str::to_owned));
    }
    assert!(
        Path::new(&file).exists(),
        "this system does not tell children"
    );
    found
}

/// Asks a node for everything, with right tokens, wrong ones, and ones in wrong places; what it answers.
fn ask_all(addr: &str, secrets: &Secrets) -> String {
    let mut all = String::new();
    for secret in &secrets.0 {
        let basic = format!("authorization: Basic {secret}");
        let odd = format!("authorization: Bearer {secret} {secret}");
        let name = format!("{secret}: x");
        for headers in [
            vec![bearer(secret)],
            vec![basic],
            vec![odd],
            vec![bearer(secret); 2],
            vec![name],
        ] {
            for path in [
                "/",
                "/v1/states",
                "/v1/links",
                "/metrics",
                "/nope",
                "/readyz",
            ] {
                let (head, body) = ask(addr, &format!("GET {path}"), &headers, "");
                all += &(head + &body);
            }
        }
        for request in [
            format!("GET /?access_token={secret}"),
            format!("GET /v1/states?x={secret}"),
            format!("GET /v1/states/{secret}"),
        ] {
            let (head, body) = ask(addr, &request, &[], "");
            assert!(head.starts_with("HTTP/1.1 400"), "{head}");
            all += &(head + &body);
        }
        let body = "{\"op\":\"add\",\"states\":[\"Flight1Delayed\"]}";
        let (head, body) = ask(addr, "POST /v1/mutations", &[bearer(secret)], body);
        all += &(head + &body);
    }
    all
}

#[test]
fn no_secret_is_in_what_nodes_say_of_themselves() {
    let folder = Folder::new("secrets");
    let (rep, rep_entry) = token("rep", "[\"follow\", \"mutate\", \"observe\"]");
    let (boss, boss_entry) = token("boss", "[\"admin\"]");
    let (unknown, _) = token("unknown", "[]");
    let (stranger, _) = token("stranger", "[]");
    let secrets = Secrets(vec![rep.clone(), boss.clone(), unknown, stranger.clone()]);
    let file = write(&folder, "access.toml", &(rep_entry + &boss_entry));
    let root = Node::start(&folder, "root", &["--access", &file]);
    let parent = format!("--parent={}", root.rpc);
    let kept = write(&folder, "rep.token", &rep);
    let wrong = write(&folder, "stranger.token", &stranger);
    let node = Node::start(
        &folder,
        "rep-1",
        &["--access", &file, "--token-file", &kept, &parent],
    );
    let denied = Node::start(
        &folder,
        "rep-2",
        &["--access", &file, "--token-file", &wrong, &parent],
    );
    until("the replicant shows something", || {
        status(&node.http, "/", Some(&boss)) == 200
    });
    until("the other is refused", || {
        denied.logged().contains("does not admit this node")
    });
    for node in [&root, &node, &denied] {
        let answers = ask_all(&node.http, &secrets);
        assert!(answers.contains("HTTP/1.1 401") && answers.contains("machine_denied_total"));
        secrets.assert_none_in("answers", &answers);
        secrets.assert_none_in_process(&node.program.pid().to_string());
        secrets.assert_none_in("standard output", &node.program.new_lines().join("\n"));
        let logged = node.logged();
        assert!(
            logged.contains("TRACE") || logged.contains("\"trace\"") || logged.contains("trace"),
            "{logged}"
        );
        secrets.assert_none_in("the log", &logged);
    }
}

#[test]
fn no_secret_is_in_the_processes_of_a_tree() {
    let folder = Folder::new("secret-tree");
    let (rep, rep_entry) = token("rep", "[\"follow\", \"mutate\", \"observe\"]");
    let (boss, boss_entry) = token("boss", "[\"admin\"]");
    // Who draws the tree's status may read.
    let anyone = "[anonymous]\nroles = [\"observe\"]\n".to_owned();
    let file = write(&folder, "access.toml", &(anyone + &rep_entry + &boss_entry));
    let kept = write(&folder, "rep.token", &rep);
    let log = folder.path().join("tree.log");
    let mut command = command(&[
        "tree",
        "--processes",
        "--fanout=1",
        "--rpc-port=0",
        "--http-port=0",
        "--random=50ms",
        "--access",
        &file,
        "--token-file",
        &kept,
    ]);
    command.env("RUST_LOG", "trace");
    command.stderr(std::fs::File::create(&log).unwrap());
    let tree = Program::start_command(&mut command);
    let mut said = tree.lines_until(|line| line.contains("nodes are ready"));
    let leaf = tree.line_after("rep-1: http://");
    let leaf = leaf.trim_end_matches('/');
    assert_eq!(status(leaf, "/v1/links", Some(&boss)), 200);
    assert_eq!(status(leaf, "/v1/links", None), 401);
    let secrets = Secrets(vec![rep, boss]);
    let answers = ask_all(leaf, &secrets);
    secrets.assert_none_in("answers", &answers);
    let children = children(tree.pid());
    assert_eq!(children.len(), 2, "{children:?}");
    for pid in children.iter().chain([&tree.pid().to_string()]) {
        secrets.assert_none_in_process(pid);
    }
    said.extend(tree.new_lines());
    secrets.assert_none_in("standard output", &said.join("\n"));
    secrets.assert_none_in("the log", &std::fs::read_to_string(&log).unwrap());
}
