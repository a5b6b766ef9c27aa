//! What a renter does inside a rental while it goes on: programs beside the job, and connections to what listens there.

use anyhow::{Context, Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, Node, NodeSpec, Signal};
use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};
use tests::{client::Client, eventually, eventually_within, failed_with, offers_arrive, phase, story};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How soon a client's death must be felt inside.
const HANG_UP: Duration = Duration::from_secs(2);

/// How long a command may take to end once it can.
const END: Duration = Duration::from_secs(60);

/// A rental whose job sleeps, and its id.
pub(crate) async fn rent(renter: &Node, job: &str) -> Result<(Client, String)> {
    let client = Client::start(renter, ["run", "--for", "1h", "--", "sh", "-c", job])?;
    eventually("the job's start", async || Ok(client.said().contains("started").then_some(()))).await?;
    let rental: RentalRow = phase(renter, "serving").await?;
    Ok((client, rental.id.to_string()))
}

pub(crate) async fn network() -> Result<Devnet> {
    let provider = NodeSpec::provider("provider-1").increment_millis(10_000);
    let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
    offers_arrive(&devnet, devnet.node("renter-1")?).await?;
    Ok(devnet)
}

#[tokio::test]
async fn a_program_beside_the_job_has_the_commands_streams_and_ends_as_the_command_does() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let (job, id) = rent(renter, "echo from the job; sleep 3000").await?;

        let script = "cat; echo $GREETING in $PWD; echo wrong >&2; exit 7";
        let args = ["exec", &id, "--env", "GREETING=hello", "--cwd", "/tmp", "--", "sh", "-c", script];
        let mut child =
            renter.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // more than any buffer on the way holds
        let sent = vec![b'x'; 3 << 20];
        let mut stdin = child.stdin.take().context("no input")?;
        let writing = tokio::spawn({
            let sent = sent.clone();
            async move { stdin.write_all(&sent).await }
        });
        let done = child.wait_with_output().await?;
        writing.await??;
        let said = [sent.as_slice(), b"hello in /tmp\n"].concat();
        ensure!(done.stdout == said, "{} bytes came back of {}", done.stdout.len(), said.len());
        assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(7), b"wrong\n".as_slice()));

        let missing = renter.call(["exec", &id, "--", "/no/such/program"]).await?;
        assert_eq!(missing.code, 127, "{}", missing.stderr);
        let killed = renter.call(["exec", &id, "--", "sh", "-c", "kill -9 $$"]).await?;
        assert_eq!(killed.code, 137, "{}", killed.stderr);
        let logs = renter.call(["logs", &id]).await?;
        assert_eq!((logs.code, logs.stdout.as_str()), (0, "from the job\n"));
        failed_with(&renter.call(["exec", "0xffff", "--", "true"]).await?, 4, &["no running rental"])?;

        renter.call(["stop", &id]).await?;
        job.ended(END).await?;
        failed_with(&renter.call(["exec", &id, "--", "true"]).await?, 4, &["no running rental"])?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_program_goes_on_over_the_deaths_of_both_daemons_and_nothing_it_wrote_is_lost_or_doubled() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let (_job, id) = rent(renter, "sleep 3000").await?;
        let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit 5";
        let program = Client::start(renter, ["exec", &id, "--", "sh", "-c", script])?;
        for (daemon, line) in [("provider-1", "line 20\n"), ("renter-1", "line 120\n"), ("provider-1", "line 220\n")] {
            let printed = eventually(line, async || Ok(program.printed().contains(line).then_some(()))).await;
            printed.with_context(|| format!("the command said: {}", program.said()))?;
            devnet.signal(daemon, Signal::KILL)?;
            devnet.restart(daemon).await?;
        }
        let done = program.ended(END).await?;
        let wanted: String = (0..400).map(|n| format!("line {n}\n")).collect();
        ensure!(done.stdout == wanted, "what it wrote arrived as\n{}", done.stdout);
        assert_eq!(done.code, 5, "{}", done.stderr);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_client_that_is_killed_takes_everything_it_ran_with_it_within_two_seconds() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let (_job, id) = rent(renter, "sleep 3000").await?;
        // a number that no other process of this machine sleeps for
        let marker = format!("3{:07}", std::process::id());
        let script = format!("sleep {marker} & sleep {marker}; true");
        let mut client = renter.command(["exec", &id, "--", "sh", "-c", &script]).stdin(Stdio::piped()).spawn()?;
        let sleeping = || {
            let all = fs::read_dir("/proc").into_iter().flatten().flatten();
            let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
            let wanted = format!("sleep\0{marker}\0").into_bytes();
            lines.filter(|line| *line == wanted).count()
        };
        eventually("both programs", async || Ok((sleeping() == 2).then_some(()))).await?;
        client.start_kill()?;
        let killed = Instant::now();
        eventually_within(HANG_UP, "their end", async || Ok((sleeping() == 0).then_some(()))).await?;
        ensure!(killed.elapsed() <= HANG_UP, "they ran on for {:?}", killed.elapsed());
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_port_of_this_machine_leads_to_what_listens_inside_and_a_refusal_closes_it() -> Result<()> {
    // answers each line with its length, and ends when the other side does
    const SERVER: &str = r#"
        use Socket;
        socket(my $s, PF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
        bind($s, sockaddr_in(8888, INADDR_LOOPBACK)) or die; listen($s, 16); $| = 1; print "listening\n";
        while (accept(my $c, $s)) { my $line = <$c>; syswrite($c, length($line) . "\n"); close($c); }
    "#;
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let (job, id) = rent(renter, &format!("exec perl -e '{SERVER}'")).await?;
        eventually("the server", async || Ok(job.printed().contains("listening").then_some(()))).await?;
        let forward = Client::start(renter, ["--json", "forward", &id, "0:8888", "0:9"])?;
        let printed = eventually("the ports", async || Ok(forward.printed().lines().next().map(str::to_owned))).await?;
        let ports: Vec<serde_json::Value> = serde_json::from_str(&printed)?;
        let at = |which: usize| {
            ports.get(which).and_then(|port| port["listen"].as_str()).context("no port").map(str::to_owned)
        };

        for length in [1, 70_000] {
            let mut stream = TcpStream::connect(at(0)?).await?;
            let line = [vec![b'y'; length - 1], b"\n".to_vec()].concat();
            stream.write_all(&line).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            assert_eq!(answer, format!("{length}\n"));
        }
        let mut refused = TcpStream::connect(at(1)?).await?;
        assert_eq!(refused.read(&mut [0; 8]).await.unwrap_or(0), 0, "nobody listens there");
        eventually("the reason", async || Ok(forward.said().contains("refused").then_some(()))).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_port_inside_leads_to_what_this_machine_reaches_while_the_command_runs() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let renter = devnet.node("renter-1")?;
        let (_job, id) = rent(renter, "sleep 3000").await?;
        // answers whoever has said all there is to say with how much that was
        let server = TcpListener::bind("127.0.0.1:0").await?;
        let here = format!("0:127.0.0.1:{}", server.local_addr()?.port());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said).await;
                let _ = stream.write_all(format!("{} bytes\n", said.len()).as_bytes()).await;
            }
        });
        let mut forward = Client::start(renter, ["--json", "forward", &id, "-R", &here, "-R", "0:127.0.0.1:9"])?;
        let printed = eventually("the ports", async || Ok(forward.printed().lines().next().map(str::to_owned))).await?;
        let ports: Vec<serde_json::Value> = serde_json::from_str(&printed)?;
        let at = |which: usize| {
            let address = ports.get(which).and_then(|port| port["listen"].as_str()).context("no port")?;
            address.strip_prefix("127.0.0.1:").map(str::to_owned).with_context(|| format!("{address} is not loopback"))
        };
        let ask = async |port: String, bytes: usize| {
            let script = format!(
                "my $c = IO::Socket::INET->new(PeerAddr => q(127.0.0.1:{port})) or die qq(refused\n); \
                 print $c q(x) x {bytes}; $c->flush; shutdown($c, 1); print <$c>"
            );
            renter.call(["exec", &id, "--", "perl", "-MIO::Socket::INET", "-e", &script]).await
        };
        for bytes in [1, 3_000_000] {
            let answer = ask(at(0)?, bytes).await?;
            ensure!(answer.stdout == format!("{bytes} bytes\n"), "{} {}", answer.stdout, answer.stderr);
        }
        ensure!(ask(at(1)?, 0).await?.stdout.is_empty(), "nobody listens there");
        eventually("the reason", async || Ok(forward.said().contains("127.0.0.1:9").then_some(()))).await?;
        let taken = renter.call(["forward", &id, "-R", &format!("{}:127.0.0.1:9", at(0)?)]).await?;
        failed_with(&taken, 1, &["cannot listen inside", "in use"])?;

        forward.interrupt().await?;
        eventually("the command's end", async || Ok(forward.has_ended()?.then_some(()))).await?;
        eventually_within(HANG_UP, "the port's end", async || {
            Ok(ask(at(0)?, 1).await?.stderr.contains("refused").then_some(()))
        })
        .await?;
        devnet.stop()
    })
    .await
}
