use std::collections::BTreeSet;
use std::time::Duration;

use machine_runtime::observe::Observers;
use machine_runtime::{Machine, States as _};
use tokio::net::TcpListener;

use super::*;
use crate::fixture::Flights;
use crate::metrics::{ALL, Kind, On};
use crate::node::{self, NodeConfig, Origin, Sockets};
use crate::observe::ObserveConfig;
use crate::shutdown::Tasks;

/// A family and the names of the labels that its samples have.
type Families = BTreeMap<String, (String, BTreeSet<Vec<String>>)>;

/// The families of a text in the classic format.
fn families(text: &str) -> Families {
    let mut families = Families::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            name.clone_into(&mut family);
            let new = families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            assert!(new.is_none(), "{name} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} among {family}");
            let (_, labels) = line.split_once('{').unwrap_or((line, ""));
            let labels = labels.split("=\"").filter_map(|part| {
                let name = part.rsplit(['"', ',']).next().unwrap();
                let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                (is_name && !name.is_empty()).then(|| name.to_owned())
            });
            let labels = labels.filter(|label| label != "le").collect();
            families.get_mut(&family).unwrap().1.insert(labels);
        }
    }
    families
}

fn of_catalogue(role: On) -> BTreeMap<String, (String, Vec<String>)> {
    let here = ALL
        .iter()
        .filter(|metric| metric.on == On::All || metric.on == role);
    here.map(|metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = COMMON.iter().chain(metric.labels);
        let labels = labels.map(|label| (*label).to_owned()).collect();
        (metric.full_name(), (kind.to_owned(), labels))
    })
    .collect()
}

async fn socket() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

fn config(name: &str, origin: Origin) -> NodeConfig {
    let mut observe = ObserveConfig::new("test");
    observe.state_metrics = vec!["*".to_owned()];
    NodeConfig::new(name, "1.0.0", origin, observe)
}

/// A root that is started and one that follows it.
async fn pair(tasks: &Tasks) -> (node::Node, node::Node) {
    let observers = Observers::new();
    let machine = node::start_machine(Machine::<Flights>::new(), &observers, tasks);
    let handle = machine.await.unwrap();
    let (rpc, addr) = socket().await;
    let sockets = Sockets { rpc, http: None };
    let origin = Origin::Machine(handle.untyped(), observers);
    let root = node::Node::start(config("root", origin), sockets, tasks).unwrap();
    let (rpc, _) = socket().await;
    let sockets = Sockets { rpc, http: None };
    let origin = Origin::Parents(Flights::schema().clone(), vec![addr]);
    let replica = node::Node::start(config("rep-1", origin), sockets, tasks).unwrap();
    (root, replica)
}

#[tokio::test]
async fn a_node_shows_what_the_catalogue_says_and_nothing_else() {
    let tasks = Tasks::default();
    let (root, replica) = pair(&tasks).await;
    let before = families(&replica.metrics());
    let absent = [
        catalogue::STATES_ACTIVE,
        catalogue::EXCEPTION,
        catalogue::STATE_ACTIVE,
        catalogue::REVISION,
        catalogue::TIER,
    ];
    // Neither speaks TLS.
    let of_catalogue = |role| {
        let mut expected = of_catalogue(role);
        expected.remove(&catalogue::TLS_LEFT.full_name());
        expected
    };
    let mut expected = of_catalogue(On::Replicant);
    for metric in absent {
        expected.remove(&metric.full_name());
    }
    assert!(before.keys().eq(expected.keys()), "{before:?}");
    replica.view().positions().changed().await.unwrap();
    for (node, role) in [(&root, On::Root), (&replica, On::Replicant)] {
        let (shown, expected) = (families(&node.metrics()), of_catalogue(role));
        assert!(shown.keys().eq(expected.keys()), "{shown:?}");
        for (name, (kind, labels)) in shown {
            let (expected_kind, expected) = &expected[&name];
            assert_eq!(&kind, expected_kind, "{name}");
            // Only one that tells its followers apart may have none to tell of.
            let empty = name == catalogue::FOLLOWER_LAG.full_name() && labels.is_empty();
            assert!(
                empty || labels == [expected.clone()].into(),
                "{name} {labels:?}"
            );
        }
    }
    tasks.stop();
}

#[tokio::test]
async fn open_metrics_have_exemplars_and_the_classic_format_has_none() {
    let (handle, _owner) = machine_runtime::Owner::new(
        Machine::<Flights>::new(),
        machine_runtime::Epoch(1),
        machine_runtime::ViewOptions::default(),
    );
    let site = crate::http::of_root(&handle).site;
    let trace = machine_runtime::TraceContext::root(true);
    let began = std::time::Instant::now();
    let route = crate::http::traffic::Route::Mutations;
    site.traffic.time_traced(route, began, Some(trace));
    let open = site.metrics.render(Format::Open);
    let with: Vec<_> = open.lines().filter(|line| line.contains(" # {")).collect();
    let [line] = with[..] else {
        panic!("{with:?}");
    };
    assert!(line.starts_with("machine_http_request_seconds_bucket{"));
    assert!(line.contains("route=\"/v1/mutations\""), "{line}");
    let shown = format!(
        "{{trace_id=\"{:032x}\",span_id=\"{:016x}\"}} ",
        trace.trace, trace.span
    );
    assert!(line.contains(&shown), "{line}");
    assert!(open.ends_with("\n# EOF\n"));
    let classic = site.metrics.render(Format::Classic);
    for open in [" # {", "# UNIT", "# EOF"] {
        assert!(!classic.contains(open));
    }
}

#[test]
fn a_state_that_is_none_is_told_with_the_one_that_was_meant() {
    let mut config = ObserveConfig::new("test");
    config.state_metrics = vec!["Ready".to_owned(), "Flight1Delaid".to_owned()];
    let error = config.check(Flights::schema()).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("Flight1Delaid") && error.contains("Flight1Delayed"),
        "{error}"
    );
    config.state_metrics.pop();
    assert_eq!(config.watched(Flights::schema()).unwrap().len(), 1);
    config.state_metrics = vec!["*".to_owned()];
    let all = config.watched(Flights::schema()).unwrap();
    assert_eq!(all.len(), Flights::schema().len());
}

#[tokio::test(start_paused = true)]
async fn a_window_of_old_names_is_over_when_somebody_asks_after_15_seconds() {
    let (handle, owner) = machine_runtime::Owner::new(
        Machine::<Flights>::new(),
        machine_runtime::Epoch(1),
        machine_runtime::ViewOptions::default(),
    );
    let tasks = Tasks::default();
    let stopped = tasks.stopped();
    tasks.spawn(async move {
        owner.run(stopped).await;
    });
    let mut config = ObserveConfig::new("test");
    config.compat = true;
    let observed = Observed::new(config, Observers::new());
    let http = crate::http::Http::new(
        "A/b",
        "1.0.0",
        &handle,
        Links::default(),
        Vitals::default(),
        observed,
        crate::http::Guard::default(),
    );
    let http = http.unwrap();
    let active = || {
        let shown = http.metrics();
        let line = shown
            .lines()
            .find(|line| line.starts_with("am_states_active_a_b "));
        line.unwrap().split_once(' ').unwrap().1.to_owned()
    };
    let before = handle.view().active().iter().count();
    assert_eq!(active(), format!("{before}.0"));
    let receipt = handle.add(Flights::Start).await.unwrap();
    assert!(receipt.outcome.is_executed());
    let after = handle.view().active().iter().count();
    assert_eq!((after - before) % 2, 1, "there is a fraction to be seen");
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(active(), format!("{before}.0"));
    tokio::time::advance(Duration::from_secs(1)).await;
    let middle = format!("{}.5", usize::midpoint(before, after));
    assert_eq!(active(), middle);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(active(), middle);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(active(), format!("{after}.0"));
    tasks.stop();
}
