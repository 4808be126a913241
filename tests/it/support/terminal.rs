//! The program in a real terminal: a tmux of the test's own.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::{Folder, PATIENCE};

/// A terminal in which one command runs.
#[derive(Debug)]
pub(crate) struct Terminal {
    folder: Folder,
    /// Has a word whenever the terminal was written to.
    written: Receiver<()>,
}

impl Terminal {
    /// Starts the program with `args` in a terminal of so many columns and lines. `name` is the test's.
    pub(crate) fn start(name: &str, (width, height): (u16, u16), args: &[&str]) -> Self {
        let folder = Folder::new(&format!("terminal-{name}"));
        let pipe = folder.path().join("written");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let (sender, written) = channel();
        let terminal = Self { folder, written };
        let program = super::command(args);
        // Neither the settings of the test's environment nor a shell's stand between.
        let (mut words, mut settings) = (vec!["env".to_owned()], Vec::new());
        for (name, value) in program.get_envs() {
            let name = name.to_string_lossy();
            match value {
                Some(value) => settings.push(format!("{name}={}", value.to_string_lossy())),
                None => words.extend(["-u".to_owned(), name.into_owned()]),
            }
        }
        words.append(&mut settings);
        words.push(program.get_program().to_string_lossy().into_owned());
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        // The program waits until what it writes is looked at, and how it ends stays on the screen.
        let line = format!(
            "read go; {}; echo ended with $?; read gone",
            words.join(" ")
        );
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, &line]);
        let copy = format!("cat > {}", quoted(&pipe.to_string_lossy()));
        terminal.tmux(&["pipe-pane", "-o", &copy]);
        let mut pipe = File::open(&pipe).unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while pipe.read(&mut bytes).is_ok_and(|count| count > 0) {
                if sender.send(()).is_err() {
                    break;
                }
            }
        });
        terminal.keys(&["Enter"]);
        terminal
    }

    /// Presses keys, by tmux's names of them.
    pub(crate) fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a text.
    pub(crate) fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, (width, height): (u16, u16)) {
        let (width, height) = (width.to_string(), height.to_string());
        self.tmux(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen, once it has what `pick` looks for.
    pub(crate) fn until<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if let Some(picked) = pick(&screen) {
                return picked;
            }
            let left = end.saturating_duration_since(Instant::now());
            let waited = self.written.recv_timeout(left);
            assert!(waited.is_ok(), "{what}: not on the screen\n{screen}");
            while self.written.try_recv().is_ok() {}
        }
    }

    /// The screen, once it has this text.
    pub(crate) fn shows(&self, text: &str) -> String {
        self.until(text, |screen| {
            screen.contains(text).then(|| screen.to_owned())
        })
    }

    fn tmux(&self, args: &[&str]) -> String {
        let socket = self.folder.path().join("tmux");
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(socket).args(["-f", "/dev/null", "-u"]);
        // A tmux that the tests run in is another one.
        tmux.env_remove("TMUX").env("TERM", "xterm-256color");
        let output = tmux
            .args(args)
            .output()
            .expect("tmux, which tests/run installs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.folder.path().join("tmux");
        // It may have ended by itself.
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .output();
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
