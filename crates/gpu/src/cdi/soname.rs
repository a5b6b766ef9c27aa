//! The name by which a program asks the loader for a library: not the file's, but the one written inside it (`DT_SONAME`). A vendor's
//! files are versioned, `libcuda.so.580.95.05`, and a link under the other name is what the loader's own tool would make.

use object::elf::{DT_SONAME, FileHeader64};
use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, ReadCache, StringTable};
use std::{fs::File, path::Path};

/// The longest such name: a file name's bound.
const MAX_NAME_BYTES: usize = 255;

/// The name that is written in a library; nothing for a file that is none.
pub(super) fn soname(path: &Path) -> Option<String> {
    let data = ReadCache::new(File::open(path).ok()?);
    let name = read(&data).ok().flatten()?;
    let plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(['/', '\0']);
    plain.then_some(name)
}

fn read(data: &ReadCache<File>) -> object::Result<Option<String>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some((entries, strings)) = sections.dynamic(endian, data)? else { return Ok(None) };
    let strings: StringTable<'_, _> = sections.strings(endian, data, strings)?;
    let entry = entries.iter().find(|entry| entry.tag(endian) == DT_SONAME);
    let name = entry.and_then(|entry| strings.get(u32::try_from(entry.val(endian)).ok()?).ok());
    Ok(name.map(|name| String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_says_its_name_and_other_files_say_nothing() {
        let library = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].map(Path::new);
        let library = library.into_iter().find(|path| path.exists()).unwrap();
        assert_eq!(soname(library).as_deref(), library.file_name().and_then(|name| name.to_str()));
        assert_eq!(soname(&std::env::current_exe().unwrap()), None);
        assert_eq!(soname(Path::new("/etc/passwd")), None);
        assert_eq!(soname(Path::new("/absent")), None);
    }
}
