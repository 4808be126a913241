//! Values of options, as texts have them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use machine_runtime::WRITE_LONGEST;

/// A host and a port; without a host it is this computer's loopback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addr(String);

impl Addr {
    /// The address as a socket takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Addr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("it needs a port, as in localhost:19700")?;
        port.parse::<u16>()
            .map_err(|_wrong| format!("`{port}` is no port, which is 0 to 65535"))?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self(format!("{host}:{port}")))
    }
}

/// A node's HTTP address: a host and a port, behind `https://` or `http://` if that is to be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeAddr {
    /// The host and the port.
    pub addr: Addr,
    /// Whether it is asked over TLS, if that is said.
    pub tls: Option<bool>,
}

impl FromStr for NodeAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Some(true), rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Some(false), rest)
        } else {
            (None, text)
        };
        let rest = rest
            .strip_suffix('/')
            .filter(|_| tls.is_some())
            .unwrap_or(rest);
        if rest.contains('/') {
            return Err("it is a host and a port, as in https://localhost:18700".to_owned());
        }
        let addr = rest.parse()?;
        Ok(Self { addr, tls })
    }
}

/// An address that may be empty, as it is in the environment of those who want none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionalAddr(pub Option<Addr>);

impl FromStr for OptionalAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(Self(None))
        } else {
            text.parse().map(Some).map(Self)
        }
    }
}

/// A time that may be none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionalPeriod(pub Option<Duration>);

/// The longest time that any option takes, a year: a moment that is much later cannot be told.
const LONGEST: Duration = Duration::from_hours(8766);

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    bounded(time)
}

fn bounded(time: Duration) -> Result<Duration, String> {
    if time > LONGEST {
        return Err("it is a year at most".to_owned());
    }
    Ok(time)
}

pub(super) fn period(text: &str) -> Result<Duration, String> {
    let period = match text.parse() {
        Ok(micros) => bounded(Duration::from_micros(micros))?,
        Err(_unit) => time(text)?,
    };
    if period.is_zero() {
        return Err("it has to be longer than nothing".to_owned());
    }
    Ok(period)
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "it is a number from 1 on".to_owned())
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    time(text)
}

pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "it is 0 to 1".to_owned())
}

/// `1` is what the example of asyncmachine-go does: every 5 s.
pub(super) fn healthcheck(text: &str) -> Result<OptionalPeriod, String> {
    let period = match text {
        "" | "0" => None,
        "1" => Some(Duration::from_secs(5)),
        text => Some(period(text)?),
    };
    Ok(OptionalPeriod(period))
}

pub(super) fn json(text: &str) -> Result<String, String> {
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    value.map_err(|error| format!("it is no JSON: {error}"))?;
    Ok(text.to_owned())
}

/// The least that nodes take.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn patience(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !(SHORTEST_PATIENCE..=WRITE_LONGEST).contains(&time) {
        let (least, most) = (SHORTEST_PATIENCE.as_secs(), WRITE_LONGEST.as_secs());
        return Err(format!("it is {least} to {most} s"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_loopback() {
        assert_eq!(
            ":19700".parse::<Addr>().unwrap().as_str(),
            "127.0.0.1:19700"
        );
        assert_eq!("[::1]:1".parse::<Addr>().unwrap().as_str(), "[::1]:1");
        assert!("19700".parse::<Addr>().is_err());
        assert!("localhost:x".parse::<Addr>().is_err());
    }

    #[test]
    fn a_node_is_asked_as_its_address_says() {
        let node = |text: &str| {
            let node: NodeAddr = text.parse().unwrap();
            (node.addr.to_string(), node.tls)
        };
        assert_eq!(node("host:1"), ("host:1".to_owned(), None));
        assert_eq!(node("https://host:1/"), ("host:1".to_owned(), Some(true)));
        assert_eq!(node("http://:1"), ("127.0.0.1:1".to_owned(), Some(false)));
        for wrong in [
            "https://host",
            "ftp://host:1",
            "https://host:1/v1",
            "host:1/",
        ] {
            assert!(wrong.parse::<NodeAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_is_a_time_or_microseconds() {
        assert_eq!(period("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(period("5000"), Ok(Duration::from_millis(5)));
        assert!(period("0s").is_err());
        assert!(period("soon").is_err());
        assert_eq!(period("1y"), Ok(LONGEST));
        for long in ["2y", "500000000000y", "18446744073709551615"] {
            assert_eq!(
                period(long),
                Err("it is a year at most".to_owned()),
                "{long}"
            );
        }
        assert!(interval("2y").is_err() && healthcheck("2y").is_err());
    }
}
