// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";
import {Vault} from "./support/Vault.sol";

/// Shares of a vault are tokens like any other: their number stands still while they are locked, and what they earn is their owner's.
contract SharesTest is EscrowTest {
    function test_shares_keep_earning_while_they_are_locked() public {
        Vault vault = new Vault(address(dollar));
        vm.prank(RENTER);
        dollar.approve(address(vault), type(uint256).max);
        vm.prank(RENTER);
        uint256 shares = vault.deposit(DEPOSIT, RENTER);
        vm.prank(RENTER);
        vault.approve(address(escrow), shares);

        Quote memory q = quoteIn(address(vault));
        open(q, DEPOSIT);
        vm.assertEq(vault.balanceOf(address(escrow)), DEPOSIT);
        pass(1 hours);
        // A tenth of interest.
        dollar.mint(address(vault), DEPOSIT / 10);
        close(q, DEPOSIT / 2);
        vm.assertEq(vault.balanceOf(PROVIDER), DEPOSIT / 2);
        vm.assertEq(vault.balanceOf(RENTER), DEPOSIT / 2);
        vm.assertEq(vault.balanceOf(address(escrow)), 0);
        uint256 before = dollar.balanceOf(RENTER);
        vm.prank(RENTER);
        vault.redeem(DEPOSIT / 2, RENTER, RENTER);
        vm.assertEq(dollar.balanceOf(RENTER) - before, DEPOSIT / 2 + DEPOSIT / 20);
    }
}
