// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Payout} from "../src/Payout.sol";
import {Test, vm} from "./support/Test.sol";

/// The payout rule against its one-line definition, on any arguments at all.
contract PayoutTest is Test {
    function min(uint256 a, uint256 b) internal pure returns (uint256) {
        return a < b ? a : b;
    }

    function max(uint256 a, uint256 b) internal pure returns (uint256) {
        return a > b ? a : b;
    }

    function testFuzz_amount_is_the_floor_of_rate_times_seconds(uint96 rate, uint32 elapsed) public pure {
        // Checked arithmetic here: an overflow would fail the test.
        uint256 amount = Payout.amount(rate, elapsed);
        vm.assertLe(amount * 1e6, uint256(rate) * elapsed);
        vm.assertGe((amount + 1) * 1e6, uint256(rate) * elapsed + 1);
    }

    function test_amount_at_its_largest() public pure {
        vm.assertEq(Payout.amount(type(uint96).max, type(uint32).max), uint256(type(uint96).max) * type(uint32).max / 1e6);
    }

    function testFuzz_end_is_the_stop_or_now_within_the_term(uint32 start, uint32 stopAt, uint32 maxSeconds, uint256 timestamp)
        public
        pure
    {
        uint256 end = Payout.end(start, stopAt, maxSeconds, timestamp);
        vm.assertEq(end, min(stopAt != 0 ? stopAt : timestamp, uint256(start) + maxSeconds));
    }

    function testFuzz_the_meter_only_runs_forward_and_never_past_a_stop(
        uint32 start,
        uint32 stopAt,
        uint32 maxSeconds,
        uint32 now_,
        uint32 later
    ) public pure {
        (now_, later) = now_ < later ? (now_, later) : (later, now_);
        uint256 end = Payout.end(start, stopAt, maxSeconds, now_);
        vm.assertLe(end, Payout.end(start, stopAt, maxSeconds, later));
        if (stopAt != 0) vm.assertEq(end, Payout.end(start, stopAt, maxSeconds, later));
    }

    function testFuzz_due_is_the_formula(uint96 cumulative, uint256 metered, uint96 deposit, uint96 claimed) public pure {
        vm.assertEq(Payout.due(cumulative, metered, deposit, claimed), max(claimed, min(cumulative, min(metered, deposit))));
    }

    function testFuzz_due_lies_between_the_claimed_and_the_deposit(uint96 cumulative, uint256 metered, uint96 deposit, uint96 claimed)
        public
        pure
    {
        claimed = uint96(bound(claimed, 0, deposit));
        uint256 due = Payout.due(cumulative, metered, deposit, claimed);
        vm.assertGe(due, claimed);
        vm.assertLe(due, deposit);
    }

    function testFuzz_a_better_voucher_never_pays_less(uint96 cumulative, uint96 better, uint256 metered, uint96 deposit, uint96 claimed)
        public
        pure
    {
        (cumulative, better) = cumulative < better ? (cumulative, better) : (better, cumulative);
        vm.assertLe(Payout.due(cumulative, metered, deposit, claimed), Payout.due(better, metered, deposit, claimed));
    }
}
