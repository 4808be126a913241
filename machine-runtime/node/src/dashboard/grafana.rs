//! The dashboard as Grafana reads it: the classic schema, which imports, provisioning and the API
//! take alike.
//!
//! Data sources are variables, so whoever looks can choose, and a provisioned dashboard, whose inputs
//! nobody fills in, uses the default ones. The inputs are there for an import by hand: what is chosen
//! then is what the variables begin with. A variable whose value is not filled in is no data source, and
//! Grafana takes the first that is one.

use serde_json::{Value, json};

use crate::metrics::{BUILD_INFO, START_TIME};

use super::panels::{Look, Panel, Row, Source, Tone, rows};
use super::{TITLE, UID};

/// The columns of the dashboard.
pub(super) const COLUMNS: u32 = 24;

/// The height of a heading.
const HEADING: u32 = 1;

/// The classic schema's version.
const SCHEMA: u32 = 39;

/// The levels that nodes log at.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The data source variables, what sort each is of, and the inputs that they begin with.
const SOURCES: [(&str, &str, &str, &str); 2] = [
    ("prometheus", "prometheus", "Prometheus", "DS_PROMETHEUS"),
    ("loki", "loki", "Loki", "DS_LOKI"),
];

/// The dashboard.
pub(super) fn dashboard() -> Value {
    json!({
        "__inputs": SOURCES.map(|(_, plugin, label, input)| json!({
            "name": input,
            "label": label,
            "description": "",
            "type": "datasource",
            "pluginId": plugin,
            "pluginName": label,
        })),
        "__requires": requires(),
        "annotations": { "list": annotations() },
        "description": "A tree of replicated state machines: how its nodes are, what they do, and \
                        what they log",
        "editable": true,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [],
        "panels": panels(&rows()),
        "refresh": "5s",
        "schemaVersion": SCHEMA,
        "tags": ["generated", TITLE],
        "templating": { "list": variables() },
        "time": { "from": "now-15m", "to": "now" },
        "timepicker": {},
        "timezone": "browser",
        "title": TITLE,
        "uid": UID,
        "version": 1,
        "weekStart": "",
    })
}

/// The dashboard as the API takes it, which fills in no inputs.
pub(super) fn uploaded() -> Value {
    let mut dashboard = dashboard();
    if let Some(fields) = dashboard.as_object_mut() {
        fields.remove("__inputs");
        fields.remove("__requires");
        fields.insert("id".to_owned(), Value::Null);
    }
    let variables = dashboard["templating"]["list"].as_array_mut();
    for variable in variables.into_iter().flatten() {
        if variable["type"] == "datasource" {
            variable["current"] = json!({ "text": "", "value": "" });
        }
    }
    dashboard
}

fn requires() -> Value {
    let kinds = [
        "stat",
        "table",
        "state-timeline",
        "timeseries",
        "heatmap",
        "logs",
    ];
    let grafana = json!({
        "type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.3.0",
    });
    let sources = SOURCES.map(|(_, plugin, label, _)| {
        json!({ "type": "datasource", "id": plugin, "name": label, "version": "1.0.0" })
    });
    let panels =
        kinds.map(|kind| json!({ "type": "panel", "id": kind, "name": kind, "version": "" }));
    let all = [grafana].into_iter().chain(sources).chain(panels);
    all.collect()
}

fn source(source: Source) -> Value {
    match source {
        Source::Prometheus => json!({ "type": "prometheus", "uid": "${prometheus}" }),
        Source::Loki => json!({ "type": "loki", "uid": "${loki}" }),
    }
}

/// What is marked in all panels: starts of nodes, and alerts.
fn annotations() -> Value {
    let marked = |name: &str, expr: String, color: &str, title: &str, at_value: bool| {
        let mut marked = json!({
            "datasource": source(Source::Prometheus),
            "enable": true,
            "expr": expr,
            "hide": false,
            "iconColor": color,
            "name": name,
            "step": "15s",
            "titleFormat": title,
        });
        if at_value {
            marked["useValueForTime"] = json!("on");
        }
        marked
    };
    let starts = START_TIME.max(&["machine"]).within("", " * 1000");
    json!([
        {
            "builtIn": 1,
            "datasource": { "type": "grafana", "uid": "-- Grafana --" },
            "enable": true,
            "hide": true,
            "iconColor": "rgba(0, 211, 255, 1)",
            "name": "Annotations & Alerts",
            "type": "dashboard",
        },
        marked("Starts", starts.text, "blue", "{{machine}} was started", true),
        marked(
            "Alerts",
            r#"ALERTS{alertstate="firing",service=~"$service|",machine=~"$machine|"}"#.to_owned(),
            "red",
            "{{alertname}} {{machine}}",
            false,
        ),
    ])
}

fn variables() -> Vec<Value> {
    let mut list: Vec<Value> = SOURCES
        .into_iter()
        .map(|(name, plugin, label, input)| {
            let current = format!("${{{input}}}");
            json!({
                "current": { "selected": false, "text": current, "value": current },
                "hide": 0,
                "includeAll": false,
                "label": label,
                "multi": false,
                "name": name,
                "options": [],
                "query": plugin,
                "refresh": 1,
                "regex": "",
                "skipUrlSync": false,
                "type": "datasource",
            })
        })
        .collect();
    let info = BUILD_INFO.full_name();
    list.push(labels("service", "Service", &info, "service", false));
    let of_service = format!(r#"{info}{{service=~"$service"}}"#);
    list.push(labels("machine", "Node", &of_service, "machine", true));
    list.push(labels("role", "Role", &of_service, "role", true));
    list.push(levels());
    list
}

/// A variable of the values that a label has.
fn labels(name: &str, title: &str, series: &str, label: &str, many: bool) -> Value {
    let query = format!("label_values({series}, {label})");
    let mut variable = json!({
        "datasource": source(Source::Prometheus),
        "definition": query,
        "hide": 0,
        "includeAll": many,
        "label": title,
        "multi": many,
        "name": name,
        "options": [],
        "query": { "query": query, "refId": "Variable" },
        "refresh": 2,
        "regex": "",
        "skipUrlSync": false,
        "sort": 5,
        "type": "query",
    });
    if many {
        variable["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
        // Who comes later is shown as well.
        variable["allValue"] = json!(".+");
    }
    variable
}

fn levels() -> Value {
    let mut options = vec![json!({ "selected": true, "text": "All", "value": "$__all" })];
    options.extend(LEVELS.map(|level| json!({ "selected": false, "text": level, "value": level })));
    json!({
        "allValue": ".+",
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "hide": 0,
        "includeAll": true,
        "label": "Level",
        "multi": true,
        "name": "level",
        "options": options,
        "query": LEVELS.join(","),
        "skipUrlSync": false,
        "type": "custom",
    })
}

/// Places rows under each other, and panels from left to right in each.
fn panels(rows: &[Row]) -> Vec<Value> {
    let mut list = Vec::new();
    let mut y = 0;
    let mut id = 0;
    let mut next = || {
        id += 1;
        id
    };
    for row in rows {
        list.push(json!({
            "collapsed": false,
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": HEADING },
            "id": next(),
            "panels": [],
            "title": row.title,
            "type": "row",
        }));
        y += HEADING;
        let (mut x, mut tallest) = (0, 0);
        for panel in &row.panels {
            if x + panel.width > COLUMNS {
                y += tallest;
                (x, tallest) = (0, 0);
            }
            let mut drawn = draw(panel);
            drawn["id"] = json!(next());
            drawn["gridPos"] = json!({ "x": x, "y": y, "w": panel.width, "h": panel.height });
            list.push(drawn);
            x += panel.width;
            tallest = tallest.max(panel.height);
        }
        y += tallest;
    }
    list
}

fn draw(panel: &Panel) -> Value {
    let (kind, options, defaults) = match panel.look {
        Look::Stat(bad) => stat(bad),
        Look::Nodes => ("table", table_options(), thresholds(None)),
        Look::Timeline(values) => timeline(values),
        Look::Lines => lines(false),
        Look::Stack => lines(true),
        Look::Heatmap => ("heatmap", heatmap_options(panel.unit), json!({})),
        Look::Logs => ("logs", logs_options(), json!({})),
    };
    let mut defaults = defaults;
    if !matches!(panel.look, Look::Logs | Look::Heatmap) {
        defaults["unit"] = json!(panel.unit);
    }
    let from = panel.targets.first().map(|target| target.source);
    let mut drawn = json!({
        "datasource": source(from.unwrap_or(Source::Prometheus)),
        "description": panel.description(),
        "fieldConfig": { "defaults": defaults, "overrides": [] },
        "options": options,
        "targets": targets(panel),
        "title": panel.title,
        "type": kind,
    });
    if panel.look == Look::Nodes {
        drawn["fieldConfig"]["overrides"] = columns();
        drawn["transformations"] = joined(panel);
    }
    drawn
}

/// Which letter a query goes by.
fn letter(i: usize) -> String {
    let letters = (b'A'..=b'Z').map(char::from);
    letters.skip(i).take(1).collect()
}

fn targets(panel: &Panel) -> Vec<Value> {
    let targets = panel.targets.iter().enumerate();
    let targets = targets.map(|(i, target)| {
        let mut value = json!({
            "datasource": source(target.source),
            "editorMode": "code",
            "expr": target.expr.text,
            "refId": letter(i),
        });
        match target.source {
            Source::Loki => value["queryType"] = json!("range"),
            Source::Prometheus => {
                value["instant"] = json!(target.instant);
                value["range"] = json!(!target.instant);
                value["format"] = json!(match panel.look {
                    Look::Nodes => "table",
                    Look::Heatmap => "heatmap",
                    _ => "time_series",
                });
                let durations = panel.unit == "s" && panel.look != Look::Nodes;
                value["exemplar"] = json!(durations && !target.instant);
            }
        }
        if !target.legend.is_empty() && panel.look != Look::Nodes {
            value["legendFormat"] = json!(target.legend);
        }
        value
    });
    targets.collect()
}

fn thresholds(bad: Option<u32>) -> Value {
    let mut steps = vec![json!({ "color": "green", "value": null })];
    if let Some(bad) = bad {
        steps.push(json!({ "color": "red", "value": bad }));
    }
    json!({
        "color": { "mode": "thresholds" },
        "mappings": [],
        "thresholds": { "mode": "absolute", "steps": steps },
    })
}

fn stat(bad: Option<u32>) -> (&'static str, Value, Value) {
    let options = json!({
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
        "showPercentChange": false,
        "textMode": "value",
        "wideLayout": true,
    });
    ("stat", options, thresholds(bad))
}

fn table_options() -> Value {
    json!({
        "cellHeight": "sm",
        "showHeader": true,
        "sortBy": [{ "displayName": "Node", "desc": false }],
    })
}

/// Makes one table of the queries' tables: what they have in common is the node and its role.
fn joined(panel: &Panel) -> Value {
    let order = [
        "machine",
        "role",
        "Tier",
        "parent",
        "Revision",
        "Lag",
        "Revisions behind",
        "Stale",
        "Followers",
        "version",
    ];
    let mut excluded = json!({ "Time": true });
    let mut renamed = json!({
        "machine": "Node", "role": "Role", "parent": "Parent", "version": "Version",
    });
    let mut places = json!({});
    for (i, target) in panel.targets.iter().enumerate() {
        let column = format!("Value #{}", letter(i));
        // Of these a label is what counts; the value is 1.
        if matches!(target.legend, "Parent" | "Version") {
            excluded[&column] = json!(true);
            continue;
        }
        places[&column] = json!(order.iter().position(|name| *name == target.legend));
        renamed[&column] = json!(target.legend);
    }
    for (i, name) in order.iter().enumerate() {
        if name.chars().all(char::is_lowercase) {
            places[*name] = json!(i);
        }
    }
    json!([
        { "id": "merge", "options": {} },
        {
            "id": "organize",
            "options": {
                "excludeByName": excluded,
                "includeByName": {},
                "indexByName": places,
                "renameByName": renamed,
            },
        },
    ])
}

fn columns() -> Value {
    let of = |name: &str, properties: Value| json!({ "matcher": { "id": "byName", "options": name }, "properties": properties });
    let stale = values([("no", Tone::Well), ("yes", Tone::Ill)]);
    json!([
        of(
            "Lag",
            json!([{ "id": "unit", "value": "s" }, { "id": "decimals", "value": 3 }])
        ),
        of(
            "Stale",
            json!([
                { "id": "mappings", "value": stale },
                { "id": "custom.cellOptions", "value": { "type": "color-text" } },
            ])
        ),
    ])
}

/// What 0 and 1 are called.
fn values(names: [(&str, Tone); 2]) -> Value {
    let mut options = json!({});
    for (i, (text, tone)) in names.into_iter().enumerate() {
        let color = match tone {
            Tone::Well => "green",
            Tone::Ill => "red",
            Tone::Idle => "text",
        };
        options[i.to_string()] = json!({ "color": color, "index": i, "text": text });
    }
    json!([{ "type": "value", "options": options }])
}

fn timeline(names: [(&str, Tone); 2]) -> (&'static str, Value, Value) {
    let options = json!({
        "alignValue": "left",
        "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true },
        "mergeValues": true,
        "rowHeight": 0.8,
        "showValue": "never",
        "tooltip": { "mode": "single", "sort": "none" },
    });
    let mut defaults = thresholds(None);
    defaults["mappings"] = values(names);
    defaults["custom"] = json!({ "fillOpacity": 75, "lineWidth": 0 });
    ("state-timeline", options, defaults)
}

fn lines(stacked: bool) -> (&'static str, Value, Value) {
    let options = json!({
        "legend": {
            "calcs": ["lastNotNull", "max"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": true,
        },
        "tooltip": { "mode": "multi", "sort": "desc" },
    });
    let defaults = json!({
        "color": { "mode": "palette-classic" },
        "custom": {
            "axisPlacement": "auto",
            "drawStyle": "line",
            "fillOpacity": if stacked { 40 } else { 5 },
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "showPoints": "auto",
            "spanNulls": false,
            "stacking": { "group": "A", "mode": if stacked { "normal" } else { "none" } },
        },
        "mappings": [],
        "min": 0,
    });
    ("timeseries", options, defaults)
}

fn heatmap_options(unit: &str) -> Value {
    json!({
        "calculate": false,
        "cellGap": 1,
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": false,
            "scale": "exponential",
            "scheme": "Oranges",
            "steps": 64,
        },
        "exemplars": { "color": "rgba(255,0,255,0.7)" },
        "filterValues": { "le": 1e-9 },
        "legend": { "show": true },
        "rowsFrame": { "layout": "auto" },
        "tooltip": { "mode": "single", "showColorScale": false, "yHistogram": false },
        "yAxis": { "axisPlacement": "left", "reverse": false, "unit": unit },
    })
}

fn logs_options() -> Value {
    json!({
        "dedupStrategy": "none",
        "enableLogDetails": true,
        "prettifyLogMessage": false,
        "showCommonLabels": false,
        "showLabels": false,
        "showTime": true,
        "sortOrder": "Descending",
        "wrapLogMessage": true,
    })
}
