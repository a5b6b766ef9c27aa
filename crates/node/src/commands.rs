//! The commands: one file each. They fail with an [`ApiError`], which `main` prints and turns into the exit code.

mod bench;
mod check;
mod completions;
mod console;
mod devices;
pub(crate) use bench::kept;
pub(crate) use devices::machines_cards;
mod dispute;
mod doctor;
mod extend;
mod init;
mod inside;
mod inspect;
mod man;
mod offers;
mod ps;
mod rate;
mod receipts;
mod rent;
mod reputation;
mod run;
mod service;
mod shares;
mod show;
mod stop;
mod wallet;

pub(crate) use inside::{Back, Forwarding, parse_back, parse_forwarding};
pub(crate) use wallet::{chain_error, weigh};

use crate::{
    cli::{Cli, Command},
    config::Config,
    datadir::DataDir,
    output::Output,
};
use api::{
    client::Client,
    types::{ApiError, ErrorKind, Role},
};

/// What every command works with.
pub(crate) struct Context {
    /// The data directory.
    pub(crate) dir: DataDir,
    /// Where results go.
    pub(crate) output: Output,
}

impl Context {
    /// The configuration of the data directory.
    pub(crate) fn config(&self) -> Result<Config, ApiError> {
        Ok(Config::load(&self.dir)?)
    }

    /// The daemon of the data directory.
    pub(crate) async fn daemon(&self) -> Result<Client, ApiError> {
        Client::connect(&self.config()?.socket(&self.dir)).await
    }
}

/// Why a command ends without success.
pub(crate) struct Failed {
    /// What is printed.
    pub(crate) error: ApiError,
    /// What the process exits with.
    pub(crate) code: u8,
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        let code = error.kind.exit_code();
        Self { error, code }
    }
}

/// Does what the command line asks for, and says what to exit with.
pub(crate) async fn dispatch(cli: Cli) -> Result<u8, Failed> {
    let output = Output::new(cli.json);
    // of the program alone: no data directory is needed
    match &cli.command {
        Some(Command::Completions(args)) => return Ok(completions::completions(output, args).map(|()| 0)?),
        Some(Command::Inspect(args)) => return Ok(inspect::inspect_files(output, args)?),
        Some(Command::Devices(args)) if args.command.is_none() => return Ok(devices::devices(output).await?),
        Some(Command::Man(args)) => return Ok(man::man(output, args).map(|()| 0)?),
        _ => {}
    }
    let dir = DataDir::find(cli.data_dir.as_deref()).map_err(ApiError::from)?;
    let context = Context { dir, output };
    let roles = distinct(cli.role);
    let Some(command) = cli.command else {
        crate::daemon::serve(&context, &roles).await?;
        return Ok(0);
    };
    if !roles.is_empty() && !matches!(command, Command::Init(_)) {
        let next = "start the daemon on its own (`node --role …`), and give the command without --role";
        return Err(ApiError::new(
            ErrorKind::Usage,
            "--role starts a daemon; commands other than `init` do not take it",
            next,
        )
        .into());
    }
    match command {
        Command::Init(args) => init::init(&context, &roles, args).await?,
        Command::Doctor => return Ok(doctor::doctor(&context).await?),
        Command::Wallet(args) => wallet::wallet(&context, args).await?,
        Command::Offers(args) => offers::offers(&context, args).await?,
        Command::Run(args) => return run::run(&context, args).await,
        Command::Rent(args) => return rent::rent(&context, args).await,
        Command::Ps(args) => ps::ps(&context, args).await?,
        Command::Completions(args) => completions::completions(context.output, &args)?,
        Command::Devices(crate::cli::Devices { command: None }) => return Ok(devices::devices(context.output).await?),
        Command::Devices(crate::cli::Devices { command: Some(crate::cli::DevicesCommand::Bench) }) => {
            bench::bench(&context).await?
        }
        Command::Inspect(args) => return Ok(inspect::inspect_files(context.output, &args)?),
        Command::Man(args) => man::man(context.output, &args)?,
        Command::Ssh(args) => return inside::ssh(&context, args).await,
        Command::Exec(args) => return inside::exec(&context, args).await,
        Command::Cp(args) => return inside::cp(&context, args).await,
        Command::SshConfig(args) => return inside::ssh_config(&context, args).await,
        Command::SshProxy(args) => return inside::ssh_proxy(&context, args).await,
        Command::Logs(args) => return inside::logs(&context, args).await,
        Command::Forward(args) => return inside::forward(&context, args).await,
        Command::Jupyter(args) => return inside::jupyter(&context, args).await,
        Command::Console(args) => console::console(&context, args).await?,
        Command::Top(args) => return inside::top(&context, args).await,
        Command::Share(args) => shares::share(&context, args).await?,
        Command::Shares(args) => shares::shares(&context, args).await?,
        Command::Unshare(args) => shares::unshare(&context, args).await?,
        Command::Accept(args) => shares::accept(&context, args).await?,
        Command::Show(args) => show::show(&context, args).await?,
        Command::Check(args) => return Ok(check::check(&context, args).await?),
        Command::Stop(args) => stop::stop(&context, args).await?,
        Command::Extend(args) => extend::extend(&context, args).await?,
        Command::Drain(args) => service::drain(&context, args).await?,
        Command::Undrain => service::undrain(&context).await?,
        Command::Reload => service::reload(&context).await?,
        Command::Dispute(args) => return Ok(dispute::dispute(&context, args).await?),
        Command::Rate(args) => rate::rate(&context, args).await?,
        Command::Reputation(args) => return Ok(reputation::reputation(&context, args).await?),
        Command::Receipts(args) => return Ok(receipts::receipts(&context, args).await?),
    }
    Ok(0)
}

fn distinct(mut roles: Vec<Role>) -> Vec<Role> {
    roles.sort_unstable();
    roles.dedup();
    roles
}
