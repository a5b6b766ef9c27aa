//! From where an image lies to a tree in the pool: its description is read, its layers are fetched and unpacked one after the other, and
//! the tree gets its name when every digest was right. All of it runs on a thread for work that blocks.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::compression::unpacked;
use super::digest::{Hashed, chain_id};
use super::documents::Configuration;
use super::local::{Blob, LocalImage, LocalLayer, open_file};
use super::making::Making;
use super::pool::{ImageUse, Pool, PreparedImage, Scratch};
use super::reference::TaggedImage;
use super::registry::{Registries, RemoteImage};
use super::stop::Stop;
use super::unpack::Unpacker;
use super::{ImageConfig, ImageDigest, ImageError, ImageLimits, ImageReference, ImageSource, Progress};

/// How much of a packed layer is read at a time.
const PIECE: usize = 256 << 10;

/// The images of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    pool: Arc<Pool>,
    limits: ImageLimits,
    making: Making,
    /// Made when the first image of a registry is asked for: it reads the machine's certificates.
    registries: OnceLock<Registries>,
}

/// The layers of an image that is not unpacked yet.
enum Layers {
    Local(Vec<LocalLayer>),
    Remote(Box<RemoteImage>),
}

/// One call: what it needs of everything else.
struct Work {
    inner: Arc<Inner>,
    stop: Stop,
    progress: Option<watch::Sender<Progress>>,
}

impl Images {
    /// Opens a pool. `sandboxes` holds the directories of sandboxes, which say what they use.
    pub(crate) fn open(root: &Path, sandboxes: &Path, limits: ImageLimits) -> Result<Images, ImageError> {
        let pool = Arc::new(Pool::open(root, sandboxes, limits.pool_bytes)?);
        Ok(Images(Arc::new(Inner { pool, limits, making: Making::default(), registries: OnceLock::new() })))
    }

    /// Sees to it that an image is in the pool. Dropping the future gives up, and leaves nothing half made.
    pub async fn prepare(
        &self,
        source: &ImageSource,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<PreparedImage, ImageError> {
        let (stop, _waiter) = Stop::new();
        let work = Work { inner: self.0.clone(), stop, progress };
        let (source, handle) = (source.clone(), Handle::current());
        let prepared = blocking(move || work.prepare(&source, &handle)).await?;
        tracing::info!(tree = %prepared.tree(), "an image is ready");
        Ok(prepared)
    }
}

impl ImageReference {
    /// What a name with a tag, or without, means now: to be asked by the renter, before anything is agreed on. A registry on this machine
    /// itself may be asked too: it is the renter's own.
    pub async fn resolve(name: &str) -> Result<ImageReference, ImageError> {
        let (stop, _waiter) = Stop::new();
        let tagged: TaggedImage = name.parse()?;
        Registries::new(true)?.resolve(&tagged, &stop).await
    }
}

impl Inner {
    fn registries(&self) -> Result<Registries, ImageError> {
        if let Some(there) = self.registries.get() {
            return Ok(there.clone());
        }
        let made = Registries::new(self.limits.loopback_registries)?;
        Ok(self.registries.get_or_init(|| made).clone())
    }
}

impl Work {
    fn prepare(&self, source: &ImageSource, handle: &Handle) -> Result<PreparedImage, ImageError> {
        self.report(Progress::Asking);
        let prepared = match source {
            ImageSource::Registry(reference) => self.remote(reference, handle)?,
            ImageSource::Layout(path) => self.local(LocalImage::layout(path)?, handle)?,
            ImageSource::Archive(path) => {
                let scratch = self.inner.pool.scratch()?;
                let plain = scratch.path().join("archive.tar");
                self.local(LocalImage::archive(path, &plain, self.inner.limits.image_bytes)?, handle)?
            }
            ImageSource::Tar(path) => self.tar(path, handle)?,
        };
        self.report(Progress::Ready);
        Ok(prepared)
    }

    fn remote(&self, reference: &ImageReference, handle: &Handle) -> Result<PreparedImage, ImageError> {
        let pool = &self.inner.pool;
        if let Some(prepared) = pool.recall(&reference.digest()) {
            return Ok(prepared);
        }
        let image = handle.block_on(self.inner.registries()?.describe(reference, &self.stop))?;
        let configuration = image.configuration.clone();
        let prepared = self.unpack(configuration, Layers::Remote(Box::new(image)), handle)?;
        pool.remember(&reference.digest(), &prepared.used)?;
        Ok(prepared)
    }

    fn local(&self, image: LocalImage, handle: &Handle) -> Result<PreparedImage, ImageError> {
        self.unpack(image.configuration, Layers::Local(image.layers), handle)
    }

    /// A tar of a root file system has no description: it is read once for its digest, and again only if it is new.
    fn tar(&self, path: &Path, handle: &Handle) -> Result<PreparedImage, ImageError> {
        let file = open_file(path)?;
        let broken = |error| ImageError::malformed(path.display().to_string(), error);
        let limit = self.inner.limits.image_bytes;
        let mut plain = Hashed::new(unpacked(BufReader::with_capacity(PIECE, &file)).map_err(broken)?);
        let mut buffer = vec![0; PIECE];
        let mut length = 0;
        loop {
            self.stop.check()?;
            match plain.read(&mut buffer).map_err(broken)? {
                0 => break,
                read => length += read as u64,
            }
            if length > limit {
                return Err(too_large(limit));
            }
        }
        let layers = vec![plain.digest()];
        let length = file.metadata().map_err(ImageError::at(path))?.len();
        let blob = Blob { file: open_file(path)?, start: 0, length };
        let configuration = Configuration { image: ImageConfig::default(), layers };
        self.unpack(configuration, Layers::Local(vec![LocalLayer { blob, digest: None }]), handle)
    }

    /// Unpacks the layers, unless the tree is there or another call makes it.
    fn unpack(
        &self,
        configuration: Configuration,
        layers: Layers,
        handle: &Handle,
    ) -> Result<PreparedImage, ImageError> {
        let diffs = configuration.layers;
        let counted = match &layers {
            Layers::Local(layers) => layers.len(),
            Layers::Remote(image) => image.layers.len(),
        };
        let none = || ImageError::malformed("the image", "its manifest and its configuration disagree on its layers");
        let id = chain_id(&diffs).filter(|_| counted == diffs.len()).ok_or_else(none)?;
        let used = ImageUse { tree: id, config: configuration.image };
        self.report(Progress::Waiting);
        let _turn = self.inner.making.turn(id, &self.stop)?;
        if let Some(prepared) = self.inner.pool.find(used.clone()) {
            return Ok(prepared);
        }
        let scratch = self.inner.pool.scratch()?;
        let tree = scratch.path().join("tree");
        std::fs::create_dir(&tree).map_err(ImageError::at(&tree))?;
        let mut unpacker = Unpacker::new(&tree, self.inner.limits.image_bytes, &self.stop)?;
        match layers {
            Layers::Local(layers) => {
                for (number, (layer, diff)) in layers.into_iter().zip(&diffs).enumerate() {
                    self.report(Progress::Unpacking { layer: number + 1, layers: diffs.len() });
                    self.layer(&mut unpacker, layer, diff)?;
                }
            }
            Layers::Remote(image) => self.fetch(&mut unpacker, &image, &diffs, &scratch, handle)?,
        }
        let bytes = unpacker.finish()?;
        self.inner.pool.install(&tree, bytes, used)
    }

    /// Fetches and unpacks layer after layer: while one is unpacked the next one comes. Each goes when it is unpacked.
    fn fetch(
        &self,
        unpacker: &mut Unpacker,
        image: &RemoteImage,
        diffs: &[ImageDigest],
        scratch: &Scratch,
        handle: &Handle,
    ) -> Result<(), ImageError> {
        let of = image.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        if of > self.inner.limits.image_bytes {
            return Err(too_large(self.inner.limits.image_bytes));
        }
        let (layers, mut before) = (diffs.len(), 0);
        let mut downloads = (1..).zip(&image.layers).map(|(number, layer)| {
            let path = scratch.path().join(number.to_string());
            let (session, layer, stop, sender) =
                (image.session.clone(), layer.clone(), self.stop.clone(), self.progress.clone());
            let earlier = before;
            before += layer.size;
            let task = async move {
                let progress = |bytes| {
                    report(sender.as_ref(), Progress::Fetching { layer: number, layers, bytes: earlier + bytes, of });
                };
                let file = session.download(&layer, &path, &stop, progress).await?;
                Ok((Blob { file, start: 0, length: layer.size }, path))
            };
            // Ends with this call, however that ends.
            AbortOnDropHandle::new(handle.spawn(task))
        });
        let mut coming = downloads.next();
        for (number, diff) in (1..).zip(diffs) {
            let Some(download) = coming.take() else { break };
            let (blob, path) = handle.block_on(download).unwrap_or_else(|error| Err(interrupted(error)))?;
            coming = downloads.next();
            self.report(Progress::Unpacking { layer: number, layers });
            // Its digest was seen to while it came.
            self.layer(unpacker, LocalLayer { blob, digest: None }, diff)?;
            std::fs::remove_file(&path).map_err(ImageError::at(&path))?;
        }
        Ok(())
    }

    /// Unpacks one layer and holds it against its digests, packed and unpacked.
    fn layer(&self, unpacker: &mut Unpacker, layer: LocalLayer, diff: &ImageDigest) -> Result<(), ImageError> {
        let broken = |error| ImageError::malformed("a layer", error);
        let mut packed = layer.blob.reader().map_err(broken)?;
        let Some(wanted) = layer.digest else {
            return same("an unpacked layer", *diff, unpack_layer(unpacker, &mut packed)?);
        };
        let mut packed = Hashed::new(packed);
        let outcome = unpack_layer(unpacker, &mut packed);
        // What is not what was named need not be well-formed either, and that it is not is the better reason.
        io::copy(&mut packed, &mut io::sink()).map_err(broken)?;
        same("a layer", wanted, packed.digest())?;
        same("an unpacked layer", *diff, outcome?)
    }

    fn report(&self, progress: Progress) {
        tracing::debug!(?progress, "preparing an image");
        report(self.progress.as_ref(), progress);
    }
}

fn report(sender: Option<&watch::Sender<Progress>>, progress: Progress) {
    if let Some(sender) = sender {
        sender.send_replace(progress);
    }
}

/// Unpacks a stream, and answers the digest of what was in it.
fn unpack_layer(unpacker: &mut Unpacker, packed: &mut impl Read) -> Result<ImageDigest, ImageError> {
    let plain = unpacked(BufReader::with_capacity(PIECE, packed));
    let mut plain = Hashed::new(plain.map_err(|error| ImageError::malformed("a layer", error))?);
    unpacker.layer(&mut plain)?;
    Ok(plain.digest())
}

fn same(what: &str, wanted: ImageDigest, found: ImageDigest) -> Result<(), ImageError> {
    if wanted == found {
        return Ok(());
    }
    let (wanted, found) = (wanted.to_string(), found.to_string());
    Err(ImageError::DigestMismatch { what: what.into(), wanted, found })
}

fn too_large(limit: u64) -> ImageError {
    ImageError::TooLarge { what: "the image".into(), limit: format!("{} MiB", limit >> 20) }
}

/// Runs what blocks on a thread kept for that. It runs to its end even if nobody waits any more, so nothing is left half made.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(interrupted(error)))
}

/// The runtime ends, or there is a fault of ours.
fn interrupted(error: JoinError) -> ImageError {
    ImageError::Io { path: PathBuf::from("a thread"), source: io::Error::other(error) }
}
