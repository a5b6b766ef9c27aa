//! Reading small text files of the machine (`/proc`, `/sys`, specifications) without trusting their size.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The whole of a text file of at most `limit` bytes. One byte more is an error, not a shorter text: half a fact is no fact.
pub(crate) fn read_text(path: &Path, limit: usize) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit as u64 + 1).read_to_string(&mut text)?;
    if text.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(text)
}

/// The most bytes of one file of `/proc` or `/sys` that are read: these files hold a line or a page.
pub(crate) const MAX_FACT_BYTES: usize = 64 << 10;

/// One fact of the kernel: the trimmed text of a small file, or nothing when the kernel does not state it.
pub(crate) fn fact(path: &Path) -> Option<String> {
    let text = read_text(path, MAX_FACT_BYTES).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_limit_is_refused_rather_than_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fact");
        std::fs::write(&path, " 12345\n").unwrap();
        assert_eq!(read_text(&path, 7).unwrap(), " 12345\n");
        assert_eq!(read_text(&path, 6).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(fact(&path).as_deref(), Some("12345"));
        assert_eq!(fact(&folder.path().join("absent")), None);
    }
}
