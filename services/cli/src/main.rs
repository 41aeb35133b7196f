//! The command line of Handoff: arguments in, requests to a relay, readable text or JSON out.
//! Every command is a thin layer over `handoff_client`; what may be done is the relay's to decide.

mod args;
mod commands;
mod demo;
mod failure;
mod files;
mod hook;
mod output;
mod settings;
mod watch;

use args::{Arguments, Command};
use clap::Parser;
use output::Output;
use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(arguments, &output));
            // A read of standard input can't be called off: it is not waited for.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, &output),
    }
}

async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    let load = || Settings::load(&arguments.connection);
    match arguments.command {
        Command::Completions { shell } => commands::completions(shell, output),
        Command::Keygen => commands::keygen(output),
        Command::Config => commands::config(&load()?, output),
        Command::Signup(signup) => commands::team::sign_up(&load()?, signup, output).await,
        Command::Hook => hook::run(load, output).await,
        Command::Demo(demo) => demo::run(demo, output).await,
        Command::Mcp(mcp) => commands::mcp(&load()?, mcp).await,
        Command::Watch(options) => watch::run(&load()?.client()?, options, output).await,
        Command::Whoami => {
            let settings = load()?;
            commands::team::who_am_i(&settings, output).await
        }
        Command::Keys { command } => {
            commands::team::keys(&load()?.client()?, command, output).await
        }
        Command::Token { command } => {
            commands::team::token(&load()?.client()?, command, output).await
        }
        Command::Channels { command } => {
            commands::channels::run(&load()?.client()?, command, output).await
        }
        Command::Post(post) => commands::messages::post(&load()?.client()?, post, output).await,
        Command::Reply(reply) => commands::messages::reply(&load()?.client()?, reply, output).await,
        Command::Read(read) => commands::messages::read(&load()?.client()?, read, output).await,
        Command::Tail(tail) => commands::messages::tail(&load()?.client()?, tail, output).await,
        Command::Inbox(inbox) => commands::messages::inbox(&load()?.client()?, inbox, output).await,
        Command::Ack { channel, id } => {
            commands::messages::ack(&load()?.client()?, &channel, &id, output).await
        }
        Command::Acks { channel } => {
            commands::messages::acks(&load()?.client()?, &channel, output).await
        }
        Command::Status { command } => {
            commands::statuses::run(&load()?.client()?, command, output).await
        }
    }
}
