//! OpenSSH's own server, as it is installed: its usual ciphers and window, and a key that only this test has.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Where Debian has it; it insists on being called by its whole name.
const PROGRAM: &str = "/usr/sbin/sshd";
/// How long it may take to listen.
const STARTS: Duration = Duration::from_secs(10);

/// Stops when it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    folder: TempDir,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        ensure!(Path::new(PROGRAM).exists(), "no {PROGRAM}: apt-get install openssh-server brings the peer");
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "identity"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]).status()?;
            ensure!(made.success(), "ssh-keygen failed");
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let known = fs::read_to_string(path("host.pub"))?;
        fs::write(path("known_hosts"), format!("peer {known}"))?;
        let lines = [
            format!("Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none", path("host")),
            format!("AuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPermitRootLogin yes", path("identity.pub")),
            "Subsystem sftp internal-sftp\n".to_owned(),
        ];
        fs::write(path("sshd_config"), lines.join("\n"))?;
        // where it separates its privileges; Debian's package makes it at each start of the service
        fs::DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd")?;
        let mut command = Command::new(PROGRAM);
        let process = command.args(["-D", "-e", "-f", &path("sshd_config")]).stderr(Stdio::null()).spawn()?;
        let server = Self { port, folder, process };
        let until = Instant::now() + STARTS;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < until, "sshd does not listen after {STARTS:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// A host for the client's configuration.
    pub(super) fn entry(&self, name: &str, port: u16) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "Host {name}\n    HostName 127.0.0.1\n    Port {port}\n    User root\n    HostKeyAlias peer\n    IdentityFile {}\n    \
             IdentitiesOnly yes\n    UserKnownHostsFile {}\n    StrictHostKeyChecking yes\n    BatchMode yes\n",
            path("identity"),
            path("known_hosts")
        )
    }

    /// Room for what is copied.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the server's side of copies is; emptied.
    pub(super) fn target(&self) -> Result<std::path::PathBuf> {
        let target = self.folder.path().join("there");
        if target.exists() {
            fs::remove_dir_all(&target).context("emptying the server's folder")?;
        }
        fs::create_dir(&target)?;
        Ok(target)
    }
}
