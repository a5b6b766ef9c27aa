//! The description of what the page may ask for, from which the types in `crates/api/web/src/shared/schema.d.ts` are generated. A test holds
//! the copy beside the page's sources against it.

use super::{
    SessionRequest, SessionStarted, files, rentals, terminal,
    transfer::{self, UploadState},
    usage::{self, GpuSample, UsagePage, UsageSample},
};
use crate::types::{
    ApiError, Balance, ErrorKind, NodeInfo, Receipt, RentalRow, RentalStory, Role, StoryStep, WalletView,
};
use utoipa::OpenApi;

/// The description of the console's requests.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "gpulease web console", description = "What the console's page asks of the renter's daemon."),
    paths(
        super::start_session,
        rentals::node,
        rentals::wallets,
        rentals::list,
        rentals::story,
        rentals::stop,
        usage::usage,
        terminal::list,
        terminal::open,
        terminal::close,
        files::list,
        files::make_folder,
        files::rename,
        files::remove,
        transfer::upload_state,
        transfer::upload,
        transfer::download
    ),
    components(schemas(
        ApiError,
        Balance,
        ErrorKind,
        GpuSample,
        NodeInfo,
        Receipt,
        RentalRow,
        RentalStory,
        Role,
        SessionRequest,
        SessionStarted,
        StoryStep,
        UploadState,
        UsagePage,
        UsageSample,
        WalletView,
        files::At,
        files::EntryKind,
        files::Folder,
        files::FolderEntry,
        files::Rename,
        terminal::OpenTerminal,
        terminal::TerminalRow
    ))
)]
struct Description;

#[cfg(test)]
mod tests {
    #[test]
    fn the_copy_that_the_page_is_typed_by_is_this_one() {
        let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/web/openapi.json");
        let described = super::openapi().to_pretty_json().unwrap() + "\n";
        let same = std::fs::read_to_string(copy).is_ok_and(|copy| copy == described);
        if !same && std::env::var_os("UPDATE").is_some() {
            std::fs::write(copy, described).unwrap();
        } else {
            assert!(same, "{copy} is not what is served: run this test with UPDATE=1, then crates/api/web/build");
        }
    }
}
