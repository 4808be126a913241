//! Nodes that speak TLS: certificates, strangers, files that cannot be used, files that change.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use machine_node::client::{self, Target};
use machine_node::tls::TlsClient;
use serde_json::Value;

use crate::exposition::Exposition;
use crate::support::{Ended, Folder, PATIENCE, Program, command, run};

// Who may what, by the names in certificates.
mod roles;
// Certificates that are replaced while nodes run.
mod rotation;
// What is not started, or not reached.
mod strangers;

/// Certificates of one authority, made by the program itself.
#[derive(Debug)]
struct Certs {
    folder: Folder,
}

impl Certs {
    /// Those of a node, and of a client called `ops`.
    fn new(name: &str) -> Self {
        let certs = Self {
            folder: Folder::new(name),
        };
        let made = certs.make(&[]);
        assert_eq!(made.code, Some(0), "{made:?}");
        certs
    }

    /// Makes them, or again.
    fn make(&self, args: &[&str]) -> Ended {
        let dir = self.folder.path().to_str().unwrap();
        run(&[&["certs", dir, "--client", "ops"], args].concat())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags of whoever has the certificate of this name.
    fn flags(&self, name: &str) -> [String; 3] {
        let file = |name: &str| self.file(name).display().to_string();
        [
            format!("--tls-ca={}", file("ca.pem")),
            format!("--tls-cert={}", file(&format!("{name}.pem"))),
            format!("--tls-key={}", file(&format!("{name}-key.pem"))),
        ]
    }

    /// The client `ops`.
    fn client(&self) -> TlsClient {
        let [ca, cert, key] = ["ca.pem", "ops.pem", "ops-key.pem"].map(|name| self.file(name));
        TlsClient::load(Some(&ca), Some((&cert, &key))).unwrap()
    }
}

fn strs(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// A node that runs and speaks TLS.
#[derive(Debug)]
struct Node {
    program: Program,
    rpc: String,
    http: String,
    client: TlsClient,
}

impl Node {
    /// Starts one with the certificates of `certs`, as a replicant where it has a parent.
    fn start(name: &str, certs: &Certs, parent: Option<&Self>, args: &[&str]) -> Self {
        Self::start_as(name, certs, &certs.flags("node"), parent, args)
    }

    /// The same with a certificate that these flags name.
    fn start_as(
        name: &str,
        certs: &Certs,
        flags: &[String],
        parent: Option<&Self>,
        args: &[&str],
    ) -> Self {
        let name_flag = format!("--name={name}");
        let parent = parent.map(|parent| format!("--parent={}", parent.rpc));
        let mut all = vec!["node", &name_flag, "--addr=:0", "--http-addr=:0"];
        all.extend(parent.as_deref());
        all.extend(strs(flags));
        all.extend(args);
        let program = Program::start(&all);
        let rpc = program.line_after(&format!("{name}: tarpc "));
        let http = program.line_after(&format!("{name}: https://"));
        Self {
            program,
            rpc,
            http: http.trim_end_matches('/').to_owned(),
            client: certs.client(),
        }
    }

    fn pid(&self) -> u32 {
        self.program.pid()
    }

    async fn answer(&self, path: &str) -> client::Answer {
        let target = Target::new(&self.http).with_tls(self.client.clone());
        client::get(&target, path, "application/json")
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&self.answer(path).await.body).unwrap()
    }

    /// Waits until its links are so, and returns them.
    async fn linked(&self, so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let links = self.get("/v1/links").await;
            if so(&links) {
                return links;
            }
            assert!(Instant::now() < end, "{links:#}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until it follows its parent.
    async fn follows(&self) -> Value {
        self.linked(|links| links["upstream"]["state"] == "following")
            .await
    }

    /// How often its certificates were read again, and how often that failed.
    async fn reloads(&self, result: &str) -> f64 {
        let target = Target::new(&self.http).with_tls(self.client.clone());
        let answer = client::get(&target, "/metrics", "text/plain")
            .await
            .unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let labels = [("file", "tls"), ("result", result)];
        let shown = Exposition::classic(&text);
        shown.sum("machine_reloads_total", &labels).unwrap()
    }

    /// Waits until its certificates were read again so often with this result.
    async fn reloaded(&self, result: &str, count: f64) {
        let end = Instant::now() + PATIENCE;
        while self.reloads(result).await < count {
            assert!(Instant::now() < end, "{result} {count}");
            tokio::task::yield_now().await;
        }
    }

    /// Has the client `ops` change something here; returns where that was.
    fn mutate(&self, certs: &Certs, args: &[&str]) -> String {
        let flags = certs.flags("ops");
        let own = ["mutate", "--node", &self.http];
        let ended = run(&[&own, &strs(&flags)[..], args].concat());
        let position = ended.stdout.strip_prefix("executed at ");
        let position = position.unwrap_or_else(|| panic!("{ended:?}"));
        position.trim_end().to_owned()
    }
}

#[tokio::test]
async fn a_tree_speaks_tls_on_each_link_and_to_readers_and_writers() {
    let certs = Certs::new("tls-tree");
    let root = Node::start("root", &certs, None, &[]);
    let rep = Node::start("rep", &certs, Some(&root), &[]);
    let leaf = Node::start("leaf", &certs, Some(&rep), &[]);
    leaf.follows().await;
    let position = leaf.mutate(&certs, &["add", "Flight1Delayed"]);
    leaf.answer(&format!("/v1/states?min_rev={position}")).await;
    let flags = certs.flags("ops");
    for node in [leaf.http.clone(), format!("https://{}/", root.http)] {
        let got = run(&[&["get", "--node", &node], &strs(&flags)[..]].concat());
        assert_eq!(got.code, Some(0), "{got:?}");
        assert!(
            got.stdout.lines().any(|line| line == "Flight1Delayed"),
            "{got:?}"
        );
    }
    let table = run(&[&["top", "--once", "--node", &leaf.http], &strs(&flags)[..]].concat());
    assert!(table.stdout.contains("1 of 1 nodes answer"), "{table:?}");
    let by_localhost = leaf.http.replace("127.0.0.1", "localhost");
    let links = run(&[&["links", "--node", &by_localhost], &strs(&flags)[..]].concat());
    assert!(
        links.stdout.contains("leaf (replicant, tier 2)"),
        "{links:?}"
    );
}

#[test]
fn a_tree_in_processes_hands_its_certificates_on() {
    let certs = Certs::new("tls-processes");
    let flags = certs.flags("node");
    let own = [
        "tree",
        "--processes",
        "--fanout=1",
        "--rpc-port=0",
        "--http-port=0",
    ];
    let tree = Program::start(&[&own, &strs(&flags)[..], &["--speed=max"]].concat());
    tree.line(|line| line.contains("2 nodes are ready").then_some(()));
    let at = tree.line_after("rep-1: https://");
    let flags = certs.flags("ops");
    let node = ["get", "--node", at.trim_end_matches('/')];
    let got = run(&[&node, &strs(&flags)[..]].concat());
    assert_eq!(got.code, Some(0), "{got:?}");
    assert!(tree.interrupt().success());
}

#[test]
fn certificates_are_made_again_and_an_authority_never_is() {
    let certs = Certs::new("tls-certs");
    let read = |name: &str| std::fs::read_to_string(certs.file(name)).unwrap();
    let (ca, node) = (read("ca.pem"), read("node.pem"));
    let again = certs.make(&["--name", "node.example,10.0.0.1", "--days", "7"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("kept as it is"), "{again:?}");
    let names = "for nodes at localhost, 127.0.0.1, ::1, node.example, 10.0.0.1, 7 days";
    assert!(again.stdout.contains(names), "{again:?}");
    assert!(again.stdout.contains("flights tree --tls-ca "), "{again:?}");
    assert_eq!(read("ca.pem"), ca);
    assert_ne!(read("node.pem"), node);
    for key in ["ca-key.pem", "node-key.pem", "ops-key.pem"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(certs.file(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let left = std::fs::read_dir(certs.folder.path()).unwrap();
    let left =
        left.filter(|file| file.as_ref().unwrap().path().extension() == Some("new".as_ref()));
    assert_eq!(left.count(), 0);
    // Another authority's key would make what nobody trusts.
    let other = Certs::new("tls-certs-other");
    std::fs::copy(other.file("ca-key.pem"), certs.file("ca-key.pem")).unwrap();
    let wrong = certs.make(&[]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(
        wrong
            .stderr
            .contains("the authority is another than the key"),
        "{wrong:?}"
    );
    std::fs::remove_file(certs.file("ca-key.pem")).unwrap();
    let wrong = certs.make(&[]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("never overwritten"), "{wrong:?}");
    assert_eq!(read("ca.pem"), ca);
    let wrong = certs.make(&["--client=ca"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

/// Starts `flights watch` as `ops`; what it says of its connection goes to a file.
fn watch(node: &Node, certs: &Certs, said: &Path) -> Program {
    let flags = certs.flags("ops");
    let args = [&["watch", "--node", &node.http], &strs(&flags)[..]].concat();
    let said = std::fs::File::create(said).unwrap();
    Program::start_command(command(&args).stderr(Stdio::from(said)))
}
