// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// A smart account for devnets and tests: one key owns it, and it takes that key's signatures for its own (ERC-1271), over the digest itself
/// or, as a Safe does, over the digest as a message of its own. For tests alone: nothing can be got out of it.
contract TestAccount {
    bytes32 private constant DOMAIN_TYPEHASH = keccak256("EIP712Domain(uint256 chainId,address verifyingContract)");
    bytes32 private constant MESSAGE_TYPEHASH = keccak256("SafeMessage(bytes message)");

    address public immutable owner;
    bool public immutable likeASafe;

    constructor(address owner_, bool likeASafe_) {
        (owner, likeASafe) = (owner_, likeASafe_);
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        if (signature.length != 65) return 0xffffffff;
        bytes32 signed = likeASafe ? _message(digest) : digest;
        address signer = ecrecover(signed, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64]));
        return signer != address(0) && signer == owner ? this.isValidSignature.selector : bytes4(0xffffffff);
    }

    function _message(bytes32 digest) private view returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(DOMAIN_TYPEHASH, block.chainid, address(this)));
        bytes32 message = keccak256(abi.encode(MESSAGE_TYPEHASH, keccak256(abi.encode(digest))));
        return keccak256(abi.encodePacked(hex"1901", domain, message));
    }
}
