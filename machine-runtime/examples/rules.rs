//! A rules engine: facts come in, relations and two rules in code decide what follows, and every "no"
//! says why. It waters a garden.
//!
//! `cargo run -p machine-runtime --example rules`
//!
//! What to copy:
//!
//! * Facts are states in exclusive groups: a new one replaces the old one, and nobody takes any out.
//! * What follows from facts is `auto`: it begins by itself once its relations and rules allow.
//! * What can be said of states is a relation; what has to be counted is an `enter` handler, which
//!   refuses in words.
//! * `can` asks both without changing anything; `explain` shows all that the relations say, where
//!   `can` stops at the first.

use std::error::Error;
use std::future::pending;
use std::io::Write;
use std::pin::pin;

use machine_runtime::{
    Epoch, Final, Handle, Machine, Mutation, Negotiation, Outcome, Owner, ViewOptions, handlers,
    states,
};
use tokio::task::JoinSet;

states! {
    counts = { zones = 3 };

    /// A garden, what is known of it, and what is done in it.
    enum Garden {
        exclusive Sky {
            Clear,
            #[remove(Valves)]
            Rain,
            #[remove(Valves)]
            Frost,
        }
        exclusive Tank {
            Full,
            Low,
            #[remove(Pump)]
            Empty,
        }
        for zone in 1..=zones {
            exclusive Soil { Zone{zone}Dry, Zone{zone}Wet }
        }
        group Valves {
            for zone in 1..=zones {
                /// The valve of zone {zone} is open, and so the pump runs.
                #[auto]
                #[require(Zone{zone}Dry, Pump)]
                #[add(Pump)]
                Zone{zone}Watering,
            }
        }
        Pump,
    }
}

/// When what was measured, and when somebody asks whether something may be.
const DAY: &str = "
06:00 + Clear Full Zone1Dry Zone2Dry Zone3Wet
06:30 + Zone3Dry
07:00 + Zone1Wet
07:10 + Low
07:30 + Rain
07:40 ? Zone2Watering
09:00 + Clear
09:10 ? Zone1Watering
10:00 + Empty
10:10 ? Zone3Watering Pump
10:30 + Zone2Wet Zone3Wet
";

/// What each zone takes at a time.
const LITRES: [u32; 3] = [40, 60, 50];

/// What may be taken a day.
const ALLOWANCE: u32 = 200;

/// For more, the pressure is too low.
const OPEN_AT_MOST: usize = 2;

#[derive(Default)]
struct Gardener {
    litres: u32,
}

#[handlers(Garden)]
impl Gardener {
    /// Where several zones begin at once, those with lower numbers are first.
    #[enter(watering)]
    fn pressure(&self, cx: &mut Negotiation<'_, Garden>, zone: usize) -> Result<(), String> {
        let others = Garden::zones().filter(|other| {
            let valve = Garden::watering(*other);
            let first = *other < zone || cx.is_active(valve);
            *other != zone && first && cx.will_be_active(valve)
        });
        match others.count() {
            open if open < OPEN_AT_MOST => Ok(()),
            open => Err(format!("{open} valves are open")),
        }
    }

    #[enter(watering)]
    fn allowance(&self, cx: &mut Negotiation<'_, Garden>, zone: usize) -> Result<(), String> {
        let first = cx
            .beginning()
            .filter_map(Garden::zone)
            .filter(|other| *other < zone);
        let taken: u32 = first.map(|other| LITRES[other - 1]).sum();
        let (left, needs) = (ALLOWANCE - self.litres - taken, LITRES[zone - 1]);
        if needs > left {
            return Err(format!(
                "it takes {needs} l, and {left} l are left for today"
            ));
        }
        Ok(())
    }

    #[state(watering)]
    fn meter(&mut self, zone: usize) {
        self.litres += LITRES[zone - 1];
    }

    #[end(VALVES)]
    fn last_one(&mut self, cx: &mut Final<'_, Garden>) {
        if !Garden::VALVES.iter().any(|valve| cx.is_active(valve)) {
            cx.remove(Garden::Pump);
        }
    }
}

/// What is done about each dry zone, or why nothing.
async fn decisions(out: &mut impl Write, garden: &Handle<Garden>) -> Result<(), Box<dyn Error>> {
    let view = garden.view();
    for zone in Garden::zones().filter(|zone| view.is_active(Garden::dry(*zone))) {
        let valve = Garden::watering(zone);
        if view.is_active(valve) {
            writeln!(out, "        zone {zone} is watered")?;
        } else if let Outcome::Canceled(why) = garden.can(Mutation::add(valve)).await? {
            writeln!(out, "        zone {zone} is dry: {why}")?;
        }
    }
    Ok(())
}

pub(crate) async fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let machine = Machine::new().with(Gardener::default());
    let (garden, owner) = Owner::new(machine, Epoch::random(), ViewOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(owner.run(pending()));

    let of = [
        &[Garden::Low][..],
        &Garden::VALVES.iter().collect::<Vec<_>>(),
    ]
    .concat();
    let mut drawn = pin!(garden.view().when_query(of, |now| {
        let open = Garden::VALVES.iter().filter(|valve| now.is_active(*valve));
        now.is_active(Garden::Low) && open.count() == OPEN_AT_MOST
    }));
    let mut warned = false;

    for line in DAY.lines().filter(|line| !line.is_empty()) {
        writeln!(out, "{line}")?;
        let (_time, row) = line.split_once(' ').ok_or("a row without a time")?;
        let (kind, names) = row.split_once(' ').ok_or("a row without states")?;
        // A misspelt name is an error that says what it resembles.
        let states: Vec<Garden> = names.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let mutation = Mutation::add(states.as_slice());
        if kind == "+" {
            garden.mutate(mutation).await?.outcome.into_result()?;
            decisions(out, &garden).await?;
        } else {
            let answer = match garden.can(mutation).await?.into_result() {
                Ok(()) => "yes".to_owned(),
                Err(why) => format!("no: {why}"),
            };
            writeln!(out, "        {answer}")?;
            for state in states {
                writeln!(out, "        {}", garden.view().explain(state))?;
            }
        }
        tokio::select! {
            biased;
            low = &mut drawn, if !warned => {
                low?;
                warned = true;
                writeln!(out, "        warning: {OPEN_AT_MOST} zones draw from a low tank")?;
            }
            () = std::future::ready(()) => {}
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout().lock()).await
}
