//! `node jupyter`.

use super::parse_rental;
use clap::Args;
use std::path::PathBuf;

/// `node jupyter`
#[derive(Debug, Args)]
#[command(after_help = "\
Starts JupyterLab in the rental if its image has it, or finds it running, and leads a port of this
machine to it: no port is open at the provider. Ctrl-C closes the way only; Jupyter and its kernels
go on, and the same command finds them again, until --stop or the end of the rental.

Jupyter is looked for in the PATH, then as a module of python3; the older notebook and the bare
server will do too. What follows -- is given to it.

Examples:
  node jupyter 0xabcd
  node jupyter train --port 8888 --no-open
  node jupyter train --venv /job/venv -- --ServerApp.root_dir=/job/notebooks
  node jupyter train --stop")]
pub(crate) struct Jupyter {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// The port here [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
    /// A virtual environment in the rental that has it
    #[arg(long, value_name = "DIR")]
    pub(crate) venv: Option<PathBuf>,
    /// Do not open a browser; it is opened only if this is a terminal
    #[arg(long)]
    pub(crate) no_open: bool,
    /// End Jupyter, with its kernels
    #[arg(long, conflicts_with_all = ["port", "venv", "no_open", "options"])]
    pub(crate) stop: bool,
    /// Options for Jupyter
    #[arg(last = true, value_name = "OPTION")]
    pub(crate) options: Vec<String>,
}
