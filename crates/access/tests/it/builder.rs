//! Builds the sandboxes of the integration tests: whatever builds one must begin its `main` like this, and the tests' own is not theirs.

fn main() {
    sandbox::helper_main_if_requested();
}
