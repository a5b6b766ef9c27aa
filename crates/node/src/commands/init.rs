//! `node init`: makes what a node needs before it can start, and leaves alone what is there.

use super::Context;
use crate::{
    cli,
    config::{Config, schema},
    output::{Waiting, role_name},
    secrets,
};
use alloy_primitives::Address;
use api::types::{ApiError, ErrorKind, Role};
use serde::Serialize;
use settlement::{Keystore, Passphrase};
use std::path::PathBuf;

/// A provider's first slot: small enough for any machine, and there to be edited.
const FIRST_SLOT: &str = "name = \"cpu\"\ncount = 1\ncpu_millis = 1000\nmemory_mib = 1024\ndisk_mib = 10240\n";

#[derive(Serialize)]
struct Made {
    data_dir: PathBuf,
    peer: String,
    wallet: Address,
    provider_key: Address,
    config: PathBuf,
    /// What did not exist before: `peer.key`, `config.toml`, `keystore/<name>`.
    created: Vec<String>,
}

pub(super) async fn init(context: &Context, roles: &[Role], args: cli::Init) -> Result<(), ApiError> {
    let dir = &context.dir;
    let failed =
        |error: std::io::Error, what: &str| ApiError::new(ErrorKind::Failed, format!("cannot use {what}: {error}"), "");
    let passphrase_file = match args.passphrase_file {
        Some(file) => Some(std::path::absolute(&file).map_err(|error| failed(error, "the passphrase file's path"))?),
        None => None,
    };
    dir.create()?;
    let write_config = args.force || !dir.config().exists();
    let mut keystore = if write_config { Default::default() } else { Config::load(dir)?.keystore };
    keystore.passphrase_file = passphrase_file.or(keystore.passphrase_file);
    let first = Keystore::list(&dir.keystore()).map_err(secrets::key_error)?.is_empty();
    let passphrase = secrets::passphrase(&keystore, first)?;

    let waiting = Waiting::begin("making keys");
    let mut created = Vec::new();
    let (peer_key, new) = dir.create_peer_key()?;
    if new {
        created.push("peer.key".to_owned());
    }
    let wallet = key(context, &keystore.wallet, &passphrase, &mut created).await?;
    let provider_key = key(context, &keystore.provider_key, &passphrase, &mut created).await?;

    drop(waiting);
    if write_config {
        let mut set = vec![("network.name", schema::quoted(&args.network))];
        if let Some(file) = &keystore.passphrase_file {
            set.push(("keystore.passphrase_file", schema::quoted(&file.display().to_string())));
        }
        let slots: &[(&str, String)] =
            if roles.contains(&Role::Provider) { &[("provider.slot", FIRST_SLOT.to_owned())] } else { &[] };
        dir.write_config(&schema::document(&set, slots))?;
        created.push("config.toml".to_owned());
        // what was written must be readable, with the environment of this moment
        Config::load(dir)?;
    }
    let made = Made {
        data_dir: dir.path().to_owned(),
        peer: peer_key.public().to_peer_id().to_string(),
        wallet,
        provider_key,
        config: dir.config(),
        created,
    };
    context.output.result(&made, |_| text(&made, roles))
}

/// The address of a key, made now if there is none of that name.
async fn key(
    context: &Context,
    name: &str,
    passphrase: &Passphrase,
    created: &mut Vec<String>,
) -> Result<Address, ApiError> {
    let folder = context.dir.keystore();
    if Keystore::list(&folder).map_err(secrets::key_error)?.iter().any(|existing| existing == name) {
        return Ok(secrets::open_key(&context.dir, name, passphrase).await?.address());
    }
    let wallet = Keystore::create(&folder, name, passphrase).await.map_err(secrets::key_error)?;
    created.push(format!("keystore/{name}"));
    Ok(wallet.address())
}

fn text(made: &Made, roles: &[Role]) -> String {
    let created =
        if made.created.is_empty() { "nothing, all of it was there".to_owned() } else { made.created.join(", ") };
    let names: Vec<_> = roles.iter().map(|role| role_name(*role)).collect();
    let names = if names.is_empty() { "renter".to_owned() } else { names.join(",") };
    format!(
        "data directory  {}\ncreated         {created}\npeer            {}\nwallet          {}\nprovider key    {}\n\n\
         Next: name a chain in {}, send coin and tokens to the wallet{}, and start the daemon: node --role {names}",
        made.data_dir.display(),
        made.peer,
        made.wallet,
        made.provider_key,
        made.config.display(),
        if roles.contains(&Role::Provider) { " and some coin for gas to the provider key" } else { "" },
    )
}
