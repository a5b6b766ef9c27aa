//! Tries the sandbox on this machine, without a node: `sandbox probe DIR` says what works here, `sandbox run DIR -- CMD…` runs a command
//! in a sandbox with the default limits and leaves nothing behind, and with `--egress` it reaches public addresses.

use std::process::ExitCode;

use futures::StreamExt;
use sandbox::{Backend, LogEvent, NativeBackend, NativeConfig, Network, ProcessSpec, SandboxId, SandboxSpec, Stream};
use tokio::io::AsyncWriteExt;

const USAGE: &str = "usage: sandbox probe STATE_DIR | sandbox run [--egress] STATE_DIR -- COMMAND...";

/// The exit code for our own failures, as opposed to the command's.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    sandbox::helper_main_if_requested();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match words[..] {
                ["probe", state] => probe(state).await,
                ["run", state, "--", ref command @ ..] if !command.is_empty() => {
                    run(state, Network::None, command).await
                }
                ["run", "--egress", state, "--", ref command @ ..] if !command.is_empty() => {
                    run(state, Network::Egress, command).await
                }
                _ => Err(USAGE.into()),
            }
        })
    });
    outcome.unwrap_or_else(|error: Box<dyn std::error::Error>| {
        eprintln!("sandbox: {error}");
        ExitCode::from(FAILED)
    })
}

async fn probe(state: &str) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let found = NativeBackend::new(NativeConfig::new(state))?.probe().await;
    println!("{}", serde_json::to_string_pretty(&found)?);
    Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn run(state: &str, network: Network, command: &[&str]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let backend = NativeBackend::new(NativeConfig::new(state))?;
    let id = SandboxId::new(format!("run-{}", std::process::id()))?;
    let sandbox = backend.create(&id, &SandboxSpec { network, ..SandboxSpec::default() }).await?;
    let result = async {
        sandbox.start("run", ProcessSpec::new(command.iter().copied())).await?;
        let mut logs = sandbox.logs(0, true).await?;
        let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
        while let Some(event) = logs.next().await {
            match event? {
                LogEvent::Record(record) if record.stream == Stream::Stdout => {
                    stdout.write_all(&record.bytes).await?;
                    stdout.flush().await?;
                }
                LogEvent::Record(record) => stderr.write_all(&record.bytes).await?,
                LogEvent::Gap { from, to } => eprintln!("sandbox: {} pieces of output were dropped", to - from),
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(sandbox.wait().await?)
    }
    .await;
    sandbox.destroy().await?;
    Ok(ExitCode::from(u8::try_from(result?.shell_code()).unwrap_or(FAILED)))
}
