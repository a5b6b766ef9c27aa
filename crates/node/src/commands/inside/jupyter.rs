//! `node jupyter`: Jupyter in the rental and in this machine's browser. It listens on a Unix socket inside, asks for a token, and is in a
//! session of its own, so that it outlives this command; a folder in the sandbox says where it is to whoever comes again.

use super::{
    Context, Failed, failed,
    forward::{listen, places, serve},
    guest, reached,
};
use crate::{cli, output::note};
use access::guest::{Guest, Program};
use api::types::{ApiError, ErrorKind, Visitor};
use rand::RngCore as _;
use sandbox::{ByteReader, InnerAddress};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

/// Where it is told of in the sandbox, beside the socket.
const SOCKET: &str = "/tmp/.gpulease-jupyter/socket";
/// What the scripts below exit with where there is no Jupyter, and where it does not come up.
const NONE: u32 = 3;
const DIED: u32 = 4;
/// Bytes of a script's output that are read: a token, or the end of a log.
const MAX_SAID: u64 = 16 * 1024;
/// Bytes of the token, of which Jupyter itself takes 24.
const TOKEN_BYTES: usize = 24;

/// Finds Jupyter running or starts it, and prints the token. `$@` are options for it; `VENV` is a virtual environment or empty.
const START: &str = r#"
dir=/tmp/.gpulease-jupyter
umask 077
mkdir -p "$dir" || exit 1
running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }
if running && [ -S "$dir/socket" ]; then printf 'found %s' "$(cat "$dir/token")"; exit 0; fi
[ -n "$VENV" ] && PATH="$VENV/bin:$PATH"
if command -v jupyter-lab >/dev/null; then set -- jupyter-lab "$@"
elif python3 -c 'import jupyterlab' 2>/dev/null; then set -- python3 -m jupyterlab "$@"
elif command -v jupyter-notebook >/dev/null; then set -- jupyter-notebook "$@"
elif command -v jupyter-server >/dev/null; then set -- jupyter-server "$@"
else exit 3; fi
rm -f "$dir/socket"
printf %s "$JUPYTER_TOKEN" > "$dir/token"
set -- "$@" --no-browser --allow-root --sock="$dir/socket" --sock-mode=0600
if command -v setsid >/dev/null; then setsid "$@" > "$dir/log" 2>&1 < /dev/null &
else python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@" > "$dir/log" 2>&1 < /dev/null & fi
echo $! > "$dir/pid"
looks=0
while [ ! -S "$dir/socket" ]; do
  looks=$((looks + 1))
  if ! running || [ $looks -gt 300 ]; then tail -c 2000 "$dir/log" >&2; exit 4; fi
  sleep 0.2
done
printf 'started %s' "$JUPYTER_TOKEN"
"#;

/// Ends it, if it runs.
const STOP: &str = r#"
dir=/tmp/.gpulease-jupyter
pid=$(cat "$dir/pid" 2>/dev/null) && kill "$pid" 2>/dev/null || { rm -rf "$dir"; exit 3; }
looks=0
while kill -0 "$pid" 2>/dev/null && [ $looks -lt 50 ]; do looks=$((looks + 1)); sleep 0.1; done
kill -9 "$pid" 2>/dev/null
rm -rf "$dir"
"#;

/// What is printed.
#[derive(Serialize)]
struct Shown {
    /// Where the browser finds it.
    url: String,
    listen: String,
    /// Whether it was started now, and not found running.
    started: bool,
}

pub(in crate::commands) async fn jupyter(context: &Context, args: cli::Jupyter) -> Result<u8, Failed> {
    let id = reached(context, &args.id).await?.id;
    let guest = guest(context, &id.to_string(), Visitor::Jupyter).await?;
    if args.stop {
        let ran = end(&guest).await?;
        context.output.result(&serde_json::json!({ "stopped": ran }), |_| {
            if ran { "Jupyter is stopped" } else { "no Jupyter ran there" }.to_owned()
        })?;
        return Ok(0);
    }
    let (listener, address) = listen(args.port).await?;
    let (token, started) = begin(&guest, args.venv, args.options, &id.short()).await?;
    let inside = InnerAddress::unix(SOCKET);
    let inside = inside.map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))?;
    let shown = Shown { url: format!("http://{address}/?token={token}"), listen: address.to_string(), started };
    context.output.result(&shown, |_| shown.url.clone())?;
    note("Ctrl-C closes the way there; Jupyter goes on, and the same command finds it again (--stop ends it)");
    let _page = match !args.no_open && !context.output.json && io::stdout().is_terminal() {
        true => open_browser(context.dir.path(), &id.hex8(), &shown.url),
        false => None,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, guest, inside, places()));
    tokio::select! {
        _ = tasks.join_next() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(0)
}

/// Its token, and whether it was started now.
async fn begin(
    guest: &Guest,
    venv: Option<PathBuf>,
    options: Vec<String>,
    id: &str,
) -> Result<(String, bool), ApiError> {
    let mut token = [0; TOKEN_BYTES];
    rand::rng().fill_bytes(&mut token);
    let venv = venv.map(|venv| venv.to_string_lossy().into_owned()).unwrap_or_default();
    let env = [("JUPYTER_TOKEN".to_owned(), access::archive::hex(&token)), ("VENV".to_owned(), venv)];
    let Said { code, out, errors } = run(guest, START, options, env.into()).await?;
    match (code, out.split_once(' ')) {
        (0, Some((how, token))) if is_token(token) => Ok((token.to_owned(), how == "started")),
        (NONE, _) => Err(none(id)),
        (DIED, _) => {
            let message = format!("Jupyter does not come up in the rental; its last words:\n{}", errors.trim_end());
            Err(ApiError::new(ErrorKind::Failed, message, format!("try it by hand: node ssh {id}")))
        }
        _ => {
            let message = format!("Jupyter could not be started in the rental: {}", errors.trim_end());
            Err(ApiError::new(ErrorKind::Failed, message, ""))
        }
    }
}

/// What can stand in an address: whatever is in the sandbox, nothing else gets into the browser.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 2 * TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn none(id: &str) -> ApiError {
    let next = format!(
        "rent with an image that has it: node rent --image quay.io/jupyter/base-notebook\nor install it, where the rental has --egress: \
         node exec {id} -- sh -c 'python3 -m venv venv && venv/bin/pip install jupyterlab', then node jupyter {id} --venv /job/venv"
    );
    let message = "there is no Jupyter in this rental: no jupyter-lab, jupyter-notebook or jupyter-server in its PATH, and no jupyterlab \
                   in python3";
    ApiError::new(ErrorKind::Failed, message, next)
}

/// Ends it; false if none ran.
async fn end(guest: &Guest) -> Result<bool, ApiError> {
    let said = run(guest, STOP, Vec::new(), BTreeMap::new()).await?;
    Ok(said.code != NONE)
}

/// How a script ended, and what it said.
struct Said {
    code: u32,
    out: String,
    errors: String,
}

async fn run(
    guest: &Guest,
    script: &str,
    options: Vec<String>,
    env: BTreeMap<String, String>,
) -> Result<Said, ApiError> {
    let argv = ["/bin/sh", "-c", script, "jupyter"].map(str::to_owned).into_iter().chain(options).collect();
    let process = guest.exec(Program { argv, env, ..Program::default() }).await.map_err(|error| failed(&error))?;
    let access::guest::Process { mut stdin, stdout, stderr, mut running } = process;
    let _ = stdin.shutdown().await;
    let (exit, out, errors) = tokio::join!(running.wait(), said(stdout), said(stderr));
    let exit = exit.map_err(|error| failed(&error))?;
    Ok(Said { code: u32::try_from(exit.shell_code()).unwrap_or(u32::MAX), out, errors })
}

/// What a stream brings: the beginning, should it be much.
async fn said(mut stream: ByteReader) -> String {
    let mut bytes = Vec::new();
    let _ = (&mut stream).take(MAX_SAID).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A page of this user's that sends the browser on: in the address itself, every user of this machine would see the token among the
/// processes. Gone with the command.
struct Page(PathBuf);

impl Page {
    fn write(folder: &Path, id: &str, url: &str) -> io::Result<Self> {
        let page = Self(folder.join(format!("jupyter-{id}.html")));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&page.0)?;
        writeln!(file, "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\">")?;
        Ok(page)
    }
}

/// Has the desktop open the page, which is to live as long as the command.
fn open_browser(folder: &Path, id: &str, url: &str) -> Option<Page> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let opened = Page::write(folder, id, url).and_then(|page| {
        let mut command = tokio::process::Command::new(opener);
        command.arg(&page.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(page)
    });
    let told = |error| note(&format!("no browser could be opened ({opener}: {error}): open the address yourself"));
    opened.map_err(told).ok()
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_token_of_ours_gets_into_the_browser() {
        assert!(is_token(&"0a".repeat(TOKEN_BYTES)));
        for wrong in ["", "\"><script>", "../x", &"0a".repeat(TOKEN_BYTES + 1)] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_page_is_for_its_user_alone_and_gone_with_the_command() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let page = Page::write(folder.path(), "abcd", "http://127.0.0.1:1/?token=ab").unwrap();
        let path = page.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("url=http://127.0.0.1:1/?token=ab\""));
        drop(page);
        assert!(!path.exists());
    }
}
