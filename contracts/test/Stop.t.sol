// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// The way out that needs nobody's consent: the renter stops, and anyone finalizes when the window is over.
contract StopTest is EscrowTest {
    // ------------------------------------------------------------ stop

    function test_the_renter_its_key_or_a_carrier_of_its_word_stops() public {
        Quote memory q = openDefault();
        bytes memory sig = stopSig(q, 3);
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < 3; ++i) {
            pass(100);
            vm.expectEmit(address(escrow));
            emit IRentalEscrow.Stopping(idOf(q), START + 100, 3);
            vm.prank(i == 0 ? RENTER : i == 1 ? renterKey : STRANGER);
            escrow.stop(q, 3, i == 2 ? sig : bytes(""));
            assertOpen(q, DEPOSIT, 0, START, START + 100);
            vm.revertToState(snapshot);
        }
    }

    function test_nobody_else_stops() public {
        Quote memory q = openDefault();
        address[3] memory others = [STRANGER, PROVIDER, providerKey];
        for (uint256 i; i < others.length; ++i) {
            expect(IRentalEscrow.NotRenter.selector);
            vm.prank(others[i]);
            escrow.stop(q, 0, "");
        }
        bytes memory sig = signCompact(PROVIDER_SECRET, stopDigest(q, 0));
        expectBadSignature(renterKey);
        vm.prank(PROVIDER);
        escrow.stop(q, 0, sig);
        sig = stopSig(q, 0);
        expectBadSignature(renterKey);
        vm.prank(STRANGER);
        escrow.stop(q, 1, sig);
    }

    function test_a_stop_stands() public {
        Quote memory q = openDefault();
        pass(100);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        pass(100);
        bytes memory sig = stopSig(q, 0);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.AlreadyStopped.selector, START + 100));
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.AlreadyStopped.selector, START + 100));
        vm.prank(STRANGER);
        escrow.stop(q, 0, sig);
        assertOpen(q, DEPOSIT, 0, START, START + 100);
    }

    function test_only_an_open_rental_stops() public {
        Quote memory q = quote();
        expectNotOpen(q);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        open(q, DEPOSIT);
        close(q, 0);
        expectNotOpen(q);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
    }

    function test_a_stop_after_the_year_2106_still_fits() public {
        vm.warp(type(uint32).max - 10);
        Quote memory q = quote();
        q.expiry = type(uint32).max;
        open(q, DEPOSIT);
        vm.warp(uint256(type(uint32).max) + 100);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        assertOpen(q, DEPOSIT, 0, type(uint32).max - 10, type(uint32).max);
        vm.warp(uint256(type(uint32).max) + q.window);
        finalize(q);
        assertPaid(0, DEPOSIT);
    }

    // ------------------------------------------------------------ finalize

    function expectTooEarly(uint256 until) internal {
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TooEarly.selector, until));
    }

    function test_anyone_finalizes_when_the_window_after_a_stop_is_over() public {
        Quote memory q = openDefault();
        pass(60);
        bytes memory sig = voucher(q, 500);
        escrow.claim(q, 500, sig);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        uint256 until = START + 60 + q.window;
        expectTooEarly(until);
        finalize(q);
        vm.warp(until - 1);
        expectTooEarly(until);
        finalize(q);
        vm.warp(until);
        expectClosed(q, 500, DEPOSIT - 500, 60, 3);
        finalize(q);
        assertPaid(500, DEPOSIT - 500);
        assertGone(q);
    }

    function test_anyone_finalizes_when_the_window_after_the_term_is_over() public {
        Quote memory q = openDefault();
        uint256 until = uint256(START) + q.maxSeconds + q.window;
        vm.warp(until - 1);
        expectTooEarly(until);
        finalize(q);
        vm.warp(until);
        expectClosed(q, 0, DEPOSIT, q.maxSeconds, 4);
        finalize(q);
        assertPaid(0, DEPOSIT);
    }

    function test_a_stop_after_the_term_moves_no_timer() public {
        Quote memory q = openDefault();
        uint256 until = uint256(START) + q.maxSeconds + q.window;
        vm.warp(until - 1);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        vm.warp(until);
        expectClosed(q, 0, DEPOSIT, q.maxSeconds, 3);
        finalize(q);
    }

    function test_only_an_open_rental_is_finalized() public {
        Quote memory q = quote();
        expectNotOpen(q);
        finalize(q);
        open(q, DEPOSIT);
        vm.warp(uint256(START) + q.maxSeconds + q.window);
        finalize(q);
        expectNotOpen(q);
        finalize(q);
    }
}
