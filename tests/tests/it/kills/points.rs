//! Where each process is killed. A point is `who.what.how far`, as `store::crash_point` has it in the code, with the passing that is meant
//! if it is not the first; a moment is something that `node run` says. A point that is never reached fails its test.

/// What becomes of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ends well, with all its output.
    Done,
    /// Nothing was rented yet, and nothing is.
    NothingRented,
    /// Either of the two, as it comes.
    Either,
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// It kills itself at this line.
    Line(&'static str),
    /// It is killed from outside just before the run begins.
    Before,
    /// It is killed from outside when `node run` has said this, of its own or for the program.
    Said(&'static str),
}

use At::{Before, Line, Said};
use Outcome::{Done, Either, NothingRented};

/// One death.
pub(crate) type Death = (At, Outcome);

/// The provider: from the quote to the receipt.
pub(crate) const PROVIDER: &[Death] = &[
    (Line("provider.quote.signed"), Either),
    (Line("provider.quote.written"), Either),
    (Line("provider.quote.sent"), Either),
    (Line("provider.block_time.acted"), Done),
    (Line("provider.opened.stepped"), Done),
    (Line("provider.opened.written"), Done),
    (Line("provider.opened.acted"), Done),
    // these come by the chain's blocks, on a busy machine also while the quote is asked for
    (Line("provider.cursor.advancing:5"), Either),
    (Line("provider.cursor.advanced:8"), Either),
    (Line("provider.sandbox.creating"), Done),
    (Line("provider.sandbox.created"), Done),
    (Line("provider.sandbox_ready.stepped"), Done),
    (Line("provider.sandbox_ready.written"), Done),
    (Line("provider.sandbox_ready.acted"), Done),
    (Line("provider.tick.acted:10"), Done),
    (Line("provider.voucher.stepped"), Done),
    (Line("provider.voucher.written"), Done),
    (Line("provider.voucher.acted"), Done),
    (Line("provider.finish.stepped"), Done),
    (Line("provider.finish.written"), Done),
    (Line("provider.finish.acted"), Done),
    (Line("provider.sandbox.destroying"), Done),
    (Line("provider.sandbox.destroyed"), Done),
    (Line("sender.close.signed"), Done),
    (Line("sender.close.saved"), Done),
    (Line("sender.close.broadcast"), Done),
    (Line("sender.close.mined"), Done),
    (Line("sender.close.settled"), Done),
    (Line("provider.closed.stepped"), Done),
    (Line("provider.closed.written"), Done),
    (Line("provider.closed.acted"), Done),
    (Line("provider.receipt.writing"), Done),
    (Line("provider.receipt.written"), Done),
];

/// The renter: from the quote it accepts to the receipt.
pub(crate) const RENTER: &[Death] = &[
    (Line("renter.quote.accepted"), NothingRented),
    (Line("renter.quote.written"), Done),
    (Line("sender.approve.signed"), Done),
    (Line("sender.approve.saved"), Done),
    (Line("sender.approve.broadcast"), Done),
    (Line("sender.approve.mined"), Done),
    (Line("sender.approve.settled"), Done),
    (Line("sender.open.signed"), Done),
    (Line("sender.open.saved"), Done),
    (Line("sender.open.broadcast"), Done),
    (Line("sender.open.mined"), Done),
    (Line("sender.open.settled"), Done),
    (Line("renter.opened.stepped"), Done),
    (Line("renter.opened.written"), Done),
    (Line("renter.opened.acted"), Done),
    (Line("renter.cursor.advancing:6"), Either),
    (Line("renter.cursor.advanced:9"), Either),
    (Line("renter.ready.stepped"), Done),
    (Line("renter.ready.written"), Done),
    (Line("renter.ready.acted"), Done),
    (Line("renter.signed.stepped"), Done),
    (Line("renter.signed.written"), Done),
    (Line("renter.signed.acted"), Done),
    (Line("renter.acked.stepped"), Done),
    (Line("renter.acked.written"), Done),
    (Line("renter.input.sent"), Done),
    (Line("renter.input.remembered"), Done),
    (Line("renter.job.started"), Done),
    (Line("renter.output.passed"), Done),
    (Line("renter.output.passed:3"), Done),
    (Line("renter.job.ended"), Done),
    (Line("renter.job.remembered"), Done),
    (Line("renter.outputs.fetched"), Done),
    (Line("renter.outputs.remembered"), Done),
    (Line("renter.finish.stepped"), Done),
    (Line("renter.finish.written"), Done),
    (Line("renter.finish.acted"), Done),
    (Line("renter.released.stepped"), Done),
    (Line("renter.released.written"), Done),
    (Line("renter.closed.stepped"), Done),
    (Line("renter.closed.written"), Done),
    (Line("renter.receipt.writing"), Done),
    (Line("renter.receipt.written"), Done),
];

/// The indexer: while advertisements arrive, while it starts, and through a rental that it has no part in.
pub(crate) const INDEXER: &[Death] = &[
    (Line("indexer.ad.arrived"), Done),
    (Line("indexer.ad.arrived:2"), Done),
    (Line("indexer.ad.arrived:3"), Done),
    (Line("indexer.ad.written"), Done),
    (Line("indexer.ad.written:2"), Done),
    (Line("indexer.ad.written:3"), Done),
    (Line("indexer.book.read"), Done),
    (Line("indexer.book.loaded"), Done),
    (Line("indexer.history.read:3"), Done),
    (Line("indexer.history.written:5"), Done),
    (Before, Done),
    (Said("matched"), Done),
    (Said("quoted"), Done),
    (Said("opening"), Done),
    (Said("opened"), Done),
    (Said("ready"), Done),
    (Said("started"), Done),
    (Said("line 1"), Done),
    (Said("line 3"), Done),
    (Said("ended"), Done),
    (Said("fetched"), Done),
    (Said("settling"), Done),
];

/// The chain's endpoint: before a question is passed on, and with the answer in its hands.
pub(crate) const ENDPOINT: &[Death] = &[
    (Before, Either),
    (Line("rpc.eth_getBlockByNumber.asked:9"), Either),
    (Line("rpc.eth_getBlockByNumber.answered:14"), Either),
    (Line("rpc.eth_getBalance.asked"), Either),
    (Line("rpc.eth_getBalance.answered:2"), Either),
    (Line("rpc.eth_call.asked"), Either),
    (Line("rpc.eth_call.answered:3"), Either),
    (Line("rpc.eth_estimateGas.asked"), Done),
    (Line("rpc.eth_estimateGas.answered:2"), Done),
    (Line("rpc.eth_feeHistory.asked:2"), Done),
    (Line("rpc.eth_feeHistory.answered:3"), Done),
    (Line("rpc.eth_getTransactionCount.asked"), Done),
    (Line("rpc.eth_getTransactionCount.answered:2"), Done),
    (Line("rpc.eth_sendRawTransaction.asked"), Done),
    (Line("rpc.eth_sendRawTransaction.answered"), Done),
    (Line("rpc.eth_sendRawTransaction.asked:2"), Done),
    (Line("rpc.eth_sendRawTransaction.answered:2"), Done),
    (Line("rpc.eth_sendRawTransaction.asked:3"), Done),
    (Line("rpc.eth_sendRawTransaction.answered:3"), Done),
    (Line("rpc.eth_getTransactionReceipt.asked"), Done),
    (Line("rpc.eth_getTransactionReceipt.answered:2"), Done),
    (Line("rpc.eth_getLogs.asked"), Done),
    (Line("rpc.eth_getLogs.answered:4"), Done),
    (Said("ready"), Done),
    (Said("line 2"), Done),
    (Said("settling"), Done),
];
