//! A machine that is rented to be worked on: called by a name, held without a program, and ended by hand.

use crate::access::network;
use anyhow::{Context, Result, ensure};
use api::types::{Receipt, RentalRow, RentalStory, Visit, VisitKind, Visitor};
use devnet::{Signal, books::Books};
use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};
use tests::{books_balance, client::Client, eventually, failed_with, story};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

#[tokio::test]
async fn what_nobody_fetched_is_told_before_a_rental_is_stopped_and_at_a_terminal_asked() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let file = devnet.dir().join("input");
        fs::write(&file, "from here\n")?;
        let file = file.to_str().context("a path")?;
        let rent = async |name: &str| -> Result<()> {
            let rented = renter.call(["rent", "--label", name]).await?;
            ensure!(rented.code == 0, "{}", rented.stderr);
            let there = format!("{name}:");
            for command in
                [vec!["cp", file, &there], vec!["exec", name, "--", "sh", "-c", "mkdir out; cp input out/result"]]
            {
                let done = renter.call(command).await?;
                ensure!(done.code == 0, "{}", done.stderr);
            }
            Ok(())
        };

        rent("first").await?;
        // at a terminal, where nobody says yes
        let stop = renter.command(["stop", "first"]);
        let words = std::iter::once(stop.as_std().get_program()).chain(stop.as_std().get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut asked = Command::new("script");
        asked.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut asked = asked.spawn()?;
        asked.stdin.take().context("no input")?.write_all(b"n\n").await?;
        let asked = asked.wait_with_output().await?;
        let screen = String::from_utf8_lossy(&asked.stdout);
        ensure!(screen.contains("out/result") && screen.contains("[y/N]") && !screen.contains("input\r"), "{screen}");
        assert_eq!(asked.status.code(), Some(1), "{screen}");
        ensure!(renter.call(["exec", "first", "--", "true"]).await?.code == 0, "it goes on");
        // for a script the warning is all
        let stopped = renter.call(["stop", "first"]).await?;
        ensure!(stopped.code == 0 && stopped.stderr.contains("node cp -r first:."), "{}", stopped.stderr);

        rent("second").await?;
        let out = devnet.dir().join("fetched");
        let fetched = renter.call(["cp", "-r", "second:out", out.to_str().context("a path")?]).await?;
        ensure!(fetched.code == 0, "{}", fetched.stderr);
        let stopped = renter.call(["stop", "second"]).await?;
        assert_eq!((stopped.code, stopped.stderr.as_str()), (0, ""));
        devnet.stop()
    })
    .await
}

/// Takes Jupyter's place where there is none: it listens where it is told to, and answers whoever has the token with its number.
const STANDS_FOR_JUPYTER: &str = r#"#!/usr/bin/perl
use Socket;
my ($path) = map { /^--sock=(.*)/ } @ARGV;
socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un($path)) or die "no $path: $!"; listen($s, 16);
while (accept(my $c, $s)) {
    my $line = <$c>;
    my $good = $line =~ /token=\Q$ENV{JUPYTER_TOKEN}\E /;
    syswrite($c, $good ? "HTTP/1.0 200 OK\r\n\r\nnumber $$\n" : "HTTP/1.0 403 Forbidden\r\n\r\n");
    close($c);
}
"#;

/// What is answered to a request for a page.
async fn page(listen: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(listen).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn what_stands_for_jupyter_is_started_found_again_and_stopped_and_asks_for_its_token() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let rented = renter.call(["rent", "--label", "notes"]).await?;
        ensure!(rented.code == 0, "{}", rented.stderr);
        failed_with(&renter.call(["jupyter", "notes"]).await?, 1, &["no Jupyter in this rental", "--image"])?;
        failed_with(&renter.call(["jupyter", "others"]).await?, 4, &[])?;

        let program = devnet.dir().join("venv/bin/jupyter-lab");
        fs::create_dir_all(program.parent().context("a folder")?)?;
        fs::write(&program, STANDS_FOR_JUPYTER)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let venv = devnet.dir().join("venv");
        let copied = renter.call(["cp", "-r", venv.to_str().context("a path")?, "notes:"]).await?;
        ensure!(copied.code == 0, "{}", copied.stderr);

        let visit = async || -> Result<(String, bool)> {
            let way = Client::start(renter, ["--json", "jupyter", "notes", "--venv", "/job/venv"])?;
            let line = eventually("the address", async || Ok(way.printed().lines().next().map(str::to_owned))).await;
            let shown: serde_json::Value = serde_json::from_str(&line.with_context(|| way.said())?)?;
            let listen = shown["listen"].as_str().context("no address")?;
            let url = shown["url"].as_str().context("no url")?;
            let path = url.strip_prefix(&format!("http://{listen}")).context("another host")?;
            ensure!(page(listen, "/?token=0").await?.contains("403"), "anybody may come in");
            let answer = page(listen, path).await?;
            let number = answer.lines().last().filter(|line| line.starts_with("number ")).context(answer.clone())?;
            Ok((number.to_owned(), shown["started"] == true))
        };
        let (first, started) = visit().await?;
        ensure!(started, "it was found before it was started");
        assert_eq!(visit().await?, (first, false), "the same goes on when the command has died");
        let stop = ["--json", "jupyter", "notes", "--stop"];
        assert_eq!(renter.call(stop).await?.stdout.trim(), r#"{"stopped":true}"#);
        assert_eq!(renter.call(stop).await?.stdout.trim(), r#"{"stopped":false}"#);
        ensure!(visit().await?.1, "after its end it is started anew");
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn ssh_comes_in_at_a_port_of_this_machine_with_its_key_and_nobody_with_another() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let rented = renter.call(["rent", "--label", "desk"]).await?;
        ensure!(rented.code == 0, "{}", rented.stderr);
        let door = Client::start(renter, ["ssh-config", "desk", "--listen"])?;
        eventually("the port", async || Ok(door.said().contains("SSH is served").then_some(()))).await?;
        let config = devnet.dir().join("ssh_config");
        fs::write(&config, door.printed())?;

        let output = Command::new("ssh").arg("-F").arg(&config).args(["desk", "echo in $PWD"]).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "in /job\n");

        // each shell is greeted with the one before, and the history has all of them
        let shell = async || -> Result<String> {
            let mut shell = Command::new("ssh");
            shell.arg("-F").arg(&config).args(["-tt", "desk"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut shell = shell.spawn()?;
            shell.stdin.take().context("no input")?.write_all(b"exit 3\n").await?;
            Ok(String::from_utf8_lossy(&shell.wait_with_output().await?.stdout).into_owned())
        };
        let first = shell().await?;
        ensure!(!first.contains("Last login"), "nobody had a shell before: {first}");
        let ended = async || -> Result<Option<RentalStory>> {
            let stories: Vec<RentalStory> = renter.call(["show", "desk", "--json"]).await?.json()?;
            let is_shell = |visit: &&Visit| visit.kind == VisitKind::Shell && visit.ended.is_some();
            Ok(stories.into_iter().find(|story| story.visits.iter().any(|visit| is_shell(&visit))))
        };
        let told = eventually("the end of the shell in the history", ended).await?;
        let visits: Vec<_> = told.visits.iter().map(|visit| (visit.visitor, visit.kind, visit.how.as_str())).collect();
        let by_ssh = |kind, how| (Visitor::Ssh, kind, how);
        assert_eq!(visits, [by_ssh(VisitKind::Program, "exited with 0"), by_ssh(VisitKind::Shell, "exited with 3")]);
        let second = shell().await?;
        ensure!(second.starts_with("Last login: ") && second.contains("by ssh (exited with 3)"), "{second}");

        let printed = door.printed();
        let port = printed.lines().find_map(|line| line.trim().strip_prefix("Port ")).context("no port")?;
        let wrong = devnet.dir().join("wrong");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&wrong).status().await?;
        ensure!(made.success(), "ssh-keygen: {made}");
        let mut stranger = Command::new("ssh");
        stranger.args(["-F", "none", "-p", port, "-i"]).arg(&wrong).env_remove("SSH_AUTH_SOCK");
        for option in
            ["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        {
            stranger.args(["-o", option]);
        }
        let refused = stranger.args(["127.0.0.1", "true"]).output().await?;
        assert_eq!(refused.status.code(), Some(255));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(said.contains("Permission denied"), "{said}");
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_machine_is_held_under_its_name_over_a_restart_until_it_is_stopped() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let before = Books::read(&devnet).await?;
        let rented = renter.call(["rent", "cpus>=1", "--for", "1h", "--label", "train"]).await?;
        ensure!(rented.code == 0, "{}", rented.stderr);
        ensure!(rented.stdout.contains("node ssh train"), "how to get in: {}", rented.stdout);

        let again = ["rent", "--label", "train"];
        failed_with(&renter.call(again).await?, 2, &["is called `train` already"])?;
        let said = renter.call(["exec", "train", "--", "sh", "-c", "echo in $PWD"]).await?;
        assert_eq!((said.code, said.stdout.as_str()), (0, "in /job\n"), "{}", said.stderr);
        let file = devnet.dir().join("greeting");
        fs::write(&file, "hello\n")?;
        let copied = renter.call(["cp", file.to_str().context("a path")?, "train:"]).await?;
        ensure!(copied.code == 0, "{}", copied.stderr);

        devnet.signal("renter-1", Signal::KILL)?;
        devnet.restart("renter-1").await?;
        let row = eventually("the rental", async || {
            let rows: Vec<RentalRow> = renter.call(["ps", "train", "--json"]).await?.json()?;
            Ok(rows.into_iter().next().filter(|row| row.phase == "serving"))
        })
        .await?;
        assert_eq!(row.label.as_ref().map(|label| label.as_str()), Some("train"));
        let kept = renter.call(["exec", "train", "--", "cat", "greeting"]).await?;
        assert_eq!((kept.code, kept.stdout.as_str()), (0, "hello\n"), "{}", kept.stderr);

        // the name goes on to the rental that continues this one, as soon as that has the machine
        let next: RentalRow = renter.call(["--json", "extend", "train", "--for", "10m"]).await?.json()?;
        assert_eq!(next.label, row.label);
        eventually("the other rental's turn", async || {
            let rows: Vec<RentalRow> = renter.call(["ps", "--json"]).await?.json()?;
            Ok(rows.iter().any(|row| row.id == next.id && row.phase == "serving").then_some(()))
        })
        .await?;
        let kept = renter.call(["exec", "train", "--", "cat", "greeting"]).await?;
        assert_eq!((kept.code, kept.stdout.as_str()), (0, "hello\n"), "{}", kept.stderr);

        let stopped = renter.call(["stop", "train"]).await?;
        ensure!(stopped.code == 0, "{}", stopped.stderr);
        eventually("both receipts", async || {
            let receipts: Vec<Receipt> = renter.json(&["receipts"]).await?;
            Ok((receipts.len() == 2).then_some(()))
        })
        .await?;
        let receipts: Vec<Receipt> = renter.json(&["receipts", "train"]).await?;
        assert_eq!(receipts.len(), 2);
        let job = receipts.iter().find(|receipt| receipt.id == next.id).and_then(|receipt| receipt.job.as_ref());
        let job = job.context("no job")?;
        assert_eq!((job.how.as_str(), job.argv.len()), ("held without a program", 0));
        assert_eq!(books_balance(&devnet, &before).await?.len(), 2);

        let shown = renter.call(["show", "train"]).await?;
        ensure!(shown.code == 0 && shown.stdout.contains("called train"), "{}{}", shown.stdout, shown.stderr);
        for command in
            [vec!["exec", "train", "--", "true"], vec!["forward", "train", "0:9"], vec!["ssh-config", "train"]]
        {
            failed_with(&renter.call(command).await?, 4, &["no running rental"])?;
        }
        devnet.stop()
    })
    .await
}
