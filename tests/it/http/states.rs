use machine_runtime::States as _;

use super::{EPOCH, House, Root, at};

#[tokio::test]
async fn text_is_one_active_state_a_line_in_index_order() {
    let root = Root::with_a_door_open().await;
    root.add(House::Knock).await;
    for accept in [None, Some("*/*"), Some("text/plain"), Some("image/png")] {
        let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
        let answer = root.node.ask("GET", "/", &headers).await;
        answer.check(200, "Door1Open\nDoor2Closed\nDoor3Closed\nKnock\n");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("etag"), format!("\"{}-t\"", at(3)));
        assert_eq!(answer.header("vary"), "accept");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("machine-position"), at(3));
        assert_eq!(answer.header("machine-stale"), "false");
        assert_eq!(answer.header("machine-age-ms"), "0");
    }
}

#[tokio::test]
async fn nothing_active_is_an_empty_text() {
    let root = Root::new(machine_runtime::ViewOptions::default()).await;
    root.node.get("/").await.check(200, "");
}

#[tokio::test]
async fn json_is_the_same_by_accept_and_by_path() {
    let root = Root::with_a_door_open().await;
    let expected = format!(
        "{{\"node\":\"root\",\"role\":\"root\",\"tier\":0,\"epoch\":\"{EPOCH}\",\"revision\":2,\
         \"digest\":\"{}\",\"active\":[\"Door1Open\",\"Door2Closed\",\"Door3Closed\"]}}\n",
        root.digest()
    );
    let accept = [("accept", "application/json")];
    for (path, headers) in [
        ("/", &accept[..]),
        ("/v1/states", &[]),
        ("/v1/states/", &[]),
    ] {
        let answer = root.node.ask("GET", path, headers).await;
        answer.check(200, &expected);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("etag"), format!("\"{}-j\"", at(2)));
        assert_eq!(answer.header("vary"), "accept");
        assert_eq!(answer.header("machine-position"), at(2));
    }
}

#[tokio::test]
async fn browsers_get_the_text_under_a_tag_of_its_own() {
    let root = Root::with_a_door_open().await;
    let accept = "text/html,application/xhtml+xml,*/*;q=0.8";
    let answer = root.node.ask("GET", "/", &[("accept", accept)]).await;
    answer.check(200, "Door1Open\nDoor2Closed\nDoor3Closed\n");
    assert_eq!(answer.header("etag"), format!("\"{}-h\"", at(2)));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let root = Root::with_a_door_open().await;
    for path in [
        "/",
        "/v1/states",
        "/v1/states?ticks=1",
        "/v1/states/Knock",
        "/v1/schema",
    ] {
        let get = root.node.get(path).await;
        let head = root.node.ask("HEAD", path, &[]).await;
        head.check(200, "");
        for name in ["content-type", "content-length", "etag", "machine-position"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    let head = root.node.ask("HEAD", "/v1/events", &[]).await;
    head.check(200, "");
    assert_eq!(head.header("content-type"), "text/event-stream");
}

#[tokio::test]
async fn who_has_it_gets_304_until_it_changes() {
    let root = Root::with_a_door_open().await;
    for path in [
        "/",
        "/v1/states",
        "/v1/states?ticks=1",
        "/v1/states/Door1Open",
        "/v1/schema",
    ] {
        let tag = root.node.get(path).await.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{path} {tag}");
        let lists = [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ];
        for known in lists {
            let answer = root
                .node
                .ask("GET", path, &[("if-none-match", &known)])
                .await;
            answer.check(304, "");
            assert_eq!(answer.header("etag"), tag);
            if path != "/v1/schema" {
                assert_eq!(answer.header("machine-position"), at(2));
                assert_eq!(answer.header("machine-stale"), "false");
                assert_eq!(answer.header("machine-age-ms"), "0");
                assert_eq!(answer.header("vary"), "accept");
            }
        }
        let answer = root
            .node
            .ask("GET", path, &[("if-none-match", "\"x\"")])
            .await;
        assert_eq!(answer.status(), 200);
    }
    let tag = root.node.get("/").await.header("etag").to_owned();
    let lines = [("if-none-match", "\"x\""), ("if-none-match", &tag)];
    root.node.ask("GET", "/", &lines).await.check(304, "");
    root.add(House::Knock).await;
    let answer = root.node.ask("GET", "/", &[("if-none-match", &tag)]).await;
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.header("etag"), tag);
}

#[tokio::test]
async fn details_follow_the_active_states() {
    let root = Root::with_a_door_open().await;
    root.add_with(House::Door3Named, br#"{"of":"the garden"}"#)
        .await;
    let answer = root.node.get("/v1/states?ticks=1&payloads=1&door=3").await;
    let expected = format!(
        "{{\"node\":\"root\",\"role\":\"root\",\"tier\":0,\"epoch\":\"{EPOCH}\",\"revision\":3,\
         \"digest\":\"{}\",\"active\":[\"Door3Closed\",\"Door3Named\"],\
         \"ticks\":{{\"Door3Open\":0,\"Door3Closed\":1,\"Door3Named\":1}},\
         \"payloads\":{{\"Door3Named\":{{\"of\":\"the garden\"}}}}}}\n",
        root.digest()
    );
    answer.check(200, &expected);
    let all = root.node.get("/v1/states?ticks=1").await;
    let value: serde_json::Value = serde_json::from_slice(&all.body).unwrap();
    assert_eq!(
        value["ticks"].as_object().unwrap().len(),
        House::schema().len()
    );
    assert!(value.get("payloads").is_none());
    let plain = root.node.get("/v1/states?ticks=0&payloads=0").await;
    assert_eq!(plain.body, root.node.get("/v1/states").await.body);
    let tags = [&answer, &all, &plain].map(|answer| answer.header("etag"));
    assert!(
        tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2],
        "{tags:?}"
    );
}

#[tokio::test]
async fn a_selection_narrows_what_is_told() {
    let root = Root::with_a_door_open().await;
    root.add(House::Knock).await;
    for (query, lines) in [
        ("group=Position", "Door1Open\nDoor2Closed\nDoor3Closed\n"),
        ("group=Position&door=1", "Door1Open\n"),
        ("group=Door2Position", "Door2Closed\n"),
        ("door=3", "Door3Closed\n"),
    ] {
        root.node.get(&format!("/?{query}")).await.check(200, lines);
        let json = root.node.get(&format!("/v1/states?{query}")).await;
        let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        let names = value["active"].as_array().unwrap().iter();
        let names: Vec<_> = names.map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, lines.lines().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn one_state_is_told_with_its_tick_and_payload() {
    let root = Root::with_a_door_open().await;
    let state = |name: &'static str| {
        let path = format!("/v1/states/{name}");
        let node = &root.node;
        async move { node.get(&path).await }
    };
    let answer = state("Door1Open").await;
    answer.check(
        200,
        "{\"state\":\"Door1Open\",\"active\":true,\"tick\":1,\"payload\":null}\n",
    );
    assert_eq!(answer.header("machine-position"), at(2));
    let answer = state("Knock").await;
    answer.check(
        200,
        "{\"state\":\"Knock\",\"active\":false,\"tick\":0,\"payload\":null}\n",
    );
    for (payload, shown) in [
        (&br#"["front",1]"#[..], r#"["front",1]"#),
        (b"front", r#""front""#),
        (b"\xff\x00", r#"{"base64":"/wA="}"#),
    ] {
        assert!(root.handle.remove(House::Door1Named).await.is_ok());
        root.add_with(House::Door1Named, payload).await;
        let tick = root.handle.view().tick(House::Door1Named);
        let expected = format!(
            "{{\"state\":\"Door1Named\",\"active\":true,\"tick\":{tick},\"payload\":{shown}}}\n"
        );
        state("Door1Named").await.check(200, &expected);
    }
    state("Door1%4Eamed")
        .await
        .check(200, state("Door1Named").await.text());
}

#[tokio::test]
async fn the_schema_tells_all_that_a_client_can_ask_for() {
    let root = Root::with_a_door_open().await;
    let answer = root.node.get("/v1/schema").await;
    assert_eq!(answer.status(), 200);
    let door = |i: u32| {
        format!(
            "{{\"name\":\"Door{i}Open\",\"auto\":false,\"multi\":false,\"require\":[],\"add\":[],\
             \"remove\":[\"Door{i}Closed\"],\"after\":[]}},\
             {{\"name\":\"Door{i}Closed\",\"auto\":true,\"multi\":false,\"require\":[],\
             \"add\":[],\"remove\":[\"Door{i}Open\"],\"after\":[]}},\
             {{\"name\":\"Door{i}Named\",\"auto\":false,\"multi\":false,\"require\":[],\"add\":[],\
             \"remove\":[],\"after\":[]}}"
        )
    };
    let multi = |name: &str| {
        format!(
            "{{\"name\":\"{name}\",\"auto\":false,\"multi\":true,\"require\":[],\"add\":[],\
             \"remove\":[],\"after\":[]}}"
        )
    };
    let group = |i: u32| format!("\"Door{i}Position\":[\"Door{i}Open\",\"Door{i}Closed\"]");
    let expected = format!(
        "{{\"fingerprint\":\"{}\",\"counts\":{{\"doors\":3}},\"states\":[{},{},{},{},{}],\
         \"groups\":{{{},{},{}}}}}\n",
        House::schema().fingerprint(),
        multi("Exception"),
        door(1),
        door(2),
        door(3),
        multi("Knock"),
        group(1),
        group(2),
        group(3),
    );
    assert_eq!(answer.text(), expected);
    assert_eq!(
        answer.header("etag"),
        format!("\"{}-j\"", House::schema().fingerprint())
    );
}
