use machine_node::client::{self, Target};
use machine_node::tls::TlsClient;

use super::{Certs, Node, strs};
use crate::support::{Ended, run};

/// Who may do what, by the names in certificates: nobody here has a token.
const ACCESS: &str = "
[[client]]
name = \"watcher\"
roles = [\"observe\"]
certificates = [\"reader\"]

[[client]]
name = \"boss\"
roles = [\"admin\"]
certificates = [\"ops\"]

[[client]]
name = \"first\"
roles = [\"follow\"]
certificates = [\"rep-1\"]

[[client]]
name = \"third\"
roles = [\"observe\", \"mutate\"]
certificates = [\"rep-3\"]
";

/// What a client with the certificate of this name is answered.
async fn status(node: &Node, certs: &Certs, name: &str, path: &str) -> u16 {
    let [ca, cert, key] = ["ca", name, &format!("{name}-key")].map(|name| {
        let file = format!("{name}.pem");
        certs.file(&file)
    });
    let client = TlsClient::load(Some(&ca), Some((&cert, &key))).unwrap();
    let target = Target::new(&node.http).with_tls(client);
    let answer = client::get(&target, path, "application/json").await;
    answer.unwrap().head.status().as_u16()
}

/// Has a client with the certificate of this name change something.
fn mutate(node: &Node, certs: &Certs, name: &str) -> Ended {
    let flags = certs.flags(name);
    let asked = ["mutate", "--node", &node.http, "add", "Flight1Delayed"];
    run(&[&asked[..], &strs(&flags)].concat())
}

/// The flags of a node with a certificate for this name.
fn node_flags(certs: &Certs, name: &str) -> [String; 3] {
    let made = certs.make(&["--client=reader,stranger", "--name", name]);
    assert_eq!(made.code, Some(0), "{made:?}");
    for end in ["", "-key"] {
        let [made, kept] = ["node", name].map(|name| certs.file(&format!("{name}{end}.pem")));
        std::fs::rename(made, kept).unwrap();
    }
    certs.flags(name)
}

#[tokio::test]
async fn who_may_what_goes_by_the_names_in_certificates() {
    let certs = Certs::new("tls-roles");
    let reps = ["rep-1", "rep-2", "rep-3"].map(|name| node_flags(&certs, name));
    let own = node_flags(&certs, "root");
    let file = certs.file("access.toml");
    std::fs::write(&file, ACCESS).unwrap();
    let access = format!("--access={}", file.display());
    let root = Node::start_as("root", &certs, &own, None, &[&access]);

    for (name, statuses) in [
        ("reader", [200, 403, 200]),
        ("stranger", [401, 401, 200]),
        ("rep-1", [403, 403, 200]),
        ("rep-2", [401, 401, 200]),
        ("ops", [200, 200, 200]),
    ] {
        for (path, expected) in ["/v1/states", "/v1/links", "/healthz"].iter().zip(statuses) {
            let answered = status(&root, &certs, name, path).await;
            assert_eq!(answered, expected, "{path} by {name}");
        }
    }
    for (name, why) in [
        ("reader", "the role mutate, which watcher does not have"),
        ("stranger", "nobody is known by what the request shows"),
        ("rep-1", "the role mutate, which first does not have"),
    ] {
        let ended = mutate(&root, &certs, name);
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        assert!(ended.stderr.contains(why), "{name}: {ended:?}");
    }
    assert_eq!(mutate(&root, &certs, "ops").code, Some(0));

    // What nodes themselves let in is not asked here: they go by whoever has a certificate.
    let [first, second, third] = ["rep-1", "rep-2", "rep-3"];
    let first = Node::start_as(first, &certs, &reps[0], Some(&root), &[]);
    let second = Node::start_as(second, &certs, &reps[1], Some(&root), &[]);
    let third = Node::start_as(third, &certs, &reps[2], Some(&root), &[]);
    first.follows().await;
    for (node, why) in [
        (&second, "no certificate that it knows"),
        (&third, "whom it does not let follow"),
    ] {
        let links = node.linked(|links| links["upstream"]["state"] == "refused");
        let links = links.await;
        let told = links["upstream"]["why"].as_str().unwrap_or_default();
        assert!(told.contains("does not admit this node"), "{links:#}");
        assert!(told.contains(why), "{links:#}");
    }
    let links = root.get("/v1/links").await;
    let followers = links["downstream"]["followers"].as_array().unwrap();
    let followers: Vec<_> = followers
        .iter()
        .map(|one| (&one["name"], &one["who"]))
        .collect();
    assert_eq!(followers.len(), 1, "{links:#}");
    assert_eq!(
        (followers[0].0.as_str(), followers[0].1.as_str()),
        (Some("rep-1"), Some("first"))
    );
    // The link may follow and change nothing, whoever asks.
    let ended = mutate(&first, &certs, "ops");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("does not let this one change"),
        "{ended:?}"
    );

    // What the file says next holds for who is there.
    std::fs::write(&file, ACCESS.replace("\"rep-1\"", "\"rep-2\"")).unwrap();
    second.follows().await;
    first
        .linked(|links| links["upstream"]["state"] == "refused")
        .await;
}
