// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Quote} from "../../src/IRentalEscrow.sol";
import {EscrowTest} from "./EscrowTest.sol";
import {vm} from "./Test.sol";

interface Domained {
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}

interface Authorizing is Domained {
    function nonces(address owner) external view returns (uint256);
    function allowance(address owner, address spender) external view returns (uint256);
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
}

/// A renter that signs instead of calling: permits, authorisations and Permit2, of which the code is that of the main network.
abstract contract FundingTest is EscrowTest {
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;
    string internal constant QUOTE_TYPE =
        "Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,uint96 minDeposit,uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)";

    uint256 internal constant WALLET_SECRET = 0xCA5E;
    /// A renter that is a plain key.
    address internal immutable wallet = vm.addr(WALLET_SECRET);

    function setUp() public virtual override {
        super.setUp();
        dollar.mint(wallet, 1_000_000_000);
        vm.etch(PERMIT2, permit2Code());
    }

    /// From the package whose helper puts it on test chains: hex digits between the first pair of quotes after `hex`.
    function permit2Code() private view returns (bytes memory) {
        bytes memory source = bytes(vm.readFile("node_modules/@uniswap/v4-periphery/lib/permit2/test/utils/DeployPermit2.sol"));
        uint256 from = vm.indexOf(string(source), 'hex"') + 4;
        uint256 length;
        while (source[from + length] != '"') ++length;
        bytes memory digits = new bytes(length + 2);
        (digits[0], digits[1]) = ("0", "x");
        for (uint256 i; i < length; ++i) {
            digits[i + 2] = source[from + i];
        }
        return vm.parseBytes(string(digits));
    }

    /// A quote for the renter that is a plain key.
    function walletQuote() internal view returns (Quote memory q) {
        q = quote();
        q.renter = wallet;
    }

    // ------------------------------------------------------------ ERC-2612

    function permitDigest(address owner, uint256 value, uint256 deadline) internal view returns (bytes32) {
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        Authorizing token = Authorizing(address(dollar));
        return typedIn(address(dollar), keccak256(abi.encode(typehash, owner, address(escrow), value, token.nonces(owner), deadline)));
    }

    function openWithPermit(Quote memory q, uint96 deposit) internal returns (bytes32) {
        bytes memory sig = quoteSig(q);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WALLET_SECRET, permitDigest(q.renter, deposit, q.expiry));
        vm.prank(q.renter);
        return escrow.openWithPermit(q, deposit, sig, q.expiry, v, r, s);
    }

    // ------------------------------------------------------------ ERC-3009

    function authorizationDigest(address token, address from, uint256 value, uint256 validBefore, bytes32 nonce)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        return typedIn(token, keccak256(abi.encode(typehash, from, address(escrow), value, uint256(0), validBefore, nonce)));
    }

    function authorization(uint256 secret, Quote memory q, uint96 deposit) internal view returns (bytes memory) {
        return sign(secret, authorizationDigest(q.token, q.renter, deposit, uint256(q.expiry) + 1, idOf(q)));
    }

    function topUpNonce(Quote memory q, bytes32 salt) internal view returns (bytes32) {
        return keccak256(abi.encode(idOf(q), salt));
    }

    function topUpAuthorization(uint256 secret, Quote memory q, uint96 amount, bytes32 salt, uint256 validBefore)
        internal
        view
        returns (bytes memory)
    {
        return sign(secret, authorizationDigest(q.token, q.renter, amount, validBefore, topUpNonce(q, salt)));
    }

    function openWithAuthorization(Quote memory q, uint96 deposit) internal returns (bytes32) {
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = authorization(WALLET_SECRET, q, deposit);
        vm.prank(STRANGER);
        return escrow.openWithAuthorization(q, deposit, sig, renterSig);
    }

    // ------------------------------------------------------------ Permit2

    function permit2Digest(Quote memory q, uint96 deposit, uint256 nonce, uint256 deadline) internal view returns (bytes32) {
        bytes32 typehash = keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Quote witness)",
                QUOTE_TYPE,
                "TokenPermissions(address token,uint256 amount)"
            )
        );
        bytes32 permitted = keccak256(abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), q.token, uint256(deposit)));
        bytes32 witness = keccak256(abi.encode(keccak256(bytes(QUOTE_TYPE)), q));
        return typedIn(PERMIT2, keccak256(abi.encode(typehash, permitted, address(escrow), nonce, deadline, witness)));
    }

    function permit2Sig(uint256 secret, Quote memory q, uint96 deposit, uint256 nonce) internal view returns (bytes memory) {
        return signCompact(secret, permit2Digest(q, deposit, nonce, q.expiry));
    }

    function approvePermit2(address owner) internal {
        vm.prank(owner);
        dollar.approve(PERMIT2, type(uint256).max);
    }

    function openWithPermit2(Quote memory q, uint96 deposit, uint256 nonce) internal returns (bytes32) {
        bytes memory sig = quoteSig(q);
        bytes memory renterSig = permit2Sig(WALLET_SECRET, q, deposit, nonce);
        vm.prank(STRANGER);
        return escrow.openWithPermit2(q, deposit, sig, nonce, q.expiry, renterSig);
    }

    // ------------------------------------------------------------ either

    function typedIn(address verifier, bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", Domained(verifier).DOMAIN_SEPARATOR(), structHash));
    }
}
