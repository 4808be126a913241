use super::{Root, at};

const PARAMETERS: &str = r#"["ticks","payloads","group","after","min_rev","wait","door"]"#;

#[tokio::test]
async fn a_path_that_is_not_there_gets_the_ones_that_are() {
    let root = Root::with_a_door_open().await;
    let routes = "[\"/\",\"/v1/states\",\"/v1/states/NAME\",\"/v1/schema\",\"/v1/graph\",\
                  \"/v1/events\",\"/v1/mutations\",\"/v1/links\",\"/healthz\",\"/readyz\",\"/metrics\"]";
    for path in [
        "/v2",
        "/v1",
        "/v1/states/Knock/now",
        "/healthz/x",
        "/V1/states",
        "/v1/mutations/1",
    ] {
        let answer = root.node.get(path).await;
        answer.check_error(404, "unknown_path", "there is nothing at this path", routes);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn only_reading_is_allowed_where_states_are_shown() {
    let root = Root::with_a_door_open().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/v1/states", "/v1/events", "/healthz"] {
            let answer = root.node.ask(method, path, &[]).await;
            let message = "this path is for reading only";
            answer.check_error(405, "method_not_allowed", message, r#"["GET","HEAD"]"#);
            assert_eq!(answer.header("allow"), "GET, HEAD");
        }
    }
}

#[tokio::test]
async fn only_writing_is_allowed_where_they_are_changed() {
    let root = Root::with_a_door_open().await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = root.node.ask(method, "/v1/mutations", &[]).await;
        let message = "this path is for writing only";
        answer.check_error(405, "method_not_allowed", message, r#"["POST"]"#);
        assert_eq!(answer.header("allow"), "POST");
    }
    assert_eq!(
        root.node.ask("HEAD", "/v1/mutations", &[]).await.status(),
        405
    );
}

#[tokio::test]
async fn an_unknown_state_gets_similar_ones() {
    let root = Root::with_a_door_open().await;
    let answer = root.node.get("/v1/states/Door2Opened").await;
    let message = "unknown state `Door2Opened`, did you mean `Door2Open`?";
    let allowed = r#"["Door2Open","Door1Open","Door3Open","Door2Closed","Door2Named"]"#;
    answer.check_error(404, "unknown_state", message, allowed);
    let answer = root.node.get("/v1/states/Nothing%20at%20all").await;
    answer.check_error(404, "unknown_state", "unknown state `Nothing at all`", "[]");
    let answer = root
        .node
        .get(&format!("/v1/states/{}", "x".repeat(5000)))
        .await;
    let message = format!("unknown state `{}…`", "x".repeat(100));
    answer.check_error(404, "unknown_state", &message, "[]");
}

#[tokio::test]
async fn an_unknown_group_gets_the_ones_that_are() {
    let root = Root::with_a_door_open().await;
    for (name, allowed) in [
        ("Positions", "[\"Position\"]"),
        ("Door4Position", "[\"Position\"]"),
    ] {
        let answer = root.node.get(&format!("/v1/states?group={name}")).await;
        let message = format!("unknown group `{name}`, did you mean `Position`?");
        answer.check_error(400, "unknown_group", &message, allowed);
    }
}

#[tokio::test]
async fn an_unknown_parameter_gets_the_ones_that_are() {
    let root = Root::with_a_door_open().await;
    let answer = root.node.get("/v1/states?doors=1").await;
    answer.check_error(
        400,
        "unknown_parameter",
        "unknown parameter `doors`",
        PARAMETERS,
    );
    let answer = root.node.get("/?ticks=1").await;
    let allowed = r#"["group","after","min_rev","wait","door"]"#;
    answer.check_error(
        400,
        "unknown_parameter",
        "unknown parameter `ticks`",
        allowed,
    );
    let answer = root.node.get("/v1/events?since=1").await;
    answer.check_error(
        400,
        "unknown_parameter",
        "unknown parameter `since`",
        r#"["after"]"#,
    );
    for path in [
        "/v1/states/Knock",
        "/v1/schema",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        let answer = root.node.get(&format!("{path}?x")).await;
        answer.check_error(400, "unknown_parameter", "unknown parameter `x`", "[]");
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_is_refused() {
    let root = Root::with_a_door_open().await;
    let position = |name: &str| {
        format!(
            "`{name}` is a position: 32 hexadecimal digits, a dot and a revision, \
             as in the header Machine-Position"
        )
    };
    let wait = "`wait` is a number of seconds from 0 to 60";
    let at = at(2);
    for (query, message) in [
        ("after=7".to_owned(), &*position("after")),
        ("min_rev=x".to_owned(), &position("min_rev")),
        (format!("after={at}&wait=61"), wait),
        (format!("after={at}&wait=-1"), wait),
        (format!("min_rev={at}&wait=soon"), wait),
        ("ticks=yes".to_owned(), "`ticks` is 0 or 1"),
        ("payloads=".to_owned(), "`payloads` is 0 or 1"),
        ("door=4".to_owned(), "`door` is a number from 1 to 3"),
    ] {
        let answer = root.node.get(&format!("/v1/states?{query}")).await;
        answer.check_error(400, "bad_value", message, "[]");
    }
    let answer = root.node.get("/v1/events?after=7").await;
    answer.check_error(400, "bad_value", &position("after"), "[]");
}

#[tokio::test]
async fn parameters_that_do_not_go_together_are_refused() {
    let root = Root::with_a_door_open().await;
    let at = at(2);
    for (query, message) in [
        (
            "wait=1",
            "`wait` is for `after` and `min_rev`, neither is given",
        ),
        (
            &format!("after={at}&min_rev={at}"),
            "`after` and `min_rev` exclude each other",
        ),
        ("door=1&door=2", "`door` is given twice"),
    ] {
        let answer = root.node.get(&format!("/v1/states?{query}")).await;
        answer.check_error(400, "bad_query", message, "[]");
    }
    let answer = root
        .node
        .get(&format!("/v1/events?after={at}&after={at}"))
        .await;
    answer.check_error(400, "bad_query", "`after` is given twice", "[]");
}

#[tokio::test]
async fn a_position_of_another_epoch_is_a_conflict() {
    let root = Root::with_a_door_open().await;
    let other = "0123456789abcdef0123456789abcdef.2";
    let message = format!(
        "the position is of another epoch, this node is at {}",
        at(2)
    );
    for path in ["/", "/v1/states"] {
        for name in ["after", "min_rev"] {
            let answer = root.node.get(&format!("{path}?{name}={other}")).await;
            answer.check_error(409, "epoch_changed", &message, "[]");
            assert_eq!(answer.header("machine-position"), at(2));
        }
    }
}

#[tokio::test]
async fn errors_are_the_same_for_head() {
    let root = Root::with_a_door_open().await;
    let answer = root.node.ask("HEAD", "/v1/states/Nobody", &[]).await;
    answer.check(404, "");
    assert_eq!(answer.header("content-type"), "application/json");
}
