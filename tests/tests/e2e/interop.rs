//! The reference as client and as executor, in every combination with our programs.

use anyhow::Result;
use testkit::{
    processes::{CodexListener, Route},
    workspace::Workspace,
};

use crate::turn::{self, PLACE};

/// The expectations of the turn are the reference's own: this test has none of our programs.
#[tokio::test]
async fn reference_client_with_reference_listener() -> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = CodexListener::start(&workspace, &[PLACE]).await?;
    turn::check(&workspace, &Route::Direct { url }).await?;
    executor.never_panicked()
}
