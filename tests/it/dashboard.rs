//! The dashboard: what is written, what is committed, and how Grafana takes it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::{fs, thread};

use serde_json::{Value, json};

use crate::support::{Ended, Folder, command, run_command};

const TOKEN: &str = "glsa_not_to_be_shown";

const UPDATE: &str = "cargo run -- dashboard --out deploy/generated";

/// The dashboard with these arguments, whatever the environment says.
fn dashboard(args: &[&str]) -> Ended {
    let mut command = command(&["dashboard"]);
    command.args(args);
    for name in ["GRAFANA_URL", "GRAFANA_TOKEN"] {
        command.env_remove(name);
    }
    run_command(&mut command)
}

fn at_root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn what_is_committed_is_what_is_made() {
    let folder = Folder::new("dashboard");
    let ended = dashboard(&["--out", folder.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let names = |folder: &Path| -> BTreeSet<_> {
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    };
    let committed = at_root("deploy/generated");
    assert_eq!(
        names(&committed),
        names(folder.path()),
        "update with: {UPDATE}"
    );
    for name in names(&committed) {
        let read = |folder: &Path| fs::read_to_string(folder.join(&name)).unwrap();
        assert!(
            read(&committed) == read(folder.path()),
            "{} is not what is made, update with: {UPDATE}",
            name.display()
        );
    }
}

#[test]
fn without_a_place_the_dashboard_is_printed() {
    let printed = dashboard(&[]);
    assert_eq!(printed.code, Some(0));
    let committed = at_root("deploy/generated/tree-state-source.json");
    assert_eq!(printed.stdout, fs::read_to_string(committed).unwrap());
    let value: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(value["uid"], "tree-state-source");
    assert_eq!(value["schemaVersion"], 39);
}

#[test]
fn an_upload_needs_a_place_and_a_folder_an_upload() {
    for (args, part) in [
        (&["--upload"][..], "--upload: --grafana-url"),
        (&["--folder", "Trees"], "--folder is for an --upload"),
    ] {
        let ended = dashboard(args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn the_rules_ask_for_the_job_that_is_given() {
    let folder = Folder::new("dashboard-job");
    let ended = dashboard(&["--job=towers", "--out", folder.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rules = fs::read_to_string(folder.path().join("rules.yml")).unwrap();
    assert!(rules.contains(r#"up{job="towers"}"#) && !rules.contains(r#"job="flights""#));
}

#[test]
fn every_alert_is_explained() {
    let rules = fs::read_to_string(at_root("deploy/generated/rules.yml")).unwrap();
    let text = fs::read_to_string(at_root("docs/runbook.md")).unwrap();
    let (_, text) = text.split_once("\n# Alerts\n").unwrap();
    let (text, _) = text.split_once("\n# ").unwrap();
    let mut sections = text.split("\n## ");
    assert!(sections.next().is_some(), "what all have in common");
    let sections: Vec<_> = sections
        .map(|section| section.split_once('\n').unwrap())
        .collect();
    let explained: Vec<_> = sections.iter().map(|(name, _)| *name).collect();
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert_eq!(explained, alerts);
    for (alert, text) in sections {
        let anchor = format!("runbook: 'docs/runbook.md#{}'", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{anchor}");
        for part in ["**Meaning.** ", "**Fine** "] {
            assert_eq!(text.matches(part).count(), 1, "{part} of {alert}");
        }
        let what_to_do = text.contains("**Do.** ") || text.contains("what to do.**");
        assert!(what_to_do, "what to do about {alert}");
    }
}

/// A request as a server sees it.
#[derive(Debug)]
struct Asked {
    line: String,
    authorization: Option<String>,
    body: Value,
}

/// A server with the part of Grafana's API that takes dashboards. It knows one token and has the folders
/// of the list; what it was asked comes out of the channel.
fn grafana(
    folders: &'static [&'static str],
    refusal: Option<(u16, &'static str)>,
) -> (String, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that goes is its own business.
            let _ = answer(&stream, folders, refusal, &sender);
        }
    });
    (url, asked)
}

fn answer(
    stream: &TcpStream,
    folders: &[&str],
    refusal: Option<(u16, &str)>,
    sender: &std::sync::mpsc::Sender<Asked>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked = Asked {
        line: line.trim_end().to_owned(),
        authorization,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let (status, body) = answered(&asked, folders, refusal);
    let _ = sender.send(asked);
    let body = body.to_string();
    write!(
        &*stream,
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn answered(asked: &Asked, folders: &[&str], refusal: Option<(u16, &str)>) -> (u16, Value) {
    if asked.authorization != Some(format!("Bearer {TOKEN}")) {
        return (401, json!({ "message": "Unauthorized" }));
    }
    if let Some((status, message)) = refusal {
        return (status, json!({ "message": message }));
    }
    let mut words = asked.line.split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some("/api/folders?limit=1000")) => {
            let list = folders.iter().zip(1..);
            let list = list.map(|(title, i)| json!({ "uid": format!("f{i}"), "title": title }));
            (200, list.collect())
        }
        (Some("POST"), Some("/api/folders")) => (
            200,
            json!({ "uid": "new", "title": asked.body["title"], "url": "/dashboards/f/new" }),
        ),
        (Some("POST"), Some("/api/dashboards/db")) => {
            let uid = &asked.body["dashboard"]["uid"];
            let url = format!("/d/{0}/{0}", uid.as_str().unwrap());
            (
                200,
                json!({ "id": 1, "uid": uid, "url": url, "status": "success", "version": 1 }),
            )
        }
        _ => (404, json!({ "message": "Not found" })),
    }
}

fn push(url: &str, token: &str, more: &[&str]) -> Ended {
    let mut args = vec!["--grafana-url", url, "--grafana-token", token];
    args.extend(more);
    let ended = dashboard(&args);
    assert!(!ended.stdout.contains(token), "{ended:?}");
    assert!(!ended.stderr.contains(token), "{ended:?}");
    ended
}

#[test]
fn the_dashboard_goes_to_grafana_and_says_where_it_is() {
    let (url, asked) = grafana(&[], None);
    let ended = push(&url, TOKEN, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout,
        format!("{url}/d/tree-state-source/tree-state-source\n")
    );
    let body = asked.recv().unwrap().body;
    assert_eq!(body["overwrite"], true);
    assert_eq!(body["folderUid"], Value::Null);
    assert_eq!(body["dashboard"]["id"], Value::Null);
    assert_eq!(body["dashboard"]["title"], "tree-state-source");
    assert!(body["dashboard"].get("__inputs").is_none());
}

#[test]
fn the_environment_says_where_grafana_is_as_well() {
    let (url, _asked) = grafana(&[], None);
    let ended = run_command(
        command(&["dashboard", "--upload"])
            .env("GRAFANA_URL", &url)
            .env("GRAFANA_TOKEN", TOKEN),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with(&url), "{ended:?}");
    let printed = run_command(
        command(&["dashboard"])
            .env("GRAFANA_URL", &url)
            .env("GRAFANA_TOKEN", TOKEN),
    );
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.starts_with('{'), "{printed:?}");
    let help = run_command(
        command(&["dashboard", "--help"])
            .env("GRAFANA_URL", &url)
            .env("GRAFANA_TOKEN", TOKEN),
    );
    assert!(help.stdout.contains("GRAFANA_TOKEN"));
    assert!(!help.stdout.contains(TOKEN));
}

#[test]
fn a_folder_is_found_or_created() {
    let (url, asked) = grafana(&["Other", "Trees"], None);
    assert_eq!(push(&url, TOKEN, &["--folder", "Trees"]).code, Some(0));
    assert_eq!(
        asked.recv().unwrap().line,
        "GET /api/folders?limit=1000 HTTP/1.1"
    );
    assert_eq!(asked.recv().unwrap().body["folderUid"], "f2");

    let (url, asked) = grafana(&["Other"], None);
    assert_eq!(push(&url, TOKEN, &["--folder", "Trees"]).code, Some(0));
    assert!(asked.recv().unwrap().line.starts_with("GET"));
    assert_eq!(asked.recv().unwrap().body["title"], "Trees");
    assert_eq!(asked.recv().unwrap().body["folderUid"], "new");
}

#[test]
fn refusals_say_what_to_do_and_no_secret() {
    let refused = |refusal, token: &str, part: &str| {
        let (url, _asked) = grafana(&[], refusal);
        let ended = push(&url, token, &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    };
    refused(None, "wrong-one", "it does not know the token");
    refused(
        Some((403, "You'll need additional permissions")),
        TOKEN,
        "the token may not",
    );
    refused(
        Some((412, "A dashboard with the same name already exists")),
        TOKEN,
        "in the way",
    );
    refused(Some((500, TOKEN)), TOKEN, "it answered 500");
    let (url, _asked) = grafana(&[], None);
    let ended = dashboard(&["--grafana-url", &url]);
    assert!(ended.stderr.contains("--grafana-token"), "{ended:?}");
}

#[test]
fn a_grafana_that_is_not_there_is_exit_code_3() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let ended = push(&url, TOKEN, &[]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("cannot reach Grafana at"));
}
