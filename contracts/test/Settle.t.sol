// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// Claims, and the two ways to a close at any time: by the provider, and by both.
contract SettleTest is EscrowTest {
    // ------------------------------------------------------------ claim

    function test_a_claim_pays_what_the_voucher_adds() public {
        Quote memory q = openDefault();
        pass(30 minutes);
        bytes memory sig = voucher(q, 400);
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.Claimed(idOf(q), 400);
        vm.prank(STRANGER);
        escrow.claim(q, 400, sig);
        assertPaid(400, 0);
        sig = voucher(q, 1_000);
        escrow.claim(q, 1_000, sig);
        assertPaid(1_000, 0);
        assertOpen(q, DEPOSIT, 1_000, START, 0);
    }

    function test_a_claim_is_capped_by_the_time_that_passed() public {
        Quote memory q = openDefault();
        pass(10);
        uint96 metered = uint96(amountOf(q, 10));
        bytes memory sig = voucher(q, DEPOSIT);
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.Claimed(idOf(q), metered);
        escrow.claim(q, DEPOSIT, sig);
        assertPaid(metered, 0);
    }

    function test_a_claim_is_capped_by_the_deposit_and_by_the_term() public {
        Quote memory q = openDefault();
        pass(300 days);
        bytes memory sig = voucher(q, type(uint96).max);
        escrow.claim(q, type(uint96).max, sig);
        assertPaid(DEPOSIT, 0);
        q = quote();
        q.maxSeconds = 100;
        uint96 most = uint96(amountOf(q, 100));
        open(q, most);
        pass(300 days);
        sig = voucher(q, type(uint96).max);
        escrow.claim(q, type(uint96).max, sig);
        vm.assertEq(dollar.balanceOf(PROVIDER), uint256(DEPOSIT) + most);
    }

    function test_a_claim_that_adds_nothing_is_refused() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = voucher(q, 0);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.NothingToClaim.selector, 0));
        escrow.claim(q, 0, sig);
        sig = voucher(q, 500);
        escrow.claim(q, 500, sig);
        for (uint96 cumulative = 499; cumulative <= 500; ++cumulative) {
            sig = voucher(q, cumulative);
            vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.NothingToClaim.selector, 500));
            escrow.claim(q, cumulative, sig);
        }
    }

    function test_nothing_can_be_claimed_in_the_second_of_opening() public {
        Quote memory q = openDefault();
        bytes memory sig = voucher(q, 500);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.NothingToClaim.selector, 0));
        escrow.claim(q, 500, sig);
    }

    function test_a_claim_needs_the_session_key_and_an_open_rental() public {
        Quote memory q = quote();
        bytes memory sig = voucher(q, 500);
        expectNotOpen(q);
        escrow.claim(q, 500, sig);
        open(q, DEPOSIT);
        pass(1 hours);
        sig = signCompact(PROVIDER_SECRET, voucherDigest(q, 500));
        expectBadSignature(renterKey);
        escrow.claim(q, 500, sig);
        expectBadSignature(renterKey);
        escrow.claim(q, 0, "");
        close(q, 500);
        sig = voucher(q, 600);
        expectNotOpen(q);
        escrow.claim(q, 600, sig);
    }

    function test_a_claim_after_a_stop_counts_no_second_after_it() public {
        Quote memory q = openDefault();
        pass(60);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        pass(30 minutes);
        bytes memory sig = voucher(q, DEPOSIT);
        escrow.claim(q, DEPOSIT, sig);
        assertPaid(amountOf(q, 60), 0);
    }

    // ------------------------------------------------------------ close

    function test_a_close_pays_both_in_one_call() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = voucher(q, 1_500_000);
        expectClosed(q, 1_500_000, 500_000, 1 hours, 1);
        vm.prank(PROVIDER);
        escrow.close(q, 1_500_000, sig);
        assertPaid(1_500_000, 500_000);
        assertGone(q);
    }

    function test_a_close_in_coin_pays_both_in_one_call() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        pass(1 hours);
        close(q, 1_500_000);
        vm.assertEq(PROVIDER.balance, 1_500_000);
        vm.assertEq(RENTER.balance, 100 ether - 1_500_000);
        vm.assertEq(address(escrow).balance, 0);
    }

    function test_a_close_counts_what_was_claimed() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = voucher(q, 1_000_000);
        escrow.claim(q, 1_000_000, sig);
        sig = voucher(q, 400_000);
        // An older voucher takes nothing back.
        expectClosed(q, 1_000_000, 1_000_000, 1 hours, 1);
        vm.prank(PROVIDER);
        escrow.close(q, 400_000, sig);
        assertPaid(1_000_000, 1_000_000);
    }

    function test_a_close_without_a_voucher_gives_back_all_that_was_not_claimed() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = voucher(q, 300);
        escrow.claim(q, 300, sig);
        expectClosed(q, 300, DEPOSIT - 300, 1 hours, 1);
        vm.prank(PROVIDER);
        escrow.close(q, 0, "");
        assertPaid(300, DEPOSIT - 300);
    }

    function test_a_close_is_capped_by_the_time_that_passed() public {
        Quote memory q = openDefault();
        pass(7);
        close(q, DEPOSIT);
        assertPaid(amountOf(q, 7), DEPOSIT - amountOf(q, 7));
    }

    function test_a_close_after_the_term_counts_the_term() public {
        Quote memory q = quote();
        q.maxSeconds = 50;
        open(q, uint96(amountOf(q, 50)));
        pass(1 days);
        bytes memory sig = voucher(q, type(uint96).max);
        expectClosed(q, uint96(amountOf(q, 50)), 0, 50, 1);
        vm.prank(PROVIDER);
        escrow.close(q, type(uint96).max, sig);
    }

    function test_a_close_after_a_stop_counts_to_the_stop() public {
        Quote memory q = openDefault();
        pass(40);
        vm.prank(renterKey);
        escrow.stop(q, 7, "");
        pass(2 days);
        bytes memory sig = voucher(q, DEPOSIT);
        expectClosed(q, uint96(amountOf(q, 40)), uint96(DEPOSIT - amountOf(q, 40)), 40, 1);
        vm.prank(PROVIDER);
        escrow.close(q, DEPOSIT, sig);
    }

    function test_only_the_provider_or_its_key_closes() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = voucher(q, 500);
        address[3] memory others = [RENTER, renterKey, STRANGER];
        for (uint256 i; i < others.length; ++i) {
            expect(IRentalEscrow.NotProvider.selector);
            vm.prank(others[i]);
            escrow.close(q, 500, sig);
        }
        vm.prank(providerKey);
        escrow.close(q, 500, sig);
        assertPaid(500, DEPOSIT - 500);
    }

    function test_a_close_needs_a_good_voucher_and_an_open_rental() public {
        Quote memory q = openDefault();
        pass(1 hours);
        expectBadSignature(renterKey);
        vm.prank(PROVIDER);
        escrow.close(q, 1, "");
        bytes memory sig = signCompact(PROVIDER_SECRET, voucherDigest(q, 1));
        expectBadSignature(renterKey);
        vm.prank(PROVIDER);
        escrow.close(q, 1, sig);
        sig = signCompact(PROVIDER_SECRET, voucherDigest(q, 0));
        expectBadSignature(renterKey);
        vm.prank(PROVIDER);
        escrow.close(q, 0, sig);
        close(q, 1);
        sig = voucher(q, 1);
        expectNotOpen(q);
        vm.prank(PROVIDER);
        escrow.close(q, 1, sig);
    }

    function test_changed_terms_name_another_rental() public {
        Quote memory q = openDefault();
        pass(1 hours);
        q.rate *= 2;
        bytes memory sig = voucher(q, DEPOSIT);
        expectNotOpen(q);
        vm.prank(PROVIDER);
        escrow.close(q, DEPOSIT, sig);
    }

    // ------------------------------------------------------------ release

    function test_the_renter_releases_with_the_word_of_the_provider() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = releaseSig(q, 700);
        expectClosed(q, 700, DEPOSIT - 700, 1 hours, 2);
        vm.prank(RENTER);
        escrow.release(q, 700, sig, "");
        assertPaid(700, DEPOSIT - 700);
        assertGone(q);
    }

    function test_the_session_key_releases_too() public {
        Quote memory q = openDefault();
        bytes memory sig = releaseSig(q, 0);
        vm.prank(renterKey);
        escrow.release(q, 0, sig, "");
        assertPaid(0, DEPOSIT);
    }

    function test_a_stranger_releases_with_the_word_of_both_for_the_same_total() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = releaseSig(q, 700);
        bytes memory other = voucher(q, 699);
        expectBadSignature(renterKey);
        vm.prank(STRANGER);
        escrow.release(q, 700, sig, other);
        expect(IRentalEscrow.NotRenter.selector);
        vm.prank(STRANGER);
        escrow.release(q, 700, sig, "");
        // The provider is a stranger here: its own word is not enough.
        expect(IRentalEscrow.NotRenter.selector);
        vm.prank(PROVIDER);
        escrow.release(q, 700, sig, "");
        other = voucher(q, 700);
        vm.prank(STRANGER);
        escrow.release(q, 700, sig, other);
        assertPaid(700, DEPOSIT - 700);
    }

    function test_a_release_keeps_to_what_was_claimed_and_to_the_meter() public {
        Quote memory q = openDefault();
        pass(5);
        bytes memory claimSig = voucher(q, 900);
        escrow.claim(q, 900, claimSig);
        bytes memory sig = releaseSig(q, 100);
        uint256 snapshot = vm.snapshotState();
        vm.prank(RENTER);
        escrow.release(q, 100, sig, "");
        assertPaid(900, DEPOSIT - 900);
        vm.revertToState(snapshot);
        sig = releaseSig(q, DEPOSIT);
        vm.prank(RENTER);
        escrow.release(q, DEPOSIT, sig, "");
        assertPaid(amountOf(q, 5), DEPOSIT - amountOf(q, 5));
    }

    function test_a_release_needs_the_provider_key_and_an_open_rental() public {
        Quote memory q = openDefault();
        bytes memory sig = signCompact(RENTER_SECRET, releaseDigest(q, 0));
        expectBadSignature(providerKey);
        vm.prank(RENTER);
        escrow.release(q, 0, sig, "");
        expectBadSignature(providerKey);
        vm.prank(RENTER);
        escrow.release(q, 0, "", "");
        close(q, 0);
        sig = releaseSig(q, 0);
        expectNotOpen(q);
        vm.prank(RENTER);
        escrow.release(q, 0, sig, "");
    }

    // ------------------------------------------------------------ anything

    function testFuzz_a_close_splits_the_deposit_and_never_pays_beyond_the_meter(
        uint96 rate,
        uint96 deposit,
        uint32 maxSeconds,
        uint32 elapsed,
        uint96 cumulative
    ) public {
        Quote memory q = quote();
        q.maxSeconds = uint32(bound(maxSeconds, 1, 366 days));
        q.rate = uint96(bound(rate, 1e6, type(uint96).max));
        q.minDeposit = 0;
        uint256 max = amountOf(q, q.maxSeconds);
        deposit = uint96(bound(deposit, 1, max < type(uint96).max ? max : type(uint96).max));
        dollar.mint(RENTER, deposit);
        uint256 before = dollar.balanceOf(RENTER);
        open(q, deposit);
        pass(elapsed);
        close(q, cumulative);
        uint256 paid = dollar.balanceOf(PROVIDER);
        vm.assertEq(paid + dollar.balanceOf(RENTER), before);
        vm.assertLe(paid, cumulative);
        vm.assertLe(paid, amountOf(q, elapsed < q.maxSeconds ? elapsed : q.maxSeconds));
        vm.assertEq(dollar.balanceOf(address(escrow)), 0);
    }
}
