//! The JSON documents that describe an image: a list of manifests for several platforms, one manifest with its layers, and the
//! configuration with what a program of the image expects. Strangers write them; what is not needed is not looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ImageDigest, ImageError};

/// The longest document that registries themselves take.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// The most layers of an image: builders stop at 127.
const MAX_LAYERS: usize = 128;

/// The most manifests of a list: one for each platform that exists, with as many attestations.
const MAX_MANIFESTS: usize = 256;

/// What one part of an image is called and how large it says it is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) digest: ImageDigest,
    pub(crate) size: u64,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Platform {
    fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }

    fn shown(&self) -> String {
        format!("{}/{}", self.os.escape_debug(), self.architecture.escape_debug())
    }
}

/// This machine's architecture, as images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a digest or an index names.
#[derive(Debug)]
pub(crate) enum Document {
    /// One manifest for each platform.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// An image's configuration and layers, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Document {
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Document, ImageError> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let wrong = |reason: &str| ImageError::malformed(what, reason);
        let either: Either = serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
        match (either.manifests, either.config, either.layers) {
            (Some(manifests), None, None) if manifests.len() <= MAX_MANIFESTS => Ok(Document::Index(manifests)),
            (None, Some(config), Some(layers)) if layers.len() <= MAX_LAYERS => {
                Ok(Document::Manifest(Manifest { config, layers }))
            }
            (Some(_), None, None) => Err(too_many("manifests", MAX_MANIFESTS)),
            (None, Some(_), Some(_)) => Err(too_many("layers", MAX_LAYERS)),
            // One that is both would be one image here and another elsewhere.
            _ => Err(wrong("it must be either a list of manifests or one manifest with a configuration and layers")),
        }
    }
}

fn too_many(what: &str, limit: usize) -> ImageError {
    ImageError::TooLarge { what: format!("the image's number of {what}"), limit: limit.to_string() }
}

/// The one manifest of a list that is for this machine. A list of one without a platform is taken as it is: its configuration says
/// the platform again.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    if manifests.iter().all(|manifest| manifest.platform.is_none()) {
        return match manifests {
            [only] => Ok(only),
            _ => Err(ImageError::malformed("the list of images", "it must hold exactly one: save only one")),
        };
    }
    let platform = |manifest: &Descriptor| manifest.platform.clone().unwrap_or_default();
    // Variants of one architecture stand in order of age: the first runs everywhere.
    let ours = manifests.iter().find(|manifest| platform(manifest).is_ours());
    ours.ok_or_else(|| wrong_platform(manifests.iter().map(|manifest| platform(manifest).shown())))
}

fn wrong_platform(offered: impl Iterator<Item = String>) -> ImageError {
    let mut offered: Vec<String> = offered.take(8).collect();
    offered.dedup();
    let offered = if offered.is_empty() { "nothing".into() } else { offered.join(", ") };
    ImageError::WrongPlatform { wanted: format!("linux/{}", architecture()), offered }
}

/// What an image says of its programs. The job runs as the user that it names; whatever else is run inside, as root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Environment that its programs expect.
    pub env: BTreeMap<String, String>,
    /// The program that takes the arguments.
    pub entrypoint: Vec<String>,
    /// The arguments, or the whole command line without an entry point.
    pub command: Vec<String>,
    /// Where its programs start.
    pub working_directory: Option<String>,
    /// The user it names: `USER`, `USER:GROUP`, by name or number.
    pub user: Option<String>,
}

impl ImageConfig {
    /// The user that the job runs as, if it is another than root.
    pub fn other_user(&self) -> Option<&str> {
        self.user.as_deref().filter(|user| !matches!(*user, "root" | "0" | "root:root" | "0:0"))
    }
}

/// The configuration document.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) image: ImageConfig,
    /// The digests of the unpacked layers, lowest first.
    pub(crate) layers: Vec<ImageDigest>,
}

impl Configuration {
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Configuration, ImageError> {
        #[derive(Deserialize)]
        struct Written {
            #[serde(flatten)]
            platform: Platform,
            config: Option<Runtime>,
            rootfs: Layers,
        }
        #[derive(Deserialize)]
        struct Layers {
            diff_ids: Vec<ImageDigest>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Runtime {
            env: Option<Vec<String>>,
            entrypoint: Option<Vec<String>>,
            cmd: Option<Vec<String>>,
            working_dir: Option<String>,
            user: Option<String>,
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
        if !written.platform.is_ours() {
            return Err(wrong_platform(std::iter::once(written.platform.shown())));
        }
        let layers = written.rootfs.diff_ids;
        if layers.is_empty() {
            return Err(ImageError::malformed(what, "it has no layers"));
        }
        if layers.len() > MAX_LAYERS {
            return Err(too_many("layers", MAX_LAYERS));
        }
        let runtime = written.config.unwrap_or_default();
        let env = runtime.env.unwrap_or_default().iter().map(|line| variable(what, line)).collect::<Result<_, _>>()?;
        let image = ImageConfig {
            env,
            entrypoint: runtime.entrypoint.unwrap_or_default(),
            command: runtime.cmd.unwrap_or_default(),
            // Builders write an absolute path, or an empty one that means none.
            working_directory: runtime.working_dir.filter(|directory| directory.starts_with('/')),
            user: runtime.user.filter(|user| !user.is_empty()),
        };
        Ok(Configuration { image, layers })
    }
}

fn variable(what: &str, line: &str) -> Result<(String, String), ImageError> {
    match line.split_once('=') {
        Some((name, value)) if !name.is_empty() && !line.contains('\0') => Ok((name.into(), value.into())),
        _ => Err(ImageError::malformed(what, "a line of its environment is not `NAME=value`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(platform: Option<(&str, &str)>, content: &str) -> serde_json::Value {
        let mut value = serde_json::json!({ "digest": ImageDigest::of(content.as_bytes()), "size": content.len() });
        if let Some((os, architecture)) = platform {
            value["platform"] = serde_json::json!({ "os": os, "architecture": architecture });
        }
        value
    }

    fn index(manifests: &[serde_json::Value]) -> Vec<Descriptor> {
        let text = serde_json::to_vec(&serde_json::json!({ "manifests": manifests })).unwrap();
        let Document::Index(manifests) = Document::parse("x", &text).unwrap() else { panic!("not an index") };
        manifests
    }

    #[test]
    fn the_manifest_for_this_machine_is_chosen_and_the_others_are_named_when_there_is_none() {
        let ours = descriptor(Some(("linux", architecture())), "ours");
        let others = [descriptor(Some(("linux", "s390x")), "a"), descriptor(Some(("windows", architecture())), "b")];
        let all = index(&[others[0].clone(), ours, others[1].clone()]);
        assert_eq!(choose(&all).unwrap().digest, ImageDigest::of(b"ours"));
        let error = choose(&index(&others)).unwrap_err();
        assert!(matches!(error, ImageError::WrongPlatform { .. }), "{error}");
        assert!(error.to_string().contains("linux/s390x"), "{error}");
        assert_eq!(choose(&index(&[descriptor(None, "only")])).unwrap().digest, ImageDigest::of(b"only"));
    }

    #[test]
    fn a_document_that_is_a_list_and_an_image_at_once_is_refused() {
        let both = serde_json::json!({ "manifests": [], "config": descriptor(None, "c"), "layers": [] });
        assert!(Document::parse("x", both.to_string().as_bytes()).is_err());
        assert!(Document::parse("x", b"{}").is_err());
        assert!(Document::parse("x", b"[]").is_err());
    }

    #[test]
    fn more_layers_than_any_builder_makes_are_refused() {
        let layers = vec![descriptor(None, "l"); MAX_LAYERS + 1];
        let manifest = serde_json::json!({ "config": descriptor(None, "c"), "layers": layers });
        let error = Document::parse("x", manifest.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_configuration_says_what_programs_expect_and_null_is_nothing() {
        let layer = ImageDigest::of(b"layer");
        let text = serde_json::json!({
            "os": "linux", "architecture": architecture(), "rootfs": { "type": "layers", "diff_ids": [layer] },
            "config": { "Env": ["A=1", "B=x=y"], "Entrypoint": null, "Cmd": ["sh"], "WorkingDir": "", "User": "me" },
        });
        let read = Configuration::parse("x", text.to_string().as_bytes()).unwrap();
        assert_eq!(read.layers, [layer]);
        assert_eq!(read.image.env.get("B").map(String::as_str), Some("x=y"));
        assert_eq!((read.image.command.len(), read.image.entrypoint.len()), (1, 0));
        assert_eq!((read.image.working_directory, read.image.user.as_deref()), (None, Some("me")));
        for (pointer, value) in [("/os", "plan9"), ("/architecture", "s390x")] {
            let mut other = text.clone();
            *other.pointer_mut(pointer).unwrap() = value.into();
            let error = Configuration::parse("x", other.to_string().as_bytes()).unwrap_err();
            assert!(matches!(error, ImageError::WrongPlatform { .. }), "{error}");
        }
        let mut other = text;
        *other.pointer_mut("/config/Env").unwrap() = serde_json::json!(["=x"]);
        assert!(Configuration::parse("x", other.to_string().as_bytes()).is_err());
    }
}
