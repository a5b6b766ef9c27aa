//! The dynamic loader's own list of the machine's libraries, `/etc/ld.so.cache`: it knows where a distribution keeps them. The format is
//! glibc's, which it has kept since 1999, with an older table before it where glibc is older than 2.32.

use std::{fs, path::Path};

/// The most bytes of the cache that are read: a workstation with thousands of libraries has about 300 KiB.
const MAX_CACHE_BYTES: u64 = 16 << 20;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";

/// Sizes of the two headers and their entries, in bytes.
const HEADER: usize = 48;
const ENTRY: usize = 24;
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;

/// The part of an entry's flags that names the architecture, and its values for 64-bit libraries.
const ARCHITECTURE: u32 = 0xff00;
const OURS: u32 = if cfg!(target_arch = "aarch64") { 0x0a00 } else { 0x0300 };

/// The libraries of this program's architecture, as pairs of the name that programs ask for and the path. None when there is no cache or
/// it is not of this format.
pub(super) fn read(path: &Path) -> Option<Vec<(String, String)>> {
    let length = fs::metadata(path).ok()?.len();
    let bytes = if length <= MAX_CACHE_BYTES { fs::read(path).ok()? } else { return None };
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let cache = if bytes.starts_with(OLD_MAGIC) {
        let entries = number(bytes, 12)? as usize;
        let end = entries.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)?;
        // the newer table is aligned for its entries
        bytes.get(end.checked_next_multiple_of(8)?..)?
    } else {
        bytes
    };
    if !cache.starts_with(MAGIC) {
        return None;
    }
    let count = number(cache, MAGIC.len())? as usize;
    let entries = cache.get(HEADER..)?.chunks_exact(ENTRY).take(count);
    let libraries = entries.filter_map(|entry| {
        let ours = number(entry, 0)? & ARCHITECTURE == OURS;
        ours.then_some((text(cache, number(entry, 4)?)?, text(cache, number(entry, 8)?)?))
    });
    Some(libraries.collect())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn text(bytes: &[u8], at: u32) -> Option<String> {
    let rest = bytes.get(at as usize..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache as `ldconfig` writes it.
    fn cache(libraries: &[(&str, &str, u32)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut entries = Vec::new();
        let start = HEADER + libraries.len() * ENTRY;
        for (name, path, architecture) in libraries {
            let mut place = |text: &str| {
                let at = (start + strings.len()) as u32;
                strings.extend(text.bytes().chain([0]));
                at
            };
            let (name, path) = (place(name), place(path));
            for word in [architecture | 3, name, path, 0, 0, 0] {
                entries.extend(word.to_ne_bytes());
            }
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend((libraries.len() as u32).to_ne_bytes());
        bytes.extend((strings.len() as u32).to_ne_bytes());
        bytes.resize(HEADER, 0);
        [bytes, entries, strings].concat()
    }

    #[test]
    fn only_libraries_of_this_architecture_are_listed() {
        let bytes =
            cache(&[("libcuda.so.1", "/usr/lib/libcuda.so.1", OURS), ("libcuda.so.1", "/usr/lib32/libcuda.so.1", 0)]);
        assert_eq!(parse(&bytes), Some(vec![("libcuda.so.1".to_owned(), "/usr/lib/libcuda.so.1".to_owned())]));
    }

    #[test]
    fn an_older_table_before_the_newer_one_is_passed_over() {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.resize(12, 0);
        bytes.extend(1u32.to_ne_bytes());
        bytes.resize((OLD_HEADER + OLD_ENTRY).next_multiple_of(8), 0);
        bytes.extend(cache(&[("liba.so.1", "/lib/liba.so.1", OURS)]));
        assert_eq!(parse(&bytes).unwrap().len(), 1);
    }

    #[test]
    fn a_cut_cache_and_one_with_wild_numbers_list_less_and_never_panic() {
        let whole = cache(&[("liba.so.1", "/lib/liba.so.1", OURS); 3]);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_none_or(|libraries| libraries.len() <= 3));
        }
        for at in 0..whole.len() {
            let mut wild = whole.clone();
            wild[at] = 0xff;
            assert!(parse(&wild).is_none_or(|libraries| libraries.len() <= 3));
        }
        assert_eq!(parse(b"something else"), None);
    }

    #[test]
    fn the_loader_of_this_machine_wrote_a_cache_that_is_understood() {
        let libraries = read(Path::new("/etc/ld.so.cache")).expect("every Linux that runs these tests has one");
        assert!(libraries.iter().any(|(name, path)| name == "libc.so.6" && path.starts_with('/')));
    }
}
