//! Proxying a callback to the gateway of another region, since a callback may not be redirected.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, uri::PathAndQuery};
use switchboard_routing::Name;

use crate::{
    cause::Cause,
    connections::{Connections, Connector, TlsClient, connect_far},
    headers::{self, RequestHead},
    member::Member,
    origins::{Endpoint, Origins, OriginsBuilder},
    outbound::Outbound,
    response::UpstreamResponse,
    trace::{TracedUpstream, UpstreamTrace},
    upstream::Upstream,
    upstream_url::UpstreamUrl,
};

/// The gateways of other regions, each of which takes the callbacks of its region from this gateway. All
/// threads share it.
///
/// ```
/// use std::time::Duration;
///
/// use openssl::ssl::{SslConnector, SslMethod};
/// use switchboard_delivery::{PeerGateways, TlsClient, UpstreamUrl};
/// use switchboard_routing::Name;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let amer = (Name::parse("amer")?, UpstreamUrl::parse("https://amer.bots.contoso.com")?);
/// let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client())?)?;
/// let (here, patience) = (Name::parse("emea")?, Duration::from_secs(8));
/// let peers = PeerGateways::new(&here, vec![amer], patience, tls, Vec::new(), None);
/// assert!(peers.has("amer"));
/// assert!(!peers.has("apac"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PeerGateways {
    gateways: HashMap<Name, Endpoint>,
    origins: Origins,
    connector: Connector,
    patience: Duration,
    name_servers: Vec<SocketAddr>,
    /// This region, as the value of `Switchboard-Forwarded-From`.
    here: HeaderValue,
}

impl PeerGateways {
    /// The peer gateways of the region `here`. `peers` has the name of each region, and the origin at which
    /// its gateway takes callbacks. `tls` verifies their certificates. `name_servers` are as in
    /// [`DeliverySettings`](crate::DeliverySettings); [`PeerGateways::run`] looks the names up. Names that
    /// stay keep the addresses that `last` knew.
    pub fn new(
        here: &Name,
        peers: Vec<(Name, UpstreamUrl)>,
        patience: Duration,
        tls: TlsClient,
        name_servers: Vec<SocketAddr>,
        last: Option<&Self>,
    ) -> Self {
        let mut names = last.map(|last| last.origins.names()).unwrap_or_default();
        let connector = Connector::new(tls);
        let mut origins = OriginsBuilder::new(connector.trust(), peers.len());
        let mut gateways = HashMap::with_capacity(peers.len());
        for (region, url) in peers {
            let url = url.with_shared_name(&mut names);
            gateways.entry(region).or_insert_with(|| origins.endpoint(url, &Member::no_incarnation()));
        }
        let origins = origins.finish();
        Self { gateways, name_servers, origins, connector, patience, here: headers::name_value(here) }
    }

    /// Keeps the names of the gateways looked up, until it is dropped. Spawn it once, on any runtime.
    pub async fn run(self: Arc<Self>) {
        self.origins.names().follow(&self.name_servers).await;
    }

    /// Connects once to the gateway of `region`, in place of a callback and of [`PeerGateways::run`]. For a
    /// diagnosis.
    ///
    /// # Errors
    ///
    /// There is no connection. The error is the reason, in a few words, with the fault of the certificate if
    /// TLS failed.
    pub async fn connect_to(&self, region: &Name) -> Result<(), String> {
        let Some(endpoint) = self.gateways.get(region) else { return Err("not a peer gateway".to_owned()) };
        let names = self.origins.names();
        tokio::select! {
            connected = connect_far(endpoint.url.origin(), &self.connector) => {
                let origin = endpoint.url.origin();
                connected.map(|_| ()).map_err(|cause| self.connector.explain(cause, origin))
            }
            () = names.follow(&self.name_servers) => Err(Cause::LookupTimeout.reason().to_owned()),
        }
    }

    /// Returns true if another region proxied the request to this gateway, or if the sender claims so.
    ///
    /// The mark is believed in one respect only: the request is not proxied again, so that two regions that
    /// disagree cannot send a callback back and forth.
    pub fn is_forwarded(headers: &HeaderMap) -> bool {
        headers.contains_key(&headers::FORWARDED_FROM)
    }

    /// Returns true if the gateway of `region` takes callbacks from this gateway.
    pub fn has(&self, region: &str) -> bool {
        self.gateways.contains_key(region)
    }

    /// Proxies a callback to the gateway of `region`, marked. `target` is the path and query as received.
    ///
    /// The request keeps its `Authorization`, so that the gateway there authenticates the sender itself.
    /// Patience and the rules of sending it again are those of
    /// [`Delivery::forward`](crate::Delivery::forward).
    ///
    /// # Errors
    ///
    /// The region is not a peer, or its gateway did not respond within the patience.
    pub async fn proxy(
        &self,
        connections: &Connections,
        notification: &Outbound,
        region: &str,
        target: PathAndQuery,
    ) -> Result<UpstreamResponse, ProxyError> {
        let Some((region, endpoint)) = self.gateways.get_key_value(region) else {
            return Err(ProxyError::UnknownPeer);
        };
        let end = notification.arrived + self.patience;
        let Outbound { headers, body, trace, .. } = notification;
        let mut head = RequestHead::post(&target, &endpoint.host);
        // The gateway there authenticates the sender itself.
        let span = trace.as_ref().map(|trace| trace.span());
        head.add_received(headers, true, span);
        head.add_forwarded_from(&self.here);
        let mut request = head.with_body(body.clone());
        request.trace = UpstreamTrace::of(trace.as_ref(), TracedUpstream::Peer(region.clone()));
        let pool = &connections.peers;
        let upstream = Upstream { pool, origins: &self.origins, endpoint, connector: &self.connector };
        match upstream.send_until(&request, end, false, None).await {
            Ok((response, attempts, _)) => {
                Ok(UpstreamResponse { attempts, ..UpstreamResponse::of_peer(response, region, end) })
            }
            Err((last, attempts)) => {
                Err(ProxyError::Unreachable { region: region.clone(), last: last.label(), attempts })
            }
        }
    }
}

/// A callback was not delivered to the gateway of its region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No gateway of that region takes callbacks from this gateway.
    #[error("no gateway of that region is known")]
    UnknownPeer,
    /// The gateway did not respond within the patience.
    #[error("the gateway of region {region} did not respond: {last}")]
    Unreachable {
        /// The region.
        region: Name,
        /// The label of the last failure.
        last: &'static str,
        /// The number of attempts.
        attempts: u32,
    },
}

impl ProxyError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownPeer => "not_a_peer",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}
