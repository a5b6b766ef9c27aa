//! `node doctor`: everything a node depends on, looked at one by one: what was found, what is needed, and what to do where they differ.
//! It looks with and without a daemon, and leaves everything as it was.

mod machine;
mod outside;
mod payout;
mod storage;

use super::Context;
use crate::{
    config::Config,
    output::{Output, Waiting, role_name},
};
use api::{
    client::Client,
    types::{ApiError, ErrorKind, NodeInfo, Role},
};
use serde::Serialize;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it must be.
    Ok,
    /// Worth knowing; the node works all the same, or it could not be looked at.
    Warning,
    /// The node, or a role of it, does not work like this.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    id: String,
    state: State,
    found: String,
    needed: String,
    /// What to do; empty when nothing is to be done.
    remedy: String,
}

impl Finding {
    /// As it must be.
    fn ok(id: impl Into<String>, found: impl Into<String>, needed: impl Into<String>) -> Self {
        let (id, found, needed) = (id.into(), found.into(), needed.into());
        Self { id, state: State::Ok, found, needed, remedy: String::new() }
    }

    /// Not as it must be.
    fn problem(self, remedy: impl Into<String>) -> Self {
        Self { state: State::Problem, remedy: remedy.into(), ..self }
    }

    /// Not as one would want it.
    fn warning(self, remedy: impl Into<String>) -> Self {
        Self { state: State::Warning, remedy: remedy.into(), ..self }
    }

    /// A problem unless `good`.
    fn must(self, good: bool, remedy: impl Into<String>) -> Self {
        if good { self } else { self.problem(remedy) }
    }
}

/// All findings, as `--json` prints them.
#[derive(Serialize)]
struct Report {
    problems: usize,
    warnings: usize,
    checks: Vec<Finding>,
}

impl Report {
    fn new(checks: Vec<Finding>) -> Self {
        let count = |state| checks.iter().filter(|finding| finding.state == state).count();
        Self { problems: count(State::Problem), warnings: count(State::Warning), checks }
    }
}

/// What the checks share.
struct Patient<'a> {
    context: &'a Context,
    config: Config,
    daemon: Option<(Client, NodeInfo)>,
}

impl Patient<'_> {
    fn plays(&self, role: Role) -> bool {
        self.daemon.as_ref().is_some_and(|(_, info)| info.roles.contains(&role))
    }

    /// Whether it does, or is set up to, rent machines out.
    fn provides(&self) -> bool {
        self.plays(Role::Provider) || !self.config.provider.slot.is_empty()
    }

    /// Whether it can do without a chain: only a daemon that says so can.
    fn only_indexes(&self) -> bool {
        self.daemon.as_ref().is_some_and(|(_, info)| info.roles == [Role::Indexer])
    }
}

pub(super) async fn doctor(context: &Context) -> Result<u8, ApiError> {
    let waiting = Waiting::begin("looking at the data directory");
    let mut findings = machine::data_directory(&context.dir);
    let config = match context.config() {
        Ok(config) => {
            findings.push(machine::configured(&context.dir));
            config
        }
        Err(error) => {
            let finding = Finding::ok("config", error.message, "a configuration that can be read");
            findings.push(finding.problem(error.next));
            // what follows looks at the defaults
            Config::default()
        }
    };
    findings.extend(machine::keys(&context.dir, &config));
    waiting.now("asking the daemon");
    let (finding, daemon) = daemon(context, &config).await;
    findings.push(finding);
    findings.extend(storage::lock(&context.dir, daemon.is_some()));
    findings.extend(storage::space(&context.dir, &config));
    findings.push(storage::files(crate::open_files::most()));
    let patient = Patient { context, config, daemon };
    waiting.now("asking the chains");
    findings.extend(outside::chains(&patient).await);
    waiting.now("looking at the network");
    findings.extend(outside::listening(&patient));
    findings.extend(outside::peers(&patient).await);
    waiting.now("trying a sandbox");
    findings.extend(machine::sandboxes(&patient).await);
    drop(waiting);

    let report = Report::new(findings);
    context.output.result(&report, |output| text(output, &report))?;
    Ok(u8::from(report.problems > 0))
}

async fn daemon(context: &Context, config: &Config) -> (Finding, Option<(Client, NodeInfo)>) {
    let ask = async {
        let client = Client::connect(&config.socket(&context.dir)).await?;
        let info = client.node().await?;
        Ok::<_, ApiError>((client, info))
    };
    let needed = "a daemon, for every command but init, wallet and this one";
    match ask.await {
        Ok((client, info)) => {
            let roles: Vec<_> = info.roles.iter().map(|role| role_name(*role)).collect();
            let found = format!("runs as {} on {}, version {}", roles.join(","), info.network, info.version);
            let finding = Finding::ok("daemon", found, needed);
            let finding = match info.version == env!("CARGO_PKG_VERSION") {
                true => finding,
                false => finding.warning("it is of another version than this program: restart it"),
            };
            (finding, Some((client, info)))
        }
        Err(error) if error.kind == ErrorKind::NoDaemon => {
            (Finding::ok("daemon", "does not run", needed).warning(error.next), None)
        }
        Err(error) => (Finding::ok("daemon", error.message, needed).problem(error.next), None),
    }
}

fn text(output: &Output, report: &Report) -> String {
    let columns = [("", false), ("CHECK", false), ("FOUND", false), ("NEEDED", false), ("REMEDY", false)];
    let row = |finding: &Finding| {
        let mark = match finding.state {
            State::Ok => "✓",
            State::Warning => "!",
            State::Problem => "✗",
        };
        let Finding { id, found, needed, remedy, .. } = finding.clone();
        vec![mark.to_owned(), id, found, needed, remedy]
    };
    let verdict = match (report.problems, report.warnings) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warnings) => format!("nothing is wrong; warnings: {warnings}"),
        (problems, warnings) => format!("problems: {problems}; warnings: {warnings}"),
    };
    format!("{}\n\n{verdict}", output.table(&columns, report.checks.iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{datadir::DataDir, output::tests::plain};

    #[test]
    fn each_finding_is_a_row_and_the_problems_are_counted() {
        let finding = |id: &str| Finding::ok(id, "0644", "0600");
        let findings = vec![finding("a"), finding("b").warning("look"), finding("c").must(false, "chmod 600")];
        let report = Report::new(findings);
        assert_eq!((report.problems, report.warnings), (1, 1));
        let text = text(&plain(), &report);
        let marks: Vec<_> = text.lines().skip(1).take(3).map(|line| line.chars().next().unwrap()).collect();
        assert_eq!(marks, ['✓', '!', '✗'], "{text}");
        assert!(text.contains("chmod 600") && text.ends_with("problems: 1; warnings: 1"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["problems"], &json["checks"][1]["state"]), (&1.into(), &"warning".into()));
        assert!(finding("d").must(true, "x").remedy.is_empty());
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_a_warning_with_the_way_to_start_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        let context = Context { dir, output: plain() };
        let (finding, daemon) = daemon(&context, &Config::default()).await;
        assert!(daemon.is_none());
        assert_eq!(finding.state, State::Warning);
        assert!(finding.remedy.contains("node --role"), "{finding:?}");
    }
}
