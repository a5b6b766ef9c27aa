//! The program as people start it: what it says and exits with when there is no daemon, when the configuration is wrong, when a chain is
//! away, and for each class of error that a daemon may answer with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use api::types::{ApiError, ErrorKind};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    process::{Command, Output},
    thread,
};

/// A data directory of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GPULEASE_")) {
            command.env_remove(name);
        }
        command.env("GPULEASE_DATA_DIR", self.0.path()).args(line.split_whitespace());
        command
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        ended(self.command(line).output().unwrap())
    }
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_makes_no_sense_exits_with_2_and_says_what_would() {
    let home = Home::new();
    for (line, words) in [
        ("", "Usage: node"),
        ("recepts", "receipts"),
        ("offers --ordr price", "--order"),
        ("--role provder", "did you mean `provider`?"),
        ("show 0xzz", "four of its hex digits"),
        ("run --for 1h", "CMD"),
        ("--role renter ps", "start the daemon on its own"),
    ] {
        let (code, _, said) = home.run(line);
        assert_eq!(code, 2, "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
    fs::write(home.0.path().join("config.toml"), "[network]\nlistn = []\n").unwrap();
    let (code, _, said) = home.run("ps");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("did you mean `network.listen`?"), "{said}");
}

#[test]
fn code_for_one_card_is_told_from_code_for_another() {
    let home = Home::new();
    let fixture = |name: &str| format!("{}/../gpu/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let kernel = fixture("only-sm_90a.so");
    let (code, out, said) = home.run(&format!("inspect {kernel}"));
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(out.contains("sm_90a"), "{out}");
    let (code, out, _) = home.run(&format!("inspect {kernel} --on 90,120"));
    assert_eq!(code, 1);
    assert!(out.contains("native") && out.contains("needs sm_90a"), "{out}");
    let (code, out, _) = home.run(&format!("--json inspect {kernel} --on 90"));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, told["cards"][0]["verdict"].as_str()), (0, Some("native")));
    let (code, out, said) = home.run("inspect /no/such/file");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(said.contains("/no/such/file"), "{said}");
}

#[test]
fn without_a_daemon_every_command_that_needs_one_exits_with_3_and_says_how_to_start_it() {
    let home = Home::new();
    for line in [
        "ps",
        "offers",
        "show 0xabcd",
        "stop 0xabcd",
        "dispute 0xabcd",
        "rate 0xabcd --stars 5",
        "reputation 0xabcd",
        "receipts",
        "run -- true",
        "wallet approvals --revoke all",
    ] {
        let (code, out, said) = home.run(line);
        assert_eq!((code, out.as_str()), (3, ""), "{line}: {said}");
        assert!(said.starts_with("error: no daemon listens on") && said.contains("node --role"), "{line}: {said}");
        let (code, out, said) = home.run(&format!("--json {line}"));
        assert_eq!((code, out.as_str()), (3, ""), "{line}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["error"]["kind"], "no_daemon", "{line}");
    }
}

#[test]
fn what_a_daemon_refuses_decides_the_exit_code() {
    use ErrorKind::*;
    for (kind, code) in
        [(Failed, 1), (Usage, 2), (NoDaemon, 3), (NoMatch, 4), (Funds, 5), (Refused, 6), (Chain, 7), (Timeout, 8)]
    {
        let home = Home::new();
        let daemon = UnixListener::bind(home.0.path().join("api.sock")).unwrap();
        let answer = serde_json::to_string(&ApiError::new(kind, "it would not", "do it differently")).unwrap();
        thread::spawn(move || refuse_everything(&daemon, &answer));
        let (found, out, said) = home.run("ps");
        assert_eq!((found, out.as_str()), (code, ""), "{kind:?}: {said}");
        assert_eq!(said, "error: it would not\n  do it differently\n", "{kind:?}");
    }
}

/// A daemon that is asked and says no, whatever it is asked.
fn refuse_everything(daemon: &UnixListener, answer: &str) {
    for connection in daemon.incoming() {
        let connection = connection.unwrap();
        let mut lines = BufReader::new(&connection).lines();
        // a connection that asks for nothing only looks whether somebody listens
        if lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).count() == 0 {
            continue;
        }
        let head =
            format!("HTTP/1.1 500 No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        (&connection).write_all(format!("{head}{answer}").as_bytes()).unwrap();
    }
}

#[test]
fn a_node_is_set_up_examined_and_told_that_its_chain_is_away() {
    let home = Home::new();
    let (code, report, _) = home.run("--json doctor");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(code, 1);
    assert!(report["checks"].as_array().unwrap().iter().all(|check| check["state"] == "ok" || check["remedy"] != ""));

    let passphrase = home.0.path().join("passphrase");
    fs::write(&passphrase, "only a test\n").unwrap();
    let (code, made, said) = home.run(&format!("--json init --passphrase-file {}", passphrase.display()));
    assert_eq!(code, 0, "{said}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let (code, wallets, said) = home.run("--json wallet show");
    assert_eq!(code, 0, "{said}");
    assert!(wallets.contains(made["wallet"].as_str().unwrap()), "{wallets}");

    let (code, _, said) = home.run("wallet balance");
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("no chain is configured") && said.contains("[[chain]]"), "{said}");
    let mut balance = home.command("wallet balance");
    balance.envs([
        ("GPULEASE_CHAIN__0__NAME", "away"),
        ("GPULEASE_CHAIN__0__CHAIN_ID", "31337"),
        ("GPULEASE_CHAIN__0__RPC", "http://127.0.0.1:1"),
    ]);
    let (code, _, said) = ended(balance.output().unwrap());
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("check the [[chain]] sections"), "{said}");
}

#[test]
fn the_program_documents_itself_without_a_data_directory() {
    let home = Home::new();
    let pages = home.0.path().join("man1");
    let (code, written, said) = home.run(&format!("man {} --name gpulease", pages.display()));
    assert_eq!(code, 0, "{said}");
    assert!(written.contains("gpulease-run.1") && pages.join("gpulease-run.1").is_file(), "{written}");
    let (code, script, _) = home.run("completions bash");
    assert!(code == 0 && script.contains("complete"), "{script}");
    let (code, _, said) = home.run("man /proc/nowhere");
    assert_eq!(code, 1);
    assert!(said.contains("/proc/nowhere") && said.contains("a folder that is yours"), "{said}");
}
