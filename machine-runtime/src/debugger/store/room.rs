//! What goes where there is no more room.

use super::{History, Process, ProcessId, Store, ToldLine};

impl Store {
    /// Errors, links and waiters of all machines take an eighth of the memory at most: the oldest of
    /// whichever machine has most of them go. Some more than has to, so that it is not looked for at
    /// each frame.
    pub(super) fn forget_told(&mut self) {
        let most = self.limits.bytes / 8;
        let most = most - most / 16;
        while self.told_bytes > most {
            let largest = self.machines.iter_mut().max_by_key(|one| one.told_bytes());
            let Some(largest) = largest.filter(|one| one.told_bytes() > 0) else {
                return;
            };
            let enough = (self.told_bytes - most).min(largest.told_bytes() / 16 + 1);
            let before = largest.told_bytes();
            while before - largest.told_bytes() < enough && largest.forget_told() {}
            let freed = before - largest.told_bytes();
            if freed == 0 {
                return;
            }
            self.told_bytes -= freed;
            self.machine_bytes -= freed;
        }
    }

    /// Holds a line; all lines of all processes take an eighth of the memory at most.
    pub(super) fn log(&mut self, process: ProcessId, told: ToldLine) {
        let most = self.limits.bytes / 8;
        let bytes = told.bytes();
        let process = &mut self.processes[process.0];
        process.line_bytes += bytes;
        self.side_bytes += bytes;
        process.lines.push_back(told);
        let mut sum: usize = self
            .processes
            .iter()
            .map(|process| process.line_bytes)
            .sum();
        while sum > most {
            let largest = self
                .processes
                .iter_mut()
                .max_by_key(|process| process.line_bytes);
            let Some(bytes) = largest.and_then(Process::forget_line) else {
                return;
            };
            sum -= bytes;
            self.side_bytes -= bytes;
        }
    }

    /// Forgets until `more` bytes fit, and says whether they do. What cannot fit costs nobody anything.
    pub(super) fn shrink(&mut self, more: usize) -> bool {
        if more > 0 && self.bytes().saturating_add(more) > self.limits.bytes {
            let chunks = self.machines.iter().map(History::chunk_bytes);
            let rest = self.bytes().saturating_sub(chunks.sum());
            if rest.saturating_add(more) > self.limits.bytes {
                return false;
            }
        }
        while self.bytes().saturating_add(more) > self.limits.bytes {
            let largest = self
                .machines
                .iter_mut()
                .max_by_key(|history| history.chunk_bytes());
            let Some(largest) = largest else {
                return false;
            };
            let before = largest.bytes();
            if !largest.forget() {
                return false;
            }
            self.machine_bytes = self.machine_bytes - before + largest.bytes();
        }
        true
    }
}
