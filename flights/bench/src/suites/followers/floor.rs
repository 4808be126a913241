//! The floor of an answer to a follower: bytes in, bytes out, on as many connections.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cpu;
use crate::suites::replication::one_thread;

/// About what a question of a follower takes, and an answer.
const BYTES: usize = 32;

/// How often each connection is answered.
const ROUNDS: usize = 50;

/// The processor time of an answer in us, with so many connections: what a server of one thread takes
/// that sends back what it was sent.
pub(super) fn echo_us(connections: usize) -> anyhow::Result<f64> {
    let (tell, told) = mpsc::channel();
    let server = thread::spawn(move || -> anyhow::Result<f64> {
        one_thread()?.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?)?;
            let mut echoes = JoinSet::new();
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                echoes.spawn(async move {
                    let mut bytes = [0; BYTES];
                    while stream.read_exact(&mut bytes).await.is_ok()
                        && stream.write_all(&bytes).await.is_ok()
                    {}
                });
            }
            let start = cpu::of_thread();
            while echoes.join_next().await.is_some() {}
            Ok(cpu::of_thread() - start)
        })
    });
    let addr = told.recv().context("the echo cannot listen")?;
    let streams = (0..connections).map(|_| {
        let stream = StdStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    let mut streams = streams.collect::<std::io::Result<Vec<_>>>()?;
    let mut bytes = [0; BYTES];
    for _ in 0..ROUNDS {
        for stream in &mut streams {
            stream.write_all(&bytes)?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut bytes)?;
        }
    }
    drop(streams);
    let ns = server
        .join()
        .map_err(|_panic| anyhow::anyhow!("the echo failed"))??;
    let answers = u32::try_from(connections * ROUNDS)?;
    Ok(ns / 1e3 / f64::from(answers))
}
