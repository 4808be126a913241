//! What it costs to keep strangers out.

mod access;
mod tls;

use crate::report::Report;

pub(crate) use self::tls::files;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    tls::measure(report)?;
    access::measure(report)
}
