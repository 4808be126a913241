use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use machine_runtime::replica::SourceStats;
use machine_runtime::{Epoch, Machine, Owner, ViewOptions};

use super::replica::synced;
use super::{EPOCH, Node, Root, at, until};

const FIELDS: &str = r#"["op","states","payload","payloads","key","epoch"]"#;

fn executed(revision: u64) -> String {
    format!(
        "{{\"outcome\":\"executed\",\"position\":\"{}\"}}\n",
        at(revision)
    )
}

#[tokio::test]
async fn a_mutation_of_any_node_is_the_roots() {
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let body = r#"{"op":"add","states":["Door2Open"]}"#;
    let answer = root.node.post("", body).await;
    answer.check(200, &executed(3));
    assert_eq!(answer.header("machine-position"), at(3));
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = r#"{"op":"toggle","states":["Door2Open"],"payload":null}"#;
    let answer = replica.post("", body).await;
    // Door 2 is closed again: by itself, as a door is that is not open.
    let position = root.handle.view().position().unwrap();
    answer.check(200, &executed(position.revision));
    let path = format!("/v1/states/Door2Open?min_rev={position}");
    assert_eq!(
        replica.get(&path).await.status(),
        400,
        "one state does not wait"
    );
    let read = replica.get(&format!("/?min_rev={position}")).await;
    read.check(200, "Door1Open\nDoor2Closed\nDoor3Closed\n");
}

#[tokio::test]
async fn payloads_go_to_who_takes_them_as_they_were_written() {
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let named = async |door: u8| {
        let path = format!("/v1/states/Door{door}Named");
        let text = root.node.get(&path).await.text().to_owned();
        text.split_once("\"payload\":").unwrap().1.to_owned()
    };
    let body =
        r#"{"op":"add","states":["Door2Open","Door1Named"],"payload": 12345678901234567890.10 }"#;
    assert_eq!(replica.post("", body).await.status(), 200);
    assert_eq!(named(1).await, "12345678901234567890.10}\n");
    let body = r#"{"op":"add","states":["Door2Named","Door3Named"],
                   "payloads":{"Door2Named":{"a":1},"Door3Named":"x"}}"#;
    assert_eq!(replica.post("", body).await.status(), 200);
    assert_eq!(named(2).await, "{\"a\":1}}\n");
    assert_eq!(named(3).await, "\"x\"}\n");
}

#[tokio::test]
async fn a_refusal_is_an_outcome_with_its_reason() {
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let canceled = |reason: &str| {
        let position = at(2);
        format!("{{\"outcome\":\"canceled\",\"position\":\"{position}\",\"reason\":{reason}}}\n")
    };
    let body = r#"{"op":"add","states":["Door1Open","Door1Closed"]}"#;
    let reason = r#"{"code":"blocked","state":"Door1Open","by":"Door1Closed","message":"Door1Open is blocked by Door1Closed"}"#;
    replica.post("", body).await.check(200, &canceled(reason));
    let body = r#"{"op":"add","states":["Door1Open"],"payloads":{"Door1Named":1}}"#;
    let reason = r#"{"code":"payload_unwanted","state":"Door1Named","message":"a payload for Door1Named, which takes none or is not called"}"#;
    replica.post("", body).await.check(200, &canceled(reason));
    let large = "x".repeat(1023);
    let body = format!(r#"{{"op":"add","states":["Door1Named"],"payload":"{large}"}}"#);
    let reason = r#"{"code":"payload_too_large","message":"a payload of 1025 bytes, at most 1024 are allowed"}"#;
    replica.post("", body).await.check(200, &canceled(reason));
}

#[tokio::test]
async fn a_key_is_run_once() {
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let body = r#"{"op":"add","states":["Knock"],"key":"k-1"}"#;
    for node in [&root.node, &replica, &root.node] {
        node.post("", body).await.check(200, &executed(3));
    }
    let other = r#"{"op":"remove","states":["Knock"],"key":"k-1"}"#;
    let answer = replica.post("", other).await;
    answer.check_failed(409, "key_reused", "the key names another mutation", "[]");
    let stale = format!(r#"{{"op":"add","states":["Knock"],"epoch":"{EPOCH}"}}"#);
    assert_eq!(replica.post("", stale.clone()).await.status(), 200);
    let answer = replica.post("", stale.replace("abc", "abd")).await;
    let message = "the root began a new life, the mutation was not run";
    answer.check_failed(409, "epoch_changed", message, "[]");
    assert_eq!(answer.header("machine-position"), at(4));
}

#[tokio::test]
async fn a_body_that_cannot_be_is_refused_and_why() {
    let root = Root::with_a_door_open().await;
    for (body, code, message, allowed) in [
        (
            "",
            "bad_body",
            "the body is no JSON object: EOF while parsing a value at line 1 column 0",
            "[]",
        ),
        (
            "{\"op\":\n \"add\",}",
            "bad_body",
            "the body is no JSON object: trailing comma at line 2 column 8",
            "[]",
        ),
        (
            "[1]",
            "bad_body",
            "the body is no JSON object: invalid type: sequence, expected an object at line 1 column 0",
            "[]",
        ),
        (
            "{}x",
            "bad_body",
            "the body is no JSON object: trailing characters at line 1 column 3",
            "[]",
        ),
        (
            r#"{"ops":"add"}"#,
            "unknown_field",
            "unknown field `ops`",
            FIELDS,
        ),
        (
            r#"{"op":"add","op":"add"}"#,
            "bad_body",
            "`op` is given twice",
            "[]",
        ),
    ] {
        let answer = root.node.post("", body).await;
        answer.check_failed(400, code, message, allowed);
    }
}

#[tokio::test]
async fn a_field_that_cannot_be_is_refused_and_why() {
    let root = Root::with_a_door_open().await;
    let op = r#"["add","remove","set","toggle"]"#;
    let ops = "`op` is one of add, remove, set and toggle";
    let takers = r#"["Door1Named","Door2Named"]"#;
    for (body, code, message, allowed) in [
        (r#"{"states":[]}"#, "bad_value", ops, op),
        (r#"{"op":"ad","states":[]}"#, "bad_value", ops, op),
        (r#"{"op":1,"states":[]}"#, "bad_value", ops, op),
        (
            r#"{"op":"add"}"#,
            "bad_value",
            "`states` is a list of the names of states",
            "[]",
        ),
        (
            r#"{"op":"add","states":"Knock"}"#,
            "bad_value",
            "`states` is a list of the names of states",
            "[]",
        ),
        (
            r#"{"op":"add","states":["Knok"]}"#,
            "unknown_state",
            "unknown state `Knok`, did you mean `Knock`?",
            r#"["Knock"]"#,
        ),
        (
            r#"{"op":"add","states":["Knock"],"payload":1}"#,
            "bad_value",
            "`payload` is for the called state that takes one, and none does",
            "[]",
        ),
        (
            r#"{"op":"add","states":["Door1Named","Door2Named"],"payload":1}"#,
            "bad_value",
            "`payload` is for the only called state that takes one, and several do: say it in `payloads`",
            takers,
        ),
        (
            r#"{"op":"add","states":["Door1Named"],"payload":1,"payloads":{"Door1Named":2}}"#,
            "bad_body",
            "`payload` and `payloads` are for the same state",
            "[]",
        ),
        (
            r#"{"op":"add","states":[],"payloads":[]}"#,
            "bad_value",
            "`payloads` is an object of states and what each is given",
            "[]",
        ),
        (
            r#"{"op":"add","states":[],"payloads":{"Knok":1}}"#,
            "unknown_state",
            "unknown state `Knok`, did you mean `Knock`?",
            r#"["Knock"]"#,
        ),
        (
            r#"{"op":"add","states":[],"key":""}"#,
            "bad_value",
            "`key` is a string of 1 to 64 bytes",
            "[]",
        ),
        (
            r#"{"op":"add","states":[],"key":7}"#,
            "bad_value",
            "`key` is a string of 1 to 64 bytes",
            "[]",
        ),
        (
            r#"{"op":"add","states":[],"epoch":"1"}"#,
            "bad_value",
            "`epoch` is 32 hexadecimal digits, as in front of a position's dot",
            "[]",
        ),
    ] {
        let answer = root.node.post("", body).await;
        answer.check_failed(400, code, message, allowed);
    }
    assert_eq!(root.handle.view().position().unwrap().to_string(), at(2));
}

#[tokio::test]
async fn a_parameter_is_a_time_in_which_there_can_be_an_answer() {
    let root = Root::with_a_door_open().await;
    let body = r#"{"op":"add","states":["Knock"]}"#;
    for wrong in ["0", "0.999", "61"] {
        let answer = root.node.post(&format!("?wait={wrong}"), body).await;
        let message = "`wait` is a number of seconds from 1 to 60";
        answer.check_failed(400, "bad_value", message, "[]");
    }
    let answer = root.node.post("?key=1", body).await;
    let message = "unknown parameter `key`";
    answer.check_failed(400, "unknown_parameter", message, r#"["wait"]"#);
    assert_eq!(root.handle.view().position().unwrap().to_string(), at(2));
    for right in ["1", "1.5", "60"] {
        let answer = root.node.post(&format!("?wait={right}"), body).await;
        assert_eq!(answer.status(), 200, "{right}");
    }
}

#[tokio::test]
async fn a_body_is_json_of_64_kib_at_most() {
    let root = Root::with_a_door_open().await;
    let body = r#"{"op":"add","states":["Knock"]}"#;
    for (kind, status) in [
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ] {
        let answer = root.node.post_as("", &[("content-type", kind)], body).await;
        assert_eq!(answer.status(), status, "{kind}");
    }
    let answer = root.node.post_as("", &[], body).await;
    let message = "the body has to be JSON, and Content-Type has to say so";
    answer.check_failed(415, "unsupported_type", message, r#"["application/json"]"#);
    let padded = |len: usize| format!("{body}{}", " ".repeat(len - body.len()));
    assert_eq!(root.node.post("", padded(65_536)).await.status(), 200);
    let answer = root.node.post("", padded(65_537)).await;
    answer.check_failed(413, "too_large", "a body has at most 65536 bytes", "[]");
    // One that does not say how long it is.
    let mut stream = TcpStream::connect(root.node.addr).await.unwrap();
    let head = "POST /v1/mutations HTTP/1.1\r\nhost: x\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("10001\r\n{}\r\n0\r\n\r\n", padded(65_537));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(chunk.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_is_not_too_large_can_be_so_on_its_way() {
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let of = |payload: usize| {
        // The quotes are the payload's.
        let text = "x".repeat(payload - 2);
        let body = format!(r#"{{"op":"add","states":["Door1Named"],"payload":"{text}"}}"#);
        assert!(body.len() <= 65_536);
        body
    };
    let most = 65_536 - 5 - 10 - 143;
    let answer = replica.post("", of(most + 1)).await;
    let message = "a mutation takes at most 65536 bytes on its way to the root: 5 for each called \
                   state, 10 for each payload and what that has, and 143";
    answer.check_failed(413, "too_large", message, "[]");
    // The root has the last word about the others, and about all of its own.
    for answer in [
        replica.post("", of(most)).await,
        root.node.post("", of(most + 1)).await,
    ] {
        assert_eq!(answer.status(), 200);
        assert!(answer.text().contains(r#""code":"payload_too_large""#));
    }
}

#[tokio::test]
async fn without_the_root_a_writer_learns_so_in_time() {
    let root = Root::with_a_door_open().await;
    let (replica, link) = synced(&root).await;
    link.stop();
    until(async || replica.get("/readyz").await.text().contains("connecting")).await;
    let body = r#"{"op":"add","states":["Knock"]}"#;
    let answer = replica.post("?wait=1", body).await;
    let message = "the root could not be reached in time, the mutation was not run";
    answer.check_failed(503, "unreachable", message, "[]");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("machine-position"), at(2));
    let metrics = root.node.get("/metrics").await;
    assert_eq!(metrics.metric("machine_http_writing", &[]), Some(0.0));
    let metrics = replica.get("/metrics").await;
    let counted = [("route", "/v1/mutations"), ("status", "503")];
    let counted = metrics.metric("machine_http_requests_total", &counted);
    assert_eq!(counted, Some(1.0));
}

#[tokio::test]
async fn a_root_that_does_not_answer_leaves_the_writer_in_doubt() {
    // Nobody runs its machine.
    let (handle, _owner) = Owner::new(Machine::new(), Epoch(0xabc), ViewOptions::default());
    let node = Node::new(&handle, None, SourceStats::default()).await;
    let body = r#"{"op":"add","states":["Knock"]}"#;
    let answer = node.post("?wait=1", body).await;
    let message = "there was no answer in time, the mutation may have been run";
    answer.check_error(504, "expired", message, r#"[],"may_have_run":true"#);
}

#[tokio::test]
async fn who_hangs_up_takes_the_mutation_back() {
    let (handle, owner) = Owner::new(Machine::new(), Epoch(0xabc), ViewOptions::default());
    let node = Node::new(&handle, None, SourceStats::default()).await;
    let body = r#"{"op":"add","states":["Knock"]}"#;
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    let len = body.len();
    let request = format!(
        "POST /v1/mutations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {len}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    node.until_metric("machine_http_writing", 1).await;
    drop(stream);
    node.until_metric("machine_http_writing", 0).await;
    let machine = owner.run(std::future::ready(())).await;
    assert_eq!(machine.revision(), 0);
}

#[tokio::test]
async fn the_next_life_of_the_root_is_told_to_writers_of_the_last() {
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let life = format!(r#""epoch":"{}""#, "f".repeat(32));
    let body = format!(r#"{{"op":"add","states":["Knock"],"key":"k",{life}}}"#);
    for node in [&root.node, &replica] {
        let answer = node.post("", body.clone()).await;
        let message = "the root began a new life, the mutation was not run";
        answer.check_failed(409, "epoch_changed", message, "[]");
    }
}
