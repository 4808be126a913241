use super::*;

/// Whether it has ended, and whether its future says the same.
fn ended(context: &StateContext) -> bool {
    let mut future = pin!(context.ended());
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled.is_ready(), context.is_ended());
    context.is_ended()
}

#[test]
fn a_tick_ends_what_is_bound_to_an_earlier_one() {
    let contexts = Arc::new(Contexts::new(70));
    let (old, new, other) = (contexts.get(65, 3), contexts.get(65, 4), contexts.get(1, 3));
    contexts.ticked(65, 4);
    assert!([&old, &new, &other].map(ended) == [true, false, false]);
    contexts.ticked(2, 9);
    contexts.ticked(65, 6);
    assert!([&new, &other].map(ended) == [true, false]);
}

#[test]
fn a_context_made_from_a_tick_that_is_left_ends_with_the_publication() {
    let contexts = Arc::new(Contexts::new(2));
    let (behind, current) = (contexts.get(0, 1), contexts.get(1, 1));
    contexts.published(|state| [2, 1][state as usize]);
    assert!([&behind, &current].map(ended) == [true, false]);
    // Only the new are looked at; the others have heard of each tick.
    contexts.published(|_| 9);
    assert!(!ended(&current));
    let moves = AtomicUsize::new(0);
    let published = || u64::from(moves.fetch_add(1, Ordering::Relaxed) > 0);
    assert_eq!(contexts.get_published(0, published).tick(), 1);
}

#[test]
fn a_replaced_history_ends_what_it_does_not_hold() {
    let contexts = Arc::new(Contexts::new(2));
    let (same, other) = (contexts.get(0, 1), contexts.get(1, 3));
    contexts.replaced(false, |_| 1);
    assert!([&same, &other].map(ended) == [false, true]);
    contexts.replaced(true, |_| 1);
    assert!(ended(&same));
}

#[test]
fn nothing_is_left_of_what_dropped() {
    let contexts = Arc::new(Contexts::new(2));
    assert!(contexts.is_empty());
    let first = contexts.get(1, 1);
    let second = contexts.get(1, 1);
    let third = first.clone();
    assert_eq!(contexts.table().live.len(), 1);
    drop((first, second));
    assert!(!contexts.is_empty() && contexts.marks.contains(1));
    drop(third);
    assert!(contexts.is_empty() && !contexts.marks.contains(1));
    assert!(contexts.table().fresh.is_empty());

    let context = contexts.get(0, 1);
    let mut waiting = Box::pin(context.ended());
    let polled = waiting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    assert_eq!(context.inner.wakers().by_place.len(), 1);
    drop(waiting);
    assert_eq!(context.inner.wakers().by_place.len(), 0);
}

#[test]
fn nothing_ticks_after_the_end() {
    let contexts = Arc::new(Contexts::new(2));
    let before = contexts.get(1, 1);
    contexts.close();
    assert!(ended(&before) && ended(&contexts.get(1, 1)) && contexts.is_empty());
}
