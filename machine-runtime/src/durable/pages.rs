//! Page numbers in pages that nobody has verified.
//!
//! The database under a history makes room for a page before it reads it, and how much is in the page's number:
//! up to 4 GiB, whatever the file's length. A number is told by where it stands, in the third version of redb's
//! file format, and is made one that is refused at once if there can be no such page.

/// The length of a page of order 0. Each order doubles it.
pub(super) const PAGE: u64 = 4096;

/// The length of a page's number.
const NUMBER: usize = 8;

/// No page of a history is longer than that: it would be one row's.
const LONGEST: u64 = 256 * 1024 * 1024;

/// An order that no page has.
const NO_ORDER: u8 = 0xff;

/// Goes through what was read of a file of `len` bytes at `offset`: a page, or the file's header.
pub(super) fn disarm(page: &mut [u8], offset: u64, len: u64) {
    const LEAF: u8 = 1;
    const BRANCH: u8 = 2;
    if offset < PAGE {
        return;
    }
    match page.first() {
        Some(&LEAF) => disarm_leaf(page, len),
        Some(&BRANCH) => disarm_branch(page, len),
        _ => {}
    }
}

/// The children of a branch stand behind their checksums.
fn disarm_branch(page: &mut [u8], len: u64) {
    const CHECKSUM: usize = 16;
    const CHECKSUMS: usize = 8;
    let children = usize::from(entries(page)) + 1;
    let numbers = page.get_mut(CHECKSUMS + CHECKSUM * children..);
    for number in numbers
        .into_iter()
        .flat_map(|rest| rest.chunks_exact_mut(NUMBER).take(children))
    {
        disarm_number(number, len);
    }
}

/// In the leaves of the two trees of tables stands what a table is, where its root is, too. Other leaves do not
/// look like it: the database stops over what does not before it looks at a root.
fn disarm_leaf(page: &mut [u8], len: u64) {
    let count = usize::from(entries(page));
    let end = |page: &[u8], i: usize| usize::try_from(u32_at(page, 4 + 4 * i)?).ok();
    let mut from = count.checked_sub(1).and_then(|last| end(page, last));
    for i in count..2 * count {
        let to = end(page, i);
        // One place that is wrong is no reason to believe the others.
        let value = from.zip(to).and_then(|(from, to)| page.get_mut(from..to));
        if let Some(root) = value.and_then(root_of) {
            disarm_number(root, len);
        }
        from = to;
    }
}

/// The number of a table's root page.
fn root_of(table: &mut [u8]) -> Option<&mut [u8]> {
    const KINDS: [u8; 2] = [3, 4];
    const ROOT: usize = 10;
    const KEY_TYPE: usize = 64;
    let of_key_type = usize::try_from(u32_at(table, KEY_TYPE - 4)?).ok()?;
    let is_table = KINDS.contains(table.first()?) && of_key_type < table.len() - KEY_TYPE;
    let number = table.get_mut(ROOT..ROOT + NUMBER);
    number.filter(|_| is_table)
}

fn entries(page: &[u8]) -> u16 {
    let count = page.get(2..).and_then(|rest| rest.first_chunk());
    count.map_or(0, |count| u16::from_le_bytes(*count))
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    let number = bytes.get(place..)?.first_chunk()?;
    Some(u32::from_le_bytes(*number))
}

/// The five highest bits of a number are the page's order, and the lowest are how many pages of that order
/// are before it, of 20 bits fewer than the order. In between stands which 4 GiB of the file it is in.
fn disarm_number(number: &mut [u8], len: u64) {
    const INDEX: u64 = 0xf_ffff;
    let Some(bits) = number.first_chunk().map(|bits| u64::from_le_bytes(*bits)) else {
        return;
    };
    let order = bits >> 59;
    let length = PAGE << order;
    let end = PAGE + ((bits & (INDEX >> order)) + 1) * length;
    if (length > LONGEST || end > len)
        && let Some(highest) = number.last_mut()
    {
        *highest = NO_ORDER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 9 * PAGE;
    const GOOD: u64 = 7;
    const GIANT: u64 = 20 << 59;

    fn is_armed(number: &[u8]) -> bool {
        *number.last().unwrap() != NO_ORDER
    }

    #[test]
    fn only_pages_that_can_be_are_believed() {
        let armed = |order: u64, index: u64, len| {
            let mut number = (order << 59 | index).to_le_bytes();
            disarm_number(&mut number, len);
            is_armed(&number)
        };
        assert!(armed(0, 7, LEN) && !armed(0, 8, LEN));
        assert!(armed(3, 0, LEN) && !armed(3, 1, LEN) && !armed(4, 0, LEN));
        assert!(armed(16, 3, u64::MAX) && !armed(17, 0, u64::MAX) && !armed(31, 0, u64::MAX));
    }

    #[test]
    fn children_are_looked_at_one_by_one() {
        let mut page = vec![2, 0, 1, 0, 0, 0, 0, 0];
        page.extend([9; 32]);
        page.extend([GOOD, GIANT].map(u64::to_le_bytes).concat());
        // What is behind them is no number.
        page.extend(GIANT.to_le_bytes());
        let before = page.clone();
        disarm(&mut page, PAGE, LEN);
        let is_changed: Vec<_> = page
            .iter()
            .zip(&before)
            .map(|(new, old)| new != old)
            .collect();
        assert_eq!(
            is_changed.iter().position(|changed| *changed),
            Some(40 + 15)
        );
        assert_eq!(is_changed.iter().filter(|changed| **changed).count(), 1);
        // The header has no such numbers.
        let mut page = before.clone();
        disarm(&mut page, 0, LEN);
        assert_eq!(page, before);
    }

    #[test]
    fn roots_are_found_behind_a_place_that_is_wrong() {
        let table = |root: u64| {
            let mut table = vec![0; 66];
            (table[0], table[9], table[60]) = (3, 1, 1);
            table[10..18].copy_from_slice(&root.to_le_bytes());
            table
        };
        let tables = [table(GIANT), table(GOOD), table(GIANT)].concat();
        let heads = 4 + 6 * 4;
        let page = |places: [u32; 6]| {
            let mut page = vec![1, 0, 3, 0];
            page.extend(places.map(u32::to_le_bytes).concat());
            page.extend(b"abc");
            page.extend(&tables);
            disarm(&mut page, PAGE, LEN);
            [0, 1, 2].map(|i| {
                let root = heads + 3 + 66 * i + 10;
                is_armed(&page[root..root + 8])
            })
        };
        let names = 28 + 3;
        assert_eq!(
            page([29, 30, 31, names + 66, names + 132, names + 198]),
            [false, true, false]
        );
        assert_eq!(
            page([29, 30, 31, 9999, names + 132, names + 198]),
            [true, true, false]
        );
        assert_eq!(
            page([29, 30, 31, names + 66, 5, names + 198]),
            [false, true, true]
        );
    }
}
