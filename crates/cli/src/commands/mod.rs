//! One file per subcommand.

pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod counts;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod durable;
pub(crate) mod entity;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod help;
pub(crate) mod history;
pub(crate) mod hub;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod limiter;
pub(crate) mod list;
pub(crate) mod log_level;
pub(crate) mod man;
pub(crate) mod openapi;
pub(crate) mod operation;
pub(crate) mod purge;
pub(crate) mod raise;
pub(crate) mod repair;
pub(crate) mod restart;
pub(crate) mod resume;
pub(crate) mod retry_now;
pub(crate) mod rewind;
pub(crate) mod schedule;
pub(crate) mod start;
pub(crate) mod stuck;
pub(crate) mod suspend;
pub(crate) mod tail;
pub(crate) mod terminate;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod webhooks;
pub(crate) mod workers;

use crate::arguments::{Arguments, Command};
use crate::failure::{Exit, Failure};
use crate::session::Session;

/// Does what was typed.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    // These need nothing: a profile that is refused must not take away what explains it.
    let arguments = match arguments.command {
        Command::Help(help) => return help.run(),
        Command::Completions(completions) => return completions.run(),
        Command::Man(man) => return man.run(),
        Command::OpenApi(openapi) => return Ok(openapi.run()),
        Command::Durable(durable) => Arguments {
            command: durable.meant()?,
            ..arguments
        },
        command => Arguments { command, ..arguments },
    };
    let session = Session::new(&arguments.global)?;
    // Hosts say themselves what they log.
    if !matches!(arguments.command, Command::Dev(_) | Command::Serve(_)) {
        dalsegno_host::telemetry::init("warn", "auto");
    }
    match arguments.command {
        Command::Start(start) => start.run(&session).await,
        Command::List(list) => list.run(&session).await,
        Command::Webhooks(webhooks) => webhooks.run(&session).await,
        Command::Workers(workers) => workers.run(&session).await,
        Command::Worker(worker) => worker.run(&session).await,
        Command::LogLevel(level) => level.run(&session).await,
        Command::Schedule(schedule) => schedule.run(&session).await,
        Command::Operation(operation) => operation.run(&session).await,
        Command::Doctor(doctor) => doctor.run(&session).await,
        Command::Explain(explain) => explain.run(&session).await,
        Command::Stuck(stuck) => stuck.run(&session).await,
        Command::Trace(trace) => trace.run(&session).await,
        Command::Tail(tail) => tail.run(&session).await,
        Command::Top(top) => top.run(&session).await,
        Command::Counts(counts) => counts.run(&session).await,
        Command::Get(get) => get.run(&session).await,
        Command::Wait(wait) => wait.run(&session).await,
        Command::History(history) => history.run(&session).await,
        Command::Raise(raise) => raise.run(&session).await,
        Command::Terminate(terminate) => terminate.run(&session).await,
        Command::Cancel(cancel) => cancel.run(&session).await,
        Command::Suspend(suspend) => suspend.run(&session).await,
        Command::Resume(resume) => resume.run(&session).await,
        Command::Rewind(rewind) => rewind.run(&session).await,
        Command::RetryNow(retry) => retry.run(&session).await,
        Command::Restart(restart) => restart.run(&session).await,
        Command::Purge(purge) => purge.run(&session).await,
        Command::Entity(entity) => entity.run(&session).await,
        Command::Limiter(limiter) => limiter.run(&session).await,
        Command::Hub(hub) => hub.run(&session).await,
        Command::Config(config) => config.run(&session),
        Command::Demo(demo) => demo.run().await,
        Command::Dev(dev) => dev.run().await,
        Command::Serve(serve) => serve.run().await,
        Command::Key(key) => key.run(&session),
        Command::Version(version) => version.run(&session).await,
        Command::Backup(backup) => backup.run(&session).await,
        Command::Restore(restore) => restore.run(&session).await,
        Command::Verify(verify) => verify.run(&session).await,
        Command::Repair(repair) => repair.run(&session).await,
        Command::Init(init) => init.run(&session),
        Command::Help(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::OpenApi(_)
        | Command::Durable(_) => Ok(Exit::Ok),
    }
}
