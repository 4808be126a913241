//! What a replica sees, in words for a person.

use machine_node::node::Node;
use machine_node::shutdown::Tasks;
use machine_node::status::Lines;
use machine_runtime::{Cause, Final, Ongoing, PayloadOf, Reactor, View, handlers};
use serde::de::DeserializeOwned;

use crate::feed::Lateness;
use crate::payloads::{Estimate, Itinerary};
use crate::states::Flights;

/// Tells what changes, a line each: from states and what they retain, and from nothing else.
///
/// A delta that sums up several transitions is told as what they came to. At the start, and where
/// the replica missed something, one line says what there is.
#[derive(Debug)]
pub struct Narrator {
    view: View<Flights>,
    lines: Lines,
    /// What a line begins with.
    start: String,
    slots: Vec<Known>,
}

/// What is known of the flight in a slot.
#[derive(Clone, Default, Debug)]
struct Known {
    /// `UA1545 to IAH`.
    name: Option<String>,
    /// When it is to leave, if it is delayed.
    until: Option<String>,
    /// Whether its gate was told of this very delta.
    gate_told: bool,
}

/// Lets a node tell what it sees until `tasks` are stopped. `start` is what its lines begin with.
///
/// # Errors
///
/// If its states are others.
pub fn narrate(node: &Node, lines: &Lines, start: String, tasks: &Tasks) -> anyhow::Result<()> {
    let handle = node.handle().as_states::<Flights>();
    let handle = handle.ok_or_else(|| anyhow::anyhow!("the node does not show flights"))?;
    let narrator = Narrator::new(handle.view().clone(), lines.clone(), start);
    tasks.spawn(Reactor::new(&handle, narrator).run(tasks.stopped()));
    Ok(())
}

impl Narrator {
    /// One that tells what `view` shows; `start` is what its lines begin with.
    pub fn new(view: View<Flights>, lines: Lines, start: String) -> Self {
        let slots = vec![Known::default(); Flights::flights().count()];
        Self {
            view,
            lines,
            start,
            slots,
        }
    }

    fn say(&self, cx: &Ongoing<'_, Flights>, words: &str) {
        if cx.cause() != Cause::Snapshot {
            self.lines.push(format!("{}{words}", self.start));
        }
    }

    /// Says something of the flight in a slot.
    fn tell(&self, cx: &Ongoing<'_, Flights>, slot: usize, words: &str) {
        // Directions come after statuses: it may be a flight that is shown since this very delta.
        let shown = name(|of| brought(cx, of), slot);
        let name = shown.or_else(|| self.slots[slot - 1].name.clone());
        let name = name.unwrap_or_else(|| format!("flight {slot}"));
        self.say(cx, &format!("{name} {words}"));
    }
}

#[handlers(Flights)]
impl Narrator {
    #[end(outbound)]
    fn ended(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        let left = [Flights::departed(flight), Flights::arrived(flight)];
        let has_left = |status: &Flights| cx.was_active(*status) || cx.is_active(*status);
        if !left.iter().any(has_left) {
            // Not of what the slot shows since this very delta.
            let name = self.slots[flight - 1].name.clone();
            let name = name.unwrap_or_else(|| format!("flight {flight}"));
            self.say(cx, &format!("{name} is cancelled"));
        }
        self.slots[flight - 1] = Known::default();
    }

    #[state(outbound, inbound)]
    fn shown(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        let itinerary = brought(cx, Flights::outbound_payload(flight));
        if let Some(Itinerary { sched, .. }) = itinerary
            && cx.is_active(Flights::scheduled(flight))
        {
            let words = format!("is scheduled for {sched}, in slot {flight}");
            self.tell(cx, flight, &words);
        }
        self.slots[flight - 1].name = name(|of| brought(cx, of), flight);
    }

    #[state(on_time)]
    fn on_time(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        match gate_after(cx, flight) {
            Some(gate) if cx.is_active(Flights::go_to_gate(flight)) => {
                self.tell(cx, flight, &format!("is on time, go to gate {gate}"));
                self.slots[flight - 1].gate_told = true;
            }
            Some(_) => self.tell(cx, flight, "is on time"),
            None => self.tell(cx, flight, "is on time and waits for a gate"),
        }
    }

    #[state(delayed)]
    fn delayed(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        let estimate = brought(cx, Flights::delayed_payload(flight));
        let until = estimate.map(|Estimate { until, .. }| until);
        match &until {
            Some(until) => self.tell(cx, flight, &format!("is delayed until {until}")),
            None => self.tell(cx, flight, "is delayed"),
        }
        self.slots[flight - 1].until = until;
    }

    #[state(overdue)]
    fn overdue(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        match &self.slots[flight - 1].until {
            Some(until) => self.tell(cx, flight, &format!("is overdue since {until}")),
            None => self.tell(cx, flight, "is overdue"),
        }
    }

    #[state(go_to_gate)]
    fn boards(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        if self.slots[flight - 1].gate_told {
            return;
        }
        match gate_after(cx, flight) {
            Some(gate) => {
                self.tell(cx, flight, &format!("boards, go to gate {gate}"));
                self.slots[flight - 1].gate_told = true;
            }
            None => self.tell(cx, flight, "boards, its gate is not known yet"),
        }
    }

    #[state(gate)]
    fn gate(&mut self, cx: &mut Final<'_, Flights>, flight: usize, gate: usize) {
        if self.slots[flight - 1].gate_told {
            return;
        }
        let boards = cx.is_active(Flights::go_to_gate(flight));
        match gate_before(cx, flight) {
            Some(old) if old != gate => {
                self.tell(cx, flight, &format!("moves from gate {old} to gate {gate}"));
            }
            _ if boards => self.tell(cx, flight, &format!("boards, go to gate {gate}")),
            _ => self.tell(cx, flight, &format!("gets gate {gate}")),
        }
    }

    #[state(departed)]
    fn departed(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        match gate_before(cx, flight) {
            Some(gate) => self.tell(cx, flight, &format!("departed from gate {gate}")),
            None => self.tell(cx, flight, "departed"),
        }
    }

    #[state(arrived)]
    fn arrived(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        let arrival = brought(cx, Flights::arrived_payload(flight));
        match arrival.map(|arrival| (arrival.delay, arrival.diverted)) {
            Some((_, true)) => self.tell(cx, flight, "arrived after a diversion"),
            Some((Some(delay), _)) => {
                self.tell(cx, flight, &format!("arrived {}", Lateness(delay)));
            }
            _ => self.tell(cx, flight, "arrived"),
        }
    }

    #[state(closed)]
    fn closed(&mut self, cx: &mut Final<'_, Flights>, gate: usize) {
        self.say(cx, &format!("gate {gate} is closed for boarding"));
    }

    #[end(closed)]
    fn opened(&mut self, cx: &mut Final<'_, Flights>, gate: usize) {
        self.say(cx, &format!("gate {gate} is open"));
    }

    /// Where it is not known what led here, the view says what there is.
    #[any_state]
    fn catch_up(&mut self, cx: &mut Final<'_, Flights>) {
        for known in &mut self.slots {
            known.gate_told = false;
        }
        if cx.cause() != Cause::Snapshot {
            return;
        }
        for (slot, known) in Flights::flights().zip(&mut self.slots) {
            let retained = |of| self.view.payload(of).ok().flatten();
            known.name = name(retained, slot);
            let estimate = self.view.payload(Flights::delayed_payload(slot));
            known.until = estimate.ok().flatten().map(|estimate| estimate.until);
        }
        let active = |state: Flights| cx.is_active(state);
        let shown = |slot: &usize| Flights::direction(*slot).iter().copied().any(active);
        let shown = Flights::flights().filter(shown).count();
        if shown > 0 {
            let overdue = Flights::flights()
                .map(Flights::overdue)
                .filter(|s| active(*s));
            let closed = Flights::gates().map(Flights::closed).filter(|s| active(*s));
            let (start, overdue, closed) = (&self.start, overdue.count(), closed.count());
            self.lines.push(format!(
                "{start}flights shown: {shown}, overdue: {overdue}, gates closed: {closed}"
            ));
        }
    }
}

/// The name of the flight whose itinerary a slot's direction has.
fn name(
    payload: impl Fn(PayloadOf<Flights, Itinerary>) -> Option<Itinerary>,
    slot: usize,
) -> Option<String> {
    let outbound = payload(Flights::outbound_payload(slot));
    let inbound = || payload(Flights::inbound_payload(slot));
    outbound
        .map(|it| format!("{} to {}", it.flight, it.to))
        .or_else(|| inbound().map(|it| format!("{} from {}", it.flight, it.from)))
}

/// What a state that begins retains. Others may have written what they like: that is none.
fn brought<T: DeserializeOwned>(cx: &Ongoing<'_, Flights>, of: PayloadOf<Flights, T>) -> Option<T> {
    cx.payload(of).ok().flatten()
}

/// The gate that the flight had, if the slot showed that flight then.
fn gate_before(cx: &Ongoing<'_, Flights>, flight: usize) -> Option<usize> {
    if name(|of| brought(cx, of), flight).is_some() {
        return None;
    }
    Flights::gates().find(|gate| cx.was_active(Flights::gate(flight, *gate)))
}

fn gate_after(cx: &Ongoing<'_, Flights>, flight: usize) -> Option<usize> {
    Flights::gates().find(|gate| cx.is_active(Flights::gate(flight, *gate)))
}
