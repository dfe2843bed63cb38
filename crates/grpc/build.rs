//! Generates the messages, the server and the client of the protocol, without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["durabletask.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Messages")
        // Events are encoded once and sent many times.
        .bytes(".OrchestratorRequest")
        .compile_fds(files)?;
    Ok(())
}
