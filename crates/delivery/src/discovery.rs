//! Instances that are discovered, not listed. Each source has a file.
//!
//! All sources follow one rule: a response that cannot be read, makes no sense, or contains a forbidden
//! address changes nothing. The last good state stays, and the log says why. Of SRV records only the bad one
//! is left out.

mod dns;
mod file;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod pod;
mod source;

#[cfg(feature = "kubernetes")]
use self::kubernetes::Kubernetes;
pub use self::pod::{pod_incarnation, pod_instance};
pub(crate) use self::source::INSTANCES_MAX;
use self::{dns::Dns, file::File};
use crate::{delivery::Delivery, settings::Discovery};

impl Delivery {
    /// Keeps the fleet as its source describes it, until it is dropped.
    pub(crate) async fn follow_source(&self) {
        match &self.settings.discovery {
            None => std::future::pending().await,
            Some(Discovery::Dns(settings)) => Dns::new(settings).follow(self).await,
            #[cfg(feature = "kubernetes")]
            Some(Discovery::Kubernetes(settings)) => Kubernetes::new(settings).follow(self).await,
            Some(Discovery::File(settings)) => File::new(settings).follow(self).await,
        }
    }
}
