//! Compiles `proto/` with protox, a protobuf compiler in Rust: no `protoc` needs to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let files = ["offers", "ratings", "rental", "search", "session", "sync"]
        .map(|name| format!("{root}/gpulease/v1/{name}.proto"));
    let descriptors = protox::compile(&files, [root])?;
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={root}");
    Ok(())
}
