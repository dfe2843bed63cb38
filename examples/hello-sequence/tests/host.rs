//! A host as a process: how it ends, and what it says.
#![expect(clippy::unwrap_used, reason = "tests may")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn host(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello-host"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DALSEGNO"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder);
    command
}

/// Runs one that must not start; gives its exit code and what it told.
fn refused(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let ended = host(folder, arguments).output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

fn check(arguments: &[&str], file: &str, wanted: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dalsegno.toml"), file).unwrap();
    let (code, told) = refused(folder.path(), arguments);
    assert_eq!((code, told.trim_end()), (Some(78), wanted));
    assert!(!folder.path().join(".dalsegno").exists(), "nothing was touched");
}

#[test]
fn a_refused_configuration_is_78_with_what_where_and_what_to_do() {
    check(
        &[],
        "lisen = \"x\"\n[http]\npage_max = 0\n",
        "error[configuration]: dalsegno.toml:1:1: lisen: unknown key: did you mean listen?\n  \
         dalsegno.toml:3:1: http.page_max: got 0, expected a whole number, 1 to 10000",
    );
    check(
        &["--lisen", "x"],
        "",
        "error[configuration]: unknown flag --lisen: this host takes --listen, --port, --data-dir, --hub",
    );
    check(&["--port"], "", "error[configuration]: --port needs a value");
    check(
        &["--listen", "0.0.0.0:0"],
        "",
        "error[configuration]: default: auth.keys_file: callers of 0.0.0.0:0 need keys and there are none: \
         create some with `dalsegno key create` and name their file, or listen on 127.0.0.1\n  \
         default: tls.certificate_file: is not set, so the keys of callers of 0.0.0.0:0 would travel unencrypted: \
         set it and tls.key_file, or set tls.allow_plaintext behind a proxy that ends TLS",
    );
}

#[test]
fn an_address_that_is_taken_is_78() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, told) = refused(folder.path(), &["--listen", &address]);
    assert_eq!(code, Some(78));
    let wanted = format!("error[configuration]: cannot listen on {address}: ");
    assert!(
        told.starts_with(&wanted) && told.contains("choose another port"),
        "{told}"
    );
    assert!(!folder.path().join(".dalsegno").exists(), "nothing was touched");
}

#[test]
fn a_folder_that_is_no_hub_is_78() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letter.txt"), "Dear Ada").unwrap();
    let (code, told) = refused(folder.path(), &["--port", "0", "--data-dir", "."]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.starts_with("error[configuration]: "), "{told}");
    let (code, told) = refused(folder.path(), &["--port", "0", "--data-dir", "letter.txt"]);
    assert_eq!(code, Some(78), "{told}");
    let letter = std::fs::read_to_string(folder.path().join("letter.txt")).unwrap();
    assert_eq!(letter, "Dear Ada");
}

#[test]
fn a_hub_that_another_process_has_is_4_and_a_request_to_end_is_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Running::new(folder.path());
    let (code, told) = refused(folder.path(), &["--port", "0"]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.starts_with("error[in_use]: hub is in use by pid "), "{told}");
    let asked = Command::new("kill")
        .args(["-TERM", &first.0.id().to_string()])
        .status();
    assert!(asked.unwrap().success());
    assert_eq!(first.0.wait().unwrap().code(), Some(0));
}

/// A host that listens; ended when dropped.
struct Running(Child);

impl Running {
    fn new(folder: &Path) -> Self {
        let mut child = host(folder, &["--port", "0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("HTTP  http://127.0.0.1:") {
            line.clear();
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "the host ended");
        }
        std::thread::spawn(move || told.read_to_string(&mut String::new()));
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
