use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::{Certs, Node, strs, watch};
use crate::support::{Folder, PATIENCE, run, signal};

/// Copies files of `from` over those of `to`, as somebody does who renews them.
fn put(from: &Certs, to: &Certs, names: &[&str]) {
    for name in names {
        std::fs::copy(from.file(name), to.file(name)).unwrap();
    }
}

#[tokio::test]
async fn certificates_are_replaced_while_a_tree_runs() {
    // The leaf has files of its own, of the same authorities, which stay as they are.
    let (old, new) = (Certs::new("tls-old"), Certs::new("tls-new"));
    let both = ["ca.pem"].map(|name| {
        let text = |certs: &Certs| std::fs::read_to_string(certs.file(name)).unwrap();
        text(&old) + &text(&new)
    });
    let of_leaf = Certs {
        folder: Folder::new("tls-leaf"),
    };
    let all = ["node.pem", "node-key.pem", "ops.pem", "ops-key.pem"];
    put(&old, &of_leaf, &all);
    for certs in [&old, &of_leaf] {
        std::fs::write(certs.file("ca.pem"), &both[0]).unwrap();
    }
    let root = Node::start("root", &old, None, &[]);
    let rep = Node::start("rep", &old, Some(&root), &[]);
    let leaf = Node::start("leaf", &of_leaf, Some(&rep), &[]);
    let links = leaf.follows().await;
    assert_eq!(links["upstream"]["connects"], 1);
    let said = ["rep", "leaf"].map(|name| old.file(&format!("{name}.said")));
    let readers = [
        watch(&rep, &old, &said[0]),
        watch(&leaf, &of_leaf, &said[1]),
    ];
    for reader in &readers {
        reader.line(|line| line.contains(" =").then_some(()));
    }
    leaf.mutate(&of_leaf, &["add", "Flight1Delayed"]);
    let [ca, ..] = new.flags("ops");
    let trusting_new = ["get", "--node", &rep.http, &ca];
    let before = run(&trusting_new);
    assert!(before.stderr.contains("UnknownIssuer"), "{before:?}");

    put(&new, &old, &["node.pem", "node-key.pem"]);
    root.reloaded("done", 1.0).await;
    rep.reloaded("done", 1.0).await;
    // Who comes now is shown the new one.
    let [_, cert, key] = new.flags("ops");
    let after = run(&[&trusting_new[..], &[&cert, &key]].concat());
    assert_eq!(after.code, Some(0), "{after:?}");
    // Links come again, and go on where they were.
    for node in [&rep, &leaf] {
        let links = node
            .linked(|links| {
                let up = &links["upstream"];
                up["state"] == "following" && up["connects"].as_u64() >= Some(2)
            })
            .await;
        let resyncs = json!({
            "first": 1, "epoch": 0, "compacted": 0, "digest": 0, "malformed": 0, "selection": 0,
        });
        assert_eq!(links["upstream"]["resyncs"], resyncs);
    }
    leaf.mutate(&of_leaf, &["remove", "Flight1Delayed"]);
    // Readers miss nothing, and those of a node whose files are the same do not notice.
    for reader in &readers {
        let seen = reader.lines_until(|line| line.contains("-Flight1Delayed"));
        assert!(
            seen.iter().any(|line| line.contains("+Flight1Delayed")),
            "{seen:?}"
        );
        assert!(seen.iter().all(|line| !line.contains(" =")), "{seen:?}");
    }
    // What came in by the old one is ended, and comes again.
    let told = |said: &Path| std::fs::read_to_string(said).unwrap();
    let end = Instant::now() + PATIENCE;
    while !told(&said[0]).contains("connecting again") {
        assert!(Instant::now() < end, "{}", told(&said[0]));
        tokio::task::yield_now().await;
    }
    leaf.mutate(&of_leaf, &["add", "Flight2Delayed"]);
    for reader in &readers {
        let seen = reader.lines_until(|line| line.contains("+Flight2Delayed"));
        assert!(seen.iter().all(|line| !line.contains(" =")), "{seen:?}");
    }
    assert_eq!(told(&said[1]), "");
    assert_eq!(leaf.reloads("done").await.to_string(), "0");
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_all_as_it_was() {
    let certs = Certs::new("tls-broken");
    let root = Node::start("root", &certs, None, &[]);
    let rep = Node::start("rep", &certs, Some(&root), &[]);
    rep.follows().await;
    std::fs::write(certs.file("node.pem"), "nonsense").unwrap();
    signal("HUP", root.pid());
    root.reloaded("failed", 1.0).await;
    rep.reloaded("failed", 1.0).await;
    rep.mutate(&certs, &["add", "Flight1Delayed"]);
    assert_eq!(rep.follows().await["upstream"]["connects"], 1);
    // What is made then holds.
    let made = certs.make(&[]);
    assert_eq!(made.code, Some(0), "{made:?}");
    rep.reloaded("done", 1.0).await;
    rep.mutate(&certs, &["remove", "Flight1Delayed"]);
    let flags = certs.flags("ops");
    let got = run(&[&["get", "--node", &rep.http], &strs(&flags)[..]].concat());
    assert_eq!(got.code, Some(0), "{got:?}");
}
