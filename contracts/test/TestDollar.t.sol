// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Authorizing, FundingTest} from "./support/FundingTest.sol";
import {SmartAccount} from "./support/SmartAccount.sol";
import {vm} from "./support/Test.sol";

interface Dollar is Authorizing {
    function balanceOf(address account) external view returns (uint256);
    function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32, uint8, bytes32, bytes32) external;
    function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32, bytes calldata) external;
    function receiveWithAuthorization(address, address, uint256, uint256, uint256, bytes32, uint8, bytes32, bytes32) external;
    function receiveWithAuthorization(address, address, uint256, uint256, uint256, bytes32, bytes calldata) external;
}

/// The devnet's dollar refuses what the real ones refuse, or the tests that use it would prove nothing.
contract TestDollarTest is FundingTest {
    bytes32 internal constant NONCE = keccak256("nonce");

    Dollar internal token;

    function setUp() public override {
        super.setUp();
        token = Dollar(address(dollar));
    }

    function signTransfer(uint256 secret, uint256 validAfter, uint256 validBefore) internal view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 typehash = keccak256(
            "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        return
            vm.sign(secret, typedIn(address(dollar), keccak256(abi.encode(typehash, wallet, STRANGER, 5, validAfter, validBefore, NONCE))));
    }

    function expectAnyRevert() internal {
        vm.expectRevert();
    }

    function test_a_permit_serves_once_in_time_and_from_its_owner_only() public {
        uint256 deadline = timestamp();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, permitDigest(wallet, 5, deadline));
        vm.warp(deadline + 1);
        expectAnyRevert();
        token.permit(wallet, address(escrow), 5, deadline, v, r, s);
        vm.warp(deadline);
        expectAnyRevert();
        token.permit(wallet, address(escrow), 6, deadline, v, r, s);
        token.permit(wallet, address(escrow), 5, deadline, v, r, s);
        vm.assertEq(token.allowance(wallet, address(escrow)), 5);
        expectAnyRevert();
        token.permit(wallet, address(escrow), 5, deadline, v, r, s);
        (v, r, s) = vm.sign(STRANGER_SECRET, permitDigest(wallet, 5, deadline));
        expectAnyRevert();
        token.permit(wallet, address(escrow), 5, deadline, v, r, s);
    }

    function test_an_authorised_transfer_serves_once_and_within_its_time() public {
        (uint8 v, bytes32 r, bytes32 s) = signTransfer(WALLET_SECRET, START, START + 10);
        expectAnyRevert();
        token.transferWithAuthorization(wallet, STRANGER, 5, START, START + 10, NONCE, v, r, s);
        vm.warp(START + 10);
        expectAnyRevert();
        token.transferWithAuthorization(wallet, STRANGER, 5, START, START + 10, NONCE, v, r, s);
        vm.warp(START + 9);
        uint256 snapshot = vm.snapshotState();
        token.transferWithAuthorization(wallet, STRANGER, 5, START, START + 10, NONCE, v, r, s);
        vm.assertEq(token.balanceOf(STRANGER), 5);
        expectAnyRevert();
        token.transferWithAuthorization(wallet, STRANGER, 5, START, START + 10, NONCE, v, r, s);
        vm.revertToState(snapshot);
        token.transferWithAuthorization(wallet, STRANGER, 5, START, START + 10, NONCE, abi.encodePacked(r, s, v));
        vm.assertEq(token.balanceOf(STRANGER), 5);
        vm.revertToState(snapshot);
        (v, r, s) = signTransfer(STRANGER_SECRET, START, START + 10);
        expectAnyRevert();
        token.transferWithAuthorization(wallet, STRANGER, 5, START, START + 10, NONCE, v, r, s);
    }

    function test_what_is_to_be_received_is_taken_by_its_receiver_only() public {
        bytes32 digest = authorizationDigest(address(dollar), wallet, 5, START + 10, NONCE);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, digest);
        bytes memory sig = abi.encodePacked(r, s, v);
        expectAnyRevert();
        token.receiveWithAuthorization(wallet, address(escrow), 5, 0, START + 10, NONCE, v, r, s);
        expectAnyRevert();
        token.receiveWithAuthorization(wallet, address(escrow), 5, 0, START + 10, NONCE, sig);
        vm.prank(address(escrow));
        token.receiveWithAuthorization(wallet, address(escrow), 5, 0, START + 10, NONCE, v, r, s);
        vm.assertEq(token.balanceOf(address(escrow)), 5);
    }

    function test_a_key_with_delegated_code_still_signs() public {
        SmartAccount account = new SmartAccount(vm.addr(STRANGER_SECRET));
        vm.etch(wallet, address(account).code);
        bytes32 digest = authorizationDigest(address(dollar), wallet, 5, START + 10, NONCE);
        bytes memory sig = sign(WALLET_SECRET, digest);
        vm.prank(address(escrow));
        token.receiveWithAuthorization(wallet, address(escrow), 5, 0, START + 10, NONCE, sig);
        vm.assertEq(token.balanceOf(address(escrow)), 5);
    }
}
