//! A supervisor of connections: each is tried again with growing pauses and given up when it falls
//! silent; the pool of them is ready as long as a quorum is up, and a second machine raises alarms.
//!
//! `cargo run -p machine-runtime --example supervisor`
//!
//! What to copy:
//!
//! * What a connection does now is work bound to one of its states: the pause to `Down`, the
//!   greeting to `Connecting`, reading to `Up`. So there is never more than one of them.
//! * The timer of silence is bound to `Beat`, a multi state: each beat drops it and starts the next.
//! * `Ready` is added by handlers, and refused by one for as long as there is no quorum.
//! * Alarms know nothing of connections: a pipe tells them what the pool is like.
//!
//! The server is a real one on a port that the system chooses. Time is the example's own, so that it
//! passes only when everything is settled; a real supervisor uses `tokio::time::sleep` in its place.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, pending};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine_runtime::{
    Epoch, Final, Handle, Machine, Mutation, Negotiation, Owner, Pipe, ViewOptions, handlers,
    states,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

states! {
    counts = { devices = 3 };

    /// Devices that are to be connected.
    enum Pool: machine_runtime::Basic {
        for device in 1..=devices {
            exclusive Link {
                #[auto]
                #[require(Start)]
                #[payload(String, retain)]
                Device{device}Down,
                #[require(Start)]
                Device{device}Connecting,
                #[require(Start)]
                Device{device}Up,
            }
            /// Device {device} was heard.
            #[multi]
            #[require(Device{device}Up)]
            Device{device}Beat,
        }
    }
}

states! {
    /// What somebody has to look at.
    enum Alarm {
        /// A device is down.
        Degraded,
        /// Too few devices are up.
        Outage,
        exclusive Attention {
            /// Begins with each outage.
            #[auto]
            #[require(Outage)]
            Siren,
            /// Somebody has heard the siren.
            #[require(Outage)]
            Acknowledged,
        }
    }
}

/// How many devices make a pool.
const QUORUM: usize = 2;
/// The pause after the first failure; it doubles with each further one, up to `LONGEST`.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: u32 = 7;
/// How long a device that is up may say nothing.
const SILENCE: Duration = Duration::from_secs(3);

/// Time that passes when it is told to.
#[derive(Clone, Default)]
struct Clock(watch::Sender<Duration>);

impl Clock {
    /// Resolves so much later than now, the call, is.
    fn sleep(&self, pause: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut now = self.0.subscribe();
        let until = *now.borrow() + pause;
        async move {
            if now.wait_for(|now| *now >= until).await.is_err() {
                // Time has ended.
                pending::<()>().await;
            }
        }
    }

    fn advance(&self, seconds: u64) {
        self.0
            .send_modify(|now| *now += Duration::from_secs(seconds));
    }
}

/// Where the work of `Connecting` leaves a connection for that of `Up`.
#[derive(Clone, Default)]
struct Connected(Arc<Mutex<BTreeMap<usize, TcpStream>>>);

impl Connected {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Supervisor {
    server: SocketAddr,
    clock: Clock,
    connected: Connected,
    /// How often each device failed since it was last heard.
    failures: BTreeMap<usize, u32>,
}

#[handlers(Pool)]
impl Supervisor {
    #[state(down)]
    fn pause(&mut self, cx: &mut Final<'_, Pool>, device: usize) {
        let failures = self.failures.entry(device).or_default();
        // At the start nothing has failed yet.
        let pause = self.clock.sleep(PAUSE * ((1 << *failures) >> 1));
        *failures = (*failures + 1).min(LONGEST);
        cx.spawn(move |pool: Handle<Pool>| async move {
            pause.await;
            pool.add(Pool::connecting(device)).await.map(drop)
        });
        if up(|state| cx.is_active(state)) < QUORUM && cx.is_active(Pool::Ready) {
            cx.remove(Pool::Ready);
            cx.fail_with(Pool::ErrNetwork, "no quorum of devices");
        }
    }

    #[state(connecting)]
    fn connect(&mut self, cx: &mut Final<'_, Pool>, device: usize) {
        let (server, connected) = (self.server, self.connected.clone());
        let late = self.clock.sleep(SILENCE);
        cx.spawn(move |pool: Handle<Pool>| async move {
            let greeted = tokio::select! {
                greeted = greet(server, device) => greeted.ok(),
                () = late => None,
            };
            let next = match greeted {
                Some(stream) => {
                    connected.lock().insert(device, stream);
                    Mutation::add(Pool::up(device))
                }
                None => down(device, "no greeting"),
            };
            pool.mutate(next).await.map(drop)
        });
    }

    #[state(up)]
    fn listen(&mut self, cx: &mut Final<'_, Pool>, device: usize) {
        if let Some(mut stream) = self.connected.lock().remove(&device) {
            cx.spawn(move |pool: Handle<Pool>| async move {
                while stream.read_u8().await.is_ok() {
                    pool.add(Pool::beat(device)).await.map(drop)?;
                }
                pool.mutate(down(device, "connection lost")).await.map(drop)
            });
        }
        cx.add(Pool::beat(device));
        cx.add(Pool::Ready);
    }

    #[state(beat)]
    fn watch(&mut self, cx: &mut Final<'_, Pool>, device: usize) {
        self.failures.insert(device, 1);
        let silence = self.clock.sleep(SILENCE);
        cx.spawn(move |pool: Handle<Pool>| async move {
            silence.await;
            pool.mutate(down(device, "silent")).await.map(drop)
        });
    }

    #[enter(Ready)]
    fn quorum(&self, cx: &mut Negotiation<'_, Pool>) -> Result<(), String> {
        match up(|state| cx.will_be_active(state)) {
            up if up < QUORUM => Err(format!("{up} of {QUORUM} devices are up")),
            _ => Ok(()),
        }
    }

    /// With a quorum again, the error is over.
    #[state(Ready)]
    fn recover(&mut self, cx: &mut Final<'_, Pool>) {
        cx.remove(Pool::Exception);
    }
}

/// How many devices are up.
fn up(is_active: impl Fn(Pool) -> bool) -> usize {
    Pool::devices()
        .filter(|device| is_active(Pool::up(*device)))
        .count()
}

fn down(device: usize, why: &str) -> Mutation<Pool> {
    Mutation::add(Pool::down(device)).with(Pool::down_payload(device), &why.to_owned())
}

/// Says which device it wants, and waits until that is there.
async fn greet(server: SocketAddr, device: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u64(device as u64).await?;
    stream.read_u8().await?;
    Ok(stream)
}

/// The other side: what devices do, and what happens to them.
struct Server {
    listener: TcpListener,
    devices: BTreeMap<u64, TcpStream>,
}

impl Server {
    /// Takes so many connections and greets none of them.
    async fn accept(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let (mut stream, _) = self.listener.accept().await?;
            self.devices.insert(stream.read_u64().await?, stream);
        }
        Ok(())
    }

    async fn beat(&mut self, device: u64) -> io::Result<()> {
        let device = self.devices.get_mut(&device);
        device.ok_or(io::ErrorKind::NotConnected)?.write_u8(0).await
    }

    fn kill(&mut self, device: u64) {
        self.devices.remove(&device);
    }
}

/// A pool, what watches it, and what happens to it.
struct Scene<W> {
    out: W,
    pool: Handle<Pool>,
    alarm: Handle<Alarm>,
    clock: Clock,
    server: Server,
}

impl<W: Write> Scene<W> {
    /// Prints what there is to see.
    fn report(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        let (out, pool, alarm) = (&mut self.out, self.pool.view(), self.alarm.view());
        write!(out, "{what}\n    pool:")?;
        for state in pool.active().iter() {
            let device = state.device();
            if device.is_some_and(|device| state == Pool::beat(device)) {
                continue;
            }
            write!(out, " {state}")?;
            if let Some(device) = device.filter(|device| state == Pool::down(*device))
                && let Some(why) = pool.payload(Pool::down_payload(device))?
            {
                write!(out, " ({why})")?;
            }
        }
        write!(out, "\n    alarm:")?;
        for state in alarm.active().iter() {
            write!(out, " {state}")?;
        }
        writeln!(out)?;
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Box<dyn Error>> {
        self.pool.add(Pool::Start).await?.outcome.into_result()?;
        self.server.accept(3).await?;
        self.server.beat(1).await?;
        self.pool.view().when(Pool::beat(1)).await?;
        let refused = self.pool.add(Pool::Ready).await?.outcome.into_result();
        let why = refused.err().ok_or("ready without a quorum")?;
        writeln!(self.out, "one device is up: {why}")?;
        self.server.beat(2).await?;
        self.server.beat(3).await?;
        let all = [Pool::beat(2), Pool::beat(3), Pool::Ready];
        self.pool.view().when(all).await?;
        self.report("all devices are up")
    }

    async fn lose_one(&mut self) -> Result<(), Box<dyn Error>> {
        let (pool, alarm) = (self.pool.view().clone(), self.alarm.view().clone());
        self.server.kill(2);
        pool.when(Pool::down(2)).await?;
        alarm.when(Alarm::Degraded).await?;
        self.report("device 2 is lost")?;

        self.clock.advance(1);
        self.server.accept(1).await?;
        self.server.beat(2).await?;
        pool.when(Pool::beat(2)).await?;
        alarm.when_not(Alarm::Degraded).await?;
        self.report("it is back a second later")?;

        self.clock.advance(1);
        for device in [1, 2] {
            let heard = pool.when_next(Pool::beat(device));
            self.server.beat(device as u64).await?;
            heard.await?;
        }
        self.clock.advance(1);
        pool.when(Pool::down(3)).await?;
        alarm.when(Alarm::Degraded).await?;
        self.report("device 3 has said nothing for three seconds")
    }

    async fn lose_two(&mut self) -> Result<(), Box<dyn Error>> {
        let (pool, alarm) = (self.pool.view().clone(), self.alarm.view().clone());
        // What is done with a quorum only, such as serving requests.
        let serving = pool.context(Pool::Ready).run(pending::<()>());
        self.server.kill(1);
        if serving.await.is_err() {
            writeln!(self.out, "what runs while the pool is ready is dropped")?;
        }
        alarm.when([Alarm::Siren, Alarm::Exception]).await?;
        self.report("device 1 is lost too")?;
        let heard = self.alarm.add(Alarm::Acknowledged).await?;
        heard.outcome.into_result()?;
        self.report("somebody has heard the siren")?;

        self.clock.advance(1);
        self.server.accept(2).await?;
        alarm.when_not(Alarm::Degraded).await?;
        self.server.kill(3);
        pool.when(Pool::down(3)).await?;
        let heard = pool.when_next(Pool::beat(2));
        self.server.beat(1).await?;
        self.server.beat(2).await?;
        pool.when([Pool::beat(1), Pool::Ready]).await?;
        heard.await?;
        alarm.when(Alarm::Degraded).await?;
        alarm.when_not(Alarm::Outage).await?;
        self.report("device 1 is back, device 3 was turned away")?;

        self.clock.advance(2);
        self.server.accept(1).await?;
        self.server.beat(3).await?;
        pool.when(Pool::beat(3)).await?;
        alarm.when_not(Alarm::Degraded).await?;
        self.report("device 3 is back after twice the pause")
    }

    async fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        self.pool.remove(Pool::Start).await?.outcome.into_result()?;
        for stream in self.server.devices.values_mut() {
            // Until nothing more can come: the pool has hung up, one way or the other.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        self.report("the pool has stopped, and all connections are closed")
    }
}

pub(crate) async fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let clock = Clock::default();
    let supervisor = Supervisor {
        server: listener.local_addr()?,
        clock: clock.clone(),
        connected: Connected::default(),
        failures: BTreeMap::new(),
    };
    // What runs ends with this.
    let mut tasks = JoinSet::new();
    let machine = Machine::new().with(supervisor);
    let (pool, owner) = Owner::new(machine, Epoch::random(), ViewOptions::default());
    tasks.spawn(async { drop(owner.run(pending()).await) });
    let (alarm, owner) = Owner::new(Machine::new(), Epoch::random(), ViewOptions::default());
    tasks.spawn(async { drop(owner.run(pending()).await) });

    let server = Server {
        listener,
        devices: BTreeMap::new(),
    };
    let mut scene = Scene {
        out,
        pool,
        alarm,
        clock,
        server,
    };
    scene.start().await?;
    let down: Vec<_> = Pool::devices().map(Pool::down).collect();
    let pipe = Pipe::between(scene.pool.view(), &scene.alarm)
        .mirror_any(down, Alarm::Degraded)
        .mirror_not(Pool::Ready, Alarm::Outage)
        .errors()
        .start();
    scene.lose_one().await?;
    scene.lose_two().await?;
    // Stopping is no outage.
    drop(pipe);
    scene.stop().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&mut io::stdout().lock()).await
}
