// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Closing, IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest, Token} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";
import {DearToken, HookToken, OddReceiver, OddToken, SilentToken} from "./support/Tokens.sol";

/// Tokens and payees that misbehave: what comes in must be exact, what goes out is pushed or credited leg by leg.
contract PaymentsTest is EscrowTest {
    OddToken.Mode[6] internal refusals = [
        OddToken.Mode.ReturnsFalse,
        OddToken.Mode.ReturnsZeroByte,
        OddToken.Mode.Reverts,
        OddToken.Mode.RevertsWithBomb,
        OddToken.Mode.ReturnsTwo,
        OddToken.Mode.BurnsAllGas
    ];

    function odd() internal returns (OddToken token, Quote memory q) {
        token = new OddToken();
        fund(Token(address(token)));
        q = quoteIn(address(token));
    }

    function expectCredited(address token, address account, uint256 amount) internal {
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.Credited(token, account, amount);
    }

    // ------------------------------------------------------------ in

    function expectMismatch(uint256 received) internal {
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, received));
    }

    function test_a_token_that_returns_nothing_works_both_ways() public {
        SilentToken token = new SilentToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        open(q, DEPOSIT);
        pass(1 hours);
        close(q, 500);
        vm.assertEq(token.balanceOf(PROVIDER), 500);
        vm.assertEq(token.balanceOf(address(escrow)), 0);
    }

    function test_a_token_that_is_dear_to_ask_works_both_ways() public {
        DearToken token = new DearToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        open(q, DEPOSIT);
        pass(1 hours);
        close(q, 500);
        vm.assertEq(token.balanceOf(PROVIDER), 500);
        vm.assertEq(token.balanceOf(address(escrow)), 0);
    }

    function test_only_an_exact_change_of_balance_is_taken() public {
        (OddToken token, Quote memory q) = odd();
        bytes memory sig = quoteSig(q);
        token.setMode(OddToken.Mode.TakesFee);
        expectMismatch(DEPOSIT - DEPOSIT / 100);
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
        token.setMode(OddToken.Mode.AddsBonus);
        expectMismatch(DEPOSIT + 1);
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
        token.setMode(OddToken.Mode.MovesNothing);
        expectMismatch(0);
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    function test_a_transfer_that_is_not_confirmed_opens_nothing() public {
        (OddToken token, Quote memory q) = odd();
        bytes memory sig = quoteSig(q);
        // So that a word of 1 lies about in memory, which a byte too few must not be taken for.
        token.mint(address(escrow), 1);
        for (uint256 i; i < refusals.length; ++i) {
            token.setMode(refusals[i]);
            expectMismatch(0);
            vm.prank(RENTER);
            escrow.open{gas: 2_000_000}(q, DEPOSIT, sig);
        }
        assertGone(q);
    }

    // ------------------------------------------------------------ out

    function test_a_token_that_refuses_every_payout_leaves_credits() public {
        for (uint256 i; i < refusals.length; ++i) {
            (OddToken token, Quote memory q) = odd();
            open(q, DEPOSIT);
            pass(1 hours);
            token.setMode(refusals[i]);
            close(q, 500);
            vm.assertEq(escrow.credit(address(token), PROVIDER), 500);
            vm.assertEq(escrow.credit(address(token), RENTER), DEPOSIT - 500);
            assertGone(q);
        }
    }

    function test_returned_data_is_not_copied_whole() public {
        (OddToken token, Quote memory q) = odd();
        open(q, DEPOSIT);
        pass(1 hours);
        token.setMode(OddToken.Mode.ReturnsBomb);
        bytes memory sig = voucher(q, 500);
        vm.prank(PROVIDER);
        uint256 before = gasleft();
        escrow.close(q, 500, sig);
        // Copying both answers of 100,000 bytes would cost about 60,000 on top of the 60,000 that the token itself spends on them.
        vm.assertLe(before - gasleft(), 180_000);
        vm.assertEq(token.balanceOf(PROVIDER), 500);
    }

    function test_a_token_that_lost_its_code_leaves_credits() public {
        (OddToken token, Quote memory q) = odd();
        open(q, DEPOSIT);
        pass(1 hours);
        vm.etch(address(token), "");
        close(q, 500);
        vm.assertEq(escrow.credit(address(token), PROVIDER), 500);
        vm.assertEq(escrow.credit(address(token), RENTER), DEPOSIT - 500);
    }

    function test_a_blocked_payee_is_credited_and_the_other_is_paid() public {
        SilentToken token = new SilentToken();
        fund(Token(address(token)));
        address[2] memory payees = [PROVIDER, RENTER];
        for (uint256 i; i < 2; ++i) {
            Quote memory q = quoteIn(address(token));
            open(q, DEPOSIT);
            pass(1 hours);
            token.setBlocked(payees[i], true);
            bytes memory sig = voucher(q, 500);
            uint256 owed = i == 0 ? 500 : DEPOSIT - 500;
            uint256 before = token.balanceOf(payees[1 - i]);
            expectCredited(address(token), payees[i], owed);
            vm.prank(PROVIDER);
            escrow.close(q, 500, sig);
            vm.assertEq(escrow.credit(address(token), payees[i]), owed);
            vm.assertEq(escrow.credit(address(token), payees[1 - i]), 0);
            vm.assertEq(token.balanceOf(payees[1 - i]), before + DEPOSIT - owed);
            token.setBlocked(payees[i], false);
            vm.prank(payees[i]);
            escrow.withdraw(address(token), payees[i]);
        }
        vm.assertEq(token.balanceOf(address(escrow)), 0);
    }

    function test_a_blocked_provider_is_credited_on_a_claim() public {
        SilentToken token = new SilentToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        open(q, DEPOSIT);
        pass(1 hours);
        token.setBlocked(PROVIDER, true);
        bytes memory sig = voucher(q, 500);
        escrow.claim(q, 500, sig);
        sig = voucher(q, 800);
        escrow.claim(q, 800, sig);
        vm.assertEq(escrow.credit(address(token), PROVIDER), 800);
        assertOpen(q, DEPOSIT, 800, START, 0);
    }

    function openCoinFor(OddReceiver.Mode mode) internal returns (OddReceiver receiver, Quote memory q) {
        receiver = new OddReceiver(mode);
        q = quoteIn(address(0));
        q.provider = address(receiver);
        open(q, DEPOSIT);
        pass(1 hours);
    }

    function test_a_payee_that_refuses_coin_is_credited_and_withdraws_elsewhere() public {
        OddReceiver.Mode[4] memory modes =
            [OddReceiver.Mode.Reverts, OddReceiver.Mode.RevertsWithBomb, OddReceiver.Mode.BurnsAllGas, OddReceiver.Mode.WritesTwoSlots];
        for (uint256 i; i < modes.length; ++i) {
            (OddReceiver receiver, Quote memory q) = openCoinFor(modes[i]);
            uint256 before = RENTER.balance;
            close(q, 500);
            vm.assertEq(RENTER.balance, before + DEPOSIT - 500);
            vm.assertEq(escrow.credit(address(0), address(receiver)), 500);
            vm.prank(address(receiver));
            escrow.withdraw(address(0), STRANGER);
            vm.assertEq(STRANGER.balance, 500 * (i + 1));
        }
        vm.assertEq(address(escrow).balance, 0);
    }

    function test_a_payee_with_a_modest_need_of_gas_is_paid() public {
        (OddReceiver receiver, Quote memory q) = openCoinFor(OddReceiver.Mode.WritesOneSlot);
        close(q, 500);
        vm.assertEq(address(receiver).balance, 500);
    }

    /// A caller that tries every gas limit on a claim, against a payee or a token that fails unless it is given what it was promised.
    /// One that fails early hands its gas back, so that enough would be left to write a credit.
    function sweep(Quote memory q, uint256 most) internal {
        bytes memory data = abi.encodeCall(IRentalEscrow.claim, (q, 500, voucher(q, 500)));
        uint256 paid;
        uint256 refused;
        for (uint256 limit = 20_000; limit < most; limit += 500) {
            uint256 snapshot = vm.snapshotState();
            (bool ok, bytes memory answer) = address(escrow).call{gas: limit}(data);
            vm.assertEq(escrow.credit(q.token, q.provider), 0, "starved into a credit");
            if (ok) ++paid;
            else if (bytes4(answer) == IRentalEscrow.GasTooLow.selector) ++refused;
            vm.revertToState(snapshot);
        }
        // Both sides of the floor were met.
        vm.assertTrue(paid > 0 && refused > 0);
    }

    function test_no_choice_of_gas_turns_a_payout_of_coin_into_a_credit() public {
        (, Quote memory q) = openCoinFor(OddReceiver.Mode.WantsItsGas);
        sweep(q, 220_000);
    }

    function test_no_choice_of_gas_turns_a_payout_of_tokens_into_a_credit() public {
        (OddToken token, Quote memory q) = odd();
        open(q, DEPOSIT);
        pass(1 hours);
        token.setMode(OddToken.Mode.WantsItsGas);
        sweep(q, 400_000);
    }

    // ------------------------------------------------------------ withdraw

    function creditedRenter() internal returns (SilentToken token) {
        token = new SilentToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        open(q, DEPOSIT);
        token.setBlocked(RENTER, true);
        close(q, 0);
    }

    function test_a_withdrawal_goes_where_its_owner_says_and_only_once() public {
        SilentToken token = creditedRenter();
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.Withdrawn(address(token), RENTER, STRANGER, DEPOSIT);
        vm.prank(RENTER);
        vm.assertEq(escrow.withdraw(address(token), STRANGER), DEPOSIT);
        vm.assertEq(token.balanceOf(STRANGER), DEPOSIT);
        vm.assertEq(escrow.credit(address(token), RENTER), 0);
        expect(IRentalEscrow.NoCredit.selector);
        vm.prank(RENTER);
        escrow.withdraw(address(token), STRANGER);
    }

    function test_nobody_withdraws_what_is_credited_to_another() public {
        SilentToken token = creditedRenter();
        expect(IRentalEscrow.NoCredit.selector);
        vm.prank(STRANGER);
        escrow.withdraw(address(token), STRANGER);
        expect(IRentalEscrow.NoCredit.selector);
        vm.prank(RENTER);
        escrow.withdraw(address(dollar), RENTER);
    }

    function test_a_withdrawal_that_fails_keeps_the_credit() public {
        SilentToken token = creditedRenter();
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, 0));
        vm.prank(RENTER);
        escrow.withdraw(address(token), RENTER);
        // To the escrow itself the transfer would work and the money would belong to nobody.
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, 0));
        vm.prank(RENTER);
        escrow.withdraw(address(token), address(escrow));
        vm.assertEq(escrow.credit(address(token), RENTER), DEPOSIT);
    }

    function test_a_withdrawal_of_coin_gives_the_receiver_all_the_gas() public {
        (OddReceiver receiver, Quote memory q) = openCoinFor(OddReceiver.Mode.WritesTwoSlots);
        close(q, 500);
        vm.prank(address(receiver));
        escrow.withdraw(address(0), address(receiver));
        vm.assertEq(address(receiver).balance, 500);
    }

    // ------------------------------------------------------------ reentrance

    function test_a_token_with_hooks_cannot_come_back_in() public {
        HookToken token = new HookToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        Quote memory other = quoteIn(address(token));
        other.spec = keccak256("another");
        Closing[] memory closings = new Closing[](1);
        closings[0] = Closing(q, 500, voucher(q, 500));
        bytes[14] memory calls = [
            abi.encodeCall(IRentalEscrow.open, (other, DEPOSIT, quoteSig(other))),
            abi.encodeCall(IRentalEscrow.claim, (q, 500, voucher(q, 500))),
            abi.encodeCall(IRentalEscrow.close, (q, 500, voucher(q, 500))),
            abi.encodeCall(IRentalEscrow.release, (q, 500, releaseSig(q, 500), voucher(q, 500))),
            abi.encodeCall(IRentalEscrow.stop, (q, 0, stopSig(q, 0))),
            abi.encodeCall(IRentalEscrow.finalize, (q)),
            abi.encodeCall(IRentalEscrow.withdraw, (address(token), STRANGER)),
            abi.encodeCall(IRentalEscrow.openWithPermit, (other, DEPOSIT, quoteSig(other), 0, 27, "", "")),
            abi.encodeCall(IRentalEscrow.openWithPermit2, (other, DEPOSIT, quoteSig(other), 0, 0, "")),
            abi.encodeCall(IRentalEscrow.openWithAuthorization, (other, DEPOSIT, quoteSig(other), "")),
            abi.encodeCall(IRentalEscrow.topUp, (q, 1)),
            abi.encodeCall(IRentalEscrow.topUpWithAuthorization, (q, 1, "", 0, "")),
            abi.encodeCall(IRentalEscrow.closeMany, (closings)),
            abi.encodeCall(IRentalEscrow.rule, (q, 0))
        ];
        for (uint256 i; i < calls.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            token.setHook(address(escrow), calls[i]);
            open(q, DEPOSIT);
            assertReentered(token);
            pass(1 hours);
            token.setHook(address(escrow), calls[i]);
            close(q, 500);
            assertReentered(token);
            vm.assertEq(token.balanceOf(PROVIDER), 500);
            vm.revertToState(snapshot);
        }
    }

    function assertReentered(HookToken token) internal view {
        vm.assertTrue(token.called());
        vm.assertFalse(token.succeeded());
        vm.assertEq(bytes32(token.answer()), bytes32(IRentalEscrow.Reentered.selector));
    }

    function test_a_payee_of_coin_cannot_come_back_in() public {
        (OddReceiver receiver, Quote memory q) = openCoinFor(OddReceiver.Mode.Reenters);
        close(q, 500);
        // It takes the coin only if it was refused as a reentrance.
        vm.assertEq(address(receiver).balance, 500);
    }

    function test_the_lock_is_off_again_within_the_same_transaction() public {
        // A test function is one transaction.
        Quote memory q = openDefault();
        close(q, 0);
        q.spec = keccak256("another");
        open(q, DEPOSIT);
        assertOpen(q, DEPOSIT, 0, START, 0);
    }
}
