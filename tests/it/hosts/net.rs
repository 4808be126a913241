//! Hosts with wires between them: network namespaces and veth pairs.

use std::process::{Command, Output};

/// A host's address, which is where its node serves others.
const HOSTS: &str = "10.97.0";

/// The network over which the test asks nodes. Nothing ever happens to it.
const CONTROL: &str = "10.98.0";

/// A switch that all hosts and the test are plugged into.
const SWITCH: &str = "control";

/// The host that asks: the test itself.
const TEST: u8 = 254;

/// Hosts, each of which has a network of its own.
#[derive(Debug)]
pub(super) struct Net {
    names: Vec<&'static str>,
}

impl Net {
    /// Hosts of these names, without wires.
    pub(super) fn new(names: &[&'static str]) -> Self {
        let net = Self {
            names: names.to_vec(),
        };
        ip(&format!("link add {SWITCH} type bridge"));
        ip(&format!("addr add {CONTROL}.{TEST}/24 dev {SWITCH}"));
        ip(&format!("link set {SWITCH} up"));
        for name in names {
            let (host, control) = (net.addr(name), net.control(name));
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} addr add {host}/32 dev lo"));
            ip(&format!("-n {name} link set lo up"));
            let plug = format!("c-{name}");
            ip(&format!(
                "link add {plug} type veth peer name {SWITCH} netns {name}"
            ));
            ip(&format!("link set {plug} master {SWITCH} up"));
            ip(&format!("-n {name} addr add {control}/24 dev {SWITCH}"));
            ip(&format!("-n {name} link set {SWITCH} up"));
        }
        net
    }

    fn number(&self, name: &str) -> usize {
        1 + self.names.iter().position(|other| *other == name).unwrap()
    }

    /// Where other hosts reach this one.
    pub(super) fn addr(&self, name: &str) -> String {
        format!("{HOSTS}.{}", self.number(name))
    }

    /// Where the test reaches it.
    pub(super) fn control(&self, name: &str) -> String {
        format!("{CONTROL}.{}", self.number(name))
    }

    /// Puts a wire between two hosts.
    pub(super) fn wire(&self, one: &str, other: &str) {
        ip(&format!(
            "link add to-{other} netns {one} type veth peer name to-{one} netns {other}"
        ));
        self.plug(one, other);
        self.plug(other, one);
    }

    /// Pulls the wire to `to` out of `host`: the link is down at both ends.
    pub(super) fn unplug(host: &str, to: &str) {
        ip(&format!("-n {host} link set to-{to} down"));
    }

    /// Puts the wire back.
    pub(super) fn plug(&self, host: &str, to: &str) {
        ip(&format!("-n {host} link set to-{to} up"));
        self.route(host, to);
    }

    /// Has `host` lose all that it sends to `to`: nothing of it arrives, and nobody is told. What
    /// comes from there does.
    pub(super) fn lose(&self, host: &str, to: &str) {
        let addr = self.addr(to);
        ip(&format!("-n {host} route replace blackhole {addr}/32"));
    }

    /// Has `host` send to `to` over their wire.
    pub(super) fn route(&self, host: &str, to: &str) {
        let (from, addr) = (self.addr(host), self.addr(to));
        ip(&format!(
            "-n {host} route replace {addr}/32 dev to-{to} src {from}"
        ));
    }

    /// Has what `host` sends to `to` pass a queueing discipline. Whether the kernel has that one.
    pub(super) fn shape(host: &str, to: &str, discipline: &str) -> bool {
        let output = run(
            "tc",
            &format!("-n {host} qdisc replace dev to-{to} root {discipline}"),
        );
        let unknown = String::from_utf8_lossy(&output.stderr).contains("kind is unknown");
        assert!(output.status.success() || unknown, "{output:?}");
        !unknown
    }
}

/// A command that is run on a host.
pub(super) fn on(host: &str, program: &Command) -> Command {
    // It becomes the program, so that signals to it are signals to that.
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{host}"))
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(std::process::Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn ip(args: &str) {
    let output = run("ip", args);
    assert!(output.status.success(), "ip {args}: {output:?}");
}

fn run(program: &str, args: &str) -> Output {
    let args = args.split_whitespace();
    Command::new(program).args(args).output().unwrap()
}
