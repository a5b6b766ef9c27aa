// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "./IRentalEscrow.sol";
import {Signed} from "./Signed.sol";

interface IERC20Permit {
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
}

/// The form of ERC-3009.
interface IERC3009 {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;
}

/// The form that dollars with smart accounts among their holders added.
interface IERC3009Bytes {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}

interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}

/// Moving coin and tokens, without trust in any token: what comes in is judged by the balance alone, what goes out by the answer, of which no
/// more than a word is ever copied.
library Money {
    /// One address on practically every chain. Where nothing is there nothing arrives, and the opening is undone.
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    /// The escrow's balance of a token; 0 where the call tells nothing, which the exactness check then refuses.
    function held(address token) internal view returns (uint256 amount) {
        assembly ("memory-safe") {
            mstore(0x00, 0x70a0823100000000000000000000000000000000000000000000000000000000) // balanceOf(address)
            mstore(0x04, address())
            let ok := staticcall(gas(), token, 0x00, 0x24, 0x00, 0x20)
            if and(ok, gt(returndatasize(), 0x1f)) { amount := mload(0x00) }
        }
    }

    /// Refuses any change of the balance but the one that was agreed: fees, bonuses, and calls that did nothing.
    function expectReceived(address token, uint256 amount, uint256 before) internal view {
        uint256 present = held(token);
        unchecked {
            uint256 received = present > before ? present - before : 0;
            if (received != amount) revert IRentalEscrow.TransferMismatch(amount, received);
        }
    }

    /// Takes exactly `amount` from the caller by its allowance, or reverts.
    function pull(address token, uint256 amount) internal {
        uint256 before = held(token);
        bool ok;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, 0x23b872dd00000000000000000000000000000000000000000000000000000000) // transferFrom(address,address,uint256)
            mstore(add(p, 0x04), caller())
            mstore(add(p, 0x24), address())
            mstore(add(p, 0x44), amount)
            ok := call(gas(), token, 0, p, 0x64, 0, 0x20)
        }
        if (!accepted(token, ok)) revert IRentalEscrow.TransferMismatch(amount, 0);
        expectReceived(token, amount, before);
    }

    /// Takes exactly `amount` from the renter through Permit2. The witness ties its signature to this quote, and `amount` is all it permits.
    function pullByPermit2(Quote calldata q, uint256 amount, uint256 nonce, uint256 deadline, bytes calldata signature) internal {
        bytes memory data = abi.encodeCall(
            IPermit2.permitWitnessTransferFrom,
            (
                IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(q.token, amount), nonce, deadline),
                IPermit2.SignatureTransferDetails(address(this), amount),
                q.renter,
                Signed.hash(q),
                Signed.WITNESS_TYPE,
                signature
            )
        );
        uint256 before = held(q.token);
        attempt(PERMIT2, data);
        expectReceived(q.token, amount, before);
    }

    /// Takes exactly `amount` from `from` by its ERC-3009 authorisation, which the token lets nobody but the escrow redeem.
    function pullByAuthorization(address token, address from, uint256 amount, uint256 validBefore, bytes32 nonce, bytes calldata signature)
        internal
    {
        bytes memory data;
        if (signature.length == 65) {
            (uint256 r, uint256 s, uint256 v) = Signed.split(signature);
            data = abi.encodeCall(
                IERC3009.receiveWithAuthorization, (from, address(this), amount, 0, validBefore, nonce, uint8(v), bytes32(r), bytes32(s))
            );
        } else {
            data = abi.encodeCall(IERC3009Bytes.receiveWithAuthorization, (from, address(this), amount, 0, validBefore, nonce, signature));
        }
        uint256 before = held(token);
        attempt(token, data);
        expectReceived(token, amount, before);
    }

    /// A call whose outcome something else decides: it may fail, and what it returns is not looked at.
    function attempt(address target, bytes memory data) internal {
        assembly ("memory-safe") {
            pop(call(gas(), target, 0, add(data, 0x20), mload(data), 0, 0))
        }
    }

    function pushCoin(address to, uint256 amount, uint256 gasCap) internal returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(gasCap, to, amount, 0, 0, 0, 0)
        }
    }

    function pushTokens(address token, address to, uint256 amount, uint256 gasCap) internal returns (bool ok) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, 0xa9059cbb00000000000000000000000000000000000000000000000000000000) // transfer(address,uint256)
            mstore(add(p, 0x04), to)
            mstore(add(p, 0x24), amount)
            ok := call(gasCap, token, 0, p, 0x44, 0, 0x20)
        }
        return accepted(token, ok);
    }

    /// Whether the token call just made went through: it returned true, or nothing at all from an account that has code. Its first
    /// returned word lies at memory 0.
    function accepted(address token, bool ok) private view returns (bool result) {
        assembly ("memory-safe") {
            switch returndatasize()
            case 0 { result := and(ok, gt(extcodesize(token), 0)) }
            default { result := and(ok, and(gt(returndatasize(), 0x1f), eq(mload(0x00), 1))) }
        }
    }
}
