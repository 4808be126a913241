//! Which nodes a tree has.

/// The most nodes that a tree has.
const MOST_NODES: usize = 1000;

/// A tree that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongFanout(String);

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
pub fn places(fanout: &[usize]) -> Result<Vec<Place>, WrongFanout> {
    let mut places = vec![Place {
        name: "root".to_owned(),
        parent: None,
        tier: 0,
    }];
    let mut above = 0..1;
    for (tier, count) in (1..).zip(fanout) {
        if *count == 0 {
            return Err(WrongFanout(
                "a tier of 0 replicants has nobody in it".to_owned(),
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
                    return Err(WrongFanout(format!("more than {MOST_NODES} nodes")));
                }
            }
        }
        above = start..places.len();
    }
    Ok(places)
}

/// Whom the node at `place` follows, the best first, as indices of `places`: its parent, then the others of
/// that tier, each sibling in another order, then the root. None for the root.
pub fn parents(places: &[Place], place: usize) -> Vec<usize> {
    let Some(parent) = places.get(place).and_then(|place| place.parent) else {
        return Vec::new();
    };
    let tier = places[parent].tier;
    let above: Vec<usize> = (0..places.len())
        .filter(|other| places[*other].tier == tier)
        .collect();
    let own = above.iter().position(|other| *other == parent).unwrap_or(0);
    let (after, before) = (&above[own + 1..], &above[..own]);
    let mut others: Vec<usize> = after.iter().chain(before).copied().collect();
    // Those who lose a parent together do not all go to the same one.
    if !others.is_empty() {
        let turn = place % others.len();
        others.rotate_left(turn);
    }
    let mut parents = vec![parent];
    parents.extend(others);
    if tier > 0 {
        parents.push(0);
    }
    parents
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
    fn a_leaf_has_other_nodes_to_follow_and_the_root_last() {
        let tree = places(&[3, 2]).unwrap();
        let names = |place: &str| {
            let i = tree.iter().position(|known| known.name == place).unwrap();
            let parents = parents(&tree, i).into_iter();
            parents.map(|i| tree[i].name.as_str()).collect::<Vec<_>>()
        };
        assert!(names("root").is_empty());
        assert_eq!(names("rep-2"), ["root"]);
        for (leaf, own) in [("rep-1-1", "rep-1"), ("rep-3-2", "rep-3")] {
            let mut parents = names(leaf);
            assert_eq!((parents.remove(0), parents.pop()), (own, Some("root")));
            parents.push(own);
            parents.sort_unstable();
            assert_eq!(parents, ["rep-1", "rep-2", "rep-3"]);
        }
        assert_ne!(names("rep-2-1")[1], names("rep-2-2")[1]);
    }

    #[test]
    fn a_tree_has_no_empty_tier_and_is_not_endless() {
        assert!(places(&[2, 0]).is_err());
        assert!(places(&[100, 100]).is_err());
        assert_eq!(places(&[]).unwrap().len(), 1);
    }
}
