// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {Authorizing, FundingTest} from "./support/FundingTest.sol";
import {SmartAccount} from "./support/SmartAccount.sol";
import {Token} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";
import {OddToken, SilentToken} from "./support/Tokens.sol";

/// Openings by a renter that signs: a permit for its own call, an authorisation or Permit2 for anyone's.
contract OpenSignedTest is FundingTest {
    function expectMismatch() internal {
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, 0));
    }

    function assertOpenedBy(Quote memory q) internal view {
        assertOpen(q, DEPOSIT, 0, START, 0);
        vm.assertEq(dollar.balanceOf(address(escrow)), DEPOSIT);
        vm.assertEq(dollar.balanceOf(q.renter), 1_000_000_000 - DEPOSIT);
    }

    // ------------------------------------------------------------ ERC-2612

    function test_a_permit_opens_and_leaves_no_allowance() public {
        Quote memory q = walletQuote();
        vm.assertEq(openWithPermit(q, DEPOSIT), idOf(q));
        assertOpenedBy(q);
        vm.assertEq(Authorizing(address(dollar)).allowance(wallet, address(escrow)), 0);
    }

    function test_a_permit_that_was_brought_before_does_no_harm() public {
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, permitDigest(wallet, DEPOSIT, q.expiry));
        vm.prank(STRANGER);
        Authorizing(address(dollar)).permit(wallet, address(escrow), DEPOSIT, q.expiry, v, r, s);
        vm.prank(wallet);
        escrow.openWithPermit(q, DEPOSIT, sig, q.expiry, v, r, s);
        assertOpenedBy(q);
    }

    function test_a_permit_serves_the_renters_own_call_only() public {
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, permitDigest(wallet, DEPOSIT, q.expiry));
        address[3] memory others = [STRANGER, PROVIDER, renterKey];
        for (uint256 i; i < others.length; ++i) {
            expect(IRentalEscrow.NotRenter.selector);
            vm.prank(others[i]);
            escrow.openWithPermit(q, DEPOSIT, sig, q.expiry, v, r, s);
        }
    }

    function test_a_bad_permit_opens_nothing_without_an_allowance() public {
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(STRANGER_SECRET, permitDigest(wallet, DEPOSIT, q.expiry));
        expectMismatch();
        vm.prank(wallet);
        escrow.openWithPermit(q, DEPOSIT, sig, q.expiry, v, r, s);
        // With one, the permit does not matter: so it is with tokens that have none.
        vm.prank(wallet);
        dollar.approve(address(escrow), DEPOSIT);
        vm.prank(wallet);
        escrow.openWithPermit(q, DEPOSIT, sig, q.expiry, v, r, s);
        assertOpenedBy(q);
    }

    function test_a_permit_for_less_opens_nothing() public {
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, permitDigest(wallet, DEPOSIT - 1, q.expiry));
        expectMismatch();
        vm.prank(wallet);
        escrow.openWithPermit(q, DEPOSIT, sig, q.expiry, v, r, s);
    }

    // ------------------------------------------------------------ ERC-3009

    function test_anyone_brings_an_authorisation() public {
        Quote memory q = walletQuote();
        vm.assertEq(openWithAuthorization(q, DEPOSIT), idOf(q));
        assertOpenedBy(q);
        vm.assertTrue(Authorizing(address(dollar)).authorizationState(wallet, idOf(q)));
    }

    function test_an_authorisation_holds_until_the_last_second_of_the_quote() public {
        Quote memory q = walletQuote();
        vm.warp(q.expiry);
        openWithAuthorization(q, DEPOSIT);
        assertOpen(q, DEPOSIT, 0, q.expiry, 0);
    }

    function test_an_authorisation_binds_the_quote_and_the_deposit() public {
        Quote memory q = walletQuote();
        bytes memory renterSig = authorization(WALLET_SECRET, q, DEPOSIT);
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT - 1, 0));
        escrow.openWithAuthorization(q, DEPOSIT - 1, sig, renterSig);
        // Terms that the provider and its friend would like better.
        q.rate *= 2;
        sig = quoteSig(q);
        expectMismatch();
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
        vm.assertEq(dollar.balanceOf(wallet), 1_000_000_000);
    }

    function test_an_authorisation_of_another_is_none_of_the_renters() public {
        Quote memory q = walletQuote();
        bytes memory renterSig = authorization(STRANGER_SECRET, q, DEPOSIT);
        bytes memory sig = quoteSig(q);
        expectMismatch();
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
        // Nor does the quote's side lend itself: a stranger's quote over the renter's money is not signed by the provider.
        renterSig = authorization(WALLET_SECRET, q, DEPOSIT);
        sig = signCompact(STRANGER_SECRET, idOf(q));
        expectBadSignature(providerKey);
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
    }

    function test_an_authorisation_for_another_chain_is_refused() public {
        Quote memory q = walletQuote();
        vm.chainId(31_338);
        bytes memory elsewhere = authorization(WALLET_SECRET, q, DEPOSIT);
        vm.chainId(31_337);
        bytes memory sig = quoteSig(q);
        expectMismatch();
        escrow.openWithAuthorization(q, DEPOSIT, sig, elsewhere);
    }

    function test_an_authorisation_opens_once() public {
        Quote memory q = walletQuote();
        openWithAuthorization(q, DEPOSIT);
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = authorization(WALLET_SECRET, q, DEPOSIT);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.QuoteUsed.selector, idOf(q)));
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
        close(q, 0);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.QuoteUsed.selector, idOf(q)));
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
    }

    function test_an_authorisation_of_another_length_goes_to_the_form_that_takes_bytes() public {
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        bytes memory full = authorization(WALLET_SECRET, q, DEPOSIT);
        // The dollar knows no plain key's signature of another length, so nobody answers for it.
        bytes memory cut = new bytes(64);
        for (uint256 i; i < 64; ++i) {
            cut[i] = full[i];
        }
        expectMismatch();
        escrow.openWithAuthorization(q, DEPOSIT, sig, cut);
        expectMismatch();
        escrow.openWithAuthorization(q, DEPOSIT, sig, "");
    }

    function smartQuote() internal returns (SmartAccount account, Quote memory q) {
        account = new SmartAccount(wallet);
        dollar.mint(address(account), 1_000_000_000);
        q = quote();
        q.renter = address(account);
    }

    function test_a_smart_account_authorises_in_its_own_form() public {
        (SmartAccount account, Quote memory q) = smartQuote();
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = abi.encodePacked(bytes1(0x01), authorization(WALLET_SECRET, q, DEPOSIT));
        vm.prank(STRANGER);
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
        assertOpenedBy(q);
        close(q, 0);
        vm.assertEq(dollar.balanceOf(address(account)), 1_000_000_000);
    }

    function test_a_smart_account_that_keeps_to_65_bytes_authorises_too() public {
        (SmartAccount account, Quote memory q) = smartQuote();
        account.setWraps(false);
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = authorization(WALLET_SECRET, q, DEPOSIT);
        vm.prank(STRANGER);
        escrow.openWithAuthorization(q, DEPOSIT, sig, renterSig);
        assertOpenedBy(q);
    }

    function test_a_smart_account_opens_by_its_own_call() public {
        (SmartAccount account, Quote memory q) = smartQuote();
        vm.prank(address(account));
        dollar.approve(address(escrow), DEPOSIT);
        bytes memory data = abi.encodeCall(IRentalEscrow.open, (q, DEPOSIT, quoteSig(q)));
        vm.prank(wallet);
        account.execute(address(escrow), 0, data);
        assertOpenedBy(q);
    }

    // ------------------------------------------------------------ Permit2

    function test_anyone_brings_a_signature_for_permit2() public {
        approvePermit2(wallet);
        Quote memory q = walletQuote();
        vm.assertEq(openWithPermit2(q, DEPOSIT, 7), idOf(q));
        assertOpenedBy(q);
    }

    function test_a_signature_for_permit2_binds_the_quote_the_deposit_and_the_nonce() public {
        approvePermit2(wallet);
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = permit2Sig(WALLET_SECRET, q, DEPOSIT, 7);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT - 1, 0));
        escrow.openWithPermit2(q, DEPOSIT - 1, sig, 7, q.expiry, renterSig);
        expectMismatch();
        escrow.openWithPermit2(q, DEPOSIT, sig, 8, q.expiry, renterSig);
        expectMismatch();
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry + 1, renterSig);
        for (uint256 field; field < 3; ++field) {
            Quote memory other = walletQuote();
            if (field == 0) other.provider = STRANGER;
            else if (field == 1) other.renterKey = STRANGER;
            else other.rate *= 2;
            bytes memory otherSig = quoteSig(other);
            expectMismatch();
            escrow.openWithPermit2(other, DEPOSIT, otherSig, 7, q.expiry, renterSig);
        }
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry, renterSig);
        assertOpenedBy(q);
    }

    function test_a_signature_for_permit2_by_another_key_or_for_another_chain_opens_nothing() public {
        approvePermit2(wallet);
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = permit2Sig(STRANGER_SECRET, q, DEPOSIT, 7);
        expectMismatch();
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry, renterSig);
        vm.chainId(31_338);
        renterSig = permit2Sig(WALLET_SECRET, q, DEPOSIT, 7);
        vm.chainId(31_337);
        expectMismatch();
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry, renterSig);
    }

    function test_a_nonce_of_permit2_serves_once() public {
        approvePermit2(wallet);
        openWithPermit2(walletQuote(), DEPOSIT, 7);
        Quote memory q = walletQuote();
        q.spec = keccak256("another");
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = permit2Sig(WALLET_SECRET, q, DEPOSIT, 7);
        expectMismatch();
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry, renterSig);
    }

    function test_a_smart_account_signs_for_permit2() public {
        (SmartAccount account, Quote memory q) = smartQuote();
        approvePermit2(address(account));
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = abi.encodePacked(bytes1(0x01), sign(WALLET_SECRET, permit2Digest(q, DEPOSIT, 7, q.expiry)));
        vm.prank(STRANGER);
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry, renterSig);
        assertOpenedBy(q);
    }

    function test_where_permit2_is_not_nothing_opens() public {
        approvePermit2(wallet);
        vm.etch(PERMIT2, "");
        Quote memory q = walletQuote();
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = hex"00";
        expectMismatch();
        escrow.openWithPermit2(q, DEPOSIT, sig, 7, q.expiry, renterSig);
    }

    function test_permit2_brings_tokens_that_return_nothing_and_none_that_take_a_fee() public {
        SilentToken silent = new SilentToken();
        OddToken odd = new OddToken();
        address[2] memory tokens = [address(silent), address(odd)];
        odd.setMode(OddToken.Mode.TakesFee);
        for (uint256 i; i < 2; ++i) {
            Token(tokens[i]).mint(wallet, DEPOSIT);
            Quote memory q = walletQuote();
            q.token = tokens[i];
            bytes memory sig = quoteSig(q);
            bytes memory renterSig = permit2Sig(WALLET_SECRET, q, DEPOSIT, i);
            if (i == 1) {
                vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, DEPOSIT - DEPOSIT / 100));
            }
            escrow.openWithPermit2(q, DEPOSIT, sig, i, q.expiry, renterSig);
        }
        vm.assertEq(silent.balanceOf(address(escrow)), DEPOSIT);
    }

    // ------------------------------------------------------------ all of them

    /// Each way in, as one call.
    function callOf(uint256 way, Quote memory q, uint96 deposit, bytes memory sig) internal view returns (bytes memory) {
        if (way == 0) return abi.encodeCall(IRentalEscrow.openWithPermit, (q, deposit, sig, q.expiry, 27, "", ""));
        if (way == 1) {
            return abi.encodeCall(IRentalEscrow.openWithPermit2, (q, deposit, sig, 7, q.expiry, permit2Sig(WALLET_SECRET, q, deposit, 7)));
        }
        return abi.encodeCall(IRentalEscrow.openWithAuthorization, (q, deposit, sig, authorization(WALLET_SECRET, q, deposit)));
    }

    function refuseAll(Quote memory q, uint96 deposit, bytes memory sig, bytes memory reason) internal {
        for (uint256 way; way < 3; ++way) {
            bytes memory data = callOf(way, q, deposit, sig);
            vm.prank(wallet);
            (bool ok, bytes memory answer) = address(escrow).call(data);
            vm.assertFalse(ok);
            vm.assertEq(keccak256(answer), keccak256(reason));
        }
    }

    function test_every_way_in_checks_what_open_checks() public {
        approvePermit2(wallet);
        vm.prank(wallet);
        dollar.approve(address(escrow), type(uint256).max);
        Quote memory q = walletQuote();
        bytes memory forged = signCompact(STRANGER_SECRET, idOf(q));
        refuseAll(q, DEPOSIT, forged, abi.encodeWithSelector(IRentalEscrow.BadSignature.selector, providerKey));
        uint256 max = amountOf(q, q.maxSeconds);
        bytes memory sig = quoteSig(q);
        refuseAll(q, 999, sig, abi.encodeWithSelector(IRentalEscrow.BadDeposit.selector, 999, 1_000, max));
        q.window = 1;
        refuseAll(q, DEPOSIT, quoteSig(q), abi.encodeWithSelector(IRentalEscrow.BadTerms.selector));
        q = walletQuote();
        vm.warp(q.expiry + 1);
        refuseAll(q, DEPOSIT, sig, abi.encodeWithSelector(IRentalEscrow.QuoteExpired.selector, q.expiry));
    }

    function test_coin_cannot_be_opened_with_by_signature() public {
        // There is coin of others in the escrow, which such a rental would be paid from.
        open(quoteIn(address(0)), DEPOSIT);
        Quote memory q = quoteIn(address(0));
        q.renter = wallet;
        for (uint256 way; way < 3; ++way) {
            bytes memory sig = quoteSig(q);
            bytes memory data = way == 0
                ? abi.encodeCall(IRentalEscrow.openWithPermit, (q, DEPOSIT, sig, q.expiry, 27, "", ""))
                : way == 1
                    ? abi.encodeCall(IRentalEscrow.openWithPermit2, (q, DEPOSIT, sig, 7, q.expiry, ""))
                    : abi.encodeCall(IRentalEscrow.openWithAuthorization, (q, DEPOSIT, sig, ""));
            vm.prank(wallet);
            (bool ok, bytes memory answer) = address(escrow).call(data);
            vm.assertFalse(ok);
            vm.assertEq(keccak256(answer), keccak256(abi.encodeWithSelector(IRentalEscrow.WrongValue.selector, 0, DEPOSIT)));
        }
    }

    function test_a_token_that_gives_in_to_everything_moves_no_other_tokens_ledger() public {
        // A token that takes any signature and moves nothing opens nothing, whatever it says.
        OddToken odd = new OddToken();
        odd.setMode(OddToken.Mode.MovesNothing);
        Quote memory q = walletQuote();
        q.token = address(odd);
        bytes memory sig = quoteSig(q);
        expectMismatch();
        escrow.openWithAuthorization(q, DEPOSIT, sig, new bytes(65));
        expectMismatch();
        vm.prank(wallet);
        escrow.openWithPermit(q, DEPOSIT, sig, q.expiry, 27, "", "");
    }
}
