//! A session channel with a program in it: a shell, or a command that the login shell is given, as sshd does it.

use super::{
    inbox::Inbox,
    outlet::{Gone, Outlet},
};
use crate::guest::{Controls, Guest, Process, Program};
use sandbox::{ByteWriter, TerminalSize};
use std::{collections::BTreeMap, convert::Infallible, future::pending, sync::Arc};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, watch},
};

/// Variables that a client may set for one session, and their bytes in all: with a command they still fit the message that starts it.
const MAX_VARIABLES: usize = 64;
const MAX_VARIABLES_BYTES: usize = 16 * 1024;
/// Signals that wait to be sent; whoever sends more before the first has arrived sends them in vain.
const SIGNALS: usize = 16;
/// Gives a command to the login shell, found as [`crate::host`] finds it for a shell alone. sshd names it in `SHELL`, which editors and
/// `tmux` look at.
const COMMAND: [&str; 3] = [
    "/bin/sh",
    "-c",
    r#"for shell in "$SHELL" /bin/bash /bin/sh; do [ -x "$shell" ] && export SHELL="$shell" && exec "$shell" -c "$0"; done"#,
];
/// What sshd sets. Shells and prompts look at these to see that they are remote; there are no addresses to tell.
const SSH_VARIABLES: [(&str, &str); 2] =
    [("SSH_CLIENT", "127.0.0.1 0 22"), ("SSH_CONNECTION", "127.0.0.1 0 127.0.0.1 22")];

/// What a client has asked for before it starts something.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    variables: BTreeMap<String, String>,
    terminal: Option<TerminalSize>,
}

impl Wishes {
    /// Sets a variable. Any is allowed that can be one: who may set variables here may as well run programs.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let plain = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
        let bytes: usize = self.variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        let fits = self.variables.len() < MAX_VARIABLES && bytes + name.len() + value.len() <= MAX_VARIABLES_BYTES;
        let good = !name.is_empty() && name.chars().enumerate().all(plain) && !value.contains('\0') && fits;
        if good {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
        good
    }

    /// Asks for a terminal. Its modes are not taken over: clients send the settings of their own, which are what a new terminal has.
    pub(super) fn terminal(&mut self, term: &str, size: TerminalSize) -> bool {
        self.terminal = Some(size);
        self.set("TERM", term)
    }

    /// Whether a person looks at it.
    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// The program that does what is wanted: the login shell, or a command in it.
    pub(super) fn program(self, command: Option<String>) -> Program {
        let mut env = self.variables;
        env.extend(SSH_VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let argv = command.map(|command| COMMAND.map(str::to_owned).into_iter().chain([command]).collect());
        Program { argv: argv.unwrap_or_default(), env, cwd: None, terminal: self.terminal }
    }
}

/// Tells a running program what its client wants.
#[derive(Debug)]
pub(super) struct Orders {
    size: watch::Sender<Option<TerminalSize>>,
    signals: mpsc::Sender<i32>,
}

/// The other end of [`Orders`].
#[derive(Debug)]
pub(super) struct Ordered {
    size: watch::Receiver<Option<TerminalSize>>,
    signals: mpsc::Receiver<i32>,
}

impl Orders {
    pub(super) fn new() -> (Self, Ordered) {
        let ((size, new_size), (signals, new_signals)) = (watch::channel(None), mpsc::channel(SIGNALS));
        (Self { size, signals }, Ordered { size: new_size, signals: new_signals })
    }

    /// Changes the terminal's size; of many only the last counts.
    pub(super) fn resize(&self, size: TerminalSize) {
        self.size.send_replace(Some(size));
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: i32) {
        let _ = self.signals.try_send(signal);
    }
}

/// Runs a program for a channel and tells the client how it ended. Given up, it hangs up.
pub(super) async fn run(
    guest: Guest,
    program: Program,
    greeting: Option<String>,
    inbox: Arc<Inbox>,
    outlet: Outlet,
    ordered: Ordered,
) -> Result<(), Gone> {
    let Process { stdin, mut stdout, mut stderr, mut running } = match guest.exec(program).await {
        Ok(process) => process,
        Err(error) => return outlet.fail(&error).await,
    };
    if let Some(line) = greeting {
        outlet.send(format!("{line}\r\n").into()).await?;
    }
    let controls = running.controls();
    let ended = async {
        let (exit, out, err) = tokio::join!(running.wait(), outlet.pump(&mut stdout), outlet.pump_errors(&mut stderr));
        out.and(err).map(|()| exit)
    };
    let exit = tokio::select! {
        exit = ended => exit?,
        never = feed(&inbox, stdin) => match never {},
        never = obey(ordered, &controls) => match never {},
    };
    inbox.shut();
    match exit {
        Ok(exit) => outlet.finish(exit).await,
        Err(error) => outlet.fail(&error).await,
    }
}

/// Gives the program what the client sends, and its end. A program that reads no more does not keep the client from sending.
async fn feed(inbox: &Inbox, mut stdin: ByteWriter) -> Infallible {
    while let Some(bytes) = inbox.next().await {
        if stdin.write_all(&bytes).await.is_err() {
            inbox.shut();
        }
    }
    let _ = stdin.shutdown().await;
    pending().await
}

async fn obey(ordered: Ordered, controls: &Controls) -> Infallible {
    let Ordered { mut size, mut signals } = ordered;
    let resizing = async {
        while size.changed().await.is_ok() {
            let new = *size.borrow_and_update();
            if let Some(new) = new {
                controls.resize(new).await;
            }
        }
    };
    let signalling = async {
        while let Some(signal) = signals.recv().await {
            controls.signal(signal).await;
        }
    };
    tokio::join!(resizing, signalling);
    pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_given_to_the_login_shell_and_a_shell_is_one() {
        let command = "echo \"$HOME\" | cat".to_owned();
        assert_eq!(Wishes::default().program(Some(command.clone())).argv.last(), Some(&command));
        assert!(Wishes::default().program(None).argv.is_empty());
    }

    #[test]
    fn variables_reach_the_program_and_those_of_the_server_win() {
        let mut wishes = Wishes::default();
        assert!(wishes.set("LC_ALL", "ko_KR.UTF-8"));
        assert!(wishes.set("SSH_CLIENT", "forged"));
        assert!(wishes.terminal("xterm-256color", TerminalSize { columns: 100, rows: 30 }));
        let program = wishes.program(None);
        assert_eq!(program.env["LC_ALL"], "ko_KR.UTF-8");
        assert_eq!(program.env["TERM"], "xterm-256color");
        assert_ne!(program.env["SSH_CLIENT"], "forged");
        assert_eq!(program.terminal, Some(TerminalSize { columns: 100, rows: 30 }));
    }

    #[test]
    fn what_is_no_variable_or_too_much_is_refused() {
        let mut wishes = Wishes::default();
        for name in ["", "1A", "A=B", "A B", "A\0"] {
            assert!(!wishes.set(name, "x"), "{name:?}");
        }
        assert!(!wishes.set("A", "x\0y"));
        assert!(!wishes.set("A", &"x".repeat(MAX_VARIABLES_BYTES)));
        for number in 0..MAX_VARIABLES {
            assert!(wishes.set(&format!("A{number}"), "x"));
        }
        assert!(!wishes.set("ONE_MORE", "x"));
    }
}
