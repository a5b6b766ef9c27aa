//! Devices by the vendors' CDI files: what was asked for appears inside and nothing else, and no hook is run.

use gpu::cdi::{Fault, Registry};
use sandbox::{Error, Rootfs, SandboxSpec};

use crate::support::{Bench, exec, fresh_id, on_every_backend, small, small_tree};

/// Two devices, which are really the machine's `/dev/full` and `/dev/zero`, with files, variables and a hook.
fn specification(files: &std::path::Path) -> serde_json::Value {
    let hook = files.join("hook");
    let node = |path: &str, host: &str| serde_json::json!({ "path": path, "hostPath": host });
    let device = |name: &str, host: &str| {
        let edits = serde_json::json!({
            "deviceNodes": [node(&format!("/dev/vendor/card{name}"), host)],
            "env": [format!("CARD_{name}=yes")],
        });
        serde_json::json!({ "name": name, "containerEdits": edits })
    };
    serde_json::json!({
        "cdiVersion": "0.6.0",
        "kind": "vendor.test/card",
        "devices": [device("0", "/dev/full"), device("1", "/dev/zero")],
        "containerEdits": {
            "env": ["VENDOR_VISIBLE=void"],
            "mounts": [
                { "hostPath": files.join("libvendor.so.580.1"), "containerPath": "/opt/vendor/lib/libvendor.so.580.1" },
                { "hostPath": files.join("share"), "containerPath": "/opt/vendor/share" },
            ],
            "hooks": [
                { "hookName": "createContainer", "path": hook, "args": ["hook"] },
                { "hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
                  "args": ["nvidia-cdi-hook", "create-symlinks", "--link", "libvendor.so.580.1::/opt/vendor/lib/libold.so"] },
            ],
        },
    })
}

/// The machine's side: a folder of specifications, a library, a folder of files, and a hook that would leave a mark.
fn machine() -> tempfile::TempDir {
    let machine = tempfile::tempdir().unwrap();
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].map(std::path::Path::new);
    std::fs::copy(loader.into_iter().find(|path| path.exists()).unwrap(), machine.path().join("libvendor.so.580.1"))
        .unwrap();
    std::fs::create_dir(machine.path().join("share")).unwrap();
    std::fs::write(machine.path().join("share/note"), "from the vendor\n").unwrap();
    let hook = format!("#!/bin/sh\ntouch {}\n", machine.path().join("ran").display());
    std::fs::write(machine.path().join("hook"), hook).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(machine.path().join("hook"), executable).unwrap();
    std::fs::create_dir(machine.path().join("cdi")).unwrap();
    machine
}

async fn the_device_that_was_asked_for_appears_with_its_files_and_no_other_does(bench: Bench) {
    let tree = small_tree();
    let tried = ["yaml", "json"].into_iter().zip([Rootfs::HostUsr, Rootfs::Dir(tree.path().into())]);
    for (form, rootfs) in tried {
        let machine = machine();
        let specification = specification(machine.path());
        let text = match form {
            "json" => specification.to_string(),
            // In YAML's flow style, with what only YAML has.
            _ => format!("--- # by hand\n{specification}\n...\n"),
        };
        std::fs::write(machine.path().join("cdi").join(format!("vendor.{form}")), text).unwrap();
        let registry = Registry::read(&[machine.path().join("cdi")]);
        assert!(registry.faults.is_empty(), "{:?}", registry.faults);
        assert!(matches!(registry.resolve(&["vendor.test/card=7"]), Err(Fault::Unknown { .. })));

        let devices = registry.resolve(&["vendor.test/card=0"]).unwrap();
        assert_eq!(devices.left_out.len(), 1, "{:?}", devices.left_out);
        let sandbox = bench.sandbox(&SandboxSpec { devices, rootfs, ..small() }).await;
        let says = async |script: &str| exec(&sandbox, &["sh", "-c", script]).await.stdout;
        let script = "for path in /dev/vendor/*; do echo $path; done; test -c /dev/vendor/card0 && echo node; \
                      echo x 2>&- > /dev/vendor/card0 || echo full; echo $CARD_0-$CARD_1-$VENDOR_VISIBLE";
        assert_eq!(says(script).await, "/dev/vendor/card0\nnode\nfull\nyes--void\n", "{form}");
        let script = "read line < /opt/vendor/share/note; echo $line; echo $LD_LIBRARY_PATH; \
                      echo x 2>&- > /opt/vendor/share/note || echo kept; \
                      test -s /opt/vendor/lib/libold.so && echo linked; test -s /run/gpulease/lib/ld-linux* && echo found";
        let expected = "from the vendor\n/run/gpulease/lib\nkept\nlinked\nfound\n";
        assert_eq!(says(script).await, expected, "{form}");
        assert!(!machine.path().join("ran").exists(), "a hook was run");
        sandbox.destroy().await.unwrap();
    }
}

async fn a_device_that_is_not_there_is_refused_before_anything_runs(bench: Bench) {
    let machine = machine();
    let text = specification(machine.path()).to_string().replace("/dev/full", "/dev/absent");
    std::fs::write(machine.path().join("cdi/vendor.json"), text).unwrap();
    let devices = Registry::read(&[machine.path().join("cdi")]).resolve(&["vendor.test/card=0"]).unwrap();
    let error = bench.backend.create(&fresh_id(), &SandboxSpec { devices, ..small() }).await.err().unwrap();
    assert!(matches!(error, Error::InvalidSpec { field: "devices", .. }), "{error}");
    assert!(error.to_string().contains("/dev/absent"), "{error}");
}

on_every_backend! {
    the_device_that_was_asked_for_appears_with_its_files_and_no_other_does,
    a_device_that_is_not_there_is_refused_before_anything_runs,
}
