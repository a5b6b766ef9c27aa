// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {CourtAdapter, Judge} from "./support/Court.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// What an arbiter that both sides named may decide, and when; and that an existing court can stand behind it.
contract RuleTest is EscrowTest {
    address internal constant ARBITER = 0x1111111111111111111111111111111111111105;

    function openStopped(address arbiter) internal returns (Quote memory q) {
        q = quote();
        q.arbiter = arbiter;
        open(q, DEPOSIT);
        pass(1 hours);
        vm.prank(RENTER);
        escrow.stop(q, 4, "");
    }

    function expectTooEarly(uint256 until) internal {
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TooEarly.selector, until));
    }

    function rule(Quote memory q, uint96 cumulative) internal {
        vm.prank(q.arbiter);
        escrow.rule(q, cumulative);
    }

    function test_an_arbiter_rules_from_half_of_the_window_on() public {
        Quote memory q = openStopped(ARBITER);
        uint256 from = START + 1 hours + q.window / 2;
        vm.warp(from - 1);
        expectTooEarly(from);
        rule(q, 700);
        vm.warp(from);
        expectClosed(q, 700, DEPOSIT - 700, 1 hours, 5);
        rule(q, 700);
        assertPaid(700, DEPOSIT - 700);
        assertGone(q);
    }

    function test_half_of_an_odd_window_is_rounded_down() public {
        Quote memory q = quote();
        (q.arbiter, q.window) = (ARBITER, 901);
        open(q, DEPOSIT);
        vm.prank(RENTER);
        escrow.stop(q, 4, "");
        vm.warp(START + 449);
        expectTooEarly(START + 450);
        rule(q, 0);
        vm.warp(START + 450);
        rule(q, 0);
    }

    function test_a_ruling_keeps_to_the_meter_the_deposit_and_what_was_claimed() public {
        Quote memory q = quote();
        q.arbiter = ARBITER;
        open(q, DEPOSIT);
        pass(60);
        bytes memory sig = voucher(q, 20_000);
        escrow.claim(q, 20_000, sig);
        vm.prank(RENTER);
        escrow.stop(q, 4, "");
        pass(q.window / 2);
        uint256 snapshot = vm.snapshotState();
        rule(q, type(uint96).max);
        assertPaid(amountOf(q, 60), DEPOSIT - amountOf(q, 60));
        vm.revertToState(snapshot);
        rule(q, 0);
        assertPaid(20_000, DEPOSIT - 20_000);
    }

    function test_nobody_but_the_arbiter_rules() public {
        Quote memory q = openStopped(ARBITER);
        pass(q.window);
        address[6] memory others = [RENTER, PROVIDER, renterKey, providerKey, STRANGER, address(0)];
        for (uint256 i; i < others.length; ++i) {
            expect(IRentalEscrow.NotArbiter.selector);
            vm.prank(others[i]);
            escrow.rule(q, DEPOSIT);
        }
    }

    function test_a_quote_without_an_arbiter_knows_no_ruling() public {
        Quote memory q = openStopped(address(0));
        pass(q.window);
        expect(IRentalEscrow.NotArbiter.selector);
        vm.prank(STRANGER);
        escrow.rule(q, 0);
    }

    function test_without_a_stop_there_is_nothing_to_rule_on() public {
        Quote memory q = quote();
        q.arbiter = ARBITER;
        open(q, DEPOSIT);
        // Not even when the term and its window are over.
        pass(uint256(q.maxSeconds) + q.window + 1);
        expectTooEarly(type(uint256).max);
        rule(q, 0);
    }

    function test_a_ruling_may_come_until_someone_finalizes() public {
        Quote memory q = openStopped(ARBITER);
        pass(uint256(q.window) * 3);
        uint256 snapshot = vm.snapshotState();
        rule(q, 700);
        assertPaid(700, DEPOSIT - 700);
        vm.revertToState(snapshot);
        finalize(q);
        expectNotOpen(q);
        rule(q, 700);
        assertPaid(0, DEPOSIT);
    }

    function test_an_arbiter_moves_no_timer() public {
        Quote memory q = openStopped(ARBITER);
        // Its silence does not keep the money.
        pass(q.window);
        finalize(q);
        assertPaid(0, DEPOSIT);
    }

    function test_only_an_open_rental_is_ruled_on() public {
        Quote memory q = quote();
        q.arbiter = ARBITER;
        expectNotOpen(q);
        rule(q, 0);
    }

    // ------------------------------------------------------------ a court behind it

    function dispute(Judge judge, CourtAdapter adapter, Quote memory q, address party, uint96 demanded) internal returns (uint256) {
        uint256 fee = judge.FEE();
        vm.deal(party, fee);
        vm.prank(party);
        return adapter.dispute{value: fee}(q, demanded);
    }

    function courted() internal returns (Judge judge, CourtAdapter adapter, Quote memory q) {
        judge = new Judge();
        adapter = new CourtAdapter(escrow, judge);
        q = openStopped(address(adapter));
    }

    function test_a_court_behind_the_arbiter_decides_for_the_provider() public {
        (Judge judge, CourtAdapter adapter, Quote memory q) = courted();
        uint256 id = dispute(judge, adapter, q, PROVIDER, 900);
        vm.prank(RENTER);
        adapter.submitEvidence(q, "ipfs://evidence");
        judge.giveRuling(adapter, id, adapter.FOR_PROVIDER());
        expectTooEarly(START + 1 hours + q.window / 2);
        adapter.execute(id);
        pass(q.window / 2);
        vm.prank(STRANGER);
        adapter.execute(id);
        assertPaid(900, DEPOSIT - 900);
    }

    function test_a_court_behind_the_arbiter_decides_for_the_renter_or_not_at_all() public {
        (Judge judge, CourtAdapter adapter, Quote memory q) = courted();
        uint256 id = dispute(judge, adapter, q, PROVIDER, 900);
        pass(q.window / 2);
        uint256 forRenter = adapter.FOR_RENTER();
        uint256 snapshot = vm.snapshotState();
        for (uint256 ruling; ruling <= forRenter; ++ruling) {
            judge.giveRuling(adapter, id, ruling);
            adapter.execute(id);
            assertPaid(0, DEPOSIT);
            vm.revertToState(snapshot);
        }
    }

    function test_the_adapter_takes_its_word_from_its_court_and_its_fee_from_the_parties() public {
        (Judge judge, CourtAdapter adapter, Quote memory q) = courted();
        // The renter would demand nothing, and so leave nothing to decide.
        expect(CourtAdapter.NotParty.selector);
        vm.prank(RENTER);
        adapter.dispute(q, 0);
        expect(CourtAdapter.NotParty.selector);
        vm.prank(STRANGER);
        adapter.submitEvidence(q, "");
        vm.expectRevert(abi.encodeWithSelector(CourtAdapter.FeeMissing.selector, 0, 1_000));
        vm.prank(PROVIDER);
        adapter.dispute(q, 900);
        uint256 id = dispute(judge, adapter, q, PROVIDER, 900);
        expect(CourtAdapter.AlreadyDisputed.selector);
        vm.prank(PROVIDER);
        adapter.dispute(q, 1_000);
        expect(CourtAdapter.NotCourt.selector);
        vm.prank(PROVIDER);
        adapter.rule(id, 2);
        expect(CourtAdapter.NotCourt.selector);
        adapter.execute(id);
        // Only what is stopping can be disputed.
        q = quote();
        (q.arbiter, q.spec) = (address(adapter), keccak256("another"));
        open(q, DEPOSIT);
        expect(CourtAdapter.NotStopping.selector);
        vm.prank(PROVIDER);
        adapter.dispute(q, 900);
    }
}
