//! What the command line reads, what it refuses, and that it explains itself.

use super::*;
use clap::{CommandFactory, error::ErrorKind};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("node").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_read_with_its_options() {
    let cli = parse("--role provider,indexer --data-dir /d --json").unwrap();
    assert_eq!(cli.role, [Role::Provider, Role::Indexer]);
    assert!(cli.json && cli.command.is_none() && cli.data_dir == Some("/d".into()));

    let Some(Command::Init(init)) =
        parse("init --role renter --network devnet-1 --passphrase-file p --force").unwrap().command
    else {
        panic!("not init")
    };
    assert!(init.force && init.network == "devnet-1" && init.passphrase_file == Some("p".into()));

    let Some(Command::Offers(offers)) = parse("offers cpus>=4 --order -vram --limit 3 --json").unwrap().command else {
        panic!("not offers")
    };
    assert_eq!((offers.query.as_str(), offers.order.as_str(), offers.limit), ("cpus>=4", "-vram", 3));

    let Some(Command::Offers(offers)) = parse("offers --explain --job seconds=60 --rates r").unwrap().command else {
        panic!("not offers")
    };
    assert!(offers.explain && offers.order.is_empty());
    assert_eq!((offers.job.as_str(), offers.rates), ("seconds=60", Some("r".into())));

    let line =
        "run --for 1h30m --max-spend 1.50 --where cpus>=1 --input in --out o --env A=b=c --env D= -- prog --json -- x";
    let cli = parse(line).unwrap();
    assert!(!cli.json, "what follows the first -- is the program's");
    let Some(Command::Run(run)) = cli.command else { panic!("not run") };
    assert_eq!(
        (run.wanted.seconds, run.wanted.max_spend.as_deref(), run.query.as_str()),
        (5_400, Some("1.50"), "cpus>=1")
    );
    assert_eq!(run.env, [("A".into(), "b=c".into()), ("D".into(), String::new())]);
    assert_eq!(run.argv, ["prog", "--json", "--", "x"]);

    assert!(matches!(
        parse("run -- x").unwrap().command,
        Some(Command::Run(Run { wanted: Wanted { seconds: 3_600, .. }, .. }))
    ));
    assert!(matches!(parse("ps --all").unwrap().command, Some(Command::Ps(Ps { all: true, id: None }))));
    assert!(matches!(parse("show abcd").unwrap().command, Some(Command::Show(Show { id })) if id == "abcd"));
    let Some(Command::Share(share)) = parse("share 0xabcd --to 12D3 --for 8h").unwrap().command else {
        panic!("not share")
    };
    assert_eq!((share.id.as_str(), share.peer.as_str(), share.seconds), ("0xabcd", "12D3", Some(28_800)));
    assert!(matches!(parse("shares").unwrap().command, Some(Command::Shares(Shares { id: None }))));
    let unshare = parse("unshare 0xabcd --with 12D3").unwrap().command;
    assert!(matches!(unshare, Some(Command::Unshare(Unshare { id, peer })) if id == "0xabcd" && peer == "12D3"));
    assert!(matches!(parse("accept x").unwrap().command, Some(Command::Accept(Accept { token })) if token == "x"));
    assert!(
        matches!(parse("stop 0xabcd").unwrap().command, Some(Command::Stop(Stop { id, yes: false })) if id == "0xabcd")
    );
    assert!(
        matches!(parse("stop train --yes").unwrap().command, Some(Command::Stop(Stop { id, yes: true })) if id == "train")
    );
    let Some(Command::Rent(rent)) = parse("rent cpus>=1 --for 2h --label train").unwrap().command else {
        panic!("not rent")
    };
    assert_eq!((rent.query.as_str(), rent.wanted.seconds), ("cpus>=1", 7_200));
    assert_eq!(rent.wanted.label.as_ref().map(Label::as_str), Some("train"));
    assert!(parse("rent").is_ok() && parse("run --label x -- y").is_ok());
    assert!(matches!(parse("check 0xabcd").unwrap().command, Some(Command::Check(Check { id })) if id == "0xabcd"));
    let Some(Command::Extend(extend)) = parse("extend 0xabcd --for 15m").unwrap().command else { panic!("not extend") };
    assert_eq!((extend.id.as_str(), extend.seconds), ("0xabcd", 900));
    let moment = parse("drain --until 2000-02-29T00:00Z").unwrap().command;
    assert!(matches!(moment, Some(Command::Drain(Drain { until: Some(UnixMillis(951_782_400_000)) }))));
    assert!(matches!(parse("drain --until 2h").unwrap().command, Some(Command::Drain(Drain { until: Some(_) }))));
    assert!(parse("drain --until soon").unwrap_err().to_string().contains("2026-12-24T18:00Z, or like 2h"));
    let Some(Command::Run(bid)) = parse("run --interruptible --bid 0.2 --slots 4 -- x").unwrap().command else {
        panic!("not run")
    };
    assert_eq!((bid.wanted.interruptible, bid.wanted.bid.as_deref(), bid.wanted.slots), (true, Some("0.2"), 4));
    assert!(parse("run --bid 0.2 -- x").is_err() && parse("run --slots 33 -- x").is_err());
    let Some(Command::Dispute(dispute)) = parse("dispute 0xabcd").unwrap().command else { panic!("not dispute") };
    assert_eq!((dispute.id.as_deref(), dispute.reason), (Some("0xabcd"), StopReason::Other));
    let Some(Command::Dispute(dispute)) =
        parse("dispute abcd --reason not-served --out e.json --no-wait").unwrap().command
    else {
        panic!("not dispute")
    };
    assert_eq!((dispute.reason, dispute.out), (StopReason::NotServed, Some("e.json".into())));
    assert!(dispute.no_wait && !dispute.export && dispute.check.is_none());
    let checked = parse("dispute --check e.json").unwrap().command;
    assert!(
        matches!(checked, Some(Command::Dispute(Dispute { id: None, check: Some(file), .. })) if file == *"e.json")
    );
    assert!(matches!(
        parse("receipts").unwrap().command,
        Some(Command::Receipts(Receipts { id: None, verify: false, .. }))
    ));
    let Some(Command::Rate(rate)) = parse("rate 0xabcd --stars 4 --comment fine").unwrap().command else {
        panic!("not rate")
    };
    assert_eq!((rate.id.as_str(), rate.stars, rate.comment.as_str()), ("0xabcd", 4, "fine"));
    let Some(Command::Reputation(of)) = parse("reputation 0xab --mine").unwrap().command else {
        panic!("not reputation")
    };
    assert_eq!((of.provider.as_str(), of.mine, of.verify), ("0xab", true, false));
    let line = "receipts --verify 0xabcd --file r.json";
    let Some(Command::Receipts(receipts)) = parse(line).unwrap().command else { panic!("not receipts") };
    assert!(receipts.verify && receipts.id.as_deref() == Some("0xabcd") && receipts.file == Some("r.json".into()));
    assert!(matches!(parse("doctor --json").unwrap().command, Some(Command::Doctor)));
    let new = parse("wallet new spare").unwrap().command;
    assert!(matches!(new, Some(Command::Wallet(Wallet::New { name })) if name == "spare"));
    assert!(matches!(parse("wallet show").unwrap().command, Some(Command::Wallet(Wallet::Show))));
    let revoke = parse("wallet approvals --revoke tUSD").unwrap().command;
    assert!(
        matches!(revoke, Some(Command::Wallet(Wallet::Approvals(Approvals { revoke: Some(token) }))) if token == "tUSD")
    );
    let list = parse("wallet approvals").unwrap().command;
    assert!(matches!(list, Some(Command::Wallet(Wallet::Approvals(Approvals { revoke: None })))));
    assert!(matches!(parse("wallet balance").unwrap().command, Some(Command::Wallet(Wallet::Balance))));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "--role miner",
        "run",
        "run prog",
        "run --for 0 -- x",
        "run --for 5x -- x",
        "run --max-spend -1 -- x",
        "run --max-spend 1,5 -- x",
        "run --env =x -- x",
        "run --env GPULEASE_SURELY_NOT_SET -- x",
        "receipts --file r.json",
        "man",
        "man ./man --name $(x)",
        "ps --log-format xml",
        "completions",
        "completions csh",
        "completions bash --name $(x)",
        "show",
        "show 0xab",
        "stop",
        "stop 0xab",
        "stop x/y",
        "rent --label 0xabcd",
        "rent --label cafe",
        "run --label a/b -- x",
        "rate 0xabcd",
        "rate 0xabcd --stars 0",
        "rate 0xabcd --stars 6",
        "rate --stars 5",
        "reputation",
        "dispute",
        "dispute 0xab",
        "dispute 0xabcd --reason boredom",
        "dispute 0xabcd --export --no-wait",
        "dispute 0xabcd --check e.json",
        "offers --limit 0",
        "share 0xabcd",
        "share --to 12D3",
        "unshare 0xabcd",
        "accept",
        "wallet",
        "wallet new",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}

#[test]
fn a_misspelt_command_is_answered_with_the_nearest() {
    let error = parse("recepts").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSubcommand);
    assert!(error.to_string().contains("receipts"), "{error}");
}

/// The words of an example up to what is the shell's: a pipe, a redirection, a second command, or the words that explain it.
fn words(example: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for (at, c) in example.char_indices() {
        match c {
            '\'' => (quoted, word) = (!quoted, Some(word.unwrap_or_default())),
            _ if quoted => word.get_or_insert_default().push(c),
            '|' | '>' | '&' => break,
            ' ' => {
                words.extend(word.take());
                if example[at..].starts_with("  ") {
                    break;
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn check_page(command: &clap::Command, path: &str) {
    assert!(command.get_about().is_some(), "{path} is not described");
    let page = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (_, rest) = page.split_once("Examples:\n").unwrap_or_else(|| panic!("{path} has no examples: {page}"));
    let examples: Vec<_> = rest.lines().take_while(|line| line.starts_with("  ")).map(str::trim).collect();
    assert!(!examples.is_empty(), "{path}");
    for example in examples {
        let words = words(example);
        assert!(example.starts_with(path) || path == "node", "{path} shows another command: {example}");
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{path}: `{example}` is not a command: {error}");
        }
    }
    for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
        assert!(argument.get_help().is_some(), "{path}: {} is not described", argument.get_id());
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        check_page(inner, &format!("{path} {}", inner.get_name()));
    }
}

#[test]
fn every_command_is_described_and_has_examples_that_are_commands() {
    check_page(&Cli::command(), "node");
}

#[test]
fn a_misspelt_role_is_answered_with_the_nearest() {
    let error = parse("--role provder").unwrap_err().to_string();
    assert!(error.contains("did you mean `provider`?"), "{error}");
    assert!(!parse("--role miner").unwrap_err().to_string().contains("did you mean"));
}
