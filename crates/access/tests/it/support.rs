//! What the tests share: a rental without a sandbox, folders on the disk, and content.

use access::files::{Files, serve_files};
use agent::{descriptors::Descriptors, manifest::Manifest, remote_files};
use sandbox::{FileChannel, SandboxId};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes in a stream's buffers each way.
const STREAM: usize = 256 * 1024;

/// A provider's end over the agent's code, for the other end of this stream.
pub(crate) fn provider() -> DuplexStream {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        remote_files::serve(&Arc::new(Descriptors::of_this_process()), &Manifest::default(), &theirs)
    });
    ours.set_nonblocking(true).unwrap();
    let (reader, writer) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
    let channel = FileChannel::over(reader, writer, &SandboxId::new("rental").unwrap());
    let (near, far) = duplex(STREAM);
    tokio::spawn(serve_files(far, channel));
    near
}

/// A renter's end.
pub(crate) fn rental() -> Files {
    Files::new(provider())
}

/// A renter's end whose stream breaks when so many bytes have gone one way or come the other.
pub(crate) fn rental_for(bytes: u64) -> Files {
    let (provider_reads, provider_writes) = tokio::io::split(provider());
    let (near, far) = duplex(STREAM);
    let (reads, writes) = tokio::io::split(far);
    tokio::spawn(async move {
        let up = async { pass(reads, provider_writes, bytes).await };
        let down = async { pass(provider_reads, writes, bytes).await };
        tokio::select! { () = up => {}, () = down => {} }
    });
    Files::new(near)
}

async fn pass(from: impl tokio::io::AsyncRead + Unpin, mut to: impl tokio::io::AsyncWrite + Unpin, bytes: u64) {
    let mut from = from.take(bytes);
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.flush().await;
}

/// A folder on the disk: what is in memory the agent does not write to.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Bytes that look like no others of their kind.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// The result, or a failed test when it takes too long.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("takes too long")
}
