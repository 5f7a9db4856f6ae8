//! Variables of the executor that children do not inherit unless the operator allows it.
//!
//! A client asks for the whole environment by default, so whatever the executor was started with would
//! be in reach of every command. What stays behind:
//!
//! - well-known names of credentials, of addresses that hold one, and what makes the loader run other
//!   code: it was meant for the executor;
//! - what the operator names.
//!
//! Other names with `KEY`, `SECRET` and `TOKEN` are the client's to judge: the default excludes of the
//! protocol drop them, and a client that turns those off is meant to get them.
//!
//! What a request itself sets is its own and not judged.

use std::ffi::OsStr;

use super::policy::matches_any;

/// The rule.
#[derive(Debug, Clone, Default)]
pub(super) struct Withheld {
    /// Names and patterns that the operator lets through.
    pub(super) allowed: Vec<String>,
    /// Names and patterns that the operator keeps back.
    pub(super) named: Vec<String>,
}

impl Withheld {
    pub(super) fn covers(&self, name: &OsStr) -> bool {
        // The prompt of the shell is no password.
        let harmless = ["PWD", "OLDPWD"].map(OsStr::new).contains(&name);
        (matches_any(&self.named, name) || (!harmless && matches_any(&WELL_KNOWN, name)))
            && !matches_any(&self.allowed, name)
    }
}

/// Upper and lower case count the same.
const WELL_KNOWN: [&str; 144] = [
    // Forges, build services, package registries.
    "ACTIONS_*TOKEN*",
    "BITBUCKET_*TOKEN",
    "BUILDKITE_*TOKEN",
    "CARGO_REGISTRIES_*_TOKEN",
    "CARGO_REGISTRY_TOKEN",
    "CIRCLECI_TOKEN",
    "CIRCLE_TOKEN",
    "CI_*_TOKEN",
    "CODECOV_TOKEN",
    "DOCKERHUB_TOKEN",
    "DOCKER_AUTH_CONFIG",
    "GEM_HOST_API_KEY",
    "GH_*TOKEN",
    "GH_TOKEN",
    "GITHUB_*TOKEN",
    "GITHUB_PAT",
    "GITHUB_TOKEN",
    "GITLAB_*TOKEN",
    "GITLAB_TOKEN",
    "GL_TOKEN",
    "HOMEBREW_GITHUB_API_TOKEN",
    "JENKINS_*TOKEN",
    "NODE_AUTH_TOKEN",
    "NPM_*TOKEN",
    "NPM_CONFIG_*AUTH*",
    "NPM_TOKEN",
    "NUGET_API_KEY",
    "PYPI_*TOKEN",
    "SNYK_TOKEN",
    "SONAR_TOKEN",
    "TRAVIS_TOKEN",
    "UV_PUBLISH_TOKEN",
    // Models.
    "ANTHROPIC_*KEY",
    "ANTHROPIC_*TOKEN",
    "AZURE_OPENAI_*KEY",
    "CLAUDE_*TOKEN",
    "CODEX_*KEY",
    "CODEX_*TOKEN",
    "COHERE_API_KEY",
    "DEEPSEEK_API_KEY",
    "FIREWORKS_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "HF_TOKEN",
    "HUGGING*TOKEN",
    "LANGCHAIN_API_KEY",
    "LANGSMITH_API_KEY",
    "MISTRAL_API_KEY",
    "OPENAI_*KEY",
    "OPENAI_*TOKEN*",
    "OPENROUTER_API_KEY",
    "PERPLEXITY_API_KEY",
    "REPLICATE_API_TOKEN",
    "TOGETHER_API_KEY",
    "WANDB_API_KEY",
    "XAI_API_KEY",
    // Clouds.
    "ALICLOUD_*KEY",
    "ARM_ACCESS_KEY",
    "AWS_*KEY*",
    "AWS_*TOKEN*",
    "AWS_CONTAINER_*",
    "AZURE_*KEY",
    "AZURE_*SECRET*",
    "AZURE_*TOKEN*",
    "CF_API_*",
    "CLOUDFLARE_*KEY",
    "CLOUDFLARE_*TOKEN",
    "CLOUDSDK_AUTH_*",
    "DIGITALOCEAN_*TOKEN",
    "FLY_*TOKEN",
    "GCP_*KEY*",
    "GOOGLE_*CREDENTIALS*",
    "HCLOUD_TOKEN",
    "HEROKU_API_KEY",
    "IBMCLOUD_API_KEY",
    "LINODE_*TOKEN",
    "NETLIFY_*TOKEN",
    "RAILWAY_*TOKEN",
    "SUPABASE_*KEY",
    "VERCEL_*TOKEN",
    "VERCEL_TOKEN",
    // Secret stores, infrastructure, monitoring.
    "OTEL_*HEADERS",
    "BWS_ACCESS_TOKEN",
    "BW_SESSION",
    "CONSUL_HTTP_TOKEN",
    "DATADOG_*KEY",
    "DD_*KEY",
    "DOPPLER_TOKEN",
    "GRAFANA_*TOKEN",
    "INFISICAL_TOKEN",
    "KUBE*TOKEN",
    "NEW_RELIC_*KEY",
    "NGROK_*TOKEN",
    "NOMAD_TOKEN",
    "OP_*TOKEN",
    "OP_SESSION_*",
    "PULUMI_*TOKEN",
    "SENTRY_*TOKEN",
    "TAILSCALE_*KEY",
    "TF_TOKEN_*",
    "TS_*KEY",
    "VAULT_TOKEN",
    // Services.
    "ALGOLIA_*KEY",
    "DISCORD_*TOKEN",
    "FIGMA_*TOKEN",
    "JIRA_*TOKEN",
    "LINEAR_API_KEY",
    "MAILGUN_*KEY",
    "NOTION_*KEY",
    "NOTION_*TOKEN",
    "SENDGRID_API_KEY",
    "SHOPIFY_*KEY",
    "SHOPIFY_*TOKEN",
    "SLACK_*TOKEN",
    "STRIPE_*KEY",
    "STRIPE_*SECRET*",
    "TELEGRAM_*TOKEN",
    "TWILIO_*TOKEN",
    // Kinds, whoever they belong to, and addresses with a password in them or that are one.
    "*ACCESS_TOKEN*",
    "*APIKEY*",
    "*AUTH_TOKEN*",
    "*CLIENT_SECRET*",
    "*CONNECTION_STRING*",
    "*CREDENTIALS",
    "*DATABASE_URL",
    "*PASSPHRASE*",
    "*PASSWD*",
    "*PASSWORD*",
    "*PRIVATE_KEY*",
    "*REFRESH_TOKEN*",
    "*SECRET_KEY*",
    "*WEBHOOK*",
    "*_DSN",
    "*_JWT",
    "*_PWD",
    "AMQP_URL",
    "MONGODB_URI",
    "MONGO_URI",
    "MONGO_URL",
    "MYSQL_URL",
    "POSTGRES_URL",
    "REDIS_URL",
    // What makes the loader run other code.
    "LD_*",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_loader_variables_stay_behind_unless_they_are_allowed() {
        let withheld = Withheld {
            allowed: vec!["GH_TOKEN".to_owned(), "LD_LIBRARY_*".to_owned()],
            named: vec!["ACME_*".to_owned(), "LD_LIBRARY_PATH".to_owned()],
        };
        for name in [
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SESSION_TOKEN",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AZURE_CLIENT_SECRET",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GITHUB_TOKEN",
            "npm_config__auth",
            "ANTHROPIC_API_KEY",
            "DATABASE_URL",
            "APP_DATABASE_URL",
            "SENTRY_DSN",
            "SLACK_WEBHOOK_URL",
            "PGPASSWORD",
            "MYSQL_PWD",
            "GH_ENTERPRISE_TOKEN",
            "ACME_ANYTHING",
            "LD_PRELOAD",
            "LD_AUDIT",
        ] {
            assert!(withheld.covers(OsStr::new(name)), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "HOME",
            "SSH_AUTH_SOCK",
            "GH_TOKEN",
            "LD_LIBRARY_PATH",
            "CARGO_HOME",
            "TOKENIZERS_PARALLELISM",
            "OLD_FILE",
            "OLDPWD",
            // For the client to judge.
            "MY_API_KEY",
        ] {
            assert!(!withheld.covers(OsStr::new(name)), "{name}");
        }
    }
}
