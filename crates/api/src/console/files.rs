//! Folders of a rental: what is in them, and making, renaming and removing. Paths are the machine's own and are resolved there, inside the
//! sandbox, by the agent: nothing here reads them, so nothing here can be led astray by one.

use super::{Shared, rentals::Rental};
use crate::{
    server::{Answer, Failure, unreadable},
    types::{ApiError, ErrorKind, Visitor},
};
use access::{
    AccessError,
    files::{FileCallError, FileEntry, FileError, FileErrorKind, FileKind, FileMetadata, FileTime, Files},
};
use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
};
use futures::{StreamExt, TryStreamExt, stream};
use market::id::RentalId;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use utoipa::{IntoParams, ToSchema};
use wire::proto::{self, session_header::Kind};

/// Entries of a folder that are shown: more than anybody scrolls through, and a megabyte or so of JSON.
pub(crate) const MAX_ENTRIES: usize = 5_000;
/// Links followed at once, to say where they lead.
const FOLLOWED: usize = 64;
/// Permissions of a new folder.
const FOLDER: u32 = 0o755;

/// A folder.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Folder {
    /// Its path, without links.
    path: String,
    /// Folders first, then by name.
    entries: Vec<FolderEntry>,
    /// There are more.
    more: bool,
}

/// Something in a folder. Of a link, it says where it leads.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FolderEntry {
    /// Its name.
    name: String,
    /// What it is.
    kind: EntryKind,
    /// Whether it is a link to that.
    link: bool,
    /// Its length in bytes.
    size: u64,
    /// When it was last changed, Unix milliseconds.
    modified: u64,
}

/// What something in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryKind {
    /// A folder.
    Directory,
    /// A file.
    File,
    /// Anything else, or a link that leads nowhere.
    Other,
}

/// A path on the machine.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct At {
    /// Absolute.
    pub(super) path: String,
}

/// An order to give something another name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Rename {
    /// The old path.
    from: String,
    /// The new one, which nothing may have.
    to: String,
}

/// The files of a rental.
pub(super) async fn files_of(shared: &Shared, rental: RentalId) -> Result<Files, Failure> {
    let door = shared.control.door(rental.to_string(), Visitor::Console).await?;
    let stream = door.open(Kind::Files(proto::Files {})).await.map_err(failure)?;
    Ok(Files::new(stream))
}

/// What the page is told of a stream that could not be opened.
pub(super) fn failure(error: AccessError) -> Failure {
    let kind = if error.is_passing() { ErrorKind::Timeout } else { ErrorKind::Failed };
    Failure::from(ApiError::new(kind, error.to_string(), "try again; `node show` tells how the rental stands"))
}

/// What the page is told of a file that could not be had.
pub(super) fn file_failure(error: FileCallError) -> Failure {
    let (kind, next) = match &error {
        FileCallError::Failed(FileError { kind, .. }) => match kind {
            FileErrorKind::NotFound => (ErrorKind::NoMatch, ""),
            FileErrorKind::BadRequest => (ErrorKind::Usage, ""),
            FileErrorKind::NoSpace => (ErrorKind::Refused, "remove something, or rent with more disk"),
            FileErrorKind::Damaged => (ErrorKind::Timeout, "try again"),
            _ => (ErrorKind::Refused, ""),
        },
        FileCallError::Ended(_) | FileCallError::Unexpected => (ErrorKind::Timeout, "try again"),
    };
    Failure::from(ApiError::new(kind, error.to_string(), next))
}

/// What is in a folder.
#[utoipa::path(get, path = "/rentals/{rental}/files", params(("rental" = String, Path, description = "Its id."), At), responses(
    (status = 200, body = Folder), (status = "default", body = ApiError)
))]
pub(super) async fn list(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    at: Result<Query<At>, QueryRejection>,
) -> Answer<Folder> {
    let Query(At { path }) = at.map_err(|error| unreadable(&error))?;
    let files = files_of(&shared, rental).await?;
    Ok(Json(folder(&files, path).await.map_err(file_failure)?))
}

async fn folder(files: &Files, path: String) -> Result<Folder, FileCallError> {
    let path = files.real_path(path).await?;
    let mut directory = files.open_directory(&path).await?;
    let (mut found, mut more) = (Vec::new(), false);
    while let Some(entries) = directory.next().await? {
        found.extend(entries);
        if found.len() > MAX_ENTRIES {
            (_, more) = (found.truncate(MAX_ENTRIES), true);
            break;
        }
    }
    let described = stream::iter(found).map(|entry| describe(files, &path, entry)).buffered(FOLLOWED);
    let mut entries: Vec<FolderEntry> = described.try_collect().await?;
    entries.sort_unstable_by(|a, b| {
        (a.kind != EntryKind::Directory, &a.name).cmp(&(b.kind != EntryKind::Directory, &b.name))
    });
    Ok(Folder { path: path.to_string_lossy().into_owned(), entries, more })
}

async fn describe(files: &Files, folder: &Path, entry: FileEntry) -> Result<FolderEntry, FileCallError> {
    let link = entry.metadata.kind == FileKind::Symlink;
    let metadata = match link {
        true => match files.stat(folder.join(&entry.name)).await {
            Ok(target) => target,
            // it leads nowhere
            Err(FileCallError::Failed(_)) => entry.metadata,
            Err(broken) => return Err(broken),
        },
        false => entry.metadata,
    };
    Ok(FolderEntry {
        name: entry.name.to_string_lossy().into_owned(),
        kind: kind_of(&metadata),
        link,
        size: metadata.size,
        modified: millis(metadata.modified),
    })
}

const fn kind_of(metadata: &FileMetadata) -> EntryKind {
    match metadata.kind {
        FileKind::Directory => EntryKind::Directory,
        FileKind::File => EntryKind::File,
        FileKind::Symlink | FileKind::Other => EntryKind::Other,
    }
}

fn millis(time: FileTime) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(u64::from(time.nanoseconds) / 1_000_000)
}

/// Makes a folder.
#[utoipa::path(post, path = "/rentals/{rental}/files/folder", params(("rental" = String, Path, description = "Its id.")),
    request_body = At, responses((status = 204), (status = "default", body = ApiError)
))]
pub(super) async fn make_folder(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    at: Result<Json<At>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(At { path }) = at.map_err(|error| unreadable(&error))?;
    let files = files_of(&shared, rental).await?;
    files.make_directory(path, FOLDER).await.map_err(file_failure)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives something another name, which nothing may have.
#[utoipa::path(post, path = "/rentals/{rental}/files/rename", params(("rental" = String, Path, description = "Its id.")),
    request_body = Rename, responses((status = 204), (status = "default", body = ApiError)
))]
pub(super) async fn rename(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    names: Result<Json<Rename>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(Rename { from, to }) = names.map_err(|error| unreadable(&error))?;
    let files = files_of(&shared, rental).await?;
    files.rename(from, to, false).await.map_err(file_failure)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes something; a folder with all that is in it.
#[utoipa::path(post, path = "/rentals/{rental}/files/remove", params(("rental" = String, Path, description = "Its id.")),
    request_body = At, responses((status = 204), (status = "default", body = ApiError)
))]
pub(super) async fn remove(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    at: Result<Json<At>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(At { path }) = at.map_err(|error| unreadable(&error))?;
    let files = files_of(&shared, rental).await?;
    remove_all(&files, path.into()).await.map_err(file_failure)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is left to be removed, the next one last.
enum Left {
    Entry(PathBuf),
    /// A folder whose entries come off before it.
    Emptied(PathBuf),
}

async fn remove_all(files: &Files, path: PathBuf) -> Result<(), FileCallError> {
    let mut left = vec![Left::Entry(path)];
    while let Some(next) = left.pop() {
        match next {
            Left::Emptied(path) => files.remove_directory(path).await?,
            Left::Entry(path) if files.stat_link(&path).await?.kind == FileKind::Directory => {
                let inside = files.list(&path).await?.into_iter().map(|entry| Left::Entry(path.join(entry.name)));
                let inside: Vec<_> = inside.collect();
                left.push(Left::Emptied(path));
                left.extend(inside);
            }
            Left::Entry(path) => files.remove(path).await?,
        }
    }
    Ok(())
}
