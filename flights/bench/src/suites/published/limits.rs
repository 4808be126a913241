//! Control groups: a tenth of a processor and 64 MB for a process, by version 1 or 2, whichever is
//! there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

const PERIOD_US: u32 = 100_000;

/// A tenth of a processor.
const QUOTA_US: u32 = PERIOD_US / 10;

const BYTES: u32 = 64 << 20;

/// How the names of groups begin; the process that made them follows, then the node.
const PREFIX: &str = "flights-bench-";

/// What version 2 is to limit.
const CONTROLLERS: [&str; 2] = ["cpu", "memory"];

/// The groups of one process. They are removed when they drop, which their process must have
/// before.
#[derive(Debug)]
pub(super) struct Limits {
    groups: Vec<PathBuf>,
}

impl Limits {
    /// Groups for a process of this name.
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let quota = (QUOTA_US.to_string(), PERIOD_US.to_string());
        let mut limits = Self { groups: Vec::new() };
        match (
            mounted(&mounts, "cpu"),
            mounted(&mounts, "memory"),
            unified(&mounts),
        ) {
            (Some(cpu), Some(memory), _) => {
                let cpu = limits.group(&cpu.join(&name))?;
                set(&cpu.join("cpu.cfs_period_us"), &quota.1)?;
                set(&cpu.join("cpu.cfs_quota_us"), &quota.0)?;
                let memory = limits.group(&memory.join(&name))?;
                set(&memory.join("memory.limit_in_bytes"), &BYTES.to_string())?;
            }
            (_, _, Some(root)) => {
                hand_on(&root)?;
                let group = limits.group(&root.join(&name))?;
                set(&group.join("cpu.max"), &format!("{} {}", quota.0, quota.1))?;
                set(&group.join("memory.max"), &BYTES.to_string())?;
            }
            _ => bail!("there are no control groups here to limit nodes with"),
        }
        Ok(limits)
    }

    fn group(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        path.parent().map_or(Ok(()), remove_left_over)?;
        fs::create_dir(path).with_context(|| no_right(path))?;
        self.groups.push(path.to_owned());
        Ok(path.to_owned())
    }

    /// Puts a process under the limits.
    pub(super) fn put(&self, pid: u32) -> anyhow::Result<()> {
        for group in &self.groups {
            set(&group.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for group in &self.groups {
            // One that is left is empty and does no harm.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Removes the groups of runs that were killed.
fn remove_left_over(dir: &Path) -> anyhow::Result<()> {
    // Listed first: a folder that changes while it is read may hide some of it.
    let entries: Vec<_> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let run = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        if run.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            // Its process may be ending still.
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

fn no_right(path: &Path) -> String {
    let path = path.display();
    format!("no right to make the control group {path}, which limits a node; try as root")
}

/// Has the groups below a root of version 2 limit processors and memory, where they do not yet.
fn hand_on(root: &Path) -> anyhow::Result<()> {
    let control = root.join("cgroup.subtree_control");
    let handed_on = fs::read_to_string(&control)?;
    for controller in CONTROLLERS {
        if !handed_on.split_whitespace().any(|on| on == controller) {
            fs::write(&control, format!("+{controller}")).with_context(|| no_right(&control))?;
        }
    }
    Ok(())
}

fn set(file: &Path, value: &str) -> anyhow::Result<()> {
    fs::write(file, value).with_context(|| format!("cannot write `{value}` to {}", file.display()))
}

/// Where the controller of version 1 is mounted.
fn mounted(mounts: &str, controller: &str) -> Option<PathBuf> {
    find(mounts, "cgroup", |options| {
        options.split(',').any(|option| option == controller)
    })
}

/// Where version 2 is mounted, if it can limit both.
fn unified(mounts: &str) -> Option<PathBuf> {
    let root = find(mounts, "cgroup2", |_| true)?;
    let there_are = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
    let has = |controller: &&str| there_are.split_whitespace().any(|one| one == *controller);
    CONTROLLERS.iter().all(has).then_some(root)
}

/// The first mount of this kind whose options fit.
fn find(mounts: &str, kind: &str, fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, is, options) = (fields.next()?, fields.next()?, fields.next()?);
        (is == kind && fits(options)).then(|| PathBuf::from(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_found_by_their_mounts() {
        let mounts = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n";
        assert_eq!(
            mounted(mounts, "cpu"),
            Some("/sys/fs/cgroup/cpu,cpuacct".into())
        );
        assert_eq!(mounted(mounts, "memory"), None);
        assert_eq!(unified(mounts), None);
    }
}
