// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// Who may open what, and what an opening takes and tells.
contract OpenTest is EscrowTest {
    function test_open_takes_the_deposit_and_starts_the_clock() public {
        Quote memory q = quote();
        uint256 before = dollar.balanceOf(RENTER);
        bytes32 id = open(q, DEPOSIT);
        vm.assertEq(id, idOf(q));
        assertOpen(q, DEPOSIT, 0, START, 0);
        vm.assertEq(dollar.balanceOf(address(escrow)), DEPOSIT);
        vm.assertEq(dollar.balanceOf(RENTER), before - DEPOSIT);
    }

    function test_open_takes_the_coin_of_the_chain() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        assertOpen(q, DEPOSIT, 0, START, 0);
        vm.assertEq(address(escrow).balance, DEPOSIT);
    }

    function test_the_event_holds_the_whole_quote() public {
        Quote memory q = quote();
        q.arbiter = address(0xA4B1);
        bytes memory sig = quoteSig(q);
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.Opened(
            idOf(q),
            q.provider,
            q.renter,
            q.providerKey,
            q.renterKey,
            q.token,
            q.rate,
            q.minDeposit,
            q.maxSeconds,
            q.window,
            q.expiry,
            q.arbiter,
            q.device,
            q.spec,
            DEPOSIT
        );
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    function test_only_the_renter_opens() public {
        Quote memory q = quote();
        bytes memory sig = quoteSig(q);
        address[4] memory others = [STRANGER, PROVIDER, providerKey, renterKey];
        for (uint256 i; i < others.length; ++i) {
            expect(IRentalEscrow.NotRenter.selector);
            vm.prank(others[i]);
            escrow.open(q, DEPOSIT, sig);
        }
    }

    function test_a_quote_opens_in_its_last_second_and_not_after() public {
        Quote memory q = quote();
        vm.warp(q.expiry + 1);
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.QuoteExpired.selector, q.expiry));
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
        vm.warp(q.expiry);
        open(q, DEPOSIT);
        assertOpen(q, DEPOSIT, 0, q.expiry, 0);
    }

    function test_terms_are_refused_outside_their_bounds() public {
        Quote memory q = quote();
        q.maxSeconds = 0;
        refuse(q);
        q.maxSeconds = 366 days + 1;
        refuse(q);
        q = quote();
        q.window = 899;
        refuse(q);
        q.window = 604_801;
        refuse(q);
        q = quote();
        q.provider = address(0);
        refuse(q);
        q.provider = address(escrow);
        refuse(q);
    }

    function refuse(Quote memory q) internal {
        bytes memory sig = quoteSig(q);
        expect(IRentalEscrow.BadTerms.selector);
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    function test_terms_are_accepted_at_their_bounds() public {
        Quote memory q = quote();
        (q.maxSeconds, q.window) = (366 days, 604_800);
        open(q, DEPOSIT);
        (q.maxSeconds, q.window, q.rate, q.minDeposit) = (1, 900, 5e6, 5);
        open(q, 5);
        assertOpen(q, 5, 0, START, 0);
    }

    function test_the_deposit_lies_between_the_least_and_what_the_term_costs() public {
        Quote memory q = quote();
        uint256 max = amountOf(q, q.maxSeconds);
        refuseDeposit(q, q.minDeposit - 1, q.minDeposit, max);
        refuseDeposit(q, uint96(max + 1), q.minDeposit, max);
        q.minDeposit = 0;
        refuseDeposit(q, 0, 0, max);
        uint256 snapshot = vm.snapshotState();
        open(q, 1);
        vm.revertToState(snapshot);
        open(q, uint96(max));
    }

    function test_a_free_rental_cannot_be_opened() public {
        Quote memory q = quote();
        (q.rate, q.minDeposit) = (0, 0);
        refuseDeposit(q, 1, 0, 0);
    }

    function refuseDeposit(Quote memory q, uint96 deposit, uint256 min, uint256 max) internal {
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.BadDeposit.selector, deposit, min, max));
        vm.prank(RENTER);
        escrow.open(q, deposit, sig);
    }

    function test_the_coin_sent_must_be_the_deposit_and_none_goes_with_a_token() public {
        Quote memory q = quoteIn(address(0));
        bytes memory sig = quoteSig(q);
        for (uint256 i; i < 2; ++i) {
            uint256 value = i == 0 ? DEPOSIT - 1 : DEPOSIT + 1;
            vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, value, DEPOSIT));
            vm.prank(RENTER);
            escrow.open{value: value}(q, DEPOSIT, sig);
        }
        q = quote();
        sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, 1, 0));
        vm.prank(RENTER);
        escrow.open{value: 1}(q, DEPOSIT, sig);
    }

    function test_a_renter_without_the_money_opens_nothing() public {
        Quote memory q = quote();
        q.renter = STRANGER;
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, 0));
        vm.prank(STRANGER);
        escrow.open(q, DEPOSIT, sig);
        assertGone(q);
    }

    function test_a_token_without_code_is_refused() public {
        Quote memory q = quoteIn(address(0xDEAD));
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, 0));
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    // ------------------------------------------------------------ once, ever

    function expectUsed(Quote memory q) internal {
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.QuoteUsed.selector, idOf(q)));
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    function test_an_open_quote_does_not_open_again() public {
        Quote memory q = openDefault();
        expectUsed(q);
    }

    function test_a_quote_closed_before_its_expiry_leaves_a_mark_and_never_opens_again() public {
        Quote memory q = openDefault();
        close(q, 0);
        assertGone(q);
        expectUsed(q);
        expectNotOpen(q);
        finalize(q);
        vm.warp(q.expiry);
        expectUsed(q);
    }

    function test_a_quote_closed_in_its_last_second_leaves_a_mark() public {
        Quote memory q = openDefault();
        vm.warp(q.expiry);
        close(q, 0);
        expectUsed(q);
    }

    function test_a_quote_closed_after_its_expiry_leaves_nothing_and_never_opens_again() public {
        Quote memory q = openDefault();
        vm.warp(q.expiry + 1);
        close(q, 0);
        assertGone(q);
        vm.assertEq(vm.load(address(escrow), keccak256(abi.encode(idOf(q), uint256(1)))), bytes32(0));
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.QuoteExpired.selector, q.expiry));
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    function test_the_rental_lies_where_the_clearing_test_looks() public {
        Quote memory q = openDefault();
        vm.assertTrue(vm.load(address(escrow), keccak256(abi.encode(idOf(q), uint256(1)))) != bytes32(0));
    }
}
