// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "./IRentalEscrow.sol";
import {Payout} from "./Payout.sol";

/// Holds a renter's deposit for as long as a rental runs and splits it once, by vouchers that the renter signed. One immutable contract for
/// everyone: no owner, no fee, no upgrade, no pause; nothing in the code depends on the chain, so its hash is the same everywhere.
///
/// The rule that all of it keeps, for each token and for the chain's own coin:
///
///     balance of the escrow == sum(deposit - claimed) over open rentals + sum of credits     (donations aside)
///
/// Every state-changing call follows one order: check, write, emit, and only then move money, under a lock that spans all calls.
contract RentalEscrow is IRentalEscrow {
    /// All that is remembered of a rental; its terms come back as calldata and are proven by their digest, the id.
    /// start is 0 for a rental that never was, was cleared, or is the tombstone of one that closed while its quote could still be opened.
    struct Rental {
        uint96 deposit;
        uint96 claimed;
        uint32 start;
        uint32 stopAt;
    }

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant QUOTE_TYPEHASH = keccak256(
        "Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,uint96 minDeposit,"
        "uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)"
    );
    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 id,uint96 cumulative)");
    bytes32 private constant RELEASE_TYPEHASH = keccak256("Release(bytes32 id,uint96 cumulative)");
    bytes32 private constant STOP_TYPEHASH = keccak256("Stop(bytes32 id,uint32 reason)");
    bytes32 private constant NAME_HASH = keccak256("gpulease");
    bytes32 private constant VERSION_HASH = keccak256("1");

    uint256 private constant MAX_TERM = 366 days;
    uint256 private constant MIN_WINDOW = 15 minutes;
    uint256 private constant MAX_WINDOW = 7 days;

    /// Half the order of secp256k1: of the two valid s of every signature only the lower one is taken (EIP-2).
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// What a payee of coin may burn: 30,000 with the 2,300 that the machine adds to every call with value. Enough for a Safe or a
    /// delegated account to receive, too little to do harm.
    uint256 private constant COIN_GAS = 30_000 - 2_300;
    /// What a token may burn on a payout. Proxied dollars with a blocklist take about 60,000, interest-bearing shares up to 150,000.
    uint256 private constant TOKEN_GAS = 200_000;
    /// What must be left before a payout leg on top of the callee's gas, of which the machine keeps a 64th back: the price of a call
    /// with value to a cold, empty account is 36,600. So the callee is sure to get all of its gas, and no caller can choose its own so
    /// that a leg fails and a payout turns into a credit. (Running out after the leg undoes the whole call, which harms nobody.)
    uint256 private constant CALL_GAS = 40_000;
    uint256 private constant COIN_FLOOR = COIN_GAS * 64 / 63 + CALL_GAS;
    uint256 private constant TOKEN_FLOOR = TOKEN_GAS * 64 / 63 + CALL_GAS;

    uint8 private constant CLOSED_BY_PROVIDER = 1;
    uint8 private constant RELEASED = 2;
    uint8 private constant FINALIZED_AFTER_STOP = 3;
    uint8 private constant FINALIZED_AFTER_TERM = 4;

    mapping(bytes32 id => Rental) private rentals;

    /// What could not be pushed to `account` and waits to be withdrawn.
    mapping(address token => mapping(address account => uint256 amount)) public credit;

    /// 1 while a state-changing call runs; gone with the transaction.
    uint256 private transient locked;

    modifier lock() {
        if (locked != 0) revert Reentered();
        locked = 1;
        _;
        locked = 0;
    }

    function open(Quote calldata q, uint96 deposit, bytes calldata providerSig) external payable lock returns (bytes32 id) {
        if (msg.sender != q.renter) revert NotRenter();
        id = _open(q, deposit, providerSig);
        if (q.token == address(0)) {
            if (msg.value != deposit) revert WrongValue(msg.value, deposit);
        } else {
            if (msg.value != 0) revert WrongValue(msg.value, 0);
            _pull(q.token, deposit);
        }
    }

    function claim(Quote calldata q, uint96 cumulative, bytes calldata voucherSig) external lock {
        (bytes32 id, Rental memory rental) = _load(q);
        _verify(_digest(VOUCHER_TYPEHASH, id, cumulative), voucherSig, q.renterKey);
        (uint96 owed,) = _due(q, rental, cumulative);
        if (owed <= rental.claimed) revert NothingToClaim(rental.claimed);

        rentals[id].claimed = owed;
        emit Claimed(id, owed);
        unchecked {
            _pay(q.token, q.provider, owed - rental.claimed);
        }
    }

    function close(Quote calldata q, uint96 cumulative, bytes calldata voucherSig) external lock {
        if (msg.sender != q.provider && msg.sender != q.providerKey) revert NotProvider();
        (bytes32 id, Rental memory rental) = _load(q);
        if (cumulative != 0 || voucherSig.length != 0) {
            _verify(_digest(VOUCHER_TYPEHASH, id, cumulative), voucherSig, q.renterKey);
        }
        (uint96 owed, uint256 elapsed) = _due(q, rental, cumulative);
        _settle(q, id, rental, owed, elapsed, CLOSED_BY_PROVIDER);
    }

    function release(Quote calldata q, uint96 cumulative, bytes calldata releaseSig, bytes calldata voucherSig) external lock {
        (bytes32 id, Rental memory rental) = _load(q);
        _verify(_digest(RELEASE_TYPEHASH, id, cumulative), releaseSig, q.providerKey);
        if (msg.sender != q.renter && msg.sender != q.renterKey) {
            // A stranger needs the renter's word for the same total.
            if (voucherSig.length == 0) revert NotRenter();
            _verify(_digest(VOUCHER_TYPEHASH, id, cumulative), voucherSig, q.renterKey);
        }
        (uint96 owed, uint256 elapsed) = _due(q, rental, cumulative);
        _settle(q, id, rental, owed, elapsed, RELEASED);
    }

    function stop(Quote calldata q, uint32 reason, bytes calldata stopSig) external lock {
        (bytes32 id, Rental memory rental) = _load(q);
        if (stopSig.length != 0) {
            _verify(_digest(STOP_TYPEHASH, id, reason), stopSig, q.renterKey);
        } else if (msg.sender != q.renter && msg.sender != q.renterKey) {
            revert NotRenter();
        }
        if (rental.stopAt != 0) revert AlreadyStopped(rental.stopAt);

        // A rental opened before 2106 may outlive the last second that 32 bits can name: it then stops at that second.
        uint32 stopAt = block.timestamp < type(uint32).max ? uint32(block.timestamp) : type(uint32).max;
        rentals[id].stopAt = stopAt;
        emit Stopping(id, stopAt, reason);
    }

    function finalize(Quote calldata q) external lock {
        (bytes32 id, Rental memory rental) = _load(q);
        // Without a stop the meter's end is not settled before the term is, so the term is taken as the present.
        uint256 until = Payout.end(rental.start, rental.stopAt, q.maxSeconds, type(uint256).max);
        unchecked {
            uint256 elapsed = until - rental.start;
            until += q.window;
            if (block.timestamp < until) revert TooEarly(until);
            _settle(q, id, rental, rental.claimed, elapsed, rental.stopAt != 0 ? FINALIZED_AFTER_STOP : FINALIZED_AFTER_TERM);
        }
    }

    function withdraw(address token, address to) external lock returns (uint256 amount) {
        amount = credit[token][msg.sender];
        if (amount == 0) revert NoCredit();
        credit[token][msg.sender] = 0;
        emit Withdrawn(token, msg.sender, to, amount);
        // The caller's own gas and the caller's own choice of receiver: no cap, and a failure undoes it all. Tokens sent to the escrow
        // itself would belong to nobody.
        if (to == address(this) || !_push(token, to, amount, gasleft())) revert TransferMismatch(amount, 0);
    }

    function idOf(Quote calldata q) public view returns (bytes32 id) {
        bytes32 typehash = QUOTE_TYPEHASH;
        bytes32 structHash;
        // The members of a static struct lie in calldata as EIP-712 encodes them: 13 words.
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, typehash)
            calldatacopy(add(p, 0x20), q, 0x1a0)
            structHash := keccak256(p, 0x1c0)
        }
        return _typed(structHash);
    }

    function due(Quote calldata q, uint96 cumulative) external view returns (uint96 amount) {
        (, Rental memory rental) = _load(q);
        (amount,) = _due(q, rental, cumulative);
    }

    function rentalOf(bytes32 id) external view returns (uint96 deposit, uint96 claimed, uint32 start, uint32 stopAt) {
        Rental memory rental = rentals[id];
        // A tombstone is no rental.
        if (rental.start != 0) return (rental.deposit, rental.claimed, rental.start, rental.stopAt);
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

        id = idOf(q);
        _verify(id, providerSig, q.providerKey);
        Rental storage rental = rentals[id];
        if (rental.start != 0 || rental.stopAt != 0) revert QuoteUsed(id);

        // now <= expiry, which has 32 bits.
        rentals[id] = Rental({deposit: deposit, claimed: 0, start: uint32(block.timestamp), stopAt: 0});
        emit Opened(
            id,
            q.provider,
            q.renter,
            q.providerKey,
            q.renterKey,
            q.token,
            q.rate,
            q.minDeposit,
            q.maxSeconds,
            q.window,
            q.expiry,
            q.arbiter,
            q.device,
            q.spec,
            deposit
        );
    }

    function _load(Quote calldata q) private view returns (bytes32 id, Rental memory rental) {
        id = idOf(q);
        rental = rentals[id];
        if (rental.start == 0) revert NotOpen(id);
    }

    function _due(Quote calldata q, Rental memory rental, uint96 cumulative) private view returns (uint96 owed, uint256 elapsed) {
        unchecked {
            elapsed = Payout.end(rental.start, rental.stopAt, q.maxSeconds, block.timestamp) - rental.start;
        }
        // elapsed <= maxSeconds
        owed = Payout.due(cumulative, Payout.amount(q.rate, uint32(elapsed)), rental.deposit, rental.claimed);
    }

    /// Ends a rental: `owed` in all to the provider, the rest to the renter.
    function _settle(Quote calldata q, bytes32 id, Rental memory rental, uint96 owed, uint256 elapsed, uint8 kind) private {
        unchecked {
            // claimed <= owed <= deposit, see Payout.due
            uint96 refund = rental.deposit - owed;
            // While the quote could still be opened a mark stays behind; afterwards its expiry keeps it from being opened again.
            if (block.timestamp > q.expiry) delete rentals[id];
            else rentals[id] = Rental({deposit: 0, claimed: 0, start: 0, stopAt: 1});
            emit Closed(id, q.provider, q.renter, owed, refund, uint32(elapsed), kind);
            _pay(q.token, q.provider, owed - rental.claimed);
            _pay(q.token, q.renter, refund);
        }
    }

    // ---------------------------------------------------------------- money

    /// Takes exactly `amount` from the caller, or reverts.
    function _pull(address token, uint256 amount) private {
        uint256 before = _held(token);
        bool ok;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, 0x23b872dd00000000000000000000000000000000000000000000000000000000) // transferFrom(address,address,uint256)
            mstore(add(p, 0x04), caller())
            mstore(add(p, 0x24), address())
            mstore(add(p, 0x44), amount)
            ok := call(gas(), token, 0, p, 0x64, 0, 0x20)
        }
        if (!_accepted(token, ok)) revert TransferMismatch(amount, 0);
        uint256 held = _held(token);
        uint256 received = held > before ? held - before : 0;
        if (received != amount) revert TransferMismatch(amount, received);
    }

    /// One payout leg: pushed if the payee takes it, else credited. Never reverts for anything the payee or the token does.
    function _pay(address token, address to, uint256 amount) private {
        if (amount == 0) return;
        bool coin = token == address(0);
        if (gasleft() < (coin ? COIN_FLOOR : TOKEN_FLOOR)) revert GasTooLow();
        if (!_push(token, to, amount, coin ? COIN_GAS : TOKEN_GAS)) {
            credit[token][to] += amount;
            emit Credited(token, to, amount);
        }
    }

    function _push(address token, address to, uint256 amount, uint256 gasCap) private returns (bool ok) {
        if (token == address(0)) {
            assembly ("memory-safe") {
                ok := call(gasCap, to, amount, 0, 0, 0, 0)
            }
            return ok;
        }
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, 0xa9059cbb00000000000000000000000000000000000000000000000000000000) // transfer(address,uint256)
            mstore(add(p, 0x04), to)
            mstore(add(p, 0x24), amount)
            ok := call(gasCap, token, 0, p, 0x44, 0, 0x20)
        }
        return _accepted(token, ok);
    }

    /// Whether the token call just made went through: it returned true, or nothing at all from an account that has code. Its first
    /// returned word lies at memory 0; no more than that is ever copied.
    function _accepted(address token, bool ok) private view returns (bool accepted) {
        assembly ("memory-safe") {
            switch returndatasize()
            case 0 { accepted := and(ok, gt(extcodesize(token), 0)) }
            default { accepted := and(ok, and(gt(returndatasize(), 0x1f), eq(mload(0x00), 1))) }
        }
    }

    /// The escrow's balance of a token; 0 where the call tells nothing, which the exactness check then refuses.
    function _held(address token) private view returns (uint256 held) {
        assembly ("memory-safe") {
            mstore(0x00, 0x70a0823100000000000000000000000000000000000000000000000000000000) // balanceOf(address)
            mstore(0x04, address())
            let ok := staticcall(gas(), token, 0x00, 0x24, 0x00, 0x20)
            if and(ok, gt(returndatasize(), 0x1f)) { held := mload(0x00) }
        }
    }

    // ---------------------------------------------------------------- signatures

    /// The EIP-712 digest of a message of two words; Voucher, Release and Stop all are.
    function _digest(bytes32 typehash, bytes32 id, uint256 value) private view returns (bytes32) {
        bytes32 structHash;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, typehash)
            mstore(add(p, 0x20), id)
            mstore(add(p, 0x40), value)
            structHash := keccak256(p, 0x60)
        }
        return _typed(structHash);
    }

    /// The domain is hashed at each use: a chain that splits must not honour the other half's signatures.
    function _typed(bytes32 structHash) private view returns (bytes32 digest) {
        bytes32 domainTypehash = DOMAIN_TYPEHASH;
        bytes32 nameHash = NAME_HASH;
        bytes32 versionHash = VERSION_HASH;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, domainTypehash)
            mstore(add(p, 0x20), nameHash)
            mstore(add(p, 0x40), versionHash)
            mstore(add(p, 0x60), chainid())
            mstore(add(p, 0x80), address())
            let domain := keccak256(p, 0xa0)
            mstore(p, 0x1901000000000000000000000000000000000000000000000000000000000000)
            mstore(add(p, 0x02), domain)
            mstore(add(p, 0x22), structHash)
            digest := keccak256(p, 0x42)
        }
    }

    /// ECDSA by a plain key only: a signature that an account's code could revoke later must not carry money.
    function _verify(bytes32 digest, bytes calldata signature, address signer) private pure {
        uint256 r;
        uint256 s;
        uint8 v;
        if (signature.length == 64) {
            // ERC-2098: the parity of v is the highest bit of s.
            uint256 vs;
            assembly ("memory-safe") {
                r := calldataload(signature.offset)
                vs := calldataload(add(signature.offset, 0x20))
            }
            s = vs & (type(uint256).max >> 1);
            v = vs >> 255 == 0 ? 27 : 28;
        } else if (signature.length == 65) {
            assembly ("memory-safe") {
                r := calldataload(signature.offset)
                s := calldataload(add(signature.offset, 0x20))
                v := byte(0, calldataload(add(signature.offset, 0x40)))
            }
        } else {
            revert BadSignature(signer);
        }
        if (s > HALF_ORDER) revert BadSignature(signer);
        address recovered = ecrecover(digest, v, bytes32(r), bytes32(s));
        if (recovered == address(0) || recovered != signer) revert BadSignature(signer);
    }
}
