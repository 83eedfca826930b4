//! Models and their packages.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jni::objects::{JByteBuffer, JObject, JString, JValue};
use jni::sys::{jboolean, jdouble, jint, jlong};
use jni::{Env, EnvUnowned, jni_mangle, jni_sig, jni_str};
use sori::decode::BeamOptions;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice, preferred_precisions};
use sori::lm::LanguageModel;
use sori::model::{Config, Package, PackageError, Precision};
use sori::{EndpointRules, Options, Recognizer, Search};
use sori_capi::handles::Registry;

use crate::failure::{Failure, Throw};
use crate::stream;

/// Packages that were read and whose model is not open yet.
static PACKAGES: Registry<Package> = Registry::new();
static MODELS: Registry<Recognizer> = Registry::new();

fn model(handle: jlong) -> Result<Arc<Recognizer>, Failure> {
    MODELS.get(handle as usize).ok_or(Failure::Closed("model"))
}

/// `packageFromDirectory(directory: String): Long`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn package_from_directory<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    directory: JString<'local>,
) -> jlong {
    env.with_env(|env| -> Result<jlong, Failure> {
        let package = Package::open(directory.try_to_string(env)?)?;
        Ok(PACKAGES.insert(package) as jlong)
    })
    .resolve::<Throw>()
}

/// `packageFromFiles(files: PackageFiles, engine: Int, precision: Int, languageModel: Boolean): Long`
///
/// Asks Kotlin for those files only that a model of these options needs.
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn package_from_files<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    files: JObject<'local>,
    engine: jint,
    precision: jint,
    language_model: jboolean,
) -> jlong {
    env.with_env(|env| -> Result<jlong, Failure> {
        let config_json: Vec<u8> = required(env, &files, "config.json")?;
        let config = Config::parse(&config_json, "config.json".as_ref())?;
        let tokens: Vec<u8> = required(env, &files, &config.tokens.file)?;
        let (precision, graph) = graph(env, &files, &config, engine, precision)?;
        let mut package = Package::from_memory(&config_json, &tokens, precision, graph)?;
        if let (true, Some(facts)) = (language_model, &config.language_model) {
            let bytes = required(env, &files, &facts.file)?;
            let model = LanguageModel::from_bytes(bytes, &facts.file)
                .map_err(PackageError::LanguageModel)?;
            package = package.with_language_model(Arc::new(model));
        }
        Ok(PACKAGES.insert(package) as jlong)
    })
    .resolve::<Throw>()
}

/// The graph that suits the options best among those that the package has.
fn graph(
    env: &mut Env<'_>,
    files: &JObject<'_>,
    config: &Config,
    engine: jint,
    precision: jint,
) -> Result<(Precision, Arc<[u8]>), Failure> {
    let wanted = match precision_of(precision) {
        PrecisionChoice::Exactly(one) => vec![one],
        PrecisionChoice::Auto => preferred_precisions(engine_of(engine)).to_vec(),
    };
    let mut names = Vec::new();
    for precision in wanted {
        let file = match precision {
            Precision::Fp32 => &config.graphs.fp32,
            Precision::Int8 => &config.graphs.int8,
        };
        let Some(file) = file else { continue };
        if let Some(bytes) = read(env, files, &file.file)? {
            return Ok((precision, bytes));
        }
        names.push(file.file.as_str());
    }
    let path = PathBuf::from(names.first().copied().unwrap_or("model.onnx"));
    Err(PackageError::MissingFile { path }.into())
}

fn required<T: for<'a> From<&'a [u8]>>(
    env: &mut Env<'_>,
    files: &JObject<'_>,
    name: &str,
) -> Result<T, Failure> {
    let missing = || PackageError::MissingFile { path: name.into() };
    Ok(read(env, files, name)?.ok_or_else(missing)?)
}

/// What Kotlin's `PackageFiles` has under a name, if anything, as what it is needed as.
fn read<T: for<'a> From<&'a [u8]>>(
    env: &mut Env<'_>,
    files: &JObject<'_>,
    name: &str,
) -> Result<Option<T>, Failure> {
    let name = JString::new(env, name)?;
    let buffer = env
        .call_method(
            files,
            jni_str!("read"),
            jni_sig!("(Ljava/lang/String;)Ljava/nio/ByteBuffer;"),
            &[JValue::Object(&name)],
        )?
        .l()?;
    if buffer.is_null() {
        return Ok(None);
    }
    let buffer = env.cast_local::<JByteBuffer<'_>>(buffer)?;
    let size = env.get_direct_buffer_capacity(&buffer)?;
    if size == 0 {
        return Ok(Some(T::from(&[])));
    }
    let bytes = env.get_direct_buffer_address(&buffer)?;
    // SAFETY: a direct buffer has `size` bytes at its address while it lives, and `buffer` holds it until
    // after the copy; Kotlin has given it away and writes to it no more.
    Ok(Some(T::from(unsafe {
        std::slice::from_raw_parts(bytes, size)
    })))
}

/// `openModel(package: Long, engine: Int, precision: Int, threads: Int, parallel: Int, beam: Int,
/// alternatives: Int, languageModel: Boolean, silence: Double, silenceAfterSpeech: Double, longest: Double): Long`
///
/// The package's handle ends here, whatever comes of it.
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn open_model<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    package: jlong,
    engine: jint,
    precision: jint,
    threads: jint,
    parallel: jint,
    beam: jint,
    alternatives: jint,
    language_model: jboolean,
    silence: jdouble,
    silence_after_speech: jdouble,
    longest: jdouble,
) -> jlong {
    env.with_env(|_| -> Result<jlong, Failure> {
        let package = PACKAGES
            .remove(package as usize)
            .ok_or(Failure::Closed("package"))?;
        let options = Options {
            engine: EngineOptions {
                engine: engine_of(engine),
                precision: precision_of(precision),
                threads: count(threads).max(1),
                parallel: count(parallel).max(1),
                ..EngineOptions::default()
            },
            endpoint: EndpointRules {
                silence,
                silence_after_speech,
                longest,
            },
            search: match count(beam) {
                0 => Search::Greedy,
                width => Search::Beam(BeamOptions {
                    width,
                    ..BeamOptions::default()
                }),
            },
            alternatives: count(alternatives),
            language_model,
            ..Options::default()
        };
        let recognizer = Recognizer::new(Arc::unwrap_or_clone(package), options)?;
        Ok(MODELS.insert(recognizer) as jlong)
    })
    .resolve::<Throw>()
}

/// `openStream(model: Long): Long`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn open_stream<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
) -> jlong {
    env.with_env(|_| -> Result<jlong, Failure> {
        let source = stream::Source::new(model(handle)?.stream()?);
        Ok(stream::STREAMS.insert(Mutex::new(source)) as jlong)
    })
    .resolve::<Throw>()
}

/// `engine(model: Long): String`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn engine<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
) -> JString<'local> {
    env.with_env(|env| -> Result<JString<'local>, Failure> {
        Ok(JString::new(env, model(handle)?.engine())?)
    })
    .resolve::<Throw>()
}

/// `closeModel(model: Long)`; closing twice does nothing.
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn close_model<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
) {
    env.with_env(|_| -> Result<(), Failure> {
        MODELS.remove(handle as usize);
        Ok(())
    })
    .resolve::<Throw>();
}

/// As Kotlin's `Engine` counts them.
fn engine_of(number: jint) -> EngineChoice {
    match number {
        1 => EngineChoice::Ort,
        2 => EngineChoice::Tract,
        _ => EngineChoice::Auto,
    }
}

/// As Kotlin's `Precision` counts them.
fn precision_of(number: jint) -> PrecisionChoice {
    match number {
        1 => PrecisionChoice::Exactly(Precision::Fp32),
        2 => PrecisionChoice::Exactly(Precision::Int8),
        _ => PrecisionChoice::Auto,
    }
}

/// Kotlin has refused what is below zero.
fn count(number: jint) -> usize {
    usize::try_from(number).unwrap_or(0)
}
