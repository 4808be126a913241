//! How many files the process may have open, connections among them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::Limits;

/// How many files a program of nodes has open besides its connections: its store, listeners, exporters, a
/// debugger, and whatever it opens for a moment.
const RESERVE: u64 = 64;

/// Lets the process open as many files as it may: the soft limit becomes the hard one. Returns how many that are;
/// none where there is no limit.
///
/// A failure is logged, and what was before holds on.
pub fn raise() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return before.current;
    }
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(error) => {
            let files = before.current;
            tracing::warn!(%error, files, "cannot raise the limit of open files");
            before.current
        }
    }
}

/// Makes the limits of each of `nodes` in one process fit into as many files as it may have open. Followers'
/// connections are cut to half of what there is, readers' to the rest, and a line says so: whoever is let in
/// can be served.
pub fn fit(limits: &mut Limits, files: Option<u64>, nodes: usize) {
    let Some(files) = files else { return };
    let nodes = nodes.max(1) as u64;
    let all = files.saturating_sub(RESERVE) / nodes;
    let all = usize::try_from(all).unwrap_or(usize::MAX).max(2);
    let wanted = limits.connections.saturating_add(limits.followers);
    if wanted <= all {
        return;
    }
    let (connections, followers) = (limits.connections, limits.followers);
    limits.followers = followers.min(all / 2);
    limits.connections = connections.min(all - limits.followers);
    limits.connections_per_address = limits.connections_per_address.min(limits.connections);
    limits.followers_per_address = limits.followers_per_address.min(limits.followers);
    let (left, wanted) = (
        limits.connections + limits.followers,
        connections + followers,
    );
    // Several nodes in one process are a tree on somebody's desk.
    if left < wanted / 2 && nodes == 1 {
        tracing::warn!(
            files,
            "of {connections} readers' connections and {followers} followers' there is room for {} and {}: \
             raise the limit of open files (ulimit -n, LimitNOFILE=), or lower --max-connections and \
             --max-followers",
            limits.connections,
            limits.followers
        );
    } else {
        tracing::info!(
            files,
            connections = limits.connections,
            followers = limits.followers,
            "the limit of open files leaves room for so many connections of each node"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(files: u64, nodes: usize) -> (usize, usize) {
        let mut limits = Limits::default();
        fit(&mut limits, Some(files), nodes);
        assert!(limits.connections_per_address <= limits.connections);
        assert!(limits.followers_per_address <= limits.followers);
        (limits.connections, limits.followers)
    }

    #[test]
    fn connections_fit_into_the_files_that_there_are() {
        assert_eq!(fitted(1 << 20, 1), (16_384, 4096));
        // Followers' stay as many, where that leaves as many to readers.
        assert_eq!(fitted(20_000, 1), (20_000 - 64 - 4096, 4096));
        assert_eq!(fitted(1024, 1), (480, 480));
        assert_eq!(fitted(20_000, 9), (1108, 1107));
        assert_eq!(fitted(0, 1), (1, 1));
        let mut limits = Limits::default();
        fit(&mut limits, None, 1);
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn a_process_may_open_as_many_as_it_was_raised_to() {
        let raised = raise();
        assert_eq!(getrlimit(Resource::Nofile).current, raised);
        assert_eq!(getrlimit(Resource::Nofile).maximum, raised);
    }
}
