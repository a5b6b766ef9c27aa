// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../src/IRentalEscrow.sol";
import {EscrowTest} from "./support/EscrowTest.sol";
import {vm} from "./support/Test.sol";

/// What anyone can ask the escrow, and that what is committed is what is tested.
contract ViewsTest is EscrowTest {
    function testFuzz_the_id_is_the_digest_of_the_quote(Quote memory q) public view {
        vm.assertEq(escrow.idOf(q), idOf(q));
    }

    function test_due_follows_the_meter_until_the_stop() public {
        Quote memory q = openDefault();
        vm.assertEq(escrow.due(q, DEPOSIT), 0);
        pass(100);
        vm.assertEq(escrow.due(q, DEPOSIT), amountOf(q, 100));
        vm.assertEq(escrow.due(q, 5), 5);
        bytes memory sig = voucher(q, 50);
        escrow.claim(q, 50, sig);
        vm.assertEq(escrow.due(q, 5), 50);
        vm.prank(RENTER);
        escrow.stop(q, 0, "");
        pass(100);
        vm.assertEq(escrow.due(q, DEPOSIT), amountOf(q, 100));
    }

    function test_due_of_no_open_rental_is_an_error() public {
        Quote memory q = quote();
        expectNotOpen(q);
        escrow.due(q, 1);
    }

    function test_the_domain_is_told_as_it_is_hashed() public view {
        (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifier,
            bytes32 salt,
            uint256[] memory extensions
        ) = escrow.eip712Domain();
        vm.assertEq(bytes32(fields), bytes32(hex"0f"));
        vm.assertEq(name, "gpulease");
        vm.assertEq(version, "1");
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(verifier, address(escrow));
        vm.assertEq(salt, bytes32(0));
        vm.assertEq(extensions.length, 0);
    }

    function test_the_committed_code_is_the_code_under_test() public view {
        string memory json = vm.readFile("artifacts/RentalEscrow.json");
        vm.assertEq(keccak256(vm.parseJsonBytes(json, ".deployedBytecode.object")), keccak256(address(escrow).code));
        vm.assertEq(vm.parseJsonBytes32(json, ".runtimeCodeHash"), address(escrow).codehash);
        bytes32 initCodeHash = keccak256(vm.parseJsonBytes(json, ".bytecode.object"));
        address deployer = vm.parseJsonAddress(json, ".create2Deployer");
        bytes32 salt = vm.parseJsonBytes32(json, ".create2Salt");
        bytes32 hash = keccak256(abi.encodePacked(hex"ff", deployer, salt, initCodeHash));
        vm.assertEq(vm.parseJsonAddress(json, ".create2Address"), address(uint160(uint256(hash))));
    }

    function test_anyone_deploys_it_to_one_address_with_one_code_on_any_chain() public {
        string memory json = vm.readFile("artifacts/RentalEscrow.json");
        bytes memory call_ = bytes.concat(vm.parseJsonBytes32(json, ".create2Salt"), vm.parseJsonBytes(json, ".bytecode.object"));
        address proxy = vm.parseJsonAddress(json, ".create2Deployer");
        address expected = vm.parseJsonAddress(json, ".create2Address");
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < 2; ++i) {
            vm.chainId(i == 0 ? 1 : 8_453);
            vm.prank(i == 0 ? STRANGER : PROVIDER);
            (bool ok,) = proxy.call(call_);
            vm.assertTrue(ok);
            vm.assertEq(expected.codehash, vm.parseJsonBytes32(json, ".runtimeCodeHash"));
            vm.revertToState(snapshot);
        }
    }
}
