// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../../src/IRentalEscrow.sol";
import {EscrowTest, Token} from "../support/EscrowTest.sol";
import {vm} from "../support/Test.sol";
import {OddReceiver, SilentToken} from "../support/Tokens.sol";

/// Plays a whole market against one escrow: right people at the right time and, as often, the wrong ones, whose refusal it asserts. Beside
/// the escrow it keeps its own plain account of every rental, by money seen moving and not by what the escrow says.
contract Handler is EscrowTest {
    enum State {
        Fresh,
        Open,
        Closed
    }

    struct Rental {
        Quote quote;
        State state;
        uint96 deposit;
        uint32 start;
        uint32 stopAt;
        /// The highest total that the session key, or both sides in a release, ever signed.
        uint96 signed;
        /// What reached the provider and the renter, in hand or as credit.
        uint256 paid;
        uint256 refunded;
        /// The last second that the meter could count.
        uint256 counted;
    }

    /// Enough for rentals of every token in every state to stand side by side, few enough to be looked at after every call.
    uint256 internal constant MOST_RENTALS = 10;
    uint256 internal constant PARTIES = 2;

    Rental[] internal rentals;
    address[3] public tokens;
    SilentToken internal silent;
    address[PARTIES] public providers;
    address[PARTIES] public renters;
    /// Money sent to the escrow for nothing, which it must neither count nor pay out.
    mapping(address token => uint256) public donated;

    constructor() {
        setUp();
        silent = new SilentToken();
        tokens = [address(0), address(dollar), address(silent)];
        for (uint256 i; i < PARTIES; ++i) {
            providers[i] = address(new OddReceiver(OddReceiver.Mode.Accepts));
            renters[i] = address(new OddReceiver(OddReceiver.Mode.Accepts));
            vm.deal(renters[i], 1e30);
            for (uint256 j = 1; j < 3; ++j) {
                Token(tokens[j]).mint(renters[i], 1e30);
                vm.prank(renters[i]);
                Token(tokens[j]).approve(address(escrow), type(uint256).max);
            }
        }
    }

    function selectors() external pure returns (bytes4[] memory list) {
        list = new bytes4[](14);
        list[0] = this.quoteAndOpen.selector;
        list[1] = this.openBadly.selector;
        list[2] = this.claimSome.selector;
        list[3] = this.claimBadly.selector;
        list[4] = this.closeOne.selector;
        list[5] = this.closeBadly.selector;
        list[6] = this.releaseOne.selector;
        list[7] = this.releaseBadly.selector;
        list[8] = this.stopOne.selector;
        list[9] = this.stopBadly.selector;
        list[10] = this.finalizeOne.selector;
        list[11] = this.withdrawSome.selector;
        list[12] = this.wait.selector;
        list[13] = this.changeMood.selector;
    }

    // ------------------------------------------------------------ right people

    function quoteAndOpen(uint256 seed, uint96 rate, uint32 maxSeconds, uint32 window, uint96 deposit) external {
        if (rentals.length == MOST_RENTALS) return;
        Quote memory q = quoteIn(tokens[seed % 3]);
        q.provider = providers[(seed >> 8) % PARTIES];
        q.renter = renters[(seed >> 16) % PARTIES];
        q.rate = uint96(bound(rate, 1e6, 1e18));
        q.maxSeconds = uint32(bound(maxSeconds, 1, 2 days));
        q.window = uint32(bound(window, 900, 2 days));
        q.minDeposit = 1;
        q.spec = bytes32(rentals.length);
        deposit = uint96(bound(deposit, 1, amountOf(q, q.maxSeconds)));

        Rental storage rental = rentals.push();
        rental.quote = q;
        // Some quotes are left to lie, to be opened badly.
        if (seed >> 24 & 3 == 0) return;
        if (q.token == address(silent) && (silent.blocked(q.renter) || silent.blocked(address(escrow)))) return;
        uint256 before = holdings(q.token, q.renter);
        open(q, deposit);
        vm.assertEq(before - holdings(q.token, q.renter), deposit, "the renter pays the deposit");
        (rental.state, rental.deposit, rental.start) = (State.Open, deposit, timestamp());
    }

    function claimSome(uint256 pick, uint96 cumulative) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        cumulative = near(rental, cumulative);
        uint256 owed = dueOf(rental, cumulative);
        bytes memory sig = voucher(q, cumulative);
        if (owed <= rental.paid) {
            refused(STRANGER, abi.encodeCall(IRentalEscrow.claim, (q, cumulative, sig)));
            return;
        }
        note(rental, cumulative);
        uint256 before = holdings(q.token, q.provider);
        escrow.claim(q, cumulative, sig);
        rental.paid += holdings(q.token, q.provider) - before;
        vm.assertEq(rental.paid, owed, "a claim pays what is due");
    }

    function closeOne(uint256 pick, uint96 cumulative, bool byKey, bool generous) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        cumulative = generous ? 0 : near(rental, cumulative);
        bytes memory sig = generous ? bytes("") : voucher(q, cumulative);
        settle(rental, byKey ? q.providerKey : q.provider, cumulative, abi.encodeCall(IRentalEscrow.close, (q, cumulative, sig)));
    }

    function releaseOne(uint256 pick, uint96 cumulative, uint256 who) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        cumulative = near(rental, cumulative);
        who %= 3;
        bytes memory voucherSig = who == 2 ? voucher(q, cumulative) : bytes("");
        settle(
            rental,
            who == 0 ? q.renter : who == 1 ? q.renterKey : STRANGER,
            cumulative,
            abi.encodeCall(IRentalEscrow.release, (q, cumulative, releaseSig(q, cumulative), voucherSig))
        );
    }

    function stopOne(uint256 pick, uint32 reason, uint256 who) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        who %= 3;
        address caller = who == 0 ? q.renter : who == 1 ? q.renterKey : STRANGER;
        bytes memory data = abi.encodeCall(IRentalEscrow.stop, (q, reason, who == 2 ? stopSig(q, reason) : bytes("")));
        if (rental.stopAt != 0) {
            refused(caller, data);
            return;
        }
        accepted(caller, data);
        rental.stopAt = timestamp();
    }

    function finalizeOne(uint256 pick) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        bytes memory data = abi.encodeCall(IRentalEscrow.finalize, (rental.quote));
        if (timestamp() < finalAt(rental)) {
            refused(STRANGER, data);
            return;
        }
        settle(rental, STRANGER, 0, data);
    }

    function withdrawSome(uint256 pick) external {
        address token = tokens[pick % 3];
        address account = accountAt(pick >> 8);
        uint256 owed = escrow.credit(token, account);
        bytes memory data = abi.encodeCall(IRentalEscrow.withdraw, (token, STRANGER));
        if (owed == 0 || (token == address(silent) && silent.blocked(address(escrow)))) {
            refused(account, data);
            return;
        }
        uint256 before = balance(token, STRANGER);
        accepted(account, data);
        vm.assertEq(balance(token, STRANGER) - before, owed, "a withdrawal moves the whole credit");
    }

    // ------------------------------------------------------------ wrong people, wrong times, wrong words

    function openBadly(uint256 pick, uint96 deposit, uint256 fault) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        deposit = uint96(bound(deposit, 1, amountOf(q, q.maxSeconds)));
        address caller = q.renter;
        bytes memory sig = quoteSig(q);
        uint256 value = q.token == address(0) ? deposit : 0;
        // A fresh quote in time would open: give it a fault. Any other is refused for what it is.
        if (rental.state == State.Fresh && timestamp() <= q.expiry) {
            fault %= 5;
            if (fault == 0) caller = STRANGER;
            else if (fault == 1) sig = signCompact(STRANGER_SECRET, idOf(q));
            else if (fault == 2) deposit = 0;
            else if (fault == 3) value += 1;
            else deposit = uint96(amountOf(q, q.maxSeconds) + 1);
        }
        vm.deal(caller, caller.balance + value);
        vm.prank(caller);
        (bool ok,) = address(escrow).call{value: value}(abi.encodeCall(IRentalEscrow.open, (q, deposit, sig)));
        vm.assertFalse(ok);
    }

    function claimBadly(uint256 pick, uint96 cumulative, bool byProvider) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        // A voucher of the wrong key; and where nothing is open, even the right one.
        uint256 secret = rental.state != State.Open ? RENTER_SECRET : byProvider ? PROVIDER_SECRET : STRANGER_SECRET;
        bytes memory sig = signCompact(secret, voucherDigest(q, cumulative));
        refused(q.provider, abi.encodeCall(IRentalEscrow.claim, (q, cumulative, sig)));
    }

    function closeBadly(uint256 pick, uint96 cumulative, uint256 who) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        bytes memory sig = voucher(q, cumulative);
        who %= 4;
        address caller = who == 0 ? q.renter : who == 1 ? q.renterKey : who == 2 ? STRANGER : q.provider;
        // Even the right one is refused where nothing is open; where something is, it comes with a voucher for another total, or with
        // terms that were never agreed.
        if (who == 3 && rental.state == State.Open) {
            if (cumulative & 1 == 0) sig = voucher(q, cumulative ^ 1);
            else q.rate += 1;
        }
        refused(caller, abi.encodeCall(IRentalEscrow.close, (q, cumulative, sig)));
    }

    function releaseBadly(uint256 pick, uint96 cumulative, uint256 fault) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        bytes memory sig = releaseSig(q, cumulative);
        bytes memory voucherSig = voucher(q, cumulative ^ 1);
        fault %= 3;
        address caller = fault == 0 ? STRANGER : fault == 1 ? q.provider : q.renter;
        if (fault == 1) voucherSig = "";
        if (fault == 2 && rental.state == State.Open) sig = signCompact(RENTER_SECRET, releaseDigest(q, cumulative));
        refused(caller, abi.encodeCall(IRentalEscrow.release, (q, cumulative, sig, voucherSig)));
    }

    function stopBadly(uint256 pick, uint32 reason, uint256 who) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        bytes memory sig;
        who %= 4;
        if (who == 3) sig = signCompact(PROVIDER_SECRET, stopDigest(q, reason));
        address caller = who == 0 ? q.provider : who == 1 ? q.providerKey : STRANGER;
        refused(caller, abi.encodeCall(IRentalEscrow.stop, (q, reason, sig)));
        // Nothing that is not open can be finalized.
        if (rental.state != State.Open) refused(caller, abi.encodeCall(IRentalEscrow.finalize, (q)));
    }

    // ------------------------------------------------------------ the world

    function wait(uint32 elapsed) external {
        // Mostly short steps, so that quotes are met in time; sometimes long ones, so that terms and windows run out.
        pass(elapsed & 1 == 0 ? bound(elapsed, 1, 90) : bound(elapsed, 1, 1 days));
    }

    /// A payee changes its code, an issuer its blocklist, or someone gives money away.
    function changeMood(uint256 seed) external {
        address account = accountAt(seed >> 8);
        uint256 what = seed % 4;
        if (what == 0) {
            OddReceiver(payable(account)).setMode(OddReceiver.Mode((seed >> 16) % 8));
        } else if (what == 1) {
            silent.setBlocked(account, seed >> 16 & 1 == 0);
        } else {
            address token = tokens[(seed >> 16) % 3];
            uint256 gift = bound(seed >> 32, 1, 1e12);
            donated[token] += gift;
            // Coin arrives without a call when a contract destroys itself in the escrow's favour.
            if (token == address(0)) vm.deal(address(escrow), address(escrow).balance + gift);
            else Token(token).mint(address(escrow), gift);
        }
    }

    // ------------------------------------------------------------ what the invariants look at

    function length() external view returns (uint256) {
        return rentals.length;
    }

    function rentalAt(uint256 i) external view returns (Rental memory) {
        return rentals[i];
    }

    function contracts() external view returns (IRentalEscrow) {
        return escrow;
    }

    function idAt(uint256 i) external view returns (bytes32) {
        return idOf(rentals[i].quote);
    }

    function accountAt(uint256 i) public view returns (address) {
        i %= 2 * PARTIES;
        return i < PARTIES ? providers[i] : renters[i - PARTIES];
    }

    function balance(address token, address account) public view returns (uint256) {
        return token == address(0) ? account.balance : Token(token).balanceOf(account);
    }

    function meteredOf(uint256 i) external view returns (uint256) {
        return amountOf(rentals[i].quote, rentals[i].counted - rentals[i].start);
    }

    /// The end of a run: everyone has left, and strangers clear up after them. What remains must be what was given away.
    function clearUp() external {
        for (uint256 i; i < rentals.length; ++i) {
            Rental storage rental = rentals[i];
            if (rental.state != State.Open) continue;
            uint256 at_ = finalAt(rental);
            if (timestamp() < at_) vm.warp(at_);
            settle(rental, STRANGER, 0, abi.encodeCall(IRentalEscrow.finalize, (rental.quote)));
        }
        for (uint256 i; i < 2 * PARTIES; ++i) {
            for (uint256 j; j < 3; ++j) {
                if (escrow.credit(tokens[j], accountAt(i)) == 0) continue;
                accepted(accountAt(i), abi.encodeCall(IRentalEscrow.withdraw, (tokens[j], STRANGER)));
            }
        }
        for (uint256 j; j < 3; ++j) {
            vm.assertEq(balance(tokens[j], address(escrow)), donated[tokens[j]], "nothing is left behind");
        }
    }

    // ------------------------------------------------------------ helpers

    function find(uint256 pick, State state) internal view returns (bool found, Rental storage rental) {
        rental = rentals.length == 0 ? none() : rentals[0];
        for (uint256 i; i < rentals.length; ++i) {
            rental = rentals[(pick % rentals.length + i) % rentals.length];
            if (rental.state == state) return (true, rental);
        }
    }

    function none() internal pure returns (Rental storage rental) {
        assembly ("memory-safe") {
            rental.slot := 0
        }
    }

    /// Half of all totals lie within the deposit, where they matter most.
    function near(Rental storage rental, uint96 cumulative) internal view returns (uint96) {
        return cumulative & 1 == 0 ? uint96(bound(cumulative, 0, rental.deposit)) : cumulative;
    }

    function note(Rental storage rental, uint96 cumulative) internal {
        if (cumulative > rental.signed) rental.signed = cumulative;
        rental.counted = meterEnd(rental);
    }

    function meterEnd(Rental storage rental) internal view returns (uint256) {
        uint256 term = uint256(rental.start) + rental.quote.maxSeconds;
        uint256 until = rental.stopAt != 0 ? rental.stopAt : timestamp();
        return until < term ? until : term;
    }

    function finalAt(Rental storage rental) internal view returns (uint256) {
        uint256 term = uint256(rental.start) + rental.quote.maxSeconds;
        return (rental.stopAt != 0 && rental.stopAt < term ? rental.stopAt : term) + rental.quote.window;
    }

    function dueOf(Rental storage rental, uint96 cumulative) internal view returns (uint256 owed) {
        owed = amountOf(rental.quote, meterEnd(rental) - rental.start);
        if (owed > cumulative) owed = cumulative;
        if (owed > rental.deposit) owed = rental.deposit;
        if (owed < rental.paid) owed = rental.paid;
    }

    /// What an account has, in hand or waiting for it.
    function holdings(address token, address account) internal view returns (uint256) {
        return balance(token, account) + escrow.credit(token, account);
    }

    function settle(Rental storage rental, address caller, uint96 cumulative, bytes memory data) internal {
        Quote memory q = rental.quote;
        uint256 owed = dueOf(rental, cumulative);
        note(rental, cumulative);
        uint256 provider = holdings(q.token, q.provider);
        uint256 renter = holdings(q.token, q.renter);
        accepted(caller, data);
        rental.paid += holdings(q.token, q.provider) - provider;
        rental.refunded += holdings(q.token, q.renter) - renter;
        rental.state = State.Closed;
        vm.assertEq(rental.paid, owed, "a close pays what is due");
    }

    function accepted(address caller, bytes memory data) internal {
        vm.prank(caller);
        (bool ok, bytes memory answer) = address(escrow).call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    function refused(address caller, bytes memory data) internal {
        vm.prank(caller);
        (bool ok,) = address(escrow).call(data);
        vm.assertFalse(ok);
    }
}
