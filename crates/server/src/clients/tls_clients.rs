//! `TlsClients`: the TLS clients of one configuration. They are read from files, so they are built apart from
//! the gateway, which the control thread builds.

use std::sync::Arc;

use openssl::{error::ErrorStack, ssl::SslContext};
use switchboard_delivery::TlsClient;

use crate::{
    clients::{
        authorities::{Authorities, AuthoritiesError},
        fetch::Fetcher,
        tls_client,
    },
    config::Config,
};

/// The TLS clients of one configuration.
#[derive(Debug)]
pub(crate) struct TlsClients {
    pub(crate) authorities: Arc<Authorities>,
    /// The clients of the trusts that have an authority of their own, by the trust's name.
    trusts: Vec<(String, SslContext)>,
    instances: TlsClient,
}

/// A TLS client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsClientsError {
    /// The authorities of the system cannot be used.
    #[error("cannot use the certificate authorities of the system")]
    Authorities(#[from] AuthoritiesError),
    /// The authorities of the instances cannot be used.
    #[error("cannot use the certificates of fleet.ca")]
    Instances(#[source] ErrorStack),
    /// The authorities of a trust cannot be used.
    #[error("trust {trust}: cannot use the certificates of its ca")]
    Trust {
        /// The name of the trust.
        trust: String,
        /// The error of OpenSSL.
        source: ErrorStack,
    },
}

impl TlsClients {
    /// Reads the authorities of the system, for the trusts and instances of `config`, which may have others
    /// besides. It takes those of the system from `last` if they have not changed since. It may wait for a
    /// file: not for a thread that serves.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a certificate in it cannot be used.
    pub(crate) fn load(config: &Config, last: Option<&Arc<Authorities>>) -> Result<Self, TlsClientsError> {
        let authorities = Authorities::load(last)?;
        let own = config.trusts.iter().filter_map(|trust| Some((&trust.settings.name, trust.ca.as_ref()?)));
        let context = |(name, ca): (&String, _)| {
            let trust = name.clone();
            match authorities.with(ca) {
                Ok(context) => Ok((trust, context)),
                Err(source) => Err(TlsClientsError::Trust { trust, source }),
            }
        };
        let trusts = own.map(context).collect::<Result<_, _>>()?;
        let instances = match &config.instances_ca {
            Some(ca) => tls_client(Some(ca)).and_then(TlsClient::new).map_err(TlsClientsError::Instances)?,
            None => authorities.upstreams(),
        };
        Ok(Self { authorities, trusts, instances })
    }

    /// The client of a trust's documents.
    pub(crate) fn of_trust(&self, name: &str) -> Fetcher {
        let own = self.trusts.iter().find(|(trust, _)| trust == name);
        own.map_or_else(|| self.documents(), |(_, context)| Fetcher::sharing(context.clone()))
    }

    /// A client of documents that trusts the authorities of the system.
    pub(crate) fn documents(&self) -> Fetcher {
        Fetcher::sharing(self.authorities.documents.clone())
    }

    /// A client of instances. It has no sessions yet.
    pub(crate) fn instances(&self) -> TlsClient {
        self.instances.sibling()
    }

    /// A client of peer gateways or of Graph. It has no sessions yet.
    pub(crate) fn upstreams(&self) -> TlsClient {
        self.authorities.upstreams()
    }
}
