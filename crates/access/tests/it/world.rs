//! A provider with a sandbox, a renter connected to it, and between the renter and its clients an SSH server at a port of this machine.

use crate::delay;
use access::{
    door::Granted,
    guest::Guest,
    host::{self, Place},
    ssh::{self, Auth, ClientKey, HostEntry, HostKey, Server, Way},
};
use libp2p_identity::Keypair;
use network::{Config, Interest, Network};
use sandbox::{Backend, NativeBackend, NativeConfig, Sandbox, SandboxId, SandboxSpec};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::proto::SessionGrant;

/// No test waits longer for anything: seconds, and those of a thorough test.
const LIMIT: (usize, usize) = (120, 900);
/// How often a condition is looked at again of which nobody is told.
const LOOK: Duration = Duration::from_millis(10);
/// What shells in a terminal begin with at the port that asks for no key.
pub(crate) const GREETING: &str = "Last login: yesterday";

pub(crate) struct World {
    /// Keys and configuration of the clients, and room for files.
    pub(crate) folder: TempDir,
    /// The port of an SSH server that asks for no key, and greets.
    pub(crate) trusting_port: u16,
    pub(crate) host_key: HostKey,
    backend: Arc<NativeBackend>,
    _state: TempDir,
    _over: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(SandboxSpec { memory_bytes: 512 << 20, disk_bytes: 512 << 20, ..SandboxSpec::default() }).await
    }

    pub(crate) async fn with(spec: SandboxSpec) -> Self {
        Self::at(spec, Duration::ZERO).await
    }

    /// With so much time between the renter's node and the provider's, each way.
    pub(crate) async fn at(spec: SandboxSpec, distance: Duration) -> Self {
        let over = CancellationToken::new();
        let state = tempfile::tempdir().unwrap();
        let mut config = NativeConfig::new(state.path());
        config.builder = env!("CARGO_BIN_EXE_access-test-builder").into();
        let backend = Arc::new(NativeBackend::new(config).unwrap());
        let sandbox = backend.create(&fresh_id(), &spec).await.unwrap();
        let provider =
            node(Config { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], ..configuration() }, &over).await;
        provide(&provider, sandbox);
        let peer = provider.handle().local_peer_id();
        let mut address = provider.handle().listen_addrs().remove(0);
        if !distance.is_zero() {
            address = delay::before(&address, distance).await;
        }
        let bootstrap = vec![address.with_p2p(peer).unwrap()];
        let renter = node(Config { bootstrap, ..configuration() }, &over).await;
        let mut peers = renter.handle().watch_peers();
        within("the two nodes' connection", peers.wait_for(|peers| peers.contains(&peer))).await.unwrap();
        let guest = Guest::new(Granted::new(renter.handle(), peer, SessionGrant::default()));
        let (host_key, client_key) = (HostKey::derive(&[7; 32], &peer), ClientKey::generate());
        let port = serve(&host_key, Auth::Key(client_key.clone()), None, &guest, &over).await;
        let trusting_port = serve(&host_key, Auth::Trusted, Some(GREETING), &guest, &over).await;
        // the nodes live as long as the tests that need them
        tokio::spawn({
            let over = over.clone();
            async move {
                over.cancelled().await;
                drop((provider, renter));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        write_private(&folder.path().join("identity"), &client_key.to_openssh());
        fs::write(folder.path().join("known_hosts"), format!("{}\n", host_key.known_hosts_line())).unwrap();
        let world = Self { folder, trusting_port, host_key, backend, _state: state, _over: over.drop_guard() };
        world.write_configuration(&Way::Port { port, identity: world.path("identity") });
        world
    }

    /// What the user's `ssh` is told, and that it must not ask anybody.
    pub(crate) fn write_configuration(&self, way: &Way) {
        let entry = HostEntry::new(&["rental"], &self.host_key, &self.path("known_hosts"), way).unwrap();
        write_private(&self.path("config"), &format!("{entry}    BatchMode yes\n    LogLevel ERROR\n"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client with the configuration.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.path("config")).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Runs `ssh` with these arguments to its end.
    pub(crate) async fn ssh(&self, arguments: &[&str]) -> Output {
        within("ssh", self.client("ssh").args(arguments).output()).await.unwrap()
    }

    /// Runs a shell script in the sandbox and gives what it writes.
    pub(crate) async fn inside(&self, script: &str) -> String {
        said(self.ssh(&["rental", script]).await)
    }

    /// Runs a server inside that answers each line with itself: at a port, or at a socket.
    pub(crate) async fn echo(&self, listen: &str) -> tokio::process::Child {
        let script = format!(
            "$| = 1; $SIG{{CHLD}} = 'IGNORE'; my $l = {listen} or die $!; print qq(ready\\n); \
             while (my $c = $l->accept) {{ next if fork; while (<$c>) {{ print $c $_; $c->flush }} exit }}"
        );
        let mut command = self.client("ssh");
        command.args(["rental", &format!("exec perl -MIO::Socket::INET -MIO::Socket::UNIX -e '{script}'")]);
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = tokio::io::BufReader::new(server.stdout.take().unwrap());
        let mut line = String::new();
        within("the server inside", tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)).await.unwrap();
        assert_eq!(line, "ready\n");
        server
    }
}

impl Drop for World {
    /// A failed test leaves its sandbox behind; the machine should not keep it.
    fn drop(&mut self) {
        let backend = self.backend.clone();
        let cleaned = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                for sandbox in backend.reconcile().await.unwrap() {
                    sandbox.destroy().await.unwrap();
                }
            });
        });
        let _ = cleaned.join();
    }
}

fn configuration() -> Config {
    Config { classes: Interest::none(), ..Config::new(Keypair::generate_ed25519(), "devnet-00c0ffee") }
}

async fn node(config: Config, over: &CancellationToken) -> Network {
    Network::start(config, over.child_token()).await.unwrap()
}

fn provide(provider: &Network, sandbox: Arc<dyn Sandbox>) {
    let mut sessions = provider.handle().session_requests().unwrap();
    let (_, usage) = watch::channel(None);
    tokio::spawn(async move {
        while let Some(session) = sessions.recv().await {
            let place = Place { sandbox: sandbox.clone(), usage: usage.clone() };
            tokio::spawn(host::serve(session, place, std::future::pending()));
        }
    });
}

async fn serve(host_key: &HostKey, auth: Auth, greeting: Option<&str>, guest: &Guest, over: &CancellationToken) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (guest, over) = (guest.clone(), over.clone());
    let server = Server { host_key: host_key.clone(), auth, greeting: greeting.map(str::to_owned) };
    tokio::spawn(over.run_until_cancelled_owned(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (server, guest) = (server.clone(), guest.clone());
            tokio::spawn(async move { ssh::serve(stream, &server, guest).await });
        }
    }));
    port
}

fn fresh_id() -> SandboxId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    SandboxId::new(format!("ssh-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))).unwrap()
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Standard output of a program that did well.
pub(crate) fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(amount(LIMIT.0, LIMIT.1) as u64);
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Waits for a condition of which nobody is told.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}

/// Whether a process of this machine, inside a sandbox or not, has these very words as its command line.
pub(crate) fn runs(words: &[&str]) -> bool {
    let wanted: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.into_iter().any(|process| fs::read(process.path().join("cmdline")).is_ok_and(|line| line == wanted))
}

/// Bytes that compress badly and differ everywhere.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u8).collect()
}

/// For a quick test, or for a thorough one.
pub(crate) fn amount(quick: usize, deep: usize) -> usize {
    if std::env::var_os("GPULEASE_DEEP_TESTS").is_some() { deep } else { quick }
}

/// Gives a program its input and waits for its end.
pub(crate) async fn fed(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move {
        // a program need not read all of it
        let _ = stdin.write_all(&input).await;
    });
    let output = within("a program", child.wait_with_output()).await.unwrap();
    feeding.await.unwrap();
    output
}
