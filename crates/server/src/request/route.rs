//! The paths of the public listener, and the routes of requests.

use uuid::Uuid;

/// The route of a request path.
#[derive(Debug)]
pub(crate) enum Route {
    /// `GET {health_path}`
    Health,
    /// `GET {ready_path}`
    Ready,
    /// `POST {webhook_path}` or `POST {webhook_path}/{app}`
    Webhook {
        /// The app in the path.
        app: Option<Uuid>,
    },
    /// `POST {callback_path}/{region}/{instance}/{seal}`
    Callback,
}

/// The paths of the public listener.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) webhook: String,
    pub(crate) callback: String,
    pub(crate) health: Option<String>,
    pub(crate) ready: Option<String>,
}

impl Paths {
    /// The template of the paths of a route.
    pub(crate) fn template(&self, route: &Route) -> String {
        match route {
            Route::Health => self.health.clone().unwrap_or_default(),
            Route::Ready => self.ready.clone().unwrap_or_default(),
            Route::Webhook { app: None } => self.webhook.clone(),
            Route::Webhook { app: Some(_) } => format!("{}/{{app}}", self.webhook),
            Route::Callback => format!("{}/{{region}}/{{instance}}/{{seal}}", self.callback),
        }
    }
}
