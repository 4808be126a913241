//! The side of a connection that asks: the calls of [`Replication`](super::wire::Replication), of which an
//! answer of another kind is an error. The client that tarpc makes would panic.

use std::time::Duration;

use tarpc::client::{Channel, RpcError};
use tarpc::context::Context;

use super::admission::Token;
use super::source::millis;
use super::wire::{
    Blob, News, PROTOCOL, Probe, Refusal, ReplicationRequest as Request,
    ReplicationResponse as Response, Secret, Watch, WriteAnswer,
};
use crate::schema::StateShape;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The connection broke, or the call was given up.
    #[error("the connection broke: {0}")]
    Rpc(#[from] RpcError),
    /// The answer is one to another question.
    #[error("it answers another question than was asked")]
    Wrong,
}

/// Makes calls on a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    channel: Channel<Request, Response>,
    protocol: u16,
}

impl Caller {
    pub(super) fn new(channel: Channel<Request, Response>) -> Self {
        Self {
            channel,
            protocol: PROTOCOL,
        }
    }

    /// The same, now that both sides speak `protocol`.
    pub(super) fn speaking(&self, protocol: u16) -> Self {
        let channel = self.channel.clone();
        Self { channel, protocol }
    }

    pub(super) async fn hello(
        &self,
        ctx: Context,
        protocol: u16,
        body: Vec<u8>,
    ) -> Result<Result<Vec<u8>, Refusal>, Failed> {
        match self
            .channel
            .call(ctx, Request::Hello { protocol, body })
            .await?
        {
            Response::Hello(answer) => Ok(answer),
            _ => Err(Failed::Wrong),
        }
    }

    pub(super) async fn watch(&self, ctx: Context, watch: Watch) -> Result<News, Failed> {
        match self.channel.call(ctx, Request::Watch { watch }).await? {
            Response::Watch(news) => Ok(news),
            _ => Err(Failed::Wrong),
        }
    }

    pub(super) async fn schema(&self, ctx: Context, from: u32) -> Result<Vec<StateShape>, Failed> {
        match self.channel.call(ctx, Request::Schema { from }).await? {
            Response::Schema(page) => Ok(page),
            _ => Err(Failed::Wrong),
        }
    }

    pub(super) async fn probe(&self, ctx: Context) -> Result<Probe, Failed> {
        match self.channel.call(ctx, Request::Probe {}).await? {
            Response::Probe(probe) => Ok(probe),
            _ => Err(Failed::Wrong),
        }
    }

    /// Shows a token; whether it admits us.
    pub(super) async fn show(&self, ctx: Context, token: &Token) -> Result<bool, Failed> {
        let token = Secret(token.secret().to_owned());
        match self.channel.call(ctx, Request::Show { token }).await? {
            Response::Show(admitted) => Ok(admitted),
            _ => Err(Failed::Wrong),
        }
    }

    /// Passes a write on, which may take so long.
    pub(super) async fn write(
        &self,
        ctx: Context,
        write: Blob,
        within: Duration,
    ) -> Result<WriteAnswer, Failed> {
        let request = if self.protocol < 2 {
            Request::Mutate { write }
        } else {
            let within_ms = millis(within);
            Request::Write { write, within_ms }
        };
        match (self.channel.call(ctx, request).await?, self.protocol) {
            (Response::Mutate(answer), 1) | (Response::Write(answer), 2..) => Ok(answer),
            _ => Err(Failed::Wrong),
        }
    }
}
