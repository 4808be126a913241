//! How a node is linked, for people.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::{Target, checked, ended, get, print};

/// Prints how `node` is linked; `json`: as the node writes it.
///
/// # Errors
///
/// [`Unreachable`](super::Unreachable), or what the node said.
pub async fn print_links(node: &Target, json: bool) -> anyhow::Result<()> {
    let answer = checked(get(node, "/v1/links", "application/json").await?)?;
    let text = String::from_utf8_lossy(&answer.body);
    if json {
        print(&ended(&text))?;
        return Ok(());
    }
    let value: Value = serde_json::from_str(&text).context("the node's answer is no JSON")?;
    print(&table(&value))?;
    Ok(())
}

/// What `/v1/links` says, in lines. Writing to a string cannot fail.
fn table(links: &Value) -> String {
    let mut out = format!("{} ({}", word(&links["node"]), word(&links["role"]));
    if !links["tier"].is_null() {
        let _ = write!(out, ", tier {}", links["tier"]);
    }
    out += ")";
    if let Some(position) = links["position"].as_str() {
        let _ = write!(out, " at {position}");
    }
    if links["draining"] == true {
        out += ", about to stop";
    }
    out.push('\n');
    upstream(&links["upstream"], &mut out);
    downstream(&links["downstream"], &mut out);
    let ring = &links["ring"];
    let _ = write!(
        out,
        "  ring      {} of {} deltas, {} of {} bytes",
        ring["deltas"], ring["most_deltas"], ring["bytes"], ring["most_bytes"]
    );
    if !ring["oldest"].is_null() {
        let _ = write!(out, ", from revision {}", ring["oldest"]);
    }
    out.push('\n');
    let store = &links["store"];
    if !store.is_null() {
        let _ = write!(
            out,
            "  store     {}, {}, {} batches, last sync {}",
            word(&store["dir"]),
            word(&store["durability"]),
            store["commits"],
            time(&store["last_sync_ms"])
        );
        if let Some(why) = store["waiting_for_room"].as_str() {
            let _ = write!(out, ", WAITS FOR ROOM: {}", plain(why));
        }
        out.push('\n');
    }
    out
}

fn upstream(up: &Value, out: &mut String) {
    if up.is_null() {
        return;
    }
    let _ = write!(out, "  parent    {}", word(&up["state"]));
    if let Some(parent) = up["parent"].as_str() {
        let _ = write!(out, " {}", plain(parent));
    }
    if let Some(why) = up["why"].as_str() {
        let _ = write!(out, ": {}", plain(why));
    }
    let _ = writeln!(
        out,
        ", age {}, {} moves, {} connects",
        time(&up["age_ms"]),
        up["moves"],
        up["connects"]
    );
    for (i, addr) in up["parents"].as_array().into_iter().flatten().enumerate() {
        let now = up["state"] == "following" && up["index"] == i;
        let mark = if now { "*" } else { " " };
        let _ = writeln!(out, "          {mark} {}", word(addr));
    }
    let _ = writeln!(out, "            {}", terms(up));
    let resyncs = up["resyncs"].as_object().into_iter().flatten();
    let resyncs: Vec<_> = resyncs
        .filter(|(_, count)| **count != 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let _ = writeln!(
        out,
        "            {} deltas, snapshots: {}",
        up["deltas"],
        if resyncs.is_empty() {
            "none".to_owned()
        } else {
            resyncs.join(", ")
        }
    );
}

fn downstream(down: &Value, out: &mut String) {
    let followers = down["followers"].as_array();
    let count = followers.map_or(0, Vec::len);
    let _ = writeln!(
        out,
        "  followers {count}, {} refused, {} dropped",
        down["refused"], down["dropped"]
    );
    let followers: Vec<_> = followers.into_iter().flatten().collect();
    let names = followers.iter().map(|follower| called(follower));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    for follower in followers {
        let _ = writeln!(
            out,
            "            {:width$}  {} behind, {}",
            called(follower),
            follower["lag"],
            terms(follower)
        );
    }
}

/// The name of a follower, and whom it was admitted as, if that is another.
fn called(follower: &Value) -> String {
    let (name, who) = (word(&follower["name"]), word(&follower["who"]));
    if who.is_empty() || who == name {
        name
    } else {
        format!("{name} as {who}")
    }
}

/// What holds on a link.
fn terms(link: &Value) -> String {
    let mut terms = vec![match &link["push_interval_ms"] {
        Value::Number(zero) if zero.as_f64() == Some(0.0) => "push at once".to_owned(),
        interval => format!("push every {}", time(interval)),
    }];
    if !link["heartbeat_ms"].is_null() {
        terms.push(format!("heartbeat {}", time(&link["heartbeat_ms"])));
    }
    terms.push(word(&link["granularity"]));
    if link["compress"] == true {
        terms.push("compressed".to_owned());
    }
    if !link["protocol"].is_null() {
        terms.push(format!("protocol {}", link["protocol"]));
    }
    let selection = &link["selection"];
    if !selection.is_null() {
        let list = selection["list"].as_str().map(plain);
        let list = list.map_or_else(String::new, |list| format!(" ({list})"));
        terms.push(format!("{} states{list}", selection["states"]));
    }
    terms.join(", ")
}

fn time(millis: &Value) -> String {
    let millis = millis.as_f64().unwrap_or(0.0).max(0.0);
    let time = Duration::try_from_secs_f64(millis / 1e3).unwrap_or_default();
    format!("{time:?}")
}

fn word(value: &Value) -> String {
    value.as_str().map(plain).unwrap_or_default()
}

/// What somebody else wrote, as far as a terminal may have it.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_sees_whom_a_node_follows_and_on_which_terms() {
        let link = |more: Value| {
            let mut link = json!({
                "push_interval_ms": 100, "heartbeat_ms": 1000, "granularity": "latest",
                "compress": true, "protocol": 2, "selection": null,
            });
            let fields = more.as_object().unwrap().clone();
            link.as_object_mut().unwrap().extend(fields);
            link
        };
        let links = json!({
            "node": "rep\u{7}-1", "role": "replicant", "tier": 1, "position": "ab.7", "draining": true,
            "upstream": link(json!({
                "state": "following", "why": null, "parent": "root", "index": 1,
                "parents": ["a:1", "b:2"], "age_ms": 12, "moves": 1, "connects": 3, "deltas": 5,
                "resyncs": {"first": 1, "digest": 0}, "selection": {"list": "Ready", "states": 1},
            })),
            "downstream": {"refused": 0, "dropped": 2, "followers": [
                link(json!({"name": "x", "who": "rep", "lag": 3, "push_interval_ms": 0.25, "compress": false}))
            ]},
            "ring": {"deltas": 1, "most_deltas": 2, "bytes": 3, "most_bytes": 4, "oldest": 5},
            "store": null,
        });
        let expected = "\
rep-1 (replicant, tier 1) at ab.7, about to stop
  parent    following root, age 12ms, 1 moves, 3 connects
            a:1
          * b:2
            push every 100ms, heartbeat 1s, latest, compressed, protocol 2, 1 states (Ready)
            5 deltas, snapshots: first 1
  followers 1, 0 refused, 2 dropped
            x as rep  3 behind, push every 250µs, heartbeat 1s, latest, protocol 2
  ring      1 of 2 deltas, 3 of 4 bytes, from revision 5
";
        assert_eq!(table(&links), expected);
    }
}
