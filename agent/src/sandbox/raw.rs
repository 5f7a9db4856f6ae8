//! Paths and other texts of the operating system in JSON: base64 of their bytes, so that all of them
//! survive. For `#[serde(with = "...")]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<S: Serializer>(
    text: &impl AsRef<OsStr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&exec_proto::base64::encode(text.as_ref().as_bytes()))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<OsString>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    let bytes = exec_proto::base64::decode(&text).map_err(D::Error::custom)?;
    Ok(OsString::from_vec(bytes.into()).into())
}

/// A list of texts.
pub(crate) mod list {
    use serde::{Deserialize, Serialize};

    use super::{Deserializer, OsString, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Raw(#[serde(with = "super")] OsString);

    pub(crate) fn serialize<S: Serializer>(
        list: &[OsString],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().cloned().map(Raw))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<OsString>, D::Error> {
        let list = Vec::<Raw>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|raw| raw.0).collect())
    }
}

/// A path that may be absent.
pub(crate) mod optional {
    use std::path::PathBuf;

    use serde::{Deserialize, Serialize};

    use super::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Raw(#[serde(with = "super")] PathBuf);

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.clone().map(Raw).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Raw>::deserialize(deserializer)?.map(|raw| raw.0))
    }
}
