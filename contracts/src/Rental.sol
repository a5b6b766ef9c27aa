// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// All that is remembered of a rental, in one word of storage, lowest bits first:
///
///     deposit 96 | claimed 96 | start 32 | stopAt 32
///
/// Its terms come back as calldata and are proven by their digest, the id. `start` is 0 for a rental that never was, was cleared, or is the
/// tombstone of one that closed while its quote could still be opened. One word handled as one word costs one load and one store.
type Rental is uint256;

using {deposit, claimed, start, stopAt, isOpen, isUnused, withClaimed, withDeposit, withStopAt} for Rental global;

// What a close leaves behind while the quote could still be opened: no start, and yet not nothing.
Rental constant TOMBSTONE = Rental.wrap(1 << 224);
Rental constant NOTHING = Rental.wrap(0);

function opened(uint96 deposit_, uint256 timestamp) pure returns (Rental) {
    // Quotes expire within 32 bits of time, so an opening lies there too.
    return Rental.wrap(deposit_ | uint256(uint32(timestamp)) << 192);
}

function deposit(Rental rental) pure returns (uint96) {
    return uint96(Rental.unwrap(rental));
}

function claimed(Rental rental) pure returns (uint96) {
    return uint96(Rental.unwrap(rental) >> 96);
}

function start(Rental rental) pure returns (uint32) {
    return uint32(Rental.unwrap(rental) >> 192);
}

function stopAt(Rental rental) pure returns (uint32) {
    return uint32(Rental.unwrap(rental) >> 224);
}

function isOpen(Rental rental) pure returns (bool) {
    return rental.start() != 0;
}

/// Whether a quote with nothing but this behind it may still be opened.
function isUnused(Rental rental) pure returns (bool) {
    return Rental.unwrap(rental) == 0;
}

function withDeposit(Rental rental, uint96 value) pure returns (Rental) {
    return Rental.wrap(Rental.unwrap(rental) & ~uint256(type(uint96).max) | value);
}

function withClaimed(Rental rental, uint96 value) pure returns (Rental) {
    return Rental.wrap(Rental.unwrap(rental) & ~(uint256(type(uint96).max) << 96) | uint256(value) << 96);
}

/// Once only: the field is still 0.
function withStopAt(Rental rental, uint32 value) pure returns (Rental) {
    return Rental.wrap(Rental.unwrap(rental) | uint256(value) << 224);
}
