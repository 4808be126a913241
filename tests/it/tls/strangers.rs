use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{Certs, Node, strs};
use crate::links::linked;
use crate::support::{Folder, Program, run};

#[tokio::test]
async fn who_speaks_no_tls_or_is_of_another_authority_neither_follows_nor_reads() {
    let certs = Certs::new("tls-strangers");
    let other = Certs::new("tls-strangers-other");
    let root = Node::start("root", &certs, None, &[]);
    let parent = format!("--parent={}", root.rpc);
    let plain = Program::start(&["node", "--name=p", "--addr=:0", "--http-addr=:0", &parent]);
    let http = plain.line_after("p: http://");
    let links = linked(http.trim_end_matches('/'), |links| {
        !links["upstream"]["why"].is_null()
    });
    assert_eq!(links.await["upstream"]["connects"], 0);
    let stranger = Node::start("s", &other, Some(&root), &[]);
    let links = stranger.linked(|links| !links["upstream"]["why"].is_null());
    let links = links.await;
    let error = links["upstream"]["why"].as_str().unwrap();
    assert!(error.contains("UnknownIssuer"), "{links:#}");
    assert_eq!(links["upstream"]["connects"], 0);

    let got = run(&["get", "--node", &root.http]);
    assert_eq!(got.code, Some(1), "{got:?}");
    let hint = format!("it may want https://{}", root.http);
    assert!(got.stderr.contains(&hint), "{got:?}");
    let flags = other.flags("ops");
    let got = run(&[&["get", "--node", &root.http], &strs(&flags)[..]].concat());
    assert_eq!(got.code, Some(3), "{got:?}");
    assert!(got.stderr.contains("UnknownIssuer"), "{got:?}");
    // Trusting the node is not enough to be trusted by it.
    let [ca, ..] = certs.flags("ops");
    let [_, cert, key] = other.flags("ops");
    let got = run(&["get", "--node", &root.http, &ca, &cert, &key]);
    assert_ne!(got.code, Some(0), "{got:?}");
    let plain = format!("https://{}", http.trim_end_matches('/'));
    let got = run(&["get", "--node", &plain, &ca]);
    assert_eq!(got.code, Some(3), "{got:?}");
    assert!(got.stderr.contains("does not speak TLS"), "{got:?}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let certs = Certs::new("tls-files");
    let path = |name: &str| certs.file(name).display().to_string();
    let broken = certs.file("broken.pem");
    let text = std::fs::read_to_string(certs.file("node.pem")).unwrap();
    std::fs::write(&broken, text.replacen("-----END", "-----AND", 1)).unwrap();
    for (cert, key, file, why) in [
        (
            "node.pem",
            "ops-key.pem",
            "ops-key.pem",
            "the key does not belong to the certificate in",
        ),
        ("node.pem", "gone.pem", "gone.pem", "cannot read it"),
        (
            "node.pem",
            "node.pem",
            "node.pem",
            "no private key in it, but a certificate",
        ),
        (
            "node-key.pem",
            "node-key.pem",
            "node-key.pem",
            "no certificate in it, but a private key",
        ),
        (
            "broken.pem",
            "node-key.pem",
            "broken.pem",
            "line 1: the section has no end",
        ),
    ] {
        let flags = [
            format!("--tls-cert={}", path(cert)),
            format!("--tls-key={}", path(key)),
            format!("--tls-ca={}", path("ca.pem")),
        ];
        let ended = run(&[&["node", "--addr=:0"], &strs(&flags)[..]].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(&path(file)), "{ended:?}");
        assert!(ended.stderr.contains(why), "{why}: {ended:?}");
    }
    let ended = run(&["node", "--addr=:0", "--tls-cert=a"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--tls-key"), "{ended:?}");
}

#[test]
fn a_certificate_that_has_expired_is_not_trusted() {
    let folder = Folder::new("tls-expired");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let cert = params.self_signed(&key).unwrap();
    let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let ca = format!("--tls-ca={}", cert_file.display());
    let flags = [
        &ca,
        &format!("--tls-cert={}", cert_file.display()),
        &format!("--tls-key={}", key_file.display()),
    ];
    let own = ["node", "--name=root", "--addr=:0", "--http-addr=:0"];
    let flags: Vec<_> = flags.into_iter().map(String::as_str).collect();
    let root = Program::start(&[&own, &flags[..]].concat());
    let http = root.line_after("root: https://");
    let got = run(&["get", "--node", http.trim_end_matches('/'), &ca]);
    assert_eq!(got.code, Some(3), "{got:?}");
    assert!(got.stderr.contains("expired"), "{got:?}");
}

#[test]
fn what_would_be_open_to_strangers_is_exit_code_8_with_the_ways_out() {
    let certs = Certs::new("tls-open");
    let [ca, cert, key] = certs.flags("node");
    let token = certs.file("token");
    let made = run(&["token", "reader", "--out", token.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let token = format!("--token-file={}", token.display());
    let plain = "plain text beyond this computer";
    for (args, flag, why) in [
        (&["node", "--addr=0.0.0.0:0"][..], "--addr 0.0.0.0:0", plain),
        (&["node", "--addr=[::]:0"], "--addr [::]:0", plain),
        (
            &["node", "--addr=:0", "--http-addr=0.0.0.0:0"],
            "--http-addr",
            plain,
        ),
        (
            &["node", "--addr=:0", "--parent=10.0.0.1:1"],
            "--parent 10.0.0.1:1",
            plain,
        ),
        (
            &["node", "--addr=:0", "--parent=root.example:1"],
            "--parent root.example:1",
            plain,
        ),
        (
            &["node", "--addr=:0", "--debug-addr=10.0.0.1:1"],
            "--debug-addr",
            plain,
        ),
        (&["tree", "--debug-addr=10.0.0.1:1"], "--debug-addr", plain),
        (&["debug", "--listen=0.0.0.0:0"], "--listen", plain),
        (&["debug", "--http=0.0.0.0:0"], "--http", plain),
        (&["get", "--node=10.0.0.1:1", &token], "--token-file", plain),
        (
            &["node", "--addr=:0", &cert, &key],
            "--tls-cert",
            "lets everybody in",
        ),
        (&["tree", &cert, &key], "--tls-cert", "lets everybody in"),
        // TLS is for links, not for the debugger's.
        (
            &[
                "node",
                "--addr=:0",
                &ca,
                &cert,
                &key,
                "--debug-addr=10.0.0.1:1",
            ],
            "--debug-addr",
            plain,
        ),
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(8), "{args:?} {ended:?}");
        assert!(ended.stderr.contains(flag), "{args:?} {ended:?}");
        assert!(ended.stderr.contains(why), "{args:?} {ended:?}");
        let way = if why == plain {
            "--insecure-plaintext"
        } else {
            "--access"
        };
        assert!(ended.stderr.contains(way), "{args:?} {ended:?}");
    }
    for args in [
        &[
            "node",
            "--name=n",
            "--addr=0.0.0.0:0",
            "--insecure-plaintext",
        ][..],
        &["node", "--name=n", "--addr=0.0.0.0:0", &ca, &cert, &key],
    ] {
        let node = Program::start(args);
        node.line_after("n: tarpc ");
    }
}
