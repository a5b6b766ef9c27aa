//! What a client of SFTP can ask.

use super::{Over, attributes::Wanted, packet::Fields};
use tokio_util::bytes::Bytes;

/// A client's request. Paths are as the client gave them; handles are numbers that [`super::desk`] gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Init,
    Open { path: Bytes, flags: u32, wanted: Wanted },
    Close(u32),
    Read { handle: u32, offset: u64, length: u32 },
    Write { handle: u32, offset: u64, data: Bytes },
    Stat { path: Bytes, follow: bool },
    StatOpen(u32),
    Set { path: Bytes, follow: bool, wanted: Wanted },
    SetOpen { handle: u32, wanted: Wanted },
    OpenDirectory(Bytes),
    List(u32),
    Remove(Bytes),
    MakeDirectory { path: Bytes, wanted: Wanted },
    RemoveDirectory(Bytes),
    RealPath(Bytes),
    Rename { from: Bytes, to: Bytes, replace: bool },
    ReadLink(Bytes),
    Symlink { target: Bytes, path: Bytes },
    Link { from: Bytes, to: Bytes },
    Space(Bytes),
    SpaceOpen(u32),
    Sync(u32),
    Limits,
    ExpandPath(Bytes),
    Unknown,
}

/// How a file is opened (`SSH_FXF_…`).
pub(super) mod flag {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
    pub(in super::super) const APPEND: u32 = 4;
    pub(in super::super) const CREATE: u32 = 8;
    pub(in super::super) const TRUNCATE: u32 = 16;
    pub(in super::super) const EXCLUSIVE: u32 = 32;
}

/// Reads a request and the number that its reply is to bear. The first, which has none, is given 0.
pub(super) fn read(mut fields: Fields) -> Result<(u32, Request), Over> {
    let kind = fields.byte()?;
    if kind == 1 {
        return Ok((0, Request::Init));
    }
    let id = fields.number()?;
    let f = &mut fields;
    let request = match kind {
        3 => Request::Open { path: f.string()?, flags: f.number()?, wanted: Wanted::read(f)? },
        4 => Request::Close(handle(f)?),
        5 => Request::Read { handle: handle(f)?, offset: f.long()?, length: f.number()? },
        6 => Request::Write { handle: handle(f)?, offset: f.long()?, data: f.string()? },
        7 => Request::Stat { path: f.string()?, follow: false },
        8 => Request::StatOpen(handle(f)?),
        9 => Request::Set { path: f.string()?, follow: true, wanted: Wanted::read(f)? },
        10 => Request::SetOpen { handle: handle(f)?, wanted: Wanted::read(f)? },
        11 => Request::OpenDirectory(f.string()?),
        12 => Request::List(handle(f)?),
        13 => Request::Remove(f.string()?),
        14 => Request::MakeDirectory { path: f.string()?, wanted: Wanted::read(f)? },
        15 => Request::RemoveDirectory(f.string()?),
        16 => Request::RealPath(f.string()?),
        17 => Request::Stat { path: f.string()?, follow: true },
        18 => Request::Rename { from: f.string()?, to: f.string()?, replace: false },
        19 => Request::ReadLink(f.string()?),
        // the draft has them the other way round, and OpenSSH, which everybody follows, has them so
        20 => Request::Symlink { target: f.string()?, path: f.string()? },
        200 => extended(f)?,
        _ => Request::Unknown,
    };
    Ok((id, request))
}

fn extended(f: &mut Fields) -> Result<Request, Over> {
    Ok(match &*f.string()? {
        b"posix-rename@openssh.com" => Request::Rename { from: f.string()?, to: f.string()?, replace: true },
        b"hardlink@openssh.com" => Request::Link { from: f.string()?, to: f.string()? },
        b"statvfs@openssh.com" => Request::Space(f.string()?),
        b"fstatvfs@openssh.com" => Request::SpaceOpen(handle(f)?),
        b"fsync@openssh.com" => Request::Sync(handle(f)?),
        b"lsetstat@openssh.com" => Request::Set { path: f.string()?, follow: false, wanted: Wanted::read(f)? },
        b"limits@openssh.com" => Request::Limits,
        b"expand-path@openssh.com" => Request::ExpandPath(f.string()?),
        _ => Request::Unknown,
    })
}

/// A handle's number. What none of ours looks like stands for none that is open.
fn handle(f: &mut Fields) -> Result<u32, Over> {
    Ok(f.string()?.as_ref().try_into().map_or(0, u32::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::{super::packet::Writer, *};

    fn fields(packet: Writer) -> Fields {
        Fields::new(packet.finish().slice(4..))
    }

    #[test]
    fn requests_are_read_with_their_numbers() {
        let packet = Writer::new(5, 0).number(7).string(&3_u32.to_be_bytes()).long(1 << 33).number(32_768);
        let read = super::read(fields(packet)).unwrap();
        assert_eq!(read, (7, Request::Read { handle: 3, offset: 1 << 33, length: 32_768 }));
        let packet = Writer::new(200, 0).number(8).string(b"posix-rename@openssh.com").string(b"a").string(b"b");
        let rename = Request::Rename { from: "a".into(), to: "b".into(), replace: true };
        assert_eq!(super::read(fields(packet)).unwrap(), (8, rename));
        assert_eq!(super::read(fields(Writer::new(1, 0).number(3))).unwrap(), (0, Request::Init));
    }

    #[test]
    fn what_is_not_known_is_no_error_and_what_is_cut_short_is_one() {
        let packet = Writer::new(200, 0).number(9).string(b"copy-data");
        assert_eq!(super::read(fields(packet)).unwrap(), (9, Request::Unknown));
        assert_eq!(super::read(fields(Writer::new(99, 0).number(9))).unwrap(), (9, Request::Unknown));
        assert!(super::read(fields(Writer::new(6, 0).number(9).string(b"four").long(0).number(5))).is_err());
    }

    #[test]
    fn a_strange_handle_is_one_that_is_not_open() {
        assert_eq!(
            super::read(fields(Writer::new(4, 0).number(9).string(b"strange"))).unwrap(),
            (9, Request::Close(0))
        );
    }
}
