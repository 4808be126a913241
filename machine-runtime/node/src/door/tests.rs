use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::tls::TlsFiles;

fn limits(connections: usize, per_address: usize) -> DoorLimits {
    DoorLimits {
        connections,
        per_address,
        handshake_time: Duration::from_mins(1),
        unread_bytes: None,
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn door(limits: DoorLimits, tls: Option<Tls>) -> (Door, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let door = Door::new(listener, "readers", limits, tls, DoorStats::default());
    (door, at)
}

/// The TLS of a node called localhost, which trusts itself.
fn tls(name: &str) -> Tls {
    let dir = std::env::temp_dir().join(format!("door-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let ca = Some(cert.clone());
    let tls = Tls::load(TlsFiles { cert, key, ca }).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    tls
}

#[test]
fn addresses_are_counted_as_whoever_has_them_has_them() {
    for (one, other, same) in [
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
    ] {
        let same_count = counted(addr(one)) == counted(addr(other));
        assert_eq!(same_count, same, "{one} and {other}");
    }
}

#[test]
fn room_is_counted_in_all_and_of_each_address_and_is_free_again() {
    let counts = Arc::default();
    let take = |text| Room::take(&counts, addr(text), &limits(3, 2)).map_err(Shut::name);
    let first = take("2001:db8::1").unwrap();
    let second = take("2001:db8::2").unwrap();
    assert_eq!(take("2001:db8::3").unwrap_err(), "address");
    let third = take("10.0.0.1").unwrap();
    assert_eq!(take("10.0.0.2").unwrap_err(), "full");
    drop((first, third));
    let rooms = [take("2001:db8::3").unwrap(), take("10.0.0.3").unwrap()];
    drop((second, rooms));
    let held = lock(&counts);
    assert_eq!((held.all, held.by_addr.len()), (0, 0));
}

#[tokio::test]
async fn who_finds_no_room_is_given_out_to_be_told() {
    let (mut door, at) = door(limits(8, 1), None).await;
    let _first = TcpStream::connect(at).await.unwrap();
    let Arrival::Visitor(first) = door.next().await else {
        panic!("there is room for one");
    };
    assert!(!first.stream.is_tls() && first.names.is_empty());
    let _second = TcpStream::connect(at).await.unwrap();
    let Arrival::TooMany(_, Shut::Address) = door.next().await else {
        panic!("there is no room for two");
    };
    drop(first);
    let _third = TcpStream::connect(at).await.unwrap();
    assert!(matches!(door.next().await, Arrival::Visitor(_)));
    assert_eq!(door.stats.shut(Shut::Address), 1);
}

#[tokio::test]
async fn who_does_not_shake_hands_keeps_nobody_out() {
    let tls = tls("slow");
    let (mut door, at) = door(limits(1000, 1000), Some(tls.clone())).await;
    let stats = door.stats.clone();
    let mut served = JoinSet::new();
    served.spawn(async move {
        let Arrival::Visitor(visitor) = door.next().await else {
            panic!("there is room");
        };
        (door, visitor)
    });
    // One place of this address is left.
    let mut silent = Vec::new();
    for _ in 1..HANDSHAKES_PER_ADDRESS {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let stream = TcpStream::connect(at).await.unwrap();
    let mut client = tls.connect("localhost", stream).await.unwrap();
    let (mut door, mut visitor) = served.join_next().await.unwrap().unwrap();
    visitor.stream.write_all(b"x").await.unwrap();
    visitor.stream.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    assert_eq!(*visitor.names, ["localhost".to_owned()]);
    // Now none is left, so the next waits until one of them has gone.
    silent.push(TcpStream::connect(at).await.unwrap());
    served.spawn(async move {
        let Arrival::Visitor(visitor) = door.next().await else {
            panic!("there is room");
        };
        (door, visitor)
    });
    let stream = TcpStream::connect(at).await.unwrap();
    silent.truncate(HANDSHAKES_PER_ADDRESS - 1);
    tls.connect("localhost", stream).await.unwrap();
    let (door, _visitor) = served.join_next().await.unwrap().unwrap();
    assert_eq!(stats.shut(Shut::Flood), 0);
    assert_eq!(stats.shut(Shut::Handshake), 1);
    drop(door);
}

#[tokio::test]
async fn an_address_is_forgotten_with_its_last_handshake() {
    let tls = tls("forgotten");
    let mut handshakes = Handshakes::default();
    let counts = Arc::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let limits = limits(10_000, 10_000);
    let mut clients = Vec::new();
    let mut add = async |handshakes: &mut Handshakes, from: &str| {
        clients.push(TcpStream::connect(at).await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let addr = addr(from);
        let room = Room::take(&counts, addr, &limits).unwrap();
        let until = Instant::now();
        let waiting = Waiting {
            stream,
            addr,
            room,
            until,
        };
        handshakes.add(&tls, waiting).unwrap();
    };
    for _ in 0..HANDSHAKES_PER_ADDRESS + 3 {
        add(&mut handshakes, "10.0.0.1").await;
    }
    add(&mut handshakes, "10.0.0.2").await;
    // All that run had to go, and those that wait are too late when the next ends.
    for _ in 0..HANDSHAKES_PER_ADDRESS {
        handshakes.strike_off(0).unwrap().0.abort();
    }
    let id = handshakes.running[0].0.id();
    assert_eq!(handshakes.ended(&tls, id), [addr("10.0.0.1"); 3]);
    assert!(handshakes.by_addr.is_empty(), "{:?}", handshakes.by_addr);
    drop(clients);
}

#[tokio::test]
async fn where_all_places_are_taken_the_oldest_of_who_has_most_has_to_go() {
    let tls = tls("flood");
    let mut handshakes = Handshakes::default();
    let counts = Arc::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    let limits = limits(10_000, 10_000);
    let mut add = async |handshakes: &mut Handshakes, from: &str| {
        clients.push(TcpStream::connect(at).await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let addr = addr(from);
        let waiting = Waiting {
            stream,
            addr,
            room: Room::take(&counts, addr, &limits).unwrap(),
            until: Instant::now() + limits.handshake_time,
        };
        handshakes.add(&tls, waiting)
    };
    // Few addresses take all places, and more wait for them.
    for i in 0..HANDSHAKES / HANDSHAKES_PER_ADDRESS {
        for _ in 0..=HANDSHAKES_PER_ADDRESS {
            let from = format!("10.0.0.{i}");
            assert_eq!(add(&mut handshakes, &from).await, Ok(()));
        }
    }
    assert_eq!(handshakes.running.len(), HANDSHAKES);
    for i in 0..HANDSHAKES_PER_ADDRESS {
        let from = format!("10.1.0.{i}");
        let most = format!("10.0.0.{}", i % (HANDSHAKES / HANDSHAKES_PER_ADDRESS));
        assert_eq!(add(&mut handshakes, &from).await, Err(addr(&most)));
        assert_eq!(handshakes.running.len(), HANDSHAKES);
    }
    for i in 0..HANDSHAKES_PER_ADDRESS {
        let from = addr(&format!("10.1.0.{i}"));
        assert_eq!(
            handshakes.by_addr[&from].running, 1,
            "nobody else has to go"
        );
    }
    // Who waits there comes after those that make room.
    for place in 0..HANDSHAKES {
        let id = handshakes.running[0].0.id();
        handshakes.running[0].0.abort();
        assert!(handshakes.ended(&tls, id).is_empty(), "{place}");
    }
    let waiting = handshakes.by_addr.values().map(|queue| queue.waiting.len());
    assert_eq!(waiting.sum::<usize>(), 0);
    while let Some(place) = handshakes.running.front() {
        let id = place.0.id();
        handshakes.ended(&tls, id);
    }
    assert!(handshakes.by_addr.is_empty());
    drop(clients);
}
