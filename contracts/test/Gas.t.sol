// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// What a whole rental costs in steady state: all balances were used before, the allowance is in place, and the close comes after the
/// quote's expiry, as it does for every rental of more than two minutes. Run with `isolate`, so that each call is a transaction of its own
/// with all that one pays.
///
/// forge-config: default.isolate = true
contract GasTest is EscrowTest {
    uint256 internal constant TOKEN_CYCLE = 140_500;
    uint256 internal constant COIN_CYCLE = 114_000;

    event Used(uint256 open, uint256 close);

    function setUp() public override {
        super.setUp();
        dollar.mint(PROVIDER, 1);
        dollar.mint(address(escrow), 1);
        vm.deal(PROVIDER, 1);
        vm.deal(address(escrow), 1);
    }

    function test_a_whole_token_rental_stays_within_its_gas() public {
        vm.assertLe(cycle(quote(), 3_600_000), TOKEN_CYCLE);
    }

    function test_a_whole_coin_rental_stays_within_its_gas() public {
        vm.assertLe(cycle(quoteIn(address(0)), 3_600_000), COIN_CYCLE);
    }

    function cycle(Quote memory q, uint96 deposit) internal returns (uint256) {
        open(q, deposit);
        uint256 opening = vm.lastCallGas().gasTotalUsed;
        pass(1 hours);
        close(q, 1_800_000);
        uint256 closing = vm.lastCallGas().gasTotalUsed;
        emit Used(opening, closing);
        return opening + closing;
    }
}
