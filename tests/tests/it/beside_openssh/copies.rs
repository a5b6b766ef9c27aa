//! How long files take: one large one and very many small ones on this machine, and one over a way of 100 ms there and back.

use super::{Bar, FAR_PEER, PEER, Places, RENTAL, Row, median, text};
use anyhow::{Context, Result, ensure};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Rounds in which all take turns.
const ROUNDS: usize = 3;
const LARGE: u64 = 1_000_000_000;
const FAR: u64 = 256_000_000;
const SMALL_FILES: usize = 10_000;
const SMALL: usize = 4_096;
const FOLDERS: usize = 100;
/// What is faster than this was not copied at all.
const IMPOSSIBLE: Duration = Duration::from_millis(1);

/// One way of copying: what it is called, and the command for a round of this number.
struct Way<'a> {
    name: &'static str,
    command: Box<dyn Fn(usize) -> Result<Command> + 'a>,
}

impl<'a> Way<'a> {
    fn new(name: &'static str, command: impl Fn(usize) -> Result<Command> + 'a) -> Self {
        Self { name, command: Box::new(command) }
    }
}

pub(super) fn near(places: &Places) -> Result<Vec<Row>> {
    let here = places.server.folder();
    let large = noise(&here.join("large"), LARGE)?;
    let mut rows = one_file(places, &large, PEER, 1.0)?;
    let many = here.join("many");
    for folder in 0..FOLDERS {
        let folder = many.join(format!("folder-{folder}"));
        fs::create_dir_all(&folder)?;
        for file in 0..SMALL_FILES / FOLDERS {
            noise(&folder.join(format!("file-{file}")), SMALL as u64)?;
        }
    }
    rows.extend(many_files(places, &many)?);
    Ok(rows)
}

pub(super) fn far(places: &Places) -> Result<Vec<Row>> {
    let file = noise(&places.server.folder().join("large"), FAR)?;
    one_file(places, &file, FAR_PEER, 4.0)
}

/// A file by scp to OpenSSH's server, by scp to the rental and by `node cp`, there and back.
fn one_file(places: &Places, file: &Path, peer: &str, bar: f64) -> Result<Vec<Row>> {
    let scp = |from: &str, to: &str| {
        let mut command = places.client("scp");
        command.args(["-q", from, to]);
        Ok(command)
    };
    let cp = |from: &str, to: &str| Ok(places.renter()?.command(["cp", from, to]).into_std());
    let here = text(file)?;
    let there = places.server.target()?.join("copy");
    let there = format!("{peer}:{}", text(&there)?);
    let (inside, by_cp) = (format!("{RENTAL}:/job/copy"), format!("{}:copy", places.id));
    let back = places.server.folder().join("back");
    let to_here = text(&back)?;
    let size = fs::metadata(file)?.len();
    let clean = || clear(places, &back);
    let up = turns(
        clean,
        &[
            Way::new("scp to OpenSSH's server", |_| scp(here, &there)),
            Way::new("scp to the rental", |_| scp(here, &inside)),
            Way::new("node cp to the rental", |_| cp(here, &by_cp)),
        ],
    )?;
    // what comes back is what the last of them brought
    let server = places.server.target()?.join("copy");
    fs::copy(file, &server)?;
    run(&mut cp(here, &by_cp)?)?;
    let down = turns(
        || remove(&back),
        &[
            Way::new("scp from OpenSSH's server", |_| scp(&there, to_here)),
            Way::new("scp from the rental", |_| scp(&inside, to_here)),
            Way::new("node cp from the rental", |_| cp(&by_cp, to_here)),
        ],
    )?;
    ensure!(fs::read(&back)? == fs::read(file)?, "what came back differs");
    clear(places, &back)?;
    Ok([up, down].iter().flat_map(|times| compared(times, size, bar)).collect())
}

/// A folder of small files by rsync to OpenSSH's server and by `node cp`, there and back. Each round has folders of its own, and nothing is
/// removed: a disk that is told of what is free would be busy with that for seconds.
fn many_files(places: &Places, many: &Path) -> Result<Vec<Row>> {
    let shell = format!("ssh -F {}", text(&places.config)?);
    let rsync = |from: &str, to: &str| {
        let mut command = Command::new("rsync");
        command.args(["-a", "-e", &shell, from, to]);
        Ok(command)
    };
    let cp = |from: &str, to: &str| Ok(places.renter()?.command(["cp", "-r", from, to]).into_std());
    let (here, there, back) = (text(many)?, places.server.target()?, places.server.folder().join("many-back"));
    fs::create_dir_all(&back)?;
    let contents = format!("{here}/");
    let at_peer = |round| Ok::<_, anyhow::Error>(format!("{PEER}:{}/{round}", text(&there)?));
    let inside = |round| format!("{}:many-{round}", places.id);
    let by = |what: &str, round| back.join(format!("{what}-{round}"));
    let up = turns(
        || Ok(()),
        &[
            Way::new("rsync to OpenSSH's server", |round| rsync(&contents, &at_peer(round)?)),
            Way::new("node cp -r to the rental", |round| cp(here, &inside(round))),
        ],
    )?;
    let down = turns(
        || Ok(()),
        &[
            Way::new("rsync from OpenSSH's server", |round| rsync(&(at_peer(0)? + "/"), text(&by("rsync", round))?)),
            Way::new("node cp -r from the rental", |round| cp(&inside(0), text(&by("cp", round))?)),
        ],
    )?;
    let count = tests::files_under(&by("cp", ROUNDS))?.len();
    ensure!(count == SMALL_FILES, "{count} files came back");
    let size = (SMALL_FILES * SMALL) as u64;
    Ok([up, down].iter().flat_map(|times| compared(times, size, 1.0)).collect())
}

/// Runs all of them by turns; each with its name and how long it took.
fn turns(clean: impl Fn() -> Result<()>, ways: &[Way<'_>]) -> Result<Vec<(&'static str, Duration)>> {
    let mut times = vec![Vec::with_capacity(ROUNDS); ways.len()];
    for round in 0..=ROUNDS {
        for (way, times) in ways.iter().zip(&mut times) {
            clean()?;
            // nobody pays for what another one left to be written
            run(&mut Command::new("sync"))?;
            let began = Instant::now();
            run(&mut (way.command)(round)?).context(way.name)?;
            let took = began.elapsed();
            ensure!(took > IMPOSSIBLE, "{} took {took:?}", way.name);
            println!("{} {:.2} s", way.name, took.as_secs_f64());
            // the first round wakes everything up
            if round > 0 {
                times.push(took);
            }
        }
    }
    Ok(ways.iter().zip(times).map(|(way, times)| (way.name, median(times))).collect())
}

/// Every way but the first beside the first, which is the peer's.
fn compared(times: &[(&'static str, Duration)], size: u64, bar: f64) -> Vec<Row> {
    let rate =
        |time: Duration| format!("{:.2} s, {:.0} MB/s", time.as_secs_f64(), size as f64 / 1e6 / time.as_secs_f64());
    let Some(((_, peer), ours)) = times.split_first() else { return Vec::new() };
    let row = |(name, time): &(&'static str, Duration)| Row {
        what: format!("{name}, {} MB", size / 1_000_000),
        ours: rate(*time),
        peer: rate(*peer),
        found: peer.as_secs_f64() / time.as_secs_f64(),
        bar: Bar::AtLeast(bar),
    };
    ours.iter().map(row).collect()
}

/// Nothing is anywhere that a copy would find to be there already.
fn clear(places: &Places, back: &Path) -> Result<()> {
    remove(back)?;
    remove(&places.server.folder().join("there/copy"))?;
    run(&mut places.renter()?.command(["exec", &places.id, "--", "rm", "-rf", "/job/copy"]).into_std())
}

fn remove(path: &Path) -> Result<()> {
    match path {
        folder if folder.is_dir() => Ok(fs::remove_dir_all(folder)?),
        file if file.exists() => Ok(fs::remove_file(file)?),
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A file that nothing can make smaller.
fn noise(path: &Path, length: u64) -> Result<PathBuf> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    let mut random = StdRng::seed_from_u64(length);
    let mut piece = [0; 4_096];
    let mut left = length;
    while left > 0 {
        random.fill_bytes(&mut piece);
        let length = piece.len().min(usize::try_from(left)?);
        file.write_all(piece.get(..length).unwrap_or_default())?;
        left -= length as u64;
    }
    file.flush()?;
    Ok(path.to_owned())
}
