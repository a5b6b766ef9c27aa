//! Every way out that is known to have worked somewhere, tried from inside. Each test says what is tried and what stands in the way; the
//! attempts themselves are in `attempts`, tests of this program that run in the sandbox.

mod attempts;

use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use sandbox::{ProcessSpec, SandboxSpec};
use tokio::io::AsyncReadExt;

use crate::support::{Bench, exec, on_every_backend, run_inside, small, tar_of, untar};

/// Runs one attempt in a fresh sandbox, which must be as good as new afterwards.
async fn attempt(bench: &Bench, name: &str, env: &[(&str, String)]) {
    let sandbox = bench.sandbox(&small()).await;
    run_inside(&sandbox, &format!("escape::attempts::{name}"), env).await;
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn mounting_by_the_old_calls_and_the_new_ones_is_refused_by_the_filter(bench: Bench) {
    attempt(&bench, "mount", &[]).await;
}

async fn the_control_groups_release_agent_is_out_of_reach_because_no_control_group_can_be_seen_or_mounted(
    bench: Bench,
) {
    attempt(&bench, "release_agent", &[]).await;
}

async fn an_overlay_cannot_be_mounted_and_the_own_one_takes_neither_its_marks_nor_file_capabilities(bench: Bench) {
    attempt(&bench, "overlay", &[]).await;
}

async fn a_program_that_changes_the_user_changes_nothing_because_privileges_cannot_grow(bench: Bench) {
    attempt(&bench, "set_user_id", &[]).await;
}

async fn device_nodes_can_neither_be_made_nor_found(bench: Bench) {
    attempt(&bench, "device_nodes", &[]).await;
}

async fn processes_outside_have_no_numbers_inside_and_the_agent_cannot_be_traced_or_read(bench: Bench) {
    attempt(&bench, "trace", &[("OUTSIDE", std::process::id().to_string())]).await;
}

async fn settings_of_the_kernel_are_read_only_and_the_dangerous_files_are_not_there(bench: Bench) {
    attempt(&bench, "kernel_settings", &[]).await;
}

async fn namespaces_can_be_neither_nested_nor_entered(bench: Bench) {
    attempt(&bench, "namespaces", &[]).await;
}

async fn io_uring_bpf_keys_and_other_wide_doors_of_the_kernel_are_closed_by_the_filter(bench: Bench) {
    attempt(&bench, "wide_doors", &[]).await;
}

async fn calls_of_the_other_word_length_do_not_pass_the_filter(bench: Bench) {
    attempt(&bench, "other_word_length", &[]).await;
}

async fn users_outside_the_range_do_not_exist_inside(bench: Bench) {
    attempt(&bench, "users", &[]).await;
}

async fn the_network_cannot_be_changed_and_raw_packets_cannot_be_sent(bench: Bench) {
    attempt(&bench, "network", &[]).await;
}

async fn the_agents_program_cannot_be_overwritten_through_its_process(bench: Bench) {
    attempt(&bench, "overwrite_agent", &[]).await;
}

async fn the_machines_abstract_sockets_are_of_another_network_namespace(bench: Bench) {
    let name = format!("gpulease-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    // Reachable from here, so that the attempt means something.
    std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    attempt(&bench, "abstract_socket", &[("NAME", name)]).await;
}

async fn the_machines_loopback_is_of_another_network_namespace_in_both_families(bench: Bench) {
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut env = vec![("FOUR", four.local_addr().unwrap().to_string())];
    // A machine may have IPv6 turned off.
    let six = TcpListener::bind("[::1]:0");
    env.extend(six.as_ref().ok().map(|listener| ("SIX", listener.local_addr().unwrap().to_string())));
    for (_, address) in &env {
        std::net::TcpStream::connect(address).unwrap();
    }
    attempt(&bench, "host_loopback", &env).await;
}

async fn a_working_directory_among_the_agents_descriptors_does_not_lead_out(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    for number in 0..20 {
        for place in [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}"), "/proc/1/cwd".into()] {
            for cwd in [place.clone(), format!("{place}/../../../..")] {
                let mut spec = ProcessSpec::new(["sh", "-c", "ls -d root home .dockerenv boot 2>&-; pwd -P"]);
                spec.cwd = Some(cwd.clone());
                // Most are refused; where one is a directory, it is the sandbox's own.
                let Ok(mut process) = sandbox.exec(spec).await else { continue };
                let mut shown = String::new();
                process.stdout.read_to_string(&mut shown).await.unwrap();
                let _ = process.wait().await;
                assert!(["", "/\n"].contains(&shown.as_str()), "{cwd}: {shown}");
            }
        }
    }
    sandbox.destroy().await.unwrap();
}

async fn links_in_an_upload_and_links_that_wait_for_one_stay_inside(bench: Bench) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("canary"), "whole").unwrap();
    let sandbox = bench.sandbox(&small()).await;
    let target = outside.path().to_str().unwrap();

    // A link planted by the job where the next upload goes: it leads to a path of the same name inside, which is not there.
    let planted = exec(&sandbox, &["ln", "-s", target, "/job/out"]).await;
    assert_eq!(planted.exit.shell_code(), 0, "{planted:?}");
    let put = sandbox.put("/job/out", tar_of(&[("canary", b"overwritten", 0o644)])).await;
    assert!(put.is_err(), "the link leads nowhere inside");

    // The same with links in the upload itself, symbolic and hard, and a file below them.
    for (kind, name, to) in [
        (tar::EntryType::Symlink, "door", target.to_owned()),
        (tar::EntryType::Symlink, "up", "../../../../..".to_owned()),
        (tar::EntryType::Link, "hard", "/etc/shadow".to_owned()),
        (tar::EntryType::Link, "agent", "/run/gpulease/agent".to_owned()),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        builder.append_link(&mut header, name, &to).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(11);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("{name}/canary"), &b"overwritten"[..]).unwrap();
        let stream = std::io::Cursor::new(builder.into_inner().unwrap());
        let error = sandbox.put("/job", Box::new(stream)).await;
        assert!(error.is_err(), "{name} -> {to} was followed");
    }
    assert_eq!(std::fs::read_to_string(outside.path().join("canary")).unwrap(), "whole");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    sandbox.destroy().await.unwrap();
}

async fn a_link_among_the_outputs_is_fetched_as_a_link_and_never_as_what_it_points_to(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "ln -s /etc/passwd one; ln -s ../../../../etc/shadow two; ln -s /proc/1/environ three; mkfifo four; \
                  ln -s . loop; ln /etc/hostname five 2>/dev/null; echo real > six";
    exec(&sandbox, &["sh", "-c", script]).await;
    let mut stream = Vec::new();
    sandbox.get_changed("/job").await.unwrap().read_to_end(&mut stream).await.unwrap();
    let mut seen = Vec::new();
    for entry in tar::Archive::new(stream.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, kind) = (entry.path().unwrap().display().to_string(), entry.header().entry_type());
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert!(kind.is_symlink() || kind.is_file(), "{name} is {kind:?}");
        assert!(kind.is_file() || content.is_empty(), "{name} has content");
        seen.push((name, kind.is_symlink()));
    }
    let mut links: Vec<&str> = seen.iter().filter(|(_, link)| *link).map(|(name, _)| name.as_str()).collect();
    links.sort_unstable();
    assert_eq!(links, ["loop", "one", "three", "two"]);
    // The link to the sandbox's own file of that name, nothing of the machine.
    let files = untar(Box::new(std::io::Cursor::new(stream))).await;
    assert_eq!(files["six"].0, b"real\n");
    sandbox.destroy().await.unwrap();
}

async fn signals_from_inside_end_nothing_outside_and_not_the_agent(bench: Bench) {
    let one = bench.sandbox(&small()).await;
    let other = bench.sandbox(&SandboxSpec { disk_bytes: 64 << 20, ..small() }).await;
    other.start("job", ProcessSpec::new(["sleep", "600"])).await.unwrap();
    exec(&one, &["sh", "-c", "kill -9 -1; kill -9 1"]).await;
    exec(&one, &["sh", "-c", "i=2; while [ $i -lt 3000 ]; do kill -9 $i; i=$((i+1)); done 2>/dev/null"]).await;
    for sandbox in [&one, &other] {
        assert_eq!(exec(sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    }
    assert!(matches!(other.status().await.unwrap().job, sandbox::JobState::Running { .. }));
    one.destroy().await.unwrap();
    other.destroy().await.unwrap();
}

on_every_backend! {
    a_working_directory_among_the_agents_descriptors_does_not_lead_out,
    links_in_an_upload_and_links_that_wait_for_one_stay_inside,
    a_link_among_the_outputs_is_fetched_as_a_link_and_never_as_what_it_points_to,
    signals_from_inside_end_nothing_outside_and_not_the_agent,
    mounting_by_the_old_calls_and_the_new_ones_is_refused_by_the_filter,
    the_control_groups_release_agent_is_out_of_reach_because_no_control_group_can_be_seen_or_mounted,
    an_overlay_cannot_be_mounted_and_the_own_one_takes_neither_its_marks_nor_file_capabilities,
    a_program_that_changes_the_user_changes_nothing_because_privileges_cannot_grow,
    device_nodes_can_neither_be_made_nor_found,
    processes_outside_have_no_numbers_inside_and_the_agent_cannot_be_traced_or_read,
    settings_of_the_kernel_are_read_only_and_the_dangerous_files_are_not_there,
    namespaces_can_be_neither_nested_nor_entered,
    io_uring_bpf_keys_and_other_wide_doors_of_the_kernel_are_closed_by_the_filter,
    calls_of_the_other_word_length_do_not_pass_the_filter,
    users_outside_the_range_do_not_exist_inside,
    the_network_cannot_be_changed_and_raw_packets_cannot_be_sent,
    the_agents_program_cannot_be_overwritten_through_its_process,
    the_machines_abstract_sockets_are_of_another_network_namespace,
    the_machines_loopback_is_of_another_network_namespace_in_both_families,
}
