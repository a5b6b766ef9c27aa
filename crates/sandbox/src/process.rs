//! An extra process in a sandbox, with its streams attached to this program.

use std::io;

use agent::protocol::{Exit, Frame, MAX_DATA, Reply, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::{Connection, FrameReader, broken, unexpected};
use crate::{ByteReader, ByteWriter, Error, SandboxId};

/// Signals waiting to be sent: a person pressing a key, so a handful is plenty.
const SIGNALS: usize = 8;

/// A running process. Both outputs must be read, side by side: one left unread stops the process when its buffer is full. Dropping the
/// handle ends the process.
pub struct Process {
    /// Its standard input; drop it, or shut it down, to close the other end.
    pub stdin: Option<ByteWriter>,
    /// Its standard output.
    pub stdout: ByteReader,
    /// Its standard error.
    pub stderr: ByteReader,
    signals: mpsc::Sender<i32>,
    exit: oneshot::Receiver<Result<Exit, Error>>,
    id: SandboxId,
    tasks: [JoinHandle<()>; 2],
}

impl Process {
    /// Takes over a connection on which the process was asked for.
    pub(crate) fn attach(id: &SandboxId, connection: Connection) -> Process {
        let (stdin, their_stdin) = duplex(MAX_DATA);
        let (stdout, their_stdout) = duplex(MAX_DATA);
        let (stderr, their_stderr) = duplex(MAX_DATA);
        let (signals, signalled) = mpsc::channel(SIGNALS);
        let (ended, exit) = oneshot::channel();
        let writer = tokio::spawn(send(connection.writer, their_stdin, signalled));
        let (owner, reader) = (id.clone(), connection.reader);
        let reader = tokio::spawn(async move {
            let outcome = receive(&owner, reader, their_stdout, their_stderr).await;
            let _ = ended.send(outcome);
        });
        Process {
            stdin: Some(Box::new(stdin)),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            signals,
            exit,
            id: id.clone(),
            tasks: [writer, reader],
        }
    }

    /// Sends a signal to the process group.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        self.signals.send(signal).await.map_err(|_| Error::Gone(self.id.to_string()))
    }

    /// Waits for the end; all output is in the streams by then. To be called once.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        match (&mut self.exit).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Gone(self.id.to_string())),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both halves of the connection live in the tasks; when they are gone the agent kills the process.
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Carries input and signals to the agent until the process has ended.
async fn send(mut agent: OwnedWriteHalf, mut stdin: DuplexStream, mut signals: mpsc::Receiver<i32>) {
    let mut buffer = vec![0; MAX_DATA];
    let mut open = true;
    loop {
        let frame = tokio::select! {
            read = stdin.read(&mut buffer), if open => match read {
                Ok(n) if n > 0 => Frame::Data(buffer[..n].to_vec()),
                _ => {
                    open = false;
                    Frame::End
                }
            },
            Some(signal) = signals.recv() => Frame::Signal(signal),
            else => break,
        };
        let Ok(bytes) = frame.encode() else { break };
        if agent.write_all(&bytes).await.is_err() {
            break;
        }
    }
    // Keeping the write half open says that we are still here.
    std::future::pending::<()>().await;
}

/// Carries output from the agent until the process has ended.
async fn receive(
    id: &SandboxId,
    mut agent: FrameReader,
    mut stdout: DuplexStream,
    mut stderr: DuplexStream,
) -> Result<Exit, Error> {
    loop {
        let frame = agent.next().await.map_err(|error: io::Error| broken(id, error))?;
        match frame {
            // A stream whose reader was dropped swallows what comes.
            Frame::Output(Stream::Stdout, bytes) => drop(stdout.write_all(&bytes).await),
            Frame::Output(Stream::Stderr, bytes) => drop(stderr.write_all(&bytes).await),
            Frame::Reply(Reply::Ended { exit }) => return Ok(exit),
            Frame::Failure(failure) => return Err(failure.into()),
            other => return Err(unexpected(&other)),
        }
    }
}
