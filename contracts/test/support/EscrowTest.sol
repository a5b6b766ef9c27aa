// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../../src/IRentalEscrow.sol";
import {Test, vm} from "./Test.sol";

/// The token as a test sees it; every test token and the dollar of devnets have these.
interface Token {
    function mint(address to, uint256 value) external;
    function approve(address spender, uint256 value) external;
    function balanceOf(address account) external view returns (uint256);
}

/// A provider, a renter, their keys and a quote to start from. Digests are built here a second time, in plain `abi.encode`, so that the
/// contract's hand-written hashing is checked against EIP-712 and not against itself.
abstract contract EscrowTest is Test {
    uint256 internal constant PROVIDER_SECRET = 0xA11CE;
    uint256 internal constant RENTER_SECRET = 0xB0B;
    uint256 internal constant STRANGER_SECRET = 0xBAD;
    uint256 internal constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    address internal immutable providerKey = vm.addr(PROVIDER_SECRET);
    address internal immutable renterKey = vm.addr(RENTER_SECRET);
    // Without zero bytes, which would make calldata cheaper than it is.
    address internal constant PROVIDER = 0x1111111111111111111111111111111111111101;
    address internal constant RENTER = 0x1111111111111111111111111111111111111102;
    address internal constant STRANGER = 0x1111111111111111111111111111111111111103;

    uint32 internal constant START = 1_800_000_000;
    /// 2 dollars an hour at 6 decimals.
    uint96 internal constant RATE = 555_555_556;
    uint96 internal constant DEPOSIT = 2_000_000;

    IRentalEscrow internal escrow;
    Token internal dollar;

    function setUp() public virtual {
        vm.warp(START);
        escrow = IRentalEscrow(vm.deployCode("RentalEscrow.sol:RentalEscrow"));
        dollar = Token(vm.deployCode("TestDollar.sol:TestDollar"));
        fund(dollar);
        vm.deal(RENTER, 100 ether);
    }

    function fund(Token token) internal {
        token.mint(RENTER, 1_000_000_000);
        vm.prank(RENTER);
        token.approve(address(escrow), type(uint256).max);
    }

    // ------------------------------------------------------------ terms

    function quote() internal view returns (Quote memory) {
        return quoteIn(address(dollar));
    }

    function quoteIn(address token) internal view returns (Quote memory) {
        return Quote({
            provider: PROVIDER,
            providerKey: providerKey,
            renter: RENTER,
            renterKey: renterKey,
            token: token,
            rate: RATE,
            minDeposit: 1_000,
            maxSeconds: 3 hours,
            window: 1 hours,
            expiry: uint32(vm.getBlockTimestamp() + 120),
            arbiter: address(0),
            device: keccak256("device"),
            spec: keccak256("spec")
        });
    }

    function amountOf(Quote memory q, uint256 elapsed) internal pure returns (uint256) {
        return uint256(q.rate) * elapsed / 1e6;
    }

    // ------------------------------------------------------------ signatures

    function domainOf(address verifier) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("gpulease"),
                keccak256("1"),
                block.chainid,
                verifier
            )
        );
    }

    function typed(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domainOf(address(escrow)), structHash));
    }

    function idOf(Quote memory q) internal view returns (bytes32) {
        bytes32 typehash = keccak256(
            "Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,uint96 minDeposit,uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)"
        );
        return typed(keccak256(abi.encode(typehash, q)));
    }

    function voucherDigest(Quote memory q, uint96 cumulative) internal view returns (bytes32) {
        return typed(keccak256(abi.encode(keccak256("Voucher(bytes32 id,uint96 cumulative)"), idOf(q), cumulative)));
    }

    function releaseDigest(Quote memory q, uint96 cumulative) internal view returns (bytes32) {
        return typed(keccak256(abi.encode(keccak256("Release(bytes32 id,uint96 cumulative)"), idOf(q), cumulative)));
    }

    function stopDigest(Quote memory q, uint32 reason) internal view returns (bytes32) {
        return typed(keccak256(abi.encode(keccak256("Stop(bytes32 id,uint32 reason)"), idOf(q), reason)));
    }

    function sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// The 64-byte form of ERC-2098.
    function signCompact(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, bytes32(uint256(s) | uint256(v - 27) << 255));
    }

    /// The other valid signature of the same message, which must not be taken.
    function signHigh(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
    }

    function quoteSig(Quote memory q) internal view returns (bytes memory) {
        return signCompact(PROVIDER_SECRET, idOf(q));
    }

    function voucher(Quote memory q, uint96 cumulative) internal view returns (bytes memory) {
        return signCompact(RENTER_SECRET, voucherDigest(q, cumulative));
    }

    function releaseSig(Quote memory q, uint96 cumulative) internal view returns (bytes memory) {
        return signCompact(PROVIDER_SECRET, releaseDigest(q, cumulative));
    }

    function stopSig(Quote memory q, uint32 reason) internal view returns (bytes memory) {
        return signCompact(RENTER_SECRET, stopDigest(q, reason));
    }

    // ------------------------------------------------------------ steps

    function open(Quote memory q, uint96 deposit) internal returns (bytes32) {
        bytes memory sig = quoteSig(q);
        vm.prank(q.renter);
        return escrow.open{value: q.token == address(0) ? deposit : 0}(q, deposit, sig);
    }

    function openDefault() internal returns (Quote memory q) {
        q = quote();
        open(q, DEPOSIT);
    }

    function pass(uint256 elapsed) internal {
        vm.warp(vm.getBlockTimestamp() + elapsed);
    }

    function timestamp() internal view returns (uint32) {
        return uint32(vm.getBlockTimestamp());
    }

    function close(Quote memory q, uint96 cumulative) internal {
        bytes memory sig = voucher(q, cumulative);
        vm.prank(q.provider);
        escrow.close(q, cumulative, sig);
    }

    function finalize(Quote memory q) internal {
        vm.prank(STRANGER);
        escrow.finalize(q);
    }

    // ------------------------------------------------------------ expectations

    function expect(bytes4 selector) internal {
        vm.expectRevert(abi.encodeWithSelector(selector));
    }

    function expectBadSignature(address expected) internal {
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.BadSignature.selector, expected));
    }

    function expectNotOpen(Quote memory q) internal {
        vm.expectRevert(abi.encodeWithSelector(IRentalEscrow.NotOpen.selector, idOf(q)));
    }

    function assertOpen(Quote memory q, uint96 deposit, uint96 claimed, uint256 start, uint256 stopAt) internal view {
        (uint96 d, uint96 c, uint32 s, uint32 t) = escrow.rentalOf(idOf(q));
        vm.assertEq(d, deposit, "deposit");
        vm.assertEq(c, claimed, "claimed");
        vm.assertEq(s, start, "start");
        vm.assertEq(t, stopAt, "stopAt");
    }

    function assertGone(Quote memory q) internal view {
        assertOpen(q, 0, 0, 0, 0);
    }

    function expectClosed(Quote memory q, uint96 paid, uint96 refunded, uint32 elapsed, uint8 kind) internal {
        vm.expectEmit(address(escrow));
        emit IRentalEscrow.Closed(idOf(q), q.provider, q.renter, paid, refunded, elapsed, kind);
    }

    function assertPaid(uint256 toProvider, uint256 toRenter) internal view {
        vm.assertEq(dollar.balanceOf(PROVIDER), toProvider, "provider");
        vm.assertEq(dollar.balanceOf(RENTER), 1_000_000_000 - DEPOSIT + toRenter, "renter");
        vm.assertEq(dollar.balanceOf(address(escrow)), DEPOSIT - toProvider - toRenter, "escrow");
    }
}
