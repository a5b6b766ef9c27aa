//! A rental told in the order of its life, from what this side has written down: the order, the quote, the chain's part, the money that
//! was signed for, and what became of the program.

use crate::records::{Job, Record};
use api::types::{Receipt, StoryStep};
use market::{rental::renter::Phase, time::UnixMillis};

/// The steps of a rental up to `now`.
pub(crate) fn steps(record: &Record, receipt: Option<&Receipt>, now: UnixMillis) -> Vec<StoryStep> {
    let Record { rental, job, .. } = record;
    let (token, q) = (&rental.terms.token, &rental.quote.quote);
    // a run's number is the moment it was ordered
    let what = if job.is_held() { "to be held without a program".to_owned() } else { job.argv.join(" ") };
    let called = job.label.as_ref().map_or_else(String::new, |label| format!(" (called {label})"));
    let mut steps = vec![StoryStep::new("ordered", Some(UnixMillis(job.run)), what + &called)];
    steps.push(StoryStep::new(
        "quoted",
        None,
        format!(
            "{} by {} at {} an hour for up to {} s, after block {}; to be opened by {}{}",
            rental.terms.offer,
            rental.provider,
            token.show(q.rate.hourly()),
            q.max_seconds,
            rental.quoted_at_block,
            UnixMillis(u64::from(q.expiry) * 1_000),
            q.named_arbiter().map_or_else(String::new, |arbiter| format!("; disputes go to {arbiter}")),
        ),
    ));
    if rental.phase == Phase::Lapsed {
        steps.push(StoryStep::new("lapsed", None, "the quote was not opened; nothing was locked"));
    }
    if let Some(mandate) = &rental.mandate {
        let ahead = token.show(mandate.advance.cumulative);
        steps.push(StoryStep::new("mandated", None, format!("opened by the provider, with {ahead} paid in advance")));
    }
    if let Some(opening) = rental.opening {
        let detail = format!("{} locked", token.show(opening.deposit));
        steps.push(StoryStep::on_chain("opened", opening.start, opening.tx, opening.block, detail));
    }
    if let Some(at) = rental.opened_at {
        steps.push(StoryStep::new("waiting", Some(at), "the opening is confirmed; the sandbox is awaited"));
    }
    if let Some((at, _)) = rental.ready {
        let detail = match rental.metered_from {
            Some(from) if from != at => format!("the meter runs since {from}, by this node's clock"),
            _ => "the sandbox is up and the meter runs".to_owned(),
        };
        steps.push(StoryStep::new("ready", Some(at), detail));
    }
    steps.extend(job.checks.latest.iter().map(|check| StoryStep::new("checked", Some(check.at), check.to_string())));
    steps.extend(program(job));
    if let Some(notice) = rental.notice {
        steps.push(StoryStep::new("preempted", Some(notice.at), format!("gives way to {}", notice.reason)));
    }
    if let Some(voucher) = rental.voucher {
        let (signed, acked) = (token.show(voucher.cumulative), token.show(rental.acked));
        let missed = match rental.missed_acks {
            0 => String::new(),
            missed => format!("; the last {missed} unanswered"),
        };
        let detail = format!("{signed} signed for, {acked} of it acknowledged{missed}");
        steps.push(StoryStep::new("voucher", None, detail));
    }
    steps.extend(end(record, now));
    if let Some(receipt) = receipt {
        let detail = format!("{} s billed; in full: node receipts {}", receipt.seconds, rental.id.short());
        steps.push(StoryStep::new("receipt", None, detail));
    }
    steps
}

/// What became of the program. Its moments are in the log of the run, not in the record.
fn program(job: &Job) -> Vec<StoryStep> {
    let mut steps = Vec::new();
    if let Some(hash) = job.uploaded.as_ref().filter(|hash| !hash.is_empty()) {
        steps.push(StoryStep::new("uploaded", None, format!("sha256 {hash}")));
    }
    if let Some(ended) = &job.ended {
        steps.push(StoryStep::new("exited", None, ended.how.clone()));
    }
    if let Some(hash) = &job.fetched {
        steps.push(StoryStep::new("fetched", None, format!("sha256 {hash}, in {}", job.out.display())));
    }
    steps
}

fn end(Record { rental, job, .. }: &Record, now: UnixMillis) -> Vec<StoryStep> {
    let token = &rental.terms.token;
    let mut steps = Vec::new();
    if let Some(at) = rental.stopped_at {
        let told = match rental.missed_finishes {
            0 => String::new(),
            missed => format!("; the provider, told of it, did not answer {missed}×"),
        };
        let detail = format!("{} s on the meter{told}", rental.seconds(now));
        steps.push(StoryStep::new("finished", Some(at), detail));
    }
    if let Some(release) = rental.release {
        let detail = format!("{} signed by the provider as the final total", token.show(release.cumulative));
        steps.push(StoryStep::new("released", rental.released_at, detail));
    }
    if let Some(miss) = job.checks.miss() {
        steps.push(StoryStep::new("left", rental.stopped_at, format!("the hardware check missed: {}", miss.detail)));
    }
    if let Some(at) = rental.disputed_at {
        steps.push(StoryStep::new("disputed", Some(at), rental.stop_reason.words()));
    }
    steps.extend(api::story::chain_end(&rental.quote.quote, token, rental.opening, rental.stop_time, rental.closing));
    steps
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::records::Ended;
    use alloy_primitives::{Address, B256, Bytes, Signature, U256};
    use api::types::{CheckOutcome, HardwareCheck};
    use market::{
        dispute::StopReason,
        id::{DeviceId, PeerId},
        money::{Amount, Rate, Token},
        offer::Hardware,
        quote::{Quote, SignedQuote},
        rental::{
            Closing, Opening,
            renter::{Input, Rental},
        },
        signed::{Escrow, SignedRelease, SignedVoucher},
        terms::Terms,
    };

    fn units(n: u128) -> Amount {
        Amount::new(n).unwrap()
    }

    /// A rental that was just quoted.
    pub(crate) fn quoted() -> Record {
        let escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
        let peer = PeerId::random();
        let quote = Quote {
            provider: Address::repeat_byte(2),
            provider_key: Address::repeat_byte(4),
            renter: Address::repeat_byte(1),
            renter_key: Address::repeat_byte(5),
            token: Address::repeat_byte(3),
            rate: Rate::new(units(100_000_000)),
            min_deposit: units(1),
            max_seconds: 3_600,
            window: 900,
            expiry: 60,
            arbiter: Address::ZERO,
            device: DeviceId(B256::repeat_byte(6)),
            spec: B256::repeat_byte(7),
        };
        let terms = Terms {
            network: "devnet-00000000".into(),
            provider_peer: peer,
            renter_peer: peer,
            escrow,
            token: Token { chain: 31_337, address: Address::repeat_byte(3), symbol: "tUSD".into(), decimals: 6 },
            offer: "small".into(),
            slot: "small-0".into(),
            hardware: Hardware::default(),
            increment_millis: 1_000,
            ready_seconds: 60,
            frozen_seconds: 300,
            notice_seconds: 0,
            workload: Default::default(),
            continues: None,
            salt: [1; 16],
        };
        let signature = Signature::new(U256::from(5), U256::from(7), false);
        let signed = SignedQuote { escrow, quote, signature };
        Record {
            rental: Rental::new(signed, terms, Bytes::new(), units(90_000), 3),
            session_key: B256::repeat_byte(8),
            frozen_millis: 0,
            last_ack: None,
            taken_up: 0,
            job: Job {
                run: 10_000,
                label: None,
                argv: vec!["./job".into(), "-v".into()],
                env: Default::default(),
                input: None,
                out: "/out".into(),
                uploaded: None,
                ended: None,
                fetched: None,
                slots: 1,
                continued_by: None,
                no_check: false,
                checks: Default::default(),
            },
        }
    }

    fn names(steps: &[StoryStep]) -> Vec<&str> {
        steps.iter().map(|step| step.step.as_str()).collect()
    }

    #[test]
    fn a_run_is_told_from_its_order_to_its_receipt() {
        let mut record = quoted();
        let at = UnixMillis;
        assert_eq!(names(&steps(&record, None, at(0))), ["ordered", "quoted"]);
        let rental = &mut record.rental;
        let (id, signature) = (rental.id, rental.quote.signature);
        rental.step(Input::Open, at(19_000)).unwrap();
        let opening = Opening { deposit: units(90_000), start: 20, tx: B256::repeat_byte(0x11), block: 4 };
        rental.step(Input::Opened(opening), at(21_000)).unwrap();
        rental.step(Input::Ready(at(22_000), signature), at(22_000)).unwrap();
        let voucher = SignedVoucher { id, cumulative: units(200), signature };
        rental.step(Input::Signed(voucher), at(24_000)).unwrap();
        rental.step(Input::Acked(units(100)), at(24_000)).unwrap();
        rental.step(Input::Finish, at(24_000)).unwrap();
        rental.step(Input::Released(SignedRelease { id, cumulative: units(200), signature }), at(25_000)).unwrap();
        let closing = Closing {
            paid: units(200),
            refunded: units(89_800),
            elapsed: 4,
            kind: 1,
            tx: B256::repeat_byte(0x22),
            block: 9,
            time: 26,
        };
        rental.step(Input::Closed(closing), at(27_000)).unwrap();
        record.job.ended = Some(Ended { code: 3, how: "exited with 3".into() });
        record.job.fetched = Some("ab".into());
        let told = steps(&record, None, at(99_000));
        let expected = [
            "ordered", "quoted", "opened", "waiting", "ready", "exited", "fetched", "voucher", "finished", "released",
            "closed",
        ];
        assert_eq!(names(&told), expected);
        let moments: Vec<_> = told.iter().filter_map(|step| step.at).collect();
        assert_eq!(moments.len(), 7);
        assert!(moments.is_sorted(), "{moments:?}");
        let detail = |name: &str| told.iter().find(|step| step.step == name).unwrap().detail.as_str();
        assert_eq!(detail("ordered"), "./job -v");
        assert_eq!(detail("voucher"), "0.0002 tUSD signed for, 0.0001 tUSD of it acknowledged");
        assert_eq!(detail("finished"), "2 s on the meter");
        assert_eq!(detail("closed"), "by the provider: 0.0002 tUSD paid, 0.0898 tUSD returned");
    }

    #[test]
    fn what_is_held_says_so_and_what_it_is_called() {
        let mut record = quoted();
        record.job.argv.clear();
        record.job.label = Some("train".parse().unwrap());
        assert_eq!(steps(&record, None, UnixMillis(0))[0].detail, "to be held without a program (called train)");
        assert_eq!(record.job.summary().how, "held without a program");
    }

    #[test]
    fn checks_are_told_with_what_they_saw_and_a_miss_with_the_end_that_it_makes() {
        let mut record = quoted();
        let rental = &mut record.rental;
        let signature = rental.quote.signature;
        rental.step(Input::Open, UnixMillis(0)).unwrap();
        let opening = Opening { deposit: units(90_000), start: 20, tx: B256::ZERO, block: 4 };
        rental.step(Input::Opened(opening), UnixMillis(21_000)).unwrap();
        rental.step(Input::Ready(UnixMillis(22_000), signature), UnixMillis(22_000)).unwrap();
        rental.step(Input::Leave(StopReason::Hardware), UnixMillis(24_000)).unwrap();
        for (at, outcome, detail) in
            [(23_000, CheckOutcome::Passed, ""), (23_500, CheckOutcome::Missed, "product 1 of cpu is wrong")]
        {
            let (at, detail) = (UnixMillis(at), detail.to_owned());
            record.job.checks.add(HardwareCheck { at, level: 2, outcome, detail, devices: vec![] });
        }
        let told = steps(&record, None, UnixMillis(25_000));
        let shown: Vec<_> = told.iter().skip(5).map(|step| (step.step.as_str(), step.detail.as_str())).collect();
        let missed = "missed: product 1 of cpu is wrong";
        assert_eq!(shown[..2], [("checked", "passed"), ("checked", missed)]);
        assert!(shown.contains(&("left", "the hardware check missed: product 1 of cpu is wrong")), "{shown:?}");
    }

    #[test]
    fn a_provider_that_went_away_shows_in_what_stayed_unanswered() {
        let mut record = quoted();
        let rental = &mut record.rental;
        rental.step(Input::Open, UnixMillis(0)).unwrap();
        let opening = Opening { deposit: units(1), start: 20, tx: B256::ZERO, block: 4 };
        rental.step(Input::Opened(opening), UnixMillis(21_000)).unwrap();
        rental.step(Input::Finish, UnixMillis(22_000)).unwrap();
        rental.step(Input::FinishMissed, UnixMillis(23_000)).unwrap();
        rental.step(Input::Stopping(30), UnixMillis(31_000)).unwrap();
        let told = steps(&record, None, UnixMillis(40_000));
        assert_eq!(names(&told), ["ordered", "quoted", "opened", "waiting", "finished", "stopped"]);
        assert!(told[4].detail.ends_with("did not answer 1×"), "{}", told[4].detail);
        assert_eq!(told[5].at, Some(UnixMillis(30_000)));
    }

    #[test]
    fn a_dispute_is_told_with_its_reason_and_its_ruling() {
        let mut record = quoted();
        let rental = &mut record.rental;
        rental.quote.quote.arbiter = Address::repeat_byte(7);
        rental.step(Input::Open, UnixMillis(0)).unwrap();
        let opening = Opening { deposit: units(90_000), start: 20, tx: B256::ZERO, block: 4 };
        rental.step(Input::Opened(opening), UnixMillis(21_000)).unwrap();
        rental.step(Input::Dispute(StopReason::Hardware), UnixMillis(22_000)).unwrap();
        rental.step(Input::Stopping(30), UnixMillis(31_000)).unwrap();
        let (paid, refunded) = (units(100), units(89_900));
        let closing = Closing { paid, refunded, elapsed: 4, kind: 5, tx: B256::ZERO, block: 9, time: 600 };
        rental.step(Input::Closed(closing), UnixMillis(600_000)).unwrap();
        let told = steps(&record, None, UnixMillis(700_000));
        let expected = ["ordered", "quoted", "opened", "waiting", "finished", "disputed", "stopped", "ruled", "closed"];
        assert_eq!(names(&told), expected);
        assert!(told[1].detail.ends_with(&format!("disputes go to {}", Address::repeat_byte(7))), "{}", told[1].detail);
        assert_eq!(told[5].detail, "the machine is not what was offered");
    }
}
