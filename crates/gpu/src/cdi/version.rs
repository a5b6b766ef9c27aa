//! Which versions of the CDI specification are known, and what came with which.

use super::{error::Fault, spec::*};

/// The released versions, oldest first.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// Refuses a version that is not known, and a file that uses what its version does not have yet.
pub(super) fn check(spec: &Spec) -> Result<(), Fault> {
    let stated = spec.cdi_version.strip_prefix('v').unwrap_or(&spec.cdi_version);
    let rank = |version: &str| VERSIONS.iter().position(|known| *known == version);
    let Some(has) = rank(stated) else { return Err(Fault::Version(spec.cdi_version.chars().take(32).collect())) };
    for (feature, needed, used) in features(spec) {
        if used && rank(needed).is_none_or(|needs| needs > has) {
            return Err(Fault::TooOld { stated: stated.to_owned(), feature, needed });
        }
    }
    Ok(())
}

/// What was added to the specification, since when, and whether the file uses it.
fn features(spec: &Spec) -> [(&'static str, &'static str, bool); 9] {
    let edits = || spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits]);
    let annotated = !spec.annotations.is_empty() || spec.devices.iter().any(|device| !device.annotations.is_empty());
    let rdt = || edits().filter_map(|edits| edits.intel_rdt.as_ref());
    [
        ("types of mounts", "0.4.0", edits().any(|edits| edits.mounts.iter().any(|mount| mount.kind.is_some()))),
        ("host paths of nodes", "0.5.0", edits().any(|edits| edits.device_nodes.iter().any(|n| n.host_path.is_some()))),
        ("names that begin with a digit", "0.5.0", spec.devices.iter().any(|device| begins_with_digit(&device.name))),
        ("annotations", "0.6.0", annotated),
        ("a dot in a class", "0.6.0", spec.kind.rsplit_once('/').is_some_and(|(_, class)| class.contains('.'))),
        ("intelRdt", "0.7.0", rdt().next().is_some()),
        ("additionalGids", "0.7.0", edits().any(|edits| !edits.additional_gids.is_empty())),
        ("monitoring", "1.1.0", rdt().any(|rdt| !rdt.schemata.is_empty() || rdt.enable_monitoring)),
        ("netDevices", "1.1.0", edits().any(|edits| !edits.net_devices.is_empty())),
    ]
}

fn begins_with_digit(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit())
}
