//! A callback of another region: to the gateway there, since a callback may not be redirected.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Uri, uri::PathAndQuery};
use http_body_util::Full;
use openssl::ssl::SslConnector;
use switchboard_routing::{CallbackUris, Name};
use tokio::time::Instant;

use crate::{
    Connections, Outbound, UpstreamResponse, UpstreamUrl,
    fleet::{Common, Fleet, Member},
    forward::Way,
    headers,
    instance::{self, Offer},
};

/// The gateways of other regions that take their own callbacks from us. Shared by all threads.
///
/// Each is one more host that is kept at for as long as patience lasts, as the owner of a call is; so it is modelled as an
/// instance that takes callbacks only, in a fleet of its own, with pools of its own.
#[derive(Debug)]
pub struct PeerGateways {
    fleet: Fleet,
    tls: SslConnector,
    patience: Duration,
    /// This region, as the value of `Switchboard-Forwarded-From`.
    here: HeaderValue,
}

impl PeerGateways {
    /// `peers`: the name of each region, and the origin at which its gateway takes callbacks. `tls` verifies them.
    pub fn new(
        here: Name,
        peers: Vec<(Name, UpstreamUrl)>,
        patience: Duration,
        uris: Arc<CallbackUris>,
        tls: SslConnector,
    ) -> Self {
        let incarnation = Name::parse("0").expect("a digit is a name");
        let members = peers.into_iter().map(|(name, target)| Member {
            name,
            incarnation: incarnation.clone(),
            new_calls: target.clone(),
            callbacks: target,
            apps: None,
            weight: 1,
            offer: Offer::Ready,
            lingers: false,
        });
        let from = instance::name_value(&here);
        let common = Common {
            region: here,
            probed: false,
            uris,
            keep_leaving: Duration::ZERO,
            slow_start: Duration::ZERO,
            trust: Common::next_trust(),
        };
        let fleet = Fleet::new(members.collect(), true, &common, None, Instant::now());
        Self { fleet, tls, patience, here: from }
    }

    /// Whether a request was proxied to us by another region, or claims it. It is believed in one thing only: it is not
    /// proxied again, so that two regions that disagree cannot send a callback to and fro.
    pub fn is_forwarded(headers: &HeaderMap) -> bool {
        headers.contains_key(&headers::FORWARDED_FROM)
    }

    /// Whether the gateway of `region` takes callbacks from us.
    pub fn has(&self, region: &str) -> bool {
        self.fleet.instance(region).is_some()
    }

    /// Brings a callback to the gateway of `region`: with its `Authorization`, so that the gateway there finds out for
    /// itself who sent it, and marked. `target` is the path and query as received.
    ///
    /// Patience is that of a callback here, as are the rules of repeating it.
    pub async fn proxy(
        &self,
        connections: &Connections,
        notification: Outbound,
        region: &str,
        target: PathAndQuery,
    ) -> Result<UpstreamResponse, ProxyError> {
        let Some(gateway) = self.fleet.instance(region) else { return Err(ProxyError::NotAPeer) };
        let end = notification.arrived + self.patience;
        let in_flight = gateway.live.request_begins(Instant::now());
        let Outbound { mut headers, body, .. } = notification;
        headers::clean(&mut headers, true);
        headers::stamp_proxied(&mut headers, &gateway.callbacks.host, body.len(), &self.here);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let way = Way { pool: &connections.regions, fleet: &self.fleet, instance: gateway, tls: &self.tls };
        match way.insist(request, end).await {
            Ok((response, attempts)) => {
                Ok(UpstreamResponse::new(response, gateway, in_flight, end, attempts, 0))
            }
            Err((last, attempts)) => {
                Err(ProxyError::Unreachable { region: gateway.name().clone(), last: last.label(), attempts })
            }
        }
    }
}

/// Why a callback was not answered by the gateway of its region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The region is none whose gateway takes callbacks from us.
    #[error("no gateway of that region is known")]
    NotAPeer,
    /// It did not answer within the patience.
    #[error("the gateway of region {region} did not answer: {last}")]
    Unreachable {
        /// The region.
        region: Name,
        /// The last failure's label.
        last: &'static str,
        /// How many tries there were.
        attempts: u32,
    },
}

impl ProxyError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotAPeer => "not_a_peer",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}
