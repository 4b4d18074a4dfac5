//! Unit tests of routing: a matrix of requests and the route that each of them should take, in the
//! format of istio-config-validator (`docs/test-cases.md` in its repository), judged by the matcher
//! of the data path.

mod case;
mod expectation;
mod no_route;
mod proxy;
mod report;
mod run;
mod wording;

pub use case::{Case, RequestMatrix, has_cases_alone, is_configuration, read};
pub use report::{render_json, render_text};
pub use run::{CaseOutcome, Comparison, Outcome, RequestOutcome, Taken, run};
