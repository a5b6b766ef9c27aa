//! Fetching from a registry by the OCI distribution protocol: documents, layers, and the token that public images need as well. Nothing
//! is believed: each answer is bounded while it comes and held against the digest and the size that were named for it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Deserialize;

use super::address::{self, Forbidden, PublicResolver};
use super::challenge::Challenge;
use super::digest::Hasher;
use super::documents::{Configuration, Descriptor, Document, MAX_DOCUMENT, choose};
use super::reference::{ImageReference, Repository, TaggedImage};
use super::stop::Stop;
use super::{ImageDigest, ImageError};

/// How long a connection may take to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// How long a registry may say nothing.
const SILENCE_WAIT: Duration = Duration::from_secs(30);

/// How often a request is made in all: a registry that fails five times in a row is down.
const MAX_ATTEMPTS: u32 = 5;

/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest answer with a token.
const MAX_TOKEN_ANSWER: u64 = 64 << 10;

/// How often a list may name another list.
const MAX_NESTING: usize = 2;

/// The host behind a name that everybody writes otherwise.
const RENAMED: (&str, &str) = ("docker.io", "registry-1.docker.io");

const DOCUMENT_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The client of all registries.
#[derive(Clone)]
pub(crate) struct Registries {
    client: Client,
    loopback: bool,
}

/// What a registry says of an image.
pub(crate) struct RemoteImage {
    pub(crate) configuration: Configuration,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) session: Session,
}

/// One repository, with the token for it.
#[derive(Clone)]
pub(crate) struct Session {
    registries: Registries,
    base: Url,
    repository: Repository,
    token: Arc<Mutex<Option<String>>>,
}

impl Registries {
    /// A client that goes to public addresses, and to this machine's own if `loopback` allows it.
    pub(crate) fn new(loopback: bool) -> Result<Registries, ImageError> {
        let failed = |reason: String| ImageError::Registry { what: "anything".into(), reason };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(|error| failed(format!("{error} (is the package ca-certificates installed?)")))?
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent("gpulease")
            .connect_timeout(CONNECT_WAIT)
            .read_timeout(SILENCE_WAIT)
            .redirect(reqwest::redirect::Policy::custom(move |attempt| address::redirect(attempt, loopback)))
            .dns_resolver(PublicResolver::shared(loopback))
            // A proxy would resolve names itself, and could be sent anywhere.
            .no_proxy();
        Ok(Registries { client: client.build().map_err(|error| failed(chain(&error)))?, loopback })
    }

    fn session(&self, repository: &Repository) -> Result<Session, ImageError> {
        let (name, host) = RENAMED;
        let host = if repository.registry == name { host } else { &repository.registry };
        let url = |scheme| format!("{scheme}://{host}/v2/{}/", repository.path).parse::<Url>();
        let wrong = |_| ImageError::Registry { what: repository.to_string(), reason: "it is no address".into() };
        let plain = url("http").map_err(wrong)?;
        let base = if address::check(&plain, self.loopback).is_ok() { plain } else { url("https").map_err(wrong)? };
        address::check(&base, self.loopback).map_err(|Forbidden(place)| ImageError::Address(place))?;
        Ok(Session { registries: self.clone(), base, repository: repository.clone(), token: Arc::default() })
    }

    /// What a tag means now.
    pub(crate) async fn resolve(&self, image: &TaggedImage, stop: &Stop) -> Result<ImageReference, ImageError> {
        let session = self.session(&image.repository)?;
        let bytes = session.document("manifests", &image.tag, stop).await?;
        Document::parse(&image.tag, &bytes)?;
        Ok(ImageReference { repository: image.repository.clone(), digest: ImageDigest::of(&bytes) })
    }

    /// The description of an image for this machine.
    pub(crate) async fn describe(&self, image: &ImageReference, stop: &Stop) -> Result<RemoteImage, ImageError> {
        let session = self.session(&image.repository)?;
        let mut digest = image.digest;
        for _ in 0..MAX_NESTING {
            let bytes = session.named_document("manifests", &digest, stop).await?;
            match Document::parse("the manifest", &bytes)? {
                Document::Index(manifests) => digest = choose(&manifests)?.digest,
                Document::Manifest(manifest) => {
                    let bytes = session.named_document("blobs", &manifest.config.digest, stop).await?;
                    let configuration = Configuration::parse("its configuration", &bytes)?;
                    return Ok(RemoteImage { configuration, layers: manifest.layers, session });
                }
            }
        }
        Err(ImageError::malformed("the manifest", "lists of lists lead nowhere"))
    }
}

impl Session {
    async fn named_document(&self, kind: &str, digest: &ImageDigest, stop: &Stop) -> Result<Vec<u8>, ImageError> {
        let bytes = self.document(kind, &digest.to_string(), stop).await?;
        let found = ImageDigest::of(&bytes);
        if found == *digest {
            return Ok(bytes);
        }
        let (wanted, found) = (digest.to_string(), found.to_string());
        Err(ImageError::DigestMismatch { what: "a document of the image".into(), wanted, found })
    }

    async fn document(&self, kind: &str, name: &str, stop: &Stop) -> Result<Vec<u8>, ImageError> {
        let mut attempts = Attempts::default();
        loop {
            let outcome = match self.get(kind, name, 0, stop).await {
                Ok(response) => read(response, MAX_DOCUMENT, "a document of the image", stop).await,
                Err(trouble) => Err(trouble),
            };
            match outcome {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => attempts.pause(trouble, stop).await?,
            }
        }
    }

    /// Fetches a layer into a new file. An interrupted transfer goes on where it stopped, if the registry can do that.
    pub(crate) async fn download(
        &self,
        layer: &Descriptor,
        path: &Path,
        stop: &Stop,
        progress: impl Fn(u64),
    ) -> Result<File, ImageError> {
        let create = || File::options().read(true).write(true).create_new(true).open(path);
        let mut download = Download {
            file: create().map_err(ImageError::at(path))?,
            path,
            hasher: Hasher::default(),
            received: 0,
            size: layer.size,
        };
        let mut attempts = Attempts::default();
        while let Err(trouble) = self.transfer(layer, &mut download, stop, &progress).await {
            attempts.pause(trouble, stop).await?;
        }
        let found = download.hasher.digest();
        if found != layer.digest {
            let (wanted, found) = (layer.digest.to_string(), found.to_string());
            return Err(ImageError::DigestMismatch { what: "a layer".into(), wanted, found });
        }
        Ok(download.file)
    }

    async fn transfer(
        &self,
        layer: &Descriptor,
        download: &mut Download<'_>,
        stop: &Stop,
        progress: &impl Fn(u64),
    ) -> Result<(), Trouble> {
        let mut response = self.get("blobs", &layer.digest.to_string(), download.received, stop).await?;
        if download.received > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            download.restart()?;
        }
        while let Some(bytes) = response.chunk().await? {
            stop.check()?;
            download.take(&bytes)?;
            progress(download.received);
        }
        if download.received == download.size {
            return Ok(());
        }
        let reason = format!("the transfer ended after {} of {} bytes", download.received, download.size);
        Err(Trouble::Passing(reason))
    }

    /// One request, with a token when the registry asks for one.
    async fn get(&self, kind: &str, name: &str, from: u64, stop: &Stop) -> Result<Response, Trouble> {
        let what = format!("{} of {}", name, self.repository);
        let url = self.base.join(&format!("{kind}/{name}")).map_err(|error| Trouble::Passing(error.to_string()))?;
        let mut response = self.send(&url, from).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let token = self.fetch_token(&response, &what, stop).await?;
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
            response = self.send(&url, from).await?;
        }
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(ImageError::NotFound(what).into()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ImageError::Unauthorised(what).into()),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::Passing(format!("the registry answers {status}")))
            }
            status => Err(ImageError::Registry { what, reason: format!("the registry answers {status}") }.into()),
        }
    }

    async fn send(&self, url: &Url, from: u64) -> Result<Response, Trouble> {
        let mut request = self.registries.client.get(url.clone()).header(ACCEPT, format!("{DOCUMENT_TYPES}, */*"));
        if let Some(token) = &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        Ok(request.send().await?)
    }

    /// Asks where the registry says for a token that everybody gets.
    async fn fetch_token(&self, response: &Response, what: &str, stop: &Stop) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let challenge = challenge.and_then(Challenge::parse).ok_or_else(|| ImageError::Unauthorised(what.into()))?;
        let mut url: Url = challenge.realm.parse().map_err(|_| ImageError::Unauthorised(what.into()))?;
        address::check(&url, self.registries.loopback).map_err(|Forbidden(place)| ImageError::Address(place))?;
        let scope = format!("repository:{}:pull", self.repository.path);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = &challenge.service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let response = self.registries.client.get(url).send().await?;
        if !response.status().is_success() {
            return Err(ImageError::Unauthorised(what.into()).into());
        }
        let bytes = read(response, MAX_TOKEN_ANSWER, "a token", stop).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| ImageError::malformed("a token", error))?;
        Ok(answer.token.or(answer.access_token).ok_or_else(|| ImageError::Unauthorised(what.into()))?)
    }
}

/// A layer on its way.
struct Download<'a> {
    file: File,
    path: &'a Path,
    hasher: Hasher,
    received: u64,
    size: u64,
}

impl Download<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.received += bytes.len() as u64;
        if self.received > self.size {
            let (wanted, found) = (format!("{} bytes", self.size), "more".into());
            return Err(ImageError::DigestMismatch { what: "a layer".into(), wanted, found });
        }
        self.hasher.update(bytes);
        // To the page cache, in pieces of some KiB: no thread of its own is worth it.
        self.file.write_all(bytes).map_err(ImageError::at(self.path))
    }

    fn restart(&mut self) -> Result<(), ImageError> {
        self.hasher = Hasher::default();
        self.received = 0;
        let again = self.file.set_len(0).and_then(|()| std::io::Seek::rewind(&mut self.file));
        again.map_err(ImageError::at(self.path))
    }
}

/// What stands in the way of an answer.
enum Trouble {
    /// It may be gone at the next attempt.
    Passing(String),
    Lasting(ImageError),
}

impl From<ImageError> for Trouble {
    fn from(error: ImageError) -> Trouble {
        Trouble::Lasting(error)
    }
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Trouble {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(Forbidden(place)) = inner.downcast_ref() {
                return Trouble::Lasting(ImageError::Address(place.clone()));
            }
            cause = inner.source();
        }
        Trouble::Passing(chain(&error))
    }
}

/// How often something was tried.
#[derive(Default)]
struct Attempts(u32);

impl Attempts {
    /// Waits before the next attempt, unless there is none.
    async fn pause(&mut self, trouble: Trouble, stop: &Stop) -> Result<(), ImageError> {
        let reason = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing(reason) => reason,
        };
        self.0 += 1;
        if self.0 == MAX_ATTEMPTS {
            return Err(ImageError::Registry { what: "a part of the image".into(), reason });
        }
        stop.check()?;
        tracing::debug!(reason, attempt = self.0, "a registry is asked again");
        tokio::time::sleep(FIRST_PAUSE * (1 << (self.0 - 1))).await;
        Ok(())
    }
}

/// Reads a whole answer, up to a bound.
async fn read(mut response: Response, limit: u64, what: &str, stop: &Stop) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        stop.check()?;
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(ImageError::TooLarge { what: what.into(), limit: format!("{limit} bytes") }.into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
