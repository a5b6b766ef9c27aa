//! What a rental can be asked for beside the provider's own programs: an image from a registry, with its user, and a way to the public
//! internet. Nothing here leaves this machine: the registry is on its loopback, and the internet is another network namespace.

use anyhow::{Context, Result, ensure};
use api::types::Receipt;
use devnet::{Devnet, NodeSpec, books::Books};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tests::{books_balance, failed_with, offers_arrive, receipt, story};

/// A network whose provider lets renters have this.
async fn letting(key: &'static str) -> Result<Devnet> {
    let provider = NodeSpec::provider("provider-1").config(move |config| {
        if let Some(toml::Value::Table(provider)) = config.get_mut("provider") {
            provider.insert(key.into(), true.into());
        }
    });
    let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
    offers_arrive(&devnet, devnet.node("renter-1")?).await?;
    Ok(devnet)
}

/// The bytes of an image by their digests.
type Blobs = BTreeMap<String, Vec<u8>>;

fn kept(blobs: &mut Blobs, content: Vec<u8>) -> Value {
    let digest = format!("sha256:{}", alloy_primitives::hex::encode(Sha256::digest(&content)));
    let descriptor = json!({"digest": digest, "size": content.len()});
    blobs.insert(digest, content);
    descriptor
}

/// An image of this machine's shell with a user of its own, and the digest of its manifest.
fn shell() -> Result<(Blobs, String)> {
    let tree = tempfile::tempdir()?;
    let copy = |from: &str| -> Result<()> {
        let to = tree.path().join(from.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(from, to).map(drop).with_context(|| from.to_owned())
    };
    copy("/bin/sh")?;
    let libraries = String::from_utf8(Command::new("ldd").arg("/bin/sh").output()?.stdout)?;
    libraries.split_whitespace().filter(|word| word.starts_with('/')).try_for_each(copy)?;
    fs::create_dir_all(tree.path().join("etc"))?;
    fs::write(tree.path().join("etc/passwd"), "app:x:1000:100::/home/app:/bin/sh\n")?;
    fs::write(tree.path().join("etc/group"), "video:x:44:app\n")?;
    let mut packing = Command::new("tar");
    let layer = said_by(packing.arg("-C").arg(tree.path()).args(["--owner=0", "--group=0", "-cf", "-", "."]))?;

    let mut blobs = Blobs::new();
    let layer = kept(&mut blobs, layer);
    let architecture = if env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let runtime = json!({"Env": ["PATH=/bin", "GREETING=hello"], "User": "app"});
    let config = json!({"os": "linux", "architecture": architecture, "config": runtime,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = kept(&mut blobs, serde_json::to_vec(&config)?);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = kept(&mut blobs, serde_json::to_vec(&manifest)?);
    let digest = manifest["digest"].as_str().context("a digest")?.to_owned();
    Ok((blobs, digest))
}

/// What a program that succeeded wrote.
fn said_by(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// A registry that everybody may read, for as long as this program runs; its address.
fn registry(blobs: Blobs) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let blobs = Arc::new(blobs);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let blobs = Arc::clone(&blobs);
            std::thread::spawn(move || serve(stream, &blobs));
        }
    });
    Ok(address)
}

/// One request on one connection.
fn serve(mut stream: TcpStream, blobs: &Blobs) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let digest = request.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let (status, body) = match blobs.get(digest) {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", &b""[..]),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

#[tokio::test]
async fn a_program_runs_in_an_image_of_a_registry_as_its_user_and_brings_its_outputs_home() -> Result<()> {
    story(async {
        let devnet = letting("images").await?;
        let renter = devnet.node("renter-1")?;
        let before = Books::read(&devnet).await?;
        let (blobs, digest) = shell()?;
        let image = format!("{}/test/shell@{digest}", registry(blobs)?);
        let input = devnet.dir().join("input");
        fs::create_dir(&input)?;
        fs::write(input.join("brought"), "from home\n")?;
        let out = devnet.dir().join("out");
        let script = "read line < brought; echo $GREETING $USER $line; echo made > result; \
            while read key real rest; do case $key in Uid:|Gid:|Groups:) echo $key $real;; esac; done < /proc/self/status";
        let (input, to) = (input.to_str().context("a path")?, out.to_str().context("a path")?);
        let words = ["run", "--for", "5m", "--image", &image, "--input", input, "--out", to, "--", "sh", "-c", script];
        let done = renter.call(words).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        assert_eq!(done.stdout, "hello app from home\nUid: 1000\nGid: 100\nGroups: 44\n");
        assert_eq!(fs::read_to_string(out.join("result"))?, "made\n");
        ensure!(!out.join("brought").exists(), "what was brought is no output");
        books_balance(&devnet, &before).await?;

        // one that cannot be had is said, and costs nothing
        let absent = format!("{}@sha256:{}", image.split_once('@').context("a name")?.0, "0".repeat(64));
        let failed = renter.call(["run", "--for", "5m", "--image", &absent, "--", "true"]).await?;
        ensure!(failed.code != 0 && failed.stderr.contains("is not there"), "{}: {}", failed.code, failed.stderr);
        let receipts: Vec<Receipt> = renter.json(&["receipts"]).await?;
        ensure!(receipts.iter().filter(|receipt| receipt.paid.get() > 0).count() == 1, "{receipts:?}");
        // offers without a network are not rented for one
        failed_with(&renter.call(["run", "--egress", "--", "true"]).await?, 4, &[])?;
        devnet.stop()
    })
    .await
}

/// An address of the outside that is public, one that is private, and the machine's own on its cable to there.
const PUBLIC: &str = "1.2.3.4";
const PRIVATE: &str = "192.168.77.1";
const OWN: &str = "5.5.5.1";
/// Where the outside answers.
const PORT: u16 = 80;
/// Says that a test is run in a world of its own, which it would change otherwise.
const IN_A_WORLD: &str = "GPULEASE_TEST_WORLD";

/// This program again, in a network namespace of its own, to run one test.
fn apart(test: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--ignored", "--exact", "--nocapture", test]).env(IN_A_WORLD, "yes");
    let unshare = || {
        // SAFETY: plain numbers; nothing else runs between creating the process and its program.
        match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(unshare) };
    Ok(command)
}

fn ip(lines: &[&str]) -> Result<()> {
    lines.iter().try_for_each(|line| {
        said_by(Command::new("ip").args(line.split(' '))).map(drop).with_context(|| line.to_string())
    })
}

/// The other end of the machine's cable; it ends with this handle.
struct Outside(Child);

impl Outside {
    fn join() -> Result<Self> {
        let mut child = apart("workloads::outside")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let cable = format!("link add machine0 type veth peer name outside0 netns {}", child.id());
        let own = format!("addr add {OWN}/24 dev machine0");
        ip(&["link set lo up", &cable, &own, "link set machine0 up", "route add default via 5.5.5.2"])?;
        child.stdin.as_mut().context("its input")?.write_all(b"joined\n")?;
        let mut lines = BufReader::new(child.stdout.as_mut().context("its output")?).lines();
        ensure!(lines.any(|line| line.is_ok_and(|line| line.contains("outside is ready"))), "there is no outside");
        Ok(Self(child))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "is the outside of another test"]
fn outside() -> Result<()> {
    if env::var_os(IN_A_WORLD).is_none() {
        return Ok(());
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let (public, private) = (format!("addr add {PUBLIC}/32 dev lo"), format!("addr add {PRIVATE}/32 dev lo"));
    ip(&["link set lo up", &public, &private, "addr add 5.5.5.2/24 dev outside0", "link set outside0 up"])?;
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|mut socket| drop(socket.write_all(b"hello from outside\n")));
    });
    println!("outside is ready");
    // until the machine is gone
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}

#[test]
fn a_rental_with_egress_reaches_the_public_internet_and_nothing_of_the_machine_or_its_neighbours() -> Result<()> {
    let output = apart("workloads::machine")?.output()?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.contains("1 passed"), "{said}\n{complained}");
    Ok(())
}

#[tokio::test]
#[ignore = "runs as the machine of a world of its own"]
async fn machine() -> Result<()> {
    if env::var_os(IN_A_WORLD).is_none() {
        return Ok(());
    }
    story(async {
        let _outside = Outside::join()?;
        let service = TcpListener::bind("0.0.0.0:0")?;
        let port = service.local_addr()?.port();
        // what shall not be reached is there
        for (address, port) in [("127.0.0.1", port), (OWN, port), (PRIVATE, PORT), (PUBLIC, PORT)] {
            TcpStream::connect((address, port)).with_context(|| format!("{address} from the machine"))?;
        }
        let devnet = letting("egress").await?;
        let renter = devnet.node("renter-1")?;
        let before = Books::read(&devnet).await?;
        let ask = format!("exec 3<>/dev/tcp/{PUBLIC}/{PORT} && read line <&3 && echo $line");
        let others = format!("127.0.0.1/{port} {OWN}/{port} {PRIVATE}/{PORT} 169.254.169.254/80");
        let script = format!(
            "{ask}; for other in {others}; do (exec 4<>/dev/tcp/$other) 2>/dev/null && echo reached $other; done; echo over"
        );
        let done = renter.call(["run", "--for", "5m", "--egress", "--", "bash", "-c", &script]).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        assert_eq!(done.stdout, "hello from outside\nover\n");
        // who does not ask for it has none
        let alone = renter.call(["run", "--for", "5m", "--", "bash", "-c", &ask]).await?;
        ensure!(alone.code == 1 && alone.stderr.contains("unreachable"), "{}: {}", alone.code, alone.stderr);
        receipt(renter).await?;
        books_balance(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}
