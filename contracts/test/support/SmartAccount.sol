// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// An account with code whose owner is a key: it signs by ERC-1271, calls what its owner tells it to, and takes coin. It asks for one byte
/// more than a signature has, as real ones wrap theirs; or for none, to be like those that keep to 65.
contract SmartAccount {
    address private immutable owner;
    bytes1 internal constant WRAPPING = 0x01;
    bool public wraps = true;

    constructor(address owner_) {
        owner = owner_;
    }

    receive() external payable {}

    function setWraps(bool value) external {
        wraps = value;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        bytes calldata inner = signature;
        if (wraps) {
            if (signature.length != 66 || signature[0] != WRAPPING) return 0xffffffff;
            inner = signature[1:];
        }
        if (inner.length != 65) return 0xffffffff;
        address recovered = ecrecover(digest, uint8(inner[64]), bytes32(inner[0:32]), bytes32(inner[32:64]));
        return recovered == owner && recovered != address(0) ? this.isValidSignature.selector : bytes4(0xffffffff);
    }

    function execute(address target, uint256 value, bytes calldata data) external returns (bytes memory) {
        require(msg.sender == owner, "not the owner");
        (bool ok, bytes memory result) = target.call{value: value}(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(result, 0x20), mload(result))
            }
        }
        return result;
    }
}
