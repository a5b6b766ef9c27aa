// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {FundingTest} from "./support/FundingTest.sol";
import {Token} from "./support/EscrowTest.sol";
import {SmartAccount} from "./support/SmartAccount.sol";
import {vm} from "./support/Test.sol";
import {OddReceiver, OddToken} from "./support/Tokens.sol";

/// A deposit grows up to the price of the whole term, by anyone's money, and nothing else of the rental changes.
contract TopUpTest is FundingTest {
    function max(Quote memory q) internal pure returns (uint96) {
        return uint96(amountOf(q, q.maxSeconds));
    }

    function giveTo(address account) internal {
        dollar.mint(account, 100_000_000);
        vm.prank(account);
        dollar.approve(address(escrow), type(uint256).max);
    }

    function test_anyone_tops_up_and_no_timer_moves() public {
        Quote memory q = openDefault();
        giveTo(STRANGER);
        pass(1 hours);
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.ToppedUp(idOf(q), DEPOSIT + 700);
        vm.prank(STRANGER);
        escrow.topUp(q, 700);
        assertOpen(q, DEPOSIT + 700, 0, START, 0);
        vm.assertEq(dollar.balanceOf(STRANGER), 100_000_000 - 700);
        vm.assertEq(dollar.balanceOf(address(escrow)), DEPOSIT + 700);
        // It is the renter's from then on.
        close(q, 0);
        vm.assertEq(dollar.balanceOf(RENTER), 1_000_000_000 + 700);
    }

    function test_what_was_claimed_stays_claimed() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory sig = voucher(q, 500);
        escrow.claim(q, 500, sig);
        vm.prank(RENTER);
        escrow.topUp(q, 700);
        assertOpen(q, DEPOSIT + 700, 500, START, 0);
    }

    function test_a_top_up_is_clamped_to_the_price_of_the_term() public {
        Quote memory q = openDefault();
        uint96 room = max(q) - DEPOSIT;
        vm.prank(RENTER);
        escrow.topUp(q, room + 1_000_000);
        assertOpen(q, max(q), 0, START, 0);
        vm.assertEq(dollar.balanceOf(RENTER), 1_000_000_000 - max(q));
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.BadDeposit.selector, 0, 1, 0));
        vm.prank(RENTER);
        escrow.topUp(q, 1);
    }

    function test_a_top_up_of_nothing_is_refused() public {
        Quote memory q = openDefault();
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.BadDeposit.selector, 0, 1, max(q) - DEPOSIT));
        vm.prank(RENTER);
        escrow.topUp(q, 0);
    }

    function test_a_deposit_never_grows_beyond_96_bits() public {
        Quote memory q = quote();
        (q.rate, q.maxSeconds) = (type(uint96).max, 366 days);
        dollar.mint(RENTER, type(uint128).max);
        open(q, DEPOSIT);
        vm.prank(RENTER);
        escrow.topUp(q, type(uint96).max);
        assertOpen(q, type(uint96).max, 0, START, 0);
        pass(366 days);
        bytes memory sig = voucher(q, type(uint96).max);
        vm.prank(PROVIDER);
        escrow.close(q, type(uint96).max, sig);
        vm.assertEq(dollar.balanceOf(PROVIDER), type(uint96).max);
        vm.assertEq(dollar.balanceOf(address(escrow)), 0);
    }

    function test_excess_coin_comes_back() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        vm.deal(STRANGER, 100 ether);
        uint96 sent = max(q) - DEPOSIT + 123;
        vm.prank(STRANGER);
        escrow.topUp{value: sent}(q, sent);
        assertOpen(q, max(q), 0, START, 0);
        vm.assertEq(address(escrow).balance, max(q));
        vm.assertEq(STRANGER.balance, 100 ether - sent + 123);
    }

    function test_a_caller_that_cannot_take_its_excess_back_tops_up_exactly_or_not_at_all() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        OddReceiver payer = new OddReceiver(OddReceiver.Mode.Reverts);
        vm.deal(address(payer), 100 ether);
        uint96 room = max(q) - DEPOSIT;
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, 1, 0));
        vm.prank(address(payer));
        escrow.topUp{value: room + 1}(q, room + 1);
        vm.prank(address(payer));
        escrow.topUp{value: room}(q, room);
        assertOpen(q, max(q), 0, START, 0);
    }

    function test_excess_coin_comes_back_with_all_the_gas_and_without_a_way_in() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        uint96 sent = max(q) - DEPOSIT + 1;
        OddReceiver.Mode[2] memory modes = [OddReceiver.Mode.WritesTwoSlots, OddReceiver.Mode.Reenters];
        for (uint256 i; i < modes.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            OddReceiver payer = new OddReceiver(modes[i]);
            vm.deal(address(payer), sent);
            vm.prank(address(payer));
            escrow.topUp{value: sent}(q, sent);
            vm.assertEq(address(payer).balance, 1);
            vm.revertToState(snapshot);
        }
    }

    function test_the_coin_sent_is_the_amount_named_and_none_goes_with_a_token() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, 6, 7));
        vm.prank(RENTER);
        escrow.topUp{value: 6}(q, 7);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, 8, 7));
        vm.prank(RENTER);
        escrow.topUp{value: 8}(q, 7);
        q = openDefault();
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, 7, 0));
        vm.prank(RENTER);
        escrow.topUp{value: 7}(q, 7);
    }

    function test_a_stopping_rental_takes_no_more() public {
        Quote memory q = walletQuote();
        openWithAuthorization(q, DEPOSIT);
        pass(60);
        vm.prank(wallet);
        escrow.stop(q, 0, "");
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.AlreadyStopped.selector, START + 60));
        vm.prank(RENTER);
        escrow.topUp(q, 700);
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, 700, "", timestamp() + 60);
        uint256 until = timestamp() + 60;
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.AlreadyStopped.selector, START + 60));
        escrow.topUpWithAuthorization(q, 700, "", until, renterSig);
    }

    function test_only_an_open_rental_takes_more() public {
        Quote memory q = walletQuote();
        expectNotOpen(q);
        vm.prank(RENTER);
        escrow.topUp(q, 700);
        openWithAuthorization(q, DEPOSIT);
        close(q, 0);
        expectNotOpen(q);
        vm.prank(RENTER);
        escrow.topUp(q, 700);
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, 700, "", timestamp() + 60);
        uint256 until = timestamp() + 60;
        expectNotOpen(q);
        escrow.topUpWithAuthorization(q, 700, "", until, renterSig);
    }

    function test_a_token_that_takes_a_fee_tops_nothing_up() public {
        OddToken token = new OddToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        open(q, DEPOSIT);
        token.setMode(OddToken.Mode.TakesFee);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, 700, 693));
        vm.prank(RENTER);
        escrow.topUp(q, 700);
        assertOpen(q, DEPOSIT, 0, START, 0);
    }

    // ------------------------------------------------------------ by authorisation

    function topUpSigned(Quote memory q, uint96 amount, bytes32 salt) internal {
        uint256 until = timestamp() + 60;
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, amount, salt, until);
        vm.prank(STRANGER);
        escrow.topUpWithAuthorization(q, amount, salt, until, renterSig);
    }

    function test_anyone_brings_an_authorised_top_up() public {
        Quote memory q = walletQuote();
        openWithAuthorization(q, DEPOSIT);
        pass(1 hours);
        topUpSigned(q, 700, "one");
        topUpSigned(q, 300, "two");
        assertOpen(q, DEPOSIT + 1_000, 0, START, 0);
        vm.assertEq(dollar.balanceOf(wallet), 1_000_000_000 - DEPOSIT - 1_000);
    }

    function test_a_smart_account_authorises_a_top_up() public {
        SmartAccount account = new SmartAccount(wallet);
        giveTo(address(account));
        Quote memory q = quote();
        q.renter = address(account);
        open(q, DEPOSIT);
        uint256 until = timestamp() + 60;
        bytes memory renterSig = abi.encodePacked(bytes1(0x01), topUpAuthorization(WALLET_SECRET, q, 700, "", until));
        vm.prank(STRANGER);
        escrow.topUpWithAuthorization(q, 700, "", until, renterSig);
        assertOpen(q, DEPOSIT + 700, 0, START, 0);
    }

    function test_an_authorised_top_up_is_exact() public {
        Quote memory q = walletQuote();
        openWithAuthorization(q, DEPOSIT);
        uint96 room = max(q) - DEPOSIT;
        uint256 until = timestamp() + 60;
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, room + 1, "", until);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.BadDeposit.selector, room + 1, 1, room));
        escrow.topUpWithAuthorization(q, room + 1, "", until, renterSig);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.BadDeposit.selector, 0, 1, room));
        escrow.topUpWithAuthorization(q, 0, "", until, renterSig);
        topUpSigned(q, room, "");
        assertOpen(q, max(q), 0, START, 0);
    }

    function test_an_authorised_top_up_serves_once_and_for_its_rental_only() public {
        Quote memory q = walletQuote();
        Quote memory other = walletQuote();
        other.spec = keccak256("another");
        openWithAuthorization(q, DEPOSIT);
        openWithAuthorization(other, DEPOSIT);
        uint256 until = timestamp() + 60;
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, 700, "", until);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, 700, 0));
        escrow.topUpWithAuthorization(other, 700, "", until, renterSig);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, 700, 0));
        escrow.topUpWithAuthorization(q, 700, "else", until, renterSig);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, 700, 0));
        escrow.topUpWithAuthorization(q, 700, "", until + 1, renterSig);
        escrow.topUpWithAuthorization(q, 700, "", until, renterSig);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, 700, 0));
        escrow.topUpWithAuthorization(q, 700, "", until, renterSig);
    }

    function test_the_word_that_opens_is_none_that_tops_up() public {
        // Both are nonces of one token; the id itself is no hash of an id and a salt.
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        uint256 until = uint256(q.expiry) + 1;
        openWithAuthorization(q, DEPOSIT);
        bytes memory renterSig = topUpAuthorization(WALLET_SECRET, q, DEPOSIT, "", until);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.QuoteUsed.selector, idOf(q)));
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
    }

    function test_coin_is_not_authorised() public {
        Quote memory q = quoteIn(address(0));
        open(q, DEPOSIT);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, 0, 700));
        escrow.topUpWithAuthorization(q, 700, "", timestamp() + 60, "");
    }

    function testFuzz_a_top_up_takes_what_it_adds(uint96 deposit, uint96 amount, bool coin) public {
        Quote memory q = quoteIn(coin ? address(0) : address(dollar));
        deposit = uint96(bound(deposit, 1_000, max(q) - 1));
        amount = uint96(bound(amount, 1, 50_000_000));
        open(q, deposit);
        uint256 before = coin ? RENTER.balance : dollar.balanceOf(RENTER);
        vm.prank(RENTER);
        escrow.topUp{value: coin ? amount : 0}(q, amount);
        uint96 added = amount < max(q) - deposit ? amount : max(q) - deposit;
        assertOpen(q, deposit + added, 0, START, 0);
        vm.assertEq(before - (coin ? RENTER.balance : dollar.balanceOf(RENTER)), added);
    }
}
