//! Processes of the program under attack: how they start, what they print, how they end.
//!
//! Every process ends with the value that stands for it, also when the attack fails.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::broken::{Broken, Outcome, ensure};

/// No start and no end takes this long; one that does fails the attack.
pub(crate) const PROCESS_CUT_OFF: Duration = Duration::from_secs(60);

/// What is in a line of the log that records a request.
const AUDIT_LINE: &str = " dalsegno::audit: ";

/// Lines of a host in the text of a failure: half of them its first, half of them its last.
const LINES_SHOWN: usize = 40;

/// How often the end of a process is looked for; the system offers no wait with a cut-off.
const END_POLL: Duration = Duration::from_millis(2);

/// The program under attack.
#[derive(Clone, Debug)]
pub(crate) struct Program(pub(crate) PathBuf);

impl Program {
    /// A command of the program, without the environment of the attack.
    pub(crate) fn command(&self) -> Command {
        self.command_of(Command::new(&self.0))
    }

    fn command_of(&self, mut command: Command) -> Command {
        command.env_clear().stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// A host of a folder, on a free port of loopback.
    pub(crate) fn dev(&self, folder: &Path) -> Command {
        self.dev_of(self.command(), folder)
    }

    /// The same under strace, which leaves its log in a file.
    ///
    /// The tracer runs beside the host and not as its parent, so that process id and exit code are the host's.
    pub(crate) fn dev_traced(&self, folder: &Path, log: &Path, options: &[String]) -> Command {
        let mut command = self.command_of(Command::new("strace"));
        command.args(["-D", "-f", "-y", "-ttt", "-qq", "-o"]).arg(log);
        command.args(options).arg(&self.0);
        self.dev_of(command, folder)
    }

    fn dev_of(&self, mut command: Command, folder: &Path) -> Command {
        command.args(["dev", "--port", "0", "--no-compat-ports", "--data-dir"]);
        command.arg(folder);
        command
    }

    /// Fails unless `dalsegno verify` calls a folder sound.
    pub(crate) fn verify_sound(&self, folder: &Path) -> Outcome {
        let verified = self.command().arg("verify").arg(folder).output()?;
        ensure(verified.status.code() == Some(0), || {
            format!(
                "`dalsegno verify` ended with {}: {}",
                verified.status,
                printed(&verified)
            )
        })
    }
}

/// What a process printed, both streams.
pub(crate) fn printed(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    text.join("")
}

/// What a process has printed on stderr so far.
#[derive(Debug, Default)]
struct Printed {
    lines: Vec<String>,
    is_over: bool,
}

/// A host under attack; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    child: Child,
    printed: Arc<(Mutex<Printed>, Condvar)>,
    pub(crate) address: SocketAddr,
}

/// How a start came out.
#[derive(Debug)]
pub(crate) enum Start {
    Ready(Host),
    /// It ended before it was ready.
    Ended(Ended),
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) printed: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless the process ended with one of these codes, and without a panic.
    pub(crate) fn expect(&self, codes: &[i32]) -> Outcome {
        let is_expected = self.code().is_some_and(|code| codes.contains(&code));
        ensure(is_expected, || {
            format!(
                "the host ended with {}, not with one of {codes:?}: {}",
                self.status, self.printed
            )
        })?;
        ensure(!self.printed.contains("panicked"), || {
            format!("the host panicked: {}", self.printed)
        })
    }
}

impl Host {
    /// Starts a command.
    pub(crate) fn spawn(mut command: Command) -> Outcome<Self> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let Some(stderr) = child.stderr.take() else {
            return Err(Broken::new("the host has no stderr"));
        };
        let printed = Arc::new((Mutex::new(Printed::default()), Condvar::new()));
        let written = printed.clone();
        std::thread::spawn(move || collect(BufReader::new(stderr), &written));
        Ok(Self {
            child,
            printed,
            address: ([127, 0, 0, 1], 0).into(),
        })
    }

    /// Starts a command and waits until it is ready or has ended.
    pub(crate) fn start(command: Command) -> Outcome<Start> {
        let mut host = Self::spawn(command)?;
        match host.wait_until_ready()? {
            Some(address) => {
                host.address = address;
                Ok(Start::Ready(host))
            }
            None => Ok(Start::Ended(host.wait_for_end()?)),
        }
    }

    /// Starts a command that has to get ready.
    pub(crate) fn start_ready(command: Command) -> Outcome<Self> {
        match Self::start(command)? {
            Start::Ready(host) => Ok(host),
            Start::Ended(ended) => Err(Broken::new(format!(
                "the host did not start, it ended with {}: {}",
                ended.status, ended.printed
            ))),
        }
    }

    /// Starts a command that must not get ready.
    pub(crate) fn start_refused(command: Command) -> Outcome<Ended> {
        match Self::start(command)? {
            Start::Ready(host) => Err(Broken::new(format!(
                "a host started where it had to be refused: {}",
                host.text()
            ))),
            Start::Ended(ended) => Ok(ended),
        }
    }

    /// The address in the last line that a start prints; `None` when the process ends before.
    fn wait_until_ready(&self) -> Outcome<Option<SocketAddr>> {
        let (printed, changed) = &*self.printed;
        let printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_waiting = |printed: &mut Printed| !printed.is_over && ready_address(&printed.lines).is_none();
        let (printed, waited) = changed
            .wait_timeout_while(printed, PROCESS_CUT_OFF, is_waiting)
            .unwrap_or_else(PoisonError::into_inner);
        ensure(!waited.timed_out(), || {
            format!(
                "the host was not ready after {PROCESS_CUT_OFF:?}: {}",
                printed.lines.join("\n")
            )
        })?;
        Ok(ready_address(&printed.lines))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the host has printed on stderr, without its records of the clients' requests.
    pub(crate) fn text(&self) -> String {
        let printed = self.printed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = printed.lines.iter().filter(|line| !line.contains(AUDIT_LINE));
        let lines: Vec<&str> = lines.map(String::as_str).collect();
        match lines.len().checked_sub(LINES_SHOWN) {
            None | Some(0) => lines.join("\n"),
            Some(left_out) => format!(
                "{}\n({left_out} lines)\n{}",
                lines[..LINES_SHOWN / 2].join("\n"),
                lines[lines.len() - LINES_SHOWN / 2..].join("\n")
            ),
        }
    }

    /// Whether the process has closed its stderr, which it does when it ends.
    pub(crate) fn has_closed_stderr(&self) -> bool {
        self.printed
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_over
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait_for_end(mut self) -> Outcome<Ended> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.wait_for_last_line();
                let printed = self.text();
                return Ok(Ended { status, printed });
            }
            ensure(begin.elapsed() < PROCESS_CUT_OFF, || {
                format!(
                    "the host had not ended after {PROCESS_CUT_OFF:?}: {}",
                    self.text()
                )
            })?;
            std::thread::sleep(END_POLL);
        }
    }

    /// The pipe closes with the last process that holds it, which is the tracer where there is one.
    fn wait_for_last_line(&self) {
        let (printed, changed) = &*self.printed;
        let printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = changed.wait_timeout_while(printed, PROCESS_CUT_OFF, |printed| !printed.is_over);
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Outcome<Ended> {
        // It may have ended already: the caller sees that in the status.
        let _ = self.child.kill();
        self.wait_for_end()
    }

    /// SIGTERM, and a regular end.
    pub(crate) fn shut_down(self) -> Outcome {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status()?;
        ensure(sent.success(), || format!("the host {id} cannot be signalled"))?;
        self.wait_for_end()?.expect(&[0])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line of the banner names the server's address.
fn ready_address(lines: &[String]) -> Option<SocketAddr> {
    let last = lines.iter().find(|line| line.starts_with("try: "))?;
    last.rsplit("http://").next()?.trim().parse().ok()
}

fn collect(lines: impl BufRead, printed: &(Mutex<Printed>, Condvar)) {
    let (printed, changed) = printed;
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lines
            .push(line);
        changed.notify_all();
    }
    printed.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
    changed.notify_all();
}
