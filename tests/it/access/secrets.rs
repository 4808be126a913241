//! No secret is in what a node prints, logs, answers, or is started with.

use std::path::Path;

use crate::support::{Folder, Program, command, run, run_command};

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
        for (file, sure) in [("cmdline", "flights"), ("environ", "RUST_LOG=trace")] {
            let path = format!("/proc/{pid}/{file}");
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains(sure), "{path} has something else: {text}");
            self.assert_none_in(&path, &text);
        }
    }
}

/// All that a node has logged which was asked for something and has denied it: down to the paths that a request is
/// held against.
fn whole_log(node: &Node) -> String {
    let logged = node.logged();
    for line in [
        " TRACE path: \"v1\"?: \"v1\"",
        " WARN denials: denied node=",
    ] {
        assert!(logged.contains(line), "no `{line}` in the log: {logged}");
    }
    logged
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
        secrets.assert_none_in("the log", &whole_log(node));
    }
}

/// The lines of a private key that say something of it.
fn key_lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    // Nobody could do anything with a few letters, which may be anywhere.
    let lines = lines.filter(|line| line.len() >= 32);
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{}", file.display());
    lines
}

#[test]
fn no_secret_is_in_what_is_said_where_all_speak_tls() {
    let folder = Folder::new("secrets-tls");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = run(&["certs", &at(""), "--client=ops"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let (rep, rep_entry) = token("rep", "[\"follow\", \"mutate\", \"observe\"]");
    let (boss, boss_entry) = token("boss", "[\"admin\"]");
    let (stranger, _) = token("stranger", "[]");
    let file = write(&folder, "access.toml", &(rep_entry + &boss_entry));
    let [rep_file, boss_file, stranger_file] = [("rep", &rep), ("boss", &boss), ("no", &stranger)]
        .map(|(name, token)| write(&folder, &format!("{name}.token"), token));
    let keys = ["ca-key.pem", "node-key.pem", "ops-key.pem"];
    let keys = keys
        .into_iter()
        .flat_map(|key| key_lines(&folder.path().join(key)));
    let secrets = Secrets(keys.chain([rep, boss, stranger]).collect());
    secrets.assert_none_in("what certs says", &(made.stdout + &made.stderr));

    let ca = format!("--tls-ca={}", at("ca.pem"));
    let pair = |name: &str| {
        let cert = format!("--tls-cert={}", at(&format!("{name}.pem")));
        [
            cert,
            format!("--tls-key={}", at(&format!("{name}-key.pem"))),
        ]
    };
    let [cert, key] = pair("node");
    let recordings = at("recordings");
    let record = ["--record", &recordings];
    let tls = [&[&*ca, &*cert, &*key, "--access", &file][..], &record].concat();
    let root = Node::start(&folder, "root", &tls);
    let parent = format!("--parent={}", root.rpc);
    let below = |name: &str, token: &str| {
        let more = [&*parent, "--token-file", token];
        Node::start(&folder, name, &[&tls[..], &more].concat())
    };
    let (node, denied) = (below("rep-1", &rep_file), below("rep-2", &stranger_file));

    let said_by = |args: &[&str]| {
        let mut command = command(args);
        command.env("RUST_LOG", "trace");
        let ended = run_command(&mut command);
        let said = ended.stdout + &ended.stderr;
        secrets.assert_none_in(&format!("what {args:?} says"), &said);
        (ended.code, said)
    };
    until("the replicant shows something", || {
        said_by(&["get", "--node", &node.http, &ca, "--token-file", &boss_file]).0 == Some(0)
    });
    until("the other is refused", || {
        denied.logged().contains("does not admit this node")
    });
    let [ops_cert, ops_key] = pair("ops");
    for node in [&root, &node, &denied] {
        for asked in [
            &["get"][..],
            &["links"],
            &["watch"],
            &["mutate", "add", "Flight1Delayed"],
        ] {
            let at = [asked, &["--node", &node.http, &ca]].concat();
            for shown in [
                &["--token-file", &*stranger_file][..],
                &[&*ops_cert, &*ops_key],
                &[&*ops_cert, &*ops_key, "--token-file", &stranger_file],
            ] {
                let (code, said) = said_by(&[&at[..], shown].concat());
                assert_eq!(code, Some(1), "{said}");
                assert!(said.contains("nobody is known by"), "{said}");
            }
        }
    }
    let added = ["mutate", "add", "Flight1Delayed", "--node", &node.http, &ca];
    let (code, said) = said_by(&[&added[..], &["--token-file", &boss_file]].concat());
    assert_eq!(code, Some(0), "{said}");
    // Files that are taken for others.
    let (cert_for_key, node_key) = (format!("--tls-cert={}", at("node-key.pem")), &key);
    for wrong in [
        &[&*ops_cert, &**node_key][..],
        &[&*cert_for_key, &**node_key],
        &["--token-file", &at("node-key.pem")],
    ] {
        let (code, said) = said_by(&[&["get", "--node", &node.http, &ca], wrong].concat());
        assert_eq!(code, Some(2), "{said}");
        let (code, said) = said_by(&[&["node", "--addr=:0", &ca], wrong].concat());
        assert_eq!(code, Some(2), "{said}");
    }
    let (code, said) = said_by(&["node", "--addr=:0", "--access", &boss_file]);
    assert_eq!(code, Some(2), "{said}");

    for node in [root, node, denied] {
        secrets.assert_none_in_process(&node.program.pid().to_string());
        secrets.assert_none_in("standard output", &node.program.new_lines().join("\n"));
        secrets.assert_none_in("the log", &whole_log(&node));
        assert!(node.program.interrupt().success());
    }
    // Recordings are packed: what is in them is what is printed of them.
    let (code, recorded) = said_by(&["replay", "--json", &recordings]);
    assert_eq!(code, Some(0), "{recorded}");
    for known in ["root", "rep-1", "Flight1Delayed"] {
        assert!(recorded.contains(known), "no {known} in the recordings");
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
