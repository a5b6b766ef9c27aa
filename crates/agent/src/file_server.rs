//! Files are served by a process of their own, one for each connection, within the job's limits: what it reads and writes is cached in the
//! memory that the renter pays for. The agent's own is small, and a large file written from there would wait for the disk. What the renter
//! comes to know of files is told to the agent through a pipe, before the renter has the answer.

use std::cell::RefCell;
use std::env;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, Weak};

use agent::descriptors::Descriptors;
use agent::manifest::{Manifest, Note, Notebook};
use agent::protocol::{Command, Failure, FailureKind, Frame};
use agent::remote_files;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::children::{Children, Streams};
use crate::{lock, setup};

/// The argument by which this program is told to be such a process. Its connection is its standard input, the pipe its standard output.
pub(crate) const ARGUMENT: &str = "files";

/// Bytes of one note: two paths, each byte of which takes up to four characters.
const MAX_NOTE: usize = 64 * 1024;

/// Bytes on their way to the node, of which the kernel allows twice as many. They count as the job's memory, so that there may be more than
/// the agent allows its own connections.
const SEND_BUFFER: usize = 256 * 1024;

/// The length before each note.
const LENGTH: usize = size_of::<u32>();

/// The processes that serve files now.
#[derive(Default)]
pub(crate) struct FileServers(Mutex<Vec<Weak<Mutex<Notes>>>>);

impl FileServers {
    /// Has a connection served to its end.
    pub(crate) fn serve(
        &self,
        children: &Children,
        descriptors: &Arc<Descriptors>,
        manifest: &Manifest,
        socket: &UnixStream,
    ) {
        match start(children, socket) {
            Ok((pipe, notes)) => {
                let mut all = lock(&self.0);
                all.retain(|notes| notes.strong_count() > 0);
                all.push(Arc::downgrade(&notes));
                drop(all);
                loop {
                    // An error is looked at again as the end of the pipe, or as nothing.
                    let _ = poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None);
                    if lock(&notes).pass_on(manifest).is_err() {
                        break;
                    }
                }
            }
            // A job that has used up its processes must not keep its renter from the files.
            Err(_) => answer(descriptors, manifest, socket),
        }
    }

    /// Takes every note that was made before an answer that somebody has by now.
    pub(crate) fn catch_up(&self, manifest: &Manifest) {
        let all: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        for notes in all {
            // One that has ended is seen by whoever waits for it.
            let _ = lock(&notes).pass_on(manifest);
        }
    }
}

/// Starts a process: its pipe to be waited for, and to be read.
fn start(children: &Children, socket: &UnixStream) -> io::Result<(OwnedFd, Arc<Mutex<Notes>>)> {
    let program = env::current_exe()?.into_os_string().into_string().map_err(|_| ErrorKind::InvalidInput)?;
    let command = Command { argv: vec![program, ARGUMENT.into()], env: Vec::new(), cwd: "/".into() };
    let socket = socket.as_fd().try_clone_to_owned()?;
    let started = children.start(&command, None, Streams::Socket(socket), |_| ()).map_err(|_| ErrorKind::Other)?;
    let pipe = OwnedFd::from(started.child.stdout.ok_or(ErrorKind::BrokenPipe)?);
    ioctl_fionbio(&pipe, true)?;
    let notes = Notes { pipe: pipe.try_clone()?.into(), pending: Vec::new() };
    Ok((pipe, Arc::new(Mutex::new(notes))))
}

/// The agent's end of the pipe.
struct Notes {
    pipe: File,
    pending: Vec<u8>,
}

impl Notes {
    /// Takes all that is there. An error is the end: of the process, or of all sense in what it says.
    fn pass_on(&mut self, notebook: &dyn Notebook) -> io::Result<()> {
        let mut piece = [0; 4 * 1024];
        loop {
            match self.pipe.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.pending.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            while let Some(note) = self.next()? {
                notebook.take(note);
            }
        }
    }

    fn next(&mut self) -> io::Result<Option<Note>> {
        let Some(length) = self.pending.first_chunk::<LENGTH>() else { return Ok(None) };
        let end = LENGTH + u32::from_be_bytes(*length) as usize;
        if end > LENGTH + MAX_NOTE {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.pending.len() < end {
            return Ok(None);
        }
        let note = serde_json::from_slice(&self.pending[LENGTH..end])?;
        self.pending.drain(..end);
        Ok(Some(note))
    }
}

/// The process's own part.
pub(crate) fn run() -> ExitCode {
    let served = setup::protect().and_then(|()| {
        let input: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        // with less it goes on too, only in smaller steps
        let _ = set_socket_send_buffer_size(&input, SEND_BUFFER);
        let notes = ToAgent::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        answer(&Arc::new(Descriptors::of_this_process()), &notes, &UnixStream::from(input));
        Ok(())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The process's end of the pipe, and what goes there next.
struct ToAgent {
    pipe: File,
    notes: RefCell<Vec<u8>>,
}

impl ToAgent {
    fn new(pipe: File) -> ToAgent {
        ToAgent { pipe, notes: RefCell::default() }
    }
}

impl Notebook for ToAgent {
    fn take(&self, note: Note) {
        let Ok(text) = serde_json::to_vec(&note) else { return };
        if let Ok(length) = u32::try_from(text.len())
            && text.len() <= MAX_NOTE
        {
            let mut notes = self.notes.borrow_mut();
            notes.extend_from_slice(&length.to_be_bytes());
            notes.extend_from_slice(&text);
        }
    }

    fn settle(&self) {
        let mut notes = self.notes.borrow_mut();
        // An agent that is gone takes this process with it.
        let _ = (&self.pipe).write_all(&notes);
        notes.clear();
    }
}

fn answer(descriptors: &Arc<Descriptors>, notebook: &dyn Notebook, socket: &UnixStream) {
    match remote_files::serve(descriptors, notebook, socket) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let failure = Failure { kind: FailureKind::BadRequest, message: error.to_string() };
            // It may not be there to hear it.
            let _ = Frame::Failure(failure).write(&mut &*socket);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::manifest::{Stamp, Whose};

    #[derive(Default)]
    struct Taken(Mutex<Vec<Note>>);

    impl Notebook for Taken {
        fn take(&self, note: Note) {
            lock(&self.0).push(note);
        }
    }

    fn known(length: usize) -> Note {
        let stamp = Stamp::of(&std::fs::metadata("/").unwrap());
        Note::Known { path: vec![b'x'; length], stamp, whose: Whose::Brought }
    }

    #[test]
    fn notes_arrive_whole_however_they_are_cut_and_nonsense_is_the_end() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        ioctl_fionbio(&reader, true).unwrap();
        let mut notes = Notes { pipe: reader.into(), pending: Vec::new() };
        let (to_agent, taken) = (ToAgent::new(writer.try_clone().unwrap().into()), Taken::default());
        to_agent.take(known(3));
        to_agent.take(known(5_000));
        to_agent.settle();
        notes.pass_on(&taken).unwrap();
        assert_eq!(*lock(&taken.0), [known(3), known(5_000)]);

        let text = serde_json::to_vec(&known(1)).unwrap();
        let framed = [&(text.len() as u32).to_be_bytes(), text.as_slice()].concat();
        for byte in &framed {
            assert_eq!(lock(&taken.0).len(), 2);
            (&to_agent.pipe).write_all(&[*byte]).unwrap();
            notes.pass_on(&taken).unwrap();
        }
        assert_eq!(lock(&taken.0).len(), 3);
        (&to_agent.pipe).write_all(&[0xff; LENGTH]).unwrap();
        assert_eq!(notes.pass_on(&taken).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_the_pipe_is_the_end_of_the_process() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut notes = Notes { pipe: reader.into(), pending: Vec::new() };
        drop(writer);
        assert!(notes.pass_on(&Taken::default()).is_err());
    }
}
