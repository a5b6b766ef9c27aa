//! Whether the cards of an offer can run the GPU code that goes with a job: a kernel that was built for one card must not be sent to another,
//! where it would fail only after it was paid for. What nothing can be told about is let through.

use super::Plan;
use gpu::{
    compatibility::{CudaVersion, Device, judge_job},
    fatbin::Job,
};
use market::offer::Offer;
use std::path::{Path, PathBuf};

/// The GPU code of a job.
pub(super) struct Fitness(Job);

impl Fitness {
    /// Looks into the program and the libraries of the folder that goes with it.
    pub(super) async fn of(plan: &Plan) -> Self {
        let Some(folder) = plan.request.input.clone().map(PathBuf::from) else { return Self(Job::default()) };
        let program = plan.request.argv.first().and_then(|name| program(&folder, name));
        let looking = tokio::task::spawn_blocking(move || Job::inspect(program.as_deref(), Some(&folder)));
        // a look that failed tells nothing, which keeps nobody from renting
        Self(looking.await.unwrap_or_default())
    }

    /// Whether there is GPU code at all.
    pub(super) fn judges(&self) -> bool {
        self.0.files().next().is_some()
    }

    /// Why the program cannot run on the offer's cards, if it certainly cannot.
    pub(super) fn against(&self, offer: &Offer) -> Option<String> {
        let hardware = &offer.hardware;
        let cuda = (hardware.cuda_version > 0).then(|| CudaVersion::from_tenths(hardware.cuda_version));
        let stated = hardware.gpus.iter().filter(|group| group.sm > 0);
        let answers = stated.map(|group| judge_job(&self.0, &Device { name: &group.model, sm: group.sm, cuda }));
        answers.filter(|answer| answer.verdict.is_against()).map(|answer| answer.reason).next()
    }
}

/// The program, when it lies in the job's folder and not at the provider's.
fn program(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name.strip_prefix("/job/").unwrap_or(name));
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::types::RunRequest;
    use market::offer::{GpuGroup, Hardware};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu/tests/fixtures");

    fn offer(model: &str, sm: u32, cuda_version: u32) -> Offer {
        let gpus =
            if sm > 0 { vec![GpuGroup { model: model.into(), count: 1, sm, ..GpuGroup::default() }] } else { vec![] };
        let hardware = Hardware { gpus, cuda_version, ..Hardware::default() };
        Offer { hardware, ..crate::indexers::tests::offer("slot", 1) }
    }

    async fn fitness(file: &str) -> Fitness {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(Path::new(FIXTURES).join(file), folder.path().join("train")).unwrap();
        let request = RunRequest {
            argv: vec!["./train".into()],
            input: Some(folder.path().to_string_lossy().into_owned()),
            seconds: 60,
            ..RunRequest::default()
        };
        Fitness::of(&Plan::new(1, request).unwrap()).await
    }

    #[tokio::test]
    async fn code_for_one_card_is_not_sent_to_another() {
        let hopper = fitness("only-sm_90a.so").await;
        let why = hopper.against(&offer("RTX 5090", 120, 131)).unwrap();
        assert!(why.contains("sm_90a") && why.contains("sm_120"), "{why}");
        assert_eq!(hopper.against(&offer("NVIDIA H100", 90, 131)), None);
        assert_eq!(hopper.against(&offer("", 0, 0)), None, "a machine without GPUs, or one that states nothing");
    }

    #[tokio::test]
    async fn ptx_that_is_newer_than_the_driver_is_not_sent_there() {
        let portable = fitness("only-ptx.so").await;
        assert_eq!(portable.against(&offer("RTX 5090", 120, 135)), None);
        assert!(portable.against(&offer("RTX 5090", 120, 131)).is_some());
    }

    #[tokio::test]
    async fn what_has_no_gpu_code_goes_anywhere() {
        assert_eq!(fitness("host").await.against(&offer("RTX 5090", 120, 131)), None);
    }
}
