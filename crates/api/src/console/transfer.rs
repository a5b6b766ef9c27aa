//! Files on their way between the browser and a rental.
//!
//! **Up** in pieces, each with its SHA-256, which is what browsers can compute. A piece is written into a file of its own beside the wanted
//! one, and its BLAKE3 is compared with the machine's before the next one is asked for. That file's name is made of the wanted one's name, size
//! and time, so that an upload that broke off is found again, whoever broke off, and another file of the same name never goes on where it
//! stopped. The wanted file appears under its name when it is whole.
//!
//! **Down** as the browser's own download: ranges are answered, so that it goes on after a break.

use super::{
    Shared,
    files::{At, file_failure, files_of},
    rentals::Rental,
};
use crate::{
    server::{Answer, Failure, unreadable},
    types::{ApiError, ErrorKind},
};
use access::files::{
    FileCallError, FileChange, FileErrorKind, FileMetadata, FileTime, Files, MAX_PIECE, OpenFile, OpenMode,
};
use alloy_primitives::hex;
use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};
use tokio::{io::AsyncReadExt, sync::Semaphore};
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

/// The largest piece of an upload; it lies in memory until it is on the machine.
pub(crate) const MAX_PIECE_BYTES: usize = 8 << 20;
/// Pieces in memory at once, of all browsers; more wait.
pub(crate) const MAX_PIECES: usize = 6;
/// Parts of a piece that are sent to the machine before the first is confirmed.
const UNDER_WAY: usize = 64;
/// The header with a piece's hash, in hex.
const HASH: &str = "x-gpulease-sha256";
/// Permissions of an uploaded file.
const PERMISSIONS: u32 = 0o644;

/// Room for pieces of uploads.
#[derive(Debug)]
pub(super) struct Transfers {
    pieces: Semaphore,
}

impl Default for Transfers {
    fn default() -> Self {
        Self { pieces: Semaphore::new(MAX_PIECES) }
    }
}

/// The file that is uploaded, as the browser knows it.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Uploaded {
    /// Where it goes, absolute.
    path: String,
    /// Its length in bytes.
    size: u64,
    /// When it was last changed, Unix milliseconds.
    modified: u64,
}

/// Where a piece belongs.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Offset {
    /// Its first byte's place in the file.
    offset: u64,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct UploadState {
    /// What is on the machine: the next piece begins here.
    offset: u64,
    /// The file is there, whole, under its name.
    done: bool,
}

impl Uploaded {
    /// The file that the pieces are gathered in.
    fn part(&self) -> PathBuf {
        let path = Path::new(&self.path);
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let hash = Sha256::new()
            .chain_update(name)
            .chain_update(self.size.to_be_bytes())
            .chain_update(self.modified.to_be_bytes())
            .finalize();
        path.with_file_name(format!(".gpulease-{}.part", hex::encode(&hash[..8])))
    }
}

/// Where an upload goes on: what an earlier attempt brought over counts, but for its last piece, which may have broken off.
#[utoipa::path(get, path = "/rentals/{rental}/files/upload", params(("rental" = String, Path, description = "Its id."), Uploaded),
    responses((status = 200, body = UploadState), (status = "default", body = ApiError)
))]
pub(super) async fn upload_state(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    uploaded: Result<Query<Uploaded>, QueryRejection>,
) -> Answer<UploadState> {
    let Query(uploaded) = uploaded.map_err(|error| unreadable(&error))?;
    let files = files_of(&shared, rental).await?;
    let there = match files.stat_link(uploaded.part()).await {
        Ok(metadata) => metadata.size.min(uploaded.size),
        Err(FileCallError::Failed(error)) if error.kind == FileErrorKind::NotFound => 0,
        Err(error) => return Err(file_failure(error)),
    };
    let piece = MAX_PIECE_BYTES as u64;
    Ok(Json(UploadState { offset: there.saturating_sub(1) / piece * piece, done: false }))
}

/// Takes a piece of an upload; with the last one the file is there.
#[utoipa::path(put, path = "/rentals/{rental}/files/upload",
    params(("rental" = String, Path, description = "Its id."), Uploaded, Offset, ("x-gpulease-sha256" = String, Header, description = "The hash of the piece, in hex.")),
    responses((status = 200, body = UploadState), (status = "default", body = ApiError)
))]
pub(super) async fn upload(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    uploaded: Result<Query<Uploaded>, QueryRejection>,
    offset: Result<Query<Offset>, QueryRejection>,
    request: Request,
) -> Answer<UploadState> {
    let Query(uploaded) = uploaded.map_err(|error| unreadable(&error))?;
    let Query(Offset { offset }) = offset.map_err(|error| unreadable(&error))?;
    // the semaphore is never closed
    let _room = shared.transfers.pieces.acquire().await.ok();
    let said = request.headers().get(HASH).cloned();
    let piece = to_bytes(request.into_body(), MAX_PIECE_BYTES).await.map_err(|error| unreadable(&error))?;
    if said.is_none_or(|said| said.as_bytes() != hex::encode(Sha256::digest(&piece)).as_bytes()) {
        return Err(damaged("between the browser and the daemon"));
    }
    let end = offset.saturating_add(piece.len() as u64);
    if end > uploaded.size {
        return Err(unreadable(&"the piece lies behind the end of the file"));
    }
    let files = files_of(&shared, rental).await?;
    let done = end == uploaded.size;
    take(&files, &uploaded, offset, piece, done).await?;
    Ok(Json(UploadState { offset: end, done }))
}

fn damaged(where_: &str) -> Failure {
    let message = format!("a piece of the file was damaged {where_}");
    Failure::from(ApiError::new(ErrorKind::Timeout, message, "it is sent again"))
}

async fn take(files: &Files, uploaded: &Uploaded, offset: u64, piece: Bytes, last: bool) -> Result<(), Failure> {
    let part = uploaded.part();
    let mode = OpenMode { read: true, write: true, create: true, permissions: PERMISSIONS, ..OpenMode::default() };
    let file = files.open(&part, mode).await.map_err(file_failure)?;
    if file.metadata().await.map_err(file_failure)?.size < offset {
        let message = "what was uploaded before this piece is not on the machine any more";
        return Err(ApiError::new(ErrorKind::Timeout, message, "the upload begins again").into());
    }
    write(&file, offset, &piece).await.map_err(file_failure)?;
    let (hash, length) = file.hash(offset, piece.len() as u64).await.map_err(file_failure)?;
    if length != piece.len() as u64 || hash.0 != *blake3::hash(&piece).as_bytes() {
        return Err(damaged("on its way to the machine"));
    }
    if last {
        finish(files, file, &part, uploaded).await.map_err(file_failure)?;
    }
    Ok(())
}

async fn write(file: &OpenFile, offset: u64, piece: &Bytes) -> Result<(), FileCallError> {
    let writes = stream::iter((0..piece.len()).step_by(MAX_PIECE)).map(|from| {
        let part = piece.slice(from..piece.len().min(from + MAX_PIECE));
        file.write(offset + from as u64, part.to_vec())
    });
    writes.buffered(UNDER_WAY).try_collect().await
}

async fn finish(files: &Files, file: OpenFile, part: &Path, uploaded: &Uploaded) -> Result<(), FileCallError> {
    let modified = FileTime {
        seconds: i64::try_from(uploaded.modified / 1_000).unwrap_or_default(),
        nanoseconds: u32::try_from(uploaded.modified % 1_000 * 1_000_000).unwrap_or_default(),
    };
    // an earlier attempt may have left more
    file.set(FileChange { size: Some(uploaded.size), modified: Some(modified), ..FileChange::default() }).await?;
    file.close().await?;
    files.rename(part, &uploaded.path, true).await
}

/// Sends a file, or a range of it.
#[utoipa::path(get, path = "/rentals/{rental}/files/content", params(("rental" = String, Path, description = "Its id."), At), responses(
    (status = 200, description = "The file.", content_type = "application/octet-stream"),
    (status = 206, description = "The range that was asked for.", content_type = "application/octet-stream"),
    (status = "default", body = ApiError)
))]
pub(super) async fn download(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    at: Result<Query<At>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Query(At { path }) = at.map_err(|error| unreadable(&error))?;
    let files = files_of(&shared, rental).await?;
    let file = files.open_to_read(&path).await.map_err(file_failure)?;
    let metadata = file.metadata().await.map_err(file_failure)?;
    let tag = tag(&metadata);
    let same = headers.get(header::IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes());
    let asked = headers.get(header::RANGE).filter(|_| same).and_then(|range| range.to_str().ok());
    let Ok(range) = asked.map(|asked| range(asked, metadata.size)).transpose() else {
        let whole = format!("bytes */{}", metadata.size);
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, whole)]).into_response());
    };
    let Range { start, end } = range.clone().flatten().unwrap_or(0..metadata.size);
    let content = ReaderStream::with_capacity(file.into_reader(start).take(end - start), MAX_PIECE);
    let mut response = Body::from_stream(content).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.insert(header::CONTENT_LENGTH, (end - start).into());
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut say = |name, text: String| HeaderValue::try_from(text).map(|value| answer.insert(name, value));
    // what goes into these is digits and escaped
    let _ = say(header::ETAG, tag);
    let _ = say(header::CONTENT_DISPOSITION, attachment(&path));
    if range.flatten().is_some() {
        let _ = say(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", end - 1, metadata.size));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// By which a browser knows whether the file is still the one that it has the beginning of.
fn tag(metadata: &FileMetadata) -> String {
    let FileTime { seconds, nanoseconds } = metadata.modified;
    format!("\"{}-{seconds}-{nanoseconds}\"", metadata.size)
}

/// None of it can be sent.
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// The one range that is asked for; none where the header is not understood, which means the whole file.
fn range(asked: &str, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    let Some((first, last)) = asked.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.is_empty() { Err(Unsatisfiable) } else { Ok(Some(range)) }
}

/// To be saved under the file's name, whatever is in it, and never shown on this origin.
fn attachment(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let escaped: String = name
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    format!("attachment; filename*=UTF-8''{escaped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_in_its_three_forms() {
        assert_eq!(range("bytes=2-5", 10), Ok(Some(2..6)));
        assert_eq!(range("bytes=2-", 10), Ok(Some(2..10)));
        assert_eq!(range("bytes=-3", 10), Ok(Some(7..10)));
        assert_eq!(range("bytes=2-500", 10), Ok(Some(2..10)));
        assert_eq!(range("bytes=-500", 10), Ok(Some(0..10)));
    }

    #[test]
    fn a_range_that_is_not_understood_is_the_whole_file_and_one_behind_the_end_is_none() {
        for asked in ["lines=1-2", "bytes=", "bytes=a-b", "bytes=5-2", "bytes=0-1,4-5", "bytes=-"] {
            assert_eq!(range(asked, 10), Ok(None), "{asked}");
        }
        assert_eq!(range("bytes=10-", 10), Err(Unsatisfiable));
        assert_eq!(range("bytes=0-", 0), Err(Unsatisfiable));
        assert_eq!(range("bytes=-0", 10), Err(Unsatisfiable));
    }

    #[test]
    fn a_name_cannot_reach_out_of_its_header() {
        assert_eq!(attachment("/job/a \"b\"\r\nX: y"), "attachment; filename*=UTF-8''a%20%22b%22%0D%0AX%3A%20y");
        assert_eq!(attachment("/job/결과.txt"), "attachment; filename*=UTF-8''%EA%B2%B0%EA%B3%BC.txt");
    }

    #[test]
    fn an_attempt_is_known_by_the_name_the_size_and_the_time_of_the_file() {
        let file = Uploaded { path: "/job/a.bin".into(), size: 5, modified: 7 };
        assert_eq!(file.part(), file.clone().part());
        let other = |change: fn(&mut Uploaded)| {
            let mut other = file.clone();
            change(&mut other);
            other.part()
        };
        assert_eq!(file.part().parent(), Some(Path::new("/job")));
        assert_ne!(file.part(), other(|file| file.path = "/job/b.bin".into()));
        assert_ne!(file.part(), other(|file| file.size = 6));
        assert_ne!(file.part(), other(|file| file.modified = 8));
    }
}
