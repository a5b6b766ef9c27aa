//! Commands and shells.

use crate::world::{GREETING, World, fed, noise, runs, said, until, within};
use access::ssh::Way;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_its_output_its_errors_and_its_exit_code() {
    let world = World::new().await;
    let output = world.ssh(&["rental", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(world.ssh(&["rental", "no-such-program"]).await.status.code(), Some(127));
    // what a signal ends has no exit code, and ssh says so in its own way
    assert_eq!(world.ssh(&["rental", "kill -9 $$"]).await.status.code(), Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_a_terminal_is_greeted_and_what_a_program_reads_is_not() {
    let world = World::new().await;
    let pipe = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & trap 'kill $!' EXIT; cat >&3", world.trusting_port);
    world.write_configuration(&Way::Command(vec!["bash".into(), "-c".into(), pipe]));
    let greeted = async |options: &[&str]| {
        let mut command = world.client("ssh");
        command.args(options);
        let output = fed(command, b"exit\n".to_vec()).await;
        String::from_utf8_lossy(&output.stdout).starts_with(GREETING)
    };
    assert!(greeted(&["-tt", "rental"]).await);
    assert!(!greeted(&["-T", "rental"]).await, "what reads a shell is no person");
    assert!(!greeted(&["-tt", "rental", "echo"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_the_clients_configuration_arrive() {
    let world = World::new().await;
    let output = world.ssh(&["-o", "SetEnv=GREETING=\"an nyeong\"", "rental", "echo \"$GREETING\""]).await;
    assert_eq!(said(output), "an nyeong\n");
    assert_eq!(world.inside("test -n \"$SSH_CONNECTION\" && echo $HOME $SHELL $0").await, "/job /bin/bash /bin/bash\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_goes_to_its_end_and_comes_back_whole() {
    let world = World::new().await;
    let sent = noise(5_000_000);
    let mut command = world.client("ssh");
    command.args(["rental", "cat"]);
    let output = fed(command, sent.clone()).await;
    assert!(output.status.success(), "{:?}", output.status);
    assert!(output.stdout == sent, "{} bytes came back", output.stdout.len());
    // a program that wants no more than the beginning is not waited for
    let mut command = world.client("ssh");
    command.args(["rental", "head -c 5"]);
    assert_eq!(fed(command, sent.clone()).await.stdout, &sent[..5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_arrive_to_their_end_in_a_terminal_and_in_single_bytes_on_both_streams() {
    let world = World::new().await;
    let output = world.ssh(&["-tt", "rental", "seq 300000; echo the end"]).await;
    assert!(output.stdout.ends_with(b"300000\r\nthe end\r\n"), "{} bytes", output.stdout.len());
    // So small that what is kept of them is mostly not their bytes.
    let script = "i=0; while [ $i -lt 40000 ]; do echo; echo >&2; i=$((i+1)); done; echo the end";
    let output = world.ssh(&["rental", script]).await;
    assert_eq!((output.stdout.len(), output.stderr.len()), (40_008, 40_000));
}

/// A terminal of this machine, with `ssh` in it.
struct Screen {
    master: File,
    shown: String,
}

impl Screen {
    fn start(world: &World, size: (u16, u16), arguments: &[&str]) -> (Self, tokio::process::Child) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let screen = Self { master: master.into(), shown: String::new() };
        screen.resize(size);
        let ssh = world.client("ssh");
        let mut command = tokio::process::Command::new("setsid");
        command.args(["--ctty", "--wait", "ssh"]).args(ssh.as_std().get_args()).args(arguments).kill_on_drop(true);
        let three = || terminal.try_clone().unwrap();
        let child = command.env("TERM", "vt220").stdin(three()).stdout(three()).stderr(three()).spawn().unwrap();
        (screen, child)
    }

    fn resize(&self, (columns, rows): (u16, u16)) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    async fn shows(&mut self, text: &str) {
        let mut master = self.master.try_clone().unwrap();
        let (mut shown, text) = (std::mem::take(&mut self.shown), text.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 1024];
            while !shown.contains(&text) {
                match master.read(&mut buffer) {
                    Ok(0) | Err(_) => panic!("no `{text}` in {shown:?}"),
                    Ok(n) => shown.push_str(&String::from_utf8_lossy(&buffer[..n])),
                }
            }
            shown
        });
        self.shown = within("the terminal", reading).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_clients_size_and_follows_it() {
    let world = World::new().await;
    let script = "tty; echo $TERM; stty size; while [ \"$(stty size)\" = '30 100' ]; do sleep 0.02; done; stty size";
    let (mut screen, mut ssh) = Screen::start(&world, (100, 30), &["-tt", "rental", script]);
    screen.shows("/dev/pts/").await;
    screen.shows("vt220\r\n30 100\r\n").await;
    screen.resize((121, 41));
    screen.shows("41 121\r\n").await;
    assert!(within("ssh", ssh.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_typed_into_and_interrupted() {
    let world = World::new().await;
    let (mut screen, mut ssh) = Screen::start(&world, (80, 24), &["rental"]);
    screen.master.write_all(b"echo $((6 * 7)); sleep 31337.5\n").unwrap();
    screen.shows("42\r\n").await;
    until("the program inside", || runs(&["sleep", "31337.5"])).await;
    screen.master.write_all(&[3]).unwrap();
    until("the program's end", || !runs(&["sleep", "31337.5"])).await;
    screen.master.write_all(b"exit 5\n").unwrap();
    assert_eq!(within("ssh", ssh.wait()).await.unwrap().code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_client_had_running_is_gone_within_two_seconds() {
    let world = World::new().await;
    for (terminal, seconds) in [("-T", "41414.5"), ("-tt", "42424.5")] {
        let mut command = world.client("ssh");
        let mut ssh =
            command.args([terminal, "rental", &format!("sleep {seconds} & sleep {seconds}")]).spawn().unwrap();
        until("the programs inside", || runs(&["sleep", seconds])).await;
        let before = Instant::now();
        ssh.kill().await.unwrap();
        until("their end", || !runs(&["sleep", seconds])).await;
        assert!(before.elapsed() < Duration::from_secs(2), "{:?} with {terminal}", before.elapsed());
    }
}
