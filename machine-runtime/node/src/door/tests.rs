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

/// Handshakes of clients who say nothing, and come from wherever they are said to.
struct Queued {
    tls: Tls,
    listener: TcpListener,
    counts: Arc<Mutex<Counts>>,
    clients: Vec<TcpStream>,
    handshakes: Handshakes,
}

impl Queued {
    async fn new(name: &str) -> Self {
        Self {
            tls: tls(name),
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            counts: Arc::default(),
            clients: Vec::new(),
            handshakes: Handshakes::default(),
        }
    }

    async fn add(&mut self, from: &str, within: Duration) -> Result<(), IpAddr> {
        let at = self.listener.local_addr().unwrap();
        self.clients.push(TcpStream::connect(at).await.unwrap());
        let (stream, _) = self.listener.accept().await.unwrap();
        let addr = addr(from);
        let waiting = Waiting {
            stream,
            addr,
            room: Room::take(&self.counts, addr, &limits(10_000, 10_000)).unwrap(),
            until: Instant::now() + within,
        };
        self.handshakes.add(&self.tls, waiting)
    }

    /// The oldest that runs ends. Returns the addresses of those that have waited too long.
    fn oldest_ends(&mut self) -> Vec<IpAddr> {
        let oldest = &self.handshakes.running[0].0;
        oldest.abort();
        let id = oldest.id();
        self.handshakes.ended(&self.tls, id)
    }
}

#[tokio::test]
async fn an_address_is_forgotten_with_its_last_handshake() {
    let mut queued = Queued::new("forgotten").await;
    for _ in 0..HANDSHAKES_PER_ADDRESS + 3 {
        queued.add("10.0.0.1", Duration::ZERO).await.unwrap();
    }
    queued.add("10.0.0.2", Duration::ZERO).await.unwrap();
    // All that run had to go, and those that wait are too late when the next ends.
    for _ in 0..HANDSHAKES_PER_ADDRESS {
        queued.handshakes.strike_off(0).unwrap().0.abort();
    }
    assert_eq!(queued.oldest_ends(), [addr("10.0.0.1"); 3]);
    let left = &queued.handshakes.by_addr;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn where_all_places_are_taken_the_oldest_of_who_has_most_has_to_go() {
    const TIME: Duration = Duration::from_mins(1);
    let mut queued = Queued::new("flood").await;
    // Few addresses take all places, and more wait for them.
    for i in 0..HANDSHAKES / HANDSHAKES_PER_ADDRESS {
        for _ in 0..=HANDSHAKES_PER_ADDRESS {
            let from = format!("10.0.0.{i}");
            assert_eq!(queued.add(&from, TIME).await, Ok(()));
        }
    }
    assert_eq!(queued.handshakes.running.len(), HANDSHAKES);
    for i in 0..HANDSHAKES_PER_ADDRESS {
        let from = format!("10.1.0.{i}");
        let most = format!("10.0.0.{}", i % (HANDSHAKES / HANDSHAKES_PER_ADDRESS));
        assert_eq!(queued.add(&from, TIME).await, Err(addr(&most)));
        assert_eq!(queued.handshakes.running.len(), HANDSHAKES);
    }
    for i in 0..HANDSHAKES_PER_ADDRESS {
        let from = addr(&format!("10.1.0.{i}"));
        let running = queued.handshakes.by_addr[&from].running;
        assert_eq!(running, 1, "nobody else has to go");
    }
    // Who waits there comes after those that make room.
    for place in 0..HANDSHAKES {
        assert!(queued.oldest_ends().is_empty(), "{place}");
    }
    let mut of_addresses = queued.handshakes.by_addr.values();
    assert!(of_addresses.all(|queue| queue.waiting.is_empty()));
    while !queued.handshakes.running.is_empty() {
        queued.oldest_ends();
    }
    assert!(queued.handshakes.by_addr.is_empty());
}
