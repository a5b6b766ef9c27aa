//! A chain endpoint that can be killed: a small process in front of the chain that passes bytes through and keeps nothing. Killing the
//! development chain itself would lose its state; what a node sees of a dying endpoint is the same.
//!
//! It knows the method of each question, so that it can die before the question is passed on (`rpc.<method>.asked`) or with the answer
//! in its hands (`rpc.<method>.answered`): the transaction was taken, and nobody was told.

use crate::{
    chain::Chain,
    port::Port,
    warden::{Order, Start},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};
use store::crash_point;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What it is called where it is signalled and started again.
pub const ENDPOINT: &str = "rpc";
/// How long it may take to listen.
const STARTS: Duration = Duration::from_secs(30);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(50);
/// Larger than any question, so that its method lies in one piece.
const PIECE: usize = 64 << 10;

/// Where it listens and whom it asks.
#[derive(Args)]
pub struct Options {
    /// The port of this machine to listen on.
    #[arg(long)]
    listen: u16,
    /// The chain's port.
    #[arg(long)]
    chain: u16,
}

/// Passes questions and answers until it is killed.
pub async fn run(options: Options) -> Result<ExitCode> {
    let listener = TcpListener::bind(("127.0.0.1", options.listen)).await.context("binding the endpoint's port")?;
    loop {
        let (asker, _) = listener.accept().await?;
        let chain = options.chain;
        // a broken connection is the asker's to notice
        tokio::spawn(async move { pass(asker, chain).await.ok() });
    }
}

async fn pass(mut asker: TcpStream, chain: u16) -> io::Result<()> {
    let mut chain = TcpStream::connect(("127.0.0.1", chain)).await?;
    let (mut questions, mut answers) = (vec![0; PIECE], vec![0; PIECE]);
    let mut asked = None;
    loop {
        tokio::select! {
            read = asker.read(&mut questions) => {
                let piece = questions.get(..read?).filter(|piece| !piece.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
                if let Some(method) = method(piece) {
                    crash_point("rpc", &method, "asked");
                    asked = Some(method);
                }
                chain.write_all(piece).await?;
            }
            read = chain.read(&mut answers) => {
                let piece = answers.get(..read?).filter(|piece| !piece.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
                if let Some(method) = asked.take() {
                    crash_point("rpc", &method, "answered");
                }
                asker.write_all(piece).await?;
            }
        }
    }
}

/// The method of the question that begins in this piece.
fn method(piece: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(piece);
    let (_, rest) = text.split_once(r#""method":""#)?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The process in front of the chain.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) program: PathBuf,
    pub(crate) port: Port,
}

impl Endpoint {
    /// How it is started.
    pub(crate) fn start(&self, chain: &Chain, logs: &Path) -> Result<Start> {
        let (_, port) = chain.rpc.rsplit_once(':').context("the chain's address has no port")?;
        Ok(Start {
            name: ENDPOINT.into(),
            program: self.program.clone(),
            args: ["endpoint", "--listen", &self.port.number().to_string(), "--chain", port]
                .map(str::to_owned)
                .to_vec(),
            env: BTreeMap::new(),
            out: logs.join("rpc.out"),
            log: logs.join("rpc.log"),
            order: Order::Chain,
            control: Vec::new(),
        })
    }

    /// Waits until it can be asked.
    pub(crate) async fn answers(&self) -> Result<()> {
        let until = Instant::now() + STARTS;
        while TcpStream::connect(("127.0.0.1", self.port.number())).await.is_err() {
            ensure!(Instant::now() < until, "the endpoint does not listen after {STARTS:?}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_of_a_question_is_found() {
        let question = b"POST / HTTP/1.1\r\n\r\n{\"method\":\"eth_call\",\"params\":[]}";
        assert_eq!(method(question).as_deref(), Some("eth_call"));
        assert_eq!(method(b"POST / HTTP/1.1\r\n\r\n"), None);
    }
}
