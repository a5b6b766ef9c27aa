// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow} from "../../src/IRentalEscrow.sol";
import {Token} from "../support/EscrowTest.sol";
import {Authorizing} from "../support/FundingTest.sol";
import {Test, vm} from "../support/Test.sol";
import {Handler} from "./Handler.sol";
import {Market} from "./Market.sol";

/// What holds after every call that anyone makes, in any order. All rules are checked in one campaign, after each call, since a campaign for
/// each would play the same market twenty times over. The first of them is the one that escrows lost money over.
contract InvariantsTest is Test {
    uint256 internal constant TOMBSTONE = 1 << 224;

    Handler internal handler;
    IRentalEscrow internal escrow;
    Token internal dollar;
    /// The second from which each rental can be finalized, as it was seen last.
    mapping(bytes32 id => uint256) internal lastFinal;
    mapping(bytes32 id => uint256) internal lastClaimed;

    function setUp() public {
        handler = new Handler();
        (escrow, dollar) = handler.contracts();
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory list) {
        list = new FuzzSelector[](1);
        list[0] = FuzzSelector(address(handler), handler.selectors());
    }

    function invariant_every_rule_holds() public {
        Market.Rental[] memory rentals = handler.allRentals();
        for (uint256 j; j < handler.TOKENS(); ++j) {
            address token = handler.tokens(j);
            rule_1_the_balance_is_the_sum_of_the_ledgers(token, rentals);
            rule_2_what_events_say_of_credits_is_so(token);
            rule_3_money_neither_appears_nor_vanishes(token);
            rule_4_strangers_neither_gain_nor_lose(token);
        }
        rule_5_nobody_is_left_with_an_allowance();
        for (uint256 i; i < rentals.length; ++i) {
            Market.Rental memory rental = rentals[i];
            rule_6_a_quote_opens_at_most_once(rental);
            rule_7_storage_holds_what_the_state_says(rental);
            rule_8_authorisations_are_used_up_by_their_openings(rental);
            rule_9_events_tell_everything(rental);
            rule_10_nobody_is_paid_beyond_the_best_word(rental);
            rule_11_nobody_is_paid_beyond_the_meter(rental, i);
            if (rental.state == Market.State.Open) {
                rule_12_the_deposit_is_what_was_put_in(rental);
                rule_13_claims_only_grow_within_the_deposit(rental);
                rule_14_the_clock_starts_once(rental);
                rule_15_a_stop_stands(rental);
                rule_16_nothing_goes_back_before_the_end(rental);
                rule_17_the_last_second_never_moves_away(rental);
                rule_18_due_is_the_formula_between_claimed_and_deposit(rental, i);
            } else {
                rule_19_what_ended_shows_nothing(rental);
                rule_20_an_end_splits_the_whole_deposit(rental);
            }
        }
    }

    /// After each run everyone has left. Whatever state they left, strangers can end every rental once its time is up, and every credit can
    /// be withdrawn; then the escrow is empty but for gifts.
    function afterInvariant() public {
        handler.clearUp();
    }

    // ------------------------------------------------------------ of each token

    function rule_1_the_balance_is_the_sum_of_the_ledgers(address token, Market.Rental[] memory rentals) internal view {
        uint256 ledgers = handler.donated(token);
        for (uint256 i; i < rentals.length; ++i) {
            if (rentals[i].quote.token != token) continue;
            (uint96 deposit, uint96 claimed,,) = escrow.rentalOf(rentals[i].id);
            ledgers += deposit - claimed;
        }
        for (uint256 i; i < handler.partyCount(); ++i) {
            ledgers += escrow.credit(token, handler.partyAt(i));
        }
        vm.assertEq(handler.balance(token, address(escrow)), ledgers, "rule 1: balance = sum of ledgers");
    }

    function rule_2_what_events_say_of_credits_is_so(address token) internal view {
        for (uint256 i; i < handler.partyCount(); ++i) {
            address account = handler.partyAt(i);
            vm.assertEq(escrow.credit(token, account), handler.creditTold(token, account), "rule 2: credits");
        }
    }

    function rule_3_money_neither_appears_nor_vanishes(address token) internal view {
        uint256 total = handler.balance(token, address(escrow)) + handler.balance(token, handler.HEIR())
            + handler.balance(token, 0x1111111111111111111111111111111111111103);
        for (uint256 i; i < handler.partyCount(); ++i) {
            total += handler.balance(token, handler.partyAt(i));
        }
        if (token == address(dollar)) total += dollar.balanceOf(0x1111111111111111111111111111111111111102);
        vm.assertEq(total, handler.supply(token), "rule 3: conservation");
    }

    /// Whoever may call what anyone may call gets nothing by it, and loses what it chose to give.
    function rule_4_strangers_neither_gain_nor_lose(address token) internal view {
        uint256 has = handler.balance(token, 0x1111111111111111111111111111111111111103);
        vm.assertEq(has + handler.given(token), 1e30, "rule 4: strangers");
        vm.assertEq(escrow.credit(token, 0x1111111111111111111111111111111111111103), 0, "rule 4: credit");
    }

    function rule_5_nobody_is_left_with_an_allowance() internal view {
        Authorizing token = Authorizing(address(dollar));
        vm.assertEq(token.allowance(handler.payer(), address(escrow)), 0, "rule 5: to the escrow");
        for (uint256 i; i < handler.partyCount(); ++i) {
            vm.assertEq(token.allowance(address(escrow), handler.partyAt(i)), 0, "rule 5: from the escrow");
        }
    }

    // ------------------------------------------------------------ of each quote

    function rule_6_a_quote_opens_at_most_once(Market.Rental memory rental) internal view {
        uint256 openings = handler.toldOf(rental.id).openings;
        vm.assertEq(openings, rental.state == Market.State.Fresh ? 0 : 1, "rule 6: openings");
    }

    function rule_7_storage_holds_what_the_state_says(Market.Rental memory rental) internal view {
        uint256 slot = uint256(vm.load(address(escrow), keccak256(abi.encode(rental.id, uint256(1)))));
        if (rental.state == Market.State.Open) {
            vm.assertTrue(slot != 0 && slot != TOMBSTONE, "rule 7: open");
        } else {
            vm.assertEq(slot, rental.closedInTime ? TOMBSTONE : 0, "rule 7: mark");
        }
    }

    function rule_8_authorisations_are_used_up_by_their_openings(Market.Rental memory rental) internal view {
        if (rental.quote.token != address(dollar)) return;
        bool used = Authorizing(address(dollar)).authorizationState(rental.quote.renter, rental.id);
        bool opened = rental.way == Market.Way.Authorization && rental.state != Market.State.Fresh;
        vm.assertTrue(used == opened, "rule 8: authorisation");
    }

    function rule_9_events_tell_everything(Market.Rental memory rental) internal view {
        Market.Told memory told = handler.toldOf(rental.id);
        vm.assertTrue(told.open == (rental.state == Market.State.Open), "rule 9: state");
        if (told.open) {
            (uint96 deposit, uint96 claimed,, uint32 stopAt) = escrow.rentalOf(rental.id);
            vm.assertEq(told.deposit, deposit, "rule 9: deposit");
            vm.assertEq(told.claimed, claimed, "rule 9: claimed");
            vm.assertEq(told.stopAt, stopAt, "rule 9: stopAt");
        } else {
            vm.assertEq(told.paid, rental.paid, "rule 9: paid");
            vm.assertEq(told.refunded, rental.refunded, "rule 9: refunded");
            vm.assertEq(told.deposit, told.paid + told.refunded, "rule 9: split");
        }
    }

    function rule_10_nobody_is_paid_beyond_the_best_word(Market.Rental memory rental) internal pure {
        vm.assertLe(rental.paid, rental.signed, "rule 10: paid <= signed");
    }

    function rule_11_nobody_is_paid_beyond_the_meter(Market.Rental memory rental, uint256 i) internal view {
        if (rental.paid != 0) vm.assertLe(rental.paid, handler.meteredOf(i), "rule 11: paid <= metered");
    }

    // ------------------------------------------------------------ while it is open

    function rule_12_the_deposit_is_what_was_put_in(Market.Rental memory rental) internal view {
        (uint96 deposit,,,) = escrow.rentalOf(rental.id);
        vm.assertEq(deposit, rental.deposit, "rule 12: deposit");
        vm.assertLe(deposit, uint256(rental.quote.rate) * rental.quote.maxSeconds / 1e6, "rule 12: price of the term");
    }

    function rule_13_claims_only_grow_within_the_deposit(Market.Rental memory rental) internal {
        (uint96 deposit, uint96 claimed,,) = escrow.rentalOf(rental.id);
        vm.assertEq(claimed, rental.paid, "rule 13: claimed = paid");
        vm.assertLe(claimed, deposit, "rule 13: claimed <= deposit");
        vm.assertLe(lastClaimed[rental.id], claimed, "rule 13: grows");
        lastClaimed[rental.id] = claimed;
    }

    function rule_14_the_clock_starts_once(Market.Rental memory rental) internal view {
        (,, uint32 start,) = escrow.rentalOf(rental.id);
        vm.assertEq(start, rental.start, "rule 14: start");
    }

    function rule_15_a_stop_stands(Market.Rental memory rental) internal view {
        (,,, uint32 stopAt) = escrow.rentalOf(rental.id);
        vm.assertEq(stopAt, rental.stopAt, "rule 15: stopAt");
    }

    function rule_16_nothing_goes_back_before_the_end(Market.Rental memory rental) internal pure {
        vm.assertEq(rental.refunded, 0, "rule 16: refunded");
    }

    /// Nobody can put off the second from which strangers may end it; a stop only brings it nearer.
    function rule_17_the_last_second_never_moves_away(Market.Rental memory rental) internal {
        (,, uint32 start, uint32 stopAt) = escrow.rentalOf(rental.id);
        uint256 end = uint256(start) + rental.quote.maxSeconds;
        if (stopAt != 0 && stopAt < end) end = stopAt;
        uint256 last = lastFinal[rental.id];
        if (last != 0) vm.assertLe(end + rental.quote.window, last, "rule 17: timers");
        lastFinal[rental.id] = end + rental.quote.window;
    }

    function rule_18_due_is_the_formula_between_claimed_and_deposit(Market.Rental memory rental, uint256 i) internal view {
        uint96[3] memory totals = [0, rental.deposit / 2, type(uint96).max];
        uint256 before = rental.paid;
        for (uint256 t; t < totals.length; ++t) {
            uint256 due = escrow.due(rental.quote, totals[t]);
            vm.assertEq(due, handler.dueAt(i, totals[t]), "rule 18: formula");
            vm.assertLe(before, due, "rule 18: a better word never pays less");
            vm.assertLe(due, rental.deposit, "rule 18: due <= deposit");
            before = due;
        }
    }

    // ------------------------------------------------------------ before it opened and after it ended

    function rule_19_what_ended_shows_nothing(Market.Rental memory rental) internal view {
        (uint96 deposit, uint96 claimed, uint32 start, uint32 stopAt) = escrow.rentalOf(rental.id);
        vm.assertEq(uint256(deposit) + claimed + start + stopAt, 0, "rule 19: closed or never opened");
    }

    function rule_20_an_end_splits_the_whole_deposit(Market.Rental memory rental) internal pure {
        vm.assertEq(rental.paid + rental.refunded, rental.deposit, "rule 20: paid + refunded = deposit");
    }
}
