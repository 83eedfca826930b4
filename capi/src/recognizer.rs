use std::ffi::{CStr, c_char};
use std::slice;
use std::sync::Arc;

use sori::lm::LanguageModel;
use sori::model::Package;
use sori::{Options, Recognizer};

use crate::handles::Registry;
use crate::options::{SoriOptions, precision};
use crate::status::{Failure, SoriStatus, call};

/// A loaded model. All its streams share one copy of the weights.
#[derive(Debug)]
pub struct SoriRecognizer {
    _opaque: (),
}

/// A model package in memory, as from the resources of a program. Zero what there is none of. The bytes
/// are only needed during the call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SoriPackage {
    /// sizeof(SoriPackage): tells the library which version of this struct the caller knows.
    pub size: usize,
    /// config.json.
    pub config: *const u8,
    /// Its bytes.
    pub config_size: usize,
    /// tokens.txt.
    pub tokens: *const u8,
    /// Its bytes.
    pub tokens_size: usize,
    /// model.onnx or model.int8.onnx.
    pub graph: *const u8,
    /// Its bytes.
    pub graph_size: usize,
    /// Which of the two it is: SORI_PRECISION_FP32 or SORI_PRECISION_INT8.
    pub precision: u32,
    /// A language model, if SoriOptions.language_model asks for one.
    pub language_model: *const u8,
    /// Its bytes.
    pub language_model_size: usize,
}

static RECOGNIZERS: Registry<Recognizer> = Registry::new();

pub(crate) fn live(handle: *mut SoriRecognizer) -> Result<Arc<Recognizer>, Failure> {
    RECOGNIZERS
        .get(handle.addr())
        .ok_or_else(|| Failure::handle("recognizer"))
}

/// Loads the model package in a directory. `options` may be NULL: all as usual. Takes some tenths of a
/// second for a model of five million weights.
///
/// # Safety
/// `directory` points to a string that ends in a zero byte, `options` to a SoriOptions or is NULL, and
/// `recognizer` to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_recognizer_open(
    directory: *const c_char,
    options: *const SoriOptions,
    recognizer: *mut *mut SoriRecognizer,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let (place, options) = unsafe { (out(recognizer, "recognizer")?, read(options)?) };
        // SAFETY: as the caller promises.
        let directory = unsafe { text(directory, "directory")? };
        *place = give(Recognizer::new(Package::open(directory)?, options)?);
        Ok(())
    })
}

/// Loads a model package from memory.
///
/// # Safety
/// `package` points to a SoriPackage whose pointers point to as many bytes as it says, `options` to a
/// SoriOptions or is NULL, and `recognizer` to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_recognizer_open_memory(
    package: *const SoriPackage,
    options: *const SoriOptions,
    recognizer: *mut *mut SoriRecognizer,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let (place, options) = unsafe { (out(recognizer, "recognizer")?, read(options)?) };
        // SAFETY: as the caller promises; a null pointer gives `None`.
        let Some(package) = (unsafe { package.as_ref() }) else {
            return Err(Failure::argument("package: is NULL"));
        };
        if package.size != size_of::<SoriPackage>() {
            return Err(Failure::argument(format!(
                "package.size: {}, expected {}; set it to sizeof(SoriPackage) and use the header of this version",
                package.size,
                size_of::<SoriPackage>()
            )));
        }
        let precision = precision(package.precision).ok_or_else(|| {
            Failure::argument(format!(
                "package.precision: expected SORI_PRECISION_FP32 or SORI_PRECISION_INT8, found {}",
                package.precision
            ))
        })?;
        // SAFETY: as the caller promises for each pair.
        let (config, tokens, graph, language_model) = unsafe {
            (
                bytes(package.config, package.config_size, "package.config")?,
                bytes(package.tokens, package.tokens_size, "package.tokens")?,
                bytes(package.graph, package.graph_size, "package.graph")?,
                bytes(
                    package.language_model,
                    package.language_model_size,
                    "package.language_model",
                )?,
            )
        };
        let mut package = Package::from_memory(config, tokens, precision, graph.into())?;
        if options.language_model && !language_model.is_empty() {
            let model = LanguageModel::from_bytes(language_model.to_vec(), "language model")
                .map_err(sori::model::PackageError::LanguageModel)?;
            package = package.with_language_model(Arc::new(model));
        }
        *place = give(Recognizer::new(package, options)?);
        Ok(())
    })
}

/// Frees a recognizer. Its streams go on: the last of them takes the weights along.
#[unsafe(no_mangle)]
pub extern "C" fn sori_recognizer_free(recognizer: *mut SoriRecognizer) -> SoriStatus {
    call(|| {
        RECOGNIZERS
            .remove(recognizer.addr())
            .map(drop)
            .ok_or_else(|| Failure::handle("recognizer"))
    })
}

fn give(recognizer: Recognizer) -> *mut SoriRecognizer {
    std::ptr::without_provenance_mut(RECOGNIZERS.insert(recognizer))
}

/// Where a result goes; it is NULL until there is one.
///
/// # Safety
/// `place` is null or points to where a pointer can be written.
pub(crate) unsafe fn out<'a, T>(place: *mut *mut T, name: &str) -> Result<&'a mut *mut T, Failure> {
    if place.is_null() {
        return Err(Failure::argument(format!(
            "{name}: is NULL; give the address of a pointer"
        )));
    }
    // SAFETY: as the caller promises; written before it is read, since it may hold anything.
    unsafe {
        place.write(std::ptr::null_mut());
        Ok(&mut *place)
    }
}

/// # Safety
/// `options` is null or points to a `SoriOptions`.
unsafe fn read(options: *const SoriOptions) -> Result<Options, Failure> {
    // SAFETY: as the caller promises; null gives `None`.
    unsafe { options.as_ref() }.map_or_else(|| Ok(Options::default()), SoriOptions::check)
}

/// # Safety
/// `text` is null or points to a string that ends in a zero byte and stays for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::argument(format!("{name}: is NULL")));
    }
    // SAFETY: not null; else as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map_err(|error| Failure::argument(format!("{name}: not UTF-8: {error}")))
}

/// `count` values, or none.
///
/// # Safety
/// `data` is null or points to `count` values that stay, unchanged, for `'a`.
pub(crate) unsafe fn bytes<'a, T>(
    data: *const T,
    count: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::argument(format!(
            "{name}: is NULL, with a size of {count}"
        )));
    }
    if !data.is_aligned() || count > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::argument(format!(
            "{name}: no array of {count} can be at {data:p}"
        )));
    }
    // SAFETY: neither null nor misaligned nor too long; else as the caller promises.
    Ok(unsafe { slice::from_raw_parts(data, count) })
}
