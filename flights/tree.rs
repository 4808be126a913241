//! A whole tree on this computer: which nodes there are, in one process or in one each.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::cli::{HTTP_PORT, RPC_PORT, TreeArgs, Usage};
use crate::node::{Node, NodeConfig, Sockets};
use crate::processes::Processes;
use crate::shutdown::Tasks;
use crate::status::{Lines, Row};

/// The most nodes that a tree has.
const MOST_NODES: usize = 1000;

/// A node of a tree that is to be: the root first, then tier by tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its name: `root`, `rep-2`, `rep-2-3`.
    pub name: String,
    /// Where in the list its parent is.
    pub parent: Option<usize>,
    /// How many links it is from the root.
    pub tier: u32,
}

/// The places of a tree in which so many replicants follow each node, tier by tier.
///
/// # Errors
///
/// If a tier would be empty or the tree too large.
pub fn places(fanout: &[usize]) -> Result<Vec<Place>, Usage> {
    let mut places = vec![Place {
        name: "root".to_owned(),
        parent: None,
        tier: 0,
    }];
    let mut above = 0..1;
    for (tier, count) in (1..).zip(fanout) {
        if *count == 0 {
            return Err(Usage(
                "--fanout: a tier of 0 replicants has nobody in it".to_owned(),
            ));
        }
        let start = places.len();
        for parent in above {
            let stem = if parent == 0 {
                "rep"
            } else {
                &places[parent].name
            }
            .to_owned();
            for i in 1..=*count {
                let name = format!("{stem}-{i}");
                places.push(Place {
                    name,
                    parent: Some(parent),
                    tier,
                });
                let len = places.len();
                if len > MOST_NODES {
                    return Err(Usage(format!("--fanout: more than {MOST_NODES} nodes")));
                }
            }
        }
        above = start..places.len();
    }
    Ok(places)
}

/// A running tree.
#[derive(Debug)]
pub enum Tree {
    /// All nodes are in this process.
    Here(Vec<Node>),
    /// Each node is a process of its own.
    Processes(Processes),
}

impl Tree {
    /// Starts the tree that `args` describe.
    ///
    /// # Errors
    ///
    /// If a port that was asked for is taken, or a process cannot be started.
    pub async fn start(args: &TreeArgs, tasks: &Tasks, lines: &Lines) -> anyhow::Result<Self> {
        let places = places(&args.fanout)?;
        let mut sockets = Vec::new();
        for i in 0..places.len() {
            let rpc = bind(args.rpc_port, RPC_PORT, i, "--rpc-port").await?;
            let http = bind(args.http_port, HTTP_PORT, i, "--http-port").await?;
            sockets.push((rpc, http));
        }
        let addrs = sockets
            .iter()
            .map(|(rpc, http)| Ok((rpc.local_addr()?, http.local_addr()?)))
            .collect::<io::Result<Vec<_>>>()?;
        if args.processes {
            // Each process binds its own; what is free now is so in a moment as well.
            drop(sockets);
            let processes = Processes::start(&places, &addrs, args, tasks, lines)?;
            return Ok(Self::Processes(processes));
        }
        let mut nodes = Vec::new();
        for (place, (rpc, http)) in places.iter().zip(sockets) {
            let config = NodeConfig {
                name: place.name.clone(),
                parent: place.parent.map(|parent| addrs[parent].0.to_string()),
                push_interval: args.link.push_interval,
            };
            nodes.push(Node::start(
                config,
                Sockets {
                    rpc,
                    http: Some(http),
                },
                tasks,
            )?);
        }
        nodes[0].begin().await?;
        Ok(Self::Here(nodes))
    }

    /// How the nodes are, the root first. Each follows its parent.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = match self {
            Self::Here(nodes) => nodes.iter().map(Node::row).collect(),
            Self::Processes(processes) => processes.rows(),
        };
        // Children under their parents; the names sort that way.
        rows.sort_by_key(|row: &Row| {
            let numbers = row.name.split('-').skip(1);
            numbers
                .map(|number| number.parse().unwrap_or(0))
                .collect::<Vec<u32>>()
        });
        rows
    }

    /// Waits until every node has something to show.
    pub async fn ready(&self) {
        self.until(|rows| rows.iter().all(|row| row.position.is_some()))
            .await;
    }

    /// Waits until all nodes are at one position, and returns how they are then.
    pub async fn converged(&self) -> Vec<Row> {
        self.until(|rows| {
            let newest = rows[0].position;
            newest.is_some() && rows.iter().all(|row| row.position == newest)
        })
        .await
    }

    fn until(&self, done: impl Fn(&[Row]) -> bool) -> impl Future<Output = Vec<Row>> {
        let look = Duration::from_millis(2);
        async move {
            loop {
                let rows = self.rows();
                if done(&rows) {
                    return rows;
                }
                tokio::time::sleep(look).await;
            }
        }
    }
}

/// Listens on the port that was asked for, or on the usual one, or on a free one where that is
/// taken.
async fn bind(
    asked: Option<u16>,
    usual: u16,
    offset: usize,
    flag: &str,
) -> anyhow::Result<TcpListener> {
    let offset = u16::try_from(offset).context("too many nodes for the ports there are")?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(first) = asked {
        let port = match first {
            0 => 0,
            first => first
                .checked_add(offset)
                .ok_or_else(|| Usage(format!("{flag}: there is no port {first} + {offset}")))?,
        };
        return TcpListener::bind(local(port))
            .await
            .with_context(|| format!("cannot listen on {}, choose another {flag}", local(port)));
    }
    match TcpListener::bind(local(usual + offset)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind(local(0))
            .await
            .context("there is no free port"),
        Err(error) => {
            Err(error).with_context(|| format!("cannot listen on {}", local(usual + offset)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_up_tier_by_tier() {
        let places = places(&[2, 3]).unwrap();
        let names: Vec<_> = places.iter().map(|place| place.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "root", "rep-1", "rep-2", "rep-1-1", "rep-1-2", "rep-1-3", "rep-2-1", "rep-2-2",
                "rep-2-3"
            ]
        );
        assert_eq!(places[5].parent, Some(1));
        assert_eq!(places[6].parent, Some(2));
        assert_eq!(places[8].tier, 2);
    }

    #[test]
    fn a_tree_has_no_empty_tier_and_is_not_endless() {
        assert!(places(&[2, 0]).is_err());
        assert!(places(&[100, 100]).is_err());
        assert_eq!(places(&[]).unwrap().len(), 1);
    }
}
