//! The user that an image names for its programs, as the image's own `/etc/passwd` and `/etc/group` know it. Both are a stranger's files:
//! they are read up to a bound, without waiting, and what cannot be read in them is no user. Nothing depends on them outside: every number
//! here is one of the sandbox's own users.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// The most bytes of either file: ten thousand users.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// The most groups that one user is in, of those that Linux allows.
const MAX_GROUPS: usize = 1_024;

/// The users and groups that a sandbox has: 0 to this, less one.
const USERS: u32 = 65_536;

/// The name of user 0.
pub(crate) const ROOT: &str = "root";

/// The error number by which a child says that it could not become its user. No step of executing a program yields it.
pub(crate) const NOT_BECOME: i32 = libc::EUSERS;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The other groups it is in.
    pub(crate) groups: Vec<u32>,
    /// Its name, if it has one.
    pub(crate) name: Option<String>,
}

impl User {
    /// The user named so in this sandbox, or why there is none: `USER` or `USER:GROUP`, each a name or a number.
    pub(crate) fn inside(named: &str) -> Result<User, String> {
        let read = |path: &str| accounts(path).map_err(|error| format!("{path} of the image: {error}"));
        find(named, &read("/etc/passwd")?, &read("/etc/group")?)
    }
}

/// One of the files; nothing if it is not there.
fn accounts(path: &str) -> io::Result<String> {
    // a pipe is not waited for
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_ACCOUNTS + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ACCOUNTS {
        return Err(io::Error::other(format!("it has more than {MAX_ACCOUNTS} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The rule that container engines follow: a number needs no entry, and its group is 0 without one; a group that is named is the only one.
fn find(named: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, wanted) = match named.split_once(':') {
        Some((user, wanted)) => (user, Some(wanted).filter(|wanted| !wanted.is_empty())),
        None => (named, None),
    };
    let none = |what: &str, name: &str, file: &str| {
        format!("the image's programs run as the {what} `{}`, which its {file} does not have", name.escape_debug())
    };
    let number = number(user);
    let entry = lines(passwd).find(|fields| match number {
        Some(number) => fields.get(2).and_then(|uid| self::number(uid)) == Some(number),
        None => fields.first() == Some(&user),
    });
    let field = |at: usize| entry.as_ref().and_then(|fields| fields.get(at)).and_then(|field| self::number(field));
    let uid = number.or(field(2)).ok_or_else(|| none("user", user, "/etc/passwd"))?;
    let name = entry.as_ref().and_then(|fields| fields.first()).map(|name| (*name).to_owned());
    let by_name = |wanted: &str| {
        let named = lines(group).find(|fields| fields.first() == Some(&wanted));
        named.and_then(|fields| self::number(fields.get(2)?))
    };
    let (gid, groups) = match wanted {
        Some(wanted) => {
            let gid = self::number(wanted).or_else(|| by_name(wanted));
            (gid.ok_or_else(|| none("group", wanted, "/etc/group"))?, Vec::new())
        }
        None => (field(3).unwrap_or(0), name.as_deref().map(|name| member_of(name, group)).unwrap_or_default()),
    };
    match [uid, gid].iter().chain(&groups).find(|number| **number >= USERS) {
        Some(number) => {
            Err(format!("the image's programs run as {number}: a sandbox has users and groups 0 to {}", USERS - 1))
        }
        None => Ok(User { uid, gid, groups, name }),
    }
}

/// The groups that name a user among their members.
fn member_of(name: &str, group: &str) -> Vec<u32> {
    let has = |fields: &Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
    lines(group).filter(has).filter_map(|fields| number(fields.get(2)?)).take(MAX_GROUPS).collect()
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim().split(':').collect())
}

/// A number as such files and images write it. `u32::parse` would also take a sign.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Makes this process another user's, with both outputs, for good. Between creating a process and executing its program: nothing is
/// allocated, and the kernel is asked directly, since the C library would speak to threads that are not there.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: plain numbers, and a slice that is read.
    let done = unsafe {
        // programs open `/dev/stdout` by name, which only its owner may
        libc::fchown(1, uid, gid);
        libc::fchown(2, uid, gid);
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    if done { Ok(()) } else { Err(io::Error::from_raw_os_error(NOT_BECOME)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a note\nbroken\napp:x:1000:100:App:/home/app:/bin/sh\n\
        7:x:8:9::/:/bin/sh\nfar:x:70000:1::/:/bin/sh\nodd:x:many:1::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nvideo:x:44:other,app\naudio:x:29:app\nnear:x:7:apple\nbad:x:-1:app\n";

    fn found(named: &str) -> (u32, u32, Vec<u32>, Option<String>) {
        let User { uid, gid, groups, name } = find(named, PASSWD, GROUP).unwrap();
        (uid, gid, groups, name)
    }

    #[test]
    fn a_name_has_its_number_its_group_and_the_groups_that_list_it() {
        assert_eq!(found("app"), (1000, 100, vec![44, 29], Some("app".into())));
        assert_eq!(found("app:"), found("app"));
        assert_eq!(found("root"), (0, 0, vec![], Some("root".into())));
    }

    #[test]
    fn a_number_needs_no_entry_and_has_one_if_there_is_one() {
        assert_eq!(found("1000"), found("app"));
        assert_eq!(found("4711"), (4711, 0, vec![], None));
        assert_eq!(found("4711:12"), (4711, 12, vec![], None));
        assert_eq!(found("7"), (7, 0, vec![], None), "a name of digits is no number");
    }

    #[test]
    fn a_group_that_is_named_is_the_only_one() {
        assert_eq!(found("app:video"), (1000, 44, vec![], Some("app".into())));
        assert_eq!(found("1000:44"), (1000, 44, vec![], Some("app".into())));
    }

    #[test]
    fn what_is_not_there_or_no_number_of_a_sandbox_is_refused_with_its_name() {
        let refused = |named: &str| find(named, PASSWD, GROUP).unwrap_err();
        assert!(refused("nobody").contains("`nobody`, which its /etc/passwd"), "{}", refused("nobody"));
        assert!(refused("app:wheel").contains("`wheel`, which its /etc/group"), "{}", refused("app:wheel"));
        assert!(refused("odd").contains("`odd`") && refused("").contains("``") && refused("-1").contains("`-1`"));
        assert!(refused("a\u{1b}b").contains("a\\u{1b}b"));
        for far in ["far", "65536", "1:65536", "4294967295"] {
            assert!(refused(far).contains("0 to 65535"), "{far}");
        }
        assert!(refused("99999999999").contains("does not have"));
        assert_eq!(find("5", "", "").unwrap().gid, 0);
    }
}
