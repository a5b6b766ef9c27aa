// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Closing, IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest, Token} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";
import {OddReceiver, SilentToken} from "./support/Tokens.sol";

/// Closing many at once comes to the same as closing each, in fewer transfers.
contract BatchTest is EscrowTest {
    address internal constant OTHER_RENTER = 0x1111111111111111111111111111111111111104;

    SilentToken internal silent;

    function setUp() public override {
        super.setUp();
        silent = new SilentToken();
        silent.mint(RENTER, 1_000_000_000);
        dollar.mint(OTHER_RENTER, 1_000_000_000);
        vm.prank(OTHER_RENTER);
        dollar.approve(address(escrow), type(uint256).max);
    }

    function another(Quote memory q, uint256 i) internal pure returns (Quote memory) {
        q.spec = bytes32(i);
        return q;
    }

    function closing(Quote memory q, uint96 cumulative) internal view returns (Closing memory) {
        return Closing(q, cumulative, voucher(q, cumulative));
    }

    function closeAll(Closing[] memory closings) internal returns (uint256) {
        vm.prank(PROVIDER);
        return escrow.closeMany(closings);
    }

    /// Rentals of three tokens and two renters, in an order that makes payees alternate and repeat.
    function mixed(uint256 count) internal returns (Closing[] memory closings) {
        closings = new Closing[](count);
        address[3] memory tokens = [address(dollar), address(0), address(silent)];
        for (uint256 i; i < count; ++i) {
            Quote memory q = another(quoteIn(tokens[i / 2 % 3]), i);
            if (q.token == address(dollar) && i % 3 == 0) q.renter = OTHER_RENTER;
            open(q, DEPOSIT);
            closings[i] = closing(q, uint96(i * 1_000));
        }
    }

    function test_a_batch_comes_to_the_same_as_one_by_one() public {
        Closing[] memory closings = mixed(14);
        pass(1 hours);
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < closings.length; ++i) {
            vm.prank(PROVIDER);
            escrow.close(closings[i].quote, closings[i].cumulative, closings[i].voucherSig);
        }
        uint256[] memory one = balances();
        vm.revertToState(snapshot);
        vm.assertEq(closeAll(closings), 14);
        uint256[] memory all = balances();
        for (uint256 i; i < one.length; ++i) {
            vm.assertEq(one[i], all[i]);
        }
        for (uint256 i; i < closings.length; ++i) {
            assertGone(closings[i].quote);
        }
    }

    function balances() internal view returns (uint256[] memory list) {
        address[4] memory accounts = [PROVIDER, RENTER, OTHER_RENTER, address(escrow)];
        list = new uint256[](12);
        for (uint256 i; i < 4; ++i) {
            list[3 * i] = dollar.balanceOf(accounts[i]);
            list[3 * i + 1] = silent.balanceOf(accounts[i]);
            list[3 * i + 2] = accounts[i].balance;
        }
    }

    function test_every_close_of_a_batch_is_told() public {
        Closing[] memory closings = new Closing[](2);
        for (uint256 i; i < 2; ++i) {
            Quote memory q = another(quote(), i);
            open(q, DEPOSIT);
            closings[i] = closing(q, uint96(500 + i));
        }
        pass(1 hours);
        expectClosed(closings[0].quote, 500, DEPOSIT - 500, 1 hours, 1);
        expectClosed(closings[1].quote, 501, DEPOSIT - 501, 1 hours, 1);
        closeAll(closings);
        vm.assertEq(dollar.balanceOf(PROVIDER), 1_001);
    }

    function test_what_is_gone_is_skipped() public {
        Closing[] memory closings = new Closing[](4);
        for (uint256 i; i < 3; ++i) {
            Quote memory q = another(quote(), i);
            // The second was never opened.
            if (i != 1) open(q, DEPOSIT);
            closings[i] = closing(q, 500);
        }
        // The fourth is the first once more.
        closings[3] = closings[0];
        pass(1 hours);
        close(closings[2].quote, 500);
        vm.assertEq(closeAll(closings), 1);
        vm.assertEq(dollar.balanceOf(PROVIDER), 1_000);
        vm.assertEq(dollar.balanceOf(address(escrow)), 0);
    }

    function test_an_empty_batch_closes_nothing() public {
        vm.assertEq(closeAll(new Closing[](0)), 0);
    }

    function test_the_key_of_the_provider_closes_many_too() public {
        Closing[] memory closings = new Closing[](1);
        Quote memory q = openDefault();
        closings[0] = Closing(q, 0, "");
        vm.prank(providerKey);
        vm.assertEq(escrow.closeMany(closings), 1);
        assertPaid(0, DEPOSIT);
    }

    function test_nobody_closes_what_is_anothers() public {
        Closing[] memory closings = new Closing[](2);
        Quote memory q = openDefault();
        closings[0] = closing(q, 500);
        q = another(quote(), 1);
        q.provider = STRANGER;
        q.providerKey = vm.addr(STRANGER_SECRET);
        bytes memory sig = signCompact(STRANGER_SECRET, idOf(q));
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
        closings[1] = closing(q, 500);
        expect(IRentalEscrow.NotProvider.selector);
        vm.prank(PROVIDER);
        escrow.closeMany(closings);
        expect(IRentalEscrow.NotProvider.selector);
        vm.prank(STRANGER);
        escrow.closeMany(closings);
        expect(IRentalEscrow.NotProvider.selector);
        vm.prank(RENTER);
        escrow.closeMany(closings);
    }

    function test_a_bad_voucher_undoes_the_batch() public {
        Closing[] memory closings = new Closing[](2);
        for (uint256 i; i < 2; ++i) {
            Quote memory q = another(quote(), i);
            open(q, DEPOSIT);
            closings[i] = closing(q, 500);
        }
        pass(1 hours);
        closings[1].cumulative = 501;
        expectBadSignature(renterKey);
        vm.prank(PROVIDER);
        escrow.closeMany(closings);
        closings[1] = Closing(closings[1].quote, 1, "");
        expectBadSignature(renterKey);
        vm.prank(PROVIDER);
        escrow.closeMany(closings);
        assertOpen(closings[0].quote, DEPOSIT, 0, START, 0);
    }

    function test_a_payee_that_fails_blocks_no_other_of_the_batch() public {
        Closing[] memory closings = new Closing[](4);
        OddReceiver receiver = new OddReceiver(OddReceiver.Mode.BurnsAllGas);
        for (uint256 i; i < 4; ++i) {
            Quote memory q = another(quoteIn(i < 2 ? address(silent) : address(0)), i);
            if (i >= 2) {
                q.renter = address(receiver);
                vm.deal(address(receiver), 1 ether);
            }
            open(q, DEPOSIT);
            closings[i] = closing(q, 500);
        }
        pass(1 hours);
        silent.setBlocked(RENTER, true);
        vm.assertEq(closeAll(closings), 4);
        vm.assertEq(silent.balanceOf(PROVIDER), 1_000);
        vm.assertEq(PROVIDER.balance, 1_000);
        vm.assertEq(escrow.credit(address(silent), RENTER), 2 * (DEPOSIT - 500));
        vm.assertEq(escrow.credit(address(0), address(receiver)), 2 * (DEPOSIT - 500));
    }

    function test_a_batch_with_too_little_gas_pays_nobody_by_credit() public {
        Closing[] memory closings = mixed(4);
        pass(1 hours);
        bytes memory data = abi.encodeCall(IRentalEscrow.closeMany, (closings));
        uint256 refused;
        uint256 done;
        for (uint256 limit = 100_000; limit < 800_000; limit += 5_000) {
            uint256 snapshot = vm.snapshotState();
            vm.prank(PROVIDER);
            (bool ok, bytes memory answer) = address(escrow).call{gas: limit}(data);
            if (ok) ++done;
            else if (bytes4(answer) == IRentalEscrow.GasTooLow.selector) ++refused;
            vm.assertEq(escrow.credit(address(dollar), PROVIDER) + escrow.credit(address(0), PROVIDER), 0);
            vm.revertToState(snapshot);
        }
        vm.assertTrue(done > 0 && refused > 0);
    }
}
