//! Who is told everything that nodes do, and where it is recorded.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use machine_node::debugging::{DEFAULT_ADDR, DebugConfig, RecordFormat, RecordOptions};

use super::values::{Addr, period};

/// The variable that says where a debugger is.
pub const DEBUG_ADDR: &str = "AM_DBG_ADDR";

/// Options of whoever runs nodes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Debugging")]
pub struct DebugArgs {
    /// The debugger to tell everything, as soon as one is there: `1` is localhost:6831, `0` or nothing
    /// tells nobody [default: localhost:6831 for a tree, nobody for a node]
    #[arg(
        long,
        env = DEBUG_ADDR,
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub debug_addr: Option<DebugAddr>,

    /// The folder to record all transitions of each node into
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,

    /// What a recording is made of: `binary`, or `json`, an object a line
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "binary",
        requires = "record"
    )]
    pub record_format: RecordFormat,

    /// How long a file of a recording becomes, such as `500k`, `64m`, `2g`
    #[arg(long, value_name = "SIZE", default_value = "64m", value_parser = size, requires = "record")]
    pub record_size: u64,

    /// After what time a recording goes on in another file
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = period, requires = "record")]
    pub record_every: Duration,

    /// How many files of each node are kept; `0` keeps all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "record")]
    pub record_keep: usize,
}

impl DebugArgs {
    /// As nodes take it. `usual`: where the debugger is if nobody says so.
    pub fn config(&self, usual: Option<&str>) -> DebugConfig {
        // An empty variable says something here, which is why it is no flag's.
        let nobody = || std::env::var_os(DEBUG_ADDR).is_some_and(|addr| addr.is_empty());
        let mut config = DebugConfig::default();
        config.addr = match &self.debug_addr {
            Some(DebugAddr(addr)) => addr.clone(),
            None if nobody() => None,
            None => usual.map(str::to_owned),
        };
        config.record = self.record.as_ref().map(|dir| {
            let mut options = RecordOptions::new(dir);
            options.format = self.record_format;
            options.size = self.record_size;
            options.every = self.record_every;
            options.keep = self.record_keep;
            options
        });
        config
    }
}

/// The flags of a node that records so.
pub fn record_args(config: &DebugConfig) -> Vec<OsString> {
    let Some(options) = &config.record else {
        return Vec::new();
    };
    let mut dir = OsString::from("--record=");
    dir.push(&options.dir);
    let every = humantime::format_duration(options.every);
    let flags = [
        format!("--record-format={}", options.format.name()),
        format!("--record-size={}", options.size),
        format!("--record-every={every}"),
        format!("--record-keep={}", options.keep),
    ];
    let flags = flags.into_iter().map(OsString::from);
    std::iter::once(dir).chain(flags).collect()
}

/// Where a debugger is, if there is to be one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DebugAddr(pub Option<String>);

impl FromStr for DebugAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text.trim() {
            "" | "0" => None,
            "1" => Some(DEFAULT_ADDR.to_owned()),
            addr => Some(addr.parse::<Addr>()?.to_string()),
        }))
    }
}

/// A number of bytes, with or without a unit.
/// A number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "it is a number of bytes, or such as 500k, 64m, 2g".to_owned();
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(['k', 'm', 'g']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_wrong| wrong())?;
    let size = number.checked_mul(unit).ok_or_else(wrong)?;
    if size == 0 {
        return Err("it has to be more than nothing".to_owned());
    }
    Ok(size)
}

/// Options of `flights replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// Files of a recording, or folders of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Prints what was recorded as JSON, an object a line, instead of doing it once more
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["1", "500k", "64M", "2g"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1, 500 << 10, 64 << 20, 2 << 30]);
        for wrong in ["", "k", "0", "1kk", "1t", "99999999999g", "-1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_and_the_usual_debugger_have_short_names() {
        let addr = |text: &str| text.parse::<DebugAddr>().unwrap().0;
        assert_eq!((addr(""), addr(" 0 ")), (None, None));
        assert_eq!(addr("1").as_deref(), Some("localhost:6831"));
        assert_eq!(addr(":7000").as_deref(), Some("127.0.0.1:7000"));
        assert!("localhost".parse::<DebugAddr>().is_err());
    }
}
