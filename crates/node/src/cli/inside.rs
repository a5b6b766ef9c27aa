//! What is done inside a rental: `node ssh`, `exec`, `logs`, `forward`, `top`.

use super::{parse_rental, parse_variable};
use clap::Args;

/// `node ssh`
#[derive(Debug, Args)]
#[command(after_help = "\
Opens a shell in the rental, over the connection that the daemon has: no port is open there and no
SSH server runs. A connection that breaks is taken up again where it broke. Enter, ~ and . leave a
shell that does not answer.

For ssh itself, scp, sftp, rsync and editors: node ssh-config.

Examples:
  node ssh 0xabcd
  node ssh 0xabcd -- nvidia-smi -l 1")]
pub(crate) struct Ssh {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// A program to run instead of the shell, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) argv: Vec<String>,
}

/// `node exec`
#[derive(Debug, Args)]
#[command(after_help = "\
Runs one more program beside the rental's job. Its input, output and errors are this command's, and
so is its exit code (128+n after signal n), or 125 when gpulease itself failed. Interrupts are passed
on; when this command dies, so does what it ran.

Examples:
  node exec 0xabcd -- df -h /job
  node exec 0xabcd --env STEP=3 --cwd /job/src -- ./check
  node exec 0xabcd -- tar c -C /job out | tar x
  node exec 0xabcd --tty -- python3")]
pub(crate) struct Exec {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// Run it in a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// The folder to run it in [default: /job]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// An environment variable for the program; a name alone passes yours on. May be repeated
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) argv: Vec<String>,
}

/// `node logs`
#[derive(Debug, Args)]
#[command(after_help = "\
The output of the rental's job, from its beginning: standard output and errors as they were. The
sandbox keeps the last of it; what came before is named as a gap.

Examples:
  node logs 0xabcd
  node logs 0xabcd --follow | tee job.log")]
pub(crate) struct Logs {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// Go on until the job has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// `node forward`
#[derive(Debug, Args)]
#[command(after_help = "\
Ports of this machine's loopback that lead to what listens inside the rental, until Ctrl-C. A port
alone is the same on both sides; 0 takes a free one here. With -R the other way round: ports inside
that lead to what listens here, or where this machine can reach it.

Examples:
  node forward 0xabcd 8888                         a notebook
  node forward 0xabcd 9000:6006 0:/run/app.sock    two at once, one to a Unix socket
  node forward 0xabcd -R 5432:localhost:5432       a database of this machine, for the rental")]
pub(crate) struct Forward {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// [PORT HERE:]PORT INSIDE, or PORT HERE:/PATH/OF/SOCKET
    #[arg(required_unless_present = "back", value_name = "PORTS", value_parser = crate::commands::parse_forwarding)]
    pub(crate) ports: Vec<crate::commands::Forwarding>,
    /// [ADDRESS INSIDE:]PORT INSIDE:HOST:PORT, as for ssh; on loopback inside unless said otherwise. May be repeated
    #[arg(short = 'R', long = "back", value_name = "PORTS", value_parser = crate::commands::parse_back)]
    pub(crate) back: Vec<crate::commands::Back>,
}

/// `node top`
#[derive(Debug, Args)]
#[command(after_help = "\
What the rental uses, once a second: processors, memory, disk, network and cards. As JSON one line a
second.

Examples:
  node top 0xabcd
  node top 0xabcd --json | jq .gpus[0].utilisation_percent")]
pub(crate) struct Top {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
}

/// `node cp`
#[derive(Debug, Args)]
#[command(after_help = "\
Copies files between this machine and a rental, whose side is written ID:PATH or LABEL:PATH; a path there
that is not absolute begins in /job, and may have patterns. Permissions, times, links and holes are kept. What is
there already, by length and time, is not copied again; a copy that was broken off goes on where it
was, and a large file is put in its place only when its hash is the same at both ends.

Examples:
  node cp data.tar 0xabcd:                     into /job
  node cp -r ./src ./conf 0xabcd:/job/work
  node cp 'train:checkpoints/*.pt' ./best")]
pub(crate) struct Cp {
    /// Folders too, with everything in them
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// What to copy, and last where to: paths here, or ID:PATH or LABEL:PATH in a rental
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    pub(crate) paths: Vec<String>,
}

/// `node ssh-config`
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the block by which ssh, scp, sftp, rsync, git and editors reach the rental under a name. SSH ends
on this machine, in `node ssh-proxy`, and its host key follows from the provider's identity: it is
written down with the block, so nobody asks you to believe a fingerprint.

For clients that cannot start a program for their connection, --listen serves SSH at a port of this
machine's loopback until Ctrl-C. Every user of the machine can reach that port, so it asks for the key
that the block names, which is in the data directory, and for no password.

Examples:
  node ssh-config 0xabcd --name gpu >> ~/.ssh/config && ssh gpu
  node ssh-config train --listen 4022
  node ssh-config 0xabcd > /tmp/gpu && rsync -e 'ssh -F /tmp/gpu' -a ./src 0xabcd:")]
pub(crate) struct SshConfig {
    /// Serve SSH at this port of 127.0.0.1, until Ctrl-C; 0, or no port, takes a free one
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    pub(crate) listen: Option<u16>,
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// What to call it [default: the id as given]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
}

/// `node ssh-proxy`
#[derive(Debug, Args)]
#[command(after_help = "\
Speaks SSH on standard input and output, for ssh's ProxyCommand: `node ssh-config` writes it down.

Examples:
  node ssh-proxy 0xabcd")]
pub(crate) struct SshProxy {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
}
