//! Strangers who begin TLS handshakes and never end them.

use machine_node::client::{self, Target};
use machine_node::tls::TlsClient;
use tokio::time::timeout;

use super::Strangers;
use super::honest::Honest;
use crate::limits::{node, sum};
use crate::support::{Folder, PATIENCE, Program, run};

/// How many strangers there are: of each address more than may shake hands and wait for that together.
const STRANGERS: usize = 1000;

/// From how many addresses they come. They have not all places in which hands are shaken.
const ADDRESSES: usize = 3;

async fn text(node: &Target, path: &str) -> String {
    let answer = client::get(node, path, "*/*").await.unwrap();
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn shut(node: &Target, why: &str) -> u64 {
    let label = format!("why=\"{why}\"");
    let metrics = text(node, "/metrics").await;
    sum(&metrics, "machine_http_connections_refused_total", &label)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn handshakes_that_never_end_keep_no_honest_reader_out() {
    let folder = Folder::new("floods-tls");
    let made = run(&["certs", folder.path().to_str().unwrap(), "--client", "ops"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let file = |name: &str| folder.path().join(name);
    let mut command = node(&["--name=root", "--handshake-time=2s"]);
    for (flag, name) in [
        ("--tls-ca", "ca.pem"),
        ("--tls-cert", "node.pem"),
        ("--tls-key", "node-key.pem"),
    ] {
        command.arg(flag).arg(file(name));
    }
    let program = Program::start_command(&mut command);
    let rpc = program.line_after("root: tarpc ");
    let http = program.line_after("root: https://");
    let http = http.trim_end_matches('/');
    let (ca, cert, key) = (file("ca.pem"), file("ops.pem"), file("ops-key.pem"));
    let client = TlsClient::load(Some(&ca), Some((&cert, &key))).unwrap();
    let root = Target::new(http).with_tls(client);
    let right = text(&root, "/").await;
    for (attack, reasons) in [("idle", &["late", "flood"][..]), ("hellos", &["handshake"])] {
        let mut before = Vec::new();
        for why in reasons {
            before.push(shut(&root, why).await);
        }
        let mut honest = Honest::start(attack, std::slice::from_ref(&root), &right);
        let mut strangers = Strangers::start(http, &rpc, attack, STRANGERS, ADDRESSES);
        strangers.wait("opened", STRANGERS as u64);
        honest.asks().await;
        for (why, before) in reasons.iter().zip(before) {
            let moved = async { while shut(&root, why).await <= before {} };
            let moved = timeout(PATIENCE, moved).await;
            assert!(moved.is_ok(), "{attack}: {why} is not counted");
        }
        println!("TLS {}; {}", honest.ends().await, strangers.doing());
    }
}
