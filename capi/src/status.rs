use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use sori::decode::{GrammarError, PhraseError};
use sori::model::PackageError;

/// What became of a call.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoriStatus {
    /// It did what it should.
    Ok = 0,
    /// An argument is null, out of range or not UTF-8.
    InvalidArgument = 1,
    /// The handle is null, freed, or of another kind.
    InvalidHandle = 2,
    /// The sample rate is outside of 8000 to 192000 Hz.
    Audio = 3,
    /// The model package is not what it should be.
    Package = 4,
    /// No engine can run the model, or a step failed. Reset the stream then.
    Engine = 5,
    /// The phrases cannot be spelled with the model's tokens, or are too many.
    Phrases = 6,
    /// A fault in Sori itself, which was contained. Free the handle; please report it.
    Internal = 7,
    /// The grammar is none, or the model's tokens cannot spell it.
    Grammar = 8,
}

/// A status that is not OK, in words.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: SoriStatus,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self {
            status: SoriStatus::InvalidArgument,
            text: text.into(),
        }
    }

    pub(crate) fn handle(kind: &str) -> Self {
        Self {
            status: SoriStatus::InvalidHandle,
            text: format!(
                "{kind}: not a live handle of this kind; it is null, was freed, or was made by another call"
            ),
        }
    }
}

impl From<sori::Error> for Failure {
    fn from(error: sori::Error) -> Self {
        let status = match error {
            sori::Error::Audio(_) => SoriStatus::Audio,
            sori::Error::Package(_) => SoriStatus::Package,
            sori::Error::Engine(_) => SoriStatus::Engine,
            _ => SoriStatus::Internal,
        };
        Self {
            status,
            text: error.to_string(),
        }
    }
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        sori::Error::from(error).into()
    }
}

impl From<PhraseError> for Failure {
    fn from(error: PhraseError) -> Self {
        Self {
            status: SoriStatus::Phrases,
            text: error.to_string(),
        }
    }
}

impl From<GrammarError> for Failure {
    fn from(error: GrammarError) -> Self {
        Self {
            status: SoriStatus::Grammar,
            text: error.to_string(),
        }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs a call: an error or a panic becomes a status and this thread's last error.
pub(crate) fn call(body: impl FnOnce() -> Result<(), Failure>) -> SoriStatus {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Failure {
            status: SoriStatus::Internal,
            text: format!("a fault in sori: {}", reason(&*panic)),
        })
    });
    match result {
        Ok(()) => SoriStatus::Ok,
        Err(failure) => {
            tracing::warn!("{}", failure.text);
            // While a thread ends, its last error may be gone before what still calls.
            let _ = LAST_ERROR.try_with(|text| text.replace(c_string(&failure.text)));
            failure.status
        }
    }
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it stopped without a reason")
}

/// Text for C; a zero byte within, which would end it, becomes a replacement character.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// What was wrong with the last call of this thread that failed, in a line of UTF-8; empty before any.
/// The text is the library's, and stays until another call of this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn sori_last_error() -> *const c_char {
    LAST_ERROR
        .try_with(|text| text.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// The library's version, as "0.1.0". The text is the library's.
#[unsafe(no_mangle)]
pub extern "C" fn sori_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
