//! Sessions in which every function of propflow can be called.

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::functions;

/// A session with all functions registered, `information_schema` on, and one partition a core.
///
/// # Errors
/// Fails only when a function cannot be registered, which would be a bug.
pub fn session() -> Result<SessionContext> {
    session_with(SessionConfig::new().with_information_schema(true))
}

/// A session with all functions registered and settings of the caller's choice.
///
/// # Errors
/// Fails only when a function cannot be registered, which would be a bug.
pub fn session_with(config: SessionConfig) -> Result<SessionContext> {
    let mut context = SessionContext::new_with_config(config);
    datafusion_functions_json::register_all(&mut context)?;
    for function in functions::functions() {
        context.register_udf(function.as_ref().clone());
    }
    debug_assert!(context.udf("money").is_ok());
    Ok(context)
}
