//! What SFTP says of a file, and how `ls -l` would show it.

use super::Over;
use super::packet::{Fields, Writer};
use market::time::UnixMillis;
use sandbox::{FileChange, FileKind, FileMetadata, FileTime};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 1 << 31;
/// What the permissions hold besides the kind of file.
const PERMISSION_BITS: u32 = 0o7777;

/// What a client says of a file: to be made so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What can be changed.
    pub(super) change: FileChange,
    /// The user and the group that it is to belong to. They cannot be changed: everything belongs to the sandbox's user.
    pub(super) owner: Option<(u32, u32)>,
}

impl Wanted {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Over> {
        let flags = fields.number()?;
        let mut wanted = Self::default();
        if flags & SIZE != 0 {
            wanted.change.size = Some(fields.long()?);
        }
        if flags & OWNER != 0 {
            wanted.owner = Some((fields.number()?, fields.number()?));
        }
        if flags & PERMISSIONS != 0 {
            wanted.change.permissions = Some(fields.number()? & PERMISSION_BITS);
        }
        if flags & TIMES != 0 {
            wanted.change.accessed = Some(moment(fields.number()?));
            wanted.change.modified = Some(moment(fields.number()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..fields.number()? {
                fields.string()?;
                fields.string()?;
            }
        }
        Ok(wanted)
    }

    /// The owner, if nothing else is wanted.
    pub(super) fn owner_alone(&self) -> Option<(u32, u32)> {
        self.owner.filter(|_| self.change == FileChange::default())
    }
}

fn moment(seconds: u32) -> FileTime {
    FileTime { seconds: seconds.into(), nanoseconds: 0 }
}

/// Appends what is known of a file.
pub(super) fn write(out: Writer, file: &FileMetadata) -> Writer {
    out.number(SIZE | OWNER | PERMISSIONS | TIMES)
        .long(file.size)
        .number(file.user)
        .number(file.group)
        .number(kind_bits(file.kind) | file.permissions & PERMISSION_BITS)
        .number(seconds(file.accessed))
        .number(seconds(file.modified))
}

/// Before 1970 and after 2106 there is no time in this version of the protocol.
fn seconds(time: FileTime) -> u32 {
    u32::try_from(time.seconds.max(0)).unwrap_or(u32::MAX)
}

/// The kind of file as Linux keeps it beside the permissions. What is none of these shows as a socket.
fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => 0o100_000,
        FileKind::Directory => 0o040_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Other => 0o140_000,
    }
}

/// The line of `ls -l`, which `sftp` shows as it is.
pub(super) fn long_name(name: &str, file: &FileMetadata) -> String {
    let kind = match file.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Other => 's',
    };
    let bits: String =
        (0..9).map(|bit| if file.permissions >> (8 - bit) & 1 == 1 { ['r', 'w', 'x'][bit % 3] } else { '-' }).collect();
    let modified = UnixMillis(u64::from(seconds(file.modified)) * 1_000).to_string();
    let day = modified.get(..16).unwrap_or_default().replace('T', " ");
    format!("{kind}{bits} {:>4} {:<8} {:<8} {:>10} {day} {name}", file.links, file.user, file.group, file.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileMetadata {
        let time = FileTime { seconds: 1_795_284_726, nanoseconds: 5 };
        FileMetadata {
            kind: FileKind::File,
            permissions: 0o4640,
            size: 1 << 40,
            allocated: 0,
            user: 1000,
            group: 1000,
            links: 2,
            accessed: time,
            modified: time,
        }
    }

    #[test]
    fn what_is_said_of_a_file_can_be_asked_for_again() {
        let packet = write(Writer::new(0, 0), &file()).finish();
        let wanted = Wanted::read(&mut Fields::new(packet.slice(5..))).unwrap();
        let seconds = FileTime { seconds: 1_795_284_726, nanoseconds: 0 };
        let change = FileChange {
            size: Some(1 << 40),
            permissions: Some(0o4640),
            accessed: Some(seconds),
            modified: Some(seconds),
        };
        assert_eq!(wanted, Wanted { change, owner: Some((1000, 1000)) });
    }

    #[test]
    fn a_file_is_shown_as_ls_shows_it() {
        assert_eq!(
            long_name("model.bin", &file()),
            "-rw-r-----    2 1000     1000     1099511627776 2026-11-21 18:12 model.bin"
        );
    }

    #[test]
    fn a_change_of_owner_alone_is_told_from_others() {
        let owner = Writer::new(0, 0).number(OWNER).number(1).number(2).finish();
        assert_eq!(Wanted::read(&mut Fields::new(owner.slice(5..))).unwrap().owner_alone(), Some((1, 2)));
        let extended = Writer::new(0, 0).number(EXTENDED).number(1).string(b"a@b").string(b"c").finish();
        assert_eq!(Wanted::read(&mut Fields::new(extended.slice(5..))).unwrap(), Wanted::default());
        assert!(Wanted::read(&mut Fields::new(&b"\0\0\0\x01"[..])).is_err());
    }
}
