//! The metrics page: what the parts of the daemon count, gathered when it is asked for and served in the OpenMetrics text format on an
//! address of its own. It tells about this node alone and changes nothing, so that it needs no token; by default only this machine
//! reaches it.

pub(crate) mod catalogue;
mod gather;
mod process;

pub(crate) use gather::{Sources, dropped};

use api::server::Bounded;
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use catalogue::{CHAPTERS, Kind, Metric};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
use std::{collections::BTreeMap, fmt, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// Pages made at once: a scraper or two, and a person. Others are told to come back.
pub(crate) const MAX_SCRAPES: usize = 4;
/// Connections to the page at once: more than that are not one machine's monitoring.
pub(crate) const MAX_READERS: usize = 32;
/// How long a page may take: Prometheus gives up after ten seconds unless told otherwise.
pub(crate) const SCRAPE_LIMIT: Duration = Duration::from_secs(8);

/// The values of all metrics at a moment.
#[derive(Debug, Default)]
pub(crate) struct Readings(BTreeMap<&'static str, Vec<(Vec<String>, f64)>>);

impl Readings {
    /// Sets a metric, whose labels have these values.
    pub(crate) fn set(&mut self, metric: Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.entry(metric.name).or_default().push((labels, value));
    }

    #[cfg(test)]
    pub(crate) fn value(&self, metric: Metric, labels: &[&str]) -> Option<f64> {
        self.0.get(metric.name)?.iter().find(|(found, _)| found == labels).map(|(_, value)| *value)
    }

    /// The page.
    fn page(self) -> Result<String, fmt::Error> {
        let (mut registry, mut page) = (Registry::default(), String::new());
        registry.register_collector(Box::new(self));
        text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in CHAPTERS.iter().flat_map(|chapter| chapter.metrics) {
            let Some(samples) = self.0.get(metric.name) else { continue };
            let (kind, stem) = match metric.kind {
                Kind::Counter => (MetricType::Counter, metric.name.trim_end_matches("_total")),
                Kind::Gauge => (MetricType::Gauge, metric.name),
            };
            let about = format!("{}.", metric.about);
            let mut encoder = encoder.encode_descriptor(stem, &about, None, kind)?;
            for (values, value) in samples {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                if labels.is_empty() {
                    write(&mut encoder, metric.kind, *value)?;
                } else {
                    write(&mut encoder.encode_family(&labels)?, metric.kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(encoder: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> fmt::Result {
    match kind {
        Kind::Counter => encoder.encode_counter(&value, None::<&Exemplar<Vec<(&str, &str)>, f64>>),
        Kind::Gauge => encoder.encode_gauge(&value),
    }
}

/// The page's server, bound and not yet serving.
pub(crate) struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Binds an address; port 0 takes a free one.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until cancelled. Whoever is being served then is cut off: a scrape can be had again.
    pub(crate) async fn serve(self, sources: Sources, cancel: CancellationToken) -> io::Result<()> {
        let scrapes = Arc::new(Semaphore::new(MAX_SCRAPES));
        let app = Router::new()
            .route("/metrics", get(page))
            .layer(DefaultBodyLimit::max(0))
            .with_state((Arc::new(sources), scrapes));
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            ended = axum::serve(Bounded::new(self.listener, MAX_READERS), app) => ended,
        }
    }
}

async fn page(State((sources, scrapes)): State<(Arc<Sources>, Arc<Semaphore>)>) -> Response {
    let Ok(_scrape) = scrapes.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many are reading this page, try again\n").into_response();
    };
    let Ok(readings) = tokio::time::timeout(SCRAPE_LIMIT, sources.read()).await else {
        tracing::warn!("the metrics could not be gathered within {} s", SCRAPE_LIMIT.as_secs());
        return (StatusCode::GATEWAY_TIMEOUT, "a part of the daemon does not answer\n").into_response();
    };
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match readings.page() {
        Ok(page) => ([(header::CONTENT_TYPE, format)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let mut readings = Readings::default();
        readings.set(catalogue::PEERS, &[], 8.0);
        readings.set(catalogue::MESSAGES, &["rental", "received"], 7.0);
        readings.set(catalogue::MESSAGES, &["gossip", "sent"], 0.0);
        assert_eq!(
            readings.page().unwrap(),
            "# HELP gpulease_network_peers Peers that the node is connected to.\n\
             # TYPE gpulease_network_peers gauge\n\
             gpulease_network_peers 8.0\n\
             # HELP gpulease_network_messages Announcements, requests and session streams.\n\
             # TYPE gpulease_network_messages counter\n\
             gpulease_network_messages_total{protocol=\"rental\",direction=\"received\"} 7.0\n\
             gpulease_network_messages_total{protocol=\"gossip\",direction=\"sent\"} 0.0\n\
             # EOF\n"
        );
    }
}
