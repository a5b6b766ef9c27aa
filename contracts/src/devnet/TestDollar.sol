// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

interface IERC1271 {
    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4);
}

/// A dollar for devnets and tests that anyone may mint: an ERC-20 of 6 decimals with what the widespread dollars have, permits (ERC-2612) and
/// authorisations (ERC-3009, in both signature forms, for plain keys and for smart accounts). Worth nothing, by design; never deploy it where
/// people pay with real money.
contract TestDollar {
    string public constant name = "Test Dollar";
    string public constant symbol = "tUSD";
    string public constant version = "1";
    uint8 public constant decimals = 6;

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant NAME_HASH = keccak256("Test Dollar");
    bytes32 private constant VERSION_HASH = keccak256("1");
    bytes32 private constant PERMIT_TYPEHASH =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    bytes32 private constant TRANSFER_TYPEHASH =
        keccak256("TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)");
    bytes32 private constant RECEIVE_TYPEHASH =
        keccak256("ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)");

    uint256 public totalSupply;
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;
    /// The next permit's number.
    mapping(address owner => uint256) public nonces;
    /// Whether an authorisation was used.
    mapping(address authorizer => mapping(bytes32 nonce => bool)) public authorizationState;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    error InsufficientBalance(address account, uint256 balance, uint256 needed);
    error InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
    error InvalidReceiver(address receiver);
    error InvalidSignature(address signer);
    error NotValidNow(uint256 validAfter, uint256 validBefore);
    error AuthorizationUsedBefore(address authorizer, bytes32 nonce);
    error CallerMustBeReceiver(address caller, address receiver);

    function mint(address to, uint256 value) external {
        if (to == address(0)) revert InvalidReceiver(to);
        totalSupply += value;
        unchecked {
            // No balance exceeds the supply.
            balanceOf[to] += value;
        }
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        _approve(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        // The largest allowance means without limit, as wallets expect.
        if (allowed != type(uint256).max) {
            if (allowed < value) revert InsufficientAllowance(msg.sender, allowed, value);
            unchecked {
                allowance[from][msg.sender] = allowed - value;
            }
        }
        _move(from, to, value);
        return true;
    }

    // ---------------------------------------------------------------- by signature

    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        if (block.timestamp > deadline) revert NotValidNow(0, deadline);
        bytes32 structHash = keccak256(abi.encode(PERMIT_TYPEHASH, owner, spender, value, nonces[owner]++, deadline));
        _verify(owner, structHash, v, r, s);
        _approve(owner, spender, value);
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        _verify(from, _use(TRANSFER_TYPEHASH, from, to, value, validAfter, validBefore, nonce), v, r, s);
        _move(from, to, value);
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        _verify(from, _use(TRANSFER_TYPEHASH, from, to, value, validAfter, validBefore, nonce), signature);
        _move(from, to, value);
    }

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
    ) external {
        if (msg.sender != to) revert CallerMustBeReceiver(msg.sender, to);
        _verify(from, _use(RECEIVE_TYPEHASH, from, to, value, validAfter, validBefore, nonce), v, r, s);
        _move(from, to, value);
    }

    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        if (msg.sender != to) revert CallerMustBeReceiver(msg.sender, to);
        _verify(from, _use(RECEIVE_TYPEHASH, from, to, value, validAfter, validBefore, nonce), signature);
        _move(from, to, value);
    }

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, block.chainid, address(this)));
    }

    // ---------------------------------------------------------------- inside

    /// Marks an authorisation as used and tells what its owner must have signed.
    function _use(bytes32 typehash, address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce)
        private
        returns (bytes32 structHash)
    {
        if (block.timestamp <= validAfter || block.timestamp >= validBefore) revert NotValidNow(validAfter, validBefore);
        mapping(bytes32 nonce => bool) storage used = authorizationState[from];
        if (used[nonce]) revert AuthorizationUsedBefore(from, nonce);
        used[nonce] = true;
        emit AuthorizationUsed(from, nonce);
        return keccak256(abi.encode(typehash, from, to, value, validAfter, validBefore, nonce));
    }

    function _verify(address signer, bytes32 structHash, uint8 v, bytes32 r, bytes32 s) private view {
        bytes32 digest = _digest(structHash);
        if (!_recovers(signer, digest, v, r, s)) _ask(signer, digest, abi.encodePacked(r, s, v));
    }

    function _verify(address signer, bytes32 structHash, bytes calldata signature) private view {
        bytes32 digest = _digest(structHash);
        if (signature.length != 65 || !_recovers(signer, digest, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64])))
        {
            _ask(signer, digest, signature);
        }
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", DOMAIN_SEPARATOR(), structHash));
    }

    /// A plain key comes first, so that a key with delegated code (EIP-7702) may sign too ...
    function _recovers(address signer, bytes32 digest, uint8 v, bytes32 r, bytes32 s) private pure returns (bool) {
        address recovered = ecrecover(digest, v, r, s);
        return recovered != address(0) && recovered == signer;
    }

    /// ... then the account itself is asked.
    function _ask(address signer, bytes32 digest, bytes memory signature) private view {
        (bool ok, bytes memory answer) = signer.staticcall(abi.encodeCall(IERC1271.isValidSignature, (digest, signature)));
        if (!ok || answer.length != 32 || bytes4(answer) != IERC1271.isValidSignature.selector) revert InvalidSignature(signer);
    }

    function _approve(address owner, address spender, uint256 value) private {
        allowance[owner][spender] = value;
        emit Approval(owner, spender, value);
    }

    function _move(address from, address to, uint256 value) private {
        if (to == address(0)) revert InvalidReceiver(to);
        uint256 balance = balanceOf[from];
        if (balance < value) revert InsufficientBalance(from, balance, value);
        unchecked {
            balanceOf[from] = balance - value;
            balanceOf[to] += value;
        }
        emit Transfer(from, to, value);
    }
}
