//! A run as its user sees it: each step one line with a mark on standard error, the program's own output byte for byte on both
//! streams, what is going on and what it has cost on a moving last line where there is a terminal, and in the end the receipt.

use crate::{
    output::{self, Style, printable, short_peer},
    receipt::receipt_text,
};
use api::types::{ApiError, ErrorKind, RunEvent, RunStep, SignedField};
use base64::{Engine, prelude::BASE64_STANDARD};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use market::{id::RentalId, time::UnixMillis};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Without a terminal the running cost is printed no more often than this, in milliseconds: vouchers come several times an increment.
const COST_LINE_EVERY: u64 = 10_000;
/// How often the moving line is redrawn while nothing happens.
const REDRAW: Duration = Duration::from_millis(120);

/// What a run has come to so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The rental, once there is a quote.
    pub(crate) rental: Option<RentalId>,
    /// Whether it was opened: from then on a failure is ours, not a refusal.
    pub(crate) opened: bool,
    /// The program's own exit code.
    exit: Option<i32>,
    /// Whether the escrow has paid both sides.
    settled: bool,
    /// How the run ended, when it has.
    ended: Option<Result<(), ApiError>>,
}

/// A run that began and failed on our side.
const OUR_FAILURE: u8 = 125;
/// Ended by an interrupt, as shells say it: 128 and the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

impl Progress {
    /// Takes notice of an event.
    pub(crate) fn note(&mut self, event: &RunEvent) {
        match &event.step {
            RunStep::Quoted { id, .. } if !self.opened => self.rental = Some(*id),
            RunStep::Continued { id, .. } => self.rental = Some(*id),
            RunStep::Opened { .. } => self.opened = true,
            RunStep::Exited { code, .. } => self.exit = Some(*code),
            RunStep::Settled { receipt, error } => {
                self.exit = self.exit.or(receipt.job.as_ref().and_then(|job| job.exit_code));
                self.settled = true;
                self.ended = Some(error.clone().map_or(Ok(()), Err));
            }
            RunStep::Failed { error } => self.ended = Some(Err(error.clone())),
            _ => {}
        }
    }

    /// The exit code of the command, or the error to report first with the code that follows it.
    pub(crate) fn outcome(&self, interrupted: bool) -> Result<u8, (ApiError, u8)> {
        let cut_off = || {
            let next = "the daemon goes on with it: see `node ps` and `node receipts`";
            Err(ApiError::new(ErrorKind::Failed, "the events of the run ended before it did", next))
        };
        match self.ended.clone().unwrap_or_else(cut_off) {
            // stopped because it was asked to
            Err(_) if interrupted && self.settled && self.exit.is_none() => Ok(INTERRUPTED),
            Err(error) => {
                let code = if self.opened { OUR_FAILURE } else { error.kind.exit_code() };
                Err((error, code))
            }
            Ok(()) => match self.exit.map(u8::try_from) {
                Some(Ok(code)) => Ok(code),
                None if interrupted => Ok(INTERRUPTED),
                _ => {
                    let error = ApiError::new(ErrorKind::Failed, "the rental ended before the program did", "");
                    Err((error, OUR_FAILURE))
                }
            },
        }
    }
}

/// Draws the events of a run.
pub(crate) struct RunView<O, E> {
    stdout: O,
    stderr: E,
    style: Style,
    /// Whether standard error is a terminal, so that there is a moving line.
    terminal: bool,
    /// Whether standard output is one too, so that the program's output shares the page with ours.
    shared: bool,
    bar: Option<ProgressBar>,
    /// Whether the program's output stopped in the middle of a line.
    mid_line: bool,
    last_cost_line: UnixMillis,
    started: bool,
}

impl<O: Write, E: Write> RunView<O, E> {
    /// Draws on these streams; `shared` and `terminal` say whether the first and the second are terminals.
    pub(crate) fn new(stdout: O, shared: bool, stderr: E, terminal: bool) -> Self {
        let style = Style::on(terminal);
        Self {
            stdout,
            stderr,
            style,
            terminal,
            shared,
            bar: None,
            mid_line: false,
            last_cost_line: UnixMillis(0),
            started: false,
        }
    }

    /// Draws one event. A stream whose reader went away is an error; the run itself goes on in the daemon.
    pub(crate) fn show(&mut self, event: &RunEvent) -> io::Result<()> {
        let style = self.style;
        let (good, bad, next) = (style.green("✓"), style.red("✗"), style.cyan("→"));
        match &event.step {
            RunStep::Matched { offer, candidates } => {
                let of = if *candidates == 1 { "the only match".to_owned() } else { format!("best of {candidates}") };
                let provider = short_peer(&offer.provider);
                let what = format!("{} at {provider} · {} · {}/h · {of}", offer.offer, offer.hardware, offer.price);
                self.line(&good, "matched", &printable(&what))
            }
            RunStep::Refused { provider, reason } => {
                self.line(&bad, "refused", &format!("{}: {}", short_peer(provider), printable(reason)))
            }
            RunStep::Quoted { id, deposit, price_hour, gas, arbiter } => {
                let id = style.bold(&id.short());
                let gas = if gas.is_empty() { String::new() } else { format!(" · gas about {gas}") };
                let arbiter = arbiter.map_or_else(String::new, |arbiter| format!(" · disputes go to {arbiter}"));
                self.line(&good, "quoted", &format!("rental {id} · {price_hour}/h · locks {deposit}{gas}{arbiter}"))
            }
            RunStep::Signing { what, fields } => {
                self.line(&next, "signing", &printable(what))?;
                for SignedField { name, value } in fields {
                    self.line(" ", "", &style.dim(&format!("{:<12} {}", printable(name), printable(value))))?;
                }
                Ok(())
            }
            RunStep::Mandated { advance } => {
                let what = format!("the provider opens and pays the gas; {advance} is paid in advance");
                self.line(&good, "mandated", &what)?;
                self.moving("waiting for the chain")
            }
            RunStep::Opening { tx } => {
                self.line(&next, "opening", &format!("tx {tx}"))?;
                self.moving("waiting for the chain")
            }
            RunStep::Opened { tx, block } => {
                self.line(&good, "opened", &format!("in block {block}, tx {tx}"))?;
                self.moving("waiting for the sandbox")
            }
            RunStep::Preempted { at, reason } => {
                self.line(&bad, "preempted", &format!("by {}: it ends at {at}", printable(reason)))
            }
            RunStep::Continued { id, price_hour } => {
                let id = style.bold(&id.short());
                self.line(&good, "goes on", &format!("as rental {id} · {price_hour}/h"))
            }
            RunStep::Ready { at } => self.line(&good, "ready", &format!("the meter runs since {at}")),
            RunStep::Uploading { sent, total } if sent < total => {
                self.moving(&format!("uploading {} of {}", output::bytes(*sent), output::bytes(*total)))
            }
            RunStep::Uploading { total, .. } => self.line(&good, "uploaded", &output::bytes(*total)),
            RunStep::Started => {
                self.started = true;
                self.line(&next, "started", &style.dim("the program's own output follows"))
            }
            RunStep::Log { stderr, data, .. } => self.log(*stderr, data),
            RunStep::LogGap { .. } => {
                self.notice("output is missing here: the program wrote faster than it could be fetched")
            }
            RunStep::Paid { seconds, cost } => self.cost(event.at, *seconds, cost),
            RunStep::Exited { code, how } => self.line(if *code == 0 { &good } else { &bad }, "ended", &printable(how)),
            RunStep::Fetching { received } => {
                self.moving(&format!("fetching outputs, {} so far", output::bytes(*received)))
            }
            RunStep::Fetched { files, bytes, directory } => {
                let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
                self.line(&good, "fetched", &format!("{files}, {} → {directory}", output::bytes(*bytes)))
            }
            RunStep::Settling { total } => {
                self.line(&next, "settling", &format!("{total} in all"))?;
                self.moving("waiting for the chain")
            }
            RunStep::Settled { receipt, .. } => {
                self.line(&good, "settled", &format!("in block {}, tx {}", receipt.closed.block, receipt.closed.tx))?;
                self.end_line()?;
                writeln!(self.stderr, "\n{}", receipt_text(receipt, style))
            }
            RunStep::Failed { .. } => {
                self.clear();
                self.end_line()
            }
        }
    }

    /// Prints a line of our own between events.
    pub(crate) fn notice(&mut self, text: &str) -> io::Result<()> {
        let mark = self.style.yellow("!");
        self.line(&mark, "", text)
    }

    /// Takes the moving line away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, mark: &str, name: &str, what: &str) -> io::Result<()> {
        self.clear();
        self.end_line()?;
        let gap = if name.is_empty() { String::new() } else { format!("{name:<9} ") };
        writeln!(self.stderr, "{mark} {gap}{what}")
    }

    /// Our lines begin at the left even if the program's last one did not end. Only at a terminal do they share the page.
    fn end_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.mid_line) && self.terminal { writeln!(self.stderr) } else { Ok(()) }
    }

    fn log(&mut self, stderr: bool, data: &str) -> io::Result<()> {
        let bytes = BASE64_STANDARD.decode(data).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.clear();
        if stderr {
            self.stderr.write_all(&bytes)?;
            self.stderr.flush()?;
        } else {
            self.stdout.write_all(&bytes)?;
            self.stdout.flush()?;
        }
        if stderr || self.shared {
            self.mid_line = bytes.last().map_or(self.mid_line, |last| *last != b'\n');
        }
        Ok(())
    }

    fn cost(&mut self, at: UnixMillis, seconds: u32, cost: &str) -> io::Result<()> {
        let text = format!("{} · {cost} so far", output::duration(seconds));
        if self.terminal {
            return self.moving(&text);
        }
        if !self.started || at.since(self.last_cost_line) < COST_LINE_EVERY {
            return Ok(());
        }
        self.last_cost_line = at;
        let mark = self.style.dim("·");
        self.line(&mark, "meter", &text)
    }

    /// Shows what is going on, where there is a terminal and the cursor is at the left.
    fn moving(&mut self, text: &str) -> io::Result<()> {
        if self.terminal && !self.mid_line {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(REDRAW);
                bar
            });
            bar.set_message(text.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::tests::receipt;
    use alloy_primitives::B256;

    fn event(step: RunStep) -> RunEvent {
        RunEvent { number: 0, at: UnixMillis(1_795_284_726_000), step }
    }

    fn quoted() -> RunStep {
        let text = |text: &str| text.to_owned();
        RunStep::Quoted {
            id: RentalId(B256::repeat_byte(0xab)),
            deposit: text("0.09 tUSD"),
            price_hour: text("0.36 tUSD"),
            gas: text("0.0001 ETH"),
            arbiter: None,
        }
    }

    fn log(stderr: bool, bytes: &[u8]) -> RunStep {
        RunStep::Log { stderr, seq: 0, offset: 0, data: BASE64_STANDARD.encode(bytes) }
    }

    fn exited(code: i32) -> RunStep {
        RunStep::Exited { code, how: format!("exited with {code}") }
    }

    fn settled() -> RunStep {
        RunStep::Settled { receipt: Box::new(receipt()), error: None }
    }

    fn failed(kind: ErrorKind) -> RunStep {
        RunStep::Failed { error: ApiError::new(kind, "no", "") }
    }

    fn drawn(steps: &[RunStep]) -> (Vec<u8>, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut view = RunView::new(&mut out, false, &mut err, false);
        for step in steps {
            view.show(&event(step.clone())).unwrap();
        }
        (out, String::from_utf8_lossy(&err).into_owned())
    }

    #[test]
    fn the_programs_output_comes_through_byte_for_byte_on_its_own_streams() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let (out, err) = drawn(&[
            RunStep::Started,
            log(false, &every_byte),
            log(true, b"no newline"),
            log(false, b"\r\n\r"),
            exited(0),
        ]);
        assert_eq!(out, [&every_byte[..], b"\r\n\r"].concat());
        assert!(err.contains("no newline"), "{err}");
    }

    #[test]
    fn every_step_is_one_line_with_its_mark() {
        let opening = RunStep::Opening { tx: B256::repeat_byte(0x11) };
        let opened = RunStep::Opened { tx: B256::repeat_byte(0x11), block: 42 };
        let refused =
            RunStep::Refused { provider: "12D3KooWabcdefghABCDEFGH".into(), reason: "busy until noon".into() };
        let fetched = RunStep::Fetched { files: 1, bytes: 5, directory: "/out".into() };
        let sent = |sent| RunStep::Uploading { sent, total: 2_048 };
        let (out, err) =
            drawn(&[refused, quoted(), opening, opened, sent(5), sent(2_048), exited(3), fetched, settled()]);
        assert!(out.is_empty());
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines[0], "✗ refused   …ABCDEFGH: busy until noon");
        assert_eq!(lines[1], "✓ quoted    rental 0xabababab · 0.36 tUSD/h · locks 0.09 tUSD · gas about 0.0001 ETH");
        assert!(lines[2].starts_with("→ opening   tx 0x1111"));
        assert!(lines[3].starts_with("✓ opened    in block 42, tx 0x1111"));
        assert_eq!(lines[4], "✓ uploaded  2.00 KiB");
        assert_eq!(lines[5], "✗ ended     exited with 3");
        assert_eq!(lines[6], "✓ fetched   1 file, 5 bytes → /out");
        assert!(lines[7].starts_with("✓ settled   in block 9, tx 0x2222"));
        assert!(err.contains("\nreceipt 0xabab") && err.contains("refunded  0.089 tUSD"), "{err}");
    }

    #[test]
    fn in_a_pipe_the_running_cost_is_printed_now_and_then() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut view = RunView::new(&mut out, false, &mut err, false);
        view.show(&event(RunStep::Started)).unwrap();
        for tick in 0..60u32 {
            let step = RunStep::Paid { seconds: tick / 3, cost: "0.001 tUSD".into() };
            let at = UnixMillis(1_795_284_726_000 + u64::from(tick) * 333);
            view.show(&RunEvent { number: 0, at, step }).unwrap();
        }
        assert_eq!(String::from_utf8(err).unwrap().matches("so far").count(), 2);
    }

    #[test]
    fn the_exit_code_is_the_programs_own_or_says_whose_fault_it_was() {
        let opened = || RunStep::Opened { tx: B256::ZERO, block: 1 };
        let mut unfinished = receipt();
        unfinished.job = None;
        let error = || Some(ApiError::new(ErrorKind::Failed, "no", ""));
        let stopped = || RunStep::Settled { receipt: Box::new(unfinished.clone()), error: error() };
        let lost = || RunStep::Settled { receipt: Box::new(receipt()), error: error() };
        let cases: Vec<(&str, Vec<RunStep>, bool, u8)> = vec![
            ("the program's own", vec![quoted(), opened(), exited(3), settled()], false, 3),
            ("a signal", vec![quoted(), opened(), exited(137), settled()], false, 137),
            ("success", vec![quoted(), opened(), exited(0), settled()], false, 0),
            ("from the receipt, when the event was missed", vec![opened(), settled()], false, 3),
            ("no match", vec![failed(ErrorKind::NoMatch)], false, 4),
            ("no funds after the quote", vec![quoted(), failed(ErrorKind::Funds)], false, 5),
            ("all refused", vec![failed(ErrorKind::Refused)], false, 6),
            ("failed after the opening", vec![quoted(), opened(), failed(ErrorKind::Timeout)], false, 125),
            ("even when the program had ended well", vec![opened(), exited(0), failed(ErrorKind::Failed)], false, 125),
            ("settled, but the outputs were lost", vec![opened(), exited(0), lost()], false, 125),
            ("stopped by somebody else", vec![opened(), stopped()], false, 125),
            ("interrupted by the user", vec![opened(), stopped()], true, 130),
            ("events broke off before the opening", vec![quoted()], false, 1),
            ("events broke off after the opening", vec![opened()], false, 125),
        ];
        for (what, steps, interrupted, code) in cases {
            let mut progress = Progress::default();
            steps.into_iter().for_each(|step| progress.note(&event(step)));
            let got = progress.outcome(interrupted).unwrap_or_else(|(_, code)| code);
            assert_eq!(got, code, "{what}");
        }
    }
}
