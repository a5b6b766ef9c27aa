//! A JSON-RPC endpoint that fails and lies as told: a real HTTP server in front of a real one. Faults are scripted for each method, for
//! some questions or until healed; without a fault everything is passed on as it is.

use alloy::transports::http::reqwest::Client;
use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// Stands for every method that has no fault of its own.
const EVERY: &str = "*";

/// How a question is mistreated.
#[derive(Clone)]
pub enum Fault {
    /// The connection is closed without an answer; nothing is passed on.
    Close,
    /// It is passed on, and the connection closed without an answer.
    LoseAnswer,
    /// It is never answered; nothing is passed on.
    Hang,
    /// It is answered late.
    Delay(Duration),
    /// It is answered with an error of this text; nothing is passed on.
    Refuse(&'static str),
    /// It is answered with this result; nothing is passed on.
    Answer(Value),
    /// It is answered with this HTTP status and this text; nothing is passed on.
    Text(u16, &'static str),
    /// The first half of the answer comes.
    Truncate,
    /// The first answer to each question is given ever after.
    Stale,
    /// The answer is changed: the whole JSON-RPC object, with the question's.
    Rewrite(Arc<Rewriting>),
}

/// Makes another answer of a question and its answer.
pub type Rewriting = dyn Fn(&Value, Value) -> Value + Send + Sync;

impl Fault {
    /// Changes answers.
    pub fn rewrite(change: impl Fn(&Value, Value) -> Value + Send + Sync + 'static) -> Self {
        Self::Rewrite(Arc::new(change))
    }

    /// Changes results, where there is one.
    pub fn result(change: impl Fn(Value) -> Value + Send + Sync + 'static) -> Self {
        Self::rewrite(move |_, mut answer| {
            if let Some(result) = answer.get_mut("result") {
                *result = change(result.take());
            }
            answer
        })
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Close => "Close",
            Self::LoseAnswer => "LoseAnswer",
            Self::Hang => "Hang",
            Self::Delay(_) => "Delay",
            Self::Refuse(_) => "Refuse",
            Self::Answer(_) => "Answer",
            Self::Text(..) => "Text",
            Self::Truncate => "Truncate",
            Self::Stale => "Stale",
            Self::Rewrite(_) => "Rewrite",
        };
        f.write_str(name)
    }
}

/// A running proxy; dropped, it ends.
#[derive(Debug)]
pub struct RpcProxy {
    url: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl Drop for RpcProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl RpcProxy {
    /// Listens on a free port of this machine, in front of `upstream`.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let client = Client::builder().no_proxy().build()?;
        let state = Arc::new(State { upstream: upstream.to_owned(), client, script: Mutex::default() });
        let serving = tokio::spawn(serve(listener, state.clone()));
        Ok(Self { url, state, serving })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Mistreats every question for `method` until healed.
    pub fn fault(&self, method: &str, fault: Fault) {
        self.state.script().faults.insert(method.to_owned(), (fault, None));
    }

    /// Mistreats the next `times` questions for `method`.
    pub fn fault_times(&self, method: &str, times: u32, fault: Fault) {
        self.state.script().faults.insert(method.to_owned(), (fault, Some(times)));
    }

    /// Mistreats the `nth` question from now on, whatever it is for; the next is the first.
    pub fn fault_at(&self, nth: u64, fault: Fault) {
        self.state.script().at = Some((nth, fault));
    }

    /// Mistreats all questions until healed.
    pub fn fault_all(&self, fault: Fault) {
        self.fault(EVERY, fault);
    }

    /// From now on everything is passed on.
    pub fn heal(&self) {
        let mut script = self.state.script();
        script.faults.clear();
        script.at = None;
        script.first_answers.clear();
    }

    /// How often `method` was asked for.
    pub fn asked(&self, method: &str) -> u64 {
        self.state.script().asked.get(method).copied().unwrap_or_default()
    }

    /// How often anything was asked for.
    pub fn asked_in_all(&self) -> u64 {
        self.state.script().asked.values().sum()
    }
}

#[derive(Debug)]
struct State {
    upstream: String,
    client: Client,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    /// By method, with how often the fault still strikes.
    faults: BTreeMap<String, (Fault, Option<u32>)>,
    /// After how many questions a fault strikes once.
    at: Option<(u64, Fault)>,
    asked: BTreeMap<String, u64>,
    /// By question.
    first_answers: BTreeMap<String, Value>,
}

impl State {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a question, and says how it is to be mistreated.
    fn strike(&self, method: &str) -> Option<Fault> {
        let mut script = self.script();
        *script.asked.entry(method.to_owned()).or_default() += 1;
        if let Some((left, fault)) = script.at.take() {
            match left {
                0 | 1 => return Some(fault),
                _ => script.at = Some((left - 1, fault)),
            }
        }
        let key = if script.faults.contains_key(method) { method } else { EVERY };
        let (fault, left) = script.faults.get_mut(key)?;
        let fault = fault.clone();
        if let Some(left) = left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                script.faults.remove(key);
            }
        }
        Some(fault)
    }

    async fn pass_on(&self, question: &Value) -> io::Result<Value> {
        let answer = self.client.post(&self.upstream).json(question).send().await.map_err(io::Error::other)?;
        answer.json().await.map_err(io::Error::other)
    }

    /// The status and text of the answer; an error closes the connection.
    async fn answer(&self, question: Value) -> io::Result<(u16, String)> {
        let method = question["method"].as_str().unwrap_or_default();
        let wrap = |key: &str, value: Value| json!({ "jsonrpc": "2.0", "id": question["id"], key: value });
        let closed = || io::Error::other("the script closes the connection");
        let answer = match self.strike(method) {
            None => self.pass_on(&question).await?,
            Some(Fault::Close) => return Err(closed()),
            Some(Fault::LoseAnswer) => {
                self.pass_on(&question).await?;
                return Err(closed());
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.pass_on(&question).await?
            }
            Some(Fault::Refuse(message)) => wrap("error", json!({ "code": -32000, "message": message })),
            Some(Fault::Answer(result)) => wrap("result", result),
            Some(Fault::Text(status, text)) => return Ok((status, text.to_owned())),
            Some(Fault::Truncate) => {
                let whole = self.pass_on(&question).await?.to_string();
                return Ok((200, whole[..whole.len() / 2].to_owned()));
            }
            Some(Fault::Stale) => {
                let key = format!("{method} {}", question["params"]);
                let kept = self.script().first_answers.get(&key).cloned();
                let answer = match kept {
                    Some(answer) => answer,
                    None => self.pass_on(&question).await?,
                };
                self.script().first_answers.insert(key, answer.clone());
                let mut answer = answer;
                answer["id"] = question["id"].clone();
                answer
            }
            Some(Fault::Rewrite(change)) => {
                let answer = self.pass_on(&question).await?;
                change(&question, answer)
            }
        };
        Ok((200, answer.to_string()))
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // with this task all connections end
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = state.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let state = state.clone();
            async move {
                let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
                let question = serde_json::from_slice(&body)?;
                let (status, text) = state.answer(question).await?;
                let answer = Response::builder().status(status).header("content-type", "application/json");
                answer.body(Full::new(Bytes::from(text))).map_err(io::Error::other)
            }
        });
        connections.spawn(async move {
            // a fault that closes the connection is an error here
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
