//! A file as bytes to be read: what comes next has been asked for already, so that the distance is waited for once and not for each piece.

use super::{Answer, OpenFile, PIECE, STREAM_WINDOW, data, io_error};
use futures::FutureExt;
use sandbox::FileCallError;
use std::{
    io::{self, SeekFrom},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncSeek, ReadBuf},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;

/// Pieces asked for ahead at the beginning, doubled with each piece that is taken: one who reads only a little does not move much.
const FIRST_WINDOW: usize = 4;

/// Reads a file from a place on, and from another after seeking; up to 8 MiB are under way. The end of the file is where it is when the
/// reader comes there.
pub struct FileReader {
    file: Arc<OpenFile>,
    /// Where the next byte is read.
    at: u64,
    ahead: Option<Ahead>,
    seeking: Option<Seeking>,
}

/// Asks for the pieces from a place on.
struct Ahead {
    pieces: mpsc::Receiver<Result<Answer, FileCallError>>,
    /// The piece that is waited for.
    next: Option<Answer>,
    /// The piece that is being read, from `read` on.
    piece: Vec<u8>,
    read: usize,
    window: mpsc::Sender<()>,
    _task: AbortOnDropHandle<()>,
}

type Seeking = Pin<Box<dyn Future<Output = io::Result<u64>> + Send>>;

impl FileReader {
    pub(super) fn new(file: OpenFile, at: u64) -> Self {
        Self { file: Arc::new(file), at, ahead: None, seeking: None }
    }
}

impl Ahead {
    fn start(file: Arc<OpenFile>, from: u64) -> Self {
        let (sender, pieces) = mpsc::channel(STREAM_WINDOW);
        let (window, taken) = mpsc::channel(STREAM_WINDOW);
        let task = tokio::spawn(ask(file, from, sender, taken));
        let task = AbortOnDropHandle::new(task);
        Self { pieces, next: None, piece: Vec::new(), read: 0, window, _task: task }
    }

    /// Ready when there is something to read, or nothing any more.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.read == self.piece.len() {
            if let Some(next) = &mut self.next {
                let answered = ready!(next.poll_unpin(cx));
                self.next = None;
                (self.piece, self.read) = (answered.and_then(data).map_err(io_error)?, 0);
                // One that has been told of so many already has asked for all it may.
                let _ = self.window.try_send(());
                if self.piece.is_empty() {
                    break;
                }
                continue;
            }
            match ready!(self.pieces.poll_recv(cx)) {
                Some(next) => self.next = Some(next.map_err(io_error)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Keeps as many pieces under way as the reader's pace is worth.
async fn ask(
    file: Arc<OpenFile>,
    from: u64,
    pieces: mpsc::Sender<Result<Answer, FileCallError>>,
    mut taken: mpsc::Receiver<()>,
) {
    let (mut window, mut under_way, mut at) = (FIRST_WINDOW, 0, from);
    loop {
        while under_way < window {
            let asked = file.send_read(at, PIECE).await;
            let failed = asked.is_err();
            if pieces.send(asked).await.is_err() || failed {
                return;
            }
            under_way += 1;
            at = at.saturating_add(u64::from(PIECE));
        }
        let Some(()) = taken.recv().await else { return };
        under_way -= 1;
        window = (window * 2).min(STREAM_WINDOW);
    }
}

impl AsyncRead for FileReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let ahead = this.ahead.get_or_insert_with(|| Ahead::start(this.file.clone(), this.at));
        let polled = ready!(ahead.poll_piece(cx));
        let rest = &ahead.piece[ahead.read..];
        let n = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..n]);
        ahead.read += n;
        this.at += n as u64;
        // At a short piece the file ended; what was asked for beyond it is forgotten, and if it has grown, the next read begins anew.
        let ended = ahead.piece.len() < PIECE as usize && ahead.read == ahead.piece.len();
        if ended || polled.is_err() {
            this.ahead = None;
        }
        Poll::Ready(polled)
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let (file, at) = (self.file.clone(), self.at);
        self.seeking = Some(Box::pin(async move {
            let (base, offset) = match position {
                SeekFrom::Start(to) => return Ok(to),
                SeekFrom::Current(offset) => (at, offset),
                SeekFrom::End(offset) => (file.metadata().await.map_err(io_error)?.size, offset),
            };
            base.checked_add_signed(offset).ok_or_else(|| io::ErrorKind::InvalidInput.into())
        }));
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Some(seeking) = &mut self.seeking else { return Poll::Ready(Ok(self.at)) };
        let sought = ready!(seeking.poll_unpin(cx));
        self.seeking = None;
        let to = sought?;
        if to != self.at {
            self.at = to;
            self.ahead = None;
        }
        Poll::Ready(Ok(to))
    }
}
