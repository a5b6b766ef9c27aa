// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Payout} from "../../src/Payout.sol";

/// What is proven of the payout rule for all arguments there are, not for some that were tried. Two provers read this file (contracts/prove):
/// halmos runs each `check_` function with symbols for its arguments, and the compiler's own SMTChecker takes every assertion as a goal.
contract PayoutProof {
    /// Nothing overflows: this arithmetic is checked.
    function check_amount_does_not_overflow(uint96 rate, uint32 elapsed) public pure {
        assert(Payout.amount(rate, elapsed) == uint256(rate) * elapsed / 1e6);
    }

    /// The amount is the floor of rate * seconds / 1e6. For the SMTChecker alone, which reasons about integers; over bits, as halmos does,
    /// a product and a division of this width take hours.
    function amount_is_the_floor(uint96 rate, uint32 elapsed) public pure {
        uint256 amount = Payout.amount(rate, elapsed);
        uint256 exact = uint256(rate) * elapsed;
        assert(amount * 1e6 <= exact);
        assert(exact < (amount + 1) * 1e6);
    }

    function check_end_is_the_stop_or_now_within_the_term(uint32 start, uint32 stopAt, uint32 maxSeconds, uint256 timestamp) public pure {
        uint256 end = Payout.end(start, stopAt, maxSeconds, timestamp);
        uint256 term = uint256(start) + maxSeconds;
        uint256 until = stopAt != 0 ? stopAt : timestamp;
        assert(end == (until < term ? until : term));
    }

    /// Given that neither the present nor a stop lies before the opening: the meter counts from 0 to maxSeconds, so that the escrow's
    /// unchecked `end - start` is right and fits 32 bits.
    function check_the_meter_counts_within_the_term(uint32 start, uint32 stopAt, uint32 maxSeconds, uint256 timestamp) public pure {
        if (timestamp < start || (stopAt != 0 && stopAt < start)) return;
        uint256 end = Payout.end(start, stopAt, maxSeconds, timestamp);
        assert(end >= start);
        assert(end - start <= maxSeconds);
    }

    function check_the_meter_only_runs_forward(uint32 start, uint32 stopAt, uint32 maxSeconds, uint256 timestamp, uint256 later)
        public
        pure
    {
        if (later < timestamp) return;
        uint256 end = Payout.end(start, stopAt, maxSeconds, timestamp);
        assert(end <= Payout.end(start, stopAt, maxSeconds, later));
        if (stopAt != 0) assert(end == Payout.end(start, stopAt, maxSeconds, later));
    }

    function check_due_is_the_formula(uint96 cumulative, uint256 metered, uint96 deposit, uint96 claimed) public pure {
        uint256 least = cumulative;
        if (metered < least) least = metered;
        if (deposit < least) least = deposit;
        assert(Payout.due(cumulative, metered, deposit, claimed) == (claimed > least ? claimed : least));
    }

    /// The one assumption of the escrow's unchecked subtractions, `due - claimed` and `deposit - due`; with them the split is exact.
    function check_due_splits_the_deposit(uint96 cumulative, uint256 metered, uint96 deposit, uint96 claimed) public pure {
        if (claimed > deposit) return;
        uint96 due = Payout.due(cumulative, metered, deposit, claimed);
        assert(claimed <= due);
        assert(due <= deposit);
        assert(uint256(due - claimed) + (deposit - due) == deposit - claimed);
    }

    /// Nobody is paid beyond the word of the renter, nor beyond the meter, unless it was claimed already.
    function check_due_keeps_to_the_word_and_the_meter(uint96 cumulative, uint256 metered, uint96 deposit, uint96 claimed) public pure {
        uint96 due = Payout.due(cumulative, metered, deposit, claimed);
        assert(due <= cumulative || due == claimed);
        assert(due <= metered || due == claimed);
    }
}

/// For halmos alone: two calls at once are too much for the other, which has proven the formula that this follows from.
contract PayoutOrderProof {
    function check_a_better_word_never_pays_less(uint96 cumulative, uint96 better, uint256 metered, uint96 deposit, uint96 claimed)
        public
        pure
    {
        if (better < cumulative) return;
        assert(Payout.due(cumulative, metered, deposit, claimed) <= Payout.due(better, metered, deposit, claimed));
    }

    function check_a_later_second_never_pays_less(uint96 cumulative, uint256 metered, uint256 later, uint96 deposit, uint96 claimed)
        public
        pure
    {
        if (later < metered) return;
        assert(Payout.due(cumulative, metered, deposit, claimed) <= Payout.due(cumulative, later, deposit, claimed));
    }
}
