//! Secrets of an app: from the environment, or from a file that it names.

use std::fmt;

use crate::error::{Error, Result};

/// A text that is never printed: `Debug` shows stars. It is no input and no output, so it reaches
/// no history: an app gives it to its activities as data.
///
/// # Example
/// ```
/// use dalsegno::{ActivityContext, App, Secret, activity};
///
/// #[activity]
/// async fn fetch(ctx: ActivityContext, page: u32) -> u32 {
///     let _header = format!("Bearer {}", ctx.data::<Secret>().reveal());
///     page
/// }
///
/// let app = App::new().register(fetch).data(Secret::new("from elsewhere"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret from elsewhere.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The variable of that name, or what is in the file that the variable with `_FILE` behind its
    /// name tells, as orchestrators of containers mount secrets. White space around it is none of it.
    ///
    /// # Errors
    /// When neither is set, or both; when the file cannot be read; when it is empty.
    pub fn from_env(name: &str) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        Self::from_variables(name, variable)
    }

    fn from_variables(name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let file_name = format!("{name}_FILE");
        let text = match (variable(name), variable(&file_name)) {
            (Some(_), Some(_)) => {
                return Err(Error::msg(format!(
                    "{name} and {file_name} are both set: leave one"
                )));
            }
            (Some(text), None) => text,
            (None, Some(path)) => std::fs::read_to_string(&path)
                .map_err(|error| Error::msg(format!("{file_name}: {path} cannot be read: {error}")))?,
            (None, None) => {
                return Err(Error::msg(format!(
                    "set {name}, or {file_name} to a file that holds it"
                )));
            }
        };
        match text.trim() {
            "" => Err(Error::msg(format!("the secret {name} is empty"))),
            text => Ok(Self::new(text)),
        }
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_the_environment_or_from_the_file_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from a file\n").unwrap();
        let path = file.to_str().unwrap().to_owned();
        let read = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
            let secret =
                Secret::from_variables("TOKEN", |name| find(name).map(|(_, value)| (*value).to_owned()));
            secret
                .map(|secret| secret.reveal().to_owned())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(&[("TOKEN", "plain")]), Ok("plain".into()));
        assert_eq!(read(&[("TOKEN_FILE", &path)]), Ok("from a file".into()));
        for (pairs, told) in [
            (vec![], "set TOKEN, or TOKEN_FILE"),
            (vec![("TOKEN", "a"), ("TOKEN_FILE", &*path)], "both set"),
            (vec![("TOKEN_FILE", "/nowhere/x")], "/nowhere/x cannot be read"),
            (vec![("TOKEN", " ")], "TOKEN is empty"),
        ] {
            let refused = read(&pairs).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
        assert_eq!(format!("{:?}", Secret::new("x")), "***");
    }
}
