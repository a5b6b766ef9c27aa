// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {Signed} from "../src/Signed.sol";
import {EscrowTest, Token} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// Takes a signature exactly where the escrow would.
contract Verifier {
    function verify(bytes32 digest, bytes calldata signature, address signer) external pure {
        Signed.verify(digest, signature, signer);
    }
}

/// A payee that refuses coin when it is given more gas than payees are promised.
contract ModestReceiver {
    receive() external payable {
        require(gasleft() <= 30_000);
    }
}

/// Moves what it is told to, and names each balance in the data of a failure.
contract DenyingToken {
    mapping(address account => uint256) private amounts;

    function mint(address to, uint256 value) external {
        amounts[to] += value;
    }

    function approve(address, uint256) external {}

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        amounts[from] -= value;
        amounts[to] += value;
        return true;
    }

    function balanceOf(address account) external view {
        uint256 amount = amounts[account];
        assembly ("memory-safe") {
            mstore(0x00, amount)
            revert(0x00, 0x20)
        }
    }
}

/// The last that is taken and the first that is not, where a rule has an edge.
contract EdgesTest is EscrowTest {
    uint256 internal constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    function test_a_signature_may_lie_at_half_the_order_and_not_above() public {
        Verifier verifier = new Verifier();
        bytes32 digest = keccak256("anything");
        (uint8 v, bytes32 r,) = vm.sign(PROVIDER_SECRET, digest);
        // Every s fits some key.
        address signer = ecrecover(digest, v, r, bytes32(HALF_ORDER));
        verifier.verify(digest, abi.encodePacked(r, bytes32(HALF_ORDER), v), signer);
        signer = ecrecover(digest, v, r, bytes32(HALF_ORDER + 1));
        vm.assertTrue(signer != address(0));
        expectBadSignature(signer);
        verifier.verify(digest, abi.encodePacked(r, bytes32(HALF_ORDER + 1), v), signer);
    }

    function test_a_payee_of_coin_is_given_no_more_gas_than_it_is_promised() public {
        ModestReceiver receiver = new ModestReceiver();
        Quote memory q = quoteIn(address(0));
        q.provider = address(receiver);
        open(q, DEPOSIT);
        pass(1 hours);
        close(q, 500);
        vm.assertEq(address(receiver).balance, 500);
    }

    function test_a_balance_named_by_a_failure_is_no_balance() public {
        DenyingToken token = new DenyingToken();
        fund(Token(address(token)));
        Quote memory q = quoteIn(address(token));
        bytes memory sig = quoteSig(q);
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.TransferMismatch.selector, DEPOSIT, 0));
        vm.prank(RENTER);
        escrow.open(q, DEPOSIT, sig);
    }
}
