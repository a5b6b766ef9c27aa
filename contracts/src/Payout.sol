// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// Who is owed what: the whole payout rule of the escrow, and nothing else. Pure functions on unpacked arguments, without storage,
/// calls or time of their own, so that a prover can take them as they stand.
library Payout {
    /// Rates are in millionths of a base unit per second, so that a token of 6 decimals can be priced below one unit per second.
    uint256 internal constant RATE_SCALE = 1e6;

    /// What `elapsed` seconds cost at `rate`, rounded down once.
    function amount(uint96 rate, uint32 elapsed) internal pure returns (uint256) {
        unchecked {
            // 96 + 32 bits: cannot overflow.
            return uint256(rate) * elapsed / RATE_SCALE;
        }
    }

    /// The second at which the meter stands still: the stop if there was one, else now, and never past the term.
    function end(uint32 start, uint32 stopAt, uint32 maxSeconds, uint256 timestamp) internal pure returns (uint256) {
        unchecked {
            uint256 term = uint256(start) + maxSeconds;
            uint256 until = stopAt != 0 ? stopAt : timestamp;
            return until < term ? until : term;
        }
    }

    /// What the provider is owed in all: the voucher, capped by the time that passed and by the deposit, but never less than what was
    /// already claimed. With claimed <= deposit the result lies between the two, so a refund of deposit - due cannot underflow.
    function due(uint96 cumulative, uint256 metered, uint96 deposit, uint96 claimed) internal pure returns (uint96 owed) {
        owed = cumulative;
        // What is below a uint96 is one.
        if (metered < owed) owed = uint96(metered);
        if (deposit < owed) owed = deposit;
        if (owed < claimed) owed = claimed;
    }
}
