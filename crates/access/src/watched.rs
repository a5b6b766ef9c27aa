//! A door that tells a watcher who comes in and how that ended.

mod tap;

use crate::{AccessError, door::Door};
use futures::{FutureExt, future::BoxFuture};
use sandbox::ByteStream;
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};
use tap::Tap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::proto::session_header::Kind;

/// Hears of what is opened through a door. It is called on the way, and should only take note.
pub trait Watcher: Clone + fmt::Debug + Send + Sync + 'static {
    /// What is remembered of a stream as long as it is open.
    type Visit: Send + Unpin;

    /// What there is to be remembered of a stream of this kind, if anything.
    fn sees(&self, kind: &Kind) -> Option<Self::Visit>;

    /// It is open.
    fn began(&self, visit: &Self::Visit);

    /// It is over; of a process that has ended, how, in words.
    fn ended(&self, visit: &Self::Visit, how: Option<String>);
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Watched<D, W> {
    door: D,
    watcher: W,
}

impl<D, W> Watched<D, W> {
    /// A door of which this watcher hears.
    pub fn new(door: D, watcher: W) -> Self {
        Self { door, watcher }
    }
}

impl<D: Door, W: Watcher + Unpin> Door for Watched<D, W> {
    fn open(&self, kind: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
        let (visit, runs) = (self.watcher.sees(&kind), matches!(kind, Kind::Exec(_) | Kind::Attach(_)));
        async move {
            let stream = self.door.open(kind).await?;
            let Some(visit) = visit else { return Ok(stream) };
            self.watcher.began(&visit);
            let watcher = self.watcher.clone();
            Ok(Box::new(Visiting { stream, tap: runs.then(Tap::default), visit, watcher }) as ByteStream)
        }
        .boxed()
    }
}

/// A stream of somebody who is inside; dropped, that is over.
struct Visiting<W: Watcher> {
    stream: ByteStream,
    /// Of a process.
    tap: Option<Tap>,
    visit: W::Visit,
    watcher: W,
}

impl<W: Watcher> Drop for Visiting<W> {
    fn drop(&mut self) {
        self.watcher.ended(&self.visit, self.tap.as_mut().and_then(|tap| tap.end.take()));
    }
}

impl<W: Watcher + Unpin> AsyncRead for Visiting<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let (Some(tap), Some(passing)) = (&mut self.tap, buf.filled().get(before..)) {
            tap.hear(passing);
        }
        read
    }
}

impl<W: Watcher + Unpin> AsyncWrite for Visiting<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use wire::proto;

    /// Whose processes exit with 3.
    #[derive(Debug)]
    struct Rental;

    impl Door for Rental {
        fn open(&self, _: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
            async {
                let (mut far, near) = duplex(1024);
                let how = Some(proto::job_end::How::Code(3));
                let end = proto::process_output::Frame::End(proto::JobEnd { how, exit_code: 3, disk_full: false });
                let bytes = prost::Message::encode_length_delimited_to_vec(&proto::ProcessOutput { frame: Some(end) });
                far.write_all(&bytes).await.unwrap();
                Ok(Box::new(near) as ByteStream)
            }
            .boxed()
        }
    }

    #[derive(Clone, Debug, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Watcher for Heard {
        type Visit = ();

        fn sees(&self, kind: &Kind) -> Option<()> {
            (!matches!(kind, Kind::Stats(_))).then_some(())
        }

        fn began(&self, (): &()) {
            self.0.lock().unwrap().push("began".to_owned());
        }

        fn ended(&self, (): &(), how: Option<String>) {
            self.0.lock().unwrap().push(how.unwrap_or_else(|| "unknown".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_watcher_hears_of_a_visit_and_how_it_ended() {
        let heard = Heard::default();
        let door = Watched::new(Rental, heard.clone());
        let mut process = door.open(Kind::Exec(proto::Exec::default())).await.unwrap();
        let mut output = Vec::new();
        process.read_to_end(&mut output).await.unwrap();
        drop(process);
        drop(door.open(Kind::Exec(proto::Exec::default())).await.unwrap());
        drop(door.open(Kind::Stats(proto::Stats {})).await.unwrap());
        assert_eq!(*heard.0.lock().unwrap(), ["began", "exited with 3", "began", "unknown"]);
    }
}
