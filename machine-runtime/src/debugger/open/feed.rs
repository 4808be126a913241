//! Where frames come from, and how they get into the store.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::store::{MachineId, ProcessId, Store, StreamId};
use super::OpenError;
use crate::debug::frame::{Ask, Body, Frame};
use crate::debug::listen::{Asker, ConnectionId, Heard, ListenOptions, Listener, What};
use crate::debug::recording::{Recorded, Recording, RecordingError};

/// How many frames are brought at once.
const BATCH: usize = 512;

/// How often it is looked whether a recording has grown.
const LOOK: Duration = Duration::from_millis(250);

/// What came.
#[derive(Debug)]
pub(super) enum Input {
    Heard(Heard),
    Read(Recorded),
    Trouble(String),
}

/// Where frames come from.
pub(super) enum Sources {
    Live {
        addr: SocketAddr,
        heard: mpsc::Receiver<Heard>,
        asker: Asker,
    },
    Files {
        read: mpsc::Receiver<Vec<Input>>,
    },
    Ended,
}

impl Sources {
    /// What came, if it has not ended.
    pub(super) async fn recv(&mut self) -> Option<Vec<Input>> {
        match self {
            Self::Live { heard, .. } => {
                let mut batch = Vec::new();
                let count = heard.recv_many(&mut batch, BATCH).await;
                (count > 0).then(|| batch.into_iter().map(Input::Heard).collect())
            }
            Self::Files { read } => read.recv().await,
            Self::Ended => pending().await,
        }
    }

    /// Where nodes dial, if they do.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Live { addr, .. } => Some(*addr),
            Self::Files { .. } | Self::Ended => None,
        }
    }

    pub(super) fn end(&mut self) {
        *self = Self::Ended;
    }
}

/// Listens for nodes.
pub(super) async fn listen(addr: &str, tasks: &mut JoinSet<()>) -> Result<Sources, OpenError> {
    let bound = Listener::bind(addr, ListenOptions::default()).await;
    let (listener, heard) = bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => OpenError::Taken {
            addr: addr.to_owned(),
        },
        _ => OpenError::Listen {
            addr: addr.to_owned(),
            error,
        },
    })?;
    let wrong = |error| OpenError::Listen {
        addr: addr.to_owned(),
        error,
    };
    let local = listener.local_addr().map_err(wrong)?;
    let asker = listener.asker();
    tasks.spawn(listener.run(pending()));
    Ok(Sources::Live {
        addr: local,
        heard,
        asker,
    })
}

/// Reads recordings, and reads on what is written to them.
pub(super) fn follow(paths: &[PathBuf], tasks: &mut JoinSet<()>) -> Result<Sources, OpenError> {
    let mut recording = Recording::open(paths)?;
    let (sender, read) = mpsc::channel(8);
    // Dropped with the tasks, at the end of the program.
    tasks.spawn(async move {
        loop {
            let next = tokio::task::spawn_blocking(move || {
                let batch = batch(&mut recording);
                (recording, batch)
            });
            let Ok((back, batch)) = next.await else {
                return;
            };
            recording = back;
            let is_end = batch.is_empty();
            if !is_end && sender.send(batch).await.is_err() {
                return;
            }
            if is_end {
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    Ok(Sources::Files { read })
}

/// The next frames of a recording; none at its end.
fn batch(recording: &mut Recording) -> Vec<Input> {
    let mut batch = Vec::new();
    while batch.len() < BATCH {
        match recording.next_frame() {
            Ok(Some(recorded)) => batch.push(Input::Read(recorded)),
            Ok(None) => break,
            Err(error) => batch.push(Input::Trouble(error.to_string())),
        }
    }
    batch
}

/// All of recordings, as far as they are there.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<impl Iterator<Item = Input>, RecordingError> {
    let mut recording = Recording::open(paths)?;
    Ok(std::iter::from_fn(move || match recording.next_frame() {
        Ok(recorded) => recorded.map(Input::Read),
        Err(error) => Some(Input::Trouble(error.to_string())),
    }))
}

/// Which stream of the store belongs to which connection or file.
#[derive(Debug, Default)]
pub(super) struct Feed {
    connections: BTreeMap<ConnectionId, StreamId>,
    processes: BTreeMap<ProcessId, ConnectionId>,
    files: BTreeMap<Arc<Path>, StreamId>,
}

impl Feed {
    /// Takes what came into the store.
    ///
    /// # Errors
    ///
    /// What was wrong with it, in words.
    pub(super) fn apply(&mut self, store: &mut Store, input: Input) -> Result<(), String> {
        match input {
            Input::Heard(heard) => self.hear(store, heard),
            Input::Read(recorded) => self.read(store, recorded),
            Input::Trouble(why) => Err(why),
        }
    }

    fn hear(&mut self, store: &mut Store, heard: Heard) -> Result<(), String> {
        let connection = heard.connection;
        match heard.what {
            What::Opened { peer, hello } => {
                let Body::Hello(hello) = hello.body else {
                    return Ok(());
                };
                let connected = store.connect(&hello);
                let connected = connected.map_err(|error| format!("{peer}: {error}"))?;
                self.connections.insert(connection, connected.stream);
                self.processes.insert(connected.process, connection);
                Ok(())
            }
            What::Frame(frame) => {
                let Some(stream) = self.connections.get(&connection).copied() else {
                    return Ok(());
                };
                store.apply(stream, *frame).map_err(|error| {
                    // Whatever comes after that could be wrong as well.
                    self.connections.remove(&connection);
                    store.disconnect(stream, format!("it sent what no node sends: {error}"));
                    format!("a node sent what no node sends: {error}")
                })
            }
            What::Closed { peer, why } => {
                if let Some(stream) = self.connections.remove(&connection) {
                    let why = why.unwrap_or_else(|| format!("{peer} closed the connection"));
                    store.disconnect(stream, why);
                } else if let Some(why) = why {
                    return Err(format!("{peer} was refused: {why}"));
                }
                Ok(())
            }
        }
    }

    fn read(&mut self, store: &mut Store, recorded: Recorded) -> Result<(), String> {
        let Recorded { file, frame } = recorded;
        let wrong = |error| format!("{}: {error}", file.display());
        let Frame { body, .. } = &frame;
        if let Body::Hello(hello) = body {
            let connected = store.connect(hello).map_err(wrong)?;
            self.files.insert(Arc::clone(&file), connected.stream);
            return Ok(());
        }
        let Some(stream) = self.files.get(&file).copied() else {
            return Err(format!("{}: it does not say who tells", file.display()));
        };
        store.apply(stream, frame).map_err(wrong)
    }

    /// Asks a machine's node who waits on it.
    pub(super) fn ask(&self, store: &Store, sources: &Sources, machine: MachineId) {
        let Sources::Live { asker, .. } = sources else {
            return;
        };
        let process = store.machine(machine).process();
        if let (Some(connection), Some(number)) =
            (self.processes.get(&process), store.number(machine))
        {
            asker.ask(*connection, Ask::Waiters { machine: number });
        }
    }
}
