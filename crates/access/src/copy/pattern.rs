//! Patterns with `*`, `?` and `[…]` for names inside a rental, as shells have them for those of this machine.

use crate::{
    AccessError,
    files::{FileCallError, FileErrorKind, Files},
};
use futures::{StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

/// Paths looked at at once.
const LOOKS: usize = 64;

/// A name that begins with a dot is meant only by a pattern that does.
const AS_SHELLS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A path that a pattern may have led to.
pub(super) struct Found {
    /// The path.
    pub(super) path: PathBuf,
    /// Its last part was matched and not said.
    pub(super) matched: bool,
}

impl Found {
    fn push(&mut self, name: &OsStr) {
        self.path.push(name);
        self.matched = false;
    }
}

/// What there is of what a path with patterns stands for, in the order of names; the path itself if it has none.
pub(super) async fn expand(files: &Files, path: &Path) -> Result<Vec<Found>, AccessError> {
    let mut found = vec![Found { path: PathBuf::from("/"), matched: false }];
    let mut any = false;
    for part in path.components() {
        match part {
            Component::Normal(name) if is_pattern(name) => {
                found = matching(files, found, name).await?;
                any = true;
            }
            Component::Normal(name) => found.iter_mut().for_each(|found| found.push(name)),
            Component::ParentDir => found.iter_mut().for_each(|found| found.push(OsStr::new(".."))),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if any {
        found = there(files, found).await?;
    }
    if found.is_empty() {
        return Err(AccessError::Copy(format!("nothing in the rental matches {}", path.display())));
    }
    Ok(found)
}

/// What of these paths there is: behind a pattern a name may be in some folders only.
async fn there(files: &Files, found: Vec<Found>) -> Result<Vec<Found>, AccessError> {
    let looks = found.into_iter().map(async |found| match files.stat_link(&found.path).await {
        Ok(_) => Ok(Some(found)),
        Err(FileCallError::Failed(error)) if is_missing(error.kind) => Ok(None),
        Err(error) => Err(AccessError::from(error)),
    });
    stream::iter(looks).buffered(LOOKS).try_filter_map(async |found| Ok(found)).try_collect().await
}

fn is_missing(kind: FileErrorKind) -> bool {
    matches!(kind, FileErrorKind::NotFound | FileErrorKind::NotADirectory)
}

fn is_pattern(name: &OsStr) -> bool {
    name.to_string_lossy().contains(['*', '?', '['])
}

async fn matching(files: &Files, folders: Vec<Found>, name: &OsStr) -> Result<Vec<Found>, AccessError> {
    let bad = |error: glob::PatternError| AccessError::Copy(format!("{}: {error}", name.display()));
    let pattern = Pattern::new(&name.to_string_lossy()).map_err(bad)?;
    let mut found = Vec::new();
    for folder in folders.into_iter().map(|found| found.path) {
        let entries = match files.list(&folder).await {
            // What a pattern before this one matched need not be a folder.
            Err(FileCallError::Failed(error)) if is_missing(error.kind) => continue,
            listed => listed?,
        };
        let matched =
            entries.into_iter().filter(|entry| pattern.matches_with(&entry.name.to_string_lossy(), AS_SHELLS));
        found.extend(matched.map(|entry| Found { path: folder.join(entry.name), matched: true }));
    }
    Ok(found)
}
