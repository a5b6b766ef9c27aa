// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// The application binary interface of the shared escrow: what wallets, indexers and other clients build on.
//
// EIP-712 domain: name "gpulease", version "1", chainId, verifyingContract. The constructor takes no arguments and the runtime code
// holds nothing that depends on the chain, so one code hash is right everywhere.
//
// Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,uint96 minDeposit,
//       uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)   signed by providerKey
// Voucher(bytes32 id,uint96 cumulative)                                                             signed by renterKey
// Release(bytes32 id,uint96 cumulative)                                                             signed by providerKey
// Stop(bytes32 id,uint32 reason)                                                                    signed by renterKey
//
// All four are ECDSA signatures of plain keys, 64 bytes (ERC-2098) or 65 bytes (r, s, v), low s only. Contract accounts take part as
// `provider` (payout address) and as `renter` (caller, or signer towards the token or Permit2).
//
// The id of a rental is the EIP-712 digest of its quote. A quote opens at most once, ever.
// amount(seconds) = floor(rate * seconds / 1e6)
// due(q, cumulative) = max(claimed, min(cumulative, amount(end - start), deposit)),
//   end = min(stopAt != 0 ? stopAt : now, start + maxSeconds); the renter receives deposit - due.

struct Quote {
    address provider; // payout address: a cold wallet, a Safe, a DAO
    address providerKey; // the provider's signing key
    address renter; // pays, and is refunded
    address renterKey; // the renter's session key
    address token; // address(0): the chain's own coin
    uint96 rate; // 1e-6 base units of token per second
    uint96 minDeposit; // the least deposit worth opening for
    uint32 maxSeconds; // 1 to 366 days
    uint32 window; // challenge window in seconds, 900 to 604800
    uint32 expiry; // last second (block time) at which the quote may be opened
    address arbiter; // address(0): none
    bytes32 device; // slot id; 0: not exclusive
    bytes32 spec; // keccak256 of the full terms
}

interface IRentalEscrow {
    /// Lossless: the whole quote can be rebuilt from this event, so that anyone can finalize.
    event Opened(
        bytes32 indexed id,
        address indexed provider,
        address indexed renter,
        address providerKey,
        address renterKey,
        address token,
        uint96 rate,
        uint96 minDeposit,
        uint32 maxSeconds,
        uint32 window,
        uint32 expiry,
        address arbiter,
        bytes32 device,
        bytes32 spec,
        uint96 deposit
    );
    event Claimed(bytes32 indexed id, uint96 cumulative);
    event Stopping(bytes32 indexed id, uint32 stopAt, uint32 reason);
    /// elapsed = end - start. kind: 1 closed by the provider, 2 released, 3 finalized after a stop, 4 finalized after its term, 5 ruled
    event Closed(bytes32 indexed id, address indexed provider, address indexed renter, uint96 paid, uint96 refunded, uint32 elapsed, uint8 kind);
    event Credited(address indexed token, address indexed account, uint256 amount);
    event Withdrawn(address indexed token, address indexed account, address to, uint256 amount);

    error NotRenter();
    error NotProvider();
    error BadTerms();
    error QuoteExpired(uint32 expiry);
    error QuoteUsed(bytes32 id);
    error NotOpen(bytes32 id);
    error BadSignature(address expected);
    error BadDeposit(uint256 given, uint256 min, uint256 max);
    error WrongValue(uint256 given, uint256 expected);
    error TransferMismatch(uint256 expected, uint256 received);
    error NothingToClaim(uint96 claimed);
    error AlreadyStopped(uint32 stopAt);
    error TooEarly(uint256 until);
    error NoCredit();
    error Reentered();
    error GasTooLow();

    /// Renter only. Takes exactly `deposit`, minDeposit <= deposit <= amount(maxSeconds), deposit > 0; the clock starts now.
    function open(Quote calldata q, uint96 deposit, bytes calldata providerSig) external payable returns (bytes32 id);
    /// Anyone. Pays the provider what the voucher adds to what was claimed; reverts when it adds nothing.
    function claim(Quote calldata q, uint96 cumulative, bytes calldata voucherSig) external;
    /// Provider or providerKey. cumulative 0 with an empty signature gives back all that was not claimed.
    function close(Quote calldata q, uint96 cumulative, bytes calldata voucherSig) external;
    /// Renter or renterKey with the provider's Release; anyone who also has a voucher for exactly the same total.
    function release(Quote calldata q, uint96 cumulative, bytes calldata releaseSig, bytes calldata voucherSig) external;
    /// Freezes the meter at this second and starts the window. Renter or renterKey with an empty signature, or anyone with the renterKey's Stop.
    function stop(Quote calldata q, uint32 reason, bytes calldata stopSig) external;
    /// Anyone, after min(stopAt, start + maxSeconds) + window. Pays what was claimed, refunds the rest.
    function finalize(Quote calldata q) external;
    /// A credited account pulls what could not be pushed, to wherever it names.
    function withdraw(address token, address to) external returns (uint256 amount);

    function idOf(Quote calldata q) external view returns (bytes32 id);
    function due(Quote calldata q, uint96 cumulative) external view returns (uint96 amount);
    /// start is 0 when no such rental is open.
    function rentalOf(bytes32 id) external view returns (uint96 deposit, uint96 claimed, uint32 start, uint32 stopAt);
    function credit(address token, address account) external view returns (uint256 amount);
    function eip712Domain()
        external
        view
        returns (bytes1 fields, string memory name, string memory version, uint256 chainId, address verifyingContract, bytes32 salt, uint256[] memory extensions);
}
