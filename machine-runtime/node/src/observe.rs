//! To whom a node reports how it is, besides those who ask.

use std::time::Duration;

use anyhow::Context;
use machine_runtime::Schema;
use machine_runtime::observe::Observers;

pub use crate::outbound::Exports;
use crate::push::Gateway;

/// To whom a node reports, and what. Nothing, unless told otherwise; `/metrics` is there in any case.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ObserveConfig {
    /// What the label `service` of everything that is reported says.
    pub service: String,
    /// The Pushgateway that is sent the node's metrics.
    pub push_gateway: Option<String>,
    /// How often it is sent them.
    pub push_every: Duration,
    /// Whether the metrics of asyncmachine-go are there too, under their old names.
    pub compat: bool,
    /// The states that have a series of their own: names, or `*`.
    pub state_metrics: Vec<String>,
    /// The Loki that is sent what is logged.
    pub loki: Option<String>,
    /// The OTLP endpoint (HTTP) that is sent spans.
    pub otlp: Option<String>,
    /// Which part of the traces that begin here are kept, 0 to 1.
    pub trace_ratio: f64,
    /// How often a root activates `Heartbeat`, and `Healthcheck` (rule R29).
    pub healthcheck: Option<Duration>,
}

impl ObserveConfig {
    /// Reports to nobody, for a service of this name.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            push_gateway: None,
            push_every: Duration::from_secs(15),
            compat: false,
            state_metrics: Vec::new(),
            loki: None,
            otlp: None,
            trace_ratio: 1.0,
            healthcheck: None,
        }
    }

    /// Checks what can be wrong before a node of this `schema` is started.
    ///
    /// # Errors
    ///
    /// If a state that is to have a series of its own is none, or the address of a server is none.
    pub fn check(&self, schema: &Schema) -> anyhow::Result<()> {
        self.watched(schema).context("a metric of a state")?;
        Gateway::new(self, "node")?;
        Ok(())
    }
}

/// What a node is observed by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observed {
    /// To whom it reports.
    pub config: ObserveConfig,
    /// What its view tells, and counts.
    pub observers: Observers,
    /// What has been told other servers.
    pub exports: Exports,
}

impl Observed {
    /// By nobody but those who ask, of a view that has these `observers`.
    pub fn new(config: ObserveConfig, observers: Observers) -> Self {
        Self {
            config,
            observers,
            exports: Exports::default(),
        }
    }
}
