// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IRentalEscrow, Quote} from "../../src/IRentalEscrow.sol";

/// ERC-792: one who decides disputes for a fee.
interface IArbitrator {
    function arbitrationCost(bytes calldata extraData) external view returns (uint256);
    function createDispute(uint256 choices, bytes calldata extraData) external payable returns (uint256 disputeId);
}

/// ERC-792: one who asks for a ruling and acts on it.
interface IArbitrable {
    event Ruling(IArbitrator indexed arbitrator, uint256 indexed disputeId, uint256 ruling);

    function rule(uint256 disputeId, uint256 ruling) external;
}

/// An example of what may stand behind `arbiter`: it turns the escrow's one call into the standard of existing courts, collects the fee
/// from the provider, who alone has anything to ask for (without a ruling the renter gets back what no voucher covers), and takes evidence as events (ERC-1497). The escrow knows nothing of it. A quote that names it as its arbiter has
/// chosen the court with it. A ruling that never comes changes nothing: `finalize` is open when the window is over.
contract CourtAdapter is IArbitrable {
    /// The dispute is about one number: which total the vouchers and acknowledgements outside the chain show.
    struct Dispute {
        Quote quote;
        uint96 demanded;
        bool ruled;
    }

    uint256 public constant CHOICES = 2;
    /// Refusing to rule, 0, and a ruling for the renter leave the provider what it claimed by vouchers.
    uint256 public constant FOR_RENTER = 1;
    uint256 public constant FOR_PROVIDER = 2;

    IRentalEscrow private immutable escrow;
    IArbitrator private immutable court;
    mapping(uint256 disputeId => Dispute) private disputes;
    mapping(bytes32 rentalId => bool) private disputed;

    event Evidence(IArbitrator indexed arbitrator, uint256 indexed evidenceGroupId, address indexed party, string evidence);
    event Disputed(IArbitrator indexed arbitrator, uint256 indexed disputeId, uint256 evidenceGroupId);

    error NotParty();
    error NotCourt();
    error NotStopping();
    error AlreadyDisputed();
    error FeeMissing(uint256 given, uint256 cost);

    constructor(IRentalEscrow escrow_, IArbitrator court_) {
        (escrow, court) = (escrow_, court_);
    }

    /// The provider of a stopping rental, once; it pays the court.
    function dispute(Quote calldata q, uint96 demanded) external payable returns (uint256 disputeId) {
        if (msg.sender != q.provider) revert NotParty();
        bytes32 id = escrow.idOf(q);
        (,, uint32 start, uint32 stopAt) = escrow.rentalOf(id);
        if (start == 0 || stopAt == 0 || q.arbiter != address(this)) revert NotStopping();
        if (disputed[id]) revert AlreadyDisputed();
        disputed[id] = true;
        uint256 cost = court.arbitrationCost("");
        if (msg.value != cost) revert FeeMissing(msg.value, cost);
        disputeId = court.createDispute{value: cost}(CHOICES, "");
        disputes[disputeId] = Dispute(q, demanded, false);
        emit Disputed(court, disputeId, uint256(id));
    }

    function submitEvidence(Quote calldata q, string calldata evidence) external {
        if (msg.sender != q.provider && msg.sender != q.renter) revert NotParty();
        emit Evidence(court, uint256(escrow.idOf(q)), msg.sender, evidence);
    }

    /// The court's ruling is kept; it is carried out by `execute`, since the escrow's window may not be half over yet.
    function rule(uint256 disputeId, uint256 ruling) external {
        if (msg.sender != address(court)) revert NotCourt();
        Dispute storage d = disputes[disputeId];
        if (ruling != FOR_PROVIDER) d.demanded = 0;
        d.ruled = true;
        emit Ruling(court, disputeId, ruling);
    }

    /// Anyone, once there is a ruling and the escrow's half window is over.
    function execute(uint256 disputeId) external {
        Dispute storage d = disputes[disputeId];
        if (!d.ruled) revert NotCourt();
        escrow.rule(d.quote, d.demanded);
    }
}

/// A court of one judge.
contract Judge is IArbitrator {
    uint256 public constant FEE = 1_000;
    uint256 private next;

    function arbitrationCost(bytes calldata) external pure returns (uint256) {
        return FEE;
    }

    function createDispute(uint256, bytes calldata) external payable returns (uint256 disputeId) {
        require(msg.value == FEE, "fee");
        return ++next;
    }

    function giveRuling(IArbitrable arbitrable, uint256 disputeId, uint256 ruling) external {
        arbitrable.rule(disputeId, ruling);
    }
}
