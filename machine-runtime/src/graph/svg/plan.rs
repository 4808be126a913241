//! Which lines a layout gets, and in what order.
//!
//! The library looks along all paths for cycles, which takes forever where there are many. It finds none
//! at once if each line comes before those that go on from its end. And its time grows fast with the
//! places at which lines pass from one column to the next: there are so many of these at most.

/// How many such places there are at most.
const MOST: usize = 250;

/// A line for the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Routed {
    /// Which of the lines it is.
    pub(super) line: usize,
    /// From where to where it goes there.
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether that is the other way round.
    pub(super) turned: bool,
}

/// What to lay out of `lines` between `boxes`, each from and to another box. The others are to be drawn
/// as it comes.
pub(super) fn plan(boxes: usize, lines: &[(usize, usize)]) -> Vec<Routed> {
    let order = order(boxes, lines);
    let mut routed: Vec<Routed> = lines
        .iter()
        .enumerate()
        .map(|(line, (from, to))| {
            let turned = order[*from] > order[*to];
            let (from, to) = if turned { (*to, *from) } else { (*from, *to) };
            Routed {
                line,
                from,
                to,
                turned,
            }
        })
        .collect();
    routed.sort_by_key(|routed| (order[routed.from], order[routed.to], routed.line));
    let mut level = vec![0_usize; boxes];
    for Routed { from, to, .. } in &routed {
        level[*to] = level[*to].max(level[*from] + 1);
    }
    // The label stands in a column of its own.
    let cost = |routed: &Routed| 2 * (level[routed.to] - level[routed.from]) - 1;
    let mut by_cost: Vec<usize> = (0..routed.len()).collect();
    by_cost.sort_by_key(|place| cost(&routed[*place]));
    let mut sum = 0;
    let mut kept: Vec<bool> = vec![false; routed.len()];
    for place in by_cost {
        sum += cost(&routed[place]);
        if sum > MOST {
            break;
        }
        kept[place] = true;
    }
    let mut kept = kept.into_iter();
    routed.retain(|_| kept.next().unwrap_or(false));
    routed
}

/// For each box its place in an order in which few lines go back.
fn order(boxes: usize, lines: &[(usize, usize)]) -> Vec<usize> {
    let mut next = vec![Vec::new(); boxes];
    for (from, to) in lines {
        next[*from].push(*to);
    }
    let mut order = vec![0; boxes];
    let mut is_known = vec![false; boxes];
    let mut place = boxes;
    // The last that is left by a search in depth comes first.
    for root in (0..boxes).rev() {
        let mut path = vec![(root, 0)];
        if std::mem::replace(&mut is_known[root], true) {
            continue;
        }
        while let Some((at, done)) = path.last_mut() {
            if let Some(to) = next[*at].get(*done) {
                *done += 1;
                if !std::mem::replace(&mut is_known[*to], true) {
                    path.push((*to, 0));
                }
            } else {
                place -= 1;
                order[*at] = place;
                path.pop();
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_before_those_that_go_on() {
        let lines = [(2, 0), (0, 1), (1, 2), (3, 1), (0, 3)];
        let routed = plan(4, &lines);
        assert_eq!(routed.len(), lines.len());
        for (place, line) in routed.iter().enumerate() {
            let (from, to) = lines[line.line];
            let expected = if line.turned { (to, from) } else { (from, to) };
            assert_eq!((line.from, line.to), expected);
            let mut before = routed[..place].iter();
            assert!(before.all(|before| before.from != line.to), "{routed:?}");
        }
        assert!(routed.iter().any(|line| line.turned) && !routed.iter().all(|line| line.turned));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let lines: Vec<_> = (0..60)
            .flat_map(|to| (0..to).map(move |from| (from, to)))
            .collect();
        let routed = plan(60, &lines);
        assert!((59..=MOST).contains(&routed.len()), "{}", routed.len());
        assert!(routed.iter().all(|line| !line.turned));
        assert_eq!(plan(0, &[]), []);
    }
}
