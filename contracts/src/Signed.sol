// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "./IRentalEscrow.sol";

/// What the two sides sign, and whether they did: EIP-712 digests and plain ECDSA. A signature that an account's code could revoke later
/// (ERC-1271) must not carry money, so none is taken here.
library Signed {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant NAME_HASH = keccak256("gpulease");
    bytes32 private constant VERSION_HASH = keccak256("1");
    bytes32 private constant QUOTE_TYPEHASH = keccak256(
        "Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,uint96 minDeposit,"
        "uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)"
    );
    bytes32 internal constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 id,uint96 cumulative)");
    bytes32 internal constant RELEASE_TYPEHASH = keccak256("Release(bytes32 id,uint96 cumulative)");
    bytes32 internal constant STOP_TYPEHASH = keccak256("Stop(bytes32 id,uint32 reason)");

    /// The rest of the type that a wallet shows when a quote is opened through Permit2.
    string internal constant WITNESS_TYPE = "Quote witness)Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,"
        "uint96 minDeposit,uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)"
        "TokenPermissions(address token,uint256 amount)";

    /// Half the order of secp256k1: of the two valid s of every signature only the lower one is taken (EIP-2).
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// Hashed at each call and never stored: a chain that splits must not honour the other half's signatures.
    function domain() internal view returns (bytes32 separator) {
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
            separator := keccak256(p, 0xa0)
        }
    }

    /// hashStruct of a quote. The members of a static struct lie in calldata as EIP-712 encodes them: 13 words.
    function hash(Quote calldata q) internal pure returns (bytes32 structHash) {
        bytes32 typehash = QUOTE_TYPEHASH;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, typehash)
            calldatacopy(add(p, 0x20), q, 0x1a0)
            structHash := keccak256(p, 0x1c0)
        }
    }

    /// hashStruct of a message of two words; Voucher, Release and Stop all are.
    function hash(bytes32 typehash, bytes32 id, uint256 value) internal pure returns (bytes32 structHash) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, typehash)
            mstore(add(p, 0x20), id)
            mstore(add(p, 0x40), value)
            structHash := keccak256(p, 0x60)
        }
    }

    function digest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, 0x1901000000000000000000000000000000000000000000000000000000000000)
            mstore(add(p, 0x02), separator)
            mstore(add(p, 0x22), structHash)
            result := keccak256(p, 0x42)
        }
    }

    /// Refuses what is not `signer`'s signature of the digest: 64 bytes (ERC-2098) or 65 bytes (r, s, v).
    function verify(bytes32 digest_, bytes calldata signature, address signer) internal pure {
        uint256 r;
        uint256 s;
        uint256 v;
        if (signature.length == 64) {
            assembly ("memory-safe") {
                r := calldataload(signature.offset)
                s := calldataload(add(signature.offset, 0x20))
                // The parity of v is the highest bit of s.
                v := add(27, shr(255, s))
                s := shr(1, shl(1, s))
            }
        } else if (signature.length == 65) {
            (r, s, v) = split(signature);
        } else {
            revert IRentalEscrow.BadSignature(signer);
        }
        address recovered = s > HALF_ORDER ? address(0) : ecrecover(digest_, uint8(v), bytes32(r), bytes32(s));
        if (recovered == address(0) || recovered != signer) revert IRentalEscrow.BadSignature(signer);
    }

    /// The parts of a signature of 65 bytes.
    function split(bytes calldata signature) internal pure returns (uint256 r, uint256 s, uint256 v) {
        assembly ("memory-safe") {
            r := calldataload(signature.offset)
            s := calldataload(add(signature.offset, 0x20))
            v := byte(0, calldataload(add(signature.offset, 0x40)))
        }
    }
}
