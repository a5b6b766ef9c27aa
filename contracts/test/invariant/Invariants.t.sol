// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow} from "../../src/IRentalEscrow.sol";
import {Test, vm} from "../support/Test.sol";
import {Handler} from "./Handler.sol";

/// What holds after every call that anyone makes, in any order. The first of them is the one that escrows lost money over.
contract InvariantsTest is Test {
    Handler internal handler;
    IRentalEscrow internal escrow;

    function setUp() public {
        handler = new Handler();
        escrow = handler.contracts();
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory list) {
        list = new FuzzSelector[](1);
        list[0] = FuzzSelector(address(handler), handler.selectors());
    }

    /// Number one: the balance of each token is the sum of what is locked and what is credited.
    function invariant_the_balance_is_the_sum_of_the_ledgers() public view {
        for (uint256 j; j < 3; ++j) {
            address token = handler.tokens(j);
            uint256 ledgers = handler.donated(token);
            for (uint256 i; i < handler.length(); ++i) {
                if (handler.rentalAt(i).quote.token != token) continue;
                (uint96 deposit, uint96 claimed,,) = escrow.rentalOf(handler.idAt(i));
                ledgers += deposit - claimed;
            }
            for (uint256 i; i < 4; ++i) {
                ledgers += escrow.credit(token, handler.accountAt(i));
            }
            vm.assertEq(handler.balance(token, address(escrow)), ledgers);
        }
    }

    /// The escrow remembers of each rental exactly what happened to it: start and stop are set once, claims only grow, within the deposit,
    /// the split is of the whole deposit, and nobody is paid beyond the best word of the renter or beyond the seconds that passed.
    function invariant_every_rental_is_as_its_history_says() public view {
        for (uint256 i; i < handler.length(); ++i) {
            Handler.Rental memory rental = handler.rentalAt(i);
            (uint96 deposit, uint96 claimed, uint32 start, uint32 stopAt) = escrow.rentalOf(handler.idAt(i));
            if (rental.state == Handler.State.Open) {
                vm.assertEq(deposit, rental.deposit, "deposit");
                vm.assertEq(claimed, rental.paid, "claimed");
                vm.assertLe(claimed, deposit, "claimed <= deposit");
                vm.assertEq(start, rental.start, "start");
                vm.assertEq(stopAt, rental.stopAt, "stopAt");
                vm.assertEq(rental.refunded, 0, "nothing goes back before the close");
            } else {
                vm.assertEq(uint256(deposit) + claimed + start + stopAt, 0, "closed or never opened");
                vm.assertEq(rental.paid + rental.refunded, rental.deposit, "paid + refunded == deposit");
            }
            vm.assertLe(rental.paid, rental.signed, "paid <= signed");
            if (rental.paid != 0) vm.assertLe(rental.paid, handler.meteredOf(i), "paid <= metered");
        }
    }

    /// After each run everyone has left. Whatever state they left, strangers can end every rental once its time is up, and every credit can
    /// be withdrawn; then the escrow is empty.
    function afterInvariant() public {
        handler.clearUp();
    }
}
