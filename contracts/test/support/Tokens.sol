// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// Tokens and payees that misbehave in the ways real ones have, one fault each.

/// Returns nothing from transfers and refuses blocked accounts, as the largest dollar does.
contract SilentToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address account => bool) public blocked;

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function approve(address, uint256) external {}

    function setBlocked(address account, bool value) external {
        blocked[account] = value;
    }

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private {
        require(!blocked[from] && !blocked[to], "blocked");
        balanceOf[from] -= value;
        balanceOf[to] += value;
    }
}

/// Asked for a balance it burns a hundred thousand gas, as one may that has to ask others in turn.
contract DearToken {
    mapping(address account => uint256) private amounts;

    function mint(address to, uint256 value) external {
        amounts[to] += value;
    }

    function approve(address, uint256) external {}

    function balanceOf(address account) external view returns (uint256) {
        uint256 until = gasleft() - 100_000;
        while (gasleft() > until) {}
        return amounts[account];
    }

    function transfer(address to, uint256 value) external {
        amounts[msg.sender] -= value;
        amounts[to] += value;
    }

    function transferFrom(address from, address to, uint256 value) external {
        amounts[from] -= value;
        amounts[to] += value;
    }
}

/// Does one odd thing on every transfer, from the moment it is told to.
contract OddToken {
    enum Mode {
        Honest,
        TakesFee,
        AddsBonus,
        MovesNothing,
        ReturnsFalse,
        ReturnsTwo,
        ReturnsZeroByte,
        Reverts,
        RevertsWithBomb,
        ReturnsBomb,
        BurnsAllGas,
        /// Refuses, and hands the rest back, unless it was given nearly all that a token is promised.
        WantsItsGas
    }

    mapping(address account => uint256) public balanceOf;
    Mode public mode;

    function setMode(Mode value) external {
        mode = value;
    }

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function approve(address, uint256) external {}

    function transfer(address to, uint256 value) external returns (uint256) {
        return _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external returns (uint256) {
        return _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private returns (uint256) {
        if (mode == Mode.WantsItsGas) require(gasleft() > 195_000);
        if (mode == Mode.Reverts) revert("no");
        if (mode == Mode.RevertsWithBomb) {
            assembly ("memory-safe") {
                revert(0, 100000)
            }
        }
        if (mode == Mode.BurnsAllGas) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (mode == Mode.ReturnsFalse) return 0;
        if (mode == Mode.MovesNothing) return 1;
        balanceOf[from] -= value;
        balanceOf[to] += mode == Mode.TakesFee ? value - value / 100 : mode == Mode.AddsBonus ? value + 1 : value;
        if (mode == Mode.ReturnsTwo) return 2;
        if (mode == Mode.ReturnsZeroByte) {
            assembly ("memory-safe") {
                return(0x60, 1)
            }
        }
        if (mode == Mode.ReturnsBomb) {
            assembly ("memory-safe") {
                mstore(0, 1)
                return(0, 100000)
            }
        }
        return 1;
    }
}

/// Calls back into somewhere during each transfer, as tokens with hooks do, and remembers what came of it.
contract HookToken {
    mapping(address account => uint256) public balanceOf;
    address private target;
    bytes private data;
    bool public called;
    bool public succeeded;
    bytes4 public answer;

    function setHook(address target_, bytes calldata data_) external {
        (target, data, called) = (target_, data_, false);
    }

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function approve(address, uint256) external {}

    function transfer(address to, uint256 value) external returns (bool) {
        return _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        return _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private returns (bool) {
        if (target != address(0)) {
            bytes memory result;
            (succeeded, result) = target.call(data);
            (called, answer) = (true, bytes4(result));
        }
        balanceOf[from] -= value;
        balanceOf[to] += value;
        return true;
    }
}

/// A payee of coin that does one odd thing when it is paid.
contract OddReceiver {
    enum Mode {
        Accepts,
        Reverts,
        RevertsWithBomb,
        BurnsAllGas,
        /// About 22,400 gas: what a payee is promised, if little of it.
        WritesOneSlot,
        /// Two slots: more than the promise.
        WritesTwoSlots,
        /// Refuses, and hands the rest back, unless it was given nearly all that a payee is promised.
        WantsItsGas,
        /// Accepts only if its call back into the escrow was refused as a reentrance.
        Reenters
    }

    Mode public mode;
    uint256 private first;
    uint256 private second;

    constructor(Mode mode_) {
        mode = mode_;
    }

    function setMode(Mode value) external {
        mode = value;
    }

    receive() external payable {
        uint256 given = gasleft();
        if (mode == Mode.WantsItsGas) require(given > 29_500);
        if (mode == Mode.Reverts) revert("no");
        if (mode == Mode.RevertsWithBomb) {
            assembly ("memory-safe") {
                revert(0, 20000)
            }
        }
        if (mode == Mode.BurnsAllGas) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (mode == Mode.WritesOneSlot || mode == Mode.WritesTwoSlots) first = block.timestamp;
        if (mode == Mode.WritesTwoSlots) second = block.timestamp;
        if (mode == Mode.Reenters) {
            (bool ok, bytes memory result) =
                msg.sender.call(abi.encodeWithSignature("withdraw(address,address)", address(0), address(this)));
            require(!ok && bytes4(result) == bytes4(keccak256("Reentered()")));
        }
    }
}
