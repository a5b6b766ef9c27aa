//! What the usual hooks of NVIDIA's toolkit would do, read from their arguments, so that a sandbox can do it without running them: make
//! symbolic links, and tell the loader where libraries are.

use super::{
    check,
    edits::{Folder, Link},
    error::Fault,
    spec::Hook,
};

/// Whether a hook only does what is done here in its stead.
pub(super) enum Meaning {
    /// Symbolic links.
    Links(Vec<Link>),
    /// Folders for the loader's cache.
    Folders(Vec<Folder>),
    /// Something else.
    Other,
}

/// The meaning of a hook. `nvidia-cdi-hook create-symlinks --link TARGET::PATH …` and `… update-ldcache --folder PATH …` are known, also
/// as sub-commands of `nvidia-ctk hook`.
pub(super) fn meaning(hook: &Hook) -> Result<Meaning, Fault> {
    let program = hook.path.rsplit('/').next().unwrap_or_default();
    if !matches!(program, "nvidia-cdi-hook" | "nvidia-ctk") {
        return Ok(Meaning::Other);
    }
    let command = hook.args.iter().skip(1).find(|argument| *argument != "hook").map(String::as_str);
    match command {
        Some("create-symlinks") => Ok(Meaning::Links(values(hook, "--link").map(link).collect::<Result<_, _>>()?)),
        Some("update-ldcache") => Ok(Meaning::Folders(values(hook, "--folder").map(folder).collect::<Result<_, _>>()?)),
        _ => Ok(Meaning::Other),
    }
}

/// What follows an option: `--link X` or `--link=X`, as often as it stands there.
fn values<'a>(hook: &'a Hook, option: &'a str) -> impl Iterator<Item = &'a str> {
    let mut arguments = hook.args.iter().map(String::as_str);
    std::iter::from_fn(move || {
        loop {
            let argument = arguments.next()?;
            if argument == option {
                return arguments.next();
            }
            if let Some(value) = argument.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value);
            }
        }
    })
}

fn folder(text: &str) -> Result<Folder, Fault> {
    check::place(text)?;
    Ok(Folder(text.to_owned()))
}

/// The target may be relative and go up, as links between folders of libraries do, but not above the root.
fn link(text: &str) -> Result<Link, Fault> {
    let refuse = || Fault::Path { path: text.chars().take(check::MAX_VALUE_BYTES).collect() };
    let (target, path) = text.split_once("::").ok_or_else(refuse)?;
    check::place(path)?;
    if target.is_empty() || text.len() > check::MAX_VALUE_BYTES || target.chars().any(char::is_control) {
        return Err(refuse());
    }
    let mut depth = if target.starts_with('/') { 0 } else { path.matches('/').count() - 1 };
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        depth = if part == ".." { depth.checked_sub(1).ok_or_else(refuse)? } else { depth + 1 };
    }
    Ok(Link { path: path.into(), target: target.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(args: &[&str]) -> Hook {
        Hook {
            hook_name: "createContainer".to_owned(),
            path: "/usr/bin/nvidia-cdi-hook".to_owned(),
            args: args.iter().map(|&argument| argument.to_owned()).collect(),
            ..Hook::default()
        }
    }

    #[test]
    fn links_are_read_in_both_spellings_and_stay_inside() {
        let both = hook(&[
            "nvidia-ctk",
            "hook",
            "create-symlinks",
            "--link",
            "a.so.1::/usr/lib/a.so",
            "--link=../b::/usr/lib/x/b",
        ]);
        let Ok(Meaning::Links(links)) = meaning(&both) else { panic!("links") };
        let link = |target: &str, path: &str| Link { path: path.into(), target: target.into() };
        assert_eq!(links, [link("a.so.1", "/usr/lib/a.so"), link("../b", "/usr/lib/x/b")]);

        for wrong in
            ["../../../../x::/usr/lib/a", "x", "::/usr/lib/a", "x::usr/lib/a", "x::/proc/a", "/../x::/usr/lib/a"]
        {
            assert!(meaning(&hook(&["nvidia-cdi-hook", "create-symlinks", "--link", wrong])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn another_program_with_the_same_arguments_is_another_hook() {
        let mut stranger = hook(&["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib64"]);
        assert!(
            matches!(meaning(&stranger), Ok(Meaning::Folders(folders)) if folders == [Folder("/usr/lib64".to_owned())])
        );
        stranger.path = "/opt/other".to_owned();
        assert!(matches!(meaning(&stranger), Ok(Meaning::Other)));
    }
}
