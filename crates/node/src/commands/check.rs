//! `node check`: has the hardware of a rental checked now, and shows what was seen beside what was expected.

use super::Context;
use crate::{
    cli,
    output::{Output, Waiting, bytes, printable},
};
use api::types::{ApiError, CheckOutcome, CheckedDevice, HardwareCheck};

pub(super) async fn check(context: &Context, args: cli::Check) -> Result<u8, ApiError> {
    let waiting = Waiting::begin("the machine computes");
    let check = context.daemon().await?.check(&args.id).await?;
    drop(waiting);
    context.output.result(&check, |output| text(output, &check))?;
    Ok(u8::from(check.outcome == CheckOutcome::Missed))
}

fn text(output: &Output, check: &HardwareCheck) -> String {
    let mut text = format!("{} (level {})", check.outcome.name(), check.level);
    if !check.detail.is_empty() {
        text.push_str(&format!(": {}", printable(&check.detail)));
    }
    if check.outcome == CheckOutcome::Missed {
        text.push_str("\nthe rental is stopped on chain: it costs what was signed for until now");
    }
    if check.devices.is_empty() {
        return text;
    }
    let columns = [("DEVICE", false), ("MODEL", false), ("MULTIPLY-ADDS/S", true), ("AT LEAST", true), ("HELD", true)];
    let mega = |count: u64| format!("{} M", count / 1_000_000);
    let row = |device: &CheckedDevice| {
        vec![
            printable(&device.device),
            printable(&device.model),
            mega(device.seen),
            device.least.map_or_else(|| "unmeasured".to_owned(), mega),
            bytes(device.held_bytes),
        ]
    };
    format!("{text}\n{}", output.table(&columns, check.devices.iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::plain;
    use market::time::UnixMillis;

    fn shown(outcome: CheckOutcome, detail: &str, least: Option<u64>) -> String {
        let device = CheckedDevice {
            device: "cpu".into(),
            model: "EPYC".into(),
            least,
            seen: 2_500_000_000,
            held_bytes: 48 << 20,
        };
        let (at, detail) = (UnixMillis(1), detail.to_owned());
        text(&plain(), &HardwareCheck { at, level: 2, outcome, detail, devices: vec![device] })
    }

    #[test]
    fn what_was_seen_stands_beside_what_was_expected() {
        let passed = shown(CheckOutcome::Passed, "", Some(1_800_000_000));
        assert!(passed.starts_with("passed (level 2)\n"), "{passed}");
        assert!(passed.contains("2500 M") && passed.contains("1800 M") && passed.contains("48"), "{passed}");
        assert!(shown(CheckOutcome::Unmeasured, "", None).contains("unmeasured"));
        let missed = shown(CheckOutcome::Missed, "\x1b[31m", None);
        assert!(missed.contains("stopped on chain") && !missed.contains('\x1b'), "{missed}");
    }
}
