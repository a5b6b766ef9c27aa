//! What commands print: tables and colours for people at a terminal, plain lines for pipes, JSON for programs. Results go to standard
//! output, everything else to standard error; a reader that goes away early is no error.

use api::types::{ApiError, Receipt, Role};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use market::id::RentalId;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Standard output is a terminal.
    terminal: bool,
    /// Colours on standard output.
    style: Style,
}

impl Output {
    /// For this process.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { json, terminal, style: Style::on(terminal) }
    }

    /// Prints a result as JSON, or else as the text that `text` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&Self) -> String) -> Result<(), ApiError> {
        if self.json {
            let json = if self.terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
            print(&json.map_err(|error| ApiError::new(api::types::ErrorKind::Failed, error.to_string(), ""))?);
        } else {
            print(&text(self));
        }
        Ok(())
    }

    /// A table with a heading. Columns marked `true` hold numbers and stand to the right. At a terminal it is fitted to its width; in a
    /// pipe each row is one line.
    pub(crate) fn table(&self, columns: &[(&str, bool)], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(if self.terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        if !self.style.colours {
            table.force_no_tty();
        }
        table.set_header(columns.iter().map(|(name, _)| Cell::new(name).add_attribute(Attribute::Bold)));
        table.add_rows(rows);
        for (column, (_, number)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(if *number { CellAlignment::Right } else { CellAlignment::Left });
        }
        table.trim_fmt()
    }
}

/// Prints to standard output. Whoever read it may have seen enough (`node offers | head`).
pub(crate) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints an error to standard error: what happened, and what to do next. As JSON when that was asked for.
pub(crate) fn print_error(error: &ApiError, json: bool) {
    let mut stderr = io::stderr().lock();
    let text = if json {
        serde_json::json!({ "error": error }).to_string()
    } else {
        error_text(error, Style::on(io::stderr().is_terminal()))
    };
    // there is no one left to tell
    let _ = writeln!(stderr, "{text}");
}

fn error_text(error: &ApiError, style: Style) -> String {
    let mut text = format!("{} {}", style.red("error:"), error.message);
    for line in error.next.lines() {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

/// Colours, or none: only at a terminal, and not where NO_COLOR (no-color.org) is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    /// For a stream that is or is not a terminal.
    pub(crate) fn on(terminal: bool) -> Self {
        Self { colours: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colours: false }
    }

    fn paint(self, code: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(1, text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(2, text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint(31, text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint(32, text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint(33, text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint(36, text)
    }
}

/// A peer as it is shown to people: the end of its id, which is where peer ids differ.
pub(crate) fn short_peer(peer: &str) -> String {
    const SHOWN: usize = 8;
    match peer.char_indices().rev().nth(SHOWN - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &peer[at..]),
        _ => peer.to_owned(),
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".to_owned(),
        0..1_024 => format!("{count} bytes"),
        _ => indicatif::BinaryBytes(count).to_string(),
    }
}

/// A number of seconds as people read it: `1h 02m 03s`.
pub(crate) fn duration(seconds: u32) -> String {
    let (h, m, s) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m {s:02}s"),
        _ => format!("{h}h {m:02}m {s:02}s"),
    }
}

/// What a role is called.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Provider => "provider",
        Role::Renter => "renter",
        Role::Indexer => "indexer",
    }
}

/// One receipt in full, a line for each fact that can be checked on chain.
pub(crate) fn receipt_text(receipt: &Receipt, style: Style) -> String {
    let Receipt { terms, quote, .. } = receipt;
    let show = |amount| terms.token.show(amount);
    let q = &quote.quote;
    let mut lines: Vec<(&str, String)> = vec![
        ("machine", format!("{} · {} at {}", terms.hardware, terms.slot, terms.provider_peer)),
        ("renter", terms.renter_peer.to_string()),
    ];
    if let Some(job) = &receipt.job {
        lines.push(("program", job.argv.join(" ")));
        lines.push(("ended", job.how.clone()));
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
        ("closed", format!("{}, {}", transaction(&receipt.closed), closing(receipt.kind))),
        ("escrow", format!("{} on chain {}", quote.escrow.address, quote.escrow.chain)),
    ]);
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

/// How a rental was closed, by the number in its receipt.
fn closing(kind: u8) -> &'static str {
    match kind {
        1 => "by the provider",
        2 => "released",
        3 => "finalized after a stop",
        4 => "finalized after its term",
        5 => "ruled by the arbiter",
        _ => "in an unknown way",
    }
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
            job.map(|job| job.argv.join(" ")).unwrap_or_default(),
            job.map(|job| job.how.clone()).unwrap_or_default(),
        ]
    };
    output.table(&columns, receipts.iter().map(row).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloy_primitives::{Address, B256, Signature, U256};
    use api::types::{ErrorKind, JobSummary, TransactionRef};
    use market::{
        id::{DeviceId, PeerId},
        money::{Amount, Rate, Token},
        offer::Hardware,
        quote::{Quote, SignedQuote},
        signed::Escrow,
        terms::Terms,
        time::UnixMillis,
    };

    pub(crate) fn plain() -> Output {
        Output { json: false, terminal: false, style: Style::plain() }
    }

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
                argv: vec!["./job".into(), "--seed".into(), "7".into()],
                exit_code: Some(3),
                how: "exited with 3".into(),
                input_sha256: String::new(),
                output_sha256: String::new(),
                output_directory: "/home/me/gpulease-out/abababab".into(),
            }),
        }
    }

    #[test]
    fn a_receipt_shows_every_number_that_can_be_checked() {
        let text = receipt_text(&receipt(), Style::plain());
        for fact in [
            &format!("receipt {}", B256::repeat_byte(0xab)),
            "machine   1 CPU, 1 GiB memory, 10 GiB disk · cpu-0 at 12D3KooW",
            "ended     exited with 3",
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
    fn an_error_says_what_happened_and_what_to_do() {
        let error = ApiError::new(ErrorKind::NoDaemon, "no daemon listens", "start it: node --role renter");
        assert_eq!(error_text(&error, Style::plain()), "error: no daemon listens\n  start it: node --role renter");
        let error = ApiError::new(ErrorKind::Failed, "it broke", "");
        assert_eq!(error_text(&error, Style { colours: true }), "\x1b[31merror:\x1b[0m it broke");
    }

    #[test]
    fn sizes_times_and_peers_are_shown_as_people_read_them() {
        assert_eq!([bytes(0), bytes(1), bytes(999), bytes(1 << 20)], ["0 bytes", "1 byte", "999 bytes", "1.00 MiB"]);
        assert_eq!([duration(9), duration(69), duration(3_723)], ["9s", "1m 09s", "1h 02m 03s"]);
        assert_eq!(short_peer("12D3KooWabcdefghABCDEFGH"), "…ABCDEFGH");
        assert_eq!(short_peer("short"), "short");
    }
}
