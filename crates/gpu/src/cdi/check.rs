//! Whether a CDI file is what the specification allows and what a sandbox may be given. Checked once, when the file is read, so that
//! what is resolved later is sound.

use super::{error::Fault, spec::*, version};
use std::collections::BTreeSet;

/// The most devices of one file. A machine with eight cards, each cut into seven instances, each under two names, has about 130.
const MAX_DEVICES: usize = 1_024;

/// The most entries of one list of a device or a file: a driver has about sixty libraries, a card five nodes.
const MAX_ENTRIES: usize = 1_024;

/// The longest name, value or argument: as long as the longest path.
pub(super) const MAX_VALUE_BYTES: usize = 4_096;

/// The longest vendor, as of a name on the Internet.
const MAX_VENDOR_BYTES: usize = 253;

/// The longest class, and the longest device name, as the specification says of the class.
const MAX_NAME_BYTES: usize = 63;

/// What a sandbox has of its own, and a device may not cover.
const SANDBOX: [(&str, &str); 8] = [
    ("/proc", "the kernel's view of the sandbox stands there"),
    ("/sys", "the kernel's view of the machine stands there"),
    ("/dev/pts", "the sandbox's terminals stand there"),
    ("/dev/shm", "the sandbox's shared memory stands there"),
    ("/job", "the renter's files stand there"),
    ("/run/gpulease", "the sandbox's agent stands there"),
    ("/etc/passwd", "it says who is who in the sandbox"),
    ("/etc/resolv.conf", "it says how the sandbox finds names"),
];

/// What of the machine no sandbox may see. Whole trees: nothing below them either.
const MACHINE: [(&str, &str); 10] = [
    ("/proc", "it shows every process of the machine"),
    ("/sys", "it shows and controls the whole machine"),
    ("/dev", "devices are given as device nodes"),
    ("/boot", "it starts the machine"),
    ("/root", "it is the administrator's"),
    ("/home", "it is other people's"),
    ("/var/lib/gpulease", "the node's keys stand there"),
    ("/run/docker.sock", "it gives the machine to whoever opens it"),
    ("/var/run/docker.sock", "it gives the machine to whoever opens it"),
    ("/run/containerd", "it gives the machine to whoever opens it"),
];

/// What of the machine no sandbox may see as a whole, though single files below may be a driver's.
const FOLDERS: [&str; 8] = ["/etc", "/usr", "/var", "/run", "/var/run", "/dev", "/opt", "/tmp"];

/// Device nodes that are the machine itself.
const MEMORY: [&str; 3] = ["/dev/mem", "/dev/kmem", "/dev/port"];

/// Mount options that allow no more than reading, or that are given to every mount anyway.
const OPTIONS: [&str; 9] = ["ro", "bind", "rbind", "nosuid", "nodev", "noexec", "private", "rprivate", "rslave"];

/// The moments at which an OCI runtime runs hooks.
const MOMENTS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Checks a file.
pub(super) fn spec(spec: &Spec) -> Result<(), Fault> {
    version::check(spec)?;
    kind(&spec.kind)?;
    if spec.devices.is_empty() {
        return Err(Fault::NoDevices);
    }
    bounded("devices", spec.devices.len(), MAX_DEVICES)?;
    edits(&spec.container_edits)?;
    let mut names = BTreeSet::new();
    for device in &spec.devices {
        device_name(&device.name)?;
        if !names.insert(&device.name) {
            return Err(Fault::Twice(device.name.clone()));
        }
        edits(&device.container_edits)?;
    }
    Ok(())
}

fn bounded(what: &'static str, count: usize, limit: usize) -> Result<(), Fault> {
    if count > limit { Err(Fault::TooMany { what, count, limit }) } else { Ok(()) }
}

/// Checks `vendor/class`.
pub(super) fn kind(kind: &str) -> Result<(), Fault> {
    let (vendor, class) = kind.split_once('/').unwrap_or((kind, ""));
    let letter = |name: &str| name.starts_with(|first: char| first.is_ascii_alphabetic());
    if !letter(vendor) || !is_name(vendor, b"-_.", MAX_VENDOR_BYTES) {
        return Err(name("vendor", vendor));
    }
    if !letter(class) || !is_name(class, b"-_.", MAX_NAME_BYTES) {
        return Err(name("class of devices", class));
    }
    Ok(())
}

/// Checks a device's name.
pub(super) fn device_name(text: &str) -> Result<(), Fault> {
    if is_name(text, b"-_.:", MAX_NAME_BYTES) { Ok(()) } else { Err(name("device", text)) }
}

fn name(what: &'static str, name: &str) -> Fault {
    Fault::Name { what, name: name.chars().take(MAX_NAME_BYTES).collect() }
}

/// Letters and digits, with `marks` between them.
fn is_name(text: &str, marks: &[u8], limit: usize) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    text.len() <= limit
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte))
}

fn edits(edits: &ContainerEdits) -> Result<(), Fault> {
    bounded("environment variables", edits.env.len(), MAX_ENTRIES)?;
    bounded("device nodes", edits.device_nodes.len(), MAX_ENTRIES)?;
    bounded("mounts", edits.mounts.len(), MAX_ENTRIES)?;
    bounded("hooks", edits.hooks.len(), MAX_ENTRIES)?;
    bounded("groups", edits.additional_gids.len(), MAX_ENTRIES)?;
    edits.env.iter().try_for_each(|text| variable(text).map(|_| ()))?;
    edits.device_nodes.iter().try_for_each(node)?;
    edits.mounts.iter().try_for_each(mount)?;
    edits.hooks.iter().try_for_each(hook)
}

/// Name and value of an environment variable.
pub(super) fn variable(text: &str) -> Result<(&str, &str), Fault> {
    let refuse = || Fault::Variable(text.chars().take(MAX_NAME_BYTES).collect());
    let (name, value) = text.split_once('=').ok_or_else(refuse)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let named = !name.is_empty() && name.bytes().all(plain) && !name.starts_with(|first: char| first.is_ascii_digit());
    let sound = named && text.len() <= MAX_VALUE_BYTES && !value.bytes().any(|byte| byte.is_ascii_control());
    if sound { Ok((name, value)) } else { Err(refuse()) }
}

/// An absolute path of plain parts: no `.`, no `..`, nothing empty, nothing that a terminal could not show.
pub(super) fn path(text: &str) -> Result<(), Fault> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    let parts = text.strip_prefix('/').map(|rest| rest.split('/').all(plain));
    if parts == Some(true) && text.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(Fault::Path { path: text.chars().take(MAX_NAME_BYTES).collect() })
}

/// Whether a path is a folder or stands below it.
pub(super) fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A place in the sandbox that a device may take: absolute, plain, and neither part of the sandbox nor above such a part.
pub(super) fn place(text: &str) -> Result<(), Fault> {
    path(text)?;
    for (own, why) in SANDBOX {
        if is_below(text, own) || is_below(own, text) {
            return Err(Fault::Covers { path: text.to_owned(), why });
        }
    }
    if FOLDERS.contains(&text) {
        return Err(Fault::Covers { path: text.to_owned(), why: "it is a folder that the sandbox needs" });
    }
    Ok(())
}

fn node(node: &DeviceNode) -> Result<(), Fault> {
    let refuse = |what: String| Fault::Node { path: node.path.clone(), what };
    place(&node.path)?;
    let host = node.host_path.as_ref().unwrap_or(&node.path);
    path(host)?;
    if !is_below(&node.path, "/dev") {
        return Err(Fault::Covers { path: node.path.clone(), why: "device nodes stand below /dev" });
    }
    if MEMORY.contains(&host.as_str()) {
        return Err(Fault::Exposes { path: host.clone(), why: "it is the machine's memory" });
    }
    match node.kind.as_deref() {
        None | Some("" | "c" | "u") => {}
        Some("b") => return Err(refuse("type `b`: a sandbox is not given disks".to_owned())),
        Some(kind) => return Err(refuse(format!("type `{kind}`, which is no device's"))),
    }
    let allowed =
        |permissions: &String| permissions == "none" || permissions.bytes().all(|byte| b"rwm".contains(&byte));
    if node.permissions.as_ref().is_some_and(|permissions| permissions.len() > 4 || !allowed(permissions)) {
        return Err(refuse("permissions other than r, w and m".to_owned()));
    }
    let number = |number: Option<i64>| number.is_none_or(|number| u32::try_from(number).is_ok());
    if !number(node.major) || !number(node.minor) {
        return Err(refuse("numbers that no device has".to_owned()));
    }
    Ok(())
}

fn mount(mount: &MountSpec) -> Result<(), Fault> {
    let host = mount.host_path.as_str();
    place(&mount.container_path)?;
    path(host)?;
    for (tree, why) in MACHINE {
        if is_below(host, tree) {
            return Err(Fault::Exposes { path: host.to_owned(), why });
        }
    }
    if FOLDERS.contains(&host) {
        return Err(Fault::Exposes { path: host.to_owned(), why: "it holds much more than a driver" });
    }
    if let Some(kind) = &mount.kind
        && !matches!(kind.as_str(), "" | "none" | "bind")
    {
        return Err(Fault::MountType { path: mount.container_path.clone(), kind: kind.clone() });
    }
    bounded("mount options", mount.options.len(), OPTIONS.len())?;
    match mount.options.iter().find(|option| !OPTIONS.contains(&option.as_str())) {
        Some(option) => Err(Fault::MountOption { path: mount.container_path.clone(), option: option.clone() }),
        None => Ok(()),
    }
}

fn hook(hook: &Hook) -> Result<(), Fault> {
    let refuse = |what: String| Fault::Hook { path: hook.path.clone(), what };
    path(&hook.path)?;
    bounded("arguments of a hook", hook.args.len(), MAX_ENTRIES)?;
    bounded("variables of a hook", hook.env.len(), MAX_ENTRIES)?;
    if !MOMENTS.contains(&hook.hook_name.as_str()) {
        return Err(refuse(format!("the moment `{}`, which no runtime knows", hook.hook_name)));
    }
    if hook.timeout.is_some_and(|seconds| seconds <= 0) {
        return Err(refuse("a limit of no time".to_owned()));
    }
    if hook.args.iter().any(|argument| argument.len() > MAX_VALUE_BYTES || argument.contains('\0')) {
        return Err(refuse("an argument that no program can be given".to_owned()));
    }
    hook.env.iter().try_for_each(|text| variable(text).map(|_| ()))
}
