// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {FundingTest} from "./support/FundingTest.sol";
import {vm, Vm} from "./support/Test.sol";

/// Money never sticks: whoever reads the chain can end a rental that everyone else forgot.
contract RecoveryTest is FundingTest {
    /// The quote as a stranger finds it, in nothing but the log.
    function rebuilt() internal returns (bytes32 id, Quote memory q) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != address(escrow) || logs[i].topics[0] != IRentalEscrow.Opened.selector) continue;
            id = logs[i].topics[1];
            // provider | providerKey | renter | renterKey .. spec; the deposit comes last and is no part of it.
            bytes memory data = logs[i].data;
            q = abi.decode(bytes.concat(logs[i].topics[2], slice(data, 0, 32), logs[i].topics[3], slice(data, 32, 11 * 32)), (Quote));
        }
    }

    function slice(bytes memory data, uint256 from, uint256 to) internal pure returns (bytes memory part) {
        part = new bytes(to - from);
        for (uint256 i; i < part.length; ++i) {
            part[i] = data[from + i];
        }
    }

    function test_a_stranger_finalizes_from_the_log_alone() public {
        for (uint256 way; way < 4; ++way) {
            Quote memory q = way == 0 ? quote() : walletQuote();
            (q.arbiter, q.spec) = (address(0xA4B1), bytes32(way));
            approvePermit2(wallet);
            vm.recordLogs();
            if (way == 0) open(q, DEPOSIT);
            else if (way == 1) openWithPermit(q, DEPOSIT);
            else if (way == 2) openWithAuthorization(q, DEPOSIT);
            else openWithPermit2(q, DEPOSIT, way);
            uint256 before = dollar.balanceOf(q.renter);
            (bytes32 id, Quote memory found) = rebuilt();
            vm.assertEq(keccak256(abi.encode(found)), keccak256(abi.encode(q)));
            vm.assertEq(id, escrow.idOf(found));
            pass(uint256(found.maxSeconds) + found.window);
            vm.prank(STRANGER);
            escrow.finalize(found);
            vm.assertEq(dollar.balanceOf(q.renter), before + DEPOSIT);
        }
    }

    function testFuzz_the_log_holds_any_quote(Quote memory q, uint96 deposit) public {
        q.providerKey = providerKey;
        q.renter = RENTER;
        q.token = address(0);
        q.rate = uint96(bound(q.rate, 1e6, type(uint96).max));
        q.maxSeconds = uint32(bound(q.maxSeconds, 1, 366 days));
        q.window = uint32(bound(q.window, 900, 604_800));
        q.expiry = uint32(bound(q.expiry, START, type(uint32).max));
        if (q.provider == address(0) || q.provider == address(escrow)) q.provider = PROVIDER;
        uint256 max = amountOf(q, q.maxSeconds);
        deposit = uint96(bound(deposit, 1, max < type(uint96).max ? max : type(uint96).max));
        if (q.minDeposit > deposit) q.minDeposit = deposit;
        vm.deal(RENTER, deposit);
        vm.recordLogs();
        open(q, deposit);
        (bytes32 id, Quote memory found) = rebuilt();
        vm.assertEq(keccak256(abi.encode(found)), keccak256(abi.encode(q)));
        vm.assertEq(id, idOf(q));
    }

    /// A word that is wider than its type would be another quote with the same meaning, so none is taken.
    function test_no_field_of_a_quote_is_wider_than_its_type() public {
        Quote memory q = quoteIn(address(0));
        bytes memory sig = quoteSig(q);
        bytes memory data = abi.encodeCall(IRentalEscrow.open, (q, DEPOSIT, sig));
        uint256 refused;
        // All but the last two fields are narrower than a word.
        for (uint256 field; field < 11; ++field) {
            bytes memory wide = bytes.concat(data);
            uint256 secret = PROVIDER_SECRET;
            bytes32 id;
            assembly ("memory-safe") {
                let word := add(add(wide, 0x24), mul(field, 0x20))
                mstore(word, or(mload(word), shl(255, 1)))
            }
            // Signed as it stands, so that the signature is not what stops it.
            bytes memory struct_ = new bytes(13 * 32);
            for (uint256 i; i < struct_.length; ++i) {
                struct_[i] = wide[4 + i];
            }
            id = typed(keccak256(abi.encodePacked(keccak256(bytes(QUOTE_TYPE)), struct_)));
            bytes memory resigned = signCompact(secret, id);
            for (uint256 i; i < 64; ++i) {
                wide[4 + 16 * 32 + i] = resigned[i];
            }
            vm.prank(RENTER);
            (bool ok, bytes memory answer) = address(escrow).call{value: DEPOSIT}(wide);
            if (!ok && answer.length == 0) ++refused;
        }
        vm.assertEq(refused, 11);
        // The same bytes without the extra bit are taken.
        vm.prank(RENTER);
        (bool taken,) = address(escrow).call{value: DEPOSIT}(data);
        vm.assertTrue(taken);
    }
}
