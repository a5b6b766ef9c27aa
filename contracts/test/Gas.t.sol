// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Closing, Quote} from "../src/IRentalEscrow.sol";
import {FundingTest} from "./support/FundingTest.sol";
import {vm} from "./support/Test.sol";

/// What every step of a rental costs in steady state: all balances were used before, allowances are in place, and the close comes after the
/// quote's expiry, as it does for every rental of more than two minutes. Run with `isolate`, so that each call is a transaction of its own
/// with all that one pays.
///
/// `gas.json` holds what was measured when it was last looked at; a call that costs half a percent more fails, and so does one that costs as
/// much less, so that the file stays true. `contracts/gas` writes it.
///
/// forge-config: default.isolate = true
contract GasTest is FundingTest {
    string internal constant SNAPSHOT = "test/gas.json";
    /// Parts in ten thousand.
    uint256 internal constant TOLERANCE = 50;

    /// The most that was promised for a whole rental, whatever the snapshot says.
    uint256 internal constant TOKEN_CYCLE = 143_000;
    uint256 internal constant COIN_CYCLE = 116_500;
    uint256 internal constant BATCHED_CLOSE = 28_500;
    uint256 internal constant OPEN_WITH_AUTHORIZATION = 108_000;
    uint256 internal constant OPEN_WITH_PERMIT2 = 104_000;
    uint256 internal constant STOP_AND_FINALIZE = 82_500;

    uint96 internal constant LOCKED = 3_600_000;
    uint96 internal constant USED = 1_800_000;
    uint256 internal constant BATCH = 10;

    string internal measured;
    /// So that no two quotes are the same.
    uint256 internal quotes;

    function setUp() public override {
        super.setUp();
        dollar.mint(PROVIDER, 1);
        dollar.mint(address(escrow), 1);
        vm.deal(PROVIDER, 1);
        vm.deal(address(escrow), 1);
        approvePermit2(wallet);
    }

    function test_every_step_costs_what_the_snapshot_says() public {
        uint256 openToken = measureOpen("open", another(quote()));
        uint256 closeToken = measureClose("close", last);
        uint256 openCoin = measureOpen("open in coin", another(quoteIn(address(0))));
        uint256 closeCoin = measureClose("close in coin", last);
        measureClaimAndTopUp();
        measureRelease();
        uint256 withAuthorization = measureOpenings();
        uint256 withPermit2 = used;
        uint256 unilateral = measureStopAndFinalize();
        uint256 batched = measureBatch();
        note("cycle in tokens", openToken + closeToken);
        note("cycle in coin", openCoin + closeCoin);
        compare();

        vm.assertLe(openToken + closeToken, TOKEN_CYCLE, "tokens");
        vm.assertLe(openCoin + closeCoin, COIN_CYCLE, "coin");
        vm.assertLe(withAuthorization, OPEN_WITH_AUTHORIZATION, "authorization");
        vm.assertLe(withPermit2, OPEN_WITH_PERMIT2, "permit2");
        vm.assertLe(unilateral, STOP_AND_FINALIZE, "unilateral");
        vm.assertLe(batched, BATCHED_CLOSE, "batch");
    }

    // ------------------------------------------------------------ steps

    Quote internal last;
    uint256 internal used;
    string[] internal names;

    function another(Quote memory q) internal returns (Quote memory) {
        q.spec = keccak256(abi.encode(++quotes));
        q.expiry = uint32(vm.getBlockTimestamp() + 120);
        return q;
    }

    function note(string memory name, uint256 gas) internal returns (uint256) {
        names.push(name);
        measured = vm.serializeUint("gas", name, gas);
        return gas;
    }

    function noteCall(string memory name) internal returns (uint256) {
        return note(name, vm.lastCallGas().gasTotalUsed);
    }

    function measureOpen(string memory name, Quote memory q) internal returns (uint256) {
        last = q;
        open(q, LOCKED);
        return noteCall(name);
    }

    function measureClose(string memory name, Quote memory q) internal returns (uint256) {
        pass(1 hours);
        close(q, USED);
        return noteCall(name);
    }

    function measureClaimAndTopUp() internal {
        Quote memory q = another(quote());
        open(q, LOCKED);
        pass(30 minutes);
        bytes memory sig = voucher(q, USED / 2);
        vm.prank(PROVIDER);
        escrow.claim(q, USED / 2, sig);
        noteCall("claim");
        vm.prank(RENTER);
        escrow.topUp(q, 600_000);
        noteCall("topUp");
    }

    function measureRelease() internal {
        Quote memory q = another(quote());
        open(q, LOCKED);
        pass(1 hours);
        bytes memory sig = releaseSig(q, USED);
        vm.prank(RENTER);
        escrow.release(q, USED, sig, "");
        noteCall("release");
    }

    /// By a permit, by an authorisation and, last, by Permit2, each for the second time.
    function measureOpenings() internal returns (uint256 withAuthorization) {
        openWithPermit(another(walletQuote()), LOCKED);
        openWithPermit(another(walletQuote()), LOCKED);
        noteCall("openWithPermit");
        openWithAuthorization(another(walletQuote()), LOCKED);
        Quote memory q = another(walletQuote());
        openWithAuthorization(q, LOCKED);
        withAuthorization = noteCall("openWithAuthorization");
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, 600_000, "", q.expiry);
        vm.prank(STRANGER);
        escrow.topUpWithAuthorization(q, 600_000, "", q.expiry, renterSig);
        noteCall("topUpWithAuthorization");
        openWithPermit2(another(walletQuote()), LOCKED, 1);
        openWithPermit2(another(walletQuote()), LOCKED, 2);
        used = noteCall("openWithPermit2");
    }

    function measureStopAndFinalize() internal returns (uint256) {
        Quote memory q = another(quote());
        open(q, LOCKED);
        pass(1 hours);
        bytes memory sig = voucher(q, USED);
        escrow.claim(q, USED, sig);
        vm.prank(RENTER);
        escrow.stop(q, 1, "");
        uint256 stopping = noteCall("stop");
        pass(q.window);
        finalize(q);
        return note("stop and finalize", stopping + noteCall("finalize"));
    }

    function measureBatch() internal returns (uint256) {
        Closing[] memory closings = new Closing[](BATCH);
        for (uint256 i; i < BATCH; ++i) {
            Quote memory q = another(quote());
            open(q, LOCKED);
            closings[i] = Closing(q, USED, voucher(q, USED));
        }
        pass(1 hours);
        vm.prank(PROVIDER);
        escrow.closeMany(closings);
        return note("closeMany of 10, each", vm.lastCallGas().gasTotalUsed / BATCH);
    }

    // ------------------------------------------------------------ the snapshot

    function compare() internal {
        if (vm.envOr("GAS_SNAPSHOT_WRITE", false)) vm.writeJson(measured, SNAPSHOT);
        string memory kept = vm.readFile(SNAPSHOT);
        for (uint256 i; i < names.length; ++i) {
            string memory key = string.concat("['", names[i], "']");
            uint256 now_ = vm.parseJsonUint(measured, key);
            uint256 then = vm.parseJsonUint(kept, key);
            vm.assertLe(now_, then + then * TOLERANCE / 10_000, string.concat(names[i], " costs more than the snapshot says"));
            vm.assertLe(then, now_ + now_ * TOLERANCE / 10_000, string.concat(names[i], " costs less: run contracts/gas"));
        }
    }
}
