//! What a teacher said about an utterance, kept on disk.
//!
//! Content-addressed: by the teacher's files, its layer and its precision (a folder each), and by the
//! sound itself. So it can be shared by recipes, runs and processes, and nothing in it is ever out of
//! date. Where a head hears nothing but what an encoder gives out, that lies in the encoder's own
//! folder, for all heads on it. The stores are LMDB, which maps them into memory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions};
use sha2::{Digest, Sha256};

use super::error::TrainError;
use super::record::{Record, RecordKind, Wanted};
use crate::config::Precision;
use crate::data::Clean;
use crate::model::{TeacherOutput, TeacherSource};

/// Address space for a store: more than any disk here, since the file grows as it is written only.
const LARGEST: usize = 1 << 40;

/// What an utterance sounds like, as a key.
pub(super) type Key = [u8; 16];

pub(super) fn key(clean: &Clean) -> Key {
    let mut hash = Sha256::new();
    for samples in clean.samples.chunks(1 << 12) {
        let bytes: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
        hash.update(&bytes);
    }
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

/// What one teacher said.
#[derive(Clone)]
pub(super) struct Cache {
    own: Store,
    /// What the encoder under its head said, if the head needs nothing else.
    encoder: Option<Store>,
    wanted: Wanted,
}

/// An LMDB store.
#[derive(Clone)]
struct Store {
    path: PathBuf,
    env: Env,
    records: Database<Bytes, Bytes>,
}

impl Store {
    /// Opens the store in a folder, or makes it.
    fn open(path: PathBuf) -> Result<Self, TrainError> {
        let failed = |reason: io::Error| TrainError::Io {
            path: path.clone(),
            reason,
        };
        fs::create_dir_all(&path).map_err(failed)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(LARGEST);
        // SAFETY: the file is only ever written by LMDB, which locks it between processes; whoever
        // truncates it by other means while it is mapped breaks this, as with any mapped file.
        #[expect(unsafe_code, reason = "a file can be mapped in no other way")]
        let env = unsafe { options.open(&path) }.map_err(|error| failed(to_io(error)))?;
        let create = || {
            let mut transaction = env.write_txn()?;
            let records = env.create_database(&mut transaction, None)?;
            transaction.commit()?;
            Ok(records)
        };
        let records = create().map_err(|error| failed(to_io(error)))?;
        Ok(Self { path, env, records })
    }

    /// Fills a record with these kinds; false where one is not there, or damaged.
    fn read(
        &self,
        key: &Key,
        kinds: &[RecordKind],
        record: &mut Record,
    ) -> Result<bool, TrainError> {
        let mut read = || {
            let transaction = self.env.read_txn()?;
            for kind in kinds {
                let bytes = self.records.get(&transaction, &named(*kind, key))?;
                if bytes.and_then(|bytes| record.take(*kind, bytes)).is_none() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        read().map_err(|error| self.failed(error))
    }

    /// Keeps what records have of these kinds.
    fn write(
        &self,
        keys: &[Key],
        kinds: &[RecordKind],
        records: &[Record],
    ) -> Result<(), TrainError> {
        let write = || {
            let mut transaction = self.env.write_txn()?;
            for (key, record) in keys.iter().zip(records) {
                for kind in kinds.iter().copied().filter(|kind| record.has(*kind)) {
                    let (key, value) = (named(kind, key), record.bytes(kind));
                    self.records.put(&mut transaction, &key, &value)?;
                }
            }
            transaction.commit()
        };
        write().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: heed::Error) -> TrainError {
        TrainError::Io {
            path: self.path.clone(),
            reason: to_io(error),
        }
    }
}

impl Cache {
    /// Opens the store of a teacher in a folder, or makes it. A teacher that `speaks_from_hidden`
    /// vectors shares the store of the encoder under its head.
    pub(super) fn open(
        folder: &Path,
        source: &TeacherSource,
        layer: Option<usize>,
        precision: Precision,
        wanted: Wanted,
        speaks_from_hidden: bool,
    ) -> Result<Self, TrainError> {
        let store = |source: &TeacherSource| {
            Store::open(folder.join(fingerprint(source, layer, precision)?))
        };
        let own = store(source)?;
        let encoder = match source {
            TeacherSource::Whisper { encoder, .. } if speaks_from_hidden => {
                Some(store(&TeacherSource::Whisper {
                    encoder: encoder.clone(),
                    head: None,
                })?)
            }
            _ => None,
        };
        Ok(Self {
            own,
            encoder,
            wanted,
        })
    }

    /// What is written of an utterance: a later head may speak from hidden vectors that no stage compares.
    fn kept(&self) -> Wanted {
        Wanted {
            hidden: self.wanted.hidden || self.encoder.is_some(),
            ..self.wanted
        }
    }

    /// What is wanted of an utterance, if all of it is there, or all but what can be said from its
    /// hidden vectors.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Record>, TrainError> {
        let mut record = Record::default();
        let whole = self.own.read(key, &self.wanted.kinds().1, &mut record)?;
        if !whole && self.encoder.is_none() {
            return Ok(None);
        }
        // Hidden vectors are the bulk: they are read where something is to be said from them, or compared.
        let (heard, _) = if whole { self.wanted } else { self.kept() }.kinds();
        let encoder = self.encoder.as_ref().unwrap_or(&self.own);
        Ok(encoder.read(key, &heard, &mut record)?.then_some(record))
    }

    /// Keeps what a teacher said about some utterances, which stay in their order.
    pub(super) fn put(
        &self,
        keys: &[Key],
        output: &TeacherOutput,
    ) -> Result<Vec<Record>, TrainError> {
        let records: Vec<_> = (0..keys.len())
            .map(|row| Record::of(output, row, self.kept()))
            .collect();
        let (heard, said) = self.kept().kinds();
        let encoder = self.encoder.as_ref().unwrap_or(&self.own);
        encoder.write(keys, &heard, &records)?;
        self.own.write(keys, &said, &records)?;
        Ok(records)
    }

    /// Whether something is still to be said about an utterance.
    pub(super) fn is_unsaid(&self, record: &Record) -> bool {
        let (_, said) = self.wanted.kinds();
        said.iter().any(|kind| !record.has(*kind))
    }

    /// Lets go of what served to say something and no stage compares.
    pub(super) fn trim(&self, record: &mut Record) {
        if !self.wanted.hidden {
            record.hidden.clear();
        }
    }

    /// Whether the teacher's attention map has to be computed for what is missing.
    pub(super) fn attention(&self) -> bool {
        self.wanted.map
    }
}

fn to_io(error: heed::Error) -> io::Error {
    match error {
        heed::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

fn fingerprint(
    source: &TeacherSource,
    layer: Option<usize>,
    precision: Precision,
) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    for path in source.files() {
        let failed = |reason| TrainError::Io {
            path: path.into(),
            reason,
        };
        let mut file = File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut hash).map_err(failed)?;
    }
    hash.update(format!("{layer:?}"));
    let hash: String = hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let precision = match precision {
        Precision::Fp32 => "fp32",
        Precision::Bf16 => "bf16",
    };
    Ok(format!("{hash}-{precision}"))
}

fn named(kind: RecordKind, key: &Key) -> [u8; 17] {
    let mut named = [kind as u8; 17];
    named[1..].copy_from_slice(key);
    named
}
