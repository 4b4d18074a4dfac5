//! Routes while virtual hosts are put together, with those that there are none of here.

use crate::snapshot::{ExcludedRoute, Route};

/// The routes of one VirtualService for one port of one gateway or of the mesh, or of several.
#[derive(Debug, Default, Clone)]
pub struct RouteList {
    /// In the order in which they are asked.
    pub routes: Vec<Route>,
    /// Those whose match cannot hold here, in their order.
    pub excluded: Vec<ExcludedRoute>,
}

impl RouteList {
    /// These and then those of `later`.
    pub fn append(&mut self, later: Self) {
        let before = self.routes.len();
        self.routes.extend(later.routes);
        self.excluded
            .extend(later.excluded.into_iter().map(|excluded| ExcludedRoute {
                position: before + excluded.position,
                ..excluded
            }));
    }

    /// Puts the routes that match everything behind all others, which keep their order.
    pub fn put_catch_alls_last(&mut self) {
        let mut others = 0;
        let mut others_before = vec![0];
        for route in &self.routes {
            others += usize::from(!route.matches.is_catch_all());
            others_before.push(others);
        }
        for excluded in &mut self.excluded {
            excluded.position = others_before[excluded.position];
        }
        self.routes
            .sort_by_key(|route| route.matches.is_catch_all());
    }
}

impl From<Route> for RouteList {
    fn from(only: Route) -> Self {
        Self {
            routes: vec![only],
            excluded: Vec::new(),
        }
    }
}
