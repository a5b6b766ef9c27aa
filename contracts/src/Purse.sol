// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow} from "./IRentalEscrow.sol";
import {Money} from "./Money.sol";

/// Where money leaves the escrow: each payment is pushed if its payee takes it, and kept as a credit if not, so that nobody's failure is
/// another's; and the lock that keeps every payee and token from coming back in meanwhile.
abstract contract Purse is IRentalEscrow {
    /// What a payee of coin may burn: 30,000 with the 2,300 that the machine adds to every call with value. Enough for a Safe or a
    /// delegated account to receive, too little to do harm.
    uint256 private constant COIN_GAS = 30_000 - 2_300;
    /// What a token may burn on a payout. Proxied dollars with a blocklist take about 60,000, interest-bearing shares up to 150,000.
    uint256 private constant TOKEN_GAS = 200_000;
    /// What must be left before a payout leg on top of the callee's gas, of which the machine keeps a 64th back: the price of a call
    /// with value to a cold, empty account is 36,600. So the callee is sure to get all of its gas, and no caller can choose its own so
    /// that a leg fails and a payout turns into a credit. (Running out after the leg undoes the whole call, which harms nobody.)
    uint256 private constant CALL_GAS = 40_000;
    uint256 private constant COIN_FLOOR = COIN_GAS * 64 / 63 + CALL_GAS;
    uint256 private constant TOKEN_FLOOR = TOKEN_GAS * 64 / 63 + CALL_GAS;

    /// What could not be pushed to `account` and waits to be withdrawn.
    mapping(address token => mapping(address account => uint256 amount)) public credit;

    /// 1 while a state-changing call runs; gone with the transaction.
    uint256 private transient locked;

    modifier lock() {
        if (locked != 0) revert Reentered();
        locked = 1;
        _;
        locked = 0;
    }

    /// A payment that waits for more of the same, so that a batch pays each payee once.
    struct Leg {
        address token;
        address to;
        uint256 amount;
    }

    function withdraw(address token, address to) external lock returns (uint256 amount) {
        amount = credit[token][msg.sender];
        if (amount == 0) revert NoCredit();
        credit[token][msg.sender] = 0;
        emit Withdrawn(token, msg.sender, to, amount);
        // The caller's own gas and the caller's own choice of receiver: no cap, and a failure undoes it all. Tokens sent to the escrow
        // itself would belong to nobody.
        if (to == address(this) || !_push(token, to, amount, gasleft())) revert TransferMismatch(amount, 0);
    }

    /// Adds to what waits for this payee; what waits for another is paid first.
    function _gather(Leg memory leg, address token, address to, uint256 amount) internal {
        if (leg.to != to || leg.token != token) {
            _pay(leg.token, leg.to, leg.amount);
            (leg.token, leg.to, leg.amount) = (token, to, amount);
        } else {
            unchecked {
                // Each is less than 2^96, and there are fewer than 2^64.
                leg.amount += amount;
            }
        }
    }

    /// One payout leg: pushed if the payee takes it, else credited. Never reverts for anything the payee or the token does.
    function _pay(address token, address to, uint256 amount) internal {
        if (amount == 0) return;
        bool coin = token == address(0);
        if (gasleft() < (coin ? COIN_FLOOR : TOKEN_FLOOR)) revert GasTooLow();
        if (!_push(token, to, amount, coin ? COIN_GAS : TOKEN_GAS)) {
            credit[token][to] += amount;
            emit Credited(token, to, amount);
        }
    }

    function _push(address token, address to, uint256 amount, uint256 gasCap) private returns (bool) {
        return token == address(0) ? Money.pushCoin(to, amount, gasCap) : Money.pushTokens(token, to, amount, gasCap);
    }
}
