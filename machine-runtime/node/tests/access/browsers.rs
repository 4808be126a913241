//! What browsers are told.

use hyper::Method;
use machine_node::access::Access;
use machine_node::http::Origins;

use super::{File, Reader, Root, bearer, client, get, schema};

const PAGE: &str = "https://a.example";

fn has_cors(headers: &hyper::HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("access-control-"))
}

#[tokio::test]
async fn no_page_of_another_site_reads_unless_it_may() {
    let closed = Root::start(Access::open(), |_| {}).await;
    let allowed = Origins::new(vec![PAGE.parse().unwrap()]);
    let open = Root::start(Access::open(), |config| config.security.origins = allowed).await;
    let preflight = [
        ("origin", PAGE),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let mut reader = Reader::new(closed.http).await;
    let response = reader
        .send(&Method::OPTIONS, "/v1/states", &preflight, "")
        .await;
    assert_eq!(response.status(), 403);
    assert!(!has_cors(response.headers()));
    for path in ["/", "/v1/states", "/v1/events", "/nope"] {
        let response = get(closed.http, path, &[("origin", PAGE)]).await;
        assert!(!has_cors(response.headers()), "{path}");
        let response = get(open.http, path, &[("origin", "https://b.example")]).await;
        assert!(!has_cors(response.headers()), "{path}");
        let response = get(open.http, path, &[("origin", PAGE)]).await;
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], PAGE, "{path}");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let vary: Vec<_> = headers.get_all("vary").iter().collect();
        assert!(
            vary.iter().any(|value| *value == "origin"),
            "{path}: {vary:?}"
        );
    }
    // What a cache keeps for one is not for another.
    for path in ["/", "/v1/states?ticks=1"] {
        let response = get(open.http, path, &[]).await;
        let mut vary = response.headers().get_all("vary").iter();
        assert!(vary.any(|value| value == "origin"), "{path}");
    }
    let mut reader = Reader::new(open.http).await;
    let response = reader
        .send(&Method::OPTIONS, "/v1/states", &preflight, "")
        .await;
    assert_eq!(response.status(), 204);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], PAGE);
    assert_eq!(headers["access-control-allow-methods"], "GET");
    assert!(
        headers["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("authorization")
    );
    assert!(headers.contains_key("access-control-max-age"));
    // Nothing is changed for a page of another site, not even of one that may read.
    let writes = [("origin", PAGE), ("access-control-request-method", "POST")];
    let response = reader
        .send(&Method::OPTIONS, "/v1/mutations", &writes, "")
        .await;
    assert_eq!(response.status(), 403);
    assert!(!has_cors(response.headers()));
}

#[tokio::test]
async fn every_answer_is_what_it_says_it_is() {
    let root = Root::start(Access::open(), |_| {}).await;
    for path in [
        "/",
        "/v1/states",
        "/v1/states?ticks=1",
        "/v1/schema",
        "/v1/graph",
        "/v1/events",
        "/metrics",
        "/healthz",
        "/nope",
        "/?token=x",
        "/v1/states?after=0",
    ] {
        let response = get(root.http, path, &[]).await;
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
    }
    let mut reader = Reader::new(root.http).await;
    let json = [("content-type", "application/json")];
    let response = reader
        .send(&Method::POST, "/v1/mutations", &json, "{}")
        .await;
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn what_is_no_token_or_not_where_it_belongs_is_not_taken() {
    let (token, entry) = client("boss", "[\"admin\"]");
    let file = File::new(
        "headers",
        &format!("[anonymous]\nroles = [\"observe\"]\n{entry}"),
    );
    let root = Root::start(Access::load(file.path(), &schema()).unwrap(), |_| {}).await;
    let (right, secret) = (bearer(&token), token.secret());
    let basic = format!("Basic {secret}");
    let query = format!("/?access_token={secret}");
    let hidden = format!("/v1/states?group={secret}");
    for (path, values, status) in [
        ("/", vec![], 200),
        ("/", vec![right.as_str()], 200),
        ("/", vec![basic.as_str()], 401),
        ("/", vec!["Bearer secret"], 401),
        ("/", vec!["Bearer"], 401),
        ("/", vec![right.as_str(), right.as_str()], 400),
        ("/healthz", vec![basic.as_str()], 200),
        ("/healthz", vec![right.as_str(), right.as_str()], 200),
        (query.as_str(), vec![], 400),
        (hidden.as_str(), vec![], 400),
        ("/?token=x", vec![right.as_str()], 400),
    ] {
        let headers: Vec<_> = values
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        let response = get(root.http, path, &headers).await;
        assert_eq!(response.status(), status, "{path} {}", values.len());
        let text = if status == 200 {
            String::new()
        } else {
            super::text(response).await
        };
        assert!(!text.contains(secret), "{text}");
    }
}
