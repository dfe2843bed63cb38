//! Generates code from the .proto files, without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["dalsegno/storage.proto"], ["proto"])?;
    // Maps in order, so that equal records are equal bytes.
    prost_build::Config::new().btree_map(["."]).compile_fds(files)?;
    Ok(())
}
