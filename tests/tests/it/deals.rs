//! What provider and renter agree on beyond a plain rental: discounts, slots together, several tokens, and a machine that goes out of service.

use alloy::{
    primitives::{Address, U256},
    sol,
    sol_types::SolCall,
};
use anyhow::{Result, ensure};
use api::types::{OfferRow, Receipt, Reloaded, RentalRow, ServiceState};
use devnet::{Devnet, Node, NodeSpec, Signal, SlotSpec, books::Books};
use std::{fs, process::Stdio};
use tests::{books_balance, eventually, failed_with, offers_arrive, phase, receipt, story};
use toml::{Table, Value, toml};

sol! {
    /// What the test dollar has for everybody.
    function mint(address to, uint256 amount);
}

fn provider_rows(config: &mut Table, name: &str, row: Table) {
    let provider = config.get_mut("provider").and_then(Value::as_table_mut);
    let rows = provider.map(|provider| provider.entry(name).or_insert_with(|| Value::Array(Vec::new())));
    if let Some(Value::Array(rows)) = rows {
        rows.push(Value::Table(row));
    }
}

async fn rented(renter: &Node) -> Result<Receipt> {
    let done = renter.call(["run", "--for", "1m", "--", "true"]).await?;
    ensure!(done.code == 0, "{}", done.stderr);
    receipt(renter).await
}

async fn offers(node: &Node) -> Result<Vec<OfferRow>> {
    node.json(&["offers"]).await
}

#[tokio::test]
async fn whoever_holds_the_nft_that_an_offer_names_pays_less() -> Result<()> {
    story(async {
        let art = Address::repeat_byte(0xa7);
        // a slot for each: the second does not wait until the first one's is seen to be free
        let two = SlotSpec { count: 2, ..SlotSpec::default() };
        let provider = NodeSpec::provider("provider-1").slots([two]).config(move |config| {
            let row = toml! { percent = 25
            chain = "devnet" };
            let mut row = row;
            row.insert("token".into(), art.to_string().into());
            provider_rows(config, "discount", row);
        });
        let devnet = Devnet::builder().node(provider).renters(2).start().await?;
        let (holder, other) = (devnet.node("renter-1")?, devnet.node("renter-2")?);
        devnet.chain.copy_code(devnet.chain.token, art).await?;
        devnet.chain.call(art, mintCall { to: holder.wallet, amount: U256::ONE }.abi_encode().into()).await?;
        let before = Books::read(&devnet).await?;
        for renter in [holder, other] {
            offers_arrive(&devnet, renter).await?;
            rented(renter).await?;
        }
        let receipts = books_balance(&devnet, &before).await?;
        let rate = |renter: &Node| {
            let receipt = receipts.iter().find(|receipt| receipt.quote.quote.renter == renter.wallet);
            receipt.map(|receipt| receipt.quote.quote.rate.hourly().get())
        };
        assert_eq!((rate(holder), rate(other)), (Some(2_700_000), Some(3_600_000)));
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_drained_provider_takes_nobody_new_finishes_what_goes_on_and_keeps_to_it_over_a_restart() -> Result<()> {
    story(async {
        let two = SlotSpec { count: 2, ..SlotSpec::default() };
        let provider = NodeSpec::provider("provider-1").slots([two]);
        let devnet = Devnet::builder().node(provider).renters(2).start().await?;
        let (provider, first, second) =
            (devnet.node("provider-1")?, devnet.node("renter-1")?, devnet.node("renter-2")?);
        for renter in [first, second] {
            offers_arrive(&devnet, renter).await?;
        }
        let before = Books::read(&devnet).await?;
        let running = ["run", "--for", "3m", "--", "sh", "-c", "sleep 20; echo finished"];
        let running = first.command(running).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        phase(first, "serving").await?;

        let state: ServiceState = provider.json(&["drain", "--until", "1h"]).await?;
        assert_eq!((state.taking_rentals, state.until.is_some(), state.rentals), (false, true, 1));
        let refused = second.call(["run", "--for", "1m", "--", "true"]).await?;
        failed_with(&refused, 6, &["going out of service", "until"])?;
        let shown = async || {
            Ok(offers(second).await?.first().filter(|o| o.free == 0 && o.busy_until == state.until).map(|_| ()))
        };
        eventually("the offer is shown as busy", shown).await?;
        devnet.signal("provider-1", Signal::TERM)?;
        devnet.ended("provider-1").await?;
        devnet.restart("provider-1").await?;
        failed_with(&second.call(["run", "--for", "1m", "--", "true"]).await?, 6, &["going out of service"])?;

        let output = running.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"finished\n");
        let state: ServiceState = provider.json(&["undrain"]).await?;
        ensure!(state.taking_rentals, "{state:?}");
        eventually("the offer is free again", async || {
            Ok(offers(second).await?.first().filter(|o| o.free > 0).map(|_| ()))
        })
        .await?;
        rented(second).await?;
        assert_eq!(books_balance(&devnet, &before).await?.len(), 2);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_price_changes_while_a_rental_goes_on_and_a_bad_file_changes_nothing() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().providers(1).renters(1).start().await?;
        let (provider, renter) = (devnet.node("provider-1")?, devnet.node("renter-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let running = ["run", "--for", "3m", "--", "sleep", "8"];
        let running = renter.command(running).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        phase(renter, "serving").await?;

        let file = provider.data_dir.join("config.toml");
        let was = fs::read_to_string(&file)?;
        ensure!(was.contains("\"3.6\""), "{was}");
        fs::write(&file, was.replace("\"3.6\"", "\"dear\""))?;
        failed_with(&provider.call(["reload"]).await?, 2, &["hourly", "nothing has changed"])?;
        fs::write(&file, was.replace("\"3.6\"", "\"7.2\"").replace("region = \"local\"", "region = \"KR\""))?;
        let reloaded: Reloaded = provider.json(&["reload"]).await?;
        assert_eq!((reloaded.taken, reloaded.at_restart), (vec!["pricing".to_owned()], vec!["region".to_owned()]));
        let dearer = async || Ok(offers(renter).await?.first().filter(|o| o.price_hour.get() == 7_200_000).map(|_| ()));
        eventually("the new price is advertised", dearer).await?;
        let output = running.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        rented(renter).await?;

        let mut rates: Vec<_> =
            books_balance(&devnet, &before).await?.iter().map(|r| r.quote.quote.rate.hourly().get()).collect();
        rates.sort_unstable();
        assert_eq!(rates, [3_600_000, 7_200_000], "what was agreed holds, and what is new holds for the next");
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn two_slots_are_rented_as_one_and_paid_in_the_token_that_the_renter_has() -> Result<()> {
    story(async {
        let coin = |config: &mut Table| {
            let tokens = config["chain"][0]["token"].as_array_mut().expect("tokens");
            let mut coin = toml! { symbol = "ETH"
            decimals = 18 };
            coin.insert("address".into(), Address::ZERO.to_string().into());
            tokens.push(Value::Table(coin));
        };
        let three = SlotSpec { count: 3, ..SlotSpec::default() };
        let provider = NodeSpec::provider("provider-1").slots([three]).increment_millis(4_000).config(move |config| {
            coin(config);
            config["provider"]["slot"][0]
                .as_table_mut()
                .expect("a slot")
                .insert("splits".into(), Value::Array(vec![1.into(), 2.into()]));
            let row = toml! { chain = "devnet"
            token = "ETH"
            hourly = "0.0036"
            min_deposit = "0.000001" };
            provider_rows(config, "pricing", row);
        });
        let (dollars, coins) = (NodeSpec::renter("renter-1"), NodeSpec::renter("renter-2").dollars("0").config(coin));
        let devnet = Devnet::builder().node(provider).node(dollars).node(coins).start().await?;
        let (dollars, coins) = (devnet.node("renter-1")?, devnet.node("renter-2")?);
        for renter in [dollars, coins] {
            offers_arrive(&devnet, renter).await?;
        }
        let refused = dollars.call(["run", "--slots", "3", "--for", "1m", "--", "true"]).await?;
        failed_with(&refused, 4, &["3 slots together"])?;
        let pair = ["run", "--slots", "2", "--for", "2m", "--", "sh", "-c", "sleep 6"];
        let running = dollars.command(pair).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        phase(dollars, "serving").await?;
        let left = async || Ok(offers(coins).await?.iter().all(|offer| offer.free == 1).then_some(()));
        eventually("one of three is free", left).await?;

        let paid = coins.call(["run", "--where", "token=ETH", "--for", "1m", "--", "true"]).await?;
        ensure!(paid.code == 0, "{}", paid.stderr);
        let paid = receipt(coins).await?;
        assert_eq!((paid.terms.slot.as_str(), paid.terms.token.symbol.as_str()), ("cpu-3", "ETH"));
        ensure!(paid.quote.quote.token == Address::ZERO && paid.paid.get() > 0, "{paid:?}");

        let output = running.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pair = receipt(dollars).await?;
        assert_eq!((pair.terms.slot.as_str(), pair.terms.hardware.cpu_millis), ("cpu-1+2", 2_000));
        assert_eq!(pair.quote.quote.rate.hourly().get(), 7_200_000);
        for renter in [dollars, coins] {
            let proved = renter.call(["receipts", "--verify"]).await?;
            ensure!(proved.code == 0, "{}{}", proved.stdout, proved.stderr);
        }
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_extended_rental_goes_on_in_the_same_process_and_both_rentals_are_paid() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().providers(1).renters(1).start().await?;
        let (provider, renter) = (devnet.node("provider-1")?, devnet.node("renter-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        // longer than what was rented at first
        let count = "n=0; while [ $n -lt 40 ]; do n=$((n+1)); echo $n $$; sleep 1; done; echo $n > counted";
        let out = tempfile::tempdir()?;
        let run = ["run", "--for", "25s", "--out", out.path().to_str().expect("UTF-8"), "--", "sh", "-c", count];
        let run = renter.command(run).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let first = phase(renter, "serving").await?;
        let next: RentalRow = renter.json(&["extend", &first.id.to_string(), "--for", "1m"]).await?;
        ensure!(next.id != first.id, "{next:?}");
        let again = renter.call(["extend", &first.id.to_string(), "--for", "1m"]).await?;
        failed_with(&again, 2, &[])?;
        let handed = async || Ok(provider.log().contains("takes over the sandbox of the one before").then_some(()));
        eventually("the sandbox is handed over", handed).await?;

        let output = run.wait_with_output().await?;
        let (said, told) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
        ensure!(output.status.success() && told.contains("goes on"), "{told}");
        let lines: Vec<_> = said.lines().filter_map(|line| line.split_once(' ')).collect();
        let process = lines.first().map(|(_, process)| *process);
        let numbers: Vec<_> = lines.iter().map(|(number, _)| (*number).to_owned()).collect();
        assert_eq!(numbers, (1..=40).map(|number| number.to_string()).collect::<Vec<_>>(), "{told}");
        ensure!(lines.iter().all(|(_, other)| Some(*other) == process), "another process: {said}");
        assert_eq!(fs::read_to_string(out.path().join("counted"))?, "40\n");

        let mut receipts = books_balance(&devnet, &before).await?;
        receipts.sort_by_key(|receipt| receipt.opened.block);
        let [old, new] = receipts.as_slice() else { panic!("{} receipts of two rentals", receipts.len()) };
        assert_eq!((old.id, new.id, new.terms.continues), (first.id, next.id, Some(first.id)));
        assert_eq!((&old.terms.slot, old.quote.quote.device), (&new.terms.slot, new.quote.quote.device));
        assert_eq!(new.job.as_ref().and_then(|job| job.exit_code), Some(0));
        ensure!(old.seconds + new.seconds >= 38, "{} s and {} s", old.seconds, new.seconds);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_extended_rental_outlives_the_death_of_both_daemons() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().providers(1).renters(1).start().await?;
        let (provider, renter) = (devnet.node("provider-1")?, devnet.node("renter-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let count = "n=0; while [ $n -lt 30 ]; do n=$((n+1)); echo $n; sleep 1; done";
        let run = ["run", "--for", "40s", "--", "sh", "-c", count];
        let run = renter.command(run).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let first = phase(renter, "serving").await?;
        let next: RentalRow = renter.json(&["extend", &first.id.to_string(), "--for", "1m"]).await?;
        let serves = async || {
            let rows: Vec<RentalRow> = provider.json(&["ps"]).await?;
            Ok(rows.iter().any(|row| row.id == next.id && row.phase == "serving").then_some(()))
        };
        eventually("the new rental is served", serves).await?;
        for name in ["provider-1", "renter-1"] {
            devnet.signal(name, Signal::KILL)?;
            devnet.restart(name).await?;
        }
        let output = run.wait_with_output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{told}");
        let numbers: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
        assert_eq!(numbers, (1..=30).map(|number| number.to_string()).collect::<Vec<_>>(), "{told}");
        assert_eq!(books_balance(&devnet, &before).await?.len(), 2);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_interruptible_rental_gives_way_to_one_on_demand_with_notice_and_saves_what_it_has() -> Result<()> {
    story(async {
        let provider = NodeSpec::provider("provider-1").config(|config| {
            let provider = config["provider"].as_table_mut().expect("a provider has this section");
            provider.insert("notice_seconds".into(), 8.into());
            let pricing = provider["pricing"][0].as_table_mut().expect("a price");
            pricing.insert("bids_from".into(), "1.2".into());
        });
        let devnet = Devnet::builder().node(provider).renters(2).start().await?;
        let (cheap, dear) = (devnet.node("renter-1")?, devnet.node("renter-2")?);
        for renter in [cheap, dear] {
            offers_arrive(&devnet, renter).await?;
        }
        let before = Books::read(&devnet).await?;
        let low = ["run", "--interruptible", "--bid", "1.1", "--for", "5m", "--", "true"];
        failed_with(&cheap.call(low).await?, 4, &["no offer takes this bid"])?;

        let out = tempfile::tempdir()?;
        let program =
            "trap 'cp .gpulease-notice.json told; echo saved > state; exit 9' TERM; while :; do sleep 0.2; done";
        let folder = out.path().to_str().expect("UTF-8");
        let run = ["run", "--interruptible", "--bid", "1.8", "--for", "5m", "--out", folder, "--", "sh", "-c", program];
        let run = cheap.command(run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        phase(cheap, "serving").await?;
        // less than a tenth above
        let outbid = ["run", "--interruptible", "--bid", "1.9", "--for", "1m", "--", "true"];
        failed_with(&dear.call(outbid).await?, 6, &["busy until"])?;
        let done = dear.call(["run", "--for", "1m", "--", "echo", "served"]).await?;
        ensure!(done.code == 0 && done.stdout == "served\n", "{}", done.stderr);

        let output = run.wait_with_output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(9) && told.contains("by a rental on demand"),
            "{:?}: {told}",
            output.status
        );
        assert_eq!(fs::read_to_string(out.path().join("state"))?, "saved\n");
        ensure!(fs::read_to_string(out.path().join("told"))?.contains("on_demand"), "what the program was told");

        let receipts = books_balance(&devnet, &before).await?;
        let of = |node: &Node| receipts.iter().find(|receipt| receipt.quote.quote.renter == node.wallet);
        let (Some(given_way), Some(served)) = (of(cheap), of(dear)) else { panic!("{} receipts", receipts.len()) };
        assert_eq!(given_way.quote.quote.rate.hourly().get(), 1_800_000);
        assert_eq!(given_way.quote.quote.device, served.quote.quote.device);
        ensure!(given_way.stopped_at < served.ready_at, "both had the slot at once");
        devnet.stop()
    })
    .await
}
