//! The frames of one node on their way into files.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::RecordOptions;
use super::writer::{self, Command, Progress, WriteError};
use crate::debug::file::{Encoder, Format};
use crate::debug::frame::{Body, Frame, Hello, PROCESS};
use crate::debug::link::hello;
use crate::debug::subject::Subject;
use crate::debug::teller::{At, Clocks};

/// How many blocks wait to be written at most.
const BLOCKS: usize = 4;

/// Nothing is written any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped;

/// The files of one node, one after the other.
#[derive(Debug)]
pub(super) struct Files {
    hello: Hello,
    declared: Body,
    clocks: Clocks,
    format: Format,
    size: u64,
    every: std::time::Duration,
    encoder: Encoder,
    number: u64,
    began: Instant,
    /// How many files are complete, as far as the writer was told.
    complete: u64,
    progress: Arc<Progress>,
    blocks: mpsc::Sender<Command>,
    /// What writing came to.
    written: oneshot::Receiver<Result<(), WriteError>>,
}

impl Files {
    /// The files of `subject`; the first is there once there is something to be written.
    pub(super) fn start(
        program: &str,
        subject: &Subject,
        options: &RecordOptions,
        clocks: Clocks,
    ) -> Self {
        let (blocks, waiting) = mpsc::channel(BLOCKS);
        let progress = Arc::new(Progress::default());
        let writer = writer::Writing::new(subject.name(), options, Arc::clone(&progress));
        let (ended, written) = oneshot::channel();
        // A thread of its own: it lives as long as the node, and those that tokio has for work that
        // blocks are few.
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let thread = thread.spawn(move || drop(ended.send(writer.run(waiting))));
        if let Err(error) = thread {
            tracing::error!("there is no thread to record on: {error}");
        }
        let mut files = Self {
            hello: hello(program.to_owned()),
            declared: subject.declared(true),
            clocks,
            format: options.format,
            size: options.size,
            every: options.every,
            encoder: Encoder::new(options.format),
            number: 0,
            began: Instant::now(),
            complete: 0,
            progress,
            blocks,
            written,
        };
        files.begin();
        files
    }

    /// Whether the next file is to begin: with the next key.
    pub(super) fn is_next_due(&self) -> bool {
        let is_long = self.progress.len_behind(self.complete) >= self.size;
        is_long || self.began.elapsed() >= self.every
    }

    pub(super) async fn push(&mut self, at: At, machine: u32, body: Body) -> Result<(), Stopped> {
        if matches!(body, Body::Key(_)) && self.is_next_due() {
            self.flush().await?;
            self.send(Command::Next).await?;
            self.complete += 1;
            self.encoder = Encoder::new(self.format);
            self.began = Instant::now();
            self.begin();
        }
        self.append(at, machine, body);
        if self.encoder.is_full() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Has what there is so far written.
    pub(super) async fn flush(&mut self) -> Result<(), Stopped> {
        let block = self.encoder.take();
        if block.is_empty() {
            return Ok(());
        }
        self.send(Command::Block(block)).await
    }

    /// Has all written, and waits for that.
    pub(super) async fn end(mut self) -> Result<(), WriteError> {
        // Whether it stopped shows below.
        let _ = self.flush().await;
        drop(self.blocks);
        self.written.await.unwrap_or(Err(WriteError::Panicked))
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        let sent = self.blocks.send(command).await;
        sent.map_err(|_stopped| Stopped)
    }

    fn begin(&mut self) {
        let now = self.clocks.now();
        let hello = Frame {
            number: 0,
            wall: now.wall,
            mono: now.mono,
            machine: PROCESS,
            body: Body::Hello(self.hello.clone()),
        };
        self.encode(&hello);
        self.append(now, 1, self.declared.clone());
    }

    fn append(&mut self, at: At, machine: u32, body: Body) {
        self.number += 1;
        let frame = Frame {
            number: self.number,
            wall: at.wall,
            mono: at.mono,
            machine,
            body,
        };
        self.encode(&frame);
    }

    fn encode(&mut self, frame: &Frame) {
        // It is a loss like others: its number is missing.
        if let Err(error) = self.encoder.push(frame) {
            tracing::warn!("something is not recorded: {error}");
        }
    }
}
