use machine_runtime::States as _;

use super::*;
use crate::fixture::Flights;

/// The message of a file that is wrong, behind line and column.
fn wrong(text: &str) -> String {
    let dir = std::env::temp_dir().join(format!(
        "node-access-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("access.toml");
    std::fs::write(&path, text).unwrap();
    let error = read(&path, Flights::schema()).unwrap_err().to_string();
    std::fs::remove_dir_all(&dir).unwrap();
    let start = format!("{}:", path.display());
    error.strip_prefix(&start).unwrap_or(&error).to_owned()
}

fn hash(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

fn right(text: &str) -> Book {
    parse(text, Flights::schema()).unwrap()
}

#[test]
fn clients_are_known_by_tokens_and_certificates() {
    let text = format!(
        r#"
        [anonymous]
        roles = ["observe"]

        [[client]]
        name = "tower"
        roles = ["observe", "mutate"]
        states = "Flight*OnTime"
        tokens = ["{}", "{}"]

        [[client]]
        name = "rep-1"
        roles = ["follow", "mutate"]
        certificates = ["Rep-1"]

        [[client]]
        name = "boss"
        roles = ["admin"]
        tokens = ["{}"]
        "#,
        hash('1'),
        hash('2'),
        hash('3'),
    );
    let book = right(&text);
    assert!(book.anonymous.as_ref().unwrap().is_anonymous());
    let tokens: Vec<_> = book
        .tokens
        .iter()
        .map(|(_, client)| &**client.name())
        .collect();
    assert_eq!(tokens, ["tower", "tower", "boss"]);
    for digit in ['1', '2', '3'] {
        let fingerprint = Fingerprint::read(&hash(digit)).unwrap();
        let expected = if digit == '3' { "boss" } else { "tower" };
        assert_eq!(&**book.by_token(&fingerprint).unwrap().name(), expected);
    }
    assert!(
        book.by_token(&Fingerprint::read(&hash('4')).unwrap())
            .is_none()
    );
    let (_, tower) = &book.tokens[0];
    assert!(tower.roles().contains(Role::Mutate) && !tower.roles().contains(Role::Follow));
    let index = |name: &str| Flights::schema().find(name).unwrap();
    assert_eq!(
        tower.changes().first_forbidden([index("Flight1OnTime")]),
        None
    );
    let ready = index("Ready");
    assert_eq!(tower.changes().first_forbidden([ready]), Some(ready));
    let rep = &book.certificates["rep-1"];
    assert_eq!(rep.changes(), &Changes::Everything);
    assert_eq!(book.tokens[2].1.changes(), &Changes::Everything);
}

#[test]
fn nothing_in_it_lets_nobody_in() {
    let book = right("");
    let shown = machine_runtime::replica::Credentials::of_certificate(["a".to_owned()].into());
    assert!(book.who(&shown).is_none());
}

#[test]
fn what_is_wrong_is_said_with_where_and_what_would_be_right() {
    let client = |more: &str| format!("[[client]]\nname = \"a\"\n{more}");
    let observer = |more: &str| client(&format!("roles = [\"observe\"]\n{more}"));
    let (one, two) = (hash('1'), hash('2'));
    let other = format!("[[client]]\nname = \"b\"\nroles = []\ntokens = [\"{two}\"]\n");
    for (text, expected) in [
        (
            client(&format!(
                "roles = [\"observe\", \"mutat\"]\ntokens = [\"{one}\"]"
            )),
            "3:21: unknown role `mutat`, did you mean `mutate`? There is observe, follow, mutate, admin",
        ),
        (
            client(&format!(
                "roles = [\"mutate\"]\nstates = \"Redy\"\ntokens = [\"{one}\"]"
            )),
            "4:10: unknown state `Redy`, did you mean `Ready`?",
        ),
        (
            client(&format!(
                "roles = [\"mutate\"]\nstates = \"\"\ntokens = [\"{one}\"]"
            )),
            "4:10: nothing is selected",
        ),
        (
            observer(&format!("states = \"Ready\"\ntokens = [\"{one}\"]")),
            "4:10: `states` is of `mutate`, which is not among the roles",
        ),
        (
            client(&format!(
                "roles = [\"admin\"]\nstates = \"Ready\"\ntokens = [\"{one}\"]"
            )),
            "4:10: `states` is of `mutate`, but `admin` may change everything",
        ),
        (
            observer(""),
            "1:1: nobody can be `a`: it has neither `tokens` nor `certificates`",
        ),
        (
            observer(&format!("tokens = [\"{two}\"]\n{other}")),
            "8:11: the token of this hash is also that of `a`",
        ),
        (
            observer(&format!(
                "tokens = [\"{one}\"]\n{}",
                other.replace("\"b\"", "\"a\"")
            )),
            "6:8: there is another client called `a`",
        ),
        (
            observer("certificates = [\"x.example\", \"X.example\"]"),
            "4:30: a certificate for `x.example` is also that of `a`",
        ),
        (
            observer("certificates = [\"a b\"]"),
            "4:17: a certificate is told by a DNS name in it, such as `rep-1` or `rep-1.example`",
        ),
        (
            observer("tokens = [\"sha256:12\"]"),
            "4:11: this is no hash of a token, which is `sha256:` and 64 hexadecimal digits: `flights token` prints \
             it",
        ),
        (
            observer("token = []"),
            "4:1: unknown field `token`, expected one of `name`, `roles`, `states`, `tokens`, `certificates`",
        ),
        (
            "[anonymous]\nroles = [\"admin\"]".to_owned(),
            "2:10: `admin` is not for everybody: give it to a client",
        ),
        (
            "[[client]]\nname = \"anonymous\"\nroles = []".to_owned(),
            "2:8: `anonymous` is who shows nothing that is known: [anonymous] says what they may do",
        ),
        (
            "[[client]]\nname = \"\"\nroles = []".to_owned(),
            "2:8: a name has 1 to 64 printable characters",
        ),
    ] {
        assert_eq!(wrong(&text), expected);
    }
}

#[test]
fn no_message_repeats_a_secret_in_the_wrong_place() {
    let token = token::make().unwrap();
    let secret = token.secret();
    let rest = format!("roles = [\"observe\"]\ntokens = [\"{}\"]\n", hash('1'));
    for text in [
        format!("[[client]]\nname = \"a\"\nroles = [\"observe\"]\ntokens = [\"{secret}\"]"),
        format!("[[client]]\nname = \"a\"\nroles = [\"observe\"]\ntokens = \"{secret}\""),
        format!(
            "[[client]]\nname = \"a\"\nroles = [\"observe\"]\ntokens = [\"fl_{}\"]",
            &secret[4..]
        ),
        format!("[[client]]\nname = \"a\"\nroles = [\"observe\"]\ntokens = {secret}"),
        format!("[[client]]\nname = \"{secret}\"\n{rest}"),
        format!("[[client]]\nname = \"a\"\n{secret} = 1\n{rest}"),
        format!("[[client]]\nname = \"a\"\nroles = [\"{secret}\"]"),
        format!("[[client]]\nname = \"a\"\nroles = []\ncertificates = [\"{secret}\"]"),
        format!("[[client]]\nname = \"a\"\nstates = \"{secret}\"\nroles = [\"mutate\"]"),
        format!("[anonymous]\nroles = \"{secret}\""),
        format!("client = \"{secret}\""),
        secret.to_owned(),
    ] {
        let message = wrong(&text);
        assert!(!message.contains(&secret[5..20]), "{message}");
    }
    let low = wrong("[[client]]\nname = \"a\"\nroles = []\ntokens = \"hunter2\"");
    assert!(
        !low.contains("hunter2") && low.starts_with("4:10: "),
        "{low}"
    );
}

#[test]
fn a_file_that_everybody_can_write_is_refused() {
    let path = std::env::temp_dir().join(format!("node-access-{}.toml", std::process::id()));
    std::fs::write(&path, "").unwrap();
    assert!(read(&path, Flights::schema()).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = read(&path, Flights::schema()).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    assert!(error.contains("chmod o-w"), "{error}");
    assert!(matches!(
        read(&path, Flights::schema()),
        Err(WrongAccess::Unreadable { .. })
    ));
}
