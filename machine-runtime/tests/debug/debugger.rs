//! A debugger that adds up what it is told, and checks that nothing is left out untold.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use machine_runtime::debug::frame::{Body, Change, Declared, Frame, PROCESS, VERSION};
use machine_runtime::debug::listen::{Asker, ConnectionId, Heard, ListenOptions, Listener, What};
use machine_runtime::{DynState, Position};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::fixtures::{PATIENCE, Root, Running};

/// A debugger, and what it has put together.
pub(crate) struct Debugger {
    heard: Receiver<Heard>,
    pub(crate) asker: Asker,
    pub(crate) addr: SocketAddr,
    pub(crate) book: Book,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) closed: Vec<Option<String>>,
    listens: Running,
}

impl Debugger {
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).await
    }

    pub(crate) async fn at(addr: SocketAddr, options: ListenOptions) -> Self {
        let (listener, heard) = Listener::bind(addr, options).await.unwrap();
        let (addr, asker) = (listener.local_addr().unwrap(), listener.asker());
        Self {
            heard,
            asker,
            addr,
            book: Book::default(),
            connection: None,
            closed: Vec::new(),
            listens: Running::new(|stop| listener.run(stop)),
        }
    }

    /// Hears until `done`.
    pub(crate) async fn until(&mut self, done: impl Fn(&Book) -> bool) {
        let all = async {
            while !done(&self.book) {
                self.hear().await;
            }
        };
        timeout(PATIENCE, all).await.expect("what did not come");
    }

    pub(crate) async fn hear(&mut self) {
        let heard = self.heard.recv().await.unwrap();
        match heard.what {
            What::Opened { hello, .. } => {
                self.connection = Some(heard.connection);
                self.book.take(&hello);
            }
            What::Frame(frame) => self.book.take(&frame),
            What::Closed { why, .. } => self.closed.push(why),
            _ => {}
        }
    }

    /// Hears until machine `number`, the root if it is 1, is told of as far as the root is.
    pub(crate) async fn has_reached(&mut self, number: u32, root: &Root<DynState>) {
        let at = root.handle.checkpoint().await.unwrap();
        self.until(|book| {
            let machine = book.machines.get(&number);
            machine.is_some_and(|machine| {
                let all = number != 1 || machine.sequence == at.sequence;
                all && machine.position == Some(at.position)
            })
        })
        .await;
        assert_eq!(
            self.book.machines[&number].ticks,
            root.handle.view().snapshot().unwrap().ticks()
        );
    }

    /// Stops listening and hangs up.
    pub(crate) async fn hang_up(&mut self) {
        self.listens.stop().await;
    }
}

/// All that a debugger knows. It checks that nothing is left out untold.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) hellos: usize,
    process: u128,
    number: u64,
    pub(crate) machines: BTreeMap<u32, Machined>,
    pub(crate) lines: Vec<(u32, String)>,
    pub(crate) frames: Vec<Frame>,
}

#[derive(Default)]
pub(crate) struct Machined {
    pub(crate) declared: Option<Declared>,
    pub(crate) ticks: Vec<u64>,
    pub(crate) position: Option<Position>,
    pub(crate) sequence: u64,
    pub(crate) keys: usize,
    pub(crate) transitions: usize,
    pub(crate) canceled: usize,
    pub(crate) dropped: u64,
    /// Whether a key has to come before anything else.
    lost: bool,
    pub(crate) waiters: Option<Vec<(String, u32)>>,
    pub(crate) gone: bool,
}

impl Book {
    fn take(&mut self, frame: &Frame) {
        if let Body::Hello(hello) = &frame.body {
            assert_eq!(hello.version, VERSION);
            self.hellos += 1;
            if hello.process != self.process {
                (self.process, self.number) = (hello.process, 0);
            }
            return;
        }
        assert!(frame.number > self.number, "a frame came twice");
        self.number = frame.number;
        self.frames.push(frame.clone());
        if let Body::Log(line) = &frame.body {
            self.lines.push((frame.machine, line.text.clone()));
            return;
        }
        if let (Body::Dropped(_), PROCESS) = (&frame.body, frame.machine) {
            // Lines that found no room.
            return;
        }
        let machine = self.machines.entry(frame.machine).or_default();
        if let Body::Machine(declared) = &frame.body {
            machine.declared = Some((**declared).clone());
            machine.lost = true;
            return;
        }
        assert!(
            machine.declared.is_some(),
            "a machine that was not declared"
        );
        match &frame.body {
            Body::Key(key) => {
                // What was told of it adds up to it.
                if !machine.lost {
                    assert_eq!(machine.ticks, key.ticks);
                    assert_eq!(machine.sequence, key.sequence);
                }
                machine.lost = false;
                machine.keys += 1;
                machine.ticks.clone_from(&key.ticks);
                machine.position = Some(key.position);
                machine.sequence = key.sequence;
            }
            Body::Transition(t) => {
                assert!(!machine.lost);
                assert_eq!(t.sequence, machine.sequence + 1, "a gap");
                machine.sequence = t.sequence;
                machine.transitions += 1;
                machine.canceled += usize::from(!t.is_accepted());
                machine.change(&t.changes);
                let position = machine.position.as_mut().unwrap();
                position.revision = t.revision;
            }
            Body::Followed(f) => {
                assert!(!machine.lost);
                assert_eq!(
                    Some(f.from),
                    machine.position.map(|at| at.revision),
                    "a gap"
                );
                machine.change(&f.changes);
                machine.position = Some(f.position);
                machine.transitions += 1;
            }
            Body::Dropped(n) => {
                machine.dropped += n;
                machine.lost = true;
            }
            Body::Waiters(waiters) => {
                let waiters = waiters.iter().map(|w| (w.what.clone(), w.count));
                machine.waiters = Some(waiters.collect());
            }
            Body::Gone => machine.gone = true,
            _ => {}
        }
    }
}

impl Machined {
    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            self.ticks[change.state as usize] += change.ticks;
        }
    }
}
