//! Who gets a gate, and who is late: the root's handlers.

use std::time::Duration;

use machine_runtime::{Final, Handle, InvalidPayload, Negotiation, Ongoing, handlers};
use tokio::time::sleep;

use crate::states::Flights;

/// Decides on gates and watches delays. It keeps nothing: all that it knows are states.
///
/// * No two flights have one gate.
/// * A gate is closed while a flight boards there, and at no other time. That flight keeps it.
/// * A delayed flight that has not left when it was to is overdue.
#[derive(Debug)]
pub struct Tower;

#[handlers(Flights)]
impl Tower {
    #[enter(gate)]
    fn gate_is_free(
        &self,
        cx: &mut Negotiation<'_, Flights>,
        flight: usize,
        gate: usize,
    ) -> Result<(), String> {
        let mut others = Flights::flights().filter(|other| *other != flight);
        if let Some(other) = others.find(|other| cx.will_be_active(Flights::gate(*other, gate))) {
            return Err(format!("gate {gate} is held by flight {other}"));
        }
        // Who boarded there leaves in this very transition: the gate opens after it.
        let boarded = |other: usize| {
            let there = [Flights::gate(other, gate), Flights::go_to_gate(other)];
            there.iter().all(|state| cx.was_active(*state))
        };
        if cx.is_active(Flights::closed(gate)) && Flights::flights().any(boarded) {
            return Err(format!("gate {gate} is closed"));
        }
        Ok(())
    }

    #[exit(gate)]
    fn keeps_its_gate_while_boarding(
        &self,
        cx: &mut Negotiation<'_, Flights>,
        flight: usize,
        gate: usize,
    ) -> Result<(), String> {
        let boarding = Flights::go_to_gate(flight);
        if cx.is_active(boarding) && cx.will_be_active(boarding) {
            return Err(format!("flight {flight} boards at gate {gate}"));
        }
        Ok(())
    }

    #[enter(closed)]
    fn closes_for_boarding_only(
        &self,
        cx: &mut Negotiation<'_, Flights>,
        gate: usize,
    ) -> Result<(), String> {
        match boards_at(cx, gate) {
            Some(_) => Ok(()),
            None => Err(format!("nobody boards at gate {gate}")),
        }
    }

    #[exit(closed)]
    fn stays_closed_while_boarding(
        &self,
        cx: &mut Negotiation<'_, Flights>,
        gate: usize,
    ) -> Result<(), String> {
        match boards_at(cx, gate) {
            Some(flight) => Err(format!("flight {flight} boards at gate {gate}")),
            None => Ok(()),
        }
    }

    #[state(gate)]
    fn close(&mut self, cx: &mut Final<'_, Flights>, flight: usize, gate: usize) {
        if cx.is_active(Flights::go_to_gate(flight)) {
            cx.add(Flights::closed(gate));
        }
    }

    #[end(gate)]
    fn open(&mut self, cx: &mut Final<'_, Flights>, flight: usize, gate: usize) {
        if cx.was_active(Flights::go_to_gate(flight)) {
            cx.remove(Flights::closed(gate));
        }
    }

    #[state(go_to_gate)]
    fn boarding_begins(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        let mut gates = Flights::gates();
        if let Some(gate) = gates.find(|gate| cx.is_active(Flights::gate(flight, *gate))) {
            cx.add(Flights::closed(gate));
        }
    }

    #[end(go_to_gate)]
    fn boarding_ends(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        let mut gates = Flights::gates();
        if let Some(gate) = gates.find(|gate| cx.was_active(Flights::gate(flight, *gate))) {
            cx.remove(Flights::closed(gate));
        }
    }

    /// An estimate that nobody can read would never be past.
    #[enter(delayed)]
    fn estimate_is_one(
        &self,
        cx: &mut Negotiation<'_, Flights>,
        flight: usize,
    ) -> Result<(), String> {
        let estimate = cx.payload(Flights::delayed_payload(flight));
        estimate.map(drop).map_err(|error| error.to_string())
    }

    /// The timer ends with the delay.
    #[state(delayed)]
    fn watch(&mut self, cx: &mut Final<'_, Flights>, flight: usize) -> Result<(), InvalidPayload> {
        let estimate = cx.payload(Flights::delayed_payload(flight))?;
        if let Some(in_ms) = estimate.and_then(|estimate| estimate.in_ms) {
            cx.spawn(move |root: Handle<Flights>| async move {
                sleep(Duration::from_millis(in_ms)).await;
                root.add(Flights::overdue(flight)).await.map(drop)
            });
        }
        Ok(())
    }
}

/// The flight that will be boarding at `gate`.
fn boards_at(cx: &Ongoing<'_, Flights>, gate: usize) -> Option<usize> {
    Flights::flights().find(|flight| {
        let [at, boards] = [Flights::gate(*flight, gate), Flights::go_to_gate(*flight)];
        cx.will_be_active(at) && cx.will_be_active(boards)
    })
}
