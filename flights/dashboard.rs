//! `flights dashboard`: what is made for Grafana and Prometheus, and where it goes.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use machine_node::dashboard::{self, push::Grafana};

use crate::cli::{DashboardArgs, Usage};

/// Makes the dashboard: writes it, takes it to a Grafana, or prints it.
///
/// # Errors
///
/// [`Usage`], [`Unreachable`](machine_node::dashboard::push::Unreachable), what Grafana said, or what
/// cannot be written.
pub async fn make(args: DashboardArgs) -> anyhow::Result<()> {
    let url = args.grafana_url.filter(|url| !url.is_empty());
    let wrong = |why: &str| Err(Usage(why.to_owned()).into());
    let url = match (args.upload, url) {
        (true, None) => return wrong("--upload: --grafana-url (or GRAFANA_URL) says where to"),
        (false, _) if args.folder.is_some() => return wrong("--folder is for an --upload"),
        (false, _) => None,
        (true, url) => url,
    };
    let token = args.grafana_token.map(|token| token.0);
    let token = token.filter(|token| !token.is_empty());
    let grafana = url.map(|url| Grafana::new(&url, token.as_deref()));
    let grafana = grafana.transpose();
    let grafana = grafana.map_err(|error| Usage(format!("{error:#}")))?;
    let mut out = io::stdout().lock();
    if let Some(folder) = &args.out {
        let to = |path: &Path| format!("cannot write {}", path.display());
        fs::create_dir_all(folder).with_context(|| to(folder))?;
        for file in dashboard::files(&dashboard::Options::new(args.job.as_str())) {
            let path = folder.join(file.name);
            fs::write(&path, file.text).with_context(|| to(&path))?;
            writeln!(out, "{}", path.display())?;
        }
    }
    if let Some(grafana) = grafana {
        let shown = grafana.push(args.folder.as_deref()).await?;
        writeln!(out, "{shown}")?;
    } else if args.out.is_none() {
        out.write_all(dashboard::grafana().as_bytes())?;
    }
    Ok(())
}
