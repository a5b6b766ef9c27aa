// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Closing, IRentalEscrow, Quote} from "../../src/IRentalEscrow.sol";
import {vm} from "../support/Test.sol";
import {Market} from "./Market.sol";

/// Everyone who may do something, doing it at a time when they may: what they do must work and come to exactly what was agreed.
abstract contract RightPeople is Market {
    /// Calls that worked and must never work again.
    struct Call {
        address caller;
        bytes data;
    }

    uint256 internal constant REMEMBERED = 4;
    Call[REMEMBERED] internal done;
    uint256 internal doneCount;
    uint256 internal permits;
    uint256 internal quotes;

    function remember(address caller, bytes memory data) internal {
        done[doneCount++ % REMEMBERED] = Call(caller, data);
    }

    // ------------------------------------------------------------ opening

    function quoteAndOpen(uint256 seed, uint96 rate, uint32 maxSeconds, uint32 window, uint96 deposit) external {
        (bool room, Rental storage rental) = place(seed >> 48);
        if (!room) return;
        Quote memory q = quoteIn(tokens[seed % TOKENS]);
        q.provider = parties[(seed >> 8) % PROVIDERS];
        q.renter = parties[PROVIDERS + (seed >> 16) % RENTERS];
        q.rate = uint96(bound(rate, 1e6, 1e18));
        q.maxSeconds = uint32(bound(maxSeconds, 1, 2 days));
        q.window = uint32(bound(window, 900, 2 days));
        q.minDeposit = 1;
        q.arbiter = seed >> 32 & 1 == 0 ? ARBITER : address(0);
        q.spec = bytes32(++quotes);
        deposit = uint96(bound(deposit, 1, amountOf(q, q.maxSeconds)));

        (rental.quote, rental.id) = (q, idOf(q));
        // Some quotes are left to lie, to be opened badly.
        if (seed >> 24 & 3 == 0) return;
        if (q.token == address(silent) && (silent.blocked(q.renter) || silent.blocked(address(escrow)))) return;
        rental.way = q.renter == wallet && q.token == address(dollar) ? Way((seed >> 40) % 4) : Way.Allowance;
        uint256 before = holdings(q.token, q.renter);
        (address caller, bytes memory data) = opening(rental.way, q, deposit);
        accepted(caller, q.token == address(0) ? deposit : 0, data);
        remember(caller, data);
        vm.assertEq(before - holdings(q.token, q.renter), deposit, "the renter pays the deposit");
        (rental.state, rental.deposit, rental.start) = (State.Open, deposit, timestamp());
    }

    /// A new place, or that of a rental which is over or was never opened, so that a market never dries up.
    function place(uint256 pick) private returns (bool found, Rental storage rental) {
        if (rentals.length < MOST_RENTALS) return (true, rentals.push());
        for (uint256 i; i < MOST_RENTALS; ++i) {
            uint256 at_ = (pick % MOST_RENTALS + i) % MOST_RENTALS;
            if (rentals[at_].state == State.Open) continue;
            delete rentals[at_];
            return (true, rentals[at_]);
        }
        return (false, none());
    }

    function opening(Way way, Quote memory q, uint96 deposit) private returns (address caller, bytes memory data) {
        bytes memory sig = quoteSig(q);
        if (way == Way.Permit) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, permitDigest(q.renter, deposit, q.expiry));
            return (q.renter, abi.encodeCall(IRentalEscrow.openWithPermit, (q, deposit, sig, q.expiry, v, r, s)));
        }
        if (way == Way.Authorization) {
            bytes memory renterSig = authorization(WALLET_SECRET, q, deposit);
            return (STRANGER, abi.encodeCall(IRentalEscrow.openWithAuthorization, (q, deposit, sig, renterSig)));
        }
        if (way == Way.Permit2) {
            bytes memory renterSig = permit2Sig(WALLET_SECRET, q, deposit, ++permits);
            return (STRANGER, abi.encodeCall(IRentalEscrow.openWithPermit2, (q, deposit, sig, permits, q.expiry, renterSig)));
        }
        if (q.renter == wallet && q.token == address(dollar)) {
            vm.prank(wallet);
            dollar.approve(address(escrow), deposit);
        }
        return (q.renter, abi.encodeCall(IRentalEscrow.open, (q, deposit, sig)));
    }

    // ------------------------------------------------------------ while it runs

    function topUpSome(uint256 pick, uint96 amount) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        address token = rental.quote.token;
        amount = uint96(bound(amount, 0, 1e24));
        bytes memory data = abi.encodeCall(IRentalEscrow.topUp, (rental.quote, amount));
        uint256 room = roomOf(rental);
        uint256 added = amount < room ? amount : room;
        if (added == 0 || rental.stopAt != 0 || (token == address(silent) && silent.blocked(address(escrow)))) {
            refused(STRANGER, data);
            return;
        }
        uint256 before = balance(token, STRANGER);
        accepted(STRANGER, token == address(0) ? amount : 0, data);
        vm.assertEq(before - balance(token, STRANGER), added, "a top-up takes what it adds");
        given[token] += added;
        rental.deposit += uint96(added);
    }

    function topUpSigned(uint256 pick, uint96 amount, bytes32 salt) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found || rental.quote.renter != wallet || rental.quote.token != address(dollar)) return;
        Quote memory q = rental.quote;
        uint256 room = roomOf(rental);
        amount = uint96(bound(amount, 1, room + 2));
        uint256 until = timestamp() + 1;
        bytes memory data = abi.encodeCall(
            IRentalEscrow.topUpWithAuthorization, (q, amount, salt, until, topUpAuthorization(WALLET_SECRET, q, amount, salt, until))
        );
        if (amount > room || rental.stopAt != 0) {
            refused(STRANGER, data);
            return;
        }
        uint256 before = dollar.balanceOf(wallet);
        accepted(STRANGER, 0, data);
        remember(STRANGER, data);
        vm.assertEq(before - dollar.balanceOf(wallet), amount, "an authorised top-up is exact");
        rental.deposit += amount;
    }

    function claimSome(uint256 pick, uint96 cumulative) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        cumulative = near(rental, cumulative);
        uint256 owed = dueOf(rental, cumulative);
        bytes memory data = abi.encodeCall(IRentalEscrow.claim, (q, cumulative, voucher(q, cumulative)));
        // An older voucher, or one that arrives after a better one.
        if (owed <= rental.paid) {
            refused(STRANGER, data);
            return;
        }
        note(rental, cumulative);
        uint256 before = holdings(q.token, q.provider);
        accepted(STRANGER, 0, data);
        rental.paid += holdings(q.token, q.provider) - before;
        vm.assertEq(rental.paid, owed, "a claim pays what is due");
    }

    // ------------------------------------------------------------ ends

    function closeOne(uint256 pick, uint96 cumulative, bool byKey, bool generous) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        cumulative = generous ? 0 : near(rental, cumulative);
        bytes memory sig = generous ? bytes("") : voucher(q, cumulative);
        address caller = byKey ? q.providerKey : q.provider;
        bytes memory data = abi.encodeCall(IRentalEscrow.close, (q, cumulative, sig));
        settle(rental, caller, cumulative, data);
        remember(caller, data);
    }

    /// All rentals there are, in any state and order and one of them twice: what is open is closed, as one by one.
    function closeAll(uint256 rotation, uint96 cumulative) external {
        uint256 count = rentals.length;
        if (count == 0 || rotation & 3 != 0) return;
        Closing[] memory closings = new Closing[](count + 1);
        uint256[PARTIES * TOKENS] memory expected = allHoldings();
        uint256 open_;
        for (uint256 i; i <= count; ++i) {
            Rental storage rental = rentals[(rotation % count + i) % count];
            uint96 total = near(rental, cumulative);
            closings[i] = Closing(rental.quote, total, voucher(rental.quote, total));
            if (rental.state != State.Open) continue;
            ++open_;
            uint256 owed = dueOf(rental, total);
            note(rental, total);
            expected[indexOf(rental.quote.token, rental.quote.provider)] += owed - rental.paid;
            expected[indexOf(rental.quote.token, rental.quote.renter)] += rental.deposit - owed;
            (rental.paid, rental.refunded) = (owed, rental.deposit - owed);
            markClosed(rental);
        }
        accepted(providerKey, 0, abi.encodeCall(IRentalEscrow.closeMany, (closings)));
        uint256[PARTIES * TOKENS] memory found = allHoldings();
        for (uint256 i; i < found.length; ++i) {
            vm.assertEq(found[i], expected[i], "a batch pays as closes one by one do");
        }
    }

    function allHoldings() private view returns (uint256[PARTIES * TOKENS] memory list) {
        for (uint256 i; i < list.length; ++i) {
            list[i] = holdings(tokens[i % TOKENS], parties[i / TOKENS]);
        }
    }

    function indexOf(address token, address party) private view returns (uint256 index) {
        while (tokens[index % TOKENS] != token || parties[index / TOKENS] != party) ++index;
    }

    function releaseOne(uint256 pick, uint96 cumulative, uint256 who) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        Quote memory q = rental.quote;
        cumulative = near(rental, cumulative);
        who %= 3;
        bytes memory voucherSig = who == 2 ? voucher(q, cumulative) : bytes("");
        address caller = who == 0 ? q.renter : who == 1 ? q.renterKey : STRANGER;
        bytes memory data = abi.encodeCall(IRentalEscrow.release, (q, cumulative, releaseSig(q, cumulative), voucherSig));
        settle(rental, caller, cumulative, data);
        remember(caller, data);
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
        accepted(caller, 0, data);
        remember(caller, data);
        rental.stopAt = timestamp();
    }

    function ruleOne(uint256 pick, uint96 cumulative) external {
        (bool found, Rental storage rental) = find(pick, State.Open);
        if (!found) return;
        cumulative = near(rental, cumulative);
        bytes memory data = abi.encodeCall(IRentalEscrow.rule, (rental.quote, cumulative));
        if (rental.quote.arbiter != ARBITER || rental.stopAt == 0 || timestamp() < uint256(rental.stopAt) + rental.quote.window / 2) {
            refused(ARBITER, data);
            return;
        }
        settle(rental, ARBITER, cumulative, data);
        remember(ARBITER, data);
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
        remember(STRANGER, data);
    }

    function withdrawSome(uint256 pick) external {
        address token = tokens[pick % TOKENS];
        address account = partyAt(pick >> 8);
        uint256 owed = escrow.credit(token, account);
        bytes memory data = abi.encodeCall(IRentalEscrow.withdraw, (token, HEIR));
        if (owed == 0 || (token == address(silent) && silent.blocked(address(escrow)))) {
            refused(account, data);
            return;
        }
        uint256 before = balance(token, HEIR);
        accepted(account, 0, data);
        vm.assertEq(balance(token, HEIR) - before, owed, "a withdrawal moves the whole credit");
    }

    // ------------------------------------------------------------ the end

    /// Everyone has left, and strangers clear up after them. What remains must be what was given away.
    function clearUp() external {
        silent.setBlocked(address(escrow), false);
        for (uint256 i; i < rentals.length; ++i) {
            Rental storage rental = rentals[i];
            if (rental.state != State.Open) continue;
            uint256 at_ = finalAt(rental);
            if (timestamp() < at_) vm.warp(at_);
            settle(rental, STRANGER, 0, abi.encodeCall(IRentalEscrow.finalize, (rental.quote)));
        }
        for (uint256 i; i < PARTIES * TOKENS; ++i) {
            (address token, address account) = (tokens[i % TOKENS], parties[i / TOKENS]);
            if (escrow.credit(token, account) == 0) continue;
            accepted(account, 0, abi.encodeCall(IRentalEscrow.withdraw, (token, HEIR)));
        }
        for (uint256 j; j < TOKENS; ++j) {
            vm.assertEq(balance(tokens[j], address(escrow)), donated[tokens[j]], "nothing is left behind");
        }
    }
}
