//! CDI files: what is read, what is given to a sandbox, what is refused.

use crate::machine::Machine;
use gpu::cdi::{Edits, Fault, Folder, Link, Mount, Node, Registry, Variable};

/// A file as NVIDIA's toolkit writes it, with a made-up vendor.
const YAML: &str = "---
cdiVersion: 0.5.0
kind: vendor.test/gpu
devices:
    - name: \"0\"
      containerEdits:
        deviceNodes:
            - path: /dev/gpu0
              hostPath: /run/driver/dev/gpu0
    - name: GPU-1111
      containerEdits:
        deviceNodes:
            - path: /dev/gpu1
        env:
            - GPU_ONE=yes
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    deviceNodes:
        - path: /dev/gpuctl
          permissions: r
    hooks:
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args: [nvidia-cdi-hook, create-symlinks, --link, libgpu.so.1::/usr/lib/libgpu.so]
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib/gpu]
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args: [nvidia-cdi-hook, disable-device-node-modification]
    mounts:
        - hostPath: /usr/lib/libgpu.so.999
          containerPath: /usr/lib/libgpu.so.1
          options: [ro, nosuid, nodev, rbind, rprivate]
";

fn registry(files: &[(&str, &str)]) -> (Machine, Registry) {
    let machine = Machine::empty();
    for (path, text) in files {
        machine.write(path, text);
    }
    let registry = Registry::read(&[machine.root().join("etc/cdi"), machine.root().join("var/run/cdi")]);
    (machine, registry)
}

/// A file of one device that needs one thing.
fn json(version: &str, edits: &str) -> String {
    format!(
        r#"{{"cdiVersion": "{version}", "kind": "vendor.test/gpu", "devices": [{{"name": "a", "containerEdits": {edits}}}]}}"#
    )
}

/// What is wrong with such a file, or with asking for its device.
fn refusal(version: &str, edits: &str) -> String {
    let (_machine, registry) = registry(&[("etc/cdi/a.json", &json(version, edits))]);
    match registry.faults.first() {
        Some(error) => error.fault.to_string(),
        None => registry.resolve(&["vendor.test/gpu=a"]).unwrap_err().to_string(),
    }
}

#[test]
fn only_what_was_asked_for_is_given() {
    let (_machine, registry) = registry(&[("etc/cdi/vendor.yaml", YAML)]);
    assert_eq!(registry.devices(), ["vendor.test/gpu=0", "vendor.test/gpu=GPU-1111"]);
    let edits = registry.resolve(&["vendor.test/gpu=0"]).unwrap();
    let node = |host: &str, inside: &str, writable| Node { host: host.into(), inside: inside.into(), writable };
    let expected = Edits {
        nodes: vec![node("/run/driver/dev/gpu0", "/dev/gpu0", true), node("/dev/gpuctl", "/dev/gpuctl", false)],
        mounts: vec![Mount { host: "/usr/lib/libgpu.so.999".into(), inside: "/usr/lib/libgpu.so.1".into() }],
        links: vec![Link { path: "/usr/lib/libgpu.so".into(), target: "libgpu.so.1".into() }],
        library_folders: vec![Folder("/usr/lib/gpu".to_owned())],
        environment: vec![Variable { name: "NVIDIA_VISIBLE_DEVICES".to_owned(), value: "void".to_owned() }],
        left_out: vec!["hook /usr/bin/nvidia-cdi-hook disable-device-node-modification at createContainer".to_owned()],
    };
    assert_eq!(edits, expected);
}

#[test]
fn several_devices_share_what_all_need_once() {
    let (_machine, registry) = registry(&[("etc/cdi/vendor.yaml", YAML)]);
    let names = ["vendor.test/gpu=0", "vendor.test/gpu=GPU-1111", "vendor.test/gpu=0"];
    let edits = registry.resolve(&names).unwrap();
    assert_eq!((edits.nodes.len(), edits.mounts.len(), edits.environment.len()), (3, 1, 2));
}

#[test]
fn json_says_the_same_as_yaml() {
    let (_first, yaml) = registry(&[("etc/cdi/vendor.yaml", YAML)]);
    let text = r#"{"cdiVersion": "0.5.0", "kind": "vendor.test/gpu",
        "devices": [{"name": "GPU-1111", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu1"}], "env": ["GPU_ONE=yes"]}}],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [{"path": "/dev/gpuctl", "permissions": "r"}],
            "hooks": [
                {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "create-symlinks",
                    "--link", "libgpu.so.1::/usr/lib/libgpu.so"]},
                {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "update-ldcache",
                    "--folder", "/usr/lib/gpu"]},
                {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook",
                    "disable-device-node-modification"]}],
            "mounts": [{"hostPath": "/usr/lib/libgpu.so.999", "containerPath": "/usr/lib/libgpu.so.1", "options": ["ro"]}]}}"#;
    let (_second, json) = registry(&[("etc/cdi/vendor.json", text)]);
    let asked = ["vendor.test/gpu=GPU-1111"];
    assert_eq!(json.resolve(&asked).unwrap(), yaml.resolve(&asked).unwrap());
}

#[test]
fn no_hook_is_run() {
    let machine = Machine::empty();
    let trace = machine.root().join("trace");
    let edits = format!(
        r#"{{"hooks": [{{"hookName": "createContainer", "path": "/usr/bin/touch", "args": ["touch", "{}"]}}]}}"#,
        trace.display()
    );
    machine.write("etc/cdi/a.json", &json("0.6.0", &edits));
    let edits = Registry::read(&[machine.root().join("etc/cdi")]).resolve(&["vendor.test/gpu=a"]).unwrap();
    edits.check().unwrap();
    assert!(!trace.exists());
    assert!(edits.left_out[0].starts_with("hook /usr/bin/touch"));
}

#[test]
fn an_unknown_device_is_an_error_that_names_the_known_ones() {
    let (_machine, registry) = registry(&[("etc/cdi/vendor.yaml", YAML)]);
    let error = registry.resolve(&["vendor.test/gpu=7"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no CDI device `vendor.test/gpu=7`; known are: vendor.test/gpu=0, vendor.test/gpu=GPU-1111"
    );
    for malformed in ["0", "gpu=0", "vendor.test/gpu=", "vendor.test/gpu=../x", "=", "a/b=c d"] {
        assert!(matches!(registry.resolve(&[malformed]), Err(Fault::Request(_))), "{malformed}");
    }
    assert!(matches!(registry.resolve(&vec!["vendor.test/gpu=0"; 129]), Err(Fault::TooMany { .. })));
}

#[test]
fn the_later_folder_counts_and_two_files_of_one_folder_do_not() {
    let one = json("0.6.0", r#"{"env": ["FROM=etc"]}"#);
    let other = json("0.6.0", r#"{"env": ["FROM=run"]}"#);
    let (_machine, both) = registry(&[("etc/cdi/a.json", &one), ("var/run/cdi/a.json", &other)]);
    assert_eq!(both.resolve(&["vendor.test/gpu=a"]).unwrap().environment[0].value, "run");
    let (_machine, same) = registry(&[("etc/cdi/a.json", &one), ("etc/cdi/b.json", &other)]);
    assert!(matches!(same.resolve(&["vendor.test/gpu=a"]), Err(Fault::Ambiguous { .. })));
}

#[test]
fn a_wrong_file_is_left_out_and_the_others_are_read() {
    let (_machine, registry) = registry(&[
        ("etc/cdi/vendor.yaml", YAML),
        ("etc/cdi/broken.json", "{"),
        ("etc/cdi/bomb.yaml", "a: &a [x, x]\nb: &b [*a, *a]\ncdiVersion: *b\n"),
        ("etc/cdi/empty.yml", ""),
        ("etc/cdi/long.json", &" ".repeat((2 << 20) + 1)),
        ("etc/cdi/README", "no CDI file"),
    ]);
    let names: Vec<_> = registry.faults.iter().map(|error| error.path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["bomb.yaml", "broken.json", "empty.yml", "long.json"]);
    assert_eq!(registry.devices().len(), 2);
}

#[test]
fn a_specification_that_nests_without_end_is_refused() {
    for text in ["[".repeat(200_000), "a: ".repeat(100_000), format!("x: {}", "{a: ".repeat(100_000))] {
        let (_machine, registry) = registry(&[("etc/cdi/a.yaml", &text), ("etc/cdi/a.json", &text)]);
        assert_eq!(registry.faults.len(), 2);
    }
}

#[test]
fn what_would_harm_the_sandbox_or_the_machine_is_refused() {
    let mount = |host: &str, inside: &str, options: &str| {
        format!(r#"{{"mounts": [{{"hostPath": "{host}", "containerPath": "{inside}", "options": [{options}]}}]}}"#)
    };
    for (edits, reason) in [
        (mount("/usr/lib/../../etc/shadow", "/x", ""), "is not an absolute, plain path"),
        (mount("usr/lib", "/x", ""), "is not an absolute, plain path"),
        (mount("/usr/lib/x", "/a/../proc", ""), "is not an absolute, plain path"),
        (mount("/", "/x", ""), "is not an absolute, plain path"),
        (mount("/usr/lib/a\\nb", "/x", ""), "is not an absolute, plain path"),
        (mount("/etc", "/x", ""), "it holds much more than a driver"),
        (mount("/proc/1/root", "/x", ""), "it shows every process"),
        (mount("/root/.ssh", "/x", ""), "it is the administrator's"),
        (mount("/var/lib/gpulease/keystore", "/x", ""), "the node's keys"),
        (mount("/run/docker.sock", "/x", ""), "it gives the machine"),
        (mount("/dev/sda", "/x", ""), "devices are given as device nodes"),
        (mount("/usr/lib/x", "/job/x", ""), "the renter's files"),
        (mount("/usr/lib/x", "/run", ""), "the sandbox's agent"),
        (mount("/usr/lib/x", "/usr", ""), "a folder that the sandbox needs"),
        (mount("/usr/lib/x", "/x", r#""rw""#), "mount option `rw`"),
        (mount("/usr/lib/x", "/x", r#""suid""#), "mount option `suid`"),
        (r#"{"mounts": [{"hostPath": "/x", "containerPath": "/y", "type": "tmpfs"}]}"#.to_owned(), "type `tmpfs`"),
        (r#"{"deviceNodes": [{"path": "/tmp/x"}]}"#.to_owned(), "device nodes stand below /dev"),
        (r#"{"deviceNodes": [{"path": "/dev/pts/0"}]}"#.to_owned(), "the sandbox's terminals"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/mem"}]}"#.to_owned(), "the machine's memory"),
        (r#"{"deviceNodes": [{"path": "/dev/sda", "type": "b"}]}"#.to_owned(), "not given disks"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "permissions": "rwx"}]}"#.to_owned(), "permissions other than"),
        (r#"{"deviceNodes": [{"path": "/dev/x", "major": -1}]}"#.to_owned(), "numbers that no device has"),
        (r#"{"env": ["A"]}"#.to_owned(), "no environment variable"),
        (r#"{"env": ["A B=1"]}"#.to_owned(), "no environment variable"),
        (r#"{"env": ["A=1\n2"]}"#.to_owned(), "no environment variable"),
        (r#"{"hooks": [{"hookName": "later", "path": "/x"}]}"#.to_owned(), "which no runtime knows"),
        (r#"{"hooks": [{"hookName": "poststop", "path": "x"}]}"#.to_owned(), "is not an absolute, plain path"),
        (r#"{"hooks": [{"hookName": "poststop", "path": "/x", "timeout": 0}]}"#.to_owned(), "a limit of no time"),
        (r#"{"netDevices": [{"hostInterfaceName": "eth0", "name": "eth0"}]}"#.to_owned(), "a network interface"),
        (r#"{"files": []}"#.to_owned(), "unknown field `files`"),
    ] {
        let found = refusal("1.1.0", &edits);
        assert!(found.contains(reason), "{edits}: {found}");
    }
}

#[test]
fn two_devices_that_disagree_are_refused_together() {
    let text = r#"{"cdiVersion": "0.6.0", "kind": "vendor.test/gpu", "devices": [
        {"name": "a", "containerEdits": {"env": ["X=1"], "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/a"}]}},
        {"name": "b", "containerEdits": {"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/b"}]}},
        {"name": "c", "containerEdits": {"env": ["X=2"]}},
        {"name": "d", "containerEdits": {"mounts": [{"hostPath": "/usr/lib/d", "containerPath": "/dev/x"}]}}]}"#;
    let (_machine, registry) = registry(&[("etc/cdi/a.json", text)]);
    assert_eq!(registry.faults.len(), 0);
    for other in ["b", "c", "d"] {
        let names = ["vendor.test/gpu=a".to_owned(), format!("vendor.test/gpu={other}")];
        assert!(matches!(registry.resolve(&names), Err(Fault::Conflict { .. })), "{other}");
        assert!(registry.resolve(&names[1..]).is_ok());
    }
}

#[test]
fn names_and_versions_are_those_of_the_specification() {
    let file = |version: &str, kind: &str, name: &str| {
        let text = format!(
            r#"{{"cdiVersion": "{version}", "kind": "{kind}", "devices": [{{"name": "{name}", "containerEdits": {{}}}}]}}"#
        );
        let (_machine, registry) = registry(&[("etc/cdi/a.json", &text)]);
        registry.faults.first().map(|error| error.fault.to_string())
    };
    for (version, kind, name) in [
        ("0.3.0", "vendor.com/foo", "gpu"),
        ("v0.5.0", "vendor.com/foo", "0:1"),
        ("1.1.0", "foo.bar.baz/foo-bar123.B_az", "GPU-1111"),
    ] {
        assert_eq!(file(version, kind, name), None, "{version} {kind} {name}");
    }
    for (version, kind, name, reason) in [
        ("9.0.0", "vendor.com/foo", "gpu", "version `9.0.0`"),
        ("", "vendor.com/foo", "gpu", "version ``"),
        ("0.4.0", "vendor.com/foo", "0", "names that begin with a digit, which came with 0.5.0"),
        ("0.5.0", "vendor.com/fo.o", "0", "a dot in a class, which came with 0.6.0"),
        ("0.6.0", "foo", "0", "no name for a class"),
        ("0.6.0", "vendor.com/foo/", "0", "no name for a class"),
        ("0.6.0", "/foo", "0", "no name for a vendor"),
        ("0.6.0", "vendor.com/foo", "-a", "no name for a device"),
        ("0.6.0", "vendor.com/foo", "a/b", "no name for a device"),
    ] {
        let found = file(version, kind, name).unwrap();
        assert!(found.contains(reason), "{version} {kind} {name}: {found}");
    }
    assert!(
        refusal("0.4.0", r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/y"}]}"#)
            .contains("host paths of nodes")
    );
    assert!(refusal("0.6.0", r#"{"additionalGids": [5]}"#).contains("additionalGids, which came with 0.7.0"));
}

#[test]
fn a_file_without_devices_or_with_one_twice_is_refused() {
    for (devices, reason) in [("[]", "describes no device"), (r#"[{"name": "a"}, {"name": "a"}]"#, "described twice")] {
        let text = format!(r#"{{"cdiVersion": "0.6.0", "kind": "v.t/g", "devices": {devices}}}"#);
        let (_machine, registry) = registry(&[("etc/cdi/a.json", &text)]);
        assert!(registry.faults[0].fault.to_string().contains(reason));
    }
}

#[test]
fn what_a_sandbox_does_without_is_told() {
    let edits = json("0.7.0", r#"{"additionalGids": [0, 44], "intelRdt": {"closID": "x"}}"#);
    let (_machine, registry) = registry(&[("etc/cdi/a.json", &edits)]);
    let left_out = registry.resolve(&["vendor.test/gpu=a"]).unwrap().left_out;
    assert_eq!(left_out.len(), 2);
    assert!(left_out.iter().any(|what| what.contains("group 44")));
}

#[test]
fn nodes_and_files_must_be_on_the_machine_and_usable() {
    let check = |edits: &str| {
        let (_machine, registry) = registry(&[("etc/cdi/a.json", &json("0.6.0", edits))]);
        registry.resolve(&["vendor.test/gpu=a"]).unwrap().check().map_err(|fault| fault.to_string())
    };
    assert_eq!(check(r#"{"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}]}"#), Ok(()));
    let missing = check(r#"{"deviceNodes": [{"path": "/dev/gpu0"}]}"#).unwrap_err();
    assert!(missing.starts_with("`/dev/gpu0` is not on this machine"), "{missing}");
    let file = check(r#"{"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/etc/hostname"}]}"#).unwrap_err();
    assert!(file.contains("is no device"), "{file}");
    let mount =
        check(r#"{"mounts": [{"hostPath": "/usr/lib/no-such-library.so", "containerPath": "/x"}]}"#).unwrap_err();
    assert!(mount.starts_with("`/usr/lib/no-such-library.so` is not on this machine"), "{mount}");
    // every Linux has this one, for root alone to write to
    let private = check(r#"{"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/kmsg"}]}"#).unwrap_err();
    assert!(private.contains("has mode 6"), "{private}");
}
