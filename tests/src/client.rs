//! `node run` as a person has it on the screen: started, watched while it goes on, and waited for.

use anyhow::{Context, Result, ensure};
use devnet::{Finished, Node};
use std::{
    ffi::OsStr,
    os::unix::process::ExitStatusExt,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Child,
    task::JoinHandle,
};

/// A client at work. It dies with the value.
pub struct Client {
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

/// What one of its streams has brought.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Stream {
    fn of(source: Option<impl AsyncRead + Unpin + Send + 'static>) -> Result<Self> {
        let mut source = source.context("a client without output")?;
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let grows = Arc::clone(&text);
        let reading = tokio::spawn(async move {
            let mut piece = vec![0; 16 << 10];
            while let Ok(read @ 1..) = source.read(&mut piece).await {
                let fresh = piece.get(..read).unwrap_or_default();
                grows.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(fresh);
            }
        });
        Ok(Self { text, reading })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Client {
    /// Starts a command of a node.
    pub fn start(node: &Node, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let mut child = node.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (Stream::of(child.stdout.take())?, Stream::of(child.stderr.take())?);
        Ok(Self { child, stdout, stderr })
    }

    /// The program's output so far.
    pub fn printed(&self) -> String {
        self.stdout.text()
    }

    /// What it said of its own so far.
    pub fn said(&self) -> String {
        self.stderr.text()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Presses Ctrl-C.
    pub async fn interrupt(&self) -> Result<()> {
        let pid = self.child.id().context("the client has ended")?.to_string();
        let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await?;
        ensure!(sent.success(), "kill failed");
        Ok(())
    }

    /// Waits for its end.
    pub async fn ended(mut self, limit: Duration) -> Result<Finished> {
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        ensure!(status.is_ok(), "the client has not ended after {limit:?}:\n{}{}", self.said(), self.printed());
        let status = status??;
        self.stdout.reading.await?;
        self.stderr.reading.await?;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let text = |text: Arc<Mutex<Vec<u8>>>| {
            String::from_utf8_lossy(&text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
        };
        Ok(Finished { code, stdout: text(self.stdout.text), stderr: text(self.stderr.text) })
    }
}
