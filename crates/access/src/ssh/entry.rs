//! What `ssh` has to know of a rental, as the `Host` block of an `ssh_config` file.

use super::HostKey;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// How `ssh` gets to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It runs this program and speaks to its input and output. What it runs it starts anew for each connection.
    Command(Vec<String>),
    /// It connects to this port of its own machine and proves that it has the key in this file.
    Port {
        /// The port of 127.0.0.1.
        port: u16,
        /// The file that holds a [`ClientKey`](super::ClientKey).
        identity: PathBuf,
    },
}

/// A `Host` block. It is written when it is displayed.
#[derive(Clone, Debug)]
pub struct HostEntry<'a> {
    names: Vec<&'a str>,
    key_alias: &'a str,
    known_hosts: String,
    way: Vec<String>,
}

/// Why no block can be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It would be read as a pattern, as an option, or as more than one name.
    #[error("`{}` cannot be the name of a host: use letters, digits, `.`, `-` and `_`", .0.escape_debug())]
    Name(String),
    /// `ssh` would expand it, or end the line in it.
    #[error("`{}` cannot be written in an ssh configuration", .0.escape_debug())]
    Text(String),
}

impl<'a> HostEntry<'a> {
    /// The block for a rental that goes by these names, of the provider with this key, which is in the file `known_hosts`.
    pub fn new(names: &[&'a str], key: &'a HostKey, known_hosts: &Path, way: &Way) -> Result<Self, EntryError> {
        if let Some(bad) = names.iter().find(|name| !is_host_name(name)) {
            return Err(EntryError::Name((*bad).to_owned()));
        }
        let known_hosts = quoted_path(known_hosts)?;
        let way = match way {
            Way::Command(words) => {
                let words = words.iter().map(|word| shell_word(word)).collect::<Result<Vec<_>, _>>()?;
                vec![format!("ProxyCommand {}", words.join(" "))]
            }
            Way::Port { port, identity } => vec![
                "HostName 127.0.0.1".into(),
                format!("Port {port}"),
                format!("IdentityFile {}", quoted_path(identity)?),
                "IdentitiesOnly yes".into(),
            ],
        };
        Ok(Self { names: names.to_vec(), key_alias: key.alias(), known_hosts, way })
    }
}

impl fmt::Display for HostEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Host {}", self.names.join(" "))?;
        for line in &self.way {
            writeln!(f, "    {line}")?;
        }
        // the sandbox has one user, whatever name is given
        writeln!(f, "    User gpulease")?;
        writeln!(f, "    HostKeyAlias {}", self.key_alias)?;
        writeln!(f, "    UserKnownHostsFile {}", self.known_hosts)?;
        writeln!(f, "    StrictHostKeyChecking yes")?;
        // the server end is this machine: a fast cipher, nothing to compress, no address to look at
        writeln!(f, "    Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com")?;
        writeln!(f, "    Compression no")?;
        writeln!(f, "    CheckHostIP no")?;
        writeln!(
            f,
            "    # A new connection costs no round trip to the provider, so ControlMaster gains little here; it works if you set it."
        )
    }
}

fn is_host_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// A path between double quotes. `ssh` expands `%` and `${…}` in it; the first can be doubled, for the second there is no way out.
fn quoted_path(path: &Path) -> Result<String, EntryError> {
    let text = path.to_str().ok_or_else(|| EntryError::Text(path.display().to_string()))?;
    if text.contains(char::is_control) || text.contains("${") {
        return Err(EntryError::Text(text.to_owned()));
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    Ok(format!("\"{escaped}\""))
}

/// A word of a command: `ssh` expands `%` in it and gives the rest to the user's shell.
fn shell_word(word: &str) -> Result<String, EntryError> {
    if word.contains(char::is_control) {
        return Err(EntryError::Text(word.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+,:@".contains(c);
    let doubled = word.replace('%', "%%");
    Ok(match !word.is_empty() && word.chars().all(plain) {
        true => doubled,
        false => format!("'{}'", doubled.replace('\'', "'\\''")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey::derive(&[7; 32], &"12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse().unwrap())
    }

    #[test]
    fn a_block_names_the_command_the_key_and_where_it_is_known() {
        let key = key();
        let command = Way::Command(vec!["/usr/lib/gpulease/node".into(), "ssh-proxy".into(), "0x1234abcd".into()]);
        let entry =
            HostEntry::new(&["training", "1234abcd"], &key, Path::new("/home/a/known_hosts"), &command).unwrap();
        let text = entry.to_string();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Host training 1234abcd"));
        assert_eq!(lines.next(), Some("    ProxyCommand /usr/lib/gpulease/node ssh-proxy 0x1234abcd"));
        assert!(text.contains(&format!("\n    HostKeyAlias {}\n", key.alias())), "{text}");
        assert!(text.contains("\n    UserKnownHostsFile \"/home/a/known_hosts\"\n"), "{text}");
        assert!(text.contains("\n    StrictHostKeyChecking yes\n"), "{text}");
    }

    #[test]
    fn a_port_is_reached_with_its_key_alone() {
        let key = key();
        let way = Way::Port { port: 4022, identity: "/home/a/id".into() };
        let text = HostEntry::new(&["training"], &key, Path::new("/k"), &way).unwrap().to_string();
        for line in ["HostName 127.0.0.1", "Port 4022", "IdentityFile \"/home/a/id\"", "IdentitiesOnly yes"] {
            assert!(text.contains(&format!("\n    {line}\n")), "{line}: {text}");
        }
    }

    #[test]
    fn words_reach_the_command_as_they_are() {
        assert_eq!(shell_word("/opt/my tools/it's 100%").unwrap(), r"'/opt/my tools/it'\''s 100%%'");
        assert_eq!(shell_word("").unwrap(), "''");
        assert_eq!(shell_word("$(reboot)").unwrap(), "'$(reboot)'");
        assert_eq!(quoted_path(Path::new("/a \"b\\c%d")).unwrap(), r#""/a \"b\\c%%d""#);
    }

    #[test]
    fn nothing_can_smuggle_a_line_or_a_pattern_into_a_block() {
        let key = key();
        let command = Way::Command(vec!["node".into()]);
        for name in ["*", "a b", "-oProxyCommand", "", "a\nHost *", "!a"] {
            let entry = HostEntry::new(&[name], &key, Path::new("/k"), &command);
            assert_eq!(entry.unwrap_err(), EntryError::Name(name.into()));
        }
        assert!(HostEntry::new(&["a"], &key, Path::new("/k\nProxyCommand reboot"), &command).is_err());
        assert!(HostEntry::new(&["a"], &key, Path::new("/${HOME}"), &command).is_err());
        assert!(HostEntry::new(&["a"], &key, Path::new("/k"), &Way::Command(vec!["a\nb".into()])).is_err());
    }
}
