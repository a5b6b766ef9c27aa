// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../../src/IRentalEscrow.sol";
import {Token} from "../support/EscrowTest.sol";
import {FundingTest} from "../support/FundingTest.sol";
import {vm, Vm} from "../support/Test.sol";
import {HookToken, OddReceiver, OddToken, SilentToken} from "../support/Tokens.sol";

/// The stage and the books: who takes part, with which tokens, and two accounts of every rental that are kept beside the escrow's own. One
/// counts money that was seen moving, the other believes nothing but events.
abstract contract Market is FundingTest {
    enum State {
        Fresh,
        Open,
        Closed
    }

    enum Way {
        Allowance,
        Permit,
        Authorization,
        Permit2
    }

    struct Rental {
        Quote quote;
        bytes32 id;
        State state;
        Way way;
        uint96 deposit;
        uint32 start;
        uint32 stopAt;
        /// The highest total that the session key, both sides in a release, or the arbiter ever signed.
        uint96 signed;
        /// What reached the provider and the renter, in hand or as credit.
        uint256 paid;
        uint256 refunded;
        /// The last second that the meter could count.
        uint256 counted;
        /// Whether the close came while the quote could still be opened.
        bool closedInTime;
    }

    /// A rental as its events tell it.
    struct Told {
        uint256 openings;
        bool open;
        uint256 deposit;
        uint256 claimed;
        uint256 stopAt;
        uint256 paid;
        uint256 refunded;
    }

    /// Enough for rentals of every token in every state to stand side by side, few enough to be looked at after every call.
    uint256 internal constant MOST_RENTALS = 10;
    uint256 internal constant PROVIDERS = 2;
    uint256 internal constant RENTERS = 3;
    uint256 internal constant PARTIES = PROVIDERS + RENTERS;
    uint256 public constant TOKENS = 3;
    uint256 internal constant RICHES = 1e30;
    address public constant ARBITER = 0x1111111111111111111111111111111111111105;
    address public constant HEIR = 0x1111111111111111111111111111111111111106;

    Rental[] internal rentals;
    mapping(bytes32 id => Told) internal told;
    mapping(address token => mapping(address account => uint256)) public creditTold;

    /// Coin, a plain dollar, and one that returns nothing and blocks accounts.
    address[TOKENS] public tokens;
    SilentToken internal silent;
    /// Tokens that keep no promise. Their own users may lose; nobody else.
    OddToken internal odd;
    HookToken internal hooked;

    /// The last renter is a plain key, which signs openings; the others are contracts that take coin in odd ways.
    address[PARTIES] internal parties;
    /// Money sent to the escrow for nothing, which it must neither count nor pay out.
    mapping(address token => uint256) public donated;
    /// What strangers put in as top-ups.
    mapping(address token => uint256) public given;
    /// All there is of each token.
    mapping(address token => uint256) public supply;

    constructor() {
        setUp();
        silent = new SilentToken();
        odd = new OddToken();
        hooked = new HookToken();
        tokens = [address(0), address(dollar), address(silent)];
        for (uint256 i; i < PARTIES; ++i) {
            parties[i] = i == PARTIES - 1 ? wallet : address(new OddReceiver(OddReceiver.Mode.Accepts));
            // Providers start with nothing.
            if (i >= PROVIDERS) enrich(parties[i]);
        }
        enrich(STRANGER);
        odd.mint(wallet, RICHES);
        hooked.mint(wallet, RICHES);
        supply[address(dollar)] += dollar.balanceOf(RENTER) + 1_000_000_000;
        vm.prank(RENTER);
        dollar.approve(address(escrow), 0);
        approvePermit2(wallet);
    }

    function enrich(address account) private {
        for (uint256 j; j < TOKENS; ++j) {
            supply[tokens[j]] += RICHES;
            if (j == 0) {
                vm.deal(account, RICHES);
                continue;
            }
            Token(tokens[j]).mint(account, RICHES);
            // The plain key allows what it must, and no more, each time.
            if (account == wallet) continue;
            vm.prank(account);
            Token(tokens[j]).approve(address(escrow), type(uint256).max);
        }
    }

    // ------------------------------------------------------------ what the rules look at

    function allRentals() external view returns (Rental[] memory) {
        return rentals;
    }

    function toldOf(bytes32 id) external view returns (Told memory) {
        return told[id];
    }

    function contracts() external view returns (IRentalEscrow, Token) {
        return (escrow, dollar);
    }

    function payer() external view returns (address) {
        return wallet;
    }

    function partyAt(uint256 i) public view returns (address) {
        return parties[i % PARTIES];
    }

    function partyCount() external pure returns (uint256) {
        return PARTIES;
    }

    function balance(address token, address account) public view returns (uint256) {
        return token == address(0) ? account.balance : Token(token).balanceOf(account);
    }

    function meteredOf(uint256 i) external view returns (uint256) {
        return amountOf(rentals[i].quote, rentals[i].counted - rentals[i].start);
    }

    function dueAt(uint256 i, uint96 cumulative) external view returns (uint256) {
        return dueOf(rentals[i], cumulative);
    }

    // ------------------------------------------------------------ the model

    function find(uint256 pick, State state) internal view returns (bool found, Rental storage rental) {
        rental = rentals.length == 0 ? none() : rentals[0];
        for (uint256 i; i < rentals.length; ++i) {
            rental = rentals[(pick % rentals.length + i) % rentals.length];
            if (rental.state == state) return (true, rental);
        }
    }

    function none() internal pure returns (Rental storage rental) {
        assembly ("memory-safe") {
            rental.slot := 0
        }
    }

    /// Half of all totals lie within the deposit, where they matter most.
    function near(Rental storage rental, uint96 cumulative) internal view returns (uint96) {
        return cumulative & 1 == 0 ? uint96(bound(cumulative, 0, rental.deposit)) : cumulative;
    }

    function note(Rental storage rental, uint96 cumulative) internal {
        if (cumulative > rental.signed) rental.signed = cumulative;
        rental.counted = meterEnd(rental);
    }

    function meterEnd(Rental storage rental) internal view returns (uint256) {
        uint256 term = uint256(rental.start) + rental.quote.maxSeconds;
        uint256 until = rental.stopAt != 0 ? rental.stopAt : timestamp();
        return until < term ? until : term;
    }

    function finalAt(Rental storage rental) internal view returns (uint256) {
        uint256 term = uint256(rental.start) + rental.quote.maxSeconds;
        return (rental.stopAt != 0 && rental.stopAt < term ? rental.stopAt : term) + rental.quote.window;
    }

    function dueOf(Rental storage rental, uint96 cumulative) internal view returns (uint256 owed) {
        owed = amountOf(rental.quote, meterEnd(rental) - rental.start);
        if (owed > cumulative) owed = cumulative;
        if (owed > rental.deposit) owed = rental.deposit;
        if (owed < rental.paid) owed = rental.paid;
    }

    function roomOf(Rental storage rental) internal view returns (uint256) {
        return amountOf(rental.quote, rental.quote.maxSeconds) - rental.deposit;
    }

    /// What an account has, in hand or waiting for it.
    function holdings(address token, address account) internal view returns (uint256) {
        return balance(token, account) + escrow.credit(token, account);
    }

    function markClosed(Rental storage rental) internal {
        rental.state = State.Closed;
        rental.closedInTime = timestamp() <= rental.quote.expiry;
    }

    function settle(Rental storage rental, address caller, uint96 cumulative, bytes memory data) internal {
        Quote memory q = rental.quote;
        uint256 owed = dueOf(rental, cumulative);
        note(rental, cumulative);
        uint256 provider = holdings(q.token, q.provider);
        uint256 renter = holdings(q.token, q.renter);
        accepted(caller, 0, data);
        rental.paid += holdings(q.token, q.provider) - provider;
        rental.refunded += holdings(q.token, q.renter) - renter;
        markClosed(rental);
        vm.assertEq(rental.paid, owed, "a close pays what is due");
    }

    // ------------------------------------------------------------ calls

    function accepted(address caller, uint256 value, bytes memory data) internal {
        vm.recordLogs();
        vm.prank(caller);
        (bool ok, bytes memory answer) = address(escrow).call{value: value}(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        believe(vm.getRecordedLogs());
    }

    function refused(address caller, bytes memory data) internal {
        vm.prank(caller);
        (bool ok,) = address(escrow).call(data);
        vm.assertFalse(ok);
    }

    function believe(Vm.Log[] memory logs) private {
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != address(escrow)) continue;
            bytes32 topic = logs[i].topics[0];
            bytes32 first = logs[i].topics[1];
            bytes memory data = logs[i].data;
            if (topic == IRentalEscrow.Credited.selector) {
                creditTold[toAddress(first)][toAddress(logs[i].topics[2])] += word(data, 0);
            } else if (topic == IRentalEscrow.Withdrawn.selector) {
                creditTold[toAddress(first)][toAddress(logs[i].topics[2])] -= word(data, 1);
            } else if (topic == IRentalEscrow.Opened.selector) {
                (told[first].open, told[first].deposit) = (true, word(data, 11));
                ++told[first].openings;
            } else if (topic == IRentalEscrow.ToppedUp.selector) {
                told[first].deposit = word(data, 0);
            } else if (topic == IRentalEscrow.Claimed.selector) {
                vm.assertLe(told[first].claimed + 1, word(data, 0), "claims only grow");
                told[first].claimed = word(data, 0);
            } else if (topic == IRentalEscrow.Stopping.selector) {
                vm.assertEq(told[first].stopAt, 0, "a stop stands");
                told[first].stopAt = word(data, 0);
            } else {
                vm.assertEq(topic, IRentalEscrow.Closed.selector);
                (told[first].open, told[first].paid, told[first].refunded) = (false, word(data, 0), word(data, 1));
            }
        }
    }

    function toAddress(bytes32 topic) private pure returns (address) {
        return address(uint160(uint256(topic)));
    }

    function word(bytes memory data, uint256 i) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := mload(add(add(data, 0x20), mul(i, 0x20)))
        }
    }
}
