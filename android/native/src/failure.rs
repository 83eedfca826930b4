//! Why a native method throws, and what.

use std::any::Any;

use jni::Env;
use jni::errors::ErrorPolicy;
use jni::jni_str;
use jni::strings::{JNIStr, JNIString};
use sori::decode::{GrammarError, PhraseError};
use sori::model::PackageError;

/// Why a native method throws.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Sori(#[from] sori::Error),
    #[error(transparent)]
    Phrases(#[from] PhraseError),
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    #[error("{0}: is closed; open another")]
    Closed(&'static str),
    #[error("a call before this one failed inside of the recognizer; close it and open another")]
    Poisoned,
    /// Java refused something; most often it has thrown already.
    #[error(transparent)]
    Java(#[from] jni::errors::Error),
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        Self::Sori(error.into())
    }
}

impl Failure {
    fn class(&self) -> &'static JNIStr {
        match self {
            Self::Sori(sori::Error::Audio(_)) => jni_str!("ai/sori/AudioException"),
            Self::Sori(sori::Error::Package(_)) => jni_str!("ai/sori/ModelException"),
            Self::Sori(_) => jni_str!("ai/sori/EngineException"),
            Self::Phrases(_) => jni_str!("ai/sori/PhrasesException"),
            Self::Grammar(_) => jni_str!("ai/sori/GrammarException"),
            Self::Closed(_) => jni_str!("ai/sori/ClosedException"),
            Self::Poisoned | Self::Java(_) => jni_str!("java/lang/IllegalStateException"),
        }
    }
}

/// Throws the exception that goes with a failure.
pub(crate) struct Throw;

impl<T: Default> ErrorPolicy<T, Failure> for Throw {
    type Captures<'unowned_env_local: 'native_method, 'native_method> = ();

    fn on_error<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        (): &mut (),
        failure: Failure,
    ) -> jni::errors::Result<T> {
        throw(env, failure.class(), &failure.to_string());
        Ok(T::default())
    }

    fn on_panic<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        (): &mut (),
        panic: Box<dyn Any + Send + 'static>,
    ) -> jni::errors::Result<T> {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it stopped without a reason");
        let text = format!("a fault in sori, please report it: {reason}");
        throw(env, jni_str!("java/lang/IllegalStateException"), &text);
        Ok(T::default())
    }
}

/// Throws, unless something is thrown already.
fn throw(env: &mut Env<'_>, class: &'static JNIStr, text: &str) {
    if !env.exception_check() {
        // It always is an error: that Java has an exception now, which is what was wanted.
        let _ = env.throw_new(class, JNIString::from(text));
    }
}
