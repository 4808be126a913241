use proptest::prelude::*;

use super::*;
use crate::schema::StateDef;
use crate::state::States;
use crate::states;

states! {
    counts = { flights = 3, gates = 2 };

    /// Loops within loops, groups along them, payloads of all kinds.
    enum Port {
        Start,
        #[auto] #[require(Start)] Ready,
        for flight in 1..=flights {
            exclusive Status { Flight{flight}Scheduled, #[multi] #[payload(u32)] Flight{flight}Late }
            for gate in 1..=gates {
                group At { #[payload(String, redact)] Flight{flight}At{gate} }
            }
            #[after(Ready)] #[add(Start)] Flight{flight}Known,
        }
    }
}

fn same(schema: &Schema) {
    let portable = PortableSchema::of(schema);
    let bytes = postcard::to_stdvec(&portable).unwrap();
    let back: PortableSchema = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(back, portable);
    let back = back.to_schema().unwrap();
    assert_eq!(back.fingerprint(), schema.fingerprint());
    assert_eq!(back.name(), schema.name());
    assert!(back.names().eq(schema.names()));
    assert_eq!(back.groups(), schema.groups());
    assert_eq!(back.axes(), schema.axes());
    for i in 0..schema.len() {
        assert_eq!(back.shape(i), schema.shape(i));
    }
    assert_eq!(PortableSchema::of(&back), portable);
}

#[test]
fn a_schema_of_the_macro_travels_whole() {
    same(Port::schema());
    assert!(!Port::schema().axes().is_empty() && !Port::schema().groups().is_empty());
}

/// A builder of states that are tied at random, and grouped.
fn builder(seed: u64) -> crate::schema::SchemaBuilder {
    let mut rng = fastrand::Rng::with_seed(seed);
    let count = rng.usize(1..40);
    let names: Vec<_> = (0..count).map(|i| format!("State{i}")).collect();
    let mut builder = Schema::builder(format!("Random{seed}"));
    for (i, name) in names.iter().enumerate() {
        let mut state = StateDef::new(name.clone());
        for with in [
            StateDef::auto as fn(StateDef) -> StateDef,
            StateDef::multi,
            StateDef::payload,
            StateDef::redact,
            StateDef::retain,
        ] {
            if rng.u8(0..4) == 0 {
                state = with(state);
            }
        }
        // Each relation among states of its own, so that none contradicts another.
        for (part, relation) in Relation::ALL.into_iter().enumerate() {
            let others = (0..count).filter(|other| *other != i && (i + other) % 4 == part);
            let some: Vec<_> = others.filter(|_| rng.u8(0..3) == 0).collect();
            state = state.relate(relation, some.into_iter().map(|other| names[other].clone()));
        }
        builder = builder.state(state);
    }
    let some = names.iter().filter(|_| rng.bool()).cloned();
    builder.group("Some", some.collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn any_schema_travels_whole(seed: u64) {
        same(&builder(seed).build().unwrap());
    }

    /// Bytes of a schema with some of them changed: it is one or it is refused, and it never panics,
    /// also not when it is worked with.
    #[test]
    fn what_was_tampered_with_is_refused_or_works(
        seed: u64,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let portable = PortableSchema::of(&builder(seed).build().unwrap());
        let mut bytes = postcard::to_stdvec(&portable).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let Ok(portable) = postcard::from_bytes::<PortableSchema>(&bytes) else {
            return Ok(());
        };
        if let Ok(schema) = portable.to_schema() {
            let len = as_index(schema.len());
            let mut machine = crate::Machine::with_schema(schema.into());
            for state in 0..len {
                let _ = machine.add(crate::DynState(state));
            }
        }
    }
}

#[test]
fn what_cannot_be_is_named() {
    let good = PortableSchema::of(Port::schema());
    let check = |change: &dyn Fn(&mut PortableSchema), said: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = bad.to_schema().unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("`Port`"), "{error}");
    };
    check(
        &|s| s.states[1].name = "Exception".into(),
        "`Exception` is there twice",
    );
    check(&|s| s.states[0].name = "Ex".into(), "no state `Exception`");
    check(&|s| s.states[1].flags = 128, "unknown flags");
    check(
        &|s| s.states[1].relations[0] = vec![99],
        "names state 99 of",
    );
    check(
        &|s| s.states[1].relations[2] = vec![2, 2],
        "names state 2 twice",
    );
    check(&|s| s.states[1].relations[3] = vec![1], "the state itself");
    check(&|s| s.axes[0].bounds = (5, 2), "from 5 to 2");
    check(&|s| s.axes[0].bounds = (1, u32::MAX), "to 4294967295");
    check(&|s| s.axes[0].values.truncate(3), "values for");
    check(&|s| s.axes[0].values[3] = Some(77), "77 is not on");
    check(&|s| s.groups[0].axes = vec![9], "unknown axis 9");
    check(&|s| s.groups[0].families.truncate(1), "sets instead of");
    check(
        &|s| s.groups[1].name = s.groups[0].name.clone(),
        "there twice",
    );
    check(
        &|s| s.groups[0].families[0] = vec![1, 1],
        "names state 1 twice",
    );
    let dense = |s: &mut PortableSchema| {
        let shape = s.states[1].clone();
        for i in 0..60_000 {
            let name = format!("More{i}");
            s.states.push(crate::StateShape {
                name,
                ..shape.clone()
            });
        }
        for state in &mut s.states[100..130] {
            state.relations[3] = (1000..60_000).collect();
        }
    };
    check(&dense, "too dense");
    let many = |s: &mut PortableSchema| {
        let shape = s.states[1].clone();
        for i in 0..MAX_STATES {
            let name = format!("More{i}");
            s.states.push(crate::StateShape {
                name,
                ..shape.clone()
            });
        }
    };
    check(&many, "are the most");
}
