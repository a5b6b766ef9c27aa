// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Closing, Quote} from "./IRentalEscrow.sol";
import {IERC20Permit, Money} from "./Money.sol";
import {Payout} from "./Payout.sol";
import {Purse} from "./Purse.sol";
import {NOTHING, Rental, TOMBSTONE, opened} from "./Rental.sol";
import {Signed} from "./Signed.sol";

/// Holds a renter's deposit for as long as a rental runs and splits it once, by vouchers that the renter signed. One immutable contract for
/// everyone: no owner, no fee, no upgrade, no pause; nothing in the code depends on the chain, so its hash is the same everywhere.
///
/// The rule that all of it keeps, for each token and for the chain's own coin:
///
///     balance of the escrow == sum(deposit - claimed) over open rentals + sum of credits     (donations aside)
///
/// Every state-changing call follows one order, a batch for each of its rentals: check, write, emit, and only then move money, under a lock
/// that spans all calls.
contract RentalEscrow is Purse {
    uint256 private constant MAX_TERM = 366 days;
    uint256 private constant MIN_WINDOW = 15 minutes;
    uint256 private constant MAX_WINDOW = 7 days;

    uint8 private constant CLOSED_BY_PROVIDER = 1;
    uint8 private constant RELEASED = 2;
    uint8 private constant FINALIZED_AFTER_STOP = 3;
    uint8 private constant FINALIZED_AFTER_TERM = 4;
    uint8 private constant RULED = 5;

    mapping(bytes32 id => Rental) private rentals;

    // ---------------------------------------------------------------- opening

    function open(Quote calldata q, uint96 deposit, bytes calldata providerSig) external payable lock returns (bytes32 id) {
        if (msg.sender != q.renter) revert NotRenter();
        id = _open(q, deposit, providerSig);
        if (q.token == address(0)) {
            if (msg.value != deposit) revert WrongValue(msg.value, deposit);
        } else {
            if (msg.value != 0) revert WrongValue(msg.value, 0);
            Money.pull(q.token, deposit);
        }
    }

    function openWithPermit(Quote calldata q, uint96 deposit, bytes calldata providerSig, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        lock
        returns (bytes32 id)
    {
        // A permit says nothing of the terms, so only the renter's own call does.
        if (msg.sender != q.renter) revert NotRenter();
        id = _openInTokens(q, deposit, providerSig);
        // Anyone may have brought the permit before us; the allowance decides.
        Money.attempt(q.token, abi.encodeCall(IERC20Permit.permit, (msg.sender, address(this), deposit, deadline, v, r, s)));
        Money.pull(q.token, deposit);
    }

    function openWithPermit2(
        Quote calldata q,
        uint96 deposit,
        bytes calldata providerSig,
        uint256 nonce,
        uint256 deadline,
        bytes calldata renterSig
    ) external lock returns (bytes32 id) {
        id = _openInTokens(q, deposit, providerSig);
        Money.pullByPermit2(q, deposit, nonce, deadline, renterSig);
    }

    function openWithAuthorization(Quote calldata q, uint96 deposit, bytes calldata providerSig, bytes calldata renterSig)
        external
        lock
        returns (bytes32 id)
    {
        id = _openInTokens(q, deposit, providerSig);
        unchecked {
            // The expiry has 32 bits.
            Money.pullByAuthorization(q.token, q.renter, deposit, uint256(q.expiry) + 1, id, renterSig);
        }
    }

    // ---------------------------------------------------------------- while it runs

    function topUp(Quote calldata q, uint96 amount) external payable lock {
        uint256 excess;
        (bytes32 id, Rental rental) = _load(Signed.domain(), q);
        uint256 room = _room(q, rental);
        uint96 added = amount < room ? amount : uint96(room);
        _raise(id, rental, added, room);
        if (q.token == address(0)) {
            if (msg.value != amount) revert WrongValue(msg.value, amount);
            unchecked {
                excess = amount - added;
            }
            // The caller's own gas and the caller's own money: no cap, and a failure undoes it all.
            if (excess != 0 && !Money.pushCoin(msg.sender, excess, gasleft())) revert TransferMismatch(excess, 0);
        } else {
            if (msg.value != 0) revert WrongValue(msg.value, 0);
            Money.pull(q.token, added);
        }
    }

    function topUpWithAuthorization(Quote calldata q, uint96 amount, bytes32 salt, uint256 validBefore, bytes calldata renterSig)
        external
        lock
    {
        if (q.token == address(0)) revert WrongValue(0, amount);
        (bytes32 id, Rental rental) = _load(Signed.domain(), q);
        _raise(id, rental, amount, _room(q, rental));
        Money.pullByAuthorization(q.token, q.renter, amount, validBefore, keccak256(abi.encode(id, salt)), renterSig);
    }

    function claim(Quote calldata q, uint96 cumulative, bytes calldata voucherSig) external lock {
        bytes32 domain = Signed.domain();
        (bytes32 id, Rental rental) = _load(domain, q);
        _verify(domain, Signed.VOUCHER_TYPEHASH, id, cumulative, voucherSig, q.renterKey);
        (uint96 owed,) = _due(q, rental, cumulative);
        if (owed <= rental.claimed()) revert NothingToClaim(rental.claimed());

        rentals[id] = rental.withClaimed(owed);
        emit Claimed(id, owed);
        unchecked {
            _pay(q.token, q.provider, owed - rental.claimed());
        }
    }

    // ---------------------------------------------------------------- ends at any time: the provider's, and both sides'

    function close(Quote calldata q, uint96 cumulative, bytes calldata voucherSig) external lock {
        bytes32 domain = Signed.domain();
        if (msg.sender != q.provider && msg.sender != q.providerKey) revert NotProvider();
        (bytes32 id, Rental rental) = _load(domain, q);
        _verifyClosing(domain, id, cumulative, voucherSig, q.renterKey);
        (uint96 owed, uint256 elapsed) = _due(q, rental, cumulative);
        _settle(q, id, rental, owed, elapsed, CLOSED_BY_PROVIDER);
    }

    function closeMany(Closing[] calldata closings) external lock returns (uint256 closed) {
        bytes32 domain = Signed.domain();
        Leg memory toProvider;
        Leg memory toRenter;
        for (uint256 i; i < closings.length; ++i) {
            Closing calldata closing = closings[i];
            Quote calldata q = closing.quote;
            if (msg.sender != q.provider && msg.sender != q.providerKey) revert NotProvider();
            bytes32 id = Signed.digest(domain, Signed.hash(q));
            Rental rental = rentals[id];
            if (!rental.isOpen()) continue;

            _verifyClosing(domain, id, closing.cumulative, closing.voucherSig, q.renterKey);
            (uint96 owed, uint256 elapsed) = _due(q, rental, closing.cumulative);
            (uint256 earned, uint256 refund) = _end(q, id, rental, owed, elapsed, CLOSED_BY_PROVIDER);
            _gather(toProvider, q.token, q.provider, earned);
            _gather(toRenter, q.token, q.renter, refund);
            unchecked {
                ++closed;
            }
        }
        _pay(toProvider.token, toProvider.to, toProvider.amount);
        _pay(toRenter.token, toRenter.to, toRenter.amount);
    }

    function release(Quote calldata q, uint96 cumulative, bytes calldata releaseSig, bytes calldata voucherSig) external lock {
        bytes32 domain = Signed.domain();
        (bytes32 id, Rental rental) = _load(domain, q);
        _verify(domain, Signed.RELEASE_TYPEHASH, id, cumulative, releaseSig, q.providerKey);
        if (msg.sender != q.renter && msg.sender != q.renterKey) {
            // A stranger needs the renter's word for the same total.
            if (voucherSig.length == 0) revert NotRenter();
            _verify(domain, Signed.VOUCHER_TYPEHASH, id, cumulative, voucherSig, q.renterKey);
        }
        (uint96 owed, uint256 elapsed) = _due(q, rental, cumulative);
        _settle(q, id, rental, owed, elapsed, RELEASED);
    }

    // ---------------------------------------------------------------- the end that needs nobody's consent

    function stop(Quote calldata q, uint32 reason, bytes calldata stopSig) external lock {
        bytes32 domain = Signed.domain();
        (bytes32 id, Rental rental) = _load(domain, q);
        if (stopSig.length != 0) {
            _verify(domain, Signed.STOP_TYPEHASH, id, reason, stopSig, q.renterKey);
        } else if (msg.sender != q.renter && msg.sender != q.renterKey) {
            revert NotRenter();
        }
        if (rental.stopAt() != 0) revert AlreadyStopped(rental.stopAt());

        // A rental opened before 2106 may outlive the last second that 32 bits can name: it then stops at that second.
        uint32 stopAt = block.timestamp < type(uint32).max ? uint32(block.timestamp) : type(uint32).max;
        rentals[id] = rental.withStopAt(stopAt);
        emit Stopping(id, stopAt, reason);
    }

    function rule(Quote calldata q, uint96 cumulative) external lock {
        if (msg.sender != q.arbiter) revert NotArbiter();
        (bytes32 id, Rental rental) = _load(Signed.domain(), q);
        unchecked {
            // Half of the window belongs to the vouchers. Where nobody stopped there is nothing to rule on.
            uint256 from = rental.stopAt() != 0 ? uint256(rental.stopAt()) + q.window / 2 : type(uint256).max;
            if (block.timestamp < from) revert TooEarly(from);
        }
        (uint96 owed, uint256 elapsed) = _due(q, rental, cumulative);
        _settle(q, id, rental, owed, elapsed, RULED);
    }

    function finalize(Quote calldata q) external lock {
        (bytes32 id, Rental rental) = _load(Signed.domain(), q);
        // Without a stop the meter's end is not settled before the term is, so the term is taken as the present.
        uint256 until = Payout.end(rental.start(), rental.stopAt(), q.maxSeconds, type(uint256).max);
        unchecked {
            uint256 elapsed = until - rental.start();
            until += q.window;
            if (block.timestamp < until) revert TooEarly(until);
            _settle(q, id, rental, rental.claimed(), elapsed, rental.stopAt() != 0 ? FINALIZED_AFTER_STOP : FINALIZED_AFTER_TERM);
        }
    }

    // ---------------------------------------------------------------- questions

    function idOf(Quote calldata q) external view returns (bytes32 id) {
        return Signed.digest(Signed.domain(), Signed.hash(q));
    }

    function due(Quote calldata q, uint96 cumulative) external view returns (uint96 amount) {
        (, Rental rental) = _load(Signed.domain(), q);
        (amount,) = _due(q, rental, cumulative);
    }

    function rentalOf(bytes32 id) external view returns (uint96 deposit, uint96 claimed, uint32 start, uint32 stopAt) {
        Rental rental = rentals[id];
        // A tombstone is no rental.
        if (rental.isOpen()) return (rental.deposit(), rental.claimed(), rental.start(), rental.stopAt());
    }

    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        // name, version, chainId, verifyingContract
        return (hex"0f", "gpulease", "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    // ---------------------------------------------------------------- the rental's ledger

    /// Everything of an opening but the money, whoever brings that.
    function _open(Quote calldata q, uint96 deposit, bytes calldata providerSig) private returns (bytes32 id) {
        if (block.timestamp > q.expiry) revert QuoteExpired(q.expiry);
        // A provider that cannot be paid would leave a credit that nobody can withdraw.
        if (
            q.maxSeconds == 0 || q.maxSeconds > MAX_TERM || q.window < MIN_WINDOW || q.window > MAX_WINDOW || q.provider == address(0)
                || q.provider == address(this)
        ) revert BadTerms();
        uint256 max = Payout.amount(q.rate, q.maxSeconds);
        if (deposit == 0 || deposit < q.minDeposit || deposit > max) revert BadDeposit(deposit, q.minDeposit, max);

        id = Signed.digest(Signed.domain(), Signed.hash(q));
        Signed.verify(id, providerSig, q.providerKey);
        if (!rentals[id].isUnused()) revert QuoteUsed(id);

        rentals[id] = opened(deposit, block.timestamp);
        _emitOpened(q, id, deposit);
    }

    /// emit Opened(...), of which ten fields lie in calldata one after the other as the event wants them: copied in one piece, since one by
    /// one they cost 500 gas. The two among them that nothing else reads are read here, and so checked to be addresses.
    function _emitOpened(Quote calldata q, bytes32 id, uint96 deposit) private {
        bytes32 topic = Opened.selector;
        (address provider, address renter, address providerKey) = (q.provider, q.renter, q.providerKey);
        (address renterKey, address arbiter) = (q.renterKey, q.arbiter);
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, providerKey)
            // renterKey .. spec
            calldatacopy(add(p, 0x20), add(q, 0x60), 0x140)
            mstore(add(p, 0x20), renterKey)
            mstore(add(p, 0x100), arbiter)
            mstore(add(p, 0x160), deposit)
            log4(p, 0x180, topic, id, provider, renter)
        }
    }

    /// The chain's own coin cannot be pulled: a rental in coin that no coin came with would be paid out of everyone else's.
    function _openInTokens(Quote calldata q, uint96 deposit, bytes calldata providerSig) private returns (bytes32 id) {
        if (q.token == address(0)) revert WrongValue(0, deposit);
        return _open(q, deposit, providerSig);
    }

    function _load(bytes32 domain, Quote calldata q) private view returns (bytes32 id, Rental rental) {
        id = Signed.digest(domain, Signed.hash(q));
        rental = rentals[id];
        if (!rental.isOpen()) revert NotOpen(id);
    }

    /// By how much the deposit may still grow: to the price of the whole term.
    function _room(Quote calldata q, Rental rental) private pure returns (uint256) {
        uint256 max = Payout.amount(q.rate, q.maxSeconds);
        if (max > type(uint96).max) max = type(uint96).max;
        unchecked {
            // deposit <= max since the opening
            return max - rental.deposit();
        }
    }

    function _raise(bytes32 id, Rental rental, uint96 added, uint256 room) private {
        if (rental.stopAt() != 0) revert AlreadyStopped(rental.stopAt());
        if (added == 0 || added > room) revert BadDeposit(added, 1, room);
        unchecked {
            uint96 deposit = rental.deposit() + added;
            rentals[id] = rental.withDeposit(deposit);
            emit ToppedUp(id, deposit);
        }
    }

    function _due(Quote calldata q, Rental rental, uint96 cumulative) private view returns (uint96 owed, uint256 elapsed) {
        unchecked {
            elapsed = Payout.end(rental.start(), rental.stopAt(), q.maxSeconds, block.timestamp) - rental.start();
        }
        // elapsed <= maxSeconds
        owed = Payout.due(cumulative, Payout.amount(q.rate, uint32(elapsed)), rental.deposit(), rental.claimed());
    }

    /// Ends a rental in the books: `owed` in all to the provider, the rest to the renter. Tells what is left to pay to each.
    function _end(Quote calldata q, bytes32 id, Rental rental, uint96 owed, uint256 elapsed, uint8 kind)
        private
        returns (uint96 earned, uint96 refund)
    {
        unchecked {
            // claimed <= owed <= deposit, see Payout.due
            refund = rental.deposit() - owed;
            earned = owed - rental.claimed();
        }
        // While the quote could still be opened a mark stays behind; afterwards its expiry keeps it from being opened again.
        rentals[id] = block.timestamp > q.expiry ? NOTHING : TOMBSTONE;
        emit Closed(id, q.provider, q.renter, owed, refund, uint32(elapsed), kind);
    }

    function _settle(Quote calldata q, bytes32 id, Rental rental, uint96 owed, uint256 elapsed, uint8 kind) private {
        (uint256 earned, uint256 refund) = _end(q, id, rental, owed, elapsed, kind);
        _pay(q.token, q.provider, earned);
        _pay(q.token, q.renter, refund);
    }

    // ---------------------------------------------------------------- words

    function _verify(bytes32 domain, bytes32 typehash, bytes32 id, uint256 value, bytes calldata signature, address signer) private pure {
        Signed.verify(Signed.digest(domain, Signed.hash(typehash, id, value)), signature, signer);
    }

    /// The voucher of a close, which may do without when it asks for nothing.
    function _verifyClosing(bytes32 domain, bytes32 id, uint96 cumulative, bytes calldata voucherSig, address renterKey) private pure {
        if (cumulative != 0 || voucherSig.length != 0) {
            _verify(domain, Signed.VOUCHER_TYPEHASH, id, cumulative, voucherSig, renterKey);
        }
    }
}
