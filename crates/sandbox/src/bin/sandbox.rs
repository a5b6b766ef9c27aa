//! Tries the sandbox on this machine, without a node: `sandbox probe DIR` says what works here, `sandbox run DIR [--FORM IMAGE] -- CMD…` runs
//! a command in a sandbox with the default limits, on this machine's programs or those of an image, and leaves nothing behind but the
//! unpacked image; with `--egress` it reaches public addresses. `sandbox resolve NAME:TAG` says which image a tag means now.

use std::process::ExitCode;

use futures::StreamExt;
use sandbox::{
    Backend, ImageSource, LogEvent, NativeBackend, NativeConfig, Network, ProcessSpec, Rootfs, SandboxId, SandboxSpec,
    Stream,
};
use tokio::io::AsyncWriteExt;

const USAGE: &str = "usage: sandbox probe STATE_DIR | sandbox resolve NAME[:TAG] | sandbox run [--egress] STATE_DIR \
    [--registry NAME@DIGEST | --layout DIR | --archive FILE | --tar FILE] -- [COMMAND...]";

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
                ["resolve", name] => resolve(name).await,
                ["run", "--egress", ref words @ ..] => run(words, Network::Egress).await,
                ["run", ref words @ ..] => run(words, Network::None).await,
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

async fn resolve(name: &str) -> Result<ExitCode, Box<dyn std::error::Error>> {
    println!("{}", sandbox::ImageReference::resolve(name).await?);
    Ok(ExitCode::SUCCESS)
}

fn source(form: &str, image: &str) -> Result<Rootfs, Box<dyn std::error::Error>> {
    Ok(Rootfs::Image(match form {
        "--registry" => ImageSource::Registry(image.parse()?),
        "--layout" => ImageSource::Layout(image.into()),
        "--archive" => ImageSource::Archive(image.into()),
        "--tar" => ImageSource::Tar(image.into()),
        _ => return Err(USAGE.into()),
    }))
}

async fn run(words: &[&str], network: Network) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (state, rootfs, command) = match words {
        [state, "--", command @ ..] => (state, Rootfs::HostUsr, command),
        [state, form, image, "--", command @ ..] => (state, source(form, image)?, command),
        _ => return Err(USAGE.into()),
    };
    let backend = NativeBackend::new(NativeConfig::new(state))?;
    let id = SandboxId::new(format!("run-{}", std::process::id()))?;
    let sandbox = backend.create(&id, &SandboxSpec { rootfs, network, ..SandboxSpec::default() }).await?;
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
