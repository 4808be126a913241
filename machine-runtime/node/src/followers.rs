//! A node's side for followers.

use std::future::Future;
use std::pin::pin;

use machine_runtime::replica::{Credentials, Source};
use tokio::task::JoinSet;

use crate::door::{Arrival, Door, outdated};

/// Serves the followers that come in at `door` until `stop` resolves. One that came in by certificates that
/// are not the node's any more is closed: it comes again, and goes on from where it was.
pub(crate) async fn serve(source: Source, mut door: Door, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    // Aborts what is left when it drops; a question under way is asked again elsewhere.
    let mut connections = JoinSet::new();
    loop {
        let arrival = tokio::select! {
            () = &mut stop => return,
            arrival = door.next() => arrival,
            Some(_) = connections.join_next() => continue,
        };
        // To one that there is no room for nothing can be said that it would understand.
        let Arrival::Visitor(visitor) = arrival else {
            continue;
        };
        let (source, outdated) = (source.clone(), outdated(door.tls(), visitor.generation));
        connections.spawn(async move {
            let mut credentials = Credentials::of_certificate(visitor.names);
            credentials.address = Some(visitor.addr);
            tokio::select! {
                () = source.serve_peer(visitor.stream, credentials) => {}
                () = outdated => {}
            }
            drop(visitor.room);
        });
    }
}
