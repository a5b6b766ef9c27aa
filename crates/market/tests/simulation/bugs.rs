//! Bugs to plant, one at a time, into the programs around the state machines. Each must be found, or the simulator is blind to it.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The provider answers a voucher and then writes it.
    AckBeforeStore,
    /// The provider goes on for a voucher that it keeps in memory only.
    VoucherNotStored,
    /// The sandbox is frozen seconds after it should be.
    FreezeTooLate,
    /// The sandbox is not frozen at all.
    FreezeNever,
    /// A transaction that is slow is sent again under another nonce.
    NonceNotPinned,
    /// The purpose of a transaction is not on disk before it is sent.
    PurposeNotStored,
    /// A quote lapses by the provider's own clock.
    LapseByWallClock,
    /// A lower voucher replaces a higher one.
    AcceptLowerVoucher,
    /// Nobody looks at the signature of a voucher.
    AcceptUnsignedVoucher,
    /// The renter sends a voucher and then writes it.
    SendBeforeStore,
    /// The renter believes any start of the meter.
    TrustBackdatedReady,
    /// The renter goes on signing for a provider that it does not hear.
    SignThroughSilence,
    /// The renter takes any release for its own.
    TrustAnyRelease,
    /// The provider closes with the first voucher instead of the best.
    CloseWithFirstVoucher,
    /// What happens on chain counts before it is deep enough.
    TrustUnconfirmed,
    /// The end of a rental is not written down.
    NoReceipt,
    /// Nobody tells the provider that the chain went back.
    UndoneUnheard,
    /// A receipt stays when the chain takes back what it says.
    ReceiptKept,
}

/// All of them.
pub(crate) const BUGS: [Bug; 18] = [
    Bug::AckBeforeStore,
    Bug::VoucherNotStored,
    Bug::FreezeTooLate,
    Bug::FreezeNever,
    Bug::NonceNotPinned,
    Bug::PurposeNotStored,
    Bug::LapseByWallClock,
    Bug::AcceptLowerVoucher,
    Bug::AcceptUnsignedVoucher,
    Bug::SendBeforeStore,
    Bug::TrustBackdatedReady,
    Bug::SignThroughSilence,
    Bug::TrustAnyRelease,
    Bug::CloseWithFirstVoucher,
    Bug::TrustUnconfirmed,
    Bug::NoReceipt,
    Bug::UndoneUnheard,
    Bug::ReceiptKept,
];
