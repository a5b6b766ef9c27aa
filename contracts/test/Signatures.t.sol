// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// Which signatures are taken, and what each of them binds.
contract SignaturesTest is EscrowTest {
    function tryOpen(Quote memory q, bytes memory sig) internal {
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }

    function test_both_forms_of_a_signature_are_taken() public {
        Quote memory q = quote();
        tryOpen(q, sign(PROVIDER_SECRET, idOf(q)));
        q.spec = keccak256("another");
        tryOpen(q, signCompact(PROVIDER_SECRET, idOf(q)));
        pass(1 hours);
        bytes memory sig = sign(RENTER_SECRET, voucherDigest(q, 500));
        escrow.claim(q, 500, sig);
        sig = signCompact(RENTER_SECRET, voucherDigest(q, 600));
        escrow.claim(q, 600, sig);
        assertOpen(q, DEPOSIT, 600, START, 0);
    }

    function testFuzz_both_forms_are_taken_from_every_key(uint256 secret, uint256 salt, bool compact) public {
        secret = bound(secret, 1, ORDER - 1);
        Quote memory q = quote();
        q.providerKey = vm.addr(secret);
        q.spec = bytes32(salt);
        tryOpen(q, compact ? signCompact(secret, idOf(q)) : sign(secret, idOf(q)));
        assertOpen(q, DEPOSIT, 0, START, 0);
    }

    function test_the_high_twin_of_a_signature_is_refused() public {
        Quote memory q = quote();
        bytes memory sig = signHigh(PROVIDER_SECRET, idOf(q));
        // The twin is a valid signature of that key as far as the curve is concerned.
        vm.assertEq(ecrecover(idOf(q), uint8(sig[64]), word(sig, 0), word(sig, 32)), providerKey);
        expectBadSignature(providerKey);
        tryOpen(q, sig);
    }

    function test_the_high_twin_of_a_compact_signature_is_refused() public {
        // A compact s has 255 bits, and half the order a little less: find a twin that fits.
        Quote memory q = quote();
        bytes32 digest = idOf(q);
        (uint8 v, bytes32 r,) = vm.sign(PROVIDER_SECRET, digest);
        uint256 s = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A1;
        // Nothing signs to this s; any s above half the order must fall to the range check before recovery. Name what it recovers to.
        q.providerKey = ecrecover(digest, v, r, bytes32(s));
        vm.assertTrue(q.providerKey != address(0));
        expectBadSignature(q.providerKey);
        tryOpen(q, abi.encodePacked(r, bytes32(s | uint256(v - 27) << 255)));
    }

    function word(bytes memory data, uint256 offset) internal pure returns (bytes32 w) {
        assembly ("memory-safe") {
            w := mload(add(add(data, 0x20), offset))
        }
    }

    function test_signatures_of_any_other_length_are_refused() public {
        Quote memory q = quote();
        bytes memory sig = sign(PROVIDER_SECRET, idOf(q));
        uint8[5] memory lengths = [0, 1, 63, 66, 96];
        for (uint256 i; i < lengths.length; ++i) {
            bytes memory odd = new bytes(lengths[i]);
            for (uint256 j; j < odd.length && j < 65; ++j) {
                odd[j] = sig[j];
            }
            expectBadSignature(providerKey);
            tryOpen(q, odd);
        }
    }

    function test_the_recovery_byte_is_27_or_28() public {
        Quote memory q = quote();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PROVIDER_SECRET, idOf(q));
        expectBadSignature(providerKey);
        tryOpen(q, abi.encodePacked(r, s, v - 27));
        expectBadSignature(providerKey);
        tryOpen(q, abi.encodePacked(r, s, v + 8));
    }

    function test_a_quote_of_the_zero_key_is_refused() public {
        Quote memory q = quote();
        q.providerKey = address(0);
        // Recovery of nonsense gives the zero address, which must not count as having signed.
        expectBadSignature(address(0));
        tryOpen(q, abi.encodePacked(bytes32(0), bytes32(0), uint8(27)));
    }

    function test_the_quote_must_be_signed_by_the_provider_key() public {
        Quote memory q = quote();
        bytes memory sig = signCompact(STRANGER_SECRET, idOf(q));
        expectBadSignature(providerKey);
        tryOpen(q, sig);
    }

    function test_every_field_of_a_quote_is_signed() public {
        for (uint256 field; field < 13; ++field) {
            Quote memory q = quote();
            bytes memory sig = quoteSig(q);
            if (field == 0) q.provider = address(7);
            else if (field == 1) q.providerKey = address(7);
            else if (field == 2) q.renter = STRANGER;
            else if (field == 3) q.renterKey = address(7);
            else if (field == 4) q.token = address(7);
            else if (field == 5) q.rate += 1;
            else if (field == 6) q.minDeposit -= 1;
            else if (field == 7) q.maxSeconds += 1;
            else if (field == 8) q.window += 1;
            else if (field == 9) q.expiry += 1;
            else if (field == 10) q.arbiter = address(7);
            else if (field == 11) q.device = bytes32(uint256(7));
            else q.spec = bytes32(uint256(7));
            expectBadSignature(q.providerKey);
            vm.prank(q.renter);
            escrow.open(q, DEPOSIT, sig);
        }
    }

    function test_a_signature_for_another_chain_or_another_escrow_is_refused() public {
        Quote memory q = quote();
        bytes memory sig = quoteSig(q);
        vm.chainId(31_338);
        expectBadSignature(providerKey);
        tryOpen(q, sig);
        vm.chainId(31_337);
        IRentalEscrow other = IRentalEscrow(vm.deployCode("RentalEscrow.sol:RentalEscrow"));
        expectBadSignature(providerKey);
        vm.prank(RENTER);
        other.open(q, DEPOSIT, sig);
        tryOpen(q, sig);
    }

    function test_a_message_of_one_kind_is_none_of_another() public {
        Quote memory q = openDefault();
        pass(1 hours);
        bytes memory asVoucher = voucher(q, 500);
        bytes memory asRelease = signCompact(RENTER_SECRET, releaseDigest(q, 500));
        bytes memory asStop = stopSig(q, 500);
        expectBadSignature(renterKey);
        escrow.claim(q, 500, asRelease);
        expectBadSignature(renterKey);
        escrow.claim(q, 500, asStop);
        expectBadSignature(renterKey);
        escrow.stop(q, 500, asVoucher);
        asVoucher = signCompact(PROVIDER_SECRET, voucherDigest(q, 500));
        expectBadSignature(providerKey);
        vm.prank(RENTER);
        escrow.release(q, 500, asVoucher, "");
    }

    function test_a_voucher_counts_for_its_total_and_its_rental_only() public {
        Quote memory q = openDefault();
        Quote memory other = quote();
        other.spec = keccak256("another");
        open(other, DEPOSIT);
        pass(1 hours);
        bytes memory sig = voucher(q, 500);
        expectBadSignature(renterKey);
        escrow.claim(q, 501, sig);
        expectBadSignature(renterKey);
        escrow.claim(other, 500, sig);
    }

    function test_code_at_the_session_key_changes_nothing() public {
        Quote memory q = openDefault();
        pass(1 hours);
        // An account that denies every ERC-1271 question, as a delegated key could from one block to the next.
        vm.etch(renterKey, hex"60006000fd");
        bytes memory sig = voucher(q, 500);
        escrow.claim(q, 500, sig);
        assertOpen(q, DEPOSIT, 500, START, 0);
    }

    function test_code_at_the_provider_key_changes_nothing() public {
        vm.etch(providerKey, hex"60006000fd");
        Quote memory q = openDefault();
        bytes memory sig = releaseSig(q, 0);
        vm.prank(RENTER);
        escrow.release(q, 0, sig, "");
        assertPaid(0, DEPOSIT);
    }
}
