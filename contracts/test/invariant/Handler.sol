// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Closing, IRentalEscrow, Quote} from "../../src/IRentalEscrow.sol";
import {Token} from "../support/EscrowTest.sol";
import {vm} from "../support/Test.sol";
import {OddReceiver, OddToken} from "../support/Tokens.sol";
import {RightPeople} from "./RightPeople.sol";

/// Plays a whole market against one escrow: right people at the right time and, as often, wrong people, wrong times, old, forged, re-ordered
/// and foreign signatures, hostile tokens, gifts and leaps of time. Whatever must be refused is asserted to be.
contract Handler is RightPeople {
    function selectors() external pure returns (bytes4[] memory list) {
        // What stands here more than once is played as much more often: without rentals, boundaries and moods little else happens.
        list = new bytes4[](33);
        list[0] = this.quoteAndOpen.selector;
        list[1] = this.quoteAndOpen.selector;
        list[2] = this.quoteAndOpen.selector;
        list[3] = this.quoteAndOpen.selector;
        list[4] = this.topUpSome.selector;
        list[5] = this.topUpSigned.selector;
        list[6] = this.claimSome.selector;
        list[7] = this.closeOne.selector;
        list[8] = this.closeAll.selector;
        list[9] = this.releaseOne.selector;
        list[10] = this.stopOne.selector;
        list[11] = this.ruleOne.selector;
        list[12] = this.finalizeOne.selector;
        list[13] = this.finalizeOne.selector;
        list[14] = this.withdrawSome.selector;
        list[15] = this.openBadly.selector;
        list[16] = this.openBadlySigned.selector;
        list[17] = this.topUpBadly.selector;
        list[18] = this.claimBadly.selector;
        list[19] = this.closeBadly.selector;
        list[20] = this.releaseBadly.selector;
        list[21] = this.stopBadly.selector;
        list[22] = this.ruleBadly.selector;
        list[23] = this.replay.selector;
        list[24] = this.playHostileToken.selector;
        list[25] = this.wait.selector;
        list[26] = this.waitForABoundary.selector;
        list[27] = this.waitForABoundary.selector;
        list[28] = this.waitForABoundary.selector;
        list[29] = this.changePayee.selector;
        list[30] = this.changePayee.selector;
        list[31] = this.changeBlocklist.selector;
        list[32] = this.give.selector;
    }

    // ------------------------------------------------------------ wrong people, wrong times, wrong words

    /// What a signature made elsewhere looks like: the same message and key, for another chain.
    function elsewhere(Quote memory q, uint96 cumulative) internal returns (bytes memory sig) {
        uint256 here = block.chainid;
        vm.chainId(here + 1);
        sig = voucher(q, cumulative);
        vm.chainId(here);
    }

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
        uint256 before = caller.balance;
        vm.deal(caller, before + value);
        vm.prank(caller);
        (bool ok,) = address(escrow).call{value: value}(abi.encodeCall(IRentalEscrow.open, (q, deposit, sig)));
        vm.assertFalse(ok);
        vm.deal(caller, before);
    }

    /// The renter's word for another quote, another deposit or another chain, or from another key; or none of this token.
    function openBadlySigned(uint256 pick, uint96 deposit, uint256 fault) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        deposit = uint96(bound(deposit, 2, amountOf(q, q.maxSeconds) + 1));
        bytes memory sig = quoteSig(q);
        Quote memory signed = rental.quote;
        uint256 secret = fault & 1 == 0 ? STRANGER_SECRET : WALLET_SECRET;
        if (fault & 3 == 1) signed.rate += 1;
        uint96 agreed = fault & 3 == 3 ? deposit - 1 : deposit;
        bool coin = q.token == address(0);
        bool by2 = fault & 4 == 0;
        bytes memory renterSig;
        if (!coin && q.token == address(dollar)) {
            renterSig = by2 ? permit2Sig(secret, signed, agreed, type(uint256).max) : authorization(secret, signed, agreed);
        }
        bytes memory data = by2
            ? abi.encodeCall(IRentalEscrow.openWithPermit2, (q, deposit, sig, type(uint256).max, q.expiry, renterSig))
            : abi.encodeCall(IRentalEscrow.openWithAuthorization, (q, deposit, sig, renterSig));
        refused(STRANGER, data);
        // Nobody but the renter comes with a permit, and it with none that covers nothing.
        refused(STRANGER, abi.encodeCall(IRentalEscrow.openWithPermit, (q, deposit, sig, q.expiry, 27, "", "")));
    }

    function topUpBadly(uint256 pick, uint96 amount, uint256 fault) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        amount = uint96(bound(amount, 1, 1e24));
        if (rental.state != State.Open) {
            refused(STRANGER, abi.encodeCall(IRentalEscrow.topUp, (q, amount)));
        } else if (fault & 1 == 0) {
            // Coin that did not come, coin with a token, and terms that were never agreed.
            uint256 value = q.token == address(0) ? amount - 1 : 1;
            vm.prank(STRANGER);
            (bool ok,) = address(escrow).call{value: value}(abi.encodeCall(IRentalEscrow.topUp, (q, amount)));
            vm.assertFalse(ok);
        } else {
            q.rate += 1;
            refused(STRANGER, abi.encodeCall(IRentalEscrow.topUp, (q, amount)));
        }
        bytes memory sig = q.token == address(dollar) ? topUpAuthorization(STRANGER_SECRET, q, amount, "", timestamp() + 1) : new bytes(65);
        refused(STRANGER, abi.encodeCall(IRentalEscrow.topUpWithAuthorization, (q, amount, "", timestamp() + 1, sig)));
    }

    function claimBadly(uint256 pick, uint96 cumulative, uint256 fault) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        bytes memory sig = voucher(q, cumulative);
        // Where nothing is open, even the right voucher is refused.
        if (rental.state == State.Open) {
            fault %= 6;
            if (fault == 0) sig = signCompact(PROVIDER_SECRET, voucherDigest(q, cumulative));
            else if (fault == 1) sig = elsewhere(q, cumulative);
            else if (fault == 2) sig = signHigh(RENTER_SECRET, voucherDigest(q, cumulative));
            else if (fault == 3) sig = signCompact(RENTER_SECRET, releaseDigest(q, cumulative));
            else if (fault == 4) sig = voucher(q, cumulative ^ 1);
            else sig = otherVoucher(q, cumulative);
        }
        refused(q.provider, abi.encodeCall(IRentalEscrow.claim, (q, cumulative, sig)));
    }

    /// The same renter's word for the same total of another rental.
    function otherVoucher(Quote memory q, uint96 cumulative) internal view returns (bytes memory) {
        Quote memory other = q;
        bytes32 spec = q.spec;
        other.spec = bytes32(type(uint256).max);
        bytes memory sig = voucher(other, cumulative);
        q.spec = spec;
        return sig;
    }

    function closeBadly(uint256 pick, uint96 cumulative, uint256 who) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        bytes memory sig = voucher(q, cumulative);
        who %= 5;
        address caller = who == 0 ? q.renter : who == 1 ? q.renterKey : who == 2 ? STRANGER : q.provider;
        // Even the right one is refused where nothing is open; where something is, it comes with a voucher for another total or another
        // chain, or with terms that were never agreed.
        if (who >= 3 && rental.state == State.Open) {
            if (who == 4) sig = elsewhere(q, cumulative);
            else if (cumulative & 1 == 0) sig = voucher(q, cumulative ^ 1);
            else q.rate += 1;
        }
        refused(caller, abi.encodeCall(IRentalEscrow.close, (q, cumulative, sig)));
        // The same in a batch, except for what is merely gone, or was never there, which is skipped.
        bool skipped = who >= 3 && (rental.state != State.Open || q.rate != rental.quote.rate);
        Closing[] memory closings = new Closing[](1);
        closings[0] = Closing(q, cumulative, sig);
        bytes memory data = abi.encodeCall(IRentalEscrow.closeMany, (closings));
        if (skipped) accepted(caller, 0, data);
        else refused(caller, data);
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

    function ruleBadly(uint256 pick, uint96 cumulative, uint256 who) external {
        if (rentals.length == 0) return;
        Rental storage rental = rentals[pick % rentals.length];
        Quote memory q = rental.quote;
        address[5] memory others = [STRANGER, q.provider, q.renter, q.providerKey, q.renterKey];
        refused(others[who % 5], abi.encodeCall(IRentalEscrow.rule, (q, cumulative)));
        if (rental.state != State.Open) refused(ARBITER, abi.encodeCall(IRentalEscrow.rule, (q, cumulative)));
    }

    /// What worked once for one caller never works again.
    function replay(uint256 pick) external {
        Call storage call_ = done[pick % REMEMBERED];
        if (call_.caller != address(0)) refused(call_.caller, call_.data);
    }

    // ------------------------------------------------------------ hostile tokens

    /// A rental in a token that does as it likes, from its opening to its end within one call. Its own users may lose by it; what the
    /// rules say of all other tokens must hold after it. In a hook it tries whatever a stranger could do, and is refused.
    function playHostileToken(uint256 seed, uint96 deposit, uint256 pick) external {
        bool hooks = seed & 1 == 0;
        Quote memory q = quoteIn(hooks ? address(hooked) : address(odd));
        q.renter = wallet;
        q.provider = partyAt(seed >> 8);
        q.spec = bytes32(seed);
        deposit = uint96(bound(deposit, q.minDeposit, amountOf(q, q.maxSeconds)));
        if (hooks) setTrap(pick);
        odd.setMode(OddToken.Mode((seed >> 16) % 12));
        bytes memory sig = quoteSig(q);
        attemptAs(wallet, abi.encodeCall(IRentalEscrow.open, (q, deposit, sig)));
        odd.setMode(OddToken.Mode((seed >> 24) % 12));
        attemptAs(wallet, abi.encodeCall(IRentalEscrow.topUp, (q, deposit)));
        vm.warp(timestamp() + seed % 50);
        attemptAs(STRANGER, abi.encodeCall(IRentalEscrow.claim, (q, deposit / 2, voucher(q, deposit / 2))));
        odd.setMode(OddToken.Mode((seed >> 32) % 12));
        attemptAs(q.provider, abi.encodeCall(IRentalEscrow.close, (q, deposit, voucher(q, deposit))));
        attemptAs(wallet, abi.encodeCall(IRentalEscrow.withdraw, (q.token, HEIR)));
        if (hooked.called()) vm.assertFalse(hooked.succeeded());
        hooked.setHook(address(0), "");
    }

    function setTrap(uint256 pick) private {
        (bool found, Rental storage rental) = find(pick, State.Open);
        Quote memory other = rental.quote;
        bytes memory data = abi.encodeCall(IRentalEscrow.withdraw, (address(0), HEIR));
        if (found && pick & 1 == 0) data = abi.encodeCall(IRentalEscrow.claim, (other, rental.deposit, voucher(other, rental.deposit)));
        else if (found) data = abi.encodeCall(IRentalEscrow.finalize, (other));
        hooked.setHook(address(escrow), data);
    }

    function attemptAs(address caller, bytes memory data) private {
        vm.prank(caller);
        (bool ok,) = address(escrow).call{gas: 3_000_000}(data);
        ok;
    }

    // ------------------------------------------------------------ the world

    function wait(uint32 elapsed) external {
        // Mostly short steps, so that quotes are met in time; sometimes long ones, so that terms and windows run out.
        pass(elapsed & 1 == 0 ? bound(elapsed, 1, 90) : bound(elapsed, 1, 1 days));
    }

    /// To the last second before something may be done, or the first in which it may: where a wrong comparison shows.
    function waitForABoundary(uint256 pick, uint256 which) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        uint256[4] memory boundaries = [
            finalAt(rental),
            uint256(rental.stopAt) + rental.quote.window / 2,
            uint256(rental.quote.expiry) + 1,
            uint256(rental.start) + rental.quote.maxSeconds
        ];
        uint256 at_ = boundaries[which % 4] - (which >> 2 & 1);
        if (at_ > timestamp()) vm.warp(at_);
    }

    /// A payee changes its code. Most of what it can change to refuses.
    function changePayee(uint256 pick, uint256 mode) external {
        address account = partyAt(pick);
        if (account != wallet) OddReceiver(payable(account)).setMode(OddReceiver.Mode(mode % 8));
    }

    /// An issuer changes its blocklist.
    function changeBlocklist(uint256 pick, bool blocked) external {
        silent.setBlocked(partyAt(pick), blocked);
    }

    /// Someone gives money away.
    function give(uint256 pick, uint256 gift) external {
        address token = tokens[pick % TOKENS];
        gift = bound(gift, 1, 1e12);
        donated[token] += gift;
        supply[token] += gift;
        // Coin arrives without a call when a contract destroys itself in the escrow's favour.
        if (token == address(0)) vm.deal(address(escrow), address(escrow).balance + gift);
        else Token(token).mint(address(escrow), gift);
    }
}
