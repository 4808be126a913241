use super::{House, Root, at};

const FORMATS: [(&str, &str); 4] = [
    ("mermaid", "text/vnd.mermaid; charset=utf-8"),
    ("dot", "text/vnd.graphviz; charset=utf-8"),
    ("d2", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
];

#[tokio::test]
async fn a_diagram_shows_what_is_active() {
    let root = Root::with_a_door_open().await;
    let answer = root.node.get("/v1/graph?group=Door1Position").await;
    let expected = "---
title: \"House, Position, door 1: 2 of 11 states, 1 active\"
---
flowchart LR
  subgraph c0[\"Position (one of)\"]
    n0([\"Door1Open<br/>tick 1\"])
    n1([\"Door1Closed<br/>auto<br/>tick 0\"])
  end
  classDef s0 fill:#8ce99a,stroke:#2b8a3e,stroke-width:2px,color:#212529
  class n0 s0
  classDef s1 fill:#f1f3f5,stroke:#495057,stroke-width:1px,color:#212529
  class n1 s1
";
    answer.check(200, expected);
    for (format, kind) in FORMATS {
        for path in ["?door=2&", "?state=Door1Open&", "?max_nodes=5&", "?"] {
            let answer = root
                .node
                .get(&format!("/v1/graph{path}format={format}"))
                .await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!(answer.header("machine-position"), at(2));
            assert!(answer.text().contains("Door"), "{}", answer.text());
        }
    }
    let folded = root.node.get("/v1/graph?max_nodes=6").await;
    assert!(
        folded
            .text()
            .contains("Door1…3Open<br/>3 states<br/>1 active"),
        "{}",
        folded.text()
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let picture = root.node.get("/v1/graph?format=svg").await;
    assert_eq!(picture.header("content-security-policy"), policy);
}

#[tokio::test]
async fn who_has_a_diagram_gets_304_until_something_changes() {
    let root = Root::with_a_door_open().await;
    let path = "/v1/graph?door=1&format=svg";
    let tag = root.node.get(path).await.header("etag").to_owned();
    let known = [("if-none-match", tag.as_str())];
    root.node.ask("GET", path, &known).await.check(304, "");
    root.node.ask("HEAD", path, &[]).await.check(200, "");
    root.add(House::Door2Open).await;
    let answer = root.node.ask("GET", path, &known).await;
    assert_eq!(
        (answer.status(), answer.header("machine-position")),
        (200, at(3).as_str())
    );
    assert_ne!(answer.header("etag"), tag);
}

#[tokio::test]
async fn what_cannot_be_drawn_is_told() {
    let root = Root::with_a_door_open().await;
    let parameters = r#"["format","group","state","max_nodes","door"]"#;
    for (query, code, message, allowed) in [
        (
            "dor=1",
            "unknown_parameter",
            "unknown parameter `dor`",
            parameters,
        ),
        (
            "door=4",
            "bad_value",
            "`door` is a number from 1 to 3",
            "[]",
        ),
        (
            "format=png",
            "bad_value",
            "`format` is one of mermaid, dot, d2 and svg",
            r#"["mermaid","dot","d2","svg"]"#,
        ),
        (
            "max_nodes=0",
            "bad_value",
            "`max_nodes` is a number from 1 to 2000",
            "[]",
        ),
        (
            "max_nodes=5&max_nodes=6",
            "bad_query",
            "`max_nodes` is given twice",
            "[]",
        ),
        (
            "group=Positio",
            "unknown_group",
            "unknown group `Positio`, did you mean `Position`?",
            r#"["Position"]"#,
        ),
        (
            "group=Door1Position&door=2",
            "bad_query",
            "no state is all of what was asked for",
            "[]",
        ),
    ] {
        let answer = root.node.get(&format!("/v1/graph?{query}")).await;
        answer.check_error(400, code, message, allowed);
    }
    let answer = root.node.get("/v1/graph?state=Door1Opn").await;
    let start = "{\"error\":{\"code\":\"unknown_state\",\"message\":\"unknown state `Door1Opn`, did you \
                 mean `Door1Open`?\",";
    assert!(answer.text().starts_with(start), "{}", answer.text());
    let answer = root.node.ask("POST", "/v1/graph", &[]).await;
    assert_eq!(answer.status(), 405);
}

#[tokio::test]
async fn of_many_who_ask_at_once_each_gets_a_diagram_or_hears_that_there_is_no_room() {
    let root = Root::with_a_door_open().await;
    let asked: Vec<_> = (0..40)
        .map(|_| root.node.get("/v1/graph?format=svg"))
        .collect();
    let answers = futures_util::future::join_all(asked).await;
    for answer in &answers {
        match answer.status() {
            200 => assert!(answer.text().contains("</svg>")),
            status => {
                assert_eq!(status, 503);
                assert!(answer.text().contains("draws for 2 readers at a time"));
                assert_eq!(answer.header("retry-after"), "1");
            }
        }
    }
    assert!(answers.iter().any(|answer| answer.status() == 200));
    // Those who were drawn for have made room again.
    super::until(async || root.node.get("/v1/graph").await.status() == 200).await;
}
