//! What a sandbox shows of its own size, and what it keeps off the disk.

use sandbox::SandboxSpec;

use crate::support::{Bench, exec, fresh_id, on_every_backend, small, tar_of, until};
use sandbox::Backend;

async fn programs_inside_see_the_processors_and_the_memory_that_were_bought(bench: Bench) {
    let spec = SandboxSpec { cpu_millis: 1000, memory_bytes: 96 << 20, ..small() };
    let sandbox = bench.sandbox(&spec).await;
    let says = async |script: &str| exec(&sandbox, &["sh", "-c", script]).await.stdout.trim().to_owned();
    assert_eq!(says("nproc").await, "1");
    assert_eq!(says("getconf _NPROCESSORS_ONLN").await, "1");
    assert_eq!(says("grep -c ^processor /proc/cpuinfo").await, "1");
    assert_eq!(says("grep ^processor /proc/cpuinfo").await.split_whitespace().last(), Some("0"));
    let total = (96 << 10).to_string();
    assert_eq!(says("awk '/^MemTotal/{print $2}' /proc/meminfo").await, total);

    // The figures move with what is used.
    let free = async || says("awk '/^MemFree/{print $2}' /proc/meminfo").await.parse::<u64>().unwrap();
    let before = free().await;
    says("head -c 40000000 /dev/zero > /dev/shm/held").await;
    until("less memory is free", || async { free().await + 30_000 < before }).await;
    for file in ["/proc/meminfo", "/proc/cpuinfo", "/sys/devices/system/cpu/online"] {
        assert_eq!(says(&format!("echo 1 2>&- > {file} || echo refused")).await, "refused", "{file}");
    }
    sandbox.destroy().await.unwrap();
}

async fn sandboxes_of_one_processor_each_run_on_different_ones_while_there_are_some(bench: Bench) {
    let machine = std::thread::available_parallelism().unwrap().get();
    let spec = SandboxSpec { cpu_millis: 1000, ..small() };
    let mut used = Vec::new();
    let mut made = Vec::new();
    for _ in 0..machine {
        let sandbox = bench.sandbox(&spec).await;
        used.push(exec(&sandbox, &["grep", "Cpus_allowed_list", "/proc/self/status"]).await.stdout);
        made.push(sandbox);
    }
    used.sort();
    used.dedup();
    assert_eq!(used.len(), machine, "{used:?}");
    for sandbox in made {
        sandbox.destroy().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_from_a_disk_that_cannot_be_encrypted_is_still_there_to_be_overwritten_at_the_end() {
    const WRITTEN: u64 = 8 << 20;
    let bench = Bench::new();
    let spec = SandboxSpec { disk_bytes: 24 << 20, ..small() };
    // a file system as one makes it that knows no encryption
    let template = bench.state.path().join(".templates").join(format!("{}.img", spec.disk_bytes));
    std::fs::File::create_new(&template).unwrap().set_len(spec.disk_bytes).unwrap();
    let mkfs = std::process::Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(&template).output();
    assert!(mkfs.unwrap().status.success());
    let id = fresh_id();
    let sandbox = bench.backend.create(&id, &spec).await.unwrap();
    let image = bench.state.path().join(id.as_str()).join("disk.img");
    let taken = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&image).unwrap()) * 512;
    let before = taken();
    let script = format!("head -c {WRITTEN} /dev/urandom >secret && sync && rm secret && sync");
    assert_eq!(exec(&sandbox, &["sh", "-c", &script]).await.exit.shell_code(), 0);
    assert!(taken() >= before + WRITTEN, "{before} and then {}", taken());
    sandbox.destroy().await.unwrap();
    assert!(!image.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_kept_in_memory_and_nothing_written_can_be_read_from_the_device() {
    const PUBLIC: &[u8] = b"this was written to the disk by a renter";
    const SECRET: &[u8] = b"this is a secret that only memory may hold";
    let bench = Bench::new();
    let id = fresh_id();
    let spec = SandboxSpec { disk_bytes: 24 << 20, ..small() };
    let sandbox = bench.backend.create(&id, &spec).await.unwrap();
    sandbox.put("/job", tar_of(&[("public", PUBLIC, 0o644)])).await.unwrap();
    sandbox.put("/run/secrets", tar_of(&[("token", SECRET, 0o600)])).await.unwrap();
    let kept =
        exec(&sandbox, &["sh", "-c", "sync; cat /run/secrets/token; df --output=fstype /run/secrets | tail -1"]).await;
    assert_eq!(kept.stdout, format!("{}tmpfs\n", String::from_utf8_lossy(SECRET)));
    let full = exec(&sandbox, &["sh", "-c", "head -c 2000000 /dev/zero > /run/secrets/large"]).await;
    assert!(full.stderr.contains("No space left"), "{full:?}");

    let directory = bench.state.path().join(id.as_str());
    // Through the device, as whoever carries it away would read it.
    let image = std::fs::read(directory.join("disk.img")).unwrap();
    let holds = |text: &[u8]| image.windows(text.len()).any(|window| window == text);
    assert!(!holds(SECRET), "the secret is on the disk");
    // Where the kernel cannot encrypt, the data is there and is overwritten at the end.
    assert_eq!(holds(PUBLIC), !directory.join("encrypted").exists());
    let held = std::fs::File::open(directory.join("disk.img")).unwrap();
    sandbox.destroy().await.unwrap();
    assert!(!directory.exists());
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut std::io::BufReader::new(held), &mut rest).unwrap();
    assert!(!rest.windows(PUBLIC.len()).any(|window| window == PUBLIC), "readable after the end");
}

on_every_backend! {
    programs_inside_see_the_processors_and_the_memory_that_were_bought,
    sandboxes_of_one_processor_each_run_on_different_ones_while_there_are_some,
}
