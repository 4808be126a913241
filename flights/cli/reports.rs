//! The settings of logs, metrics and traces.

use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use machine_node::observe::{ObserveConfig, OtlpConfig};
use machine_node::telemetry::{self, Filter, Format, LogConfig, LokiAddr, Switches};

use super::Usage;
use super::values::{OptionalPeriod, healthcheck, period, ratio};

/// What is logged, and how.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct LogArgs {
    /// What to log: a filter such as `info` or `warn,machine_runtime=debug`, or a level of
    /// asyncmachine-go, 0 (nothing) to 5 (everything), which `AM_LOG` gives as well [default: warn]
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        value_name = "FILTER",
        hide_env_values = true
    )]
    pub log: Option<String>,

    /// What a logged line looks like: `text`, or `json`, an object a line
    #[arg(
        long,
        global = true,
        env = "AM_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_env_values = true
    )]
    pub log_format: Format,
}

impl LogArgs {
    /// As a program takes it that reports as `observe` says, and the other switches of the environment.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the filter, the level, or the address of a Loki is none, or as [`ObserveArgs::config`].
    pub fn config(&self, observe: Option<&ObserveArgs>) -> Result<(LogConfig, Switches), Usage> {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let level = given(std::env::var("AM_LOG").ok());
        let (from, filter) = match (given(self.log.clone()), level) {
            (Some(filter), _) => ("--log (or RUST_LOG)", Filter::parse(&filter)),
            (None, Some(level)) => ("AM_LOG", Filter::level(&level)),
            (None, None) => ("", Filter::parse(telemetry::DEFAULT)),
        };
        let mut filter = filter.map_err(|error| Usage(format!("{from}: {error}")))?;
        let switches = Switches::read(|name| std::env::var(name).ok());
        switches.apply(&mut filter);
        let loki = observe.map(ObserveArgs::config).transpose()?;
        let loki = loki.and_then(|config| config.loki);
        if let Some(loki) = &loki {
            let addr = loki.parse::<LokiAddr>();
            addr.map_err(|error| Usage(format!("--loki (or LOKI_ADDR): {error}")))?;
        }
        let config = LogConfig {
            filter,
            format: self.log_format,
            loki: loki.is_some(),
        };
        Ok((config, switches))
    }

    /// What of it the environment of another process has to say, so that it logs likewise. The
    /// other switches are there already.
    pub fn environment(&self) -> [(&'static str, Option<String>); 2] {
        let format = self.log_format.name().to_owned();
        [
            ("RUST_LOG", self.log.clone()),
            ("AM_LOG_FORMAT", Some(format)),
        ]
    }
}

/// To whom nodes report.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Reports")]
pub struct ObserveArgs {
    /// What the label `service` of metrics, logs and traces says; also `OTEL_SERVICE_NAME`
    /// [default: flights]
    #[arg(long, env = "AM_SERVICE", value_name = "NAME", hide_env_values = true)]
    pub service: Option<String>,

    /// A Prometheus Pushgateway to send metrics to, every `--push-every` and at the end; also
    /// `AM_PROM_PUSH_URL`. With a password it is better said there: arguments can be read by others
    #[arg(
        long,
        env = "PUSH_GATEWAY_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub push_gateway: Option<String>,

    /// How often the Pushgateway is sent metrics
    #[arg(long, env = "PUSH_EVERY", default_value = "15s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub push_every: Duration,

    /// Shows metrics of asyncmachine-go under their old names as well
    #[arg(long, env = "AM_COMPAT", value_parser = FalseyValueParser::new(),
        hide_env_values = true)]
    pub compat_metrics: bool,

    /// The states that have a series of their own; `*` is all
    #[arg(long, value_delimiter = ',', value_name = "STATE,…")]
    pub state_metrics: Vec<String>,

    /// A Loki to send logs to; also `AM_LOKI_ADDR`. With a password it is better said there: arguments
    /// can be read by others
    #[arg(long, env = "LOKI_ADDR", value_name = "URL", hide_env_values = true)]
    pub loki: Option<String>,

    /// An OpenTelemetry collector to send traces to, over HTTP: `/v1/traces` is appended; also
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, which is taken as it is, and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, which is appended to. With a password it is better said there:
    /// arguments can be read by others
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,

    /// Which part of the traces that begin here are kept, 0 to 1; also `OTEL_TRACES_SAMPLER_ARG`
    /// [default: 1]
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub trace_ratio: Option<f64>,

    /// How often a root activates Healthcheck and Heartbeat; not at all unless told
    #[arg(long, env = "AM_HEALTHCHECK", value_name = "TIME", value_parser = healthcheck,
        hide_env_values = true)]
    pub healthcheck: Option<OptionalPeriod>,
}

impl ObserveArgs {
    /// As a node takes it. An empty address is none, an empty service the usual one.
    ///
    /// # Errors
    ///
    /// [`Usage`] if what only the environment says is wrong.
    pub fn config(&self) -> Result<ObserveConfig, Usage> {
        let given = |addr: &Option<String>, also: &str| {
            let addr = addr.clone().or_else(|| std::env::var(also).ok());
            addr.filter(|addr| !addr.is_empty())
        };
        let service = given(&self.service, "OTEL_SERVICE_NAME");
        let mut config = ObserveConfig::new(service.as_deref().unwrap_or(SERVICE));
        config.push_gateway = given(&self.push_gateway, "AM_PROM_PUSH_URL");
        config.push_every = self.push_every;
        config.compat = self.compat_metrics;
        config.state_metrics.clone_from(&self.state_metrics);
        config.loki = given(&self.loki, "AM_LOKI_ADDR");
        config.otlp = self.collector(|name| std::env::var(name).ok())?;
        config.trace_ratio = self.kept(|name| std::env::var(name).ok());
        config.healthcheck = self.healthcheck.and_then(|period| period.0);
        Ok(config)
    }

    /// Which part of the traces is kept. A variable that is no ratio says nothing, as it is not ours.
    fn kept(&self, variable: impl Fn(&str) -> Option<String>) -> f64 {
        if let Some(ratio) = self.trace_ratio {
            return ratio;
        }
        let text = variable(SAMPLED).unwrap_or_default();
        match ratio(text.trim()) {
            Ok(ratio) => ratio,
            Err(why) => {
                if !text.trim().is_empty() {
                    tracing::warn!("{SAMPLED}: `{text}` is ignored: {why}");
                }
                1.0
            }
        }
    }

    /// The collector of traces: of what `--otlp` and the standard variables say, the flag wins, then the
    /// variable that is for traces alone. What goes with them is no flag: others could read it.
    fn collector(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<OtlpConfig>, Usage> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let base = |base: String| OtlpConfig::at_base(&base);
        let otlp = match &self.otlp {
            Some(flag) => Some(flag.clone()).filter(|flag| !flag.is_empty()).map(base),
            None => given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
                .map(OtlpConfig::at)
                .or_else(|| given("OTEL_EXPORTER_OTLP_ENDPOINT").map(base)),
        };
        let Some(otlp) = otlp else { return Ok(None) };
        let first = |names: [&'static str; 2]| {
            let mut found = names.into_iter().map(|name| (name, given(name)));
            found.find_map(|(name, value)| Some((name, value?)))
        };
        let headers = first(OTLP_HEADERS).map(|(_, headers)| headers);
        let mut otlp = otlp.with_headers(&headers.unwrap_or_default());
        if let Some((name, text)) = first(OTLP_TIMEOUTS) {
            let ms: Result<u64, _> = text.trim().parse();
            let wrong = |_| format!("{name}: `{text}` is no number of milliseconds such as 5000");
            let ms = ms.map_err(|error| Usage(wrong(error)))?;
            otlp.timeout = Some(ms).filter(|ms| *ms > 0).map(Duration::from_millis);
        }
        Ok(Some(otlp))
    }
}

/// The service, unless told otherwise.
const SERVICE: &str = "flights";

/// The headers of every request to a collector; the first variable that is there wins.
const OTLP_HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];

/// How long it may take, likewise.
const OTLP_TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];

/// Which part of the traces is kept.
const SAMPLED: &str = "OTEL_TRACES_SAMPLER_ARG";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_collector_is_the_flag_before_what_is_for_traces_before_what_is_for_all() {
        let collector = |flag: &[&str], variables: &[(&str, &str)]| {
            let cli = Cli::try_parse_from([&["flights"], flag].concat()).unwrap();
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            cli.tree.observe.collector(variable)
        };
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x");
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a");
        let url = |flag: &[&str], variables: &[(&str, &str)]| {
            collector(flag, variables)
                .unwrap()
                .map(|collector| collector.url)
        };
        let flag = ["--otlp", "http://f"];
        assert_eq!(url(&flag, &[traces, all]).unwrap(), "http://f/v1/traces");
        assert_eq!(url(&[], &[traces, all]).unwrap(), "http://t/x");
        assert_eq!(url(&[], &[all]).unwrap(), "http://a/v1/traces");
        assert_eq!(
            url(&[], &[(traces.0, ""), all]).unwrap(),
            "http://a/v1/traces"
        );
        assert_eq!(url(&["--otlp="], &[traces, all]), None);
        assert_eq!(url(&[], &[]), None);
        let [[headers, of_all], [timeout, timeout_of_all]] = [OTLP_HEADERS, OTLP_TIMEOUTS];
        let rest = [(of_all, "a=b"), (timeout_of_all, "250")];
        let told = collector(&flag, &rest).unwrap().unwrap();
        assert_eq!(told.headers, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(told.timeout, Some(Duration::from_millis(250)));
        let rest = [rest[0], rest[1], (headers, "c=d"), (timeout, "100")];
        let told = collector(&flag, &rest).unwrap().unwrap();
        assert_eq!(told.headers, [("c".to_owned(), "d".to_owned())]);
        assert_eq!(told.timeout, Some(Duration::from_millis(100)));
        let wrong = collector(&flag, &[(timeout, "5s")]).unwrap_err();
        assert!(wrong.0.contains(timeout), "{wrong}");
        assert_eq!(collector(&[], &[(timeout, "5s")]), Ok(None));
    }

    #[test]
    fn reports_are_as_the_flags_say() {
        let config = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["flights"], args].concat()).unwrap();
            cli.tree.observe.config().unwrap()
        };
        for (flag, period) in [
            ("--healthcheck=", None),
            ("--healthcheck=0", None),
            ("--healthcheck=1", Some(5)),
            ("--healthcheck=2s", Some(2)),
        ] {
            assert_eq!(config(&[flag]).healthcheck, period.map(Duration::from_secs));
        }
        let config = config(&["--push-gateway=", "--compat-metrics", "--state-metrics=A,B"]);
        assert_eq!(config.push_gateway, None);
        assert!(config.compat);
        assert_eq!(config.state_metrics, ["A", "B"]);
    }

    #[test]
    fn which_traces_are_kept_is_the_flag_before_a_variable_that_is_a_ratio() {
        let kept = |flag: &[&str], variable: &str| {
            let cli = Cli::try_parse_from([&["flights"], flag].concat()).unwrap();
            cli.tree.observe.kept(|_| Some(variable.to_owned()))
        };
        for (flag, variable, ratio) in [
            (&["--trace-ratio=0.5"][..], "0.25", 0.5),
            (&[], "0.25", 0.25),
            (&[], "", 1.0),
            (&[], "bogus", 1.0),
            (&[], "7", 1.0),
        ] {
            assert_eq!(kept(flag, variable).to_string(), ratio.to_string());
        }
    }
}
