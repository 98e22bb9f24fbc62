//! The `switchboard` binary: start, serve, stop.

use std::process::ExitCode;

use switchboard::{
    cli::{Cli, Command},
    commands,
    process::serve::serve,
};

fn main() -> ExitCode {
    let cli = match Cli::parse_or_print(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Serve(args) => serve(&args),
        Command::Check(args) => commands::check(&args),
        Command::Explain(args) => commands::explain(&args),
        Command::Doctor(args) => commands::doctor(&args),
        Command::Keygen => commands::keygen(),
        Command::Mint(args) => commands::mint(&args),
        Command::Fleet(command) => commands::fleet(&command),
        Command::Tail(args) => commands::tail(&args),
        Command::Completions(args) => commands::completions(&args),
        Command::Man(args) => commands::man(&args),
    }
}
