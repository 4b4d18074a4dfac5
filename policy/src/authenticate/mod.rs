//! Who a request comes from: RequestAuthentication, compiled, and tokens.

mod claims;

pub use claims::Claims;
