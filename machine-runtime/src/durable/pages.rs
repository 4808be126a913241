//! Page numbers in pages that nobody has verified.
//!
//! The database under a history makes room for a page before it reads it, and how much is in the page's number:
//! up to 4 GiB, whatever the file's length. A number is told by where it stands, in the third version of redb's
//! file format, and is made one that is refused at once if there can be no such page.

/// The length of a page of order 0. Each order doubles it.
pub(super) const PAGE: u64 = 4096;

/// The length of a page's number.
const NUMBER: usize = 8;

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
        let (Some(start), Some(stop)) = (from, to) else {
            return;
        };
        let Some(value) = page.get_mut(start..stop) else {
            return;
        };
        if let Some(root) = root_of(value) {
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

/// The order of a page is in the five highest bits of its number.
fn disarm_number(number: &mut [u8], len: u64) {
    if let Some(highest) = number.last_mut()
        && PAGE << (*highest >> 3) > len
    {
        *highest = NO_ORDER;
    }
}
