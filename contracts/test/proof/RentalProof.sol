// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Rental, opened} from "../../src/Rental.sol";

/// That a rental packed into one word comes out as it went in. For halmos alone, which reasons about bits.
contract RentalProof {
    function check_an_opening_is_remembered(uint96 deposit, uint32 timestamp) public pure {
        Rental rental = opened(deposit, timestamp);
        assert(rental.deposit() == deposit && rental.claimed() == 0);
        assert(rental.start() == timestamp && rental.stopAt() == 0);
        assert(rental.isOpen() == (timestamp != 0));
    }

    function check_a_change_changes_nothing_else(uint256 word, uint96 value, uint32 stopAt) public pure {
        Rental rental = Rental.wrap(word);
        Rental raised = rental.withDeposit(value);
        assert(raised.deposit() == value && raised.claimed() == rental.claimed());
        assert(raised.start() == rental.start() && raised.stopAt() == rental.stopAt());
        Rental claimed = rental.withClaimed(value);
        assert(claimed.claimed() == value && claimed.deposit() == rental.deposit());
        assert(claimed.start() == rental.start() && claimed.stopAt() == rental.stopAt());
        if (rental.stopAt() != 0) return;
        Rental stopped = rental.withStopAt(stopAt);
        assert(stopped.stopAt() == stopAt && stopped.start() == rental.start());
        assert(stopped.deposit() == rental.deposit() && stopped.claimed() == rental.claimed());
    }
}
