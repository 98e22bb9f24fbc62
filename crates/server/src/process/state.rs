//! The state that all threads of the process share. A reload replaces its gateway and its certificate.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use openssl::ssl::SslAcceptor;

use crate::{
    gateway::Gateway,
    metrics::Metrics,
    process::{
        certificate::Certificate,
        connection::{ProxyLog, Slots},
    },
};

/// The current gateway, the current certificate, and the metrics.
#[derive(Debug)]
pub(crate) struct ProcessState {
    pub(crate) gateway: ArcSwap<Gateway>,
    pub(crate) metrics: Arc<Metrics>,
    /// The slots of the public listener.
    pub(crate) slots: Arc<Slots>,
    pub(crate) proxy_log: ProxyLog,
    certificate: ArcSwapOption<Certificate>,
}

impl ProcessState {
    pub(crate) fn new(gateway: Gateway, metrics: Arc<Metrics>) -> Self {
        Self {
            gateway: ArcSwap::from_pointee(gateway),
            metrics,
            slots: Arc::new(Slots::public()),
            proxy_log: ProxyLog::default(),
            certificate: ArcSwapOption::empty(),
        }
    }

    /// Returns true if no connection is open and no task is in flight.
    pub(crate) fn is_finished(&self) -> bool {
        self.metrics.open_connections() == 0 && self.gateway.load().tasks.in_flight() == 0
    }

    /// Serves `certificate` on new connections, and logs its faults; `None` is plain HTTP.
    pub(crate) fn serve_certificate(&self, certificate: Option<Certificate>) {
        let gateway = self.gateway.load();
        for finding in certificate.iter().flat_map(|one| one.findings(gateway.callbacks.origin())) {
            tracing::warn!(
                finding = finding.label(),
                detail = %finding,
                "certificate of listen.tls needs attention"
            );
        }
        self.metrics.certificate_not_after(certificate.as_ref().and_then(Certificate::not_after));
        self.certificate.store(certificate.map(Arc::new));
    }

    /// The acceptor of the current certificate; `None` without TLS.
    pub(crate) fn tls_acceptor(&self) -> Option<SslAcceptor> {
        self.certificate.load().as_ref().map(|certificate| certificate.acceptor())
    }
}
