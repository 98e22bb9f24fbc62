//! `xtask-bench`: the parts of `cargo xtask bench` that need an optimised build. A load generator, a bare
//! proxy and a bare server on hyper.

mod access_log;
mod connector;
mod hold;
mod load;
mod proxy;
mod requests;
mod respond;
mod schedule;
mod serve;
mod target;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::target::Target;

/// Parts of `cargo xtask bench`.
#[derive(Debug, Parser)]
#[command(bin_name = "xtask-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward each request unchecked, and log a line for each.
    Proxy {
        #[arg(long)]
        listen: SocketAddr,
        /// The server that gets the requests.
        #[arg(long)]
        to: SocketAddr,
    },
    /// Respond to each request with a status and no body, and log a line for each.
    Respond {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        status: u16,
    },
    /// Send requests over a number of connections, one at a time on each, and report the result as JSON.
    Load {
        #[command(flatten)]
        target: Target,
        /// The number of requests. The file is repeated if it has fewer.
        #[arg(long)]
        count: usize,
        /// The status of each response.
        #[arg(long)]
        expect: u16,
        /// Open a connection for each request, and ask the server to close it.
        #[arg(long)]
        close: bool,
        /// Send this many requests a second, whatever the responses do. The time of a response then counts
        /// from the moment at which its request was due.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
    },
    /// Open connections, send one request on each, report it, and keep them until the end of the input.
    Hold {
        #[command(flatten)]
        target: Target,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Proxy { listen, to } => proxy::run(listen, to).await,
        Command::Respond { listen, status } => respond::run(listen, status).await,
        Command::Load { target, count, expect, close, rate } => {
            load::run(&target, count, expect, close, rate).await
        }
        Command::Hold { target } => hold::run(&target).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
