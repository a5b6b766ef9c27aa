//! Receipts as people read them: one in full with every number that can be checked on chain, or many as a table.

use crate::output::{Output, Style, command_line, printable, role_name};
use api::types::{Receipt, closing_words};
use market::id::RentalId;

/// One receipt in full, a line for each fact that can be checked on chain.
pub(crate) fn receipt_text(receipt: &Receipt, style: Style) -> String {
    let Receipt { terms, quote, .. } = receipt;
    let show = |amount| terms.token.show(amount);
    let q = &quote.quote;
    let mut lines: Vec<(&str, String)> = vec![
        (
            "machine",
            format!(
                "{} · {} at {}",
                printable(&terms.hardware.to_string()),
                printable(&terms.slot),
                terms.provider_peer
            ),
        ),
        ("renter", terms.renter_peer.to_string()),
    ];
    if let Some(job) = &receipt.job {
        lines.extend(job.label.as_ref().map(|label| ("label", label.to_string())));
        if !job.argv.is_empty() {
            lines.push(("program", command_line(&job.argv)));
        }
        lines.push(("ended", printable(&job.how)));
    }
    if !receipt.checks.is_empty() {
        lines.push(("checked", printable(&receipt.checks.to_string())));
    }
    let moment = |at: Option<market::time::UnixMillis>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let frozen = match receipt.frozen_seconds {
        0 => String::new(),
        seconds => format!(", {seconds} s of them frozen"),
    };
    let transaction = |of: &api::types::TransactionRef| format!("{} in block {}", of.tx, of.block);
    lines.extend([
        ("ready", moment(receipt.ready_at)),
        ("stopped", moment(receipt.stopped_at)),
        ("billed", format!("{} s{frozen}", receipt.seconds)),
        ("rate", format!("{} an hour", show(q.rate.hourly()))),
        ("deposit", show(receipt.deposit)),
        ("paid", format!("{} to {}", show(receipt.paid), q.provider)),
        ("refunded", format!("{} to {}", show(receipt.refunded), q.renter)),
        ("opened", transaction(&receipt.opened)),
        ("closed", format!("{}, {}", transaction(&receipt.closed), closing_words(receipt.kind))),
        ("escrow", format!("{} on chain {}", quote.escrow.address, quote.escrow.chain)),
    ]);
    if let Some(arbiter) = q.named_arbiter() {
        lines.push(("arbiter", arbiter.to_string()));
    }
    if let Some(job) = &receipt.job
        && !job.output_directory.is_empty()
    {
        lines.push(("outputs", job.output_directory.clone()));
    }
    let mut text = format!("{} {}", style.bold("receipt"), style.bold(&receipt.id.to_string()));
    for (name, value) in lines {
        text.push_str(&format!("\n  {} {value}", style.dim(&format!("{name:<9}"))));
    }
    text
}

/// Receipts as a table, one a row.
pub(crate) fn receipts_table(output: &Output, receipts: &[Receipt]) -> String {
    let columns = [
        ("ID", false),
        ("ROLE", false),
        ("CLOSED", false),
        ("SECONDS", true),
        ("PAID", true),
        ("REFUNDED", true),
        ("PROGRAM", false),
        ("ENDED", false),
    ];
    let row = |receipt: &Receipt| {
        let show = |amount| receipt.terms.token.show(amount);
        let job = receipt.job.as_ref();
        vec![
            RentalId::short(&receipt.id),
            role_name(receipt.role).to_owned(),
            market::time::UnixMillis(receipt.closed.time.saturating_mul(1_000)).to_string(),
            receipt.seconds.to_string(),
            show(receipt.paid),
            show(receipt.refunded),
            job.map(|job| command_line(&job.argv)).unwrap_or_default(),
            job.map(|job| job.how.clone()).unwrap_or_default(),
        ]
    };
    output.table(&columns, receipts.iter().map(row).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::tests::plain;
    use alloy_primitives::{Address, B256, Signature, U256};
    use api::types::{Checks, JobSummary, Role, TransactionRef};
    use market::{
        id::{DeviceId, PeerId},
        money::{Amount, Rate, Token},
        offer::Hardware,
        quote::{Quote, SignedQuote},
        signed::Escrow,
        terms::Terms,
        time::UnixMillis,
    };

    /// A rental of ten seconds at 0.36 tUSD an hour.
    pub(crate) fn receipt() -> Receipt {
        let units = |n| Amount::new(n).unwrap();
        let escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
        let quote = Quote {
            provider: Address::repeat_byte(2),
            provider_key: Address::repeat_byte(4),
            renter: Address::repeat_byte(1),
            renter_key: Address::repeat_byte(5),
            token: Address::repeat_byte(3),
            rate: Rate::from_hourly(units(360_000)).unwrap(),
            min_deposit: units(1),
            max_seconds: 3_600,
            window: 900,
            expiry: 60,
            arbiter: Address::ZERO,
            device: DeviceId(B256::repeat_byte(6)),
            spec: B256::repeat_byte(7),
        };
        let at = |byte, block| TransactionRef { tx: B256::repeat_byte(byte), block, time: 1_795_284_726 };
        let key = libp2p_identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let peer = PeerId::from_public_key(&key.public());
        Receipt {
            id: RentalId(B256::repeat_byte(0xab)),
            role: Role::Renter,
            quote: SignedQuote { escrow, quote, signature: Signature::new(U256::from(5), U256::from(7), false) },
            terms: Terms {
                network: "devnet-00000000".into(),
                provider_peer: peer,
                renter_peer: peer,
                escrow,
                token: Token { chain: 31_337, address: Address::repeat_byte(3), symbol: "tUSD".into(), decimals: 6 },
                offer: "cpu".into(),
                slot: "cpu-0".into(),
                hardware: Hardware { cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 10_240, ..Hardware::default() },
                increment_millis: 1_000,
                ready_seconds: 60,
                frozen_seconds: 300,
                notice_seconds: 0,
                workload: Default::default(),
                continues: None,
                salt: [1; 16],
            },
            terms_bytes: Vec::new().into(),
            opened: at(0x11, 4),
            closed: at(0x22, 9),
            ready_at: Some(UnixMillis(1_795_284_716_000)),
            stopped_at: Some(UnixMillis(1_795_284_726_000)),
            seconds: 10,
            frozen_seconds: 0,
            deposit: units(90_000),
            paid: units(1_000),
            refunded: units(89_000),
            kind: 1,
            voucher: None,
            release: None,
            job: Some(JobSummary {
                label: None,
                argv: vec!["./job".into(), "--seed".into(), "7".into()],
                exit_code: Some(3),
                how: "exited with 3".into(),
                input_sha256: String::new(),
                output_sha256: String::new(),
                output_directory: "/home/me/gpulease-out/abababab".into(),
            }),
            checks: Checks { passed: 3, ..Checks::default() },
        }
    }

    #[test]
    fn a_receipt_shows_every_number_that_can_be_checked() {
        let text = receipt_text(&receipt(), Style::plain());
        for fact in [
            &format!("receipt {}", B256::repeat_byte(0xab)),
            "machine   1 CPU, 1 GiB memory, 10 GiB disk · cpu-0 at 12D3KooW",
            "ended     exited with 3",
            "checked   3 passed",
            "ready     2026-11-21T18:11:56Z",
            "billed    10 s\n",
            "rate      0.36 tUSD an hour",
            "deposit   0.09 tUSD",
            "paid      0.001 tUSD to 0x0202",
            "refunded  0.089 tUSD to 0x0101",
            &format!("opened    {} in block 4", B256::repeat_byte(0x11)),
            &format!("closed    {} in block 9, by the provider", B256::repeat_byte(0x22)),
            "on chain 31337",
            "outputs   /home/me/gpulease-out/abababab",
        ] {
            assert!(text.contains(fact), "`{fact}` is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_table_of_receipts_has_one_line_a_row_in_a_pipe_and_its_numbers_to_the_right() {
        let mut long = receipt();
        long.seconds = 12_345;
        long.job.as_mut().unwrap().argv = vec!["x".repeat(300)];
        let table = receipts_table(&plain(), &[receipt(), long]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[0].starts_with("ID"));
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        let number = end(lines[0], "SECONDS");
        assert_eq!((end(lines[1], " 10 ") - 1, end(lines[2], "12345")), (number, number), "{table}");
        assert!(
            lines[1].contains("0xabababab") && lines[1].contains("0.001 tUSD") && lines[1].contains("./job --seed 7")
        );
        assert!(!table.contains('\x1b'));
    }

    #[test]
    fn nothing_that_the_other_side_wrote_commands_the_terminal() {
        let mut hostile = receipt();
        hostile.terms.hardware.gpus.push(market::offer::GpuGroup {
            model: "\x1b]0;x\x07".into(),
            count: 1,
            ..Default::default()
        });
        hostile.job.as_mut().unwrap().how = "\x1b[31m".into();
        let texts = [receipt_text(&hostile, Style::plain()), receipts_table(&plain(), &[hostile])];
        assert!(texts.iter().all(|text| !text.contains('\x1b')), "{texts:?}");
    }
}
