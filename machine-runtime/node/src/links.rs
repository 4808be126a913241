//! How a node is linked to its parents and to its followers.

use std::time::Duration;

use machine_runtime::replica::{
    FollowerOptions, Granularity, Link, PREFER_EVERY, Selection, SourceOptions, SourceStats,
    largest_snapshot,
};
use machine_runtime::{RING_BYTES, RING_DELTAS, STALE_AFTER, Schema, ViewOptions, WRITE_BYTES};

/// The least that a ring may take: one delta of a few states and their payloads.
const RING_LEAST: usize = 4096;

/// The longest that a parent holds a question.
const HEARTBEAT_MOST: Duration = Duration::from_secs(20);

/// The frame of the largest write.
const WRITE_FRAME: usize = WRITE_BYTES + 1024;

/// The longest frame that there can be: what a length of three bytes says.
const FRAME_MOST: usize = (1 << 24) - 1;

/// How the links of a node are.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// The least time between two pushes to a follower; zero pushes every transition at once.
    pub push_interval: Duration,
    /// The least time between two pushes that it asks its parent for. The larger of what both ends of a
    /// link want holds.
    pub parent_interval: Duration,
    /// How long its parent may be silent.
    pub heartbeat: Duration,
    /// How long without news of the root until the node is stale.
    pub stale_after: Duration,
    /// The most deltas that its followers can resume from.
    pub ring_deltas: usize,
    /// The most bytes that these take.
    pub ring_bytes: usize,
    /// The longest frame in bytes, in both directions; by default what a snapshot can take.
    pub max_frame: Option<usize>,
    /// The states that it follows, as [`Selection::parse`] reads it; all if there is none.
    pub select: Option<String>,
    /// Whether it follows every transition, or what several led to.
    pub granularity: Granularity,
    /// Whether news may come compressed.
    pub compress: bool,
    /// How often it looks for a parent that it likes better than the one it follows.
    pub prefer_every: Duration,
    /// How long it may take to send followers away and to let writes under way end, before it stops.
    pub drain_within: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let (push_interval, parent_interval) = Default::default();
        Self {
            push_interval,
            parent_interval,
            heartbeat: Duration::from_secs(1),
            stale_after: STALE_AFTER,
            ring_deltas: RING_DELTAS,
            ring_bytes: RING_BYTES,
            max_frame: None,
            select: None,
            granularity: Granularity::default(),
            compress: true,
            prefer_every: PREFER_EVERY,
            drain_within: Duration::from_secs(2),
        }
    }
}

/// Links that cannot be so, in terms of the flags that say how they are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongLink(String);

impl LinkConfig {
    /// Whether links of a machine with this schema can be so.
    ///
    /// # Errors
    ///
    /// [`WrongLink`] says what contradicts what, and what would do.
    pub fn check(&self, schema: &Schema) -> Result<(), WrongLink> {
        let wrong = |why: String| Err(WrongLink(why));
        let [heartbeat, stale, most] =
            [self.heartbeat, self.stale_after, HEARTBEAT_MOST].map(|time| format!("{time:?}"));
        if self.heartbeat.is_zero() || self.heartbeat > HEARTBEAT_MOST {
            return wrong(format!(
                "--heartbeat {heartbeat}: it is more than nothing and {most} at most, as no parent holds a \
                 question for longer"
            ));
        }
        if self.heartbeat >= self.stale_after {
            return wrong(format!(
                "--heartbeat {heartbeat} has to be less than --stale-after {stale}, or an idle node is stale"
            ));
        }
        if self.ring_deltas == 0 {
            return wrong(
                "--ring 0: without any delta nobody could follow but by snapshots".to_owned(),
            );
        }
        if self.ring_bytes < RING_LEAST {
            let bytes = self.ring_bytes;
            return wrong(format!("--ring-bytes {bytes}: it is {RING_LEAST} at least"));
        }
        self.selection(schema)?;
        let Some(frame) = self.max_frame else {
            return Ok(());
        };
        let least = largest_snapshot(schema).max(WRITE_FRAME);
        if frame < least || frame > FRAME_MOST {
            return wrong(format!(
                "--max-frame {frame}: a snapshot or a write of these states takes up to {least} bytes, and a \
                 frame has {FRAME_MOST} at most"
            ));
        }
        Ok(())
    }

    /// The states that it follows, if not all.
    fn selection(&self, schema: &Schema) -> Result<Option<Selection>, WrongLink> {
        let selection = self.select.as_deref();
        let selection = selection.map(|list| Selection::parse(schema, list));
        let selection = selection.transpose();
        selection.map_err(|error| WrongLink(format!("--select: {error}")))
    }

    /// How the node's view is.
    pub fn view(&self) -> ViewOptions {
        let mut options = ViewOptions::default();
        options.ring_deltas = self.ring_deltas;
        options.ring_bytes = self.ring_bytes;
        options.stale_after = self.stale_after;
        options
    }

    /// How a node of this name follows.
    ///
    /// # Errors
    ///
    /// If it selects what `schema` does not have.
    pub(crate) fn follower(
        &self,
        name: &str,
        schema: &Schema,
    ) -> Result<FollowerOptions, WrongLink> {
        let mut options = FollowerOptions::new(name);
        options.view = self.view();
        options.heartbeat = self.heartbeat;
        options.granularity = self.granularity;
        options.push_interval = self.parent_interval;
        options.selection = self.selection(schema)?;
        options.compress = self.compress;
        options.prefer_every = self.prefer_every;
        options.max_frame = self.max_frame;
        Ok(options)
    }

    /// How a node of this name serves followers.
    pub(crate) fn source(&self, name: &str) -> SourceOptions {
        let mut options = SourceOptions::new(name);
        options.push_interval = self.push_interval;
        options.max_frame = self.max_frame;
        options
    }
}

/// The links of a node, as they are to be and as they are.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Links {
    /// How they are to be.
    pub config: LinkConfig,
    /// Where the parents are, the one that it likes best first; none on a root.
    pub parents: Vec<String>,
    /// The link to a parent; none on a root.
    pub up: Option<Link>,
    /// Those to followers.
    pub down: SourceStats,
}

impl Links {
    /// Of a root, whose followers `down` knows.
    pub fn of_root(config: LinkConfig, down: SourceStats) -> Self {
        Self {
            config,
            parents: Vec::new(),
            up: None,
            down,
        }
    }

    /// Of a replicant that follows one of `parents` over `up`, and whose followers `down` knows.
    pub fn of_replicant(
        config: LinkConfig,
        parents: Vec<String>,
        up: Link,
        down: SourceStats,
    ) -> Self {
        Self {
            config,
            parents,
            up: Some(up),
            down,
        }
    }
}

#[cfg(test)]
mod tests {
    use machine_runtime::States as _;

    use super::*;
    use crate::fixture::Flights;

    fn why(change: impl FnOnce(&mut LinkConfig)) -> String {
        let mut config = LinkConfig::default();
        change(&mut config);
        config.check(Flights::schema()).unwrap_err().to_string()
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_says_what_would_do() {
        assert_eq!(LinkConfig::default().check(Flights::schema()), Ok(()));
        let second = Duration::from_secs(1);
        let slow = why(|config| config.stale_after = second);
        let expected =
            "--heartbeat 1s has to be less than --stale-after 1s, or an idle node is stale";
        assert_eq!(slow, expected);
        assert!(why(|config| config.heartbeat = Duration::ZERO).contains("more than nothing"));
        let long = why(|config| config.heartbeat = 21 * second);
        assert!(long.contains("20s at most"), "{long}");
        assert!(why(|config| config.ring_deltas = 0).starts_with("--ring 0"));
        assert!(why(|config| config.ring_bytes = 4095).contains("4096 at least"));
    }

    #[test]
    fn a_frame_holds_a_snapshot_and_a_write() {
        let least = largest_snapshot(Flights::schema()).max(WRITE_FRAME);
        let small = why(|config| config.max_frame = Some(least - 1));
        assert!(
            small.contains(&format!("takes up to {least} bytes")),
            "{small}"
        );
        assert!(why(|config| config.max_frame = Some(1 << 24)).contains("at most"));
        let config = LinkConfig {
            max_frame: Some(least),
            ..LinkConfig::default()
        };
        assert_eq!(config.check(Flights::schema()), Ok(()));
    }
}
