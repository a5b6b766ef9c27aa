//! An image made of this machine's shell, in all the forms that images have.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use sandbox::ImageDigest;
use serde_json::{Value, json};

use crate::support::small_tree;

/// An image before it has a form: layers as tars, and what it says of its programs.
pub(crate) struct Made {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) runtime: Value,
    pub(crate) architecture: &'static str,
}

/// How layers are packed.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Gzip,
}

impl Made {
    /// A shell with its libraries and a note, and a layer above that changes things.
    pub(crate) fn shell() -> Made {
        let tree = small_tree();
        let mut base = tar::Builder::new(Vec::new());
        base.append_dir_all(".", tree.path()).unwrap();
        let mut above = tar::Builder::new(Vec::new());
        file(&mut above, "srv/data/line", b"of the image\n");
        let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
        let runtime = json!({
            "Env": ["GREETING=hello", "PATH=/bin"], "Cmd": ["/bin/sh", "-c", "echo by itself"], "WorkingDir": "/srv/data",
        });
        Made { layers: vec![base.into_inner().unwrap(), above.into_inner().unwrap()], runtime, architecture }
    }

    /// The same with one more layer of these files.
    pub(crate) fn with_layer(mut self, files: &[(&str, &[u8])]) -> Made {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, content) in files {
            file(&mut layer, path, content);
        }
        self.layers.push(layer.into_inner().unwrap());
        self
    }

    fn config(&self) -> Vec<u8> {
        let diffs: Vec<ImageDigest> = self.layers.iter().map(|layer| ImageDigest::of(layer)).collect();
        let config = json!({
            "os": "linux", "architecture": self.architecture, "config": self.runtime,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        serde_json::to_vec(&config).unwrap()
    }

    /// Writes the image in OCI layout, and answers the digest of its manifest.
    pub(crate) fn layout(&self, directory: &Path, packing: Packing) -> ImageDigest {
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let blob = |content: &[u8]| {
            let digest = ImageDigest::of(content);
            fs::write(blob_path(directory, digest), content).unwrap();
            json!({ "digest": digest, "size": content.len() })
        };
        let layers: Vec<Value> = self.layers.iter().map(|layer| blob(&pack(layer, packing))).collect();
        let manifest = json!({ "schemaVersion": 2, "config": blob(&self.config()), "layers": layers });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut named = blob(&manifest);
        named["platform"] = json!({ "os": "linux", "architecture": self.architecture });
        let other = json!({ "digest": ImageDigest::of(b"other"), "size": 5,
            "platform": { "os": "linux", "architecture": "s390x" } });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [other, named] })).unwrap();
        // Registries know the list by its digest too.
        blob(&index);
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(directory.join("index.json"), index).unwrap();
        ImageDigest::of(&manifest)
    }

    /// Writes an archive of an OCI layout, packed as a whole.
    pub(crate) fn archive(&self, path: &Path) {
        let layout = tempfile::tempdir().unwrap();
        self.layout(layout.path(), Packing::Gzip);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all("", layout.path()).unwrap();
        fs::write(path, pack(&archive.into_inner().unwrap(), Packing::Gzip)).unwrap();
    }

    /// Writes what `docker save` wrote before it knew the OCI layout, one layer by another name.
    pub(crate) fn saved(&self, path: &Path) {
        let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
        let mut names = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            file(&mut archive, &format!("{number}/layer.tar"), layer);
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(tar::EntryType::Symlink);
            link.set_size(0);
            let name = format!("{number}b/layer.tar");
            archive.append_link(&mut link, &name, format!("../{number}/layer.tar")).unwrap();
            names.push(name);
        }
        file(&mut archive, "config.json", &self.config());
        let manifest = json!([{ "Config": "config.json", "RepoTags": ["shell:latest"], "Layers": names }]);
        file(&mut archive, "manifest.json", &serde_json::to_vec(&manifest).unwrap());
        archive.into_inner().unwrap();
    }

    /// Writes the lowest layer as a plain tar of a root file system.
    pub(crate) fn tar(&self, path: &Path, packing: Packing) {
        fs::write(path, pack(&self.layers[0], packing)).unwrap();
    }
}

/// Where a layout has its parts.
pub(crate) fn blob_path(layout: &Path, digest: ImageDigest) -> PathBuf {
    layout.join("blobs").join(digest.to_string().replace(':', "/"))
}

/// The digest of the list of manifests of a layout.
pub(crate) fn index_digest(layout: &Path) -> ImageDigest {
    ImageDigest::of(&fs::read(layout.join("index.json")).unwrap())
}

/// The largest part of a layout: a layer.
pub(crate) fn largest(layout: &Path) -> PathBuf {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn file(tar: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, Cursor::new(content)).unwrap();
}
