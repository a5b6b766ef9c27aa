//! A job's program and its libraries, judged together.

use super::folder;
use gpu::compatibility::{CudaVersion, Device, Verdict, judge_job};
use gpu::fatbin::{Job, Outcome};
use std::{fs, os::unix::fs::symlink, path::Path};

const H200: Device<'_> = Device { name: "H200", sm: 90, cuda: None };
const RTX_5090: Device<'_> = Device { name: "RTX 5090", sm: 120, cuda: None };

/// A folder with these fixtures under these names.
fn uploaded(files: &[(&str, &str)]) -> tempfile::TempDir {
    let job = tempfile::tempdir().unwrap();
    for (fixture, name) in files {
        let path = job.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(folder().join(fixture), path).unwrap();
    }
    job
}

fn names(job: &Job, folder: &Path) -> Vec<String> {
    job.files().map(|file| file.path.strip_prefix(folder).unwrap().display().to_string()).collect()
}

#[test]
fn a_script_is_judged_by_the_libraries_that_go_with_it() {
    let up = uploaded(&[
        ("source/script.py", "train.py"),
        ("only-sm_90a.so", "lib/deep/er/libkernel.so.1.2"),
        ("host", "lib/libplain.so"),
        ("only-ptx.so", "not-a-library"),
    ]);
    let script = up.path().join("train.py");
    let job = Job::inspect(Some(&script), Some(up.path()));
    assert_eq!(names(&job, up.path()), ["train.py", "lib/deep/er/libkernel.so.1.2"]);
    assert_eq!(judge_job(&job, &H200).verdict, Verdict::Native);
    let answer = judge_job(&job, &RTX_5090);
    assert_eq!((answer.verdict, answer.reason.as_str()), (Verdict::No, "needs sm_90a; RTX 5090 is sm_120"));

    let alone = Job::inspect(Some(&script), None);
    assert_eq!(judge_job(&alone, &RTX_5090).verdict, Verdict::Unknown);
    assert_eq!(judge_job(&Job::inspect(None, None), &RTX_5090).verdict, Verdict::Unknown);
}

#[test]
fn the_program_is_not_looked_at_twice() {
    let up = uploaded(&[("only-sm_90a.so", "main.so")]);
    let program = up.path().join("main.so");
    let job = Job::inspect(Some(&program), Some(up.path()));
    assert_eq!((job.files().count(), job.incomplete), (1, false));
    assert_eq!(judge_job(&job, &RTX_5090).reason, "needs sm_90a; RTX 5090 is sm_120");
}

#[test]
fn libraries_that_run_do_not_help_a_program_that_does_not() {
    let up = uploaded(&[("only-sm_90a.so", "main"), ("many-targets.so", "libmany.so"), ("only-ptx.so", "only-ptx")]);
    let job = Job::inspect(Some(&up.path().join("main")), Some(up.path()));
    assert_eq!(judge_job(&job, &RTX_5090).verdict, Verdict::No);
    assert_eq!(judge_job(&job, &H200).verdict, Verdict::Native);
    let old = Device { cuda: Some(CudaVersion { major: 13, minor: 0 }), ..RTX_5090 };
    let job = Job::inspect(Some(&up.path().join("only-ptx")), Some(up.path()));
    assert_eq!(judge_job(&job, &old).verdict, Verdict::NeedsNewerDriver);
    // the other way round the program may choose what it loads
    let up = uploaded(&[("many-targets.so", "main"), ("only-sm_90a.so", "lib90.so")]);
    let job = Job::inspect(Some(&up.path().join("main")), Some(up.path()));
    assert_eq!(judge_job(&job, &RTX_5090).verdict, Verdict::Partial);
}

#[test]
fn what_cannot_be_read_leaves_the_verdict_open() {
    let up = uploaded(&[("only-sm_90a.so", "libgood.so")]);
    let whole = fs::read(folder().join("only-sm_90a.so")).unwrap();
    fs::write(up.path().join("libbroken.so"), &whole[..whole.len() / 2]).unwrap();
    let job = Job::inspect(None, Some(up.path()));
    assert_eq!(names(&job, up.path()), ["libbroken.so", "libgood.so"]);
    assert!(matches!(&job.libraries[0].outcome, Outcome::Unread(why) if why.contains("damaged")));
    let answer = judge_job(&job, &H200);
    assert_eq!((answer.verdict, answer.reason.as_str()), (Verdict::Unknown, "some of its files could not be read"));
    assert_eq!(judge_job(&job, &RTX_5090).verdict, Verdict::Partial);
    assert!(Job::inspect(Some(&up.path().join("missing")), None).has_gaps());
}

#[test]
fn links_are_not_followed_and_endless_folders_end() {
    let up = uploaded(&[("only-sm_90a.so", "a/libkernel.so")]);
    symlink(up.path(), up.path().join("a/again")).unwrap();
    symlink(up.path().join("a/libkernel.so"), up.path().join("liblink.so")).unwrap();
    let job = Job::inspect(None, Some(up.path()));
    assert_eq!((names(&job, up.path()), job.incomplete), (vec!["a/libkernel.so".to_owned()], false));

    fs::create_dir_all(up.path().join(["deep"; 25].join("/"))).unwrap();
    assert!(Job::inspect(None, Some(up.path())).incomplete);
    assert!(Job::inspect(None, Some(&up.path().join("missing"))).incomplete);
}

#[test]
fn a_job_is_the_same_after_its_json_and_reads_as_a_table() {
    let up = uploaded(&[("two-units.so", "libtwo.so")]);
    let missing = up.path().join("missing");
    let job = Job::inspect(Some(&missing), Some(up.path()));
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&json).unwrap(), job, "{json}");
    let at = |name: &str| up.path().join(name).display().to_string();
    let (missing, library) = (at("missing"), at("libtwo.so"));
    assert_eq!(
        job.to_string(),
        format!(
            "{missing}: not inspected: cannot open {missing}: check the path and its permissions\n\
             {library}: program or library, 2 containers of GPU code\n  2 × PTX 9.5 for sm_80, sm_80\n"
        )
    );
}
