//! `node inspect`: the GPU code inside programs, and which cards can run it.

use crate::cli;
use crate::output::Output;
use api::types::{ApiError, ErrorKind};
use gpu::{
    compatibility::{Answer, Device, judge_job},
    fatbin::{Job, JobFile, Outcome, inspect},
};
use serde::Serialize;
use std::path::Path;

/// What is told of the files.
#[derive(Serialize)]
struct Told {
    files: Vec<JobFile>,
    cards: Vec<Card>,
}

/// What is told of a card that was asked about.
#[derive(Serialize)]
struct Card {
    sm: u32,
    #[serde(flatten)]
    answer: Answer,
}

pub(super) fn inspect_files(output: Output, args: &cli::Inspect) -> Result<u8, ApiError> {
    let files: Vec<JobFile> = args.files.iter().map(|path| read(path)).collect();
    if let Some(unread) = files.iter().find(|file| matches!(file.outcome, Outcome::Unread(_))) {
        return Err(ApiError::new(ErrorKind::Usage, unread.to_string(), "name files that can be read"));
    }
    let job = Job { libraries: files, ..Job::default() };
    let cards = args.on.iter().map(|sm| Card { sm: *sm, answer: answer(&job, *sm) }).collect();
    let told = Told { files: job.libraries, cards };
    let fits = told.cards.iter().all(|card| !card.answer.verdict.is_against());
    output.result(&told, |output| text(output, &told))?;
    Ok(u8::from(!fits))
}

fn read(path: &Path) -> JobFile {
    let outcome = match inspect(path) {
        Ok(found) => Outcome::Found(found),
        Err(error) => Outcome::Unread(error.to_string()),
    };
    JobFile { path: path.to_path_buf(), outcome }
}

fn answer(job: &Job, sm: u32) -> Answer {
    judge_job(job, &Device { name: "the card", sm, cuda: None })
}

fn text(output: &Output, told: &Told) -> String {
    let listing: Vec<String> = told.files.iter().map(ToString::to_string).collect();
    let listing = listing.join("\n");
    if told.cards.is_empty() {
        return listing.trim_end().to_owned();
    }
    let row =
        |card: &Card| vec![format!("sm_{}", card.sm), card.answer.verdict.to_string(), card.answer.reason.clone()];
    let columns = [("CARD", false), ("VERDICT", false), ("WHY", false)];
    format!("{}\n\n{}", listing.trim_end(), output.table(&columns, told.cards.iter().map(row).collect()))
}
