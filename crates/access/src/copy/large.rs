//! One large file: in blocks, each of which must have the same hash at both ends before the file is put at its place. A thread reads or
//! writes this machine's disk and hashes, while the pieces of the rental's file are under way.

use super::{BLOCK, Counter, block_end, blocking, is_sparse, local, part_name};
use crate::{
    AccessError,
    files::{
        Answer, FileChange, FileExtent, FileHash, FileMetadata, Files, OpenFile, OpenMode, PIECE, WINDOW, data, done,
        hashed,
    },
};
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;

/// Pieces between the disk of this machine and what is under way: 2 MiB, so that neither waits for the other at each.
const PIECES: usize = 32;

/// Blocks of an unfinished file compared at once.
const COMPARED: usize = 4;

/// Sends a file to the rental. `resume` says that a part of it may be there.
pub(super) async fn send(
    files: &Files,
    from: &Path,
    metadata: &FileMetadata,
    to: &Path,
    resume: bool,
    counter: &Counter<'_>,
) -> Result<(), AccessError> {
    let path = from.to_path_buf();
    let source = blocking(move || File::open(&path).map(Arc::new).map_err(|error| local::local(&path, error))).await?;
    let part = to.with_file_name(part_name(to.file_name().unwrap_or_default()));
    let mode = OpenMode {
        read: true,
        write: true,
        create: true,
        truncate: !resume,
        permissions: 0o600,
        ..OpenMode::default()
    };
    let (target, opened) = files.send_open(&part, mode).await?;
    let mut start = 0;
    let mut sending = Sending { target: &target, under_way: VecDeque::new(), counter, path: from };
    if resume {
        done(opened.await?)?;
        let there = target.metadata().await?.size.min(metadata.size);
        start = matching(&target, &source, there, from).await?;
        counter.kept(0, start);
        // What follows may be anything; cut off, it is a hole.
        target.set(FileChange { size: Some(start), ..FileChange::default() }).await?;
    } else {
        sending.under_way.push_back((opened, Expected::Done(0)));
    }
    let (steps, mut read) = mpsc::channel(PIECES);
    let (size, sparse, path) = (metadata.size, is_sparse(metadata), from.to_path_buf());
    let reading = tokio::task::spawn_blocking(move || Reading { source, path, steps }.read(start, size, sparse));
    while let Some(step) = read.recv().await {
        sending.step(step).await?;
    }
    reading.await.map_err(|_| AccessError::Interrupted)??;
    sending.settle(0).await?;
    let change = FileChange {
        size: Some(size),
        permissions: Some(metadata.permissions),
        modified: Some(metadata.modified),
        accessed: None,
    };
    target.set(change).await?;
    files.rename(&part, to, true).await?;
    Ok(target.close().await?)
}

/// What the thread that reads has found: pieces, and of each block with data, when it is over, what it should hash to and how much of it is
/// holes. One that ends with a hole is extended first; one without data is a hole and nothing else.
enum Read {
    Piece { offset: u64, bytes: Vec<u8> },
    Extend { end: u64 },
    Block { start: u64, length: u64, hash: FileHash, holes: u64 },
    Hole { length: u64 },
}

/// Reads a file of this machine.
struct Reading {
    source: Arc<File>,
    path: PathBuf,
    steps: mpsc::Sender<Read>,
}

impl Reading {
    /// Reads to the end, or until nobody takes it any more.
    fn read(&self, from: u64, size: u64, sparse: bool) -> Result<(), AccessError> {
        let mut at = from;
        while at < size {
            let end = block_end(at, size);
            let hole = sparse && next_data(&self.source, at, &self.path)?.is_none_or(|data| data >= end);
            let taken = if hole {
                self.steps.blocking_send(Read::Hole { length: end - at }).is_ok()
            } else {
                self.block(at, end, sparse)?
            };
            if !taken {
                break;
            }
            at = end;
        }
        Ok(())
    }

    fn block(&self, start: u64, end: u64, sparse: bool) -> Result<bool, AccessError> {
        let mut hasher = blake3::Hasher::new();
        let (mut at, mut holes) = (start, 0);
        while at < end {
            let length = (end - at).min(u64::from(PIECE));
            let mut bytes = vec![0; length as usize];
            self.source.read_exact_at(&mut bytes, at).map_err(|error| changed(&self.path, error))?;
            hasher.update(&bytes);
            let last = at + length == end;
            let step = match sparse && bytes.iter().all(|byte| *byte == 0) {
                true if last => Some(Read::Extend { end }),
                true => None,
                false => Some(Read::Piece { offset: at, bytes }),
            };
            at += length;
            if !matches!(step, Some(Read::Piece { .. })) {
                holes += length;
            }
            if step.is_some_and(|step| self.steps.blocking_send(step).is_err()) {
                return Ok(false);
            }
        }
        let hash = FileHash(hasher.finalize().into());
        Ok(self.steps.blocking_send(Read::Block { start, length: end - start, hash, holes }).is_ok())
    }
}

/// A file on its way to the rental.
struct Sending<'a> {
    target: &'a OpenFile,
    under_way: VecDeque<(Answer, Expected)>,
    counter: &'a Counter<'a>,
    path: &'a Path,
}

/// What an answer should say.
enum Expected {
    /// So many bytes are written.
    Done(u64),
    /// This many bytes have this hash.
    Hash(FileHash, u64),
}

impl Sending<'_> {
    async fn step(&mut self, step: Read) -> Result<(), AccessError> {
        self.settle(WINDOW - 1).await?;
        let sent = match step {
            Read::Piece { offset, bytes } => {
                let length = bytes.len() as u64;
                (self.target.send_write(offset, bytes).await?, Expected::Done(length))
            }
            Read::Extend { end } => {
                let change = FileChange { size: Some(end), ..FileChange::default() };
                (self.target.send_set(change).await?, Expected::Done(0))
            }
            Read::Block { start, length, hash, holes } => {
                self.counter.done(0, holes);
                (self.target.send_hash(start, length).await?, Expected::Hash(hash, length))
            }
            Read::Hole { length } => {
                self.counter.done(0, length);
                return Ok(());
            }
        };
        self.under_way.push_back(sent);
        Ok(())
    }

    /// Waits until so many requests are under way at most.
    async fn settle(&mut self, most: usize) -> Result<(), AccessError> {
        while self.under_way.len() > most {
            let Some((answer, expected)) = self.under_way.pop_front() else { break };
            match expected {
                Expected::Done(bytes) => {
                    done(answer.await?)?;
                    self.counter.done(0, bytes);
                }
                Expected::Hash(hash, length) => {
                    if hashed(answer.await?)? != (hash, length) {
                        return Err(AccessError::DamagedFile { path: self.path.into() });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Fetches a file of the rental into an unfinished part of this machine's. Answers that part, whole.
pub(super) async fn fetch(
    files: &Files,
    from: &Path,
    metadata: &FileMetadata,
    part: File,
    resume: bool,
    counter: &Counter<'_>,
) -> Result<Arc<File>, AccessError> {
    let source = files.open_to_read(from).await?;
    let part = Arc::new(part);
    let mut start = 0;
    if resume {
        let there = part.metadata().map_err(|error| local::local(from, error))?.len().min(metadata.size);
        start = matching(&source, &part, there, from).await?;
        counter.kept(0, start);
    }
    let (steps, taken) = mpsc::channel(PIECES);
    let mut writing = Writing::new(part.clone(), from, start);
    let writer = tokio::task::spawn_blocking(move || writing.run(taken));
    let mut fetching = Fetching { source: &source, under_way: VecDeque::new(), steps, counter, path: from };
    let fetched = fetching.fetch(start, metadata).await;
    drop(fetching);
    // Why nothing could be written any more explains that nothing was taken.
    writer.await.map_err(|_| AccessError::Interrupted)??;
    fetched?;
    source.close().await?;
    Ok(part)
}

/// What the thread that writes is to do: to write pieces, to compare a block that is over with the hash it should have, and to give the file
/// its length when it is whole.
enum Write {
    Piece { offset: u64, bytes: Vec<u8> },
    Block { end: u64, hash: FileHash },
    End { size: u64 },
}

/// Writes a file of this machine.
struct Writing {
    part: Arc<File>,
    path: PathBuf,
    /// Where writing began.
    start: u64,
    /// What is hashed of the block that is being written, and up to where.
    block: Option<(blake3::Hasher, u64)>,
}

impl Writing {
    fn new(part: Arc<File>, path: &Path, start: u64) -> Self {
        Self { part, path: path.into(), start, block: None }
    }

    fn run(&mut self, mut steps: mpsc::Receiver<Write>) -> Result<(), AccessError> {
        // What follows may be anything; cut off, it is a hole.
        self.set_length(self.start)?;
        while let Some(step) = steps.blocking_recv() {
            match step {
                Write::Piece { offset, bytes } => {
                    self.part.write_all_at(&bytes, offset).map_err(|error| local::local(&self.path, error))?;
                    let (mut hasher, at) = self.block(offset);
                    hash_zeros(&mut hasher, offset.saturating_sub(at));
                    hasher.update(&bytes);
                    self.block = Some((hasher, offset + bytes.len() as u64));
                }
                Write::Block { end, hash } => {
                    let (mut hasher, at) = self.block(end.saturating_sub(1));
                    hash_zeros(&mut hasher, end.saturating_sub(at));
                    if hasher.finalize().as_bytes() != &hash.0 {
                        return Err(AccessError::DamagedFile { path: self.path.clone() });
                    }
                }
                Write::End { size } => self.set_length(size)?,
            }
        }
        Ok(())
    }

    /// The hash of the block that a place is in, so far.
    fn block(&mut self, place: u64) -> (blake3::Hasher, u64) {
        let begun = self.block.take();
        begun.unwrap_or_else(|| (blake3::Hasher::new(), (place / BLOCK * BLOCK).max(self.start)))
    }

    /// Leaves a file alone that has its length: one that was cut off, and be it to nothing from nothing, Linux writes to the disk when it
    /// is closed, and whoever closes it waits.
    fn set_length(&self, length: u64) -> Result<(), AccessError> {
        let set = || match self.part.metadata()?.len() == length {
            true => Ok(()),
            false => self.part.set_len(length),
        };
        set().map_err(|error| local::local(&self.path, error))
    }
}

/// What is left out within a block is a hole.
fn hash_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];
    while length > 0 {
        let part = length.min(u64::from(PIECE));
        hasher.update(&ZEROS[..part as usize]);
        length -= part;
    }
}

/// A file on its way from the rental.
struct Fetching<'a> {
    source: &'a OpenFile,
    under_way: VecDeque<(Answer, Asked)>,
    steps: mpsc::Sender<Write>,
    counter: &'a Counter<'a>,
    path: &'a Path,
}

/// What an answer is to.
enum Asked {
    Piece { offset: u64, length: u32 },
    Block { end: u64, length: u64 },
}

impl Fetching<'_> {
    async fn fetch(&mut self, start: u64, metadata: &FileMetadata) -> Result<(), AccessError> {
        let (size, sparse) = (metadata.size, is_sparse(metadata));
        let mut extent = Some(FileExtent { start, end: if sparse { start } else { size } });
        let mut at = start;
        while at < size {
            extent = self.extent(extent, at).await?;
            // Blocks without data are holes.
            let data = extent.map_or(size, |extent| extent.start.min(size));
            let first = if data < size { (data / BLOCK * BLOCK).max(at) } else { size };
            self.counter.done(0, first - at);
            at = first;
            if at < size {
                let end = block_end(at, size);
                extent = self.block(extent, at, end).await?;
                at = end;
            }
        }
        self.settle(0).await?;
        self.steps.send(Write::End { size }).await.map_err(|_| AccessError::Interrupted)
    }

    /// The part with data that a place is in, or the next one.
    async fn extent(&self, known: Option<FileExtent>, at: u64) -> Result<Option<FileExtent>, AccessError> {
        match known {
            Some(extent) if extent.end <= at => Ok(self.source.extent(at).await?.filter(|next| next.end > at)),
            known => Ok(known),
        }
    }

    /// Asks for what a block has of data, and for its hash. Answers the part with data that comes next.
    async fn block(
        &mut self,
        mut extent: Option<FileExtent>,
        start: u64,
        end: u64,
    ) -> Result<Option<FileExtent>, AccessError> {
        let mut at = start;
        while at < end {
            extent = self.extent(extent, at).await?;
            let Some(data) = extent.filter(|extent| extent.start < end) else { break };
            let from = at.max(data.start);
            self.counter.done(0, from - at);
            at = data.end.min(end).max(from);
            self.ask(from, at).await?;
        }
        self.counter.done(0, end - at);
        self.settle(WINDOW - 1).await?;
        let answer = self.source.send_hash(start, end - start).await?;
        self.under_way.push_back((answer, Asked::Block { end, length: end - start }));
        Ok(extent)
    }

    async fn ask(&mut self, from: u64, until: u64) -> Result<(), AccessError> {
        let mut offset = from;
        while offset < until {
            let length = u32::try_from(until - offset).unwrap_or(PIECE).min(PIECE);
            self.settle(WINDOW - 1).await?;
            let answer = self.source.send_read(offset, length).await?;
            self.under_way.push_back((answer, Asked::Piece { offset, length }));
            offset += u64::from(length);
        }
        Ok(())
    }

    /// Waits until so many requests are under way at most.
    async fn settle(&mut self, most: usize) -> Result<(), AccessError> {
        while self.under_way.len() > most {
            let Some((answer, asked)) = self.under_way.pop_front() else { break };
            let step = match asked {
                Asked::Piece { offset, length } => {
                    let bytes = data(answer.await?)?;
                    if bytes.len() != length as usize {
                        return Err(changed(self.path, io::ErrorKind::UnexpectedEof.into()));
                    }
                    self.counter.done(0, u64::from(length));
                    Write::Piece { offset, bytes }
                }
                Asked::Block { end, length } => {
                    let (hash, hashed) = hashed(answer.await?)?;
                    if hashed != length {
                        return Err(changed(self.path, io::ErrorKind::UnexpectedEof.into()));
                    }
                    Write::Block { end, hash }
                }
            };
            // The thread that writes has failed, and its error says more.
            self.steps.send(step).await.map_err(|_| AccessError::Interrupted)?;
        }
        Ok(())
    }
}

/// How far an unfinished file has the same content at both ends.
async fn matching(remote: &OpenFile, here: &Arc<File>, size: u64, path: &Path) -> Result<u64, AccessError> {
    let mut asked = VecDeque::new();
    let (mut next, mut agreed) = (0, 0);
    while agreed < size {
        while asked.len() < COMPARED && next < size {
            let length = block_end(next, size) - next;
            asked.push_back((next, length, remote.send_hash(next, length).await?));
            next += length;
        }
        let Some((start, length, answer)) = asked.pop_front() else { break };
        let (here, path) = (here.clone(), path.to_path_buf());
        let ours =
            tokio::task::spawn_blocking(move || hash(&here, start, length).map_err(|error| local::local(&path, error)));
        let theirs = hashed(answer.await?)?;
        let ours = ours.await.map_err(|_| AccessError::Interrupted)??;
        if theirs != (ours, length) {
            break;
        }
        agreed = start + length;
    }
    Ok(agreed)
}

fn hash(file: &File, from: u64, length: u64) -> io::Result<FileHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE as usize];
    let mut at = from;
    while at < from + length {
        let room = (from + length - at).min(u64::from(PIECE)) as usize;
        file.read_exact_at(&mut buffer[..room], at)?;
        hasher.update(&buffer[..room]);
        at += room as u64;
    }
    Ok(FileHash(hasher.finalize().into()))
}

/// Where the next data of a file of this machine begins.
fn next_data(file: &File, from: u64, path: &Path) -> Result<Option<u64>, AccessError> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(local::local(path, errno)),
    }
}

/// A file that became shorter while it was read.
fn changed(path: &Path, error: io::Error) -> AccessError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => AccessError::Changed { path: path.into() },
        _ => local::local(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_piece_that_agrees_is_hashed_as_the_whole() {
        let file = tempfile::tempfile().unwrap();
        let content = vec![5; 3 * PIECE as usize + 7];
        file.write_all_at(&content, 0).unwrap();
        let part = hash(&file, 1, content.len() as u64 - 1).unwrap();
        assert_eq!(part.0, *blake3::hash(&content[1..]).as_bytes());
        assert!(hash(&file, 1, content.len() as u64).is_err(), "the file is shorter");
    }
}
